"""Why the answer is no: the closed list of reasons, in the order in which they are given, and a sentence for each.

The order is the order of the enum: who asks, what for, whose data, on which agreement, under which limits. A Deny names
the first; so a party that is not on the list learns nothing about a subject. Plain data; `decision` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from consent.vocabulary import Locale, Text


class Reason(StrEnum):
    """Every way to be denied (consent.md section 4; dsar rule P1)."""

    # who asks
    PARTY_UNKNOWN = "party_unknown"
    PARTY_NOT_ACTIVE = "party_not_active"
    ASKER_UNKNOWN = "asker_unknown"
    COMPONENT_UNKNOWN = "component_unknown"
    COMPONENT_SUSPENDED = "component_suspended"
    COMPONENT_OF_ANOTHER_PARTY = "component_of_another_party"
    # what for
    PURPOSE_UNKNOWN = "purpose_unknown"
    OTHER_CONTROLLER = "other_controller"
    CATEGORY_MISSING = "category_missing"
    CATEGORY_UNKNOWN = "category_unknown"
    CATEGORY_OUTSIDE_PURPOSE = "category_outside_purpose"
    NOT_GRANTED = "not_granted"
    GRANT_NOT_LIVE = "grant_not_live"
    ROLE_NOT_ALLOWED = "role_not_allowed"
    NOT_ASSIGNED = "not_assigned"
    # whose data
    SUBJECT_UNKNOWN = "subject_unknown"
    SUBJECT_ERASED = "subject_erased"
    # on which agreement
    NO_CONSENT = "no_consent"
    CONSENT_OF_ANOTHER_CONTROLLER = "consent_of_another_controller"
    CONSENT_OF_ANOTHER_SUBJECT = "consent_of_another_subject"
    CONSENT_FOR_ANOTHER_PURPOSE = "consent_for_another_purpose"
    CONSENT_FOR_ANOTHER_PARTY = "consent_for_another_party"
    BASIS_CHANGED = "basis_changed"
    CONSENT_REQUESTED = "consent_requested"
    CONSENT_REFUSED = "consent_refused"
    CONSENT_WITHDRAWN = "consent_withdrawn"
    CONSENT_EXPIRED = "consent_expired"
    CONSENT_REPLACED = "consent_replaced"
    CONSENT_SUSPENDED = "consent_suspended"
    CONSENT_ENDED_BY_CONTROLLER = "consent_ended_by_controller"
    CONSENT_ENDED_AT_HOLDER = "consent_ended_at_holder"
    CONSENT_INVALIDATED = "consent_invalidated"
    CATEGORY_NOT_CONSENTED = "category_not_consented"
    # under which limits
    RESTRICTED = "restricted"
    OBJECTED = "objected"
    RECIPIENT_UNKNOWN = "recipient_unknown"
    RECIPIENT_NOT_ACTIVE = "recipient_not_active"
    MANDATE_MISSING = "mandate_missing"
    MANDATE_NOT_LIVE = "mandate_not_live"
    MANDATE_DOES_NOT_COVER = "mandate_does_not_cover"
    ATTENDED_ONLY = "attended_only"
    FREQUENCY_EXCEEDED = "frequency_exceeded"
    OUTSIDE_REGIONS = "outside_regions"
    CANNOT_HONOUR = "cannot_honour"


ORDER: Mapping[Reason, int] = {reason: place for place, reason in enumerate(Reason)}


def _text(fr: str, en: str, es: str, pt: str) -> Text:
    return {Locale.FR: fr, Locale.EN: en, Locale.ES: es, Locale.PT: pt}


SENTENCES: Mapping[Reason, Text] = {
    Reason.PARTY_UNKNOWN: _text(
        "Cet organisme n’est pas sur la liste des destinataires.",
        "This organisation is not on the processor list.",
        "Esta organización no está en la lista de destinatarios.",
        "Esta organização não está na lista de destinatários.",
    ),
    Reason.PARTY_NOT_ACTIVE: _text(
        "Cet organisme est sur la liste, mais son accès n’est pas ouvert en ce moment.",
        "This organisation is on the list, but its access is not open at this time.",
        "Esta organización está en la lista, pero su acceso no está abierto en este momento.",
        "Esta organização está na lista, mas o seu acesso não está aberto neste momento.",
    ),
    Reason.ASKER_UNKNOWN: _text(
        "On ne sait pas qui demande : ni composant, ni personne habilitée.",
        "It is not known who asks: neither a component nor an entitled person.",
        "No se sabe quién pregunta: ni un componente ni una persona autorizada.",
        "Não se sabe quem pede: nem um componente nem uma pessoa autorizada.",
    ),
    Reason.COMPONENT_UNKNOWN: _text(
        "Ce composant n’est pas enregistré.",
        "This component is not registered.",
        "Este componente no está registrado.",
        "Este componente não está registado.",
    ),
    Reason.COMPONENT_SUSPENDED: _text(
        "Ce composant est suspendu.",
        "This component is suspended.",
        "Este componente está suspendido.",
        "Este componente está suspenso.",
    ),
    Reason.COMPONENT_OF_ANOTHER_PARTY: _text(
        "Ce composant appartient à un autre organisme.",
        "This component belongs to another organisation.",
        "Este componente pertenece a otra organización.",
        "Este componente pertence a outra organização.",
    ),
    Reason.PURPOSE_UNKNOWN: _text(
        "Cette finalité n’existe pas.",
        "This purpose does not exist.",
        "Esta finalidad no existe.",
        "Esta finalidade não existe.",
    ),
    Reason.OTHER_CONTROLLER: _text(
        "Cette finalité relève d’un autre responsable de traitement.",
        "This purpose belongs to another controller.",
        "Esta finalidad corresponde a otro responsable del tratamiento.",
        "Esta finalidade pertence a outro responsável pelo tratamento.",
    ),
    Reason.CATEGORY_MISSING: _text(
        "La demande ne dit pas quelles données elle concerne.",
        "The question does not say which data it is about.",
        "La petición no dice a qué datos se refiere.",
        "O pedido não diz a que dados se refere.",
    ),
    Reason.CATEGORY_UNKNOWN: _text(
        "Cette catégorie de données n’existe pas.",
        "This category of data does not exist.",
        "Esta categoría de datos no existe.",
        "Esta categoria de dados não existe.",
    ),
    Reason.CATEGORY_OUTSIDE_PURPOSE: _text(
        "Cette finalité n’a pas besoin de ces données.",
        "This purpose does not need this data.",
        "Esta finalidad no necesita estos datos.",
        "Esta finalidade não precisa destes dados.",
    ),
    Reason.NOT_GRANTED: _text(
        "Cet organisme n’a pas le droit de faire cela avec ces données.",
        "This organisation may not do this with this data.",
        "Esta organización no puede hacer esto con estos datos.",
        "Esta organização não pode fazer isto com estes dados.",
    ),
    Reason.GRANT_NOT_LIVE: _text(
        "L’autorisation de cet organisme n’a pas commencé ou a pris fin.",
        "This organisation’s permission has not begun or has ended.",
        "La autorización de esta organización no ha empezado o ha terminado.",
        "A autorização desta organização ainda não começou ou já terminou.",
    ),
    Reason.ROLE_NOT_ALLOWED: _text(
        "Cette fonction ne donne pas accès à ces données.",
        "This role gives no access to this data.",
        "Esta función no da acceso a estos datos.",
        "Esta função não dá acesso a estes dados.",
    ),
    Reason.NOT_ASSIGNED: _text(
        "Cette personne n’est pas chargée de ce dossier.",
        "This person is not assigned to the file.",
        "Esta persona no está asignada a este expediente.",
        "Esta pessoa não está encarregada deste processo.",
    ),
    Reason.SUBJECT_UNKNOWN: _text(
        "Cette personne n’est pas connue ici.",
        "This person is not known here.",
        "Esta persona no es conocida aquí.",
        "Esta pessoa não é conhecida aqui.",
    ),
    Reason.SUBJECT_ERASED: _text(
        "Les données de cette personne ont été effacées.",
        "This person’s data has been erased.",
        "Los datos de esta persona se han suprimido.",
        "Os dados desta pessoa foram apagados.",
    ),
    Reason.NO_CONSENT: _text(
        "La personne n’a pas donné d’accord.",
        "The person has given no consent.",
        "La persona no ha dado su consentimiento.",
        "A pessoa não deu o seu consentimento.",
    ),
    Reason.CONSENT_OF_ANOTHER_CONTROLLER: _text(
        "Cet accord a été donné à un autre responsable de traitement.",
        "This consent was given to another controller.",
        "Este consentimiento se dio a otro responsable del tratamiento.",
        "Este consentimento foi dado a outro responsável pelo tratamento.",
    ),
    Reason.CONSENT_OF_ANOTHER_SUBJECT: _text(
        "Cet accord est celui d’une autre personne.",
        "This consent is another person’s.",
        "Este consentimiento es de otra persona.",
        "Este consentimento é de outra pessoa.",
    ),
    Reason.CONSENT_FOR_ANOTHER_PURPOSE: _text(
        "Cet accord a été donné pour une autre finalité.",
        "This consent was given for another purpose.",
        "Este consentimiento se dio para otra finalidad.",
        "Este consentimento foi dado para outra finalidade.",
    ),
    Reason.CONSENT_FOR_ANOTHER_PARTY: _text(
        "Cet accord ne nomme pas cet organisme.",
        "This consent does not name this organisation.",
        "Este consentimiento no nombra a esta organización.",
        "Este consentimento não nomeia esta organização.",
    ),
    Reason.BASIS_CHANGED: _text(
        "La base légale a changé depuis cet accord.",
        "The legal basis has changed since this agreement.",
        "La base jurídica ha cambiado desde este acuerdo.",
        "A base legal mudou desde este acordo.",
    ),
    Reason.CONSENT_REQUESTED: _text(
        "La personne n’a pas encore répondu.",
        "The person has not answered yet.",
        "La persona aún no ha respondido.",
        "A pessoa ainda não respondeu.",
    ),
    Reason.CONSENT_REFUSED: _text(
        "La personne a refusé.",
        "The person refused.",
        "La persona se ha negado.",
        "A pessoa recusou.",
    ),
    Reason.CONSENT_WITHDRAWN: _text(
        "La personne a retiré son accord.",
        "The person has withdrawn consent.",
        "La persona ha retirado su consentimiento.",
        "A pessoa retirou o seu consentimento.",
    ),
    Reason.CONSENT_EXPIRED: _text(
        "La durée de l’accord est passée.",
        "The period of the consent is over.",
        "El plazo del consentimiento ha terminado.",
        "O prazo do consentimento terminou.",
    ),
    Reason.CONSENT_REPLACED: _text(
        "Un accord plus récent a remplacé celui-ci.",
        "A newer consent has replaced this one.",
        "Un consentimiento más reciente ha sustituido a este.",
        "Um consentimento mais recente substituiu este.",
    ),
    Reason.CONSENT_SUSPENDED: _text(
        "L’accord est en pause.",
        "The consent is paused.",
        "El consentimiento está en pausa.",
        "O consentimento está em pausa.",
    ),
    Reason.CONSENT_ENDED_BY_CONTROLLER: _text(
        "Nous avons mis fin à cet accord.",
        "We have ended this consent.",
        "Hemos puesto fin a este consentimiento.",
        "Pusemos fim a este consentimento.",
    ),
    Reason.CONSENT_ENDED_AT_HOLDER: _text(
        "La personne a mis fin à cet accord auprès de sa banque.",
        "The person ended this consent at their bank.",
        "La persona puso fin a este consentimiento en su banco.",
        "A pessoa pôs fim a este consentimento no seu banco.",
    ),
    Reason.CONSENT_INVALIDATED: _text(
        "Cet accord n’était pas valable.",
        "This consent was not valid.",
        "Este consentimiento no era válido.",
        "Este consentimento não era válido.",
    ),
    Reason.CATEGORY_NOT_CONSENTED: _text(
        "L’accord ne couvre pas ces données.",
        "The consent does not cover this data.",
        "El consentimiento no cubre estos datos.",
        "O consentimento não abrange estes dados.",
    ),
    Reason.RESTRICTED: _text(
        "La personne a demandé de limiter l’usage de ses données : elles sont seulement conservées.",
        "The person asked to restrict the use of this data: it is only stored.",
        "La persona ha pedido limitar el uso de sus datos: solo se conservan.",
        "A pessoa pediu para limitar o uso dos seus dados: são apenas conservados.",
    ),
    Reason.OBJECTED: _text(
        "La personne s’est opposée à cet usage.",
        "The person has objected to this use.",
        "La persona se ha opuesto a este uso.",
        "A pessoa opôs-se a este uso.",
    ),
    Reason.RECIPIENT_UNKNOWN: _text(
        "On ne sait pas à qui ces données iraient.",
        "It is not known to whom this data would go.",
        "No se sabe a quién irían estos datos.",
        "Não se sabe para quem iriam estes dados.",
    ),
    Reason.RECIPIENT_NOT_ACTIVE: _text(
        "Le destinataire est sur la liste, mais ne peut rien recevoir en ce moment.",
        "The recipient is on the list, but may receive nothing at this time.",
        "El destinatario está en la lista, pero no puede recibir nada en este momento.",
        "O destinatário está na lista, mas não pode receber nada neste momento.",
    ),
    Reason.MANDATE_MISSING: _text(
        "Il faut un mandat signé, et il n’y en a pas.",
        "A signed mandate is needed and there is none.",
        "Se necesita un mandato firmado y no lo hay.",
        "É preciso um mandato assinado e não existe nenhum.",
    ),
    Reason.MANDATE_NOT_LIVE: _text(
        "Le mandat n’a pas commencé ou a pris fin.",
        "The mandate has not begun or has ended.",
        "El mandato no ha empezado o ha terminado.",
        "O mandato ainda não começou ou já terminou.",
    ),
    Reason.MANDATE_DOES_NOT_COVER: _text(
        "Le mandat ne couvre pas ce destinataire ou ces documents.",
        "The mandate does not cover this recipient or these documents.",
        "El mandato no cubre a este destinatario o estos documentos.",
        "O mandato não abrange este destinatário ou estes documentos.",
    ),
    Reason.ATTENDED_ONLY: _text(
        "La personne n’autorise la lecture qu’en sa présence.",
        "The person allows reading only while present.",
        "La persona solo permite la lectura en su presencia.",
        "A pessoa só permite a leitura na sua presença.",
    ),
    Reason.FREQUENCY_EXCEEDED: _text(
        "Le nombre de lectures permis en 24 heures est atteint.",
        "The number of reads allowed in 24 hours has been reached.",
        "Se ha alcanzado el número de lecturas permitidas en 24 horas.",
        "Foi atingido o número de leituras permitidas em 24 horas.",
    ),
    Reason.OUTSIDE_REGIONS: _text(
        "Les données ne peuvent pas être conservées dans ce pays.",
        "The data may not be kept in this country.",
        "Los datos no pueden conservarse en este país.",
        "Os dados não podem ser conservados neste país.",
    ),
    Reason.CANNOT_HONOUR: _text(
        "Ce composant ne peut pas respecter les conditions de cet accès.",
        "This component cannot honour the conditions of this access.",
        "Este componente no puede cumplir las condiciones de este acceso.",
        "Este componente não pode cumprir as condições deste acesso.",
    ),
}

"""The closed list of OAuth scopes and the sentence that explains each in four languages (tokens.md section 2).

A scope opens a door; it never answers whether a read is lawful: that is decided on each call, consent in hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from .errors import Malformed


class Scope(StrEnum):
    """Every scope there is."""

    CONSENTS_REQUEST = "consents.request"
    CONSENTS_READ = "consents.read"
    CONSENTS_WITHDRAW = "consents.withdraw"
    DECISIONS_EVALUATE = "decisions.evaluate"
    KEYS_LEASE = "keys.lease"
    CREDENTIALS_USE = "credentials.use"
    DISCLOSURES_WRITE = "disclosures.write"
    CASES_OPEN = "cases.open"
    CASES_FULFIL = "cases.fulfil"
    EXPORTS_READ = "exports.read"
    PROCESSORS_READ = "processors.read"
    LEDGER_READ = "ledger.read"
    EVENTS_READ = "events.read"


SENTENCES: Mapping[Scope, Mapping[str, str]] = {
    Scope.CONSENTS_REQUEST: {
        "fr": "Vous proposer un accord.",
        "en": "Propose an agreement to you.",
        "es": "Proponerle un consentimiento.",
        "pt": "Propor-lhe um consentimento.",
    },
    Scope.CONSENTS_READ: {
        "fr": "Connaître l’état des accords que vous lui avez donnés.",
        "en": "Know the state of the agreements you gave it.",
        "es": "Conocer el estado de los consentimientos que usted le dio.",
        "pt": "Conhecer o estado dos consentimentos que lhe deu.",
    },
    Scope.CONSENTS_WITHDRAW: {
        "fr": "Transmettre votre retrait d’un accord.",
        "en": "Pass on your withdrawal of an agreement.",
        "es": "Transmitir su retirada de un consentimiento.",
        "pt": "Transmitir a sua retirada de um consentimento.",
    },
    Scope.DECISIONS_EVALUATE: {
        "fr": "Demander si un accès est permis.",
        "en": "Ask whether an access is allowed.",
        "es": "Preguntar si un acceso está permitido.",
        "pt": "Perguntar se um acesso é permitido.",
    },
    Scope.KEYS_LEASE: {
        "fr": "Emprunter pour un instant une clé qui ouvre vos données, si vous êtes toujours d’accord.",
        "en": "Borrow for a moment a key that opens your data, if you still agree.",
        "es": "Tomar por un instante una clave que abre sus datos, si usted sigue de acuerdo.",
        "pt": "Usar por um instante uma chave que abre os seus dados, se ainda estiver de acordo.",
    },
    Scope.CREDENTIALS_USE: {
        "fr": "Se connecter à votre banque une fois, sans voir vos identifiants.",
        "en": "Sign in to your bank once, without seeing your login.",
        "es": "Conectarse a su banco una vez, sin ver sus claves.",
        "pt": "Ligar-se ao seu banco uma vez, sem ver as suas credenciais.",
    },
    Scope.DISCLOSURES_WRITE: {
        "fr": "Inscrire chaque lecture de vos données dans votre journal.",
        "en": "Write each read of your data into your log.",
        "es": "Anotar cada lectura de sus datos en su registro.",
        "pt": "Registar cada leitura dos seus dados no seu diário.",
    },
    Scope.CASES_OPEN: {
        "fr": "Transmettre une demande faite en votre nom.",
        "en": "Pass on a request made in your name.",
        "es": "Transmitir una solicitud hecha en su nombre.",
        "pt": "Transmitir um pedido feito em seu nome.",
    },
    Scope.CASES_FULFIL: {
        "fr": "Exécuter vos demandes de copie, de correction ou d’effacement.",
        "en": "Carry out your requests for a copy, a correction or erasure.",
        "es": "Ejecutar sus solicitudes de copia, rectificación o supresión.",
        "pt": "Executar os seus pedidos de cópia, correção ou apagamento.",
    },
    Scope.EXPORTS_READ: {
        "fr": "Lire des tableaux statistiques qui ne désignent personne.",
        "en": "Read statistical tables that point to nobody.",
        "es": "Leer tablas estadísticas que no señalan a nadie.",
        "pt": "Ler tabelas estatísticas que não identificam ninguém.",
    },
    Scope.PROCESSORS_READ: {
        "fr": "Lire la liste de ceux qui peuvent traiter vos données.",
        "en": "Read the list of those who may process your data.",
        "es": "Leer la lista de quienes pueden tratar sus datos.",
        "pt": "Ler a lista de quem pode tratar os seus dados.",
    },
    Scope.LEDGER_READ: {
        "fr": "Vérifier le registre des décisions, sans données personnelles.",
        "en": "Check the register of decisions, which shows no personal data.",
        "es": "Comprobar el registro de decisiones, sin datos personales.",
        "pt": "Verificar o registo de decisões, sem dados pessoais.",
    },
    Scope.EVENTS_READ: {
        "fr": "Être averti dès que vous dites stop.",
        "en": "Be told as soon as you say stop.",
        "es": "Recibir aviso en cuanto usted dice basta.",
        "pt": "Ser avisado assim que disser para parar.",
    },
}


def parse(text: str) -> frozenset[Scope]:
    """Read a space-separated scope parameter (RFC 6749 section 3.3); an unknown scope is `Malformed`."""
    try:
        return frozenset(Scope(word) for word in text.split())
    except ValueError:
        raise Malformed("unknown scope") from None


def join(scopes: Iterable[Scope]) -> str:
    """Write scopes in their documented order."""
    wanted = frozenset(scopes)
    return " ".join(scope for scope in Scope if scope in wanted)

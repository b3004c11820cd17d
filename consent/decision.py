"""The one place where yes and no are made: `decide(question, facts) -> Permit | Deny` (dsar rule P1; GDPR art. 25).

Deny by default: a Permit needs every check to find nothing, and each check finds something when what it needs is not
there. Pure: whoever cannot read the facts must raise, never guess. Leaves out gathering facts (`usecases.judge`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from consent.mandate import Mandate, MandateGap
from consent.parties import EEA, Active, Party, PartyRole, grants_live
from consent.policy import Policy, Purpose
from consent.reasons import ORDER, Reason
from consent.record import Consent, State
from consent.vocabulary import (
    Action,
    CategoryId,
    ComponentId,
    ConsentId,
    ControllerId,
    LegalBasis,
    PartyId,
    PurposeId,
    SubjectRef,
)

_EU = EEA - {"IS", "LI", "NO"}
MOST_UNATTENDED_READS = 4
"""In 24 hours, whatever was agreed (RTS art. 36(5)(b), consent rule 14)."""


@dataclass(frozen=True, slots=True)
class StaffActor:
    """A member of an internal team who looks: the role, and whether the file is theirs at that time."""

    role: str
    assigned: bool


@dataclass(frozen=True, slots=True)
class Question:
    """May this party, through this component or this member of staff, do this with this subject's data now?"""

    party: PartyId
    component: ComponentId | None
    purpose: PurposeId
    categories: frozenset[CategoryId]
    action: Action
    subject: SubjectRef
    attended: bool
    at: datetime
    actor: StaffActor | None = None
    consent: ConsentId | None = None
    """The consent a token names; None: the one in force for this subject, purpose and party."""
    recipient: PartyId | None = None
    """To whom it goes, where the action is to transmit; a recipient that fetches is its own."""
    opens_read: bool = False
    """True where an unattended read begins (token issue): only there the frequency counts, never at introspection."""


class Keep(StrEnum):
    """How long a reader may keep what it got."""

    NOTHING = "nothing"
    CALL = "call"
    UNTIL = "until"


@dataclass(frozen=True, slots=True)
class Component:
    """What is registered about the asking component; `honours` are the ways of keeping it can enforce."""

    id: ComponentId
    party: PartyId
    suspended: bool
    country: str
    honours: frozenset[Keep]


@dataclass(frozen=True, slots=True)
class Restriction:
    """GDPR art. 18 (dsar rule 51): storage only, but for the purposes with an art. 18(2) ground on record."""

    since: datetime
    except_for: frozenset[PurposeId] = frozenset()
    categories: frozenset[CategoryId] | None = None
    """Each with everything under it in the tree; None: all there is."""
    purposes: frozenset[PurposeId] | None = None
    """None: whatever the purpose."""
    until: datetime | None = None
    """When it was lifted."""


@dataclass(frozen=True, slots=True)
class Objection:
    """GDPR art. 21 (dsar rules 8, 52): stops a purpose while it is weighed, and after unless lawfully refused."""

    purpose: PurposeId | None
    """None: direct marketing, whatever purpose serves it. That is absolute: nobody can refuse it (art. 21(3))."""
    since: datetime
    refused: bool = False
    until: datetime | None = None
    """When the subject took it back."""


@dataclass(frozen=True, slots=True)
class OtherBasis:
    """A recorded legal basis other than an agreement with this record, e.g. a signed service contract."""

    controller: ControllerId
    subject: SubjectRef
    purpose: PurposeId
    basis: LegalBasis
    reference: str
    since: datetime
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the answer depends on. Defaults are those of nobody and nothing known: they never permit."""

    policy: Policy
    party: Party | None = None
    component: Component | None = None
    subject_controller: ControllerId | None = None
    """Whose subject it is; None when the subject is unknown."""
    erased: bool = False
    consent: Consent | None = None
    other_basis: OtherBasis | None = None
    restrictions: tuple[Restriction, ...] = ()
    objections: tuple[Objection, ...] = ()
    mandates: tuple[Mandate, ...] = ()
    unattended_reads: int = 0
    """Of this consent, in the 24 hours before the question."""


@dataclass(frozen=True, slots=True)
class Obligations:
    """What a Permit binds its bearer to."""

    keep: Keep
    keep_until: datetime | None
    """Only with `Keep.UNTIL`; None there: as long as the retention rules of the pack say, no agreement sets a date."""
    where: tuple[str, ...]
    """Country codes, or `EU`: where it may be kept."""
    mask: frozenset[CategoryId]
    """Special categories that must be dropped where they shine through other data (GDPR art. 9, consent rule 20)."""
    history_from: date | None = None
    reads_per_hour: int | None = None
    """The institution's own ceiling."""


@dataclass(frozen=True, slots=True)
class Permit:
    """Yes, on these conditions; `consent` and `version` are what the answer stands on."""

    obligations: Obligations
    consent: ConsentId | None
    version: int | None


@dataclass(frozen=True, slots=True)
class Deny:
    """No: the first reason in the documented order, and all of them for the audit trail."""

    reason: Reason
    all_reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a subject beside their consents: read from the limits, the mandates and their own row."""

    controller: ControllerId
    erased: bool = False
    restrictions: tuple[Restriction, ...] = ()
    objections: tuple[Objection, ...] = ()
    mandates: tuple[Mandate, ...] = ()
    other_basis: OtherBasis | None = None


def decide(question: Question, facts: Facts) -> Permit | Deny:
    """Return whether the question is permitted, and on which conditions or for which reasons not."""
    obligations = _obligations(question, facts)
    found = {reason for check in _CHECKS for reason in check(question, facts)}
    found.update(_cannot_honour(facts, obligations))
    if found:
        ordered = tuple(sorted(found, key=ORDER.__getitem__))
        return Deny(ordered[0], ordered)
    named = question.consent is not None
    stands_on = facts.consent if named or _needs_agreement(question, facts) else None
    return Permit(obligations, stands_on.id if stands_on else None, stands_on.version if stands_on else None)


def held_back(policy: Policy, standing: Standing, consent: Consent, at: datetime) -> tuple[Reason, ...]:
    """Return why nothing is read under a consent that is in force: what its subject restricted or objected to."""
    terms = consent.terms
    question = Question(
        party=terms.party,
        component=None,
        purpose=terms.purpose,
        categories=consent.categories,
        action=Action.READ,
        subject=terms.subject,
        attended=True,
        at=at,
    )
    facts = Facts(policy, consent=consent, restrictions=standing.restrictions, objections=standing.objections)
    return tuple(_check_rights(question, facts)) if consent.state_at(at) is State.ACTIVE else ()


def stored_only(standing: Standing, at: datetime) -> bool:
    """Say whether the subject asked for storage then: nothing is deleted unasked (GDPR art. 18(1)(b), (c))."""
    return any(_in_force(one.since, one.until, at) for one in standing.restrictions)


def local_day(policy: Policy, controller: ControllerId, at: datetime) -> date:
    """Return the day it is for the controller, whose contracts and grants run by the day. Raises KeyError."""
    return at.astimezone(ZoneInfo(policy.controllers[controller].time_zone)).date()


def _check_party(question: Question, facts: Facts) -> Iterator[Reason]:
    party = facts.party
    if party is None or party.id != question.party or party.controller not in facts.policy.controllers:
        yield Reason.PARTY_UNKNOWN
        return
    standing = facts.policy.standing(party.id, local_day(facts.policy, party.controller, question.at))
    if not isinstance(standing, Active):
        yield Reason.PARTY_NOT_ACTIVE


def _check_asker(question: Question, facts: Facts) -> Iterator[Reason]:
    if question.component is None:
        # without a component only a member of an internal team can be asking
        team = facts.party is not None and facts.party.role is PartyRole.INTERNAL_TEAM
        if question.actor is None or not team:
            yield Reason.ASKER_UNKNOWN
    elif facts.component is None or facts.component.id != question.component:
        yield Reason.COMPONENT_UNKNOWN
    else:
        if facts.component.suspended:
            yield Reason.COMPONENT_SUSPENDED
        if facts.component.party != question.party:
            yield Reason.COMPONENT_OF_ANOTHER_PARTY


def _check_purpose(question: Question, facts: Facts) -> Iterator[Reason]:
    purpose = _purpose(question, facts)
    if purpose is None:
        yield Reason.PURPOSE_UNKNOWN
    elif facts.party is not None and facts.party.controller != purpose.controller:
        yield Reason.OTHER_CONTROLLER


def _check_categories(question: Question, facts: Facts) -> Iterator[Reason]:
    if not question.categories:
        yield Reason.CATEGORY_MISSING
    if not question.categories <= facts.policy.categories.keys():
        yield Reason.CATEGORY_UNKNOWN
    purpose = _purpose(question, facts)
    if purpose is not None and not question.categories <= purpose.needed | purpose.optional:
        yield Reason.CATEGORY_OUTSIDE_PURPOSE


def _check_grants(question: Question, facts: Facts) -> Iterator[Reason]:
    """Every category needs its own grant, live that day: dsar rule P1."""
    party = facts.party
    if party is None or party.controller not in facts.policy.controllers:
        return  # the party check has said why
    wanted = {(question.purpose, category, question.action) for category in question.categories}
    listed = {(grant.purpose, grant.category, grant.action) for grant in party.grants}
    day = local_day(facts.policy, party.controller, question.at)
    live = {(grant.purpose, grant.category, grant.action) for grant in grants_live(party, day)}
    if not wanted <= listed:
        yield Reason.NOT_GRANTED
    if not wanted & listed <= live:
        yield Reason.GRANT_NOT_LIVE


def _check_staff(question: Question, facts: Facts) -> Iterator[Reason]:
    """Least access inside the firm: by role and by assignment (consent.md section 4)."""
    if question.actor is None:
        return
    role = facts.policy.roles.get(question.actor.role)
    if role is None or not question.categories <= role.categories:
        yield Reason.ROLE_NOT_ALLOWED
    if not question.actor.assigned:
        yield Reason.NOT_ASSIGNED


def _check_subject(question: Question, facts: Facts) -> Iterator[Reason]:
    if facts.subject_controller is None:
        yield Reason.SUBJECT_UNKNOWN
        return
    purpose = _purpose(question, facts)
    if purpose is not None and facts.subject_controller != purpose.controller:
        yield Reason.OTHER_CONTROLLER
    if facts.erased:
        yield Reason.SUBJECT_ERASED


def _needs_agreement(question: Question, facts: Facts) -> bool:
    """Consent and contract rest on a record of the subject's own; the other bases on the adopted policy."""
    purpose = _purpose(question, facts)
    if purpose is None or purpose.basis is LegalBasis.CONSENT:
        return True
    return purpose.basis is LegalBasis.CONTRACT and not _other_basis_holds(question, facts, purpose)


def _other_basis_holds(question: Question, facts: Facts, purpose: Purpose) -> bool:
    other = facts.other_basis
    if other is None:
        return False
    whose = (other.controller, other.subject, other.purpose, other.basis)
    fits = whose == (purpose.controller, question.subject, purpose.id, purpose.basis)
    return fits and other.since <= question.at and (other.until is None or question.at < other.until)


def _check_consent(question: Question, facts: Facts) -> Iterator[Reason]:
    # a question that names a consent stands and falls with it, whatever the purpose rests on by now
    if question.consent is None and not _needs_agreement(question, facts):
        return
    consent = facts.consent
    if consent is None or question.consent not in (None, consent.id):
        yield Reason.NO_CONSENT
        return
    yield from _check_whose(question, facts, consent)
    state = consent.state_at(question.at)
    if state is not State.ACTIVE:
        yield _STATES[state]
    # only a consent in force has categories to compare with; the others are refused already
    if state is State.ACTIVE and not question.categories <= consent.categories:
        yield Reason.CATEGORY_NOT_CONSENTED


def _check_whose(question: Question, facts: Facts, consent: Consent) -> Iterator[Reason]:
    terms, purpose = consent.terms, _purpose(question, facts)
    if purpose is not None and terms.controller != purpose.controller:
        yield Reason.CONSENT_OF_ANOTHER_CONTROLLER
    if terms.subject != question.subject:
        yield Reason.CONSENT_OF_ANOTHER_SUBJECT
    if terms.purpose != question.purpose:
        yield Reason.CONSENT_FOR_ANOTHER_PURPOSE
    if question.party not in consent.readers:
        yield Reason.CONSENT_FOR_ANOTHER_PARTY
    if purpose is not None and terms.basis is not purpose.basis:
        yield Reason.BASIS_CHANGED


_STATES: Mapping[State, Reason] = {
    State.REQUESTED: Reason.CONSENT_REQUESTED,
    State.SUSPENDED: Reason.CONSENT_SUSPENDED,
    State.REFUSED: Reason.CONSENT_REFUSED,
    State.WITHDRAWN: Reason.CONSENT_WITHDRAWN,
    State.EXPIRED: Reason.CONSENT_EXPIRED,
    State.REPLACED: Reason.CONSENT_REPLACED,
    State.ENDED_BY_CONTROLLER: Reason.CONSENT_ENDED_BY_CONTROLLER,
    State.ENDED_AT_HOLDER: Reason.CONSENT_ENDED_AT_HOLDER,
    State.INVALIDATED: Reason.CONSENT_INVALIDATED,
}


def _check_rights(question: Question, facts: Facts) -> Iterator[Reason]:
    """Restriction means storage only (dsar rule 51); an objection stops its purpose (dsar rules 8, 52)."""
    if any(_binds(restriction, question, facts) for restriction in facts.restrictions):
        yield Reason.RESTRICTED
    if any(_stops(objection, question, facts) for objection in facts.objections):
        yield Reason.OBJECTED


def _binds(restriction: Restriction, question: Question, facts: Facts) -> bool:
    """Art. 18(2) leaves storage, a ground on record, and what the subject agreed to knowing of the restriction."""
    if not _in_force(restriction.since, restriction.until, question.at) or question.action is Action.HOLD:
        return False
    if restriction.purposes is not None and question.purpose not in restriction.purposes:
        return False
    spared = question.purpose in restriction.except_for or _agreed_since(restriction.since, question, facts)
    return not spared and _touches(restriction.categories, question.categories)


def _stops(objection: Objection, question: Question, facts: Facts) -> bool:
    if not _in_force(objection.since, objection.until, question.at):
        return False
    if objection.purpose is not None:
        return objection.purpose == question.purpose and not objection.refused
    # art. 21(3): no ground outweighs it; only the person opens marketing again, by taking it back or agreeing anew
    purpose = _purpose(question, facts)
    return purpose is not None and purpose.marketing and not _agreed_since(objection.since, question, facts)


def _in_force(since: datetime, until: datetime | None, at: datetime) -> bool:
    return since <= at and (until is None or at < until)


def _touches(restricted: frozenset[CategoryId] | None, asked: frozenset[CategoryId]) -> bool:
    """A child's id begins with its parent's and a dot (a law of the pack)."""
    if restricted is None:
        return True
    return any(category == root or category.startswith(f"{root}.") for category in asked for root in restricted)


def _agreed_since(moment: datetime, question: Question, facts: Facts) -> bool:
    purpose, consent = _purpose(question, facts), facts.consent
    by_consent = purpose is not None and purpose.basis is LegalBasis.CONSENT
    given_at = consent.given_at if consent is not None else None
    return by_consent and given_at is not None and given_at > moment


def _check_recipient(question: Question, facts: Facts) -> Iterator[Reason]:
    """What is sent goes to somebody on the list, in force that day, whom the consent names (consent rule 15)."""
    if question.action is not Action.TRANSMIT:
        return
    recipient = facts.policy.parties.get(_recipient(question, facts) or "")
    if recipient is None or recipient.controller not in facts.policy.controllers:
        yield Reason.RECIPIENT_UNKNOWN
        return
    day = local_day(facts.policy, recipient.controller, question.at)
    same = facts.party is None or facts.party.controller == recipient.controller
    if not same or not isinstance(facts.policy.standing(recipient.id, day), Active):
        yield Reason.RECIPIENT_NOT_ACTIVE
    if facts.consent is not None and recipient.id not in facts.consent.readers:
        yield Reason.CONSENT_FOR_ANOTHER_PARTY


def _recipient(question: Question, facts: Facts) -> PartyId | None:
    fetches = facts.party is not None and facts.party.role is PartyRole.RECIPIENT
    return question.recipient or (question.party if fetches else None)


def _check_mandate(question: Question, facts: Facts) -> Iterator[Reason]:
    """Nothing goes out to a recipient without a live mandate that covers it (consent rule 36)."""
    purpose, party = _purpose(question, facts), facts.party
    outside = party is not None and party.role is PartyRole.RECIPIENT
    if purpose is None or not purpose.needs_mandate or not (outside or question.action is Action.TRANSMIT):
        return
    to = _recipient(question, facts) or question.party
    gaps = {_gap(mandate, question, purpose, to) for mandate in facts.mandates}
    if not gaps:
        yield Reason.MANDATE_MISSING
    elif None not in gaps:
        yield Reason.MANDATE_NOT_LIVE if MandateGap.NOT_LIVE in gaps else Reason.MANDATE_DOES_NOT_COVER


def _gap(mandate: Mandate, question: Question, purpose: Purpose, recipient: PartyId) -> MandateGap | None:
    return mandate.gap(
        controller=purpose.controller,
        grantor=question.subject,
        purpose=purpose.id,
        recipient=recipient,
        classes=question.categories,
        at=question.at,
    )


def _check_frequency(question: Question, facts: Facts) -> Iterator[Reason]:
    """Unattended reads are few, or none at all (RTS art. 36(5)(b), consent rule 14)."""
    consent, purpose = facts.consent, _purpose(question, facts)
    reading = question.action in (Action.READ, Action.USE_CREDENTIAL) and question.actor is None
    if question.attended or not reading or consent is None or purpose is None:
        return
    if consent.attended_only:
        yield Reason.ATTENDED_ONLY
    most = min(consent.unattended_per_day, purpose.reads_per_day, MOST_UNATTENDED_READS)
    if question.opens_read and facts.unattended_reads >= most:
        yield Reason.FREQUENCY_EXCEEDED


Check = Callable[[Question, Facts], Iterator[Reason]]
_CHECKS: tuple[Check, ...] = (
    _check_party,
    _check_asker,
    _check_purpose,
    _check_categories,
    _check_grants,
    _check_staff,
    _check_subject,
    _check_consent,
    _check_rights,
    _check_recipient,
    _check_mandate,
    _check_frequency,
)


def _cannot_honour(facts: Facts, obligations: Obligations) -> Iterator[Reason]:
    """A component that cannot honour an obligation is denied (consent.md section 4)."""
    component = facts.component
    if component is None:
        return
    if obligations.keep is not Keep.NOTHING and not _inside(component.country, obligations.where):
        yield Reason.OUTSIDE_REGIONS
    if obligations.keep not in component.honours:
        yield Reason.CANNOT_HONOUR


def _inside(country: str, where: tuple[str, ...]) -> bool:
    return country in where or ("EU" in where and country in _EU)


def _obligations(question: Question, facts: Facts) -> Obligations:
    consent = facts.consent if _needs_agreement(question, facts) else None
    purpose = _purpose(question, facts)
    keep, until = _keep(question, consent)
    controller = facts.policy.controllers.get(purpose.controller) if purpose is not None else None
    institution = facts.policy.institutions.get((consent.institution or "") if consent is not None else "")
    special = frozenset(name for name, category in facts.policy.categories.items() if category.special)
    return Obligations(
        keep=keep,
        keep_until=until,
        where=controller.regions if controller is not None else (),
        mask=special - question.categories,
        history_from=consent.terms.history_from if consent is not None else None,
        reads_per_hour=institution.reads_per_hour if institution is not None else None,
    )


def _keep(question: Question, consent: Consent | None) -> tuple[Keep, datetime | None]:
    if question.actor is not None or question.action is Action.USE_CREDENTIAL:
        return Keep.NOTHING, None
    life = consent.terms.data_life_days if consent is not None else None
    ends = consent.valid_until if consent is not None else None
    if question.action is not Action.HOLD and life is None:
        return Keep.CALL, None
    after = question.at + timedelta(days=life) if life is not None else None
    known = [moment for moment in (after, ends) if moment is not None]
    return Keep.UNTIL, min(known, default=None)


def _purpose(question: Question, facts: Facts) -> Purpose | None:
    return facts.policy.purposes.get(question.purpose)


DAY = timedelta(days=1)
"""The rolling window in which unattended reads are counted."""

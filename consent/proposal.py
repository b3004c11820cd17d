"""What may be asked of a person, and what may be answered: a proposal against the policy, all faults at once.

Consent rules 8 (no second ask), 11 (only what the purpose needs), 13 (period), 14 (frequency), 15 (recipients by name),
33 (step-up). Pure; `usecases` acts on it. Leaves out the pages (`journey`) and the answer to reads (`decision`).
"""

from __future__ import annotations

import calendar
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from consent.decision import MOST_UNATTENDED_READS, Standing, local_day
from consent.events import AccessPath, Actor, ActorKind, AuthoriserRule, Authorisers, Evidence, ProfferedTerms, Terms
from consent.journey import Agreement
from consent.parties import Active, PartyRole, grants_live
from consent.plain import canonical, encode
from consent.policy import FigureName, Policy, Purpose
from consent.record import Consent, State
from consent.vocabulary import (
    Action,
    CategoryId,
    ConsentId,
    ControllerId,
    LegalBasis,
    Locale,
    PartyId,
    PurposeId,
    SubjectRef,
)

OFFER_DAYS = 30
"""How long a request waits for an answer unless the caller says less."""
_MOST_DAYS = 366
"""Twelve months at most, whatever a pack says (consent rule 13)."""
_ON_OUR_BEHALF = frozenset(
    {PartyRole.PROCESSOR, PartyRole.SUB_PROCESSOR, PartyRole.JOINT_CONTROLLER, PartyRole.INTERNAL_TEAM}
)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a party, the controller or the subject wants a person to agree to. None: as the policy says."""

    controller: ControllerId
    subject: SubjectRef
    purpose: PurposeId
    party: PartyId
    categories: frozenset[CategoryId] | None = None
    """Beside what the purpose needs, only what is asked; None asks for everything optional."""
    recipients: frozenset[PartyId] = frozenset()
    """Independent recipients (banks, insurers) by name; who acts on the controller's behalf is added from the list."""
    period_days: int | None = None
    """A ceiling on the person's choice."""
    history_from: date | None = None
    frequency_per_day: int | None = None
    attended_only: bool = False
    data_life_days: int | None = None
    authorisers: Authorisers | None = None
    access_path: AccessPath | None = None
    institution: str | None = None
    connection: str | None = None
    mandate: str | None = None
    supersedes: ConsentId | None = None
    offer_days: int = OFFER_DAYS
    proffered_terms: ProfferedTerms | None = None


def proposal_faults(
    policy: Policy, proposal: Proposal, standing: Standing | None, former: Consent | None, *, by: Actor, at: datetime
) -> Iterator[str]:
    """Say everything that stands against asking; `former` is the consent it would supersede, as found."""
    purpose = policy.purposes.get(proposal.purpose)
    if purpose is None or purpose.controller != proposal.controller:
        yield "purpose_unknown"
        return
    if purpose.basis not in (LegalBasis.CONSENT, LegalBasis.CONTRACT) or not purpose.periods_days:
        yield "purpose_not_agreed_to"  # GDPR art. 7: asking where the answer changes nothing misleads
    if purpose.sells_data:
        yield "purpose_sells_data"
    yield from _party_faults(policy, proposal, purpose, by, at)
    yield from _scope_faults(policy, proposal, purpose, at)
    if standing is None or standing.controller != proposal.controller or standing.erased:
        yield "subject_unknown"
    if proposal.supersedes is not None and not _same_pair(proposal, former):
        yield "superseded_unknown"


def _party_faults(policy: Policy, proposal: Proposal, purpose: Purpose, by: Actor, at: datetime) -> Iterator[str]:
    if by.kind is ActorKind.PARTY and by.ref != proposal.party:
        yield "party_not_asking"
    if not _may_receive(policy, proposal.party, purpose, at):
        yield "party_not_granted"
    # a recipient is a name on the list, never a group (consent rule 15)
    if not all(_may_receive(policy, party, purpose, at) for party in proposal.recipients):
        yield "recipient_not_granted"


def _may_receive(policy: Policy, party: PartyId, purpose: Purpose, at: datetime) -> bool:
    entry, day = policy.parties.get(party), local_day(policy, purpose.controller, at)
    if entry is None or entry.controller != purpose.controller:
        return False
    granted = any(grant.purpose == purpose.id for grant in grants_live(entry, day))
    return granted and isinstance(policy.standing(party, day), Active)


class PackFault(StrEnum):
    """What the pack itself has against a party's question, whoever it will be put to."""

    PURPOSE_UNKNOWN = "purpose_unknown"
    CATEGORY_UNKNOWN = "category_unknown"
    CATEGORY_OUTSIDE_PURPOSE = "category_outside_purpose"
    PURPOSE_NOT_GRANTED = "purpose_not_granted"
    CATEGORY_NOT_GRANTED = "category_not_granted"


def pack_faults(
    policy: Policy,
    *,
    controller: ControllerId,
    party: PartyId,
    purpose: PurposeId,
    categories: frozenset[CategoryId],
    at: datetime,
) -> Iterator[tuple[PackFault, str]]:
    """Yield (fault, the word of the question it is about), before anybody is asked (consent rule 11, dsar rule P5)."""
    known = policy.purposes.get(purpose)
    if known is None or known.controller != controller:
        yield PackFault.PURPOSE_UNKNOWN, purpose
        return
    for name in sorted(categories - (known.needed | known.optional)):
        listed = name in policy.leaves()
        yield PackFault.CATEGORY_OUTSIDE_PURPOSE if listed else PackFault.CATEGORY_UNKNOWN, name
    may = _readable(policy, party, known, at)
    if not may:
        yield PackFault.PURPOSE_NOT_GRANTED, purpose
    for name in sorted(categories - may):
        yield PackFault.CATEGORY_NOT_GRANTED, name


def page_names(
    policy: Policy, *, controller: ControllerId, party: PartyId, purpose: PurposeId, at: datetime
) -> frozenset[PartyId]:
    """Return whom the page of a party's question names, and so who may ever hold under it (consent rules 15, 51)."""
    known = policy.purposes.get(purpose)
    if known is None or known.controller != controller:
        return frozenset({party})
    return _readers(policy, known, at) | {party}


def _readable(policy: Policy, party: PartyId, purpose: Purpose, at: datetime) -> frozenset[CategoryId]:
    entry, day = policy.parties.get(party), local_day(policy, purpose.controller, at)
    live = grants_live(entry, day) if entry is not None else ()
    return frozenset(grant.category for grant in live if (grant.purpose, grant.action) == (purpose.id, Action.READ))


def _scope_faults(policy: Policy, proposal: Proposal, purpose: Purpose, at: datetime) -> Iterator[str]:
    asked = proposal.categories if proposal.categories is not None else frozenset[CategoryId]()
    if not asked <= purpose.needed | purpose.optional:
        yield "category_outside_purpose"  # consent rule 11
    if proposal.period_days is not None and proposal.period_days < min(purpose.periods_days, default=1):
        yield "period_too_short"
    most = min(purpose.reads_per_day, MOST_UNATTENDED_READS)
    if proposal.frequency_per_day is not None and not 0 <= proposal.frequency_per_day <= most:
        yield "frequency_too_high"  # consent rule 14
    if proposal.history_from is not None and proposal.history_from < _earliest(policy, purpose, at):
        yield "history_too_long"
    if proposal.data_life_days is not None and proposal.data_life_days < 1:
        yield "data_life_too_short"
    if not 1 <= proposal.offer_days <= _MOST_DAYS:
        yield "offer_days_out_of_range"
    yield from _source_faults(policy, proposal)
    yield from _authoriser_faults(proposal)


def _source_faults(policy: Policy, proposal: Proposal) -> Iterator[str]:
    if proposal.institution is None:
        return
    institution = policy.institutions.get(proposal.institution)
    if institution is None:
        yield "institution_unknown"
    elif proposal.access_path is not None and proposal.access_path not in institution.paths:
        yield "path_not_offered"


def _authoriser_faults(proposal: Proposal) -> Iterator[str]:
    who = proposal.authorisers
    if who is None:
        return
    distinct = len(set(who.people)) == len(who.people)
    counted = who.rule is AuthoriserRule.N_OF_M
    fits = 1 <= (who.n or 0) <= len(who.people) if counted else who.n is None
    if not (who.people and distinct and fits):
        yield "authorisers_unfit"


def _same_pair(proposal: Proposal, former: Consent | None) -> bool:
    pair = (proposal.subject, proposal.party)
    return former is not None and (former.terms.subject, former.terms.party) == pair


def quiet_until(
    policy: Policy, proposal: Proposal, earlier: Iterable[Consent], *, by: Actor, at: datetime
) -> datetime | None:
    """Return until when a refused question rests (six months, consent rule 8); None when it may be put now.

    `earlier` are the subject's consents for the purpose. A question the subject starts is always welcome.
    """
    if by.kind is ActorKind.SUBJECT:
        return None
    months = policy.figure(FigureName.ASK_AGAIN_MONTHS)
    refusals = [
        old.end.at
        for old in earlier
        if old.state is State.REFUSED and old.end is not None and _same_pair(proposal, old)
    ]
    until = max((_months_later(refused, months) for refused in refusals), default=at)
    return until if at < until else None


def _months_later(moment: datetime, months: int) -> datetime:
    years, month = divmod(moment.month - 1 + months, 12)
    year, month = moment.year + years, month + 1
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))


def terms(policy: Policy, proposal: Proposal, at: datetime) -> Terms:
    """Return the terms of a proposal without faults."""
    purpose = policy.purposes[proposal.purpose]
    asked = proposal.categories if proposal.categories is not None else purpose.optional
    ceilings = [purpose.longest_days, _longest(policy), proposal.period_days or _MOST_DAYS]
    frequency = proposal.frequency_per_day if proposal.frequency_per_day is not None else purpose.reads_per_day
    return Terms(
        controller=proposal.controller,
        subject=proposal.subject,
        purpose=purpose.id,
        basis=purpose.basis,
        party=proposal.party,
        needed=purpose.needed,
        optional=asked - purpose.needed,
        recipients=_readers(policy, purpose, at) | proposal.recipients,
        authorisers=proposal.authorisers or Authorisers((proposal.subject,)),
        notice_version=purpose.notice_version,
        longest_days=min(ceilings),
        history_from=proposal.history_from or _earliest(policy, purpose, at),
        frequency_per_day=min(frequency, MOST_UNATTENDED_READS),
        attended_only=proposal.attended_only,
        data_life_days=proposal.data_life_days,
        access_path=proposal.access_path,
        institution=proposal.institution,
        connection=proposal.connection,
        mandate=proposal.mandate,
        supersedes=proposal.supersedes,
        offer_until=at + timedelta(days=proposal.offer_days),
        proffered_terms=proposal.proffered_terms,
    )


def _longest(policy: Policy) -> int:
    return min(policy.figure(FigureName.LONGEST_CONSENT_DAYS), _MOST_DAYS)


def _earliest(policy: Policy, purpose: Purpose, at: datetime) -> date:
    return local_day(policy, purpose.controller, at) - timedelta(days=purpose.history_days)


def _readers(policy: Policy, purpose: Purpose, at: datetime) -> frozenset[PartyId]:
    """Return who acts on the controller's behalf for this purpose: the page names every one (consent.md section 3)."""
    return frozenset(
        party.id
        for party in policy.parties.values()
        if party.role in _ON_OUR_BEHALF and _may_receive(policy, party.id, purpose, at)
    )


def agreement_faults(policy: Policy, record: Consent, agreement: Agreement, evidence: Evidence) -> Iterator[str]:
    """Say everything that stands against recording this answer to this question."""
    asked, purpose = record.terms, policy.purposes.get(record.terms.purpose)
    if purpose is None:
        yield "purpose_unknown"
        return
    if record.page is None:
        yield "page_not_shown"
    elif record.page.notice_digest != _current_notice(policy, asked, record.page.locale):
        yield "notice_changed"
    if not agreement.optional <= asked.optional:
        yield "category_not_offered"
    # one of the short list, and never over the ceilings (consent rule 13)
    if agreement.period_days not in purpose.periods_days or agreement.period_days > asked.longest_days:
        yield "period_not_offered"
    if asked.institution is not None and agreement.institution not in (None, asked.institution):
        yield "institution_not_offered"
    if evidence.level < 1:
        yield "level_too_low"
    connects = asked.institution is not None or agreement.institution is not None
    if connects and purpose.needs_sca and evidence.step_up is None:
        yield "step_up_missing"  # consent rule 33: a mailbox alone connects no account


def _current_notice(policy: Policy, asked: Terms, locale: Locale) -> str | None:
    purpose = policy.purposes[asked.purpose]
    notice = policy.notices.get((purpose.id, purpose.notice_version, locale))
    return notice.digest if notice is not None else None


def processors_digest(policy: Policy, asked: Terms) -> str:
    """Return the digest of the processor list as the page of these terms shows it (consent.md section 3)."""
    named = sorted(asked.recipients | {asked.party})
    rows = [encode(policy.parties[party]) for party in named if party in policy.parties]
    return hashlib.sha256(canonical(rows)).hexdigest()

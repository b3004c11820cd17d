"""What people and parties do with consents, one unit of work each: state, ledger entry and follow-up commit together.

Every function that changes opens `with unit` and commits, but `withdraw_all`, which a case calls within its own unit;
`judge`, `facts_for` and `read` only read, inside a unit the caller opened, so that a door may decide and act in one
transaction. Withdrawal asks for nothing but the session or link that giving needed (consent rule 35) and holds from its
commit (consent rule 46). Moments are passed in as `at`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from consent import events
from consent.decision import Deny, Facts, Permit, Question, decide
from consent.errors import AskedTooSoonError, BrokenChainError, NoSuchConsentError, UnfitError, UnreadableEventError
from consent.events import Actor, ActorKind, Channel, EndReason, Event, Evidence, Shown, SuspensionReason
from consent.journey import Agreement
from consent.policy import FigureName, Policy
from consent.ports import Changing, Ids, Json, Reading, Unit
from consent.proposal import Proposal, agreement_faults, processors_digest, proposal_faults, quiet_until, terms
from consent.record import FINAL, Consent, Differences, State, differences, next_reminder, visible
from consent.vocabulary import CategoryId, ConsentId, ControllerId, LegalBasis, Locale, SubjectRef

RECEIPT, ENDED, CHANGED, REMINDER = "consent.receipt", "consent.ended", "consent.changed", "consent.reminder"
"""The follow-up work this module enqueues: `consent/version` names which event asks for it, so that no later one is
taken for the same work; a reminder's is `consent/day`."""


def propose(
    unit: Unit, policy: Policy, proposal: Proposal, *, ids: Ids, by: Actor, channel: Channel, at: datetime
) -> Consent:
    """Ask a person for a consent. Raises UnfitError with every fault, or AskedTooSoonError (consent rule 8)."""
    with unit:
        asked = _propose(unit, policy, proposal, ids=ids, by=by, channel=channel, at=at)
        unit.commit()
    return asked


def renew(
    unit: Unit, policy: Policy, proposal: Proposal, *, ids: Ids, by: Actor, channel: Channel, at: datetime
) -> tuple[Consent, Differences]:
    """Ask again before the end, and return what would change (consent rules 48, 49).

    `proposal.supersedes` names the consent to replace; it holds until the new one is given, and silence ends it.
    """
    with unit:
        old = _locked(unit, proposal.controller, proposal.supersedes or ConsentId(""), by)
        asked = _propose(unit, policy, proposal, ids=ids, by=by, channel=channel, at=at)
        unit.commit()
    return asked, differences(old, asked.terms)


def show(
    unit: Unit,
    policy: Policy,
    *,
    controller: ControllerId,
    consent: ConsentId,
    locale: Locale,
    template_digest: str,
    catalogue_digest: str,
    gpc: bool,
    by: Actor,
    channel: Channel,
    at: datetime,
) -> Consent:
    """Record the exact page a person was shown (consent rule 58); showing the same page again records nothing.

    Nor does showing it to somebody who has agreed: their answer was to another page.
    Raises UnfitError("notice_changed") when new words were released since the request: it has to be asked anew.
    """
    with unit:
        record = _locked(unit, controller, consent, by)
        page = Shown(
            notice_digest=_notice_digest(policy, record, locale),
            template_digest=template_digest,
            catalogue_digest=catalogue_digest,
            processors_digest=processors_digest(policy, record.terms),
            policy_digest=policy.digest,
            locale=locale,
            gpc=gpc,
        )
        if record.page != page and not record.agreed_by(by.ref):
            record = _append(unit, record, events.PageShown(at, by, channel, page))
            unit.commit()
    return record


def give(
    unit: Unit,
    policy: Policy,
    agreement: Agreement,
    *,
    controller: ControllerId,
    consent: ConsentId,
    evidence: Evidence,
    by: Actor,
    channel: Channel,
    at: datetime,
) -> Consent:
    """Agree. When everyone needed has, the consent is active and what it supersedes is replaced in the same commit.

    Raises UnfitError with every fault: an answer that was not offered, no page shown, other words since, no step-up.
    """
    with unit:
        record = _locked(unit, controller, consent, by)
        faults = tuple(agreement_faults(policy, record, agreement, evidence))
        if faults:
            raise UnfitError(faults)
        given = _append(
            unit,
            record,
            events.Given(
                at=at,
                by=by,
                channel=channel,
                authoriser=SubjectRef(by.ref),
                categories=record.terms.needed | agreement.optional,
                valid_until=at + timedelta(days=agreement.period_days),
                attended_only=agreement.attended_only,
                institution=agreement.institution,
                access_path=agreement.access_path,
                evidence=evidence,
            ),
        )
        if record.state is State.REQUESTED and given.state is State.ACTIVE:
            _replace_former(unit, given, by, channel, at)
            set_reminder(unit, policy, given, at)
        unit.commit()
    return given


def refuse(
    unit: Unit, *, controller: ControllerId, consent: ConsentId, by: Actor, channel: Channel, at: datetime
) -> Consent:
    """Say no; the same question rests for six months, put again or waiting already (consent rule 8).

    Refusing twice changes nothing.
    """
    with unit:
        record = _locked(unit, controller, consent, by)
        if record.state_at(at) is not State.REFUSED:
            record = _append(unit, record, events.Refused(at, by, channel))
            _refuse_alike(unit, record, by, channel, at)
            unit.commit()
    return record


def withdraw(
    unit: Unit,
    *,
    controller: ControllerId,
    consent: ConsentId,
    by: Actor,
    channel: Channel,
    at: datetime,
    authoriser: SubjectRef | None = None,
    delete_data: bool = False,
) -> Consent:
    """Take consent back, at once (GDPR art. 7(3); consent rules 35, 45, 46; dsar rule 7).

    `authoriser` ends that person's part; a subject ends the whole. Withdrawing what has ended changes nothing and is
    no error: saying stop twice is nobody's fault.
    """
    with unit:
        record = _locked(unit, controller, consent, by)
        if record.state_at(at) not in FINAL:
            whose = authoriser if authoriser is not None else _own_part(record, by)
            record = _append(unit, record, events.Withdrawn(at, by, channel, whose, delete_data))
            unit.commit()
    return record


def withdraw_all(
    unit: Changing,
    *,
    controller: ControllerId,
    subject: SubjectRef,
    by: Actor,
    channel: Channel,
    at: datetime,
    before: datetime | None = None,
) -> tuple[Consent, ...]:
    """Take back every consent of a subject that has not ended, within the caller's unit, which commits (dsar rule 7).

    Contracts stay: they are ended, not withdrawn (consent rule 38). So does what was asked after `before`: the person
    cannot have meant it. Returns those withdrawn; none is no error.
    """
    ended = []
    for found in unit.consents.of_subject(controller, subject):
        record = unit.consents.lock(controller, found.id)
        if record is None or (before is not None and record.requested_at > before):
            continue
        if record.terms.basis is LegalBasis.CONSENT and record.state_at(at) not in FINAL:
            ended.append(_append(unit, record, events.Withdrawn(at, by, channel, None, delete_data=False)))
    return tuple(ended)


def suspend(
    unit: Unit,
    *,
    controller: ControllerId,
    consent: ConsentId,
    reason: SuspensionReason,
    by: Actor,
    channel: Channel,
    at: datetime,
) -> Consent:
    """Let a consent rest for a reason; several reasons add up."""
    return _change(unit, controller, consent, events.Suspended(at, by, channel, reason))


def resume(
    unit: Unit,
    *,
    controller: ControllerId,
    consent: ConsentId,
    reason: SuspensionReason,
    by: Actor,
    channel: Channel,
    at: datetime,
) -> Consent:
    """Lift one reason to rest; what the subject paused only the subject resumes (ActorRefusedError)."""
    return _change(unit, controller, consent, events.Resumed(at, by, channel, reason))


def narrow(
    unit: Unit,
    *,
    controller: ControllerId,
    consent: ConsentId,
    categories: frozenset[CategoryId],
    by: Actor,
    channel: Channel,
    at: datetime,
) -> Consent:
    """Let it cover at most `categories` from now on; without a needed one it ends."""
    return _change(unit, controller, consent, events.Narrowed(at, by, channel, categories))


def end_by_controller(
    unit: Unit,
    *,
    controller: ControllerId,
    consent: ConsentId,
    reason: EndReason,
    by: Actor,
    channel: Channel,
    at: datetime,
) -> Consent:
    """End it on the controller's side."""
    return _change(unit, controller, consent, events.EndedByController(at, by, channel, reason))


def end_at_holder(
    unit: Unit, *, controller: ControllerId, consent: ConsentId, by: Actor, channel: Channel, at: datetime
) -> Consent:
    """Record that it was ended in the institution's own dashboard (FIDA art. 8)."""
    return _change(unit, controller, consent, events.EndedAtHolder(at, by, channel))


def invalidate(
    unit: Unit,
    *,
    controller: ControllerId,
    consent: ConsentId,
    reason: EndReason,
    by: Actor,
    channel: Channel,
    at: datetime,
) -> Consent:
    """Record that it never was valid."""
    return _change(unit, controller, consent, events.Invalidated(at, by, channel, reason))


def lapse(unit: Unit, *, at: datetime, limit: int = 200) -> int:
    """Record what time has ended, at most `limit` at once; return how many. No decision waits for this sweep."""
    clock = Actor(ActorKind.SYSTEM, "clock")
    done = 0
    with unit:
        for controller, consent in unit.consents.due(at, limit=limit):
            record = _readable(unit, controller, consent)
            # somebody may have withdrawn or extended between the list and the lock
            if record is not None and record.state not in FINAL and record.state_at(at) is State.EXPIRED:
                _append(unit, record, events.Expired(at, clock, Channel.SCHEDULE))
                done += 1
        unit.commit()
    return done


def list_for_subject(
    unit: Unit, policy: Policy, *, controller: ControllerId, subject: SubjectRef, at: datetime
) -> tuple[Consent, ...]:
    """Return what the subject's space lists, newest first; ended ones for two years (consent rules 41, 43)."""
    days = policy.figure(FigureName.ENDED_VISIBLE_DAYS)
    with unit:
        found = unit.consents.of_subject(controller, subject)
    return tuple(record for record in found if visible(record, at, days))


def read(unit: Unit, *, controller: ControllerId, consent: ConsentId, by: Actor) -> tuple[Consent, tuple[Event, ...]]:
    """Return one consent and its events to who may know of it. Raises NoSuchConsentError for all others alike."""
    record = unit.consents.find(controller, consent)
    if record is None or not _concerns(record, by):
        raise NoSuchConsentError("no such consent")
    return record, unit.consents.events(controller, consent)


def set_reminder(unit: Unit, policy: Policy, given: Consent, after: datetime) -> None:
    """Set the first reminder after `after`; carrying one out sets the next (consent rules 48, 50). Commits nothing."""
    due = next_reminder(
        given,
        after,
        before_days=policy.figures[FigureName.RENEWAL_NOTICE_DAYS].values,
        every_days=policy.figure(FigureName.REMINDER_DAYS),
    )
    if due is not None:
        unit.work.enqueue(REMINDER, f"{given.id}/{due:%Y-%m-%d}", due=due)


def judge(unit: Reading, policy: Policy, question: Question) -> Permit | Deny:
    """Answer a question from what is stored: the one function behind every door. Call it inside an open unit."""
    return decide(question, facts_for(unit, policy, question))


def facts_for(unit: Reading, policy: Policy, question: Question) -> Facts:
    """Return everything `decide` needs to know; an unreadable store raises, and never reads as a Permit."""
    standing = unit.standings.standing(question.subject, question.purpose, question.at)
    consent = _consent_for(unit, policy, question)
    facts = Facts(
        policy=policy,
        party=policy.parties.get(question.party),
        component=unit.components.component(question.component) if question.component is not None else None,
        consent=consent,
        unattended_reads=_reads(unit, consent, question),
    )
    if standing is None:
        return facts
    return replace(
        facts,
        subject_controller=standing.controller,
        erased=standing.erased,
        restrictions=standing.restrictions,
        objections=standing.objections,
        mandates=standing.mandates,
        other_basis=standing.other_basis,
    )


# what follows is the inside of the units above


def _propose(
    unit: Unit, policy: Policy, proposal: Proposal, *, ids: Ids, by: Actor, channel: Channel, at: datetime
) -> Consent:
    standing = unit.standings.standing(proposal.subject, proposal.purpose, at)
    former = unit.consents.find(proposal.controller, proposal.supersedes) if proposal.supersedes else None
    faults = tuple(proposal_faults(policy, proposal, standing, former, by=by, at=at))
    if faults:
        raise UnfitError(faults)
    earlier = unit.consents.of_subject(proposal.controller, proposal.subject, proposal.purpose)
    until = quiet_until(policy, proposal, earlier, by=by, at=at)
    if until is not None:
        raise AskedTooSoonError(until)
    event = events.Requested(at, by, channel, terms(policy, proposal, at))
    record = unit.consents.add(ConsentId(ids.new("con")), event)
    _tell(unit, record, event)
    return record


def _notice_digest(policy: Policy, record: Consent, locale: Locale) -> str:
    terms = record.terms
    notice = policy.notices.get((terms.purpose, terms.notice_version, locale))
    if notice is None or policy.purposes[terms.purpose].notice_version != terms.notice_version:
        raise UnfitError(("notice_changed",))
    return notice.digest


def _replace_former(unit: Unit, given: Consent, by: Actor, channel: Channel, at: datetime) -> None:
    """A new consent takes the place of the one it renews, and of any for the very same access (Berlin Group)."""
    for old in unit.consents.of_subject(given.terms.controller, given.terms.subject):
        live = old.state_at(at) in (State.ACTIVE, State.SUSPENDED)
        if live and old.id != given.id and (old.id == given.terms.supersedes or _same_access(old, given)):
            locked = unit.consents.lock(old.terms.controller, old.id)
            if locked is not None and locked.state_at(at) in (State.ACTIVE, State.SUSPENDED):
                # whoever agreed to the new one may not be known to the old one: the new consent itself replaces it
                actor = by if by.ref in _people(old) else Actor(ActorKind.SYSTEM, given.id)
                _append(unit, locked, events.Replaced(at, actor, channel, given.id))


def _refuse_alike(unit: Unit, refused: Consent, by: Actor, channel: Channel, at: datetime) -> None:
    """The subject's no answers the party's other open questions for the purpose; what they ask themselves stays."""
    terms = refused.terms
    if by.ref != terms.subject:
        return
    for other in unit.consents.of_subject(terms.controller, terms.subject, terms.purpose):
        if other.id == refused.id or other.terms.party != terms.party or not _waits(other, at):
            continue
        locked = unit.consents.lock(terms.controller, other.id)
        asked, *_ = unit.consents.events(terms.controller, other.id)
        if locked is not None and _waits(locked, at) and asked.by.kind is not ActorKind.SUBJECT:
            _append(unit, locked, events.Refused(at, by, channel))


def _waits(record: Consent, at: datetime) -> bool:
    return record.state_at(at) is State.REQUESTED and not record.parts


def _same_access(old: Consent, new: Consent) -> bool:
    def access(record: Consent) -> tuple[object, ...]:
        return record.terms.purpose, record.terms.party, record.institution, record.terms.connection

    return access(old) == access(new)


def _people(record: Consent) -> frozenset[str]:
    return frozenset({record.terms.subject, *record.terms.authorisers.people})


def _own_part(record: Consent, by: Actor) -> SubjectRef | None:
    """Another authoriser ends their own part; the subject, or who passes their word on, the whole."""
    apart = by.kind is ActorKind.SUBJECT and by.ref != record.terms.subject
    return SubjectRef(by.ref) if apart else None


def _change(unit: Unit, controller: ControllerId, consent: ConsentId, event: Event) -> Consent:
    with unit:
        record = _append(unit, _locked(unit, controller, consent, event.by), event)
        unit.commit()
    return record


def _readable(unit: Unit, controller: ControllerId, consent: ConsentId) -> Consent | None:
    """A tampered history (consent rule 56) must not hold up the ends of all others; whoever reads it is refused."""
    try:
        return unit.consents.lock(controller, consent)
    except (BrokenChainError, UnreadableEventError):
        return None


def _locked(unit: Unit, controller: ControllerId, consent: ConsentId, by: Actor) -> Consent:
    record = unit.consents.lock(controller, consent)
    if record is None or not _concerns(record, by):
        raise NoSuchConsentError("no such consent")
    return record


def _concerns(record: Consent, by: Actor) -> bool:
    """A person sees their own consents, a party those that name it; to all others none exists."""
    if by.kind is ActorKind.SUBJECT:
        return by.ref in _people(record)
    if by.kind is ActorKind.PARTY:
        return by.ref in record.readers
    return True


def _append(unit: Changing, record: Consent, event: Event) -> Consent:
    after = unit.consents.append(record, event)
    _tell(unit, after, event)
    for kind in _follow_ups(record, after, event):
        unit.work.enqueue(kind, f"{after.id}/{after.version}")
    return after


def _tell(unit: Changing, record: Consent, event: Event) -> None:
    unit.journal.record(
        event.kind,
        actor=event.by.ref,
        controller=record.terms.controller,
        subject=record.terms.subject,
        payload=_payload(record, event),
    )


def _payload(record: Consent, event: Event) -> dict[str, Json]:
    """Return ids, codes and digests only; the journal seals even these."""
    told: dict[str, Json] = {
        "consent": record.id,
        "version": record.version,
        "state": record.state.value,
        "purpose": record.terms.purpose,
        "party": record.terms.party,
        "by": event.by.kind.value,
        "channel": event.channel.value,
    }
    match event:
        case events.PageShown(page=page):
            told |= {"notice": page.notice_digest, "page": page.template_digest, "parties": page.processors_digest}
            told |= {"locale": page.locale.value, "gpc": page.gpc}  # consent rule 59: the signal is logged
        case events.Given():
            told |= {"categories": sorted(event.categories), "level": event.evidence.level, "gpc": event.evidence.gpc}
            told |= {"until": event.valid_until.isoformat(), "step_up": event.evidence.step_up}
        case events.Narrowed(categories=categories):
            told |= {"categories": sorted(categories)}
        case events.Suspended(reason=reason) | events.Resumed(reason=reason):
            told |= {"reason": reason.value}
        case events.EndedByController(reason=reason) | events.Invalidated(reason=reason):
            told |= {"reason": reason.value}
        case events.Replaced(superseded_by=newer):
            told |= {"superseded_by": newer}
        case _:
            pass
    return told


def _follow_ups(before: Consent, after: Consent, event: Event) -> tuple[str, ...]:
    """A receipt after each give, amendment and end (consent rule 57); recipients are told of each end and change."""
    if isinstance(event, events.PageShown | events.Refused):
        return ()
    if after.state in FINAL:
        never = before.state is State.REQUESTED  # nobody had agreed: nothing to take back, nobody to tell
        return () if never else (ENDED, RECEIPT)
    if isinstance(event, events.Given):
        return (RECEIPT,) if after.state is State.ACTIVE else ()
    return (CHANGED,) if isinstance(event, events.Suspended | events.Resumed) else (CHANGED, RECEIPT)


def _reads(unit: Reading, consent: Consent | None, question: Question) -> int:
    if consent is None or question.attended or not question.opens_read:
        return 0
    return unit.reads.reads(consent.id, question.party, question.at)


def _consent_for(unit: Reading, policy: Policy, question: Question) -> Consent | None:
    """Return the consent a token names, else the one that speaks best for this question."""
    purpose = policy.purposes.get(question.purpose)
    if purpose is None:
        return None
    if question.consent is not None:
        return unit.consents.find(purpose.controller, question.consent)
    found = unit.consents.of_subject(purpose.controller, question.subject, question.purpose)
    return max(found, key=lambda record: _fitness(record, question), default=None)


def _fitness(record: Consent, question: Question) -> tuple[bool, bool, bool, bool]:
    return (
        question.party in record.readers,
        record.state_at(question.at) is State.ACTIVE,
        question.categories <= record.categories,
        record.terms.party == question.party,
    )

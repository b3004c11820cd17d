"""A consent question at the door: find or begin it, show it, take an answer (consent rules 1-28).

The machine is `consent.journey`, the changes are `consent.usecases`; here a partner's request becomes a proposal and
answers are kept on the server, so that a reload or another language loses none. Leaves out the words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta

from flask import request

from app.http.doors import Doors, DoorUnit, JourneyFacts, PendingFacts, SessionFacts, doors
from app.http.errors import NotHere, NotSignedIn, QuestionGone
from app.http.locale import current_locale
from app.http.sessions import current
from app.http.shown import catalogue_digest, template_digest
from app.sdk.claims import AggregationConsent
from app.tokens.errors import InvalidRequestUri
from consent import journey as machine
from consent import usecases
from consent.decision import local_day
from consent.errors import UnfitError
from consent.events import AccessPath, Actor, ActorKind, Channel, Evidence
from consent.journey import Answer, Confirm, Continue, Fault, Offer, Outcome, Progress, Refuse, SteppedUp
from consent.plain import canonical
from consent.policy import Journey, StageKind
from consent.proposal import Proposal
from consent.record import Consent
from consent.vocabulary import CategoryId, ConsentId, ControllerId, PartyId, PurposeId, SubjectRef

PROVEN_FOR = timedelta(minutes=10)
"""How long a passkey assertion counts as the strong authentication of an answer (consent rule 33)."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question as a page needs it."""

    id: str
    record: Consent
    script: Journey
    offer: Offer
    progress: Progress
    onward: bool

    @property
    def stage(self) -> StageKind:
        return self.progress.stage

    @property
    def seen(self) -> str:
        """Return what the page's forms carry back: `stage.digest of the answers it was made from`.

        An answer holds for the page it was given on, never for one that took its place (GDPR art. 4(11)).
        """
        return _made_from(self.progress)


def _made_from(at: Progress) -> str:
    if at.stage is StageKind.FACTS:
        # its form says all that is chosen there by itself; what it showed as chosen before decides nothing
        at = replace(at, optional=None, period_days=None, attended_only=None)
    kept = hashlib.sha256(canonical(machine.to_plain(at))).hexdigest()
    return f"{at.stage.value}.{kept[:32]}"


def controller_of(journey: str) -> ControllerId | None:
    """Return for whom a partner's request asks, so that signing in happens in that firm's name; None if it is over."""
    of = doors()
    with of.reading() as unit:
        known = unit.journeys.find(journey)
    if known is not None:
        return known.controller
    pending = _pending(of, journey)
    return ControllerId(pending.controller) if pending is not None else None


def open_question(journey: str) -> Question:
    """Return the question, beginning it the first time.

    Raises NotHere, QuestionGone, NotSignedIn for another controller's person.
    """
    of, session = doors(), _session()
    with of.unit() as unit:
        known = unit.journeys.find(journey)
        if known is not None:
            return _known(of, unit, known, session)
    pending = _pending(of, journey)
    if pending is None:
        raise NotHere
    if pending.controller != session.controller:
        raise NotSignedIn
    _begin(of, journey, pending, session)
    with of.unit() as unit:
        return _known(of, unit, unit.journeys.find(journey), session)


def _session() -> SessionFacts:
    session = current()
    if session is None or session.kind != "subject":
        raise NotSignedIn
    return session


def _pending(of: Doors, journey: str) -> PendingFacts | None:
    """Return the partner's request; its own errors (over, answered) pass through."""
    return of.authorizations.pending(journey) if of.authorizations is not None else None


def _known(of: Doors, unit: DoorUnit, known: JourneyFacts | None, session: SessionFacts) -> Question:
    record = unit.consents.find(known.controller, known.consent) if known is not None else None
    if known is None or record is None or known.subject != session.person:
        raise NotHere
    at = machine.settled(machine.from_plain(known.progress), record, session.person, of.clock.now())
    script = of.policy.journeys.get(known.script)
    offered = (
        machine.offer(record, of.policy, script) if script is not None and machine.askable(record, of.policy) else None
    )
    if script is None or offered is None or not machine.stands(offered, at):
        raise QuestionGone(known.id if known.onward else None)
    return Question(known.id, record, script, offered, at, known.onward)


def _begin(of: Doors, journey: str, pending: PendingFacts, session: SessionFacts) -> None:
    """Ask what the partner asks, or take up the consent it named, and keep the first page.

    A crash in between leaves a request nobody sees; it lapses, and reloading the page asks anew.
    """
    named = pending.proposal.consent_id
    record = _asked(of, pending, session) if named is None else _named(of, ConsentId(named), pending, session)
    _keep(of, journey, record, onward=True)


def _asked(of: Doors, pending: PendingFacts, session: SessionFacts) -> Consent:
    party, subject = PartyId(pending.party), SubjectRef(session.person)
    return usecases.propose(
        of.unit(),
        of.policy,
        proposal_of(pending.proposal, session.controller, subject, party),
        ids=of.ids,
        by=Actor(ActorKind.PARTY, party),
        channel=Channel.API,
        at=of.clock.now(),
    )


def _named(of: Doors, consent: ConsentId, pending: PendingFacts, session: SessionFacts) -> Consent:
    with of.reading() as unit:
        record = unit.consents.find(session.controller, consent)
    if record is None or (record.terms.subject, record.terms.party) != (session.person, pending.party):
        raise NotHere
    return record


def awaited(question: Question) -> bool:
    """Return whether a partner still waits for the person to come back; its request lasts shorter than a question."""
    partners = doors().authorizations
    if not question.onward or partners is None:
        return False
    try:
        partners.pending(question.id)
    except InvalidRequestUri:
        return False
    return True


def put_on_page(record: Consent) -> str:
    """Return the journey of the address where a consent is asked for: its page under way, else a new one.

    So a partner that waits for the person gets its answer there too.
    """
    of, terms = doors(), record.terms
    with of.reading() as unit:
        under_way = unit.journeys.latest(terms.controller, terms.subject, record.id)
    if under_way is not None:
        return under_way
    journey = of.ids.new("jny")
    _keep(of, journey, record, onward=False)
    return journey


def _keep(of: Doors, journey: str, record: Consent, *, onward: bool) -> None:
    if not machine.askable(record, of.policy):
        raise QuestionGone(journey if onward else None)
    script = script_for(of, record)
    with of.unit() as unit:
        unit.journeys.begin(
            journey,
            controller=record.terms.controller,
            subject=record.terms.subject,
            consent=record.id,
            script=script.id,
            progress=machine.to_plain(machine.start(machine.offer(record, of.policy, script))),
            onward=onward,
            now=of.clock.now(),
        )
        unit.commit()


def proposal_of(asked: AggregationConsent, controller: ControllerId, subject: SubjectRef, party: PartyId) -> Proposal:
    """Return a partner's authorization detail as a proposal. Raises UnfitError for what the law cannot hold to."""
    if asked.accounts:
        # a consent narrowed to accounts has to be enforced per account; nothing does so yet, so nothing pretends to
        raise UnfitError(("accounts_not_offered",))
    if asked.access_path is not None and asked.access_path not in frozenset(AccessPath):
        raise UnfitError(("path_not_offered",))
    ceiling = None
    if asked.period_until is not None:
        start = asked.period_from or local_day(doors().policy, controller, doors().clock.now())
        ceiling = (asked.period_until - start).days
    return Proposal(
        controller=controller,
        subject=subject,
        purpose=PurposeId(asked.purpose or ""),
        party=party,
        categories=frozenset(CategoryId(name) for name in asked.categories) or None,
        period_days=ceiling,
        history_from=asked.history_from,
        frequency_per_day=asked.frequency_per_day,
        access_path=AccessPath(asked.access_path) if asked.access_path else None,
    )


def script_for(of: Doors, record: Consent) -> Journey:
    """Return the first journey of the pack that can put this question, a partner's own before others."""
    asked = [journey for journey in of.policy.journeys.values() if record.terms.purpose in journey.purposes]
    for journey in sorted(asked, key=lambda each: each.id != "partner_request"):
        try:
            machine.offer(record, of.policy, journey)
        except UnfitError:
            continue
        return journey
    raise UnfitError(("journey_missing",))


def note_shown(question: Question) -> None:
    """Record the exact page this person is being shown (consent rule 58)."""
    of = doors()
    usecases.show(
        of.unit(),
        of.policy,
        controller=question.record.terms.controller,
        consent=question.record.id,
        locale=current_locale(),
        template_digest=template_digest(),
        catalogue_digest=catalogue_digest(current_locale()),
        gpc=gpc(),
        by=_person(),
        channel=Channel.PAGE,
        at=of.clock.now(),
    )


def take(journey: str, answer: Answer, seen: str) -> tuple[Fault, ...]:
    """Take one answer, given on the page `seen`; return its faults, which decide nothing.

    What it decides and where it leads commit together, and follow from what is stored then: of two answers at once the
    second is given to the page the first has led to.
    """
    of, session = doors(), _session()
    with of.unit() as unit:
        question = _known(of, unit, unit.journeys.find(journey), session)
        after = _step(question, answer, seen)
        if isinstance(after, tuple):
            _keep_chosen(unit, question, answer, seen)
            return after
        _keep_answer(of, unit, question, after)
    return ()


def _keep_chosen(unit: DoorUnit, question: Question, answer: Answer, seen: str) -> None:
    """Keep what was chosen beside the fault, for the page in another language (rule 24)."""
    after = machine.chosen(question.offer, question.progress, answer)
    if seen == question.seen and after != question.progress:
        unit.journeys.save(question.id, machine.to_plain(after))
        unit.commit()


def _keep_answer(of: Doors, unit: DoorUnit, question: Question, after: Progress) -> None:
    unit.journeys.save(question.id, machine.to_plain(after))
    if after.outcome is question.progress.outcome:
        unit.commit()
    elif after.outcome is Outcome.REFUSED:
        _refuse(of, unit, question)
    else:
        _give(of, unit, question, after)


def _step(question: Question, answer: Answer, seen: str) -> Progress | tuple[Fault, ...]:
    """A page that is no longer the one in front of the person decides nothing (consent rules 7, 25).

    But a refusal does from every page: it needs no answer, and must not be the harder of the two.
    """
    at = question.progress
    if at.outcome is None and seen != question.seen and not isinstance(answer, Refuse):
        return (Fault.NOT_AT_THIS_STAGE,)
    return at if _said_already(at, answer, seen) else machine.step(question.offer, at, answer)


def _said_already(at: Progress, answer: Answer, seen: str) -> bool:
    """Whether it is the very answer that ended the question, a second time, or time ended it: that is no fault."""
    if at.outcome is Outcome.LAPSED:
        return True
    if isinstance(answer, Refuse):
        return at.outcome is Outcome.REFUSED
    if at.outcome is not Outcome.AGREED:
        return False
    if isinstance(answer, Continue):
        return at.stage is StageKind.RESULT
    check = replace(at, stage=StageKind.CHECK, confirmed=False, stepped_up=False, outcome=None)
    ended_on = (check, replace(check, stage=StageKind.STEP_UP, confirmed=True))
    return isinstance(answer, Confirm | SteppedUp) and seen in {_made_from(each) for each in ended_on}


def _refuse(of: Doors, unit: DoorUnit, question: Question) -> None:
    usecases.refuse(
        unit,
        controller=question.record.terms.controller,
        consent=question.record.id,
        by=_person(),
        channel=Channel.PAGE,
        at=of.clock.now(),
    )


def _give(of: Doors, unit: DoorUnit, question: Question, after: Progress) -> None:
    usecases.give(
        unit,
        of.policy,
        machine.agreement(question.offer, after),
        controller=question.record.terms.controller,
        consent=question.record.id,
        evidence=evidence(),
        by=_person(),
        channel=Channel.PAGE,
        at=of.clock.now(),
    )


def evidence() -> Evidence:
    """Return how this session proves who agrees (GDPR art. 7(1))."""
    session = _session()
    return Evidence(
        level=session.level,
        step_up="passkey" if proven() else None,
        step_up_at=session.proven_at if proven() else None,
        credential_digest=session.credential if proven() else None,
        gpc=gpc(),
    )


def proven() -> bool:
    """Return whether a passkey was asserted in this session lately."""
    session, now = _session(), doors().clock.now()
    return session.proven_at is not None and now - session.proven_at <= PROVEN_FOR


def gpc() -> bool:
    """Return whether the browser says "do not sell or share" (consent rule 59)."""
    return request.headers.get("Sec-GPC") == "1"


def _person() -> Actor:
    return Actor(ActorKind.SUBJECT, _session().person)

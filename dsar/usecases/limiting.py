"""What a line stops: restriction and objection bind before they are weighed, and end only by a letter that left.

GDPR arts 7(3), 18, 19, 21; dsar rules 7, 8, 51, 52. Whether the person may ask is settled by identity alone; the pack
says what can be objected to. Leaves out the record of a limit (`consent.limiting`) and the art. 19 letters.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from consent import events as told_by
from consent import limiting
from consent import usecases as consents
from consent.events import ActorKind
from consent.limits import Act, ObjectionRecord, RestrictionGround, RestrictionRecord, Told, Whose
from consent.vocabulary import PartyId, SubjectRef
from dsar import errors, identity
from dsar import events as e
from dsar.case import Case, Line, Message
from dsar.ports import Desk
from dsar.usecases.erasing import carry_out, name_recipient
from dsar.usecases.writing import identified, identity_of, line_of, write
from dsar.vocabulary import SYSTEM, Actor, CaseId, LineId, Outcome, Right

LIMITING = frozenset({Right.RESTRICTION, Right.OBJECTION, Right.MARKETING_OBJECTION})
"""Rights that stop something the moment they are asked for."""
CARRIED_OUT_AT_ONCE = LIMITING | {Right.WITHDRAWAL}
"""Rights whose carrying out is a change of what the decision meets, and no work elsewhere."""
_ENDS = frozenset({Outcome.REFUSED, Outcome.CANNOT_IDENTIFY, Outcome.WITHDRAWN_BY_SUBJECT})


def bind_limits(desk: Desk, case: Case, by: Actor) -> None:
    """Stop what each undecided line asks to stop, once its identity is proved (dsar rules 7, 8, 51, 52).

    Again changes nothing; a person nobody knows, or whose keys are gone, has nothing that could be stopped.
    """
    asked = [line for line in case.lines.values() if line.right in CARRIED_OUT_AT_ONCE and line.outcome is None]
    proved = [line for line in asked if isinstance(identity_of(desk, case, line), identity.Enough)]
    subject = case.subject
    if not proved or subject is None or not desk.agreements.limits.knows(case.controller, subject):
        return
    for line in proved:
        _bind(desk, case, subject, line, by)


def carry_out_limit(
    desk: Desk, case_id: CaseId, line_id: LineId, *, recipients: Collection[PartyId] = (), by: Actor = SYSTEM
) -> None:
    """Carry out a granted line that changes what the decision meets, and name who has to be told of a restriction.

    Rules 7, 8, 51, 52, 56. Carrying out twice changes nothing. Raises MoveRefused, NotIdentified.
    """
    case = desk.cases.get(case_id)
    line = line_of(case, line_id)
    if line.right not in CARRIED_OUT_AT_ONCE or line.outcome is not Outcome.GRANTED:
        raise errors.MoveRefused(case.state, "be carried out at once")
    if line.carried_out is not None:
        return
    subject = identified(desk, case, line_id)
    evidence = _done(desk, case, subject, line, by)
    if line.right is Right.RESTRICTION:
        named = [
            name_recipient(desk, case, subject, line=line_id, party=party, by=by) for party in sorted(set(recipients))
        ]
        if named:
            write(desk, case, *named)
    carry_out(desk, case_id, line_id, evidence, by)


def settle_limits(desk: Desk, case: Case, message: Message, at: datetime) -> None:
    """End what the lines of a reply had stopped and it does not grant: now the person has been told (dsar rule 51)."""
    for line_id in message.lines:
        line = case.lines[line_id]
        if case.subject is None or line.right not in LIMITING or line.outcome not in _ENDS:
            continue
        for restriction in _restrictions(desk, case, case.subject, line):
            told = Told(message.id, at)
            limiting.lift(desk.agreements, case.controller, restriction.id, _act(desk, case, SYSTEM), told=told)
        for objection in _objections(desk, case, case.subject, line):
            _settle_objection(desk, case, line, objection)


def _settle_objection(desk: Desk, case: Case, line: Line, objection: ObjectionRecord) -> None:
    """Refused by whoever decided it, on the grounds then written down (dsar rule 52); else taken back."""
    if line.outcome is not Outcome.REFUSED:
        limiting.retract(desk.agreements, case.controller, objection.id, _act(desk, case, SYSTEM))
        return
    if objection.retracted_at is not None:
        return
    decision = _decision(desk, case, line)
    by = told_by.Actor(ActorKind.STAFF, decision.by)
    act = Act(by, told_by.Channel.CASE, desk.clock.now())
    evidence = decision.evidence or line.id
    limiting.refuse_objection(desk.agreements, case.controller, objection.id, act, evidence=evidence)


def _decision(desk: Desk, case: Case, line: Line) -> e.LineDecided:
    told = (one.event for one in desk.cases.history(case.id))
    return [event for event in told if isinstance(event, e.LineDecided) and event.line == line.id][-1]


def _bind(desk: Desk, case: Case, subject: SubjectRef, line: Line, by: Actor) -> None:
    if line.right is Right.WITHDRAWAL:
        _withdraw(desk, case, subject)  # at once, whoever has to approve the letter (rule 7)
        return
    _BINDS[line.right](desk, Whose(case.controller, subject, line.id), _act(desk, case, by))


def _restrict(desk: Desk, whose: Whose, act: Act) -> None:
    limiting.restrict(desk.agreements, desk.policy, whose, act, ground=RestrictionGround.NOT_STATED, ids=desk.ids)


def _object(desk: Desk, whose: Whose, act: Act) -> None:
    """An objection that names nothing is one to all that can be objected to."""
    for purpose in limiting.objectable(desk.policy, whose.controller):
        limiting.object_to(desk.agreements, desk.policy, whose, act, purpose=purpose, ids=desk.ids)


def _object_to_marketing(desk: Desk, whose: Whose, act: Act) -> None:
    limiting.object_to_marketing(desk.agreements, whose, act, ids=desk.ids)


_BINDS: Mapping[Right, Callable[[Desk, Whose, Act], None]] = {
    Right.RESTRICTION: _restrict,
    Right.OBJECTION: _object,
    Right.MARKETING_OBJECTION: _object_to_marketing,
}


def _done(desk: Desk, case: Case, subject: SubjectRef, line: Line, by: Actor) -> str:
    """Do it, unless it is done, and return what shows it; the line itself where there was nothing to stop."""
    if line.right is Right.WITHDRAWAL:
        _withdraw(desk, case, subject)
        return next(iter(_withdrawn(desk, case, subject)), line.id)
    if not _kept(desk, case, subject, line) and desk.agreements.limits.knows(case.controller, subject):
        _bind(desk, case, subject, line, by)
    return next(iter(_kept(desk, case, subject, line)), line.id)


def _withdraw(desk: Desk, case: Case, subject: SubjectRef) -> None:
    """Whoever carries it out, it is the subject's word that ends a consent; not one asked after the request came."""
    consents.withdraw_all(
        desk.agreements,
        controller=case.controller,
        subject=subject,
        by=told_by.Actor(ActorKind.SUBJECT, subject),
        channel=told_by.Channel.CASE,
        at=desk.clock.now(),
        before=case.recorded_at,
    )


def _withdrawn(desk: Desk, case: Case, subject: SubjectRef) -> list[str]:
    """The consents that ended through a request since this one came."""
    ends = {one.id: one.end for one in desk.agreements.consents.of_subject(case.controller, subject)}
    through = told_by.Channel.CASE
    return [id_ for id_, end in ends.items() if end and end.channel is through and end.at >= case.recorded_at]


def _kept(desk: Desk, case: Case, subject: SubjectRef, line: Line) -> list[str]:
    restrictions = [one.id for one in _restrictions(desk, case, subject, line)]
    return [*restrictions, *(one.id for one in _objections(desk, case, subject, line))]


def _restrictions(desk: Desk, case: Case, subject: SubjectRef, line: Line) -> list[RestrictionRecord]:
    found = desk.agreements.limits.restrictions(case.controller, subject)
    return [one for one in found if one.whose.origin == line.id]


def _objections(desk: Desk, case: Case, subject: SubjectRef, line: Line) -> list[ObjectionRecord]:
    found = desk.agreements.limits.objections(case.controller, subject)
    return [one for one in found if one.whose.origin == line.id]


def _act(desk: Desk, case: Case, by: Actor) -> Act:
    """The subject for themself; staff and the system pass on what the subject asked."""
    kind = ActorKind.STAFF if by.human else ActorKind.SYSTEM
    whose = told_by.Actor(ActorKind.SUBJECT if by.handle == case.subject else kind, by.handle)
    return Act(whose, told_by.Channel.CASE, desk.clock.now())

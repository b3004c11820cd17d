"""Going straight to the letter: nobody answered, or the person took the request back (dsar rules 20, 60)."""

from __future__ import annotations

from dsar import clock, errors
from dsar import events as e
from dsar.case import Case
from dsar.ports import Desk
from dsar.rights import RIGHTS
from dsar.usecases.deciding import Decision, decided
from dsar.usecases.writing import controller_of, is_late, prepare, write
from dsar.vocabulary import REFUSALS, SYSTEM, Actor, CaseId, MessageId, MessageKind, Outcome


def close_unanswered(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> MessageId:
    """End a pause without answer after the limit, with a reasoned letter (dsar rule 20). Raises TooEarly."""
    case = desk.cases.get(case_id)
    open_pauses = [pause for pause in case.pauses if pause.answered_at is None]
    if not open_pauses:
        raise errors.MoveRefused(case.state, "close an unanswered question")
    controller, now = controller_of(desk, case), desk.clock.now()
    limit = clock.pause_limit(open_pauses[0], zone=controller.time_zone, practice=desk.practice)
    if clock.local_day(now, controller.time_zone) <= limit:
        raise errors.TooEarly(limit)
    return _stop(desk, case, Outcome.CANNOT_IDENTIFY, MessageKind.REFUSAL, by)


def withdraw_request(desk: Desk, case_id: CaseId, by: Actor) -> MessageId:
    """The person takes the request back; a notice confirms it (dsar rule 60)."""
    case = desk.cases.get(case_id)
    if any(line.started or line.outcome is not None for line in case.lines.values()):
        raise errors.MoveRefused(case.state, "be taken back once something is decided")
    return _stop(desk, case, Outcome.WITHDRAWN_BY_SUBJECT, MessageKind.END_NOTICE, by)


def reopen(desk: Desk, case_id: CaseId, by: Actor) -> None:
    """Take up again a case that ended because nobody answered (dsar rule 20); the old clock goes on."""
    case = desk.cases.get(case_id)
    write(desk, case, e.Reopened(at=desk.clock.now(), by=by.handle, lines=tuple(case.lines)))


def leave_to_staff(desk: Desk, case_id: CaseId, reason: str, by: Actor = SYSTEM) -> None:
    """Note that the case no longer goes by itself, and why (a stable code); said once."""
    case = desk.cases.get(case_id)
    if case.left is None and not case.final:
        write(desk, case, e.LeftToStaff(at=desk.clock.now(), by=by.handle, reason=reason))


def _stop(desk: Desk, case: Case, outcome: Outcome, kind: MessageKind, by: Actor) -> MessageId:
    """End every line that may end so; what cannot be refused is granted and still has to be carried out (rule 8)."""
    late = is_late(desk, case) and outcome in REFUSALS
    ended = tuple(line.id for line in case.lines.values() if outcome in RIGHTS[line.right].outcomes)
    outcomes = {line: outcome if line in ended else Outcome.GRANTED for line in case.lines}
    outcomes_told = [
        decided(desk, line, Decision(one, by), late=late and one is outcome, evidence=None)
        for line, one in outcomes.items()
    ]
    case = write(desk, case, *outcomes_told, e.Stopped(at=desk.clock.now(), by=by.handle))
    return prepare(desk, case, kind, ended, by)

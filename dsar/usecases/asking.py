"""Acknowledging, asking who speaks, proving it, pausing and extending (dsar rules 4, 15-19, 24-28)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from dsar import clock, errors, identity
from dsar import events as e
from dsar.case import Case, State
from dsar.ports import Desk
from dsar.proofs.shape import Proof
from dsar.usecases.limiting import bind_limits
from dsar.usecases.writing import (
    SEND,
    identity_of,
    is_late,
    pause_in_time,
    prepare,
    prepared,
    verified_if_enough,
    write,
)
from dsar.vocabulary import SYSTEM, Actor, CaseId, DoubtCode, Level, LineId, MessageId, MessageKind, Method


def acknowledge(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> MessageId:
    """Prepare the acknowledgement with reference and due date (dsar rule 4); it counts once dispatched."""
    case = desk.cases.get(case_id)
    return prepare(desk, case, MessageKind.ACKNOWLEDGEMENT, tuple(case.lines), by)


def ask_identity(
    desk: Desk,
    case_id: CaseId,
    *,
    doubt: DoubtCode | None,
    text: str,
    method: Method,
    by: Actor,
    pausing: bool,
    approved_by: Actor | None = None,
    override: bool = False,
) -> MessageId:
    """Ask for a proof, with the doubt and its text (dsar rules 19, 24-28).

    `pausing` stops the clock from the question's dispatch. Raises NoDoubt, DocumentNotAllowed, AboveNeed,
    SecondPersonNeeded, PauseTooLate.
    """
    case = desk.cases.get(case_id)
    checked = _asking(desk, case, doubt if text.strip() else None, method, (by, approved_by), override=override)
    if pausing:
        _check_pause(desk, case)
    note = desk.notes.keep(case.controller, case.subject, case.id, text)
    message = MessageId(desk.ids.new("msg"))
    asked = e.IdentityAsked(
        at=desk.clock.now(),
        by=by.handle,
        doubt=checked,
        note=note,
        method=method,
        message=message,
        pausing=pausing,
    )
    write(desk, case, prepared(desk, message, MessageKind.IDENTITY_QUESTION, tuple(case.lines), by), asked)
    desk.work.enqueue(SEND, message)
    return message


_QUESTION_ERRORS: Mapping[str, type[errors.DsarError]] = {
    fault.code: fault
    for fault in (errors.NoDoubt, errors.DocumentNotAllowed, errors.AboveNeed, errors.SecondPersonNeeded)
}


def _asking(
    desk: Desk,
    case: Case,
    doubt: DoubtCode | None,
    method: Method,
    people: tuple[Actor | None, ...],
    *,
    override: bool,
) -> DoubtCode:
    verdicts = [identity_of(desk, case, line) for line in case.lines.values()]
    lacking = [verdict for verdict in verdicts if isinstance(verdict, identity.Lacking)]
    levels = [verdict.level for verdict in verdicts if isinstance(verdict, identity.Enough)]
    fault = identity.question_fault(
        method,
        doubt,
        needed=max((one.needed for one in lacking), default=max(levels, default=Level.L0)),
        has=max([*levels, *(one.has for one in lacking)], default=Level.L0),
        approvers=frozenset(one.handle for one in people if one is not None and one.human),
        override=override,
    )
    if fault is not None or doubt is None:
        raise _QUESTION_ERRORS[fault or errors.NoDoubt.code](method.value)
    return doubt


def ask_clarification(desk: Desk, case_id: CaseId, *, text: str, by: Actor) -> MessageId:
    """Ask the person to narrow a very broad request; stops the clock from dispatch (recital 63; dsar rule 19)."""
    case = desk.cases.get(case_id)
    if case.state is not State.VERIFIED:
        raise errors.MoveRefused(case.state, "ask for clarification")
    if not text.strip():
        raise errors.NoDoubt("the question is empty")
    _check_pause(desk, case)
    message = MessageId(desk.ids.new("msg"))
    note = desk.notes.keep(case.controller, case.subject, case.id, text)
    asked = e.ClarificationAsked(at=desk.clock.now(), by=by.handle, note=note, message=message)
    write(desk, case, prepared(desk, message, MessageKind.CLARIFICATION, tuple(case.lines), by), asked)
    desk.work.enqueue(SEND, message)
    return message


def _check_pause(desk: Desk, case: Case) -> None:
    if not pause_in_time(desk, case, desk.clock.now()):
        raise errors.PauseTooLate("the question comes too long after receipt to stop the clock")


def prove_identity(
    desk: Desk, case_id: CaseId, proof: Proof, by: Actor
) -> Mapping[LineId, identity.Enough | identity.Lacking]:
    """Add a proof; the case is verified once every line has enough. Return the verdict of each line."""
    case = desk.cases.get(case_id)
    case = write(desk, case, e.IdentityProved(at=desk.clock.now(), by=by.handle, proof=proof))
    if case.state is State.PAUSED:
        case = write(desk, case, e.Resumed(at=desk.clock.now(), by=by.handle, answered_at=desk.clock.now()))
    bind_limits(desk, case, by)
    case = verified_if_enough(desk, case, by.handle)
    return {line.id: identity_of(desk, case, line) for line in case.lines.values()}


def resume(desk: Desk, case_id: CaseId, *, answered_at: datetime, by: Actor) -> None:
    """Let the clock run again: the answer was received at `answered_at` (dsar rule 19)."""
    case = desk.cases.get(case_id)
    now = desk.clock.now()
    asked = [pause.asked_at for pause in case.pauses if pause.answered_at is None]
    if answered_at > now or any(answered_at < one for one in asked):
        raise errors.MalformedIntake("answered_at: not between the question and now")
    write(desk, case, e.Resumed(at=now, by=by.handle, answered_at=answered_at))


def extend(desk: Desk, case_id: CaseId, reason: clock.ExtensionReason, months: int, by: Actor) -> MessageId:
    """Announce an extension of 1 or 2 months, once; effective when its notice leaves within month one (rules 15-17).

    Raises ExtensionTooLate, ExtensionUsed.
    """
    case = desk.cases.get(case_id)
    if not 1 <= months <= clock.LONGEST_EXTENSION:
        raise errors.MalformedIntake("an extension has 1 or 2 months")
    if case.extension is not None or case.final:
        raise errors.ExtensionUsed("an extension is given once, while the case is open")
    if is_late(desk, case):
        raise errors.ExtensionTooLate("the first month is over")
    message = MessageId(desk.ids.new("msg"))
    announced = e.ExtensionAnnounced(at=desk.clock.now(), by=by.handle, reason=reason, months=months, message=message)
    write(desk, case, prepared(desk, message, MessageKind.EXTENSION_NOTICE, tuple(case.lines), by), announced)
    desk.work.enqueue(SEND, message)
    return message

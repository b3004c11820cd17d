"""Replies, their dispatch and what follows from it, and the end of a case (dsar rules 4, 16, 19, 60)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dsar import clock, errors
from dsar import events as e
from dsar.case import MOVES, REPLIES, Case, Line, Message, Move, State, ending, pending, unanswered
from dsar.ports import Desk
from dsar.rights import RIGHTS
from dsar.usecases.fetching import check_copies
from dsar.usecases.limiting import settle_limits
from dsar.usecases.revoking import NEVER_FETCHABLE
from dsar.usecases.writing import controller_of, dates_of, line_of, pause_in_time, prepare, write
from dsar.vocabulary import DONE_FIRST, REFUSALS, SYSTEM, Actor, CaseId, LineId, MessageId, MessageKind


def prepare_reply(desk: Desk, case_id: CaseId, lines: Sequence[LineId], by: Actor = SYSTEM) -> MessageId:
    """Prepare the reply to decided lines; a letter of refusal when one refuses something (dsar rules 57, 60).

    Raises NotAnswered when a line is undecided, ErasurePartial when what it grants is not carried out yet (rule 53),
    PackageIncomplete when a copy it grants is gone (rule 3).
    """
    case = desk.cases.get(case_id)
    if case.state is not State.DISPATCHING or not lines:
        raise errors.MoveRefused(case.state, "be replied to")
    for line in lines:
        _check_repliable(line_of(case, line))
    check_copies(desk, case, lines)
    refusing = any(line_of(case, line).outcome in REFUSALS for line in lines)
    return prepare(desk, case, MessageKind.REFUSAL if refusing else MessageKind.REPLY, tuple(lines), by)


def _check_repliable(line: Line) -> None:
    if line.outcome is None:
        raise errors.NotAnswered("a line is undecided")
    if RIGHTS[line.right].carries_out and line.outcome in DONE_FIRST and line.carried_out is None:
        raise errors.ErasurePartial((line.id,))


def dispatch_message(
    desk: Desk, message_id: MessageId, *, channel: str, proof: str, at: datetime | None = None
) -> None:
    """Note that a message left, with its proof, and what follows from that (dsar rules 4, 16, 19, 60).

    `proof` is opaque: a provider's id, a registered number, a portal posting. Twice changes nothing.
    """
    case = desk.cases.get(desk.cases.case_of_message(message_id))
    if case.messages[message_id].dispatched_at is not None:
        return
    if not proof:
        raise errors.MalformedIntake("a dispatch needs its proof")
    when = at or desk.clock.now()
    sent = e.MessageDispatched(at=when, by=SYSTEM.handle, message=message_id, channel=channel, proof=proof)
    case = write(desk, case, sent)
    if case.messages[message_id].kind in REPLIES:
        settle_limits(desk, case, case.messages[message_id], when)
        _deliver(desk, case, case.messages[message_id], when)
    for event in _consequences(desk, case, message_id, when):
        case = write(desk, case, event)


def overtaken(case: Case, message: MessageId) -> bool:
    """Say whether an acknowledgement comes too late to be one: the reply itself tells the person (dsar rule 4)."""
    told = case.messages[message].kind
    return told is MessageKind.ACKNOWLEDGEMENT and (case.state, Move.ACKNOWLEDGE) not in MOVES


def hindrance(desk: Desk, case: Case, message: MessageId) -> str | None:
    """Return why a message may not leave by itself (a code): it would bring a copy that is gone (dsar rule 3)."""
    try:
        if case.messages[message].kind in REPLIES:
            check_copies(desk, case, case.messages[message].lines)
    except errors.PackageIncomplete:
        return NEVER_FETCHABLE
    return None


def _deliver(desk: Desk, case: Case, message: Message, when: datetime) -> None:
    """The life of a copy counts from its reply (dsar rule 58); what had run out is gone, and stays so."""
    until, now = when + timedelta(days=desk.practice.package_days), desk.clock.now()
    for package, line in case.packages.items():
        if line in message.lines and now < desk.cases.package(package).expires_at:
            desk.cases.prolong_package(package, until)


def _consequences(desk: Desk, case: Case, message_id: MessageId, when: datetime) -> tuple[e.Event, ...]:
    message, by = case.messages[message_id], SYSTEM.handle
    if message.kind is MessageKind.ACKNOWLEDGEMENT and case.acknowledged_at is None and not overtaken(case, message_id):
        return (e.Acknowledged(at=when, by=by, message=message_id),)
    if case.extension is not None and case.extension.message == message_id:
        return (_extension_event(desk, case, when),)
    if message_id in case.pausing and case.state in (State.IDENTITY_PENDING, State.VERIFIED):
        return _pause_event(desk, case, message_id, when)
    if case.state is State.DISPATCHING and not unanswered(case):
        return (e.Dispatched(at=when, by=by),)
    return ()


def _extension_event(desk: Desk, case: Case, when: datetime) -> e.Event:
    """Effective only when the notice left within month one (dsar rule 16)."""
    extension = case.extension
    if extension is None:
        raise errors.ExtensionUsed("no extension was announced")
    today = clock.local_day(when, controller_of(desk, case).time_zone)
    if today > dates_of(desk, case).month_one:
        return e.ExtensionLapsed(at=when, by=SYSTEM.handle, message=extension.message)
    return e.ExtensionEffective(at=when, by=SYSTEM.handle, months=extension.months)


def _pause_event(desk: Desk, case: Case, message_id: MessageId, when: datetime) -> tuple[e.Event, ...]:
    """The clock stands from dispatch, if the question left soon enough (dsar rule 19)."""
    if not pause_in_time(desk, case, when):
        return ()
    asking = case.messages[message_id].kind is MessageKind.CLARIFICATION
    cause = clock.PauseCause.CLARIFICATION if asking else clock.PauseCause.IDENTITY_DOUBT
    return (e.Paused(at=when, by=SYSTEM.handle, cause=cause, message=message_id),)


def bounce_message(desk: Desk, message_id: MessageId, by: Actor = SYSTEM) -> None:
    """Note that a message came back: what it answered is open again (design page, section 8)."""
    case = desk.cases.get(desk.cases.case_of_message(message_id))
    message = case.messages[message_id]
    if message.bounced or message.dispatched_at is None:
        return
    now = desk.clock.now()
    case = write(desk, case, e.MessageBounced(at=now, by=by.handle, message=message_id))
    delivered = case.final or case.state in (State.DISPATCHED, State.RECIPIENTS_NOTIFIED)
    if delivered and unanswered(case):
        write(desk, case, e.DeliveryReopened(at=now, by=by.handle))


def close(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> e.Ending:
    """End a case whose lines are all answered and whose recipients are all told (dsar rules 56, 60).

    Raises NotAnswered, RecipientsPending. Closing twice changes nothing.
    """
    case = desk.cases.get(case_id)
    if case.final:
        return e.Ending(case.state.value)
    if unanswered(case):
        raise errors.NotAnswered("a line has no dispatched reply")
    if pending(case):
        raise errors.RecipientsPending(f"{len(pending(case))} recipients to be told")
    now = desk.clock.now()
    if case.state is State.DISPATCHED:
        case = write(desk, case, e.RecipientsNotified(at=now, by=by.handle))
    write(desk, case, e.Closed(at=now, by=by.handle, ending=ending(case)))
    return ending(case)

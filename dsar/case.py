"""A case as the fold of its events, and the one literal table of its states and moves (dsar rules, section 6).

The law of the table (dsar rule 60): no final state is reached except through DISPATCHED, and DISPATCHED is entered only
when every line has a reply that left with proof. "Extended" and "overdue" are facts of the clock, not states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import reduce
from typing import TypeVar, cast

from consent.vocabulary import ComponentId, ControllerId, Locale, SubjectRef
from dsar import events as e
from dsar.clock import Pause
from dsar.errors import MoveRefused, NotAnswered, RecipientsPending
from dsar.proofs.shape import Proof
from dsar.vocabulary import (
    CaseId,
    CaseKind,
    Channel,
    Ground,
    HolderStatus,
    LineId,
    MessageId,
    MessageKind,
    Outcome,
    PackageId,
    RecipientOutcome,
    Right,
    TaskId,
)


class State(StrEnum):
    """Where a case stands."""

    RECEIVED = "received"
    ACKNOWLEDGED = "acknowledged"
    IDENTITY_PENDING = "identity_pending"
    PAUSED = "paused"
    VERIFIED = "verified"
    CLARIFYING = "clarifying"
    """Paused over a very broad request, identity settled."""
    SEARCHING = "searching"
    REVIEW = "review"
    APPROVAL = "approval"
    DISPATCHING = "dispatching"
    """Decided: being carried out and sent."""
    DISPATCHED = "dispatched"
    RECIPIENTS_NOTIFIED = "recipients_notified"
    CLOSED = "closed"
    REFUSED = "refused"
    NO_DATA = "no_data"
    WITHDRAWN_BY_SUBJECT = "withdrawn_by_subject"
    CANNOT_IDENTIFY = "cannot_identify"


FINAL = frozenset(State(ending.value) for ending in e.Ending)
BEFORE_LETTER = (
    State.RECEIVED,
    State.ACKNOWLEDGED,
    State.IDENTITY_PENDING,
    State.PAUSED,
    State.VERIFIED,
    State.CLARIFYING,
    State.SEARCHING,
    State.REVIEW,
    State.APPROVAL,
)


class Move(StrEnum):
    """What takes a case from one state to another."""

    ACKNOWLEDGE = "acknowledge"
    ASK_IDENTITY = "ask_identity"
    PAUSE_IDENTITY = "pause_identity"
    PAUSE_CLARIFYING = "pause_clarifying"
    RESUME = "resume"
    VERIFY = "verify"
    SEARCH = "search"
    REVIEW = "review"
    SUBMIT = "submit"
    APPROVE = "approve"
    RETURN = "return"
    STOP = "stop"
    DISPATCH = "dispatch"
    TELL_RECIPIENTS = "tell_recipients"
    REOPEN_DELIVERY = "reopen_delivery"
    REOPEN = "reopen"
    CLOSE = "close"
    CLOSE_REFUSED = "close_refused"
    CLOSE_NO_DATA = "close_no_data"
    CLOSE_WITHDRAWN = "close_withdrawn"
    CLOSE_UNIDENTIFIED = "close_unidentified"


MOVES: Mapping[tuple[State, Move], State] = {
    (State.RECEIVED, Move.ACKNOWLEDGE): State.ACKNOWLEDGED,
    (State.ACKNOWLEDGED, Move.ACKNOWLEDGE): State.ACKNOWLEDGED,
    (State.IDENTITY_PENDING, Move.ACKNOWLEDGE): State.IDENTITY_PENDING,
    (State.PAUSED, Move.ACKNOWLEDGE): State.PAUSED,
    (State.VERIFIED, Move.ACKNOWLEDGE): State.VERIFIED,
    (State.CLARIFYING, Move.ACKNOWLEDGE): State.CLARIFYING,
    (State.SEARCHING, Move.ACKNOWLEDGE): State.SEARCHING,
    (State.REVIEW, Move.ACKNOWLEDGE): State.REVIEW,
    (State.APPROVAL, Move.ACKNOWLEDGE): State.APPROVAL,
    (State.RECEIVED, Move.ASK_IDENTITY): State.IDENTITY_PENDING,
    (State.ACKNOWLEDGED, Move.ASK_IDENTITY): State.IDENTITY_PENDING,
    (State.IDENTITY_PENDING, Move.ASK_IDENTITY): State.IDENTITY_PENDING,
    (State.IDENTITY_PENDING, Move.PAUSE_IDENTITY): State.PAUSED,
    (State.PAUSED, Move.RESUME): State.IDENTITY_PENDING,
    (State.RECEIVED, Move.VERIFY): State.VERIFIED,
    (State.ACKNOWLEDGED, Move.VERIFY): State.VERIFIED,
    (State.IDENTITY_PENDING, Move.VERIFY): State.VERIFIED,
    (State.VERIFIED, Move.PAUSE_CLARIFYING): State.CLARIFYING,
    (State.CLARIFYING, Move.RESUME): State.VERIFIED,
    (State.VERIFIED, Move.SEARCH): State.SEARCHING,
    (State.VERIFIED, Move.REVIEW): State.REVIEW,
    (State.SEARCHING, Move.REVIEW): State.REVIEW,
    (State.REVIEW, Move.SEARCH): State.SEARCHING,
    (State.REVIEW, Move.SUBMIT): State.APPROVAL,
    (State.APPROVAL, Move.RETURN): State.REVIEW,
    (State.APPROVAL, Move.APPROVE): State.DISPATCHING,
    **{(state, Move.STOP): State.DISPATCHING for state in BEFORE_LETTER},
    (State.DISPATCHING, Move.DISPATCH): State.DISPATCHED,
    (State.DISPATCHED, Move.TELL_RECIPIENTS): State.RECIPIENTS_NOTIFIED,
    (State.DISPATCHED, Move.REOPEN_DELIVERY): State.DISPATCHING,
    (State.RECIPIENTS_NOTIFIED, Move.REOPEN_DELIVERY): State.DISPATCHING,
    (State.RECIPIENTS_NOTIFIED, Move.CLOSE): State.CLOSED,
    (State.RECIPIENTS_NOTIFIED, Move.CLOSE_REFUSED): State.REFUSED,
    (State.RECIPIENTS_NOTIFIED, Move.CLOSE_NO_DATA): State.NO_DATA,
    (State.RECIPIENTS_NOTIFIED, Move.CLOSE_WITHDRAWN): State.WITHDRAWN_BY_SUBJECT,
    (State.RECIPIENTS_NOTIFIED, Move.CLOSE_UNIDENTIFIED): State.CANNOT_IDENTIFY,
    **{(state, Move.REOPEN_DELIVERY): State.DISPATCHING for state in FINAL},
    (State.CANNOT_IDENTIFY, Move.REOPEN): State.ACKNOWLEDGED,
}
CLOSING: Mapping[e.Ending, Move] = {
    e.Ending.CLOSED: Move.CLOSE,
    e.Ending.REFUSED: Move.CLOSE_REFUSED,
    e.Ending.NO_DATA: Move.CLOSE_NO_DATA,
    e.Ending.WITHDRAWN_BY_SUBJECT: Move.CLOSE_WITHDRAWN,
    e.Ending.CANNOT_IDENTIFY: Move.CLOSE_UNIDENTIFIED,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One right asked for."""

    id: LineId
    right: Right
    outcome: Outcome | None = None
    grounds: tuple[Ground, ...] = ()
    started: bool = False
    carried_out: str | None = None
    """The evidence that it is done."""
    late_refusal: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One message to the person."""

    id: MessageId
    kind: MessageKind
    lines: tuple[LineId, ...]
    dispatched_at: datetime | None = None
    bounced: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """An announced extension."""

    months: int
    message: MessageId
    effective: bool | None = None
    """None until its notice has gone out; False when it went out too late."""


@dataclass(frozen=True, slots=True)
class Case:
    """One message from a person: one clock, one line per right."""

    id: CaseId
    controller: ControllerId
    subject: SubjectRef | None
    kind: CaseKind
    channel: Channel
    received_at: datetime
    recorded_at: datetime
    locale: Locale
    contact_changed_at: datetime | None
    lines: Mapping[LineId, Line]
    state: State = State.RECEIVED
    proofs: tuple[Proof, ...] = ()
    pauses: tuple[Pause, ...] = ()
    extension: Extension | None = None
    messages: Mapping[MessageId, Message] = field(default_factory=dict)
    pausing: frozenset[MessageId] = frozenset()
    """Questions that stop the clock once dispatched."""
    holders: tuple[ComponentId, ...] = ()
    answers: Mapping[TaskId, HolderStatus] = field(default_factory=dict)
    packages: Mapping[PackageId, LineId] = field(default_factory=dict)
    """Sealed and alive."""
    fetched: frozenset[PackageId] = frozenset()
    """Packages the person has downloaded."""
    recipients: Mapping[TaskId, RecipientOutcome] = field(default_factory=dict)
    left: str | None = None
    """Why a person has to act next (a code); None while the case goes by itself."""
    acknowledged_at: datetime | None = None
    version: int = 1
    """How many events it has; for optimistic writing."""

    @property
    def extension_months(self) -> int:
        """Return the months an effective extension adds, else 0 (dsar rule 16)."""
        return self.extension.months if self.extension is not None and self.extension.effective else 0

    @property
    def final(self) -> bool:
        """Say whether the case has ended."""
        return self.state in FINAL


def answered(case: Case, line: LineId) -> bool:
    """Say whether a reply to this line has left and did not come back (dsar rule 60)."""
    return any(
        line in message.lines and message.dispatched_at is not None and not message.bounced
        for message in case.messages.values()
        if message.kind in REPLIES
    )


RETURNED = "returned"
"""Why a case waits for staff after its approver sent it back."""
ERASURE_HELD = "erasure_held"
"""Why a case waits for staff while very many people are being erased: two of them have to agree."""
REPLIES = frozenset({MessageKind.REPLY, MessageKind.REFUSAL, MessageKind.END_NOTICE})


def unanswered(case: Case) -> tuple[LineId, ...]:
    """Return the lines that still owe a reply."""
    return tuple(line for line in case.lines if not answered(case, line))


def pending(case: Case) -> tuple[TaskId, ...]:
    """Return the art. 19 notices that are not settled: `sent` still waits for its acknowledgement (dsar rule 56)."""
    waiting = (RecipientOutcome.PENDING, RecipientOutcome.SENT)
    return tuple(task for task, outcome in case.recipients.items() if outcome in waiting)


def ending(case: Case) -> e.Ending:
    """Return how a case whose lines are all decided ends: the outcome they share, else plainly closed."""
    outcomes = {line.outcome for line in case.lines.values()}
    shared: Mapping[Outcome | None, e.Ending] = {
        Outcome.REFUSED: e.Ending.REFUSED,
        Outcome.NO_DATA: e.Ending.NO_DATA,
        Outcome.WITHDRAWN_BY_SUBJECT: e.Ending.WITHDRAWN_BY_SUBJECT,
        Outcome.CANNOT_IDENTIFY: e.Ending.CANNOT_IDENTIFY,
    }
    return shared.get(outcomes.pop(), e.Ending.CLOSED) if len(outcomes) == 1 else e.Ending.CLOSED


def fold(history: Iterable[e.Event]) -> Case:
    """Return the case its events make. Raises MoveRefused, NotAnswered, RecipientsPending for an impossible history."""
    first, *rest = history
    if not isinstance(first, e.CaseReceived):
        raise MoveRefused("none", e.kind_of(first))
    return reduce(apply, rest, _received(first))


def _received(event: e.CaseReceived) -> Case:
    return Case(
        id=event.case,
        controller=event.controller,
        subject=event.subject,
        kind=event.kind,
        channel=event.channel,
        received_at=event.received_at,
        recorded_at=event.at,
        locale=event.locale,
        contact_changed_at=event.contact_changed_at,
        lines={asked.line: Line(asked.line, asked.right) for asked in event.lines},
    )


def apply(case: Case, event: e.Event) -> Case:
    """Return the case after `event`. Raises MoveRefused when the table has no such move."""
    handler = HANDLERS.get(type(event))
    if handler is None:
        raise MoveRefused(case.state, e.kind_of(event))
    return replace(handler(case, event), version=case.version + 1)


def moved(case: Case, move: Move) -> Case:
    """Return the case in the state the table gives."""
    after = MOVES.get((case.state, move))
    if after is None:
        raise MoveRefused(case.state, move)
    return replace(case, state=after, left=None)


def _line(case: Case, line: LineId, change: Callable[[Line], Line]) -> Case:
    if line not in case.lines:
        raise MoveRefused(case.state, "touch a line it does not have")
    return replace(case, lines={**case.lines, line: change(case.lines[line])})


def _message(case: Case, message: MessageId, change: Callable[[Message], Message]) -> Case:
    if message not in case.messages:
        raise MoveRefused(case.state, "touch a message it does not have")
    return replace(case, messages={**case.messages, message: change(case.messages[message])})


def _message_prepared(case: Case, event: e.MessagePrepared) -> Case:
    prepared = Message(event.message, event.kind, event.lines)
    return replace(case, messages={**case.messages, event.message: prepared})


def _message_dispatched(case: Case, event: e.MessageDispatched) -> Case:
    return _message(case, event.message, lambda one: replace(one, dispatched_at=event.at))


def _message_bounced(case: Case, event: e.MessageBounced) -> Case:
    return _message(case, event.message, lambda one: replace(one, bounced=True))


def _acknowledged(case: Case, event: e.Acknowledged) -> Case:
    return replace(moved(case, Move.ACKNOWLEDGE), acknowledged_at=event.at)


def _identity_asked(case: Case, event: e.IdentityAsked) -> Case:
    pausing = case.pausing | {event.message} if event.pausing else case.pausing
    return replace(moved(case, Move.ASK_IDENTITY), pausing=pausing)


def _clarification_asked(case: Case, event: e.ClarificationAsked) -> Case:
    return replace(case, pausing=case.pausing | {event.message})


def _identity_proved(case: Case, event: e.IdentityProved) -> Case:
    return replace(case, proofs=(*case.proofs, event.proof))


def _paused(case: Case, event: e.Paused) -> Case:
    verified = case.state is State.VERIFIED
    after = moved(case, Move.PAUSE_CLARIFYING if verified else Move.PAUSE_IDENTITY)
    return replace(after, pauses=(*case.pauses, Pause(event.cause, event.at, None)))


def _resumed(case: Case, event: e.Resumed) -> Case:
    return replace(moved(case, Move.RESUME), pauses=_shut(case.pauses, event.answered_at))


def _shut(pauses: tuple[Pause, ...], at: datetime) -> tuple[Pause, ...]:
    return tuple(replace(one, answered_at=at) if one.answered_at is None else one for one in pauses)


def _extension_announced(case: Case, event: e.ExtensionAnnounced) -> Case:
    return replace(case, extension=Extension(event.months, event.message))


def _extended(case: Case, _event: e.ExtensionEffective) -> Case:
    return replace(case, extension=replace(_known(case.extension, case), effective=True))


def _extension_lapsed(case: Case, _event: e.ExtensionLapsed) -> Case:
    return replace(case, extension=replace(_known(case.extension, case), effective=False))


def _known(extension: Extension | None, case: Case) -> Extension:
    if extension is None:
        raise MoveRefused(case.state, "extend without announcing it")
    return extension


def _search_started(case: Case, event: e.SearchStarted) -> Case:
    return replace(moved(case, Move.SEARCH), holders=event.holders)


def _holder_answered(case: Case, event: e.HolderAnswered) -> Case:
    return replace(case, answers={**case.answers, event.task: event.status})


def _package_sealed(case: Case, event: e.PackageSealed) -> Case:
    return replace(case, packages={**case.packages, event.package: event.line})


def _package_revoked(case: Case, event: e.PackageRevoked) -> Case:
    return replace(case, packages={key: line for key, line in case.packages.items() if key != event.package})


def _copy_fetched(case: Case, event: e.CopyFetched) -> Case:
    return replace(case, fetched=case.fetched | {event.package})


def _left_to_staff(case: Case, event: e.LeftToStaff) -> Case:
    if case.final:
        raise MoveRefused(case.state, "wait for anybody")
    return replace(case, left=event.reason)


def _returned(case: Case, _event: e.Returned) -> Case:
    """What an approver sends back is for people to look at: decided by rote again it would only come back."""
    return replace(moved(case, Move.RETURN), left=RETURNED)


def _line_decided(case: Case, event: e.LineDecided) -> Case:
    return _line(
        case,
        event.line,
        lambda one: replace(one, outcome=event.outcome, grounds=event.grounds, late_refusal=event.late_refusal),
    )


def _submitted(case: Case, _event: e.Submitted) -> Case:
    _all_decided(case)
    return moved(case, Move.SUBMIT)


def _stopped(case: Case, event: e.Stopped) -> Case:
    _all_decided(case)
    return replace(moved(case, Move.STOP), pauses=_shut(case.pauses, event.at))


def _all_decided(case: Case) -> None:
    if any(line.outcome is None for line in case.lines.values()):
        raise NotAnswered("a line is undecided")


def _erasure_started(case: Case, event: e.ErasureStarted) -> Case:
    return _line(case, event.line, lambda one: replace(one, started=True))


def _carried_out(case: Case, event: e.CarriedOut) -> Case:
    done = _line(case, event.line, lambda one: replace(one, carried_out=event.evidence))
    # what two colleagues had to agree to is done: they did
    return replace(done, left=None) if done.left == ERASURE_HELD else done


def _recipient_named(case: Case, event: e.RecipientNamed) -> Case:
    return replace(case, recipients={**case.recipients, event.task: RecipientOutcome.PENDING})


def _recipient_answered(case: Case, event: e.RecipientAnswered) -> Case:
    return replace(case, recipients={**case.recipients, event.task: event.outcome})


def _dispatched(case: Case, _event: e.Dispatched) -> Case:
    if unanswered(case):
        raise NotAnswered("a line has no dispatched reply")  # dsar rule 60
    return moved(case, Move.DISPATCH)


def _recipients_notified(case: Case, _event: e.RecipientsNotified) -> Case:
    if pending(case):
        raise RecipientsPending("a recipient has not been told")  # dsar rule 56
    return moved(case, Move.TELL_RECIPIENTS)


def _closed(case: Case, event: e.Closed) -> Case:
    if unanswered(case) or pending(case) or event.ending is not ending(case):
        raise NotAnswered("this is not how the lines ended")
    return moved(case, CLOSING[event.ending])


def _reopened(case: Case, event: e.Reopened) -> Case:
    after = moved(case, Move.REOPEN)
    again = {line: Line(line, case.lines[line].right) for line in event.lines}
    spent = {
        key: replace(one, lines=tuple(line for line in one.lines if line not in again))
        for key, one in case.messages.items()
    }
    return replace(after, lines={**case.lines, **again}, messages=spent)


E_ = TypeVar("E_", bound=e.Event)
Handler = Callable[[Case, e.Event], Case]


def _handler(shape: type[E_], change: Callable[[Case, E_], Case]) -> tuple[type[e.Event], Handler]:
    return shape, cast("Handler", change)


def _moving(shape: type[e.Event], move: Move) -> tuple[type[e.Event], Handler]:
    return shape, lambda case, _event: moved(case, move)


HANDLERS: Mapping[type[e.Event], Handler] = dict(
    (
        _handler(e.ReminderLinked, lambda case, _event: case),
        _handler(e.MessagePrepared, _message_prepared),
        _handler(e.MessageDispatched, _message_dispatched),
        _handler(e.MessageBounced, _message_bounced),
        _handler(e.Acknowledged, _acknowledged),
        _handler(e.IdentityAsked, _identity_asked),
        _handler(e.ClarificationAsked, _clarification_asked),
        _handler(e.IdentityProved, _identity_proved),
        _moving(e.IdentityVerified, Move.VERIFY),
        _handler(e.Paused, _paused),
        _handler(e.Resumed, _resumed),
        _handler(e.ExtensionAnnounced, _extension_announced),
        _handler(e.ExtensionEffective, _extended),
        _handler(e.ExtensionLapsed, _extension_lapsed),
        _handler(e.SearchStarted, _search_started),
        _handler(e.HolderAnswered, _holder_answered),
        _moving(e.SearchCompleted, Move.REVIEW),
        _moving(e.ReviewStarted, Move.REVIEW),
        _handler(e.PackageSealed, _package_sealed),
        _handler(e.PackageRevoked, _package_revoked),
        _handler(e.CopyFetched, _copy_fetched),
        _handler(e.LeftToStaff, _left_to_staff),
        _handler(e.LineDecided, _line_decided),
        _handler(e.Submitted, _submitted),
        _moving(e.Approved, Move.APPROVE),
        _handler(e.Returned, _returned),
        _handler(e.Stopped, _stopped),
        _handler(e.ErasureStarted, _erasure_started),
        _handler(e.VerificationStarted, lambda case, _event: case),
        _handler(e.CarriedOut, _carried_out),
        _handler(e.RecipientNamed, _recipient_named),
        _handler(e.RecipientAnswered, _recipient_answered),
        _handler(e.Dispatched, _dispatched),
        _handler(e.RecipientsNotified, _recipients_notified),
        _moving(e.DeliveryReopened, Move.REOPEN_DELIVERY),
        _handler(e.Closed, _closed),
        _handler(e.Reopened, _reopened),
    )
)

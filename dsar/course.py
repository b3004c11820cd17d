"""What a case does next by itself: one step at a time, decided from the case alone, so that any worker may take it.

Rules 3, 4, 5, 40, 53, 56 and 60 in the order they bind. A robot grants, and keeps what a text obliges to keep; it never
refuses, weighs or corrects: those steps are left to people, and so is everything an approver sent back. Leaves out
effects (`app.workflows.proceeding`) and the law of each move (`dsar.usecases`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from dsar.case import REPLIES, Case, Line, State, answered, pending
from dsar.practice import Practice
from dsar.rights import RIGHTS
from dsar.vocabulary import DONE_FIRST, HolderStatus, LineId, MessageKind, Outcome, Right, TaskId

SEARCHING = frozenset({Right.ACCESS, Right.PORTABILITY, Right.ERASURE})
"""Rights for which every holder is asked."""
AT_ONCE = frozenset({Right.WITHDRAWAL, Right.MARKETING_OBJECTION})
"""Rights that cannot be refused: there is nothing to weigh (dsar rules 7, 8)."""
BY_ITSELF = SEARCHING | AT_ONCE
"""Rights a robot may grant: what is given, and what goes, follows from the pack."""
STOPPING = AT_ONCE | {Right.RESTRICTION, Right.OBJECTION}
"""Rights that are carried out by what the decision meets from then on, with no work elsewhere."""
_GIVEN = (Outcome.GRANTED, Outcome.PARTLY_GRANTED)
_SEARCHED = (State.REVIEW, State.APPROVAL, State.DISPATCHING, State.DISPATCHED, State.RECIPIENTS_NOTIFIED)
"""States in which holders are not searched any more, or not for this case."""
_UNHEARD = timedelta(days=1)
"""Without a sign of life for so long, a holder that owes an answer is silent: holders pull every few minutes."""
_UNANSWERED = timedelta(days=5)
"""And after so long one that is alive: half of the ten working days an answer should take (dsar rule 22)."""
_SHORTEST_WAIT = timedelta(days=1)


class Turn(StrEnum):
    """One step of a case."""

    ACKNOWLEDGE = "acknowledge"
    SEARCH = "search"
    REVIEW = "review"
    SEAL = "seal"
    DECIDE = "decide"
    SUBMIT = "submit"
    REPLY = "reply"
    ERASE = "erase"
    SETTLE = "settle"
    """Note what a holder's own answer has settled of the art. 19 notices."""
    STOP = "stop"
    """Carry out a line that stops something."""
    VERIFY = "verify"
    """Have every holder search again after an erasure."""
    CARRY_OUT = "carry_out"
    CLOSE = "close"
    STAFF = "staff"
    """A person has to act; said once."""
    WAIT = "wait"


class Progress(StrEnum):
    """How far an erasure is that was begun and whose line is not carried out yet."""

    RUNNING = "running"
    CONFIRMED = "confirmed"
    """Certified, and every holder has confirmed: to be searched again (dsar rule 53)."""
    SEARCHED = "searched"
    """Every holder was searched again and has nothing but what is retained."""


@dataclass(frozen=True, slots=True)
class Next:
    """The next step, the lines it is about, and until when to wait if that is all there is to do."""

    turn: Turn
    lines: tuple[LineId, ...] = ()
    until: datetime | None = None
    reason: str | None = None
    """With STAFF: a stable code."""


_WAIT = Next(Turn.WAIT)


@dataclass(frozen=True, slots=True)
class Asked:
    """A holder that has not answered the search of a case."""

    at: datetime
    """When it was asked."""
    suspended: bool
    heard: datetime | None
    """When it was last heard of, about whatever; None for never."""


def held_up(unanswered: Iterable[Asked], now: datetime) -> str | None:
    """Return why staff have to see to a holder before a search can end (a code); None while there is only to wait.

    A package never goes without a registered holder (dsar rule 40), so a suspended one keeps the case open, in sight.
    """
    waiting = tuple(unanswered)
    if any(one.suspended for one in waiting):
        return "holder_suspended"
    return "holder_silent" if any(_silent(one, now) for one in waiting) else None


def _silent(one: Asked, now: datetime) -> bool:
    heard = max(one.at, one.heard) if one.heard is not None else one.at
    return now - heard > _UNHEARD or now - one.at > _UNANSWERED


@dataclass(frozen=True, slots=True)
class Facts:
    """What the next step depends on beside the case."""

    now: datetime
    erase_from: datetime | None = None
    """When an erasure stops waiting for the copy (`erasure_from`)."""
    settled: Sequence[TaskId] = ()
    """Recipients not settled yet whose holders have confirmed."""
    erasures: Mapping[LineId, Progress] = field(default_factory=dict)
    copies_elsewhere: bool = False
    """Whether another case of the person owes a copy that an erasure would destroy."""
    held_up: str | None = None
    """Why a search cannot end without staff (`held_up`)."""


def next_step(case: Case, facts: Facts) -> Next:
    """Return what the case does next by itself."""
    if case.final or case.left is not None:
        return _WAIT
    unheard = not any(one.kind is MessageKind.ACKNOWLEDGEMENT for one in case.messages.values())
    if unheard and _acknowledgeable(case):
        return Next(Turn.ACKNOWLEDGE, tuple(case.lines))
    if facts.settled:
        return Next(Turn.SETTLE)
    if case.state is State.DISPATCHING:
        return _dispatching(case, facts)
    if case.state is State.SEARCHING and facts.held_up is not None:
        return Next(Turn.STAFF, reason=facts.held_up)
    step = _NEXT.get(case.state)
    return step(case) if step is not None else _WAIT


def _acknowledgeable(case: Case) -> bool:
    """Before anything is decided: afterwards the reply itself tells the person (dsar rule 4)."""
    return case.state not in (State.APPROVAL, State.DISPATCHING, State.DISPATCHED, State.RECIPIENTS_NOTIFIED)


def _acknowledged(_case: Case) -> Next:
    """Told that it came, and not proved enough: only a person may ask who it is (dsar rules 24, 60)."""
    return Next(Turn.STAFF, reason="proof_needed")


def _verified(case: Case) -> Next:
    searched = any(line.right in SEARCHING for line in case.lines.values())
    return Next(Turn.SEARCH if searched else Turn.REVIEW)


def _reviewed(case: Case) -> Next:
    """Copies are sealed before an erasure is decided (dsar rule 3); what people decide is left to them."""
    open_lines = [line for line in case.lines.values() if line.outcome is None]
    mine = [line for line in open_lines if line.right in BY_ITSELF and not RIGHTS[line.right].human_only]
    copies = [line for line in mine if RIGHTS[line.right].seals_package]
    unsealed = [line.id for line in copies if line.id not in case.packages.values()]
    if unsealed and not _nothing_held(case):
        return Next(Turn.SEAL, (unsealed[0],))
    if copies:
        return Next(Turn.DECIDE, (copies[0].id,))
    if mine and _copies_settled(case):
        return Next(Turn.DECIDE, (mine[0].id,))
    if open_lines:
        return Next(Turn.STAFF, reason="decision_needed")
    # An acknowledgement cannot follow the decision: the letter waits for it (dsar rule 4).
    return Next(Turn.SUBMIT) if case.acknowledged_at is not None else _WAIT


def _dispatched(case: Case) -> Next:
    return _WAIT if pending(case) else Next(Turn.CLOSE)


_NEXT: Mapping[State, Callable[[Case], Next]] = {
    State.ACKNOWLEDGED: _acknowledged,
    State.VERIFIED: _verified,
    State.REVIEW: _reviewed,
    State.DISPATCHED: _dispatched,
    State.RECIPIENTS_NOTIFIED: _dispatched,
}
"""States in which something happens by itself; beside them DISPATCHING, which also asks what time it is."""


def _nothing_held(case: Case) -> bool:
    """Every holder says so: that is an answer, and nothing to seal (dsar rule 5)."""
    return bool(case.answers) and all(status is HolderStatus.NONE for status in case.answers.values())


def _copies_settled(case: Case) -> bool:
    return all(line.outcome is not None for line in case.lines.values() if RIGHTS[line.right].seals_package)


def _dispatching(case: Case, facts: Facts) -> Next:
    silent = [line for line in case.lines.values() if not _replied(case, line.id)]
    ready = tuple(line.id for line in silent if not _owes_deed(line))
    if ready:
        return Next(Turn.REPLY, ready)
    if any(not answered(case, line) for line in _bounced(case)):
        return Next(Turn.STAFF, reason="reply_bounced")
    stopping = [line for line in silent if line.right in STOPPING and line.outcome is Outcome.GRANTED]
    if stopping:
        return Next(Turn.STOP, (stopping[0].id,))
    erasing = [line for line in silent if line.right is Right.ERASURE]
    for line in erasing:
        return _erasing(facts, line) if line.started else _before_erasure(case, line.id, facts)
    return Next(Turn.STAFF, reason="deed_needed") if silent else _WAIT


def _erasing(facts: Facts, line: Line) -> Next:
    turns = {Progress.CONFIRMED: Turn.VERIFY, Progress.SEARCHED: Turn.CARRY_OUT}
    turn = turns.get(facts.erasures.get(line.id, Progress.RUNNING))
    return Next(turn, (line.id,)) if turn is not None else _WAIT


def _owes_deed(line: Line) -> bool:
    """Say whether the reply has to wait for what it will say is done (dsar rule 53)."""
    return RIGHTS[line.right].carries_out and line.outcome in DONE_FIRST and line.carried_out is None


def _replied(case: Case, line: LineId) -> bool:
    return any(line in one.lines for one in case.messages.values() if one.kind in REPLIES)


def _bounced(case: Case) -> Iterable[LineId]:
    return (line for one in case.messages.values() if one.bounced and one.kind in REPLIES for line in one.lines)


def _before_erasure(case: Case, line: LineId, facts: Facts) -> Next:
    """Export before erase: every copy was fetched, other cases' too, or the time is over (dsar rules 3, 53)."""
    copies = given_copies(case)
    if not all(answered(case, copy) for copy in copies):
        return _WAIT
    over = facts.erase_from is not None and facts.now >= facts.erase_from
    if over or (not facts.copies_elsewhere and all(_fetched(case, copy) for copy in copies)):
        return Next(Turn.ERASE, (line,))
    return Next(Turn.WAIT, until=facts.erase_from)


def uploads_spent(case: Case) -> bool:
    """Say whether no copy will be made any more of what holders sent: every copy is sealed, or there will be none.

    What is kept longer than that is kept for nothing (GDPR art. 5(1)(e); dsar rule 59).
    """
    if case.final:
        return True
    copies = [line for line in case.lines.values() if RIGHTS[line.right].seals_package]
    settled = all(line.outcome is not None or line.id in case.packages.values() for line in copies)
    return case.state in _SEARCHED and settled


def given_copies(case: Case) -> tuple[LineId, ...]:
    """Return the lines that give the person a copy."""
    return tuple(line.id for line in case.lines.values() if RIGHTS[line.right].seals_package and line.outcome in _GIVEN)


def _fetched(case: Case, line: LineId) -> bool:
    return any(package in case.fetched for package, of in case.packages.items() if of == line)


def awaited_copies(case: Case) -> tuple[datetime | None, ...]:
    """Return, of each copy of this case that can still be fetched and was not, when its reply left; None: not yet."""
    asked = [line for line in case.lines.values() if RIGHTS[line.right].seals_package]
    hoped = [line.id for line in asked if line.outcome is None or line.outcome in _GIVEN]
    sent = {line: answered_at(case, line) for line in hoped if not _fetched(case, line)}
    alive = case.packages.values()
    return tuple(at for line, at in sent.items() if (line in alive if at is not None else not case.final))


def erasure_from(
    case: Case, practice: Practice, *, due: datetime, elsewhere: Sequence[datetime | None] = ()
) -> datetime | None:
    """Return when an erasure of this case stops waiting for copies; None when nothing is, or waits, to be fetched.

    `practice.copy_wait_days` from the reply that brought the copy, but not past `due`, the last instant of the clock,
    save that a person always has a day (dsar rules 3, 22, 53). `elsewhere`: of the copies that other cases of the
    person owe, when their replies left; one that has not left yet is waited for as long as the clock allows.
    """
    waiting = any(line.right is Right.ERASURE and line.outcome in _GIVEN for line in case.lines.values())
    sent = [answered_at(case, copy) for copy in given_copies(case)]
    if not waiting or None in sent or not (sent or elsewhere):
        return None
    known = [at for at in (*sent, *elsewhere) if at is not None]
    latest = due - _SHORTEST_WAIT
    if None not in elsewhere:
        latest = min(latest, max(known) + timedelta(days=practice.copy_wait_days))
    return max([latest, *(at + _SHORTEST_WAIT for at in known)])


def answered_at(case: Case, line: LineId) -> datetime | None:
    """Return when the reply to a line left that did not come back; None before that."""
    sent = [
        one.dispatched_at
        for one in case.messages.values()
        if one.kind in REPLIES and line in one.lines and not one.bounced and one.dispatched_at is not None
    ]
    return min(sent, default=None)

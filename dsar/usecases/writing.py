"""What every use case does: read a case, check identity, write events with ledger entries and work in one go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import cast

from consent.policy import Controller
from consent.ports import Json
from consent.vocabulary import SubjectRef
from dsar import clock, course, errors, identity
from dsar import events as e
from dsar.case import Case, Line, State, apply, fold
from dsar.ports import Desk
from dsar.vocabulary import Actor, LineId, MessageId, MessageKind, TaskKind

SEND = "case.send_message"
ASK_HOLDER = "case.ask_holder"
RUN_ERASURE = "case.run_erasure"
TELL_RECIPIENT = "case.tell_recipient"
END_RETENTION = "case.end_retention"
PROCEED = "case.proceed"
DROP_UPLOADS = "case.drop_uploads"
"""Work kinds; each carries one id: message, task, case line (`case/line`), task, retention, `case/version` twice."""


def dates_of(desk: Desk, case: Case) -> clock.Deadlines:
    """Return every date of a case, as of now (dsar rules 11-22)."""
    controller = controller_of(desk, case)
    return clock.deadlines(
        case.received_at,
        extension_months=case.extension_months,
        pauses=case.pauses,
        zone=controller.time_zone,
        calendar=desk.calendars.of(controller),
        practice=desk.practice,
        now=desk.clock.now(),
    )


def identity_of(desk: Desk, case: Case, line: Line) -> identity.Enough | identity.Lacking:
    """Say whether what was proved is enough for one line (dsar rules 26, 27)."""
    return identity.enough(
        line.right,
        identity.sensitivity(desk.policy, case.controller),
        case.proofs,
        desk.clock.now(),
        policy=desk.policy,
        practice=desk.practice,
        about=identity.Circumstances(case.kind, case.received_at, case.contact_changed_at),
    )


def identified(desk: Desk, case: Case, only: LineId | None = None) -> SubjectRef:
    """Return the subject, or raise NotIdentified for the first line whose proofs do not do (dsar rule 26)."""
    for line in case.lines.values() if only is None else (line_of(case, only),):
        verdict = identity_of(desk, case, line)
        if isinstance(verdict, identity.Lacking):
            raise errors.NotIdentified(verdict.reason, verdict.needed, verdict.has)
    if case.subject is None:
        raise errors.NotIdentified("no_subject", 1, 0)
    return case.subject


def verified_if_enough(desk: Desk, case: Case, by: str) -> Case:
    """Move on to VERIFIED once every line has enough proof."""
    open_states = (State.RECEIVED, State.ACKNOWLEDGED, State.IDENTITY_PENDING)
    verdicts = [identity_of(desk, case, line) for line in case.lines.values()]
    levels = [verdict.level for verdict in verdicts if isinstance(verdict, identity.Enough)]
    if case.subject is None or case.state not in open_states or len(levels) < len(verdicts):
        return case
    return write(desk, case, e.IdentityVerified(at=desk.clock.now(), by=by, level=int(min(levels))))


def is_late(desk: Desk, case: Case) -> bool:
    """Say whether month one is over: the limit of extension notices and of refusals (dsar rules 16, 18)."""
    zone = controller_of(desk, case).time_zone
    return clock.local_day(desk.clock.now(), zone) > dates_of(desk, case).month_one


def pause_in_time(desk: Desk, case: Case, when: datetime) -> bool:
    """Say whether a question that leaves at `when` stops the clock (dsar rule 19)."""
    controller = controller_of(desk, case)
    return clock.pause_allowed(
        case.received_at,
        when,
        zone=controller.time_zone,
        calendar=desk.calendars.of(controller),
        practice=desk.practice,
    )


def controller_of(desk: Desk, case: Case) -> Controller:
    """Return the controller of a case."""
    return desk.policy.controllers[case.controller]


def line_of(case: Case, line: LineId) -> Line:
    """Return a line of the case. Raises CaseUnknown."""
    if line not in case.lines:
        raise errors.CaseUnknown("no such line")
    return case.lines[line]


def prepared(desk: Desk, message: MessageId, kind: MessageKind, lines: tuple[LineId, ...], by: Actor) -> e.Event:
    """Return the event of a message that waits to be sent."""
    return e.MessagePrepared(at=desk.clock.now(), by=by.handle, message=message, kind=kind, lines=lines)


def prepare(desk: Desk, case: Case, kind: MessageKind, lines: tuple[LineId, ...], by: Actor) -> MessageId:
    """Prepare a message and have it sent."""
    message = MessageId(desk.ids.new("msg"))
    write(desk, case, prepared(desk, message, kind, lines, by))
    desk.work.enqueue(SEND, message)
    return message


def write(desk: Desk, case: Case | None, *events: e.Event) -> Case:
    """Apply, journal and store events together; return the case after them."""
    after = fold(events) if case is None else reduce(apply, events, case)
    entries = [(event, _journal(desk, after, event)) for event in events]
    desk.cases.write(after, before=0 if case is None else case.version, events=entries, dates=dates_of(desk, after))
    if not after.final:
        # Whatever happened may be what the case waited for: with each version somebody looks at its next step.
        desk.work.enqueue(PROCEED, f"{after.id}/{after.version}")
    if _uploads_to_drop(case, after, events):
        desk.work.enqueue(DROP_UPLOADS, f"{after.id}/{after.version}")
    return after


def _uploads_to_drop(before: Case | None, after: Case, events: Sequence[e.Event]) -> bool:
    """Say whether what holders sent became useless just now, or a late holder sent more of it (GDPR art. 5(1)(e))."""
    if not course.uploads_spent(after):
        return False
    late = any(isinstance(one, e.HolderAnswered) and one.task_kind is TaskKind.SEARCH for one in events)
    return late or before is None or not course.uploads_spent(before) or (after.final and not before.final)


def _journal(desk: Desk, case: Case, event: e.Event) -> str:
    payload = cast("Mapping[str, Json]", {"case": case.id, **e.encode(event)})
    return desk.journal.record(
        e.kind_of(event), actor=event.by, controller=case.controller, subject=case.subject, payload=payload
    )

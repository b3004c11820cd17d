"""Carrying out: erasure with its holders, recipients and retentions (GDPR arts 17, 19; dsar rules 48-56)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from consent.vocabulary import ComponentId, PartyId, SubjectRef
from dsar import clock, errors
from dsar import events as e
from dsar.case import Case, Line, State, answered
from dsar.ports import Desk, HolderTask, Instruction, RecipientTask
from dsar.ports import StoredRetention as Kept
from dsar.retention import Anonymise, Cell, Retain
from dsar.rights import RIGHTS
from dsar.usecases.fetching import check_copies, copies_elsewhere, erasure_begins
from dsar.usecases.revoking import lose_copy
from dsar.usecases.searching import ask_holder, task_fault
from dsar.usecases.writing import END_RETENTION, RUN_ERASURE, TELL_RECIPIENT, controller_of, identified, line_of, write
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    FateKind,
    LineId,
    Outcome,
    PackageId,
    RecipientOutcome,
    Right,
    TaskId,
    TaskKind,
)


def begin_erasure(
    desk: Desk,
    case_id: CaseId,
    line_id: LineId,
    *,
    cells: Sequence[Cell],
    recipients: Collection[PartyId],
    by: Actor = SYSTEM,
) -> tuple[TaskId, ...]:
    """Start an approved erasure: packages die, holders and recipients get tasks, retentions their end (rules 48-56).

    `cells` is the matrix (`dsar.retention.matrix`). Returns the holders' tasks. Beginning twice changes nothing and
    returns the same tasks. Raises MoveRefused, AccessFirst, NotIdentified, PackageIncomplete: a copy was gone when its
    reply left.
    """
    case = desk.cases.get(case_id)
    line = line_of(case, line_id)
    if line.started:
        return tuple(task.id for task in desk.cases.tasks(case_id, TaskKind.ERASE))
    _check_erasable(desk, case, line)
    subject = identified(desk, case, line_id)
    now = desk.clock.now()
    dead = [e.PackageRevoked(at=now, by=by.handle, package=key) for key in _revoke(desk, case, subject, by)]
    named = [name_recipient(desk, case, subject, line=line_id, party=party, by=by) for party in sorted(set(recipients))]
    case = write(desk, case, *dead, *named, e.ErasureStarted(at=now, by=by.handle, line=line_id))
    for cell in cells:
        _keep_until(desk, case, subject, cell)
    desk.work.enqueue(RUN_ERASURE, f"{case_id}/{line_id}")
    return tuple(
        ask_holder(
            desk,
            case,
            subject,
            line=line_id,
            holder=holder,
            kind=TaskKind.ERASE,
            instructions=_instructions(cells, holder),
        )
        for holder in case.holders
    )


def _check_erasable(desk: Desk, case: Case, line: Line) -> None:
    granted = line.outcome in (Outcome.GRANTED, Outcome.PARTLY_GRANTED)
    if case.state is not State.DISPATCHING or line.right is not Right.ERASURE or not granted:
        raise errors.MoveRefused(case.state, "begin an erasure")
    copies = [one.id for one in case.lines.values() if RIGHTS[one.right].seals_package]
    if not all(answered(case, copy) for copy in copies):
        raise errors.AccessFirst("the copy has to reach the person before it is destroyed")  # dsar rules 3, 53
    check_copies(desk, case, copies)
    begins = erasure_begins(desk, case.id)
    if begins is not None and desk.clock.now() < begins and copies_elsewhere(desk, case):
        raise errors.AccessFirst("another case owes the person a copy that this would destroy")


def _revoke(desk: Desk, case: Case, subject: SubjectRef, by: Actor) -> list[PackageId]:
    """Kill every package of the subject, those of other cases too, which say so themselves (dsar rule 53).

    All of them stand in this case's history besides: their bytes go with its erasure.
    """
    alive = desk.cases.packages(case.controller, subject)
    for package in alive:
        if package.case == case.id:
            desk.cases.revoke_package(package.id, desk.clock.now())
        else:
            lose_copy(desk, package, by)
    return [package.id for package in alive]


def name_recipient(
    desk: Desk, case: Case, subject: SubjectRef, *, line: LineId, party: PartyId, by: Actor
) -> e.RecipientNamed:
    """Owe an art. 19 notice to a recipient, and have it sent (dsar rule 56); the caller writes the event."""
    controller = controller_of(desk, case)
    today = clock.local_day(desk.clock.now(), controller.time_zone)
    due = clock.add_working_days(today, desk.practice.recipient_working_days, desk.calendars.of(controller))
    task = TaskId(desk.ids.new("task"))
    desk.cases.add_recipient(
        RecipientTask(task, case.id, line, case.controller, subject, party, RecipientOutcome.PENDING, due)
    )
    desk.work.enqueue(TELL_RECIPIENT, task)
    return e.RecipientNamed(at=desk.clock.now(), by=by.handle, task=task, recipient=party, line=line, due=due)


def _keep_until(desk: Desk, case: Case, subject: SubjectRef, cell: Cell) -> None:
    """Write down until when, which is the order to erase it then (dsar rule 49)."""
    fate, holding = cell.fate, cell.holding
    if not isinstance(fate, Retain):
        return
    kept = Kept(
        desk.ids.new("ret"),
        case.id,
        case.controller,
        subject,
        holding.holder,
        holding.category,
        holding.purpose,
        fate.legal_ref,
        fate.until,
    )
    desk.cases.add_retention(kept)


def end_retentions(desk: Desk, *, limit: int, after: Kept | None = None) -> Sequence[Kept]:
    """Have every retention ended whose day has come where its controller is (dsar rule 49); return the due ones.

    A bounded number, by end and id, from behind `after` on. Asking again asks for the same work.
    """
    now = desk.clock.now()
    today = {one.id: clock.local_day(now, one.time_zone) for one in desk.policy.controllers.values()}
    found = desk.cases.due_retentions(max(today.values()), limit=limit, after=after)
    for kept in found:
        if kept.until <= today.get(kept.controller, min(today.values())):
            desk.work.enqueue(END_RETENTION, kept.id)
    return found


def _instructions(cells: Sequence[Cell], holder: ComponentId) -> tuple[Instruction, ...]:
    return tuple(_instruction(cell) for cell in cells if cell.holding.holder == holder)


def _instruction(cell: Cell) -> Instruction:
    category, purpose, fate = cell.holding.category, cell.holding.purpose, cell.fate
    if isinstance(fate, Retain):
        return Instruction(category, purpose, FateKind.RETAIN, fate.until, fate.legal_ref)
    if isinstance(fate, Anonymise):
        return Instruction(category, purpose, FateKind.ANONYMISE, cohort=fate.cohort)
    return Instruction(category, purpose, FateKind.ERASE)


def verify_erasure(desk: Desk, case_id: CaseId, line_id: LineId) -> tuple[TaskId, ...]:
    """Have every holder search again once all have confirmed (dsar rule 53). Raises ErasurePartial.

    Asking twice returns the same tasks.
    """
    case = desk.cases.get(case_id)
    erasing = [task for task in desk.cases.tasks(case_id, TaskKind.ERASE) if task.line == line_id]
    _complete(case, erasing)
    asked = [task for task in desk.cases.tasks(case_id, TaskKind.VERIFY) if task.line == line_id]
    if asked:
        return tuple(task.id for task in asked)
    # Written first: of two that come to this at once, one finds the case changed.
    write(desk, case, e.VerificationStarted(at=desk.clock.now(), by=SYSTEM.handle, line=line_id))
    return tuple(
        ask_holder(
            desk,
            case,
            task.subject,
            line=line_id,
            holder=task.holder,
            kind=TaskKind.VERIFY,
            instructions=task.instructions,
        )
        for task in erasing
    )


def _complete(case: Case, tasks: Sequence[HolderTask]) -> None:
    by_holder = {task.holder: task for task in tasks}
    waiting = [holder for holder in case.holders if task_fault(by_holder.get(holder)) is not None]
    if waiting:
        raise errors.ErasurePartial(waiting)


def carry_out(desk: Desk, case_id: CaseId, line_id: LineId, evidence: str, by: Actor = SYSTEM) -> None:
    """Record that what a line asked for is done; `evidence` is an opaque id, e.g. the certificate's.

    An erasure is done when every holder confirmed and was searched again (rule 53). Raises ErasurePartial, MoveRefused.
    """
    case = desk.cases.get(case_id)
    line = line_of(case, line_id)
    if case.state is not State.DISPATCHING or line.outcome is None:
        raise errors.MoveRefused(case.state, "be carried out")
    if line.right is Right.ERASURE:
        if not line.started:
            raise errors.ErasurePartial(case.holders)
        for kind in (TaskKind.ERASE, TaskKind.VERIFY):
            _complete(case, [task for task in desk.cases.tasks(case_id, kind) if task.line == line_id])
    write(desk, case, e.CarriedOut(at=desk.clock.now(), by=by.handle, line=line_id, evidence=evidence))


def record_recipient(
    desk: Desk, task_id: TaskId, outcome: RecipientOutcome, *, by: Actor, reason: str | None = None
) -> None:
    """Note where an art. 19 notice stands; `reason` is a code (dsar rule 56).

    Raises MalformedIntake without the reason an impossible or disproportionate notice needs, as does one that is
    pending still after a try; SecondPersonNeeded when somebody else than the DPO calls it disproportionate.
    """
    task = desk.cases.recipient(task_id)
    plain = outcome in (RecipientOutcome.SENT, RecipientOutcome.ACKED)
    if not plain and not reason:
        raise errors.MalformedIntake("the outcome needs a reason")
    if outcome is RecipientOutcome.DISPROPORTIONATE and not by.dpo:
        raise errors.SecondPersonNeeded("only the DPO may call a notice disproportionate")
    if (task.outcome, task.reason) == (outcome, reason):
        return
    desk.cases.settle_recipient(task_id, outcome, reason)
    told = e.RecipientAnswered(at=desk.clock.now(), by=by.handle, task=task_id, outcome=outcome, reason=reason)
    write(desk, desk.cases.get(task.case), told)

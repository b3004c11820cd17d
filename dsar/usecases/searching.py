"""Asking every holder, taking answers, putting the package on record (dsar rules 37, 40)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from consent.vocabulary import ComponentId, SubjectRef
from dsar import errors
from dsar import events as e
from dsar.case import Case, State
from dsar.package import AML_REASON, HolderAnswer, Manifest, answer_fault, manifest_digest
from dsar.ports import Desk, HolderTask, Instruction, StoredPackage
from dsar.rights import RIGHTS
from dsar.usecases.writing import ASK_HOLDER, identified, line_of, write
from dsar.vocabulary import SYSTEM, Actor, CaseId, FateKind, HolderStatus, LineId, PackageId, Right, TaskId, TaskKind


def start_search(desk: Desk, case_id: CaseId, holders: Sequence[ComponentId], by: Actor = SYSTEM) -> tuple[TaskId, ...]:
    """Ask every registered holder (dsar rule 40). Raises NotIdentified, MoveRefused, MalformedIntake."""
    case = desk.cases.get(case_id)
    subject = identified(desk, case)
    if not holders or len(set(holders)) != len(holders):
        raise errors.MalformedIntake("holders: none, or one twice")
    case = write(desk, case, e.SearchStarted(at=desk.clock.now(), by=by.handle, holders=tuple(holders)))
    line = next(iter(case.lines))
    return tuple(ask_holder(desk, case, subject, line=line, holder=holder, kind=TaskKind.SEARCH) for holder in holders)


def start_review(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> None:
    """Go to review without asking holders, for lines that need no search. Raises MoveRefused when one does."""
    case = desk.cases.get(case_id)
    searching = (Right.ACCESS, Right.PORTABILITY, Right.ERASURE)
    if any(line.right in searching for line in case.lines.values()):
        raise errors.MoveRefused(case.state, "be reviewed before its holders were asked")
    write(desk, case, e.ReviewStarted(at=desk.clock.now(), by=by.handle))


def record_answer(desk: Desk, task_id: TaskId, answer: HolderAnswer) -> None:
    """Take a holder's answer; the last good one completes the search. Repeating the same answer changes nothing.

    A task whose answer is no good (an error, a leftover after an erasure) stays open (dsar rules 40, 53). Raises
    MalformedIntake (another holder's task), MoveRefused (another answer after a good one).
    """
    task = desk.cases.task(task_id)
    if answer.holder != task.holder:
        raise errors.MalformedIntake("the answer is not this holder's")
    answer = _quiet(desk, task, answer)
    if task.answer is not None and replace(answer, answered_at=task.answer.answered_at) == task.answer:
        _tried_again(desk, task, answer)
        return
    if task.answer is not None and task_fault(task) is None:
        raise errors.MoveRefused("done", "answer again")
    settled = task_fault(replace(task, answer=answer)) is None
    desk.cases.answer_task(task_id, answer, settled=settled)
    case = desk.cases.get(task.case)
    noted = e.HolderAnswered(
        at=desk.clock.now(),
        by=answer.holder,
        task=task_id,
        task_kind=task.kind,
        holder=task.holder,
        status=answer.status,
    )
    case = write(desk, case, noted)
    if case.state is State.SEARCHING and not search_gaps(desk, case):
        write(desk, case, e.SearchCompleted(at=desk.clock.now(), by=SYSTEM.handle))


def _tried_again(desk: Desk, task: HolderTask, answer: HolderAnswer) -> None:
    """Note when what is no good was answered again, so that every other task has its turn before (dsar rule 40)."""
    if task_fault(task) is not None:
        desk.cases.answer_task(task.id, answer, settled=False)


def _quiet(desk: Desk, task: HolderTask, answer: HolderAnswer) -> HolderAnswer:
    """Mark what is held solely against money laundering: no reply tells it from nothing held (dsar rule 42)."""
    if task.kind is not TaskKind.SEARCH:
        return answer
    known = desk.policy.categories
    marked = tuple(
        replace(one, reason=AML_REASON) if one.category in known and known[one.category].aml_only else one
        for one in answer.categories
    )
    return replace(answer, categories=marked)


def search_gaps(desk: Desk, case: Case) -> tuple[str, ...]:
    """Return the holders that have not properly answered the running search."""
    latest = {task.holder: task for task in desk.cases.tasks(case.id, TaskKind.SEARCH)}
    faults = {holder: task_fault(latest.get(holder)) for holder in case.holders}
    return tuple(f"holder {holder}: {fault}" for holder, fault in faults.items() if fault)


def seal_package(desk: Desk, case_id: CaseId, manifest: Manifest, by: Actor = SYSTEM) -> PackageId:
    """Put a complete package on record (dsar rules 37, 40). Raises PackageIncomplete with every gap, NotIdentified.

    The holders' answers are those on record; a manifest that tells them otherwise is incomplete.
    """
    case = desk.cases.get(case_id)
    line = line_of(case, manifest.line)
    subject = identified(desk, case, line.id)
    if not RIGHTS[line.right].seals_package or case.state is not State.REVIEW:
        raise errors.MoveRefused(case.state, f"seal a package for {line.right.value}")
    digest = manifest_digest(manifest, case.holders)
    _check_manifest(desk, case, manifest)
    now, package = desk.clock.now(), PackageId(desk.ids.new("pkg"))
    expires = now + timedelta(days=desk.practice.package_days)
    desk.cases.add_package(StoredPackage(package, case.id, line.id, case.controller, subject, digest, now, expires))
    write(desk, case, e.PackageSealed(at=now, by=by.handle, package=package, line=line.id, digest=digest))
    return package


def _check_manifest(desk: Desk, case: Case, manifest: Manifest) -> None:
    on_record = {task.holder: task.answer for task in desk.cases.tasks(case.id, TaskKind.SEARCH)}
    differing = [answer.holder for answer in manifest.holders if on_record.get(answer.holder) != answer]
    if manifest.case != case.id:
        raise errors.PackageIncomplete(("case: another one",))
    if differing:
        raise errors.PackageIncomplete(f"holder {holder}: not what it answered" for holder in differing)


def task_fault(task: HolderTask | None) -> str | None:
    """Return why a task is not done, by its kind (dsar rules 40, 53)."""
    if task is None or task.answer is None:
        return "missing"
    if task.kind is TaskKind.SEARCH:
        return answer_fault(task.answer)
    results = {task.answer.status, *(one.status for one in task.answer.categories)}
    allowed = {HolderStatus.NONE, HolderStatus.RETAINED}
    if task.kind is TaskKind.ERASE:
        allowed |= {HolderStatus.ERASED, HolderStatus.ANONYMISED}
    if not results <= allowed:
        return "not confirmed"
    return "keeps what it was told to erase" if _kept_too_much(task, task.answer) else None


def _kept_too_much(task: HolderTask, answer: HolderAnswer) -> bool:
    allowed = {one.category for one in task.instructions if one.fate is FateKind.RETAIN}
    kept = {one.category for one in answer.categories if one.status is HolderStatus.RETAINED}
    return not kept <= allowed or (answer.status is HolderStatus.RETAINED and not kept)


def ask_holder(
    desk: Desk,
    case: Case,
    subject: SubjectRef,
    *,
    line: LineId,
    holder: ComponentId,
    kind: TaskKind,
    instructions: tuple[Instruction, ...] = (),
) -> TaskId:
    """Give a holder a task and have it asked."""
    task = TaskId(desk.ids.new("task"))
    now = desk.clock.now()
    desk.cases.add_task(HolderTask(task, case.id, line, case.controller, subject, holder, kind, now, instructions))
    desk.work.enqueue(ASK_HOLDER, task)
    return task

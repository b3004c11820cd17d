"""What can be done with a case, one function each; all of it within the caller's unit of work.

Every function reads the case, decides by the law (`clock`, `identity`, `rights`, `case`), and writes events with their
ledger entries and follow-up work together: leaving without commit means that nothing happened. Leaves out effects
(sending, sealing bytes, shredding keys), which are the follow-up work of `app.workflows`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import reduce
from typing import cast

from consent.policy import Controller
from consent.ports import Json
from consent.vocabulary import CategoryId, ComponentId, ControllerId, Locale, PartyId, SubjectRef
from dsar import clock, errors, identity
from dsar import events as e
from dsar.case import Case, Line, State, answered, apply, ending, fold, pending, unanswered
from dsar.package import HolderAnswer, Manifest, answer_fault, manifest_digest
from dsar.ports import CaseSummary, Desk, HolderTask, Instruction, RecipientTask, Recorded, StoredPackage
from dsar.ports import StoredRetention as Kept
from dsar.proofs.shape import Proof
from dsar.retention import Anonymise, Cell, Retain
from dsar.rights import RIGHTS
from dsar.rights.shape import Extent
from dsar.vocabulary import (
    REFUSALS,
    SYSTEM,
    Actor,
    CaseId,
    CaseKind,
    Channel,
    DoubtCode,
    FateKind,
    Ground,
    HolderStatus,
    Level,
    LineId,
    MessageId,
    MessageKind,
    Method,
    NoteId,
    Outcome,
    PackageId,
    RecipientOutcome,
    Right,
    TaskId,
    TaskKind,
)

SERVED = frozenset({CaseKind.SUBJECT, CaseKind.REPRESENTATIVE})
"""Parental authority and heirs need proofs of standing that are not built (dsar rules 34, 35)."""
SEND = "case.send_message"
ASK_HOLDER = "case.ask_holder"
RUN_ERASURE = "case.run_erasure"
TELL_RECIPIENT = "case.tell_recipient"
END_RETENTION = "case.end_retention"
"""Work kinds; each carries one id: message, task, case line (`case/line`), task, retention."""


@dataclass(frozen=True, slots=True)
class Intake:
    """A message from a person, as recorded. No motive and no form are asked for (dsar rule 2)."""

    controller: ControllerId
    subject: SubjectRef | None
    rights: tuple[Right, ...]
    channel: Channel
    received_at: datetime
    locale: Locale
    by: Actor
    kind: CaseKind = CaseKind.SUBJECT
    text: str | None = None
    proofs: tuple[Proof, ...] = ()
    contact_changed_at: datetime | None = None
    forwarded_by: PartyId | None = None


@dataclass(frozen=True, slots=True)
class AlreadyOpen:
    """The same was asked before and is still open (dsar rule 9)."""

    right: Right
    case: CaseId
    due_strict: date


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of an intake: a new case for what is new, links for what is open already."""

    case: CaseId | None
    lines: Mapping[Right, LineId]
    due_strict: date | None
    already: tuple[AlreadyOpen, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided about one line."""

    outcome: Outcome
    by: Actor
    grounds: tuple[Ground, ...] = ()
    categories: tuple[CategoryId, ...] = ()
    """The categories a per-category ground refuses (dsar rule 48)."""
    approved_by: Actor | None = None
    evidence: str | None = None
    """Sealed; needed for art. 12(5), compelling grounds and art. 11 (dsar rules 32, 52, 57)."""
    dpo_override: bool = False


EVIDENCED = frozenset({Ground.UNFOUNDED_OR_EXCESSIVE, Ground.COMPELLING_GROUNDS, Ground.ARTICLE_11})
TWO_PEOPLE = frozenset({Ground.UNFOUNDED_OR_EXCESSIVE, Ground.AML_CARVE_OUT})


# --- opening -----------------------------------------------------------------------------------------------------


def open_case(desk: Desk, intake: Intake) -> Opened:
    """Open a case, or link to the ones that are open already (dsar rules 1-3, 9, 10).

    Raises MalformedIntake, ReceivedInFuture, KindNotServed, CaseChanged (somebody opened the same at the same time).
    """
    _check_intake(desk, intake)
    already = tuple(filter(None, (_already(desk, intake, right) for right in intake.rights)))
    known = {one.right for one in already}
    fresh = tuple(right for right in intake.rights if right not in known)
    if not fresh:
        return Opened(None, {}, None, already)
    case = _open(desk, intake, fresh)
    lines = {line.right: line.id for line in case.lines.values()}
    return Opened(case.id, lines, dates_of(desk, case).due_strict, already)


def _check_intake(desk: Desk, intake: Intake) -> None:
    if intake.controller not in desk.policy.controllers:
        raise errors.MalformedIntake("unknown controller")
    if not intake.rights or len(set(intake.rights)) != len(intake.rights):
        raise errors.MalformedIntake("rights: none, or one twice")
    if intake.received_at.tzinfo is None:
        raise errors.MalformedIntake("received_at: no time zone")
    if intake.received_at > desk.clock.now():
        raise errors.ReceivedInFuture("received_at lies in the future")  # dsar rule 1
    if (intake.channel is Channel.FORWARDED) != (intake.forwarded_by is not None):
        raise errors.MalformedIntake("forwarded_by goes with the channel forwarded, and only with it")
    if intake.kind not in SERVED:
        raise errors.KindNotServed(intake.kind.value)


def _already(desk: Desk, intake: Intake, right: Right) -> AlreadyOpen | None:
    if intake.subject is None:
        return None
    found = desk.cases.open_line(intake.controller, intake.subject, right)
    if found is None:
        return None
    reminder = e.ReminderLinked(
        at=desk.clock.now(),
        by=intake.by.handle,
        right=right,
        received_at=intake.received_at,
        channel=intake.channel,
    )
    case = _write(desk, desk.cases.get(found), reminder)
    return AlreadyOpen(right, found, dates_of(desk, case).due_strict)


def _open(desk: Desk, intake: Intake, rights: tuple[Right, ...]) -> Case:
    case_id = CaseId(desk.ids.new("case"))
    text, now, by = intake.text, desk.clock.now(), intake.by.handle
    note = desk.notes.keep(intake.controller, intake.subject, case_id, text) if text else None
    received = e.CaseReceived(
        at=now,
        by=by,
        case=case_id,
        controller=intake.controller,
        subject=intake.subject,
        kind=intake.kind,
        channel=intake.channel,
        received_at=intake.received_at,
        locale=intake.locale,
        lines=tuple(e.AskedLine(LineId(desk.ids.new("line")), right) for right in rights),
        note=note,
        contact_changed_at=intake.contact_changed_at,
        forwarded_by=intake.forwarded_by,
    )
    proved = [e.IdentityProved(at=now, by=by, proof=proof) for proof in intake.proofs]
    return _verified_if_enough(desk, _write(desk, None, received, *proved), by)


# --- reading -----------------------------------------------------------------------------------------------------


def dates_of(desk: Desk, case: Case) -> clock.Deadlines:
    """Return every date of a case, as of now (dsar rules 11-22)."""
    controller = _controller(desk, case)
    return clock.deadlines(
        case.received_at,
        extension_months=case.extension_months,
        pauses=case.pauses,
        zone=controller.time_zone,
        calendar=desk.calendars.of(controller),
        practice=desk.practice,
        now=desk.clock.now(),
    )


def queue(
    desk: Desk, controllers: Collection[ControllerId], *, limit: int = 100, after: CaseId | None = None
) -> Sequence[CaseSummary]:
    """Return the open cases of these controllers by strict due date (dsar rule 21)."""
    return desk.cases.queue(controllers, limit=limit, after=after)


def timeline(desk: Desk, case: CaseId) -> Sequence[Recorded]:
    """Return everything that happened to a case, each with its ledger entry."""
    return desk.cases.history(case)


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


# --- acknowledging, identity, clock -------------------------------------------------------------------------------


def acknowledge(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> MessageId:
    """Prepare the acknowledgement with reference and due date (dsar rule 4); it counts once dispatched."""
    case = desk.cases.get(case_id)
    return _prepare(desk, case, MessageKind.ACKNOWLEDGEMENT, tuple(case.lines), by)


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
    _write(desk, case, _prepared(desk, message, MessageKind.IDENTITY_QUESTION, tuple(case.lines), by), asked)
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
    _write(desk, case, _prepared(desk, message, MessageKind.CLARIFICATION, tuple(case.lines), by), asked)
    desk.work.enqueue(SEND, message)
    return message


def _check_pause(desk: Desk, case: Case) -> None:
    if not _pause_allowed(desk, case, desk.clock.now()):
        raise errors.PauseTooLate("the question comes too long after receipt to stop the clock")


def _pause_allowed(desk: Desk, case: Case, when: datetime) -> bool:
    controller = _controller(desk, case)
    return clock.pause_allowed(
        case.received_at,
        when,
        zone=controller.time_zone,
        calendar=desk.calendars.of(controller),
        practice=desk.practice,
    )


def prove_identity(
    desk: Desk, case_id: CaseId, proof: Proof, by: Actor
) -> Mapping[LineId, identity.Enough | identity.Lacking]:
    """Add a proof; the case is verified once every line has enough. Return the verdict of each line."""
    case = desk.cases.get(case_id)
    case = _write(desk, case, e.IdentityProved(at=desk.clock.now(), by=by.handle, proof=proof))
    if case.state is State.PAUSED:
        case = _write(desk, case, e.Resumed(at=desk.clock.now(), by=by.handle, answered_at=desk.clock.now()))
    case = _verified_if_enough(desk, case, by.handle)
    return {line.id: identity_of(desk, case, line) for line in case.lines.values()}


def _verified_if_enough(desk: Desk, case: Case, by: str) -> Case:
    open_states = (State.RECEIVED, State.ACKNOWLEDGED, State.IDENTITY_PENDING)
    verdicts = [identity_of(desk, case, line) for line in case.lines.values()]
    levels = [verdict.level for verdict in verdicts if isinstance(verdict, identity.Enough)]
    if case.subject is None or case.state not in open_states or len(levels) < len(verdicts):
        return case
    return _write(desk, case, e.IdentityVerified(at=desk.clock.now(), by=by, level=int(min(levels))))


def resume(desk: Desk, case_id: CaseId, *, answered_at: datetime, by: Actor) -> None:
    """Let the clock run again: the answer was received at `answered_at` (dsar rule 19)."""
    case = desk.cases.get(case_id)
    now = desk.clock.now()
    asked = [pause.asked_at for pause in case.pauses if pause.answered_at is None]
    if answered_at > now or any(answered_at < one for one in asked):
        raise errors.MalformedIntake("answered_at: not between the question and now")
    _write(desk, case, e.Resumed(at=now, by=by.handle, answered_at=answered_at))


def close_unanswered(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> MessageId:
    """End a pause without answer after the limit, with a reasoned letter (dsar rule 20). Raises TooEarly."""
    case = desk.cases.get(case_id)
    open_pauses = [pause for pause in case.pauses if pause.answered_at is None]
    if not open_pauses:
        raise errors.MoveRefused(case.state, "close an unanswered question")
    controller, now = _controller(desk, case), desk.clock.now()
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
    _write(desk, case, e.Reopened(at=desk.clock.now(), by=by.handle, lines=tuple(case.lines)))


def _stop(desk: Desk, case: Case, outcome: Outcome, kind: MessageKind, by: Actor) -> MessageId:
    """End every line that may end so; what cannot be refused is granted and still has to be carried out (rule 8)."""
    late = _is_late(desk, case) and outcome in REFUSALS
    ended = tuple(line.id for line in case.lines.values() if outcome in RIGHTS[line.right].outcomes)
    outcomes = {line: outcome if line in ended else Outcome.GRANTED for line in case.lines}
    decided = [
        _decided(desk, line, Decision(one, by), late=late and one is outcome, evidence=None)
        for line, one in outcomes.items()
    ]
    case = _write(desk, case, *decided, e.Stopped(at=desk.clock.now(), by=by.handle))
    return _prepare(desk, case, kind, ended, by)


def extend(desk: Desk, case_id: CaseId, reason: clock.ExtensionReason, months: int, by: Actor) -> MessageId:
    """Announce an extension of 1 or 2 months, once; effective when its notice leaves within month one (rules 15-17).

    Raises ExtensionTooLate, ExtensionUsed.
    """
    case = desk.cases.get(case_id)
    if not 1 <= months <= clock.LONGEST_EXTENSION:
        raise errors.MalformedIntake("an extension has 1 or 2 months")
    if case.extension is not None or case.final:
        raise errors.ExtensionUsed("an extension is given once, while the case is open")
    if _is_late(desk, case):
        raise errors.ExtensionTooLate("the first month is over")
    message = MessageId(desk.ids.new("msg"))
    announced = e.ExtensionAnnounced(at=desk.clock.now(), by=by.handle, reason=reason, months=months, message=message)
    _write(desk, case, _prepared(desk, message, MessageKind.EXTENSION_NOTICE, tuple(case.lines), by), announced)
    desk.work.enqueue(SEND, message)
    return message


def _is_late(desk: Desk, case: Case) -> bool:
    """Say whether month one is over: the limit of extension notices and of refusals (dsar rules 16, 18)."""
    zone = _controller(desk, case).time_zone
    return clock.local_day(desk.clock.now(), zone) > dates_of(desk, case).month_one


# --- searching and packaging --------------------------------------------------------------------------------------


def start_search(desk: Desk, case_id: CaseId, holders: Sequence[ComponentId], by: Actor = SYSTEM) -> tuple[TaskId, ...]:
    """Ask every registered holder (dsar rule 40). Raises NotIdentified, MoveRefused, MalformedIntake."""
    case = desk.cases.get(case_id)
    subject = _identified(desk, case)
    if not holders or len(set(holders)) != len(holders):
        raise errors.MalformedIntake("holders: none, or one twice")
    case = _write(desk, case, e.SearchStarted(at=desk.clock.now(), by=by.handle, holders=tuple(holders)))
    line = next(iter(case.lines))
    return tuple(_ask(desk, case, subject, line=line, holder=holder, kind=TaskKind.SEARCH) for holder in holders)


def start_review(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> None:
    """Go to review without asking holders, for lines that need no search. Raises MoveRefused when one does."""
    case = desk.cases.get(case_id)
    searching = (Right.ACCESS, Right.PORTABILITY, Right.ERASURE)
    if any(line.right in searching for line in case.lines.values()):
        raise errors.MoveRefused(case.state, "be reviewed before its holders were asked")
    _write(desk, case, e.ReviewStarted(at=desk.clock.now(), by=by.handle))


def _identified(desk: Desk, case: Case, only: LineId | None = None) -> SubjectRef:
    """Return the subject, or raise NotIdentified for the first line whose proofs do not do (dsar rule 26)."""
    for line in case.lines.values() if only is None else (_line(case, only),):
        verdict = identity_of(desk, case, line)
        if isinstance(verdict, identity.Lacking):
            raise errors.NotIdentified(verdict.reason, verdict.needed, verdict.has)
    if case.subject is None:
        raise errors.NotIdentified("no_subject", 1, 0)
    return case.subject


def _ask(
    desk: Desk,
    case: Case,
    subject: SubjectRef,
    *,
    line: LineId,
    holder: ComponentId,
    kind: TaskKind,
    instructions: tuple[Instruction, ...] = (),
) -> TaskId:
    task = TaskId(desk.ids.new("task"))
    now = desk.clock.now()
    desk.cases.add_task(HolderTask(task, case.id, line, case.controller, subject, holder, kind, now, instructions))
    desk.work.enqueue(ASK_HOLDER, task)
    return task


def record_answer(desk: Desk, task_id: TaskId, answer: HolderAnswer) -> None:
    """Take a holder's answer; the last good one completes the search. Repeating the same answer changes nothing.

    Raises MalformedIntake (another holder's task), MoveRefused (another answer after a good one).
    """
    task = desk.cases.task(task_id)
    if answer.holder != task.holder:
        raise errors.MalformedIntake("the answer is not this holder's")
    if task.answer == answer:
        return
    if task.answer is not None and _task_fault(task) is None:
        raise errors.MoveRefused("done", "answer again")
    desk.cases.answer_task(task_id, answer)
    case = desk.cases.get(task.case)
    noted = e.HolderAnswered(
        at=desk.clock.now(),
        by=answer.holder,
        task=task_id,
        task_kind=task.kind,
        holder=task.holder,
        status=answer.status,
    )
    case = _write(desk, case, noted)
    if case.state is State.SEARCHING and not search_gaps(desk, case):
        _write(desk, case, e.SearchCompleted(at=desk.clock.now(), by=SYSTEM.handle))


def search_gaps(desk: Desk, case: Case) -> tuple[str, ...]:
    """Return the holders that have not properly answered the running search."""
    latest = {task.holder: task for task in desk.cases.tasks(case.id, TaskKind.SEARCH)}
    faults = {holder: _task_fault(latest.get(holder)) for holder in case.holders}
    return tuple(f"holder {holder}: {fault}" for holder, fault in faults.items() if fault)


def _task_fault(task: HolderTask | None) -> str | None:
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


def seal_package(desk: Desk, case_id: CaseId, manifest: Manifest, by: Actor = SYSTEM) -> PackageId:
    """Put a complete package on record (dsar rules 37, 40). Raises PackageIncomplete with every gap, NotIdentified.

    The holders' answers are those on record; a manifest that tells them otherwise is incomplete.
    """
    case = desk.cases.get(case_id)
    line = _line(case, manifest.line)
    subject = _identified(desk, case, line.id)
    if not RIGHTS[line.right].seals_package or case.state is not State.REVIEW:
        raise errors.MoveRefused(case.state, f"seal a package for {line.right.value}")
    digest = manifest_digest(manifest, case.holders)
    _check_manifest(desk, case, manifest)
    now, package = desk.clock.now(), PackageId(desk.ids.new("pkg"))
    expires = now + timedelta(days=desk.practice.package_days)
    desk.cases.add_package(StoredPackage(package, case.id, line.id, case.controller, subject, digest, now, expires))
    _write(desk, case, e.PackageSealed(at=now, by=by.handle, package=package, line=line.id, digest=digest))
    return package


def _check_manifest(desk: Desk, case: Case, manifest: Manifest) -> None:
    on_record = {task.holder: task.answer for task in desk.cases.tasks(case.id, TaskKind.SEARCH)}
    differing = [answer.holder for answer in manifest.holders if on_record.get(answer.holder) != answer]
    if manifest.case != case.id:
        raise errors.PackageIncomplete(("case: another one",))
    if differing:
        raise errors.PackageIncomplete(f"holder {holder}: not what it answered" for holder in differing)


# --- deciding -----------------------------------------------------------------------------------------------------


def decide_line(desk: Desk, case_id: CaseId, line_id: LineId, decision: Decision) -> None:
    """Decide one line under review (dsar rules 3, 8, 18, 46, 48, 57, 59).

    Raises OutcomeNotAllowed, GroundNotAllowed, SecondPersonNeeded, LateRefusal, HumanNeeded, AccessFirst,
    NotIdentified.
    """
    case = desk.cases.get(case_id)
    line = _line(case, line_id)
    if case.state is not State.REVIEW:
        raise errors.MoveRefused(case.state, "be decided")
    _check_outcome(case, line, decision)
    _check_grounds(line, decision)
    _check_people(line, decision)
    late = _is_late(desk, case) and decision.outcome in REFUSALS
    if late and not (decision.by.dpo and decision.dpo_override):
        raise errors.LateRefusal("month one is over: the DPO has to override")  # dsar rule 18
    text = decision.evidence
    note = desk.notes.keep(case.controller, case.subject, case.id, text) if text else None
    _write(desk, case, _decided(desk, line_id, decision, late=late, evidence=note))


def refuse(
    desk: Desk,
    case_id: CaseId,
    line_id: LineId,
    grounds: tuple[Ground, ...],
    *,
    by: Actor,
    approved_by: Actor,
    evidence: str | None = None,
    dpo_override: bool = False,
) -> None:
    """Refuse a line altogether, two people agreeing (dsar rules 57, 59). Raises as `decide_line`."""
    decision = Decision(
        Outcome.REFUSED,
        by,
        grounds,
        approved_by=approved_by,
        evidence=evidence,
        dpo_override=dpo_override,
    )
    decide_line(desk, case_id, line_id, decision)


def _decided(desk: Desk, line: LineId, decision: Decision, *, late: bool, evidence: NoteId | None) -> e.LineDecided:
    return e.LineDecided(
        at=desk.clock.now(),
        by=decision.by.handle,
        line=line,
        outcome=decision.outcome,
        grounds=decision.grounds,
        categories=decision.categories,
        approved_by=decision.approved_by.handle if decision.approved_by else None,
        evidence=evidence,
        late_refusal=late,
    )


def _check_outcome(case: Case, line: Line, decision: Decision) -> None:
    law = RIGHTS[line.right]
    if decision.outcome not in law.outcomes or decision.outcome is Outcome.WITHDRAWN_BY_SUBJECT:
        raise errors.OutcomeNotAllowed(f"{line.right.value} cannot end as {decision.outcome.value}")
    if decision.outcome is Outcome.NO_DATA and HolderStatus.FOUND in case.answers.values():
        raise errors.OutcomeNotAllowed("a holder found data")
    giving = decision.outcome in (Outcome.GRANTED, Outcome.PARTLY_GRANTED)
    if giving and law.seals_package and line.id not in case.packages.values():
        raise errors.PackageIncomplete((f"line {line.id}: no sealed package",))
    if line.right is Right.ERASURE and not _access_sealed(case):
        raise errors.AccessFirst("the access package of this case is not sealed yet")  # dsar rules 3, 53


def _access_sealed(case: Case) -> bool:
    """Say whether every line that asks for a copy has its package, or got another answer."""
    copies = [one for one in case.lines.values() if RIGHTS[one.right].seals_package]
    refused = (Outcome.REFUSED, Outcome.NO_DATA)
    return all(one.id in case.packages.values() or one.outcome in refused for one in copies)


def _check_grounds(line: Line, decision: Decision) -> None:
    """The closed matrix (section 1.2; dsar rules 41, 48, 57)."""
    law = RIGHTS[line.right]
    foreign = [ground.value for ground in decision.grounds if ground not in law.grounds]
    if foreign:
        raise errors.GroundNotAllowed(f"{line.right.value} cannot be refused for {', '.join(foreign)}")
    refusing = decision.outcome in (Outcome.REFUSED, Outcome.PARTLY_GRANTED, Outcome.UNPROVEN)
    if refusing != bool(decision.grounds):
        raise errors.GroundNotAllowed("grounds go with a refusal, whole or partial, and only with one")
    extents = {law.grounds[ground] for ground in decision.grounds}
    if decision.outcome is Outcome.REFUSED and Extent.PART in extents:
        raise errors.GroundNotAllowed("this ground leaves things out, it does not refuse the whole")  # rule 41
    if Extent.PER_CATEGORY in extents and not decision.categories:
        raise errors.GroundNotAllowed("this ground needs its categories")  # rule 48
    if EVIDENCED.intersection(decision.grounds) and not decision.evidence:
        raise errors.GroundNotAllowed("this ground needs its evidence")  # rule 57


def _check_people(line: Line, decision: Decision) -> None:
    if RIGHTS[line.right].human_only and not decision.by.human:
        raise errors.HumanNeeded(line.right.value)  # dsar rule 46
    two = decision.outcome in (Outcome.REFUSED, Outcome.UNPROVEN) or TWO_PEOPLE.intersection(decision.grounds)
    if two and not _two_people(decision.by, decision.approved_by):
        raise errors.SecondPersonNeeded("two different people have to agree")  # dsar rules 57, 59


def _two_people(first: Actor, second: Actor | None) -> bool:
    return second is not None and first.human and second.human and first.handle != second.handle


def submit(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> None:
    """Hand the decided case to approval. Raises NotAnswered when a line is undecided."""
    _write(desk, desk.cases.get(case_id), e.Submitted(at=desk.clock.now(), by=by.handle))


def approve(desk: Desk, case_id: CaseId, by: Actor) -> None:
    """Let the decisions be carried out and sent."""
    _write(desk, desk.cases.get(case_id), e.Approved(at=desk.clock.now(), by=by.handle))


def send_back(desk: Desk, case_id: CaseId, by: Actor) -> None:
    """Return the case to review."""
    _write(desk, desk.cases.get(case_id), e.Returned(at=desk.clock.now(), by=by.handle))


# --- carrying out -------------------------------------------------------------------------------------------------


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
    returns the same tasks. Raises MoveRefused, AccessFirst, NotIdentified.
    """
    case = desk.cases.get(case_id)
    line = _line(case, line_id)
    if line.started:
        return tuple(task.id for task in desk.cases.tasks(case_id, TaskKind.ERASE))
    _check_erasable(case, line)
    subject = _identified(desk, case, line_id)
    now = desk.clock.now()
    dead = [e.PackageRevoked(at=now, by=by.handle, package=key) for key in _revoke(desk, case, subject)]
    named = [
        _name_recipient(desk, case, subject, line=line_id, party=party, by=by) for party in sorted(set(recipients))
    ]
    case = _write(desk, case, *dead, *named, e.ErasureStarted(at=now, by=by.handle, line=line_id))
    for cell in cells:
        _keep_until(desk, case, subject, cell)
    desk.work.enqueue(RUN_ERASURE, f"{case_id}/{line_id}")
    return tuple(
        _ask(
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


def _check_erasable(case: Case, line: Line) -> None:
    granted = line.outcome in (Outcome.GRANTED, Outcome.PARTLY_GRANTED)
    if case.state is not State.DISPATCHING or line.right is not Right.ERASURE or not granted:
        raise errors.MoveRefused(case.state, "begin an erasure")
    copies = [one.id for one in case.lines.values() if RIGHTS[one.right].seals_package]
    if not all(answered(case, copy) for copy in copies):
        raise errors.AccessFirst("the copy has to reach the person before it is destroyed")  # dsar rules 3, 53


def _revoke(desk: Desk, case: Case, subject: SubjectRef) -> list[PackageId]:
    """Kill every package of the subject, those of earlier cases too (dsar rule 53)."""
    alive = desk.cases.packages(case.controller, subject)
    for package in alive:
        desk.cases.revoke_package(package.id, desk.clock.now())
    return [package.id for package in alive]


def _name_recipient(
    desk: Desk, case: Case, subject: SubjectRef, *, line: LineId, party: PartyId, by: Actor
) -> e.RecipientNamed:
    controller = _controller(desk, case)
    today = clock.local_day(desk.clock.now(), controller.time_zone)
    due = clock.add_working_days(today, desk.practice.recipient_working_days, desk.calendars.of(controller))
    task = TaskId(desk.ids.new("task"))
    desk.cases.add_recipient(
        RecipientTask(task, case.id, line, case.controller, subject, party, RecipientOutcome.PENDING, due)
    )
    desk.work.enqueue(TELL_RECIPIENT, task)
    return e.RecipientNamed(at=desk.clock.now(), by=by.handle, task=task, recipient=party, line=line, due=due)


def _keep_until(desk: Desk, case: Case, subject: SubjectRef, cell: Cell) -> None:
    """Schedule the erasure that every retention carries in itself (dsar rule 49)."""
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
    zone = _controller(desk, case).time_zone
    desk.work.enqueue(END_RETENTION, kept.id, due=clock.last_instant(fate.until - timedelta(days=1), zone))


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
    return tuple(
        _ask(
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
    waiting = [holder for holder in case.holders if _task_fault(by_holder.get(holder)) is not None]
    if waiting:
        raise errors.ErasurePartial(waiting)


def carry_out(desk: Desk, case_id: CaseId, line_id: LineId, evidence: str, by: Actor = SYSTEM) -> None:
    """Record that what a line asked for is done; `evidence` is an opaque id, e.g. the certificate's.

    An erasure is done when every holder confirmed and was searched again (rule 53). Raises ErasurePartial, MoveRefused.
    """
    case = desk.cases.get(case_id)
    line = _line(case, line_id)
    if case.state is not State.DISPATCHING or line.outcome is None:
        raise errors.MoveRefused(case.state, "be carried out")
    if line.right is Right.ERASURE:
        if not line.started:
            raise errors.ErasurePartial(case.holders)
        for kind in (TaskKind.ERASE, TaskKind.VERIFY):
            _complete(case, [task for task in desk.cases.tasks(case_id, kind) if task.line == line_id])
    _write(desk, case, e.CarriedOut(at=desk.clock.now(), by=by.handle, line=line_id, evidence=evidence))


def record_recipient(
    desk: Desk, task_id: TaskId, outcome: RecipientOutcome, *, by: Actor, reason: str | None = None
) -> None:
    """Note where an art. 19 notice stands; `reason` is a code (dsar rule 56).

    Raises MalformedIntake without the reason an impossible or disproportionate notice needs, SecondPersonNeeded when
    somebody else than the DPO calls it disproportionate.
    """
    task = desk.cases.recipient(task_id)
    excused = outcome in (RecipientOutcome.IMPOSSIBLE, RecipientOutcome.DISPROPORTIONATE)
    if outcome is RecipientOutcome.PENDING or (excused and not reason):
        raise errors.MalformedIntake("the outcome needs a reason")
    if outcome is RecipientOutcome.DISPROPORTIONATE and not by.dpo:
        raise errors.SecondPersonNeeded("only the DPO may call a notice disproportionate")
    if task.outcome is outcome:
        return
    desk.cases.settle_recipient(task_id, outcome, reason)
    told = e.RecipientAnswered(at=desk.clock.now(), by=by.handle, task=task_id, outcome=outcome, reason=reason)
    _write(desk, desk.cases.get(task.case), told)


# --- sending and ending -------------------------------------------------------------------------------------------


def prepare_reply(desk: Desk, case_id: CaseId, lines: Sequence[LineId], by: Actor = SYSTEM) -> MessageId:
    """Prepare the reply to decided lines; a letter of refusal when one refuses something (dsar rules 57, 60).

    Raises NotAnswered when a line is undecided, ErasurePartial when what it grants is not carried out yet (rule 53).
    """
    case = desk.cases.get(case_id)
    if case.state is not State.DISPATCHING or not lines:
        raise errors.MoveRefused(case.state, "be replied to")
    for line in lines:
        _check_repliable(_line(case, line))
    refusing = any(_line(case, line).outcome in REFUSALS for line in lines)
    return _prepare(desk, case, MessageKind.REFUSAL if refusing else MessageKind.REPLY, tuple(lines), by)


DONE_FIRST = frozenset(
    {Outcome.GRANTED, Outcome.PARTLY_GRANTED, Outcome.CORRECTED, Outcome.COMPLETED, Outcome.STATEMENT_ADDED}
)


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
    case = _write(desk, case, sent)
    for event in _consequences(desk, case, message_id, when):
        case = _write(desk, case, event)


def _consequences(desk: Desk, case: Case, message_id: MessageId, when: datetime) -> tuple[e.Event, ...]:
    message, by = case.messages[message_id], SYSTEM.handle
    if message.kind is MessageKind.ACKNOWLEDGEMENT and case.acknowledged_at is None:
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
    today = clock.local_day(when, _controller(desk, case).time_zone)
    if today > dates_of(desk, case).month_one:
        return e.ExtensionLapsed(at=when, by=SYSTEM.handle, message=extension.message)
    return e.ExtensionEffective(at=when, by=SYSTEM.handle, months=extension.months)


def _pause_event(desk: Desk, case: Case, message_id: MessageId, when: datetime) -> tuple[e.Event, ...]:
    """The clock stands from dispatch, if the question left soon enough (dsar rule 19)."""
    if not _pause_allowed(desk, case, when):
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
    case = _write(desk, case, e.MessageBounced(at=now, by=by.handle, message=message_id))
    delivered = case.final or case.state in (State.DISPATCHED, State.RECIPIENTS_NOTIFIED)
    if delivered and unanswered(case):
        _write(desk, case, e.DeliveryReopened(at=now, by=by.handle))


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
        case = _write(desk, case, e.RecipientsNotified(at=now, by=by.handle))
    _write(desk, case, e.Closed(at=now, by=by.handle, ending=ending(case)))
    return ending(case)


# --- shared -------------------------------------------------------------------------------------------------------


def _controller(desk: Desk, case: Case) -> Controller:
    return desk.policy.controllers[case.controller]


def _line(case: Case, line: LineId) -> Line:
    if line not in case.lines:
        raise errors.CaseUnknown("no such line")
    return case.lines[line]


def _prepared(desk: Desk, message: MessageId, kind: MessageKind, lines: tuple[LineId, ...], by: Actor) -> e.Event:
    return e.MessagePrepared(at=desk.clock.now(), by=by.handle, message=message, kind=kind, lines=lines)


def _prepare(desk: Desk, case: Case, kind: MessageKind, lines: tuple[LineId, ...], by: Actor) -> MessageId:
    message = MessageId(desk.ids.new("msg"))
    _write(desk, case, _prepared(desk, message, kind, lines, by))
    desk.work.enqueue(SEND, message)
    return message


def _write(desk: Desk, case: Case | None, *events: e.Event) -> Case:
    """Apply, journal and store events together; return the case after them."""
    after = fold(events) if case is None else reduce(apply, events, case)
    entries = [(event, _journal(desk, after, event)) for event in events]
    desk.cases.write(after, before=0 if case is None else case.version, events=entries, dates=dates_of(desk, after))
    return after


def _journal(desk: Desk, case: Case, event: e.Event) -> str:
    payload = cast("Mapping[str, Json]", {"case": case.id, **e.encode(event)})
    return desk.journal.record(
        e.kind_of(event), actor=event.by, controller=case.controller, subject=case.subject, payload=payload
    )

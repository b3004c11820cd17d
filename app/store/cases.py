"""Repository of cases: events in, the case folded out of them, and the rows that make them easy to find.

Fits `dsar.ports.Cases` and `dsar.ports.Notes`. Everything happens within the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, CursorResult, Select, and_, func, insert, or_, select, tuple_, union, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from app.store.rows.base import RecordsBase
from app.store.rows.cases import (
    CaseEventRow,
    CaseLineRow,
    CaseMessageRow,
    CaseNoteRow,
    CaseRow,
    HolderTaskRow,
    PackageRow,
    RecipientTaskRow,
    RetentionRow,
)
from consent import plain
from consent.ports import Ids
from consent.vocabulary import (
    CategoryId,
    ComponentId,
    ControllerId,
    PartyId,
    PurposeId,
    Shredded,
    SubjectRef,
)
from dsar.case import Case, State, fold
from dsar.clock import Deadlines
from dsar.errors import CaseChanged, CaseUnknown
from dsar.events import VERSION, Event, MessagePrepared, decode, encode, kind_of
from dsar.package import HolderAnswer
from dsar.ports import (
    CaseSummary,
    HolderTask,
    Instruction,
    RecipientTask,
    Recorded,
    StoredPackage,
    StoredRetention,
)
from dsar.vocabulary import CaseId, LineId, MessageId, NoteId, PackageId, RecipientOutcome, Right, TaskId, TaskKind

Row = TypeVar("Row", bound=RecordsBase)


class NoteSeal(Protocol):
    """Seals a note under the subject's key, or the controller's own without a subject."""

    def seal(self, controller: ControllerId, subject: SubjectRef | None, note: str, text: str) -> bytes: ...

    def open(
        self, controller: ControllerId, subject: SubjectRef | None, note: str, sealed: bytes
    ) -> str | Shredded: ...


class SqlCases:
    """Cases within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    # --- the case itself

    def write(self, case: Case, *, before: int, events: Sequence[tuple[Event, str]], dates: Deadlines) -> None:
        """Append events and project the case. Raises CaseChanged when others wrote since `before`."""
        try:
            self._project(case, before, dates)
            self._append(case, before, events)
        except IntegrityError as fault:
            raise CaseChanged("somebody else wrote the same case, or opened the same line") from fault

    def _project(self, case: Case, before: int, dates: Deadlines) -> None:
        values = {
            "subject": case.subject,
            "state": case.state.value,
            "ended": case.final,
            "due_strict": dates.due_strict,
            "due_effective": dates.due_effective,
            "month_one": dates.month_one,
            "version": case.version,
        }
        if before == 0:
            self._insert(
                CaseRow, {"id": case.id, "controller": case.controller, "received_at": case.received_at, **values}
            )
        else:
            self._update_case(case.id, before, values)
        for line in case.lines.values():
            changing = {"outcome": line.outcome.value if line.outcome else None, "open": not case.final}
            if before == 0:
                fixed = {"case": case.id, "controller": case.controller, "subject": case.subject}
                self._insert(CaseLineRow, {"id": line.id, "right": line.right.value, **fixed, **changing})
            else:
                self._session.execute(update(CaseLineRow).where(CaseLineRow.id == line.id).values(**changing))

    def _update_case(self, case: CaseId, before: int, values: dict[str, Any]) -> None:
        done = self._session.execute(
            update(CaseRow).where(CaseRow.id == case, CaseRow.version == before).values(**values)
        )
        if not isinstance(done, CursorResult) or done.rowcount != 1:
            raise CaseChanged("the case has other events by now")

    def _append(self, case: Case, before: int, events: Sequence[tuple[Event, str]]) -> None:
        for version, (event, entry) in enumerate(events, start=before + 1):
            self._insert(
                CaseEventRow,
                {
                    "case": case.id,
                    "version": version,
                    "controller": case.controller,
                    "kind": kind_of(event),
                    "shape": VERSION,
                    "at": event.at,
                    "payload": encode(event),
                    "entry": entry,
                },
            )
            if isinstance(event, MessagePrepared):
                row = {"id": event.message, "case": case.id, "controller": case.controller}
                self._insert(CaseMessageRow, row)

    def _insert(self, row: type[RecordsBase], values: dict[str, Any]) -> None:
        self._session.execute(insert(row).values(**values))

    def get(self, case: CaseId) -> Case:
        """Fold the case. Raises CaseUnknown."""
        return fold(recorded.event for recorded in self.history(case))

    def history(self, case: CaseId) -> Sequence[Recorded]:
        """Every event in order. Raises CaseUnknown."""
        query = select(CaseEventRow).where(CaseEventRow.case == case).order_by(CaseEventRow.version)
        rows = self._session.scalars(query.execution_options(populate_existing=True)).all()
        if not rows:
            raise CaseUnknown("no such case")
        return [Recorded(row.version, decode(row.kind, row.shape, row.payload), row.entry) for row in rows]

    def summary(self, case: CaseId) -> CaseSummary:
        """One row of the queue. Raises CaseUnknown."""
        return self._summaries(select(CaseRow).where(CaseRow.id == _known(self._fresh(CaseRow, case)).id))[0]

    def open_line(self, controller: ControllerId, subject: SubjectRef, right: Right) -> CaseId | None:
        """The open case in which the subject asked for this right already."""
        found = self._session.scalar(
            select(CaseLineRow.case).where(
                CaseLineRow.controller == controller,
                CaseLineRow.subject == subject,
                CaseLineRow.right == right.value,
                CaseLineRow.open.is_(True),
            )
        )
        return CaseId(found) if found is not None else None

    def queue(
        self,
        controllers: Collection[ControllerId],
        *,
        limit: int,
        after: CaseId | None = None,
        ended: bool = False,
    ) -> Sequence[CaseSummary]:
        """Cases of these controllers by strict due date, then id; `after` is the last case of the page before."""
        query = select(CaseRow).where(CaseRow.controller.in_(controllers), CaseRow.ended.is_(ended))
        if after is not None:
            query = query.where(self._behind(after))
        return self._summaries(query.order_by(CaseRow.due_strict, CaseRow.id).limit(limit))

    def _behind(self, after: CaseId) -> ColumnElement[bool]:
        last = _known(self._fresh(CaseRow, after))
        same_day = and_(CaseRow.due_strict == last.due_strict, CaseRow.id > last.id)
        return or_(CaseRow.due_strict > last.due_strict, same_day)

    def of_subject(self, controller: ControllerId, subject: SubjectRef) -> Sequence[CaseSummary]:
        """Every case of a subject, newest first."""
        query = select(CaseRow).where(CaseRow.controller == controller, CaseRow.subject == subject)
        return self._summaries(query.order_by(CaseRow.received_at.desc(), CaseRow.id))

    def _summaries(self, query: Select[CaseRow]) -> list[CaseSummary]:
        rows = self._session.scalars(query.execution_options(populate_existing=True)).all()
        asked = select(CaseLineRow.case, CaseLineRow.right).where(CaseLineRow.case.in_([row.id for row in rows]))
        rights: dict[str, list[Right]] = {}
        for case, right in self._session.execute(asked.order_by(CaseLineRow.right)):
            rights.setdefault(case, []).append(Right(right))
        return [_summary(row, tuple(rights.get(row.id, ()))) for row in rows]

    def case_of_message(self, message: MessageId) -> CaseId:
        """Raises CaseUnknown."""
        return CaseId(_known(self._fresh(CaseMessageRow, message)).case)

    def quiet(
        self, before: datetime, states: Collection[State], *, limit: int, after: CaseId | None = None
    ) -> Sequence[tuple[CaseId, int]]:
        """Return cases in these states to which nothing happened since `before`, with their version, by id."""
        last = and_(CaseEventRow.case == CaseRow.id, CaseEventRow.version == CaseRow.version)
        query = select(CaseRow.id, CaseRow.version).join(CaseEventRow, last).where(CaseEventRow.at < before)
        query = query.where(CaseRow.ended.is_(False), CaseRow.state.in_([one.value for one in states]))
        if after is not None:
            query = query.where(CaseRow.id > after)
        rows = self._session.execute(query.order_by(CaseRow.id).limit(limit))
        return [(CaseId(case), version) for case, version in rows]

    # --- holders

    def add_task(self, task: HolderTask) -> None:
        """Raises CaseChanged when the id exists."""
        place = self._session.scalar(select(func.count()).where(HolderTaskRow.case == task.case))
        self._insert(
            HolderTaskRow,
            {
                "id": task.id,
                "case": task.case,
                "line": task.line,
                "controller": task.controller,
                "subject": task.subject,
                "holder": task.holder,
                "kind": task.kind.value,
                "created_at": task.created_at,
                "place": place,
                "instructions": [plain.encode(one) for one in task.instructions],
            },
        )

    def task(self, task: TaskId) -> HolderTask:
        """Raises CaseUnknown."""
        return _task(_known(self._fresh(HolderTaskRow, task)))

    def answer_task(self, task: TaskId, answer: HolderAnswer, *, settled: bool) -> None:
        """Write the holder's answer; a later one replaces it. Unsettled, the task stays open. Raises CaseUnknown."""
        row = _known(self._fresh(HolderTaskRow, task))
        self._session.execute(
            update(HolderTaskRow)
            .where(HolderTaskRow.id == row.id)
            .values(answer=plain.encode(answer), answered_at=answer.answered_at if settled else None)
        )

    def tasks(self, case: CaseId, kind: TaskKind | None = None) -> Sequence[HolderTask]:
        """The tasks of a case, in the order they were made."""
        query = select(HolderTaskRow).where(HolderTaskRow.case == case).order_by(HolderTaskRow.place)
        if kind is not None:
            query = query.where(HolderTaskRow.kind == kind.value)
        return [_task(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def open_tasks(self, holder: ComponentId, *, limit: int) -> Sequence[HolderTask]:
        """What a holder has not settled yet: what it never answered, oldest first, then what was tried longest ago."""
        again = HolderTaskRow.answer.is_not(None)
        tried = HolderTaskRow.answer["answered_at"].as_string()  # one form, in UTC: in the order of time
        query = (
            select(HolderTaskRow)
            .where(HolderTaskRow.holder == holder, HolderTaskRow.answered_at.is_(None))
            .order_by(again, tried, HolderTaskRow.created_at, HolderTaskRow.case, HolderTaskRow.place)
            .limit(limit)
        )
        return [_task(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def concerned(self, subject: SubjectRef) -> frozenset[ComponentId]:
        """Return the holders that still have to answer, to be searched again, or keep something of a subject."""
        task, later = HolderTaskRow, aliased(HolderTaskRow)
        same = later.line == task.line, later.holder == task.holder
        again = select(later.id).where(later.subject == subject, *same, later.kind == TaskKind.VERIFY.value)
        open_tasks = select(task.holder).where(task.subject == subject, task.answered_at.is_(None))
        unverified = select(task.holder).where(
            task.subject == subject, task.kind == TaskKind.ERASE.value, ~again.exists()
        )
        kept = select(RetentionRow.holder).where(RetentionRow.subject == subject, RetentionRow.erased_at.is_(None))
        return frozenset(ComponentId(name) for name in self._session.scalars(union(open_tasks, unverified, kept)))

    # --- packages

    def add_package(self, package: StoredPackage) -> None:
        """Write a sealed package."""
        self._insert(
            PackageRow,
            {
                "id": package.id,
                "case": package.case,
                "line": package.line,
                "controller": package.controller,
                "subject": package.subject,
                "digest": package.digest,
                "sealed_at": package.sealed_at,
                "expires_at": package.expires_at,
                "revoked_at": package.revoked_at,
            },
        )

    def package(self, package: PackageId) -> StoredPackage:
        """Raises CaseUnknown."""
        return _package(_known(self._fresh(PackageRow, package)))

    def packages(self, controller: ControllerId, subject: SubjectRef) -> Sequence[StoredPackage]:
        """Those not revoked, newest first."""
        query = (
            select(PackageRow)
            .where(
                PackageRow.controller == controller,
                PackageRow.subject == subject,
                PackageRow.revoked_at.is_(None),
            )
            .order_by(PackageRow.sealed_at.desc(), PackageRow.id)
        )
        return [_package(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def expired(self, now: datetime, *, limit: int) -> Sequence[StoredPackage]:
        """Return packages whose time is over and that are not revoked, the oldest first."""
        query = select(PackageRow).where(PackageRow.expires_at <= now, PackageRow.revoked_at.is_(None))
        query = query.order_by(PackageRow.expires_at, PackageRow.id).limit(limit)
        return [_package(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def prolong_package(self, package: PackageId, until: datetime) -> None:
        """Let a package that is not revoked live until then, never shorter than it would. Raises CaseUnknown."""
        row = _known(self._fresh(PackageRow, package))
        longer = PackageRow.revoked_at.is_(None), PackageRow.expires_at < until
        self._session.execute(update(PackageRow).where(PackageRow.id == row.id, *longer).values(expires_at=until))

    def revoke_package(self, package: PackageId, at: datetime) -> None:
        """Kill a package for good; the first moment stands. Raises CaseUnknown."""
        row = _known(self._fresh(PackageRow, package))
        self._session.execute(
            update(PackageRow).where(PackageRow.id == row.id, PackageRow.revoked_at.is_(None)).values(revoked_at=at)
        )

    # --- recipients and retentions

    def add_recipient(self, task: RecipientTask) -> None:
        """Write an art. 19 notice that is owed."""
        self._insert(
            RecipientTaskRow,
            {
                "id": task.id,
                "case": task.case,
                "line": task.line,
                "controller": task.controller,
                "subject": task.subject,
                "recipient": task.recipient,
                "outcome": task.outcome.value,
                "due": task.due,
                "reason": task.reason,
            },
        )

    def recipient(self, task: TaskId) -> RecipientTask:
        """Raises CaseUnknown."""
        return _recipient(_known(self._fresh(RecipientTaskRow, task)))

    def recipients(self, case: CaseId) -> Sequence[RecipientTask]:
        """Every notice of a case."""
        query = select(RecipientTaskRow).where(RecipientTaskRow.case == case).order_by(RecipientTaskRow.recipient)
        return [_recipient(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def settle_recipient(self, task: TaskId, outcome: RecipientOutcome, reason: str | None) -> None:
        """Raises CaseUnknown."""
        row = _known(self._fresh(RecipientTaskRow, task))
        self._session.execute(
            update(RecipientTaskRow).where(RecipientTaskRow.id == row.id).values(outcome=outcome.value, reason=reason)
        )

    def add_retention(self, retention: StoredRetention) -> None:
        """Write what outlives an erasure."""
        self._insert(
            RetentionRow,
            {
                "id": retention.id,
                "case": retention.case,
                "controller": retention.controller,
                "subject": retention.subject,
                "holder": retention.holder,
                "category": retention.category,
                "purpose": retention.purpose,
                "legal_ref": retention.legal_ref,
                "until": retention.until,
                "erased_at": retention.erased_at,
            },
        )

    def retention(self, retention: str) -> StoredRetention:
        """Raises CaseUnknown."""
        return _retention(_known(self._fresh(RetentionRow, retention)))

    def retentions(self, case: CaseId) -> Sequence[StoredRetention]:
        """Everything that outlived the erasure of a case."""
        query = select(RetentionRow).where(RetentionRow.case == case)
        return self._retentions(query.order_by(RetentionRow.until, RetentionRow.id))

    def due_retentions(
        self, on: date, *, limit: int, after: StoredRetention | None = None
    ) -> Sequence[StoredRetention]:
        """Those whose end has come and that are not erased yet, by end and id (dsar rule 49); from behind `after`."""
        query = select(RetentionRow).where(RetentionRow.erased_at.is_(None), RetentionRow.until <= on)
        if after is not None:
            query = query.where(tuple_(RetentionRow.until, RetentionRow.id) > tuple_(after.until, after.id))
        return self._retentions(query.order_by(RetentionRow.until, RetentionRow.id).limit(limit))

    def _retentions(self, query: Select[RetentionRow]) -> list[StoredRetention]:
        return [_retention(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def end_retention(self, retention: str, at: datetime) -> None:
        """Raises CaseUnknown."""
        row = _known(self._fresh(RetentionRow, retention))
        self._session.execute(
            update(RetentionRow).where(RetentionRow.id == row.id, RetentionRow.erased_at.is_(None)).values(erased_at=at)
        )

    def _fresh(self, row: type[Row], key: str) -> Row | None:
        return self._session.get(row, key, populate_existing=True)


class SqlNotes:
    """Sealed notes within the caller's transaction."""

    def __init__(self, session: Session, ids: Ids, seal: NoteSeal) -> None:
        self._session = session
        self._ids = ids
        self._seal = seal

    def keep(self, controller: ControllerId, subject: SubjectRef | None, case: CaseId, text: str) -> NoteId:
        """Seal and store a note; return its id."""
        note = self._ids.new("note")
        sealed = self._seal.seal(controller, subject, note, text)
        row = {"id": note, "case": case, "controller": controller, "subject": subject, "sealed": sealed}
        self._session.execute(insert(CaseNoteRow).values(**row))
        return NoteId(note)

    def read(self, note: NoteId) -> str | Shredded:
        """Open a note. Raises CaseUnknown."""
        row = _known(self._session.get(CaseNoteRow, note))
        subject = SubjectRef(row.subject) if row.subject is not None else None
        return self._seal.open(ControllerId(row.controller), subject, row.id, row.sealed)


def _known(row: Row | None) -> Row:
    if row is None:
        raise CaseUnknown("no such record")
    return row


def _summary(row: CaseRow, rights: tuple[Right, ...]) -> CaseSummary:
    return CaseSummary(
        case=CaseId(row.id),
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject) if row.subject is not None else None,
        state=State(row.state),
        rights=rights,
        received_at=row.received_at,
        due_strict=row.due_strict,
        due_effective=row.due_effective,
        month_one=row.month_one,
    )


def _task(row: HolderTaskRow) -> HolderTask:
    return HolderTask(
        id=TaskId(row.id),
        case=CaseId(row.case),
        line=LineId(row.line),
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject),
        holder=ComponentId(row.holder),
        kind=TaskKind(row.kind),
        created_at=row.created_at,
        instructions=tuple(plain.decode(Instruction, one) for one in row.instructions),
        answer=plain.decode(HolderAnswer, row.answer) if row.answer is not None else None,
        answered_at=row.answered_at,
    )


def _package(row: PackageRow) -> StoredPackage:
    return StoredPackage(
        id=PackageId(row.id),
        case=CaseId(row.case),
        line=LineId(row.line),
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject),
        digest=row.digest,
        sealed_at=row.sealed_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _recipient(row: RecipientTaskRow) -> RecipientTask:
    return RecipientTask(
        id=TaskId(row.id),
        case=CaseId(row.case),
        line=LineId(row.line),
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject),
        recipient=PartyId(row.recipient),
        outcome=RecipientOutcome(row.outcome),
        due=row.due,
        reason=row.reason,
    )


def _retention(row: RetentionRow) -> StoredRetention:
    return StoredRetention(
        id=row.id,
        case=CaseId(row.case),
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject),
        holder=ComponentId(row.holder),
        category=CategoryId(row.category),
        purpose=PurposeId(row.purpose),
        legal_ref=row.legal_ref,
        until=row.until,
        erased_at=row.erased_at,
    )

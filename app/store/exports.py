"""Repositories of the hold-back pool, the sealed cohorts, their released tables, and what asks to be released
(exports.md rules 4-6).

Sealing and releasing are one write: a cohort is sealed when its table has passed the gate, and never changes after.
Leaves out the keys of the pool: whoever empties it destroys them in the vault.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import CursorResult, Update, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.exports.attacks import Earlier
from app.exports.errors import PoolChanged, SubjectAlreadyExported
from app.exports.output import Output
from app.store.rows.exports import CohortMemberRow, CohortRow, PoolRow, ReleaseCandidateRow
from consent.vocabulary import ControllerId, SubjectRef

_MOST_AT_ONCE = 500
"""References in one statement: below the limits of both databases."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """One subject's values waiting in the pool, sealed under key class `pool`."""

    controller: ControllerId
    subject: SubjectRef
    profile: str
    schema_version: int
    sealed: bytes = field(repr=False)
    deadline: datetime
    """When the values are deleted if no cohort took them: the erasure deadline."""


@dataclass(frozen=True, slots=True)
class SealedCohort:
    """A released table and where it came from. `outline` is `app.exports.attacks.outline` of the table."""

    id: str
    controller: ControllerId
    profile: str
    schema_version: int
    subjects: int
    output: Output = field(repr=False)
    outline: dict[str, object] = field(repr=False)
    approved_by: str
    released_at: datetime


@dataclass(frozen=True, slots=True)
class ReleaseCandidate:
    """A table that asks to leave. `report` is `app.exports.risk.report` of it; `cohort` what it became."""

    id: str
    controller: ControllerId
    profile: str
    digest: str
    report: Mapping[str, object] = field(repr=False)
    planned_at: datetime
    approved_by: str | None = None
    approved_at: datetime | None = None
    cohort: str | None = None


class SqlReleaseCandidates:
    """What asks to be released, within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, candidate: ReleaseCandidate) -> None:
        """Write a new candidate, not approved yet."""
        self._session.add(
            ReleaseCandidateRow(
                id=candidate.id,
                controller=candidate.controller,
                profile=candidate.profile,
                digest=candidate.digest,
                report=json.dumps(candidate.report, sort_keys=True),
                planned_at=candidate.planned_at,
            )
        )
        self._session.flush()

    def find(self, candidate: str) -> ReleaseCandidate | None:
        """Return one candidate as it stands now."""
        row = self._session.get(ReleaseCandidateRow, candidate, populate_existing=True)
        return None if row is None else _candidate(row)

    def of(self, controllers: Collection[ControllerId], *, limit: int = 50) -> Sequence[ReleaseCandidate]:
        """Return the candidates of these controllers, newest first."""
        query = select(ReleaseCandidateRow).where(ReleaseCandidateRow.controller.in_(controllers))
        query = query.order_by(ReleaseCandidateRow.planned_at.desc(), ReleaseCandidateRow.id).limit(limit)
        return [_candidate(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def approve(self, candidate: str, digest: str, by: str, at: datetime) -> bool:
        """Record who let the files with this digest go; one of two racing callers does, and only once."""
        open_ = ReleaseCandidateRow.approved_at.is_(None), ReleaseCandidateRow.digest == digest
        statement = update(ReleaseCandidateRow).where(ReleaseCandidateRow.id == candidate, *open_)
        return self._changes(statement.values(approved_by=by, approved_at=at))

    def released(self, candidate: str, cohort: str) -> bool:
        """Mark an approved candidate as gone; False when it has gone before."""
        open_ = ReleaseCandidateRow.cohort.is_(None), ReleaseCandidateRow.approved_at.is_not(None)
        statement = update(ReleaseCandidateRow).where(ReleaseCandidateRow.id == candidate, *open_)
        return self._changes(statement.values(cohort=cohort))

    def _changes(self, statement: Update) -> bool:
        done = self._session.execute(statement, execution_options={"synchronize_session": False})
        return isinstance(done, CursorResult) and done.rowcount == 1


class SqlExports:
    """The pool and the releases within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_to_pool(self, held: HeldBack) -> None:
        """Hold `held` back, in place of what the same subject had in the pool.

        Raises SubjectAlreadyExported when the subject is in a sealed cohort.
        """
        if self._session.get(CohortMemberRow, (held.controller, held.subject)) is not None:
            raise SubjectAlreadyExported("the subject is in a sealed cohort")
        self._session.merge(_pool_row(held))
        self._session.flush()

    def open_pool(self, controller: ControllerId, profile: str, *, now: datetime) -> Sequence[HeldBack]:
        """Return what waits for a cohort of `profile` and is not past its deadline, by subject reference."""
        query = (
            select(PoolRow)
            .where(PoolRow.controller == controller, PoolRow.profile == profile, PoolRow.deadline > now)
            .order_by(PoolRow.subject)
        )
        return [_held_back(row) for row in self._session.scalars(query)]

    def overdue(self, now: datetime, *, limit: int = 500) -> Sequence[HeldBack]:
        """Return what no cohort took in time, oldest deadline first: to be removed, its keys destroyed."""
        query = select(PoolRow).where(PoolRow.deadline <= now).order_by(PoolRow.deadline, PoolRow.subject).limit(limit)
        return [_held_back(row) for row in self._session.scalars(query)]

    def remove_overdue(self, controller: ControllerId, subjects: Sequence[SubjectRef], now: datetime) -> int:
        """Remove what these subjects have in the pool past its deadline; return how many there were."""
        gone = 0
        for at in range(0, len(subjects), _MOST_AT_ONCE):
            late = PoolRow.deadline <= now, PoolRow.subject.in_(subjects[at : at + _MOST_AT_ONCE])
            found = self._session.execute(
                delete(PoolRow).where(PoolRow.controller == controller, *late).returning(PoolRow.subject)
            )
            gone += len(found.all())
        return gone

    def remove_subject(self, controller: ControllerId, subject: SubjectRef) -> bool:
        """Take a subject out of the open pool; False when nothing of theirs waits there (any more)."""
        return self._delete_from_pool(controller, [subject]) == 1

    def seal(self, cohort: SealedCohort, members: Sequence[SubjectRef]) -> None:
        """Seal `members` as `cohort` with its released table, and empty their places in the pool.

        Raises PoolChanged when a member is no longer in the open pool, SubjectAlreadyExported when one is in an
        earlier cohort; then the caller's transaction must be rolled back.
        """
        controller = cohort.controller
        if len(set(members)) != cohort.subjects or self._delete_from_pool(controller, members) != cohort.subjects:
            raise PoolChanged("the pool is no longer what was judged")
        rows = [{"controller": controller, "subject": member, "cohort": cohort.id} for member in members]
        try:
            with self._session.begin_nested():
                self._session.add(_cohort_row(cohort))
                self._session.flush()
                self._session.execute(insert(CohortMemberRow), rows)
        except IntegrityError as fault:
            raise SubjectAlreadyExported("a member is in a sealed cohort, or the cohort exists") from fault

    def cohorts(self, controller: ControllerId) -> Sequence[SealedCohort]:
        """Return every released cohort of the controller, the oldest first."""
        query = (
            select(CohortRow).where(CohortRow.controller == controller).order_by(CohortRow.released_at, CohortRow.id)
        )
        return [_cohort(row) for row in self._session.scalars(query)]

    def sealed(self) -> Sequence[tuple[str, ControllerId]]:
        """Return (cohort, controller) of every sealed cohort, the oldest first, without their tables."""
        query = select(CohortRow.id, CohortRow.controller).order_by(CohortRow.released_at, CohortRow.id)
        return [(row[0], ControllerId(row[1])) for row in self._session.execute(query)]

    def cohort(self, controller: ControllerId, cohort_id: str) -> SealedCohort | None:
        """Return one released cohort, None when the controller has no such."""
        row = self._session.get(CohortRow, cohort_id)
        return None if row is None or row.controller != controller else _cohort(row)

    def members(self, cohort_id: str) -> frozenset[SubjectRef]:
        """Return who was in a cohort; not where in its table."""
        query = select(CohortMemberRow.subject).where(CohortMemberRow.cohort == cohort_id)
        return frozenset(SubjectRef(subject) for subject in self._session.scalars(query))

    def earlier(self, controller: ControllerId) -> Sequence[Earlier]:
        """Return every released table as the gate compares with it."""
        return [
            Earlier.from_plain(cohort.outline, frozenset(self.members(cohort.id)))
            for cohort in self.cohorts(controller)
        ]

    def _delete_from_pool(self, controller: ControllerId, subjects: Sequence[SubjectRef]) -> int:
        gone = 0
        for at in range(0, len(subjects), _MOST_AT_ONCE):
            some = PoolRow.controller == controller, PoolRow.subject.in_(subjects[at : at + _MOST_AT_ONCE])
            gone += len(self._session.execute(delete(PoolRow).where(*some).returning(PoolRow.subject)).all())
        return gone


def _pool_row(held: HeldBack) -> PoolRow:
    return PoolRow(
        controller=held.controller,
        subject=held.subject,
        profile=held.profile,
        schema_version=held.schema_version,
        sealed=held.sealed,
        deadline=held.deadline,
    )


def _held_back(row: PoolRow) -> HeldBack:
    return HeldBack(
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject),
        profile=row.profile,
        schema_version=row.schema_version,
        sealed=row.sealed,
        deadline=row.deadline,
    )


def _candidate(row: ReleaseCandidateRow) -> ReleaseCandidate:
    return ReleaseCandidate(
        id=row.id,
        controller=ControllerId(row.controller),
        profile=row.profile,
        digest=row.digest,
        report=json.loads(row.report),
        planned_at=row.planned_at,
        approved_by=row.approved_by,
        approved_at=row.approved_at,
        cohort=row.cohort,
    )


def _cohort_row(cohort: SealedCohort) -> CohortRow:
    return CohortRow(
        id=cohort.id,
        controller=cohort.controller,
        profile=cohort.profile,
        schema_version=cohort.schema_version,
        subjects=cohort.subjects,
        table_csv=cohort.output.csv,
        table_parquet=cohort.output.parquet,
        manifest=cohort.output.manifest,
        outline=json.dumps(cohort.outline, sort_keys=True),
        approved_by=cohort.approved_by,
        released_at=cohort.released_at,
    )


def _cohort(row: CohortRow) -> SealedCohort:
    return SealedCohort(
        id=row.id,
        controller=ControllerId(row.controller),
        profile=row.profile,
        schema_version=row.schema_version,
        subjects=row.subjects,
        output=Output(row.table_csv, row.table_parquet, row.manifest),
        outline=json.loads(row.outline),
        approved_by=row.approved_by,
        released_at=row.released_at,
    )

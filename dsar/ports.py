"""What the law of requests needs from outside, as small typed Protocols, and the plain records they carry.

Everything here is bound to one unit of work: `Desk` is made for one transaction, which its maker commits or drops.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from consent.policy import Controller, Policy
from consent.ports import Clock, Consents, Ids, Journal, Limits, Work
from consent.vocabulary import CategoryId, ComponentId, ControllerId, PartyId, PurposeId, Shredded, SubjectRef
from dsar.case import Case, State
from dsar.clock import Calendar, Deadlines
from dsar.events import Event
from dsar.package import HolderAnswer
from dsar.practice import Practice
from dsar.vocabulary import (
    CaseId,
    FateKind,
    LineId,
    MessageId,
    NoteId,
    PackageId,
    RecipientOutcome,
    Right,
    TaskId,
    TaskKind,
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event as stored: its place in the case and its ledger entry."""

    version: int
    event: Event
    entry: str


@dataclass(frozen=True, slots=True)
class CaseSummary:
    """One row of the queue."""

    case: CaseId
    controller: ControllerId
    subject: SubjectRef | None
    state: State
    rights: tuple[Right, ...]
    received_at: datetime
    due_strict: date
    due_effective: date
    month_one: date


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a holder is told to do with one category under one purpose (dsar rule 48)."""

    category: CategoryId
    purpose: PurposeId
    fate: FateKind
    until: date | None = None
    """Only with retain: kept until, and not on, this day."""
    legal_ref: str | None = None
    cohort: str | None = None


@dataclass(frozen=True, slots=True)
class HolderTask:
    """What one holder is asked for one line."""

    id: TaskId
    case: CaseId
    line: LineId
    controller: ControllerId
    subject: SubjectRef
    holder: ComponentId
    kind: TaskKind
    created_at: datetime
    instructions: tuple[Instruction, ...] = ()
    answer: HolderAnswer | None = None
    answered_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class StoredPackage:
    """A sealed package; its bytes are elsewhere, sealed."""

    id: PackageId
    case: CaseId
    line: LineId
    controller: ControllerId
    subject: SubjectRef
    digest: str
    """Hex SHA-256 of the manifest."""
    sealed_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class RecipientTask:
    """An art. 19 notice owed to one named recipient (dsar rule 56)."""

    id: TaskId
    case: CaseId
    line: LineId
    controller: ControllerId
    subject: SubjectRef
    recipient: PartyId
    outcome: RecipientOutcome
    due: date
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class StoredRetention:
    """What outlived an erasure, why, and the day it goes (dsar rule 49)."""

    id: str
    case: CaseId
    controller: ControllerId
    subject: SubjectRef
    holder: ComponentId
    category: CategoryId
    purpose: PurposeId
    legal_ref: str
    until: date
    erased_at: datetime | None = None


class Cases(Protocol):
    """The repository of cases and everything that hangs on one. Every look-up raises CaseUnknown."""

    def write(self, case: Case, *, before: int, events: Sequence[tuple[Event, str]], dates: Deadlines) -> None:
        """Append `events` (each with its ledger entry) to a case that had `before` events, 0 for a new one.

        Raises CaseChanged when it has others by now, or when the same open line exists already.
        """
        ...

    def get(self, case: CaseId) -> Case: ...

    def history(self, case: CaseId) -> Sequence[Recorded]: ...

    def summary(self, case: CaseId) -> CaseSummary: ...

    def open_line(self, controller: ControllerId, subject: SubjectRef, right: Right) -> CaseId | None: ...

    def queue(
        self,
        controllers: Collection[ControllerId],
        *,
        limit: int,
        after: CaseId | None = None,
        ended: bool = False,
    ) -> Sequence[CaseSummary]:
        """Cases by strict due date, then id; `after` pages on (dsar rule 21)."""
        ...

    def of_subject(self, controller: ControllerId, subject: SubjectRef) -> Sequence[CaseSummary]: ...

    def case_of_message(self, message: MessageId) -> CaseId: ...

    def add_task(self, task: HolderTask) -> None: ...

    def task(self, task: TaskId) -> HolderTask: ...

    def answer_task(self, task: TaskId, answer: HolderAnswer, *, settled: bool) -> None:
        """Write an answer; unsettled, the task stays open to be answered again."""
        ...

    def tasks(self, case: CaseId, kind: TaskKind | None = None) -> Sequence[HolderTask]: ...

    def open_tasks(self, holder: ComponentId, *, limit: int) -> Sequence[HolderTask]:
        """What a holder still has to do, oldest first; behind it what it answered no good, longest ago first.

        The pull side of the holder protocol: failing tasks hold up no other.
        """
        ...

    def add_package(self, package: StoredPackage) -> None: ...

    def package(self, package: PackageId) -> StoredPackage: ...

    def packages(self, controller: ControllerId, subject: SubjectRef) -> Sequence[StoredPackage]:
        """Those not revoked, newest first."""
        ...

    def prolong_package(self, package: PackageId, until: datetime) -> None:
        """Let a living package live until then; never shorter than it would."""
        ...

    def revoke_package(self, package: PackageId, at: datetime) -> None: ...

    def add_recipient(self, task: RecipientTask) -> None: ...

    def recipient(self, task: TaskId) -> RecipientTask: ...

    def recipients(self, case: CaseId) -> Sequence[RecipientTask]: ...

    def settle_recipient(self, task: TaskId, outcome: RecipientOutcome, reason: str | None) -> None: ...

    def add_retention(self, retention: StoredRetention) -> None: ...

    def retention(self, retention: str) -> StoredRetention: ...

    def retentions(self, case: CaseId) -> Sequence[StoredRetention]: ...

    def due_retentions(
        self, on: date, *, limit: int, after: StoredRetention | None = None
    ) -> Sequence[StoredRetention]:
        """Those whose end has come and that are not erased yet, by end and id; `after`: from behind that one on."""
        ...

    def end_retention(self, retention: str, at: datetime) -> None: ...


class Notes(Protocol):
    """What people wrote, sealed under the subject's key (the controller's, without a subject) and named by an id."""

    def keep(self, controller: ControllerId, subject: SubjectRef | None, case: CaseId, text: str) -> NoteId: ...

    def read(self, note: NoteId) -> str | Shredded: ...


class Calendars(Protocol):
    """The working days where a controller is."""

    def of(self, controller: Controller) -> Calendar: ...


class Agreements(Protocol):
    """Consents, restrictions and objections in the same unit of work: what some rights change (`consent.limiting`)."""

    @property
    def consents(self) -> Consents: ...

    @property
    def limits(self) -> Limits: ...

    @property
    def journal(self) -> Journal: ...

    @property
    def work(self) -> Work: ...


@dataclass(frozen=True, slots=True)
class Desk:
    """Everything a use case works with, bound to one unit of work."""

    cases: Cases
    notes: Notes
    agreements: Agreements
    journal: Journal
    work: Work
    clock: Clock
    ids: Ids
    calendars: Calendars
    policy: Policy
    practice: Practice

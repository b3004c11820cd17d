"""What the law needs from outside, as small typed Protocols; `app.wiring` hands in what fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from consent.decision import Component, Standing
from consent.events import Event
from consent.limits import LimitId, ObjectionRecord, RestrictionRecord
from consent.record import Consent
from consent.vocabulary import ComponentId, ConsentId, ControllerId, PartyId, PurposeId, SubjectRef

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class Clock(Protocol):
    """The time, always timezone-aware UTC."""

    def now(self) -> datetime: ...


class Ids(Protocol):
    """Fresh unguessable identifiers: `new("con")` -> `con_` + 26 base32 characters (128 random bits and more)."""

    def new(self, prefix: str) -> str: ...


class Journal(Protocol):
    """The ledger as a writer sees it: the entry commits with the unit of work or not at all."""

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str:
        """Append an entry and return its id. `kind` is `noun.past_participle`, e.g. `consent.given`.

        The payload is sealed under the subject's audit key (or the controller's, without a subject); it may name
        opaque ids and codes, never contact data.
        """
        ...


class Work(Protocol):
    """Durable follow-up work: committed with the unit of work, carried out at least once afterwards."""

    def enqueue(self, kind: str, ref: str, *, due: datetime | None = None) -> None:
        """`kind` is a workflow's registered name, `ref` an opaque id: nothing else may travel in job tables."""
        ...


class Consents(Protocol):
    """The consents of each controller apart: none is ever found under another one's id."""

    def add(self, consent: ConsentId, event: Event) -> Consent:
        """Begin a consent with its first event. Raises MoveRefusedError unless that is a request."""
        ...

    def find(self, controller: ControllerId, consent: ConsentId) -> Consent | None:
        """Return the consent as its events leave it. Raises BrokenChainError when they were tampered with."""
        ...

    def lock(self, controller: ControllerId, consent: ConsentId) -> Consent | None:
        """Return it for a change: until the unit of work ends nobody else changes it."""
        ...

    def append(self, before: Consent, event: Event) -> Consent:
        """Append an event to what was read. Raises StaleVersionError when somebody else changed it since."""
        ...

    def events(self, controller: ControllerId, consent: ConsentId) -> tuple[Event, ...]:
        """Return its events in order; empty when there is no such consent."""
        ...

    def of_subject(
        self, controller: ControllerId, subject: SubjectRef, purpose: PurposeId | None = None
    ) -> tuple[Consent, ...]:
        """Return the subject's consents, newest first, of one purpose or of all."""
        ...

    def of_party(
        self, controller: ControllerId, party: PartyId, *, limit: int, after: ConsentId | None = None
    ) -> tuple[Consent, ...]:
        """Return the consents a party asked for, by id, those after `after`."""
        ...

    def due(self, at: datetime, *, limit: int) -> tuple[tuple[ControllerId, ConsentId], ...]:
        """Return what time has ended by `at` and nobody has recorded yet, the longest overdue first."""
        ...


class Standings(Protocol):
    """What the subjects' own rows, their cases and mandates say."""

    def standing(self, subject: SubjectRef, purpose: PurposeId, at: datetime) -> Standing | None:
        """Return what holds for the subject at `at`; None when there is no such subject."""
        ...


class Limits(Protocol):
    """Restrictions and objections of each controller apart: none is ever found under another one's id."""

    def knows(self, controller: ControllerId, subject: SubjectRef) -> bool:
        """Say whether that is a subject of this controller, and not an erased one."""
        ...

    def add_restriction(self, record: RestrictionRecord) -> None: ...

    def restriction(self, controller: ControllerId, limit: LimitId) -> RestrictionRecord | None:
        """Return it for a change: until the unit of work ends nobody else changes it."""
        ...

    def restrictions(self, controller: ControllerId, subject: SubjectRef) -> Sequence[RestrictionRecord]:
        """Return the subject's, lifted ones too, newest first."""
        ...

    def write_restriction(self, record: RestrictionRecord) -> None:
        """Write down what changed: exempt purposes, its end and who was told."""
        ...

    def add_objection(self, record: ObjectionRecord) -> None: ...

    def objection(self, controller: ControllerId, limit: LimitId) -> ObjectionRecord | None:
        """Return it for a change: until the unit of work ends nobody else changes it."""
        ...

    def objections(self, controller: ControllerId, subject: SubjectRef) -> Sequence[ObjectionRecord]:
        """Return the subject's, refused and retracted ones too, newest first."""
        ...

    def write_objection(self, record: ObjectionRecord) -> None:
        """Write down what changed: its refusal or its retraction."""
        ...


class Components(Protocol):
    """The register of components."""

    def component(self, component: ComponentId) -> Component | None:
        """Return what is registered, suspended or not; None when it is unknown."""
        ...


class Reads(Protocol):
    """The counter of unattended reads (RTS art. 36(5)(b))."""

    def reads(self, consent: str, party: str, at: datetime) -> int:
        """Return how many a party began under a consent in the 24 hours before `at`."""
        ...


class Agreed(Protocol):
    """Consents as the decision looks them up."""

    def find(self, controller: ControllerId, consent: ConsentId, /) -> Consent | None: ...

    def of_subject(
        self, controller: ControllerId, subject: SubjectRef, purpose: PurposeId | None = None, /
    ) -> tuple[Consent, ...]: ...


class Reading(Protocol):
    """What the decision reads and nothing else; every `Unit` is one."""

    @property
    def consents(self) -> Agreed: ...

    @property
    def standings(self) -> Standings: ...

    @property
    def components(self) -> Components: ...

    @property
    def reads(self) -> Reads: ...


class Changing(Protocol):
    """What a change of consents needs of a unit that is open already and that somebody else commits."""

    @property
    def consents(self) -> Consents: ...

    @property
    def journal(self) -> Journal: ...

    @property
    def work(self) -> Work: ...


class Unit(Protocol):
    """One unit of work: leaving the `with` block without `commit()` means nothing happened."""

    @property
    def consents(self) -> Consents: ...

    @property
    def journal(self) -> Journal: ...

    @property
    def work(self) -> Work: ...

    @property
    def standings(self) -> Standings: ...

    @property
    def components(self) -> Components: ...

    @property
    def reads(self) -> Reads: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...

    def commit(self) -> None:
        """Make everything since the block began durable at once."""
        ...

"""What the vault needs from outside: a key provider, a key store, a clock (Protocols), and the records they exchange.

Every record holds wrapped keys and opaque ids only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from app.vault.keys import KeyClass, Scope

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
REPLAYED = ".replay"
"""How the id of an erasure ends that a restored store has to carry out again."""
Sign = Callable[[bytes], Mapping[str, Json]]
"""Signs canonical bytes; returns the signature as plain data (algorithm, key id, value)."""


class Clock(Protocol):
    """The time, always timezone-aware UTC."""

    def now(self) -> datetime: ...


CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""How far the clocks of two hosts may be apart. What ends later than that beyond its longest life was written before a
clock was set back."""
LONGEST_LEASE: Final = 60
"""Seconds (vault.md section 3)."""


class RootState(StrEnum):
    """Where a root key stands in its provider."""

    ACTIVE = "active"
    SCHEDULED = "scheduled"
    """Unusable now, irrevocable later."""
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class RootName:
    """The root of one partition of one class in one generation."""

    key_class: KeyClass
    partition: int
    generation: int

    def text(self) -> str:
        """`data/12/3`."""
        return f"{self.key_class}/{self.partition}/{self.generation}"


@dataclass(frozen=True, slots=True)
class RootDescription:
    """What a provider says of a root. `assurance` is the sentence printed on the certificate."""

    state: RootState
    irrevocable_at: datetime | None
    assurance: str
    evidence: Mapping[str, Json]


class KeyProvider(Protocol):
    """Where root keys live. Every call may raise `ProviderUnavailable`; each names the key it wraps."""

    @property
    def kind(self) -> str:
        """Short stable name of the provider, e.g. `file`."""
        ...

    def create_root(self, name: RootName) -> str:
        """Return the reference of the root of this name, making it when there is none: asking twice gives one root."""
        ...

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Return `key` wrapped; raises `UnknownRoot`, `RootDestroyed`."""
        ...

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `UnknownRoot`, `RootDestroyed`, `KeyDamaged`."""
        ...

    def destroy(self, root: str) -> None:
        """Destroy a root, or schedule it; doing it twice is doing it once. Raises `UnknownRoot`."""
        ...

    def describe(self, root: str) -> RootDescription:
        """Return where the root stands; raises `UnknownRoot`."""
        ...


class ErasureState(StrEnum):
    """The steps of an erasure, in order (vault.md section 5); `SCHEDULED` stands in for `OLD_ROOT_DESTROYED`."""

    REQUESTED = "requested"
    CACHES_EVICTED = "caches_evicted"
    KEY_ROW_REMOVED = "key_row_removed"
    REWRAPPED = "rewrapped"
    VERIFIED = "verified"
    COMMITTED = "committed"
    OLD_ROOT_DESTROYED = "old_root_destroyed"
    SCHEDULED = "scheduled"
    SCANNED = "scanned"
    CERTIFIED = "certified"


class Hold(StrEnum):
    """Why an erasure may not begin before people agreed to it."""

    MASS_ERASURE = "mass_erasure"


@dataclass(frozen=True, slots=True)
class Approval:
    """One colleague's word for a held erasure: an opaque staff id."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition's present generation: its root's reference and its epoch key wrapped by that root."""

    key_class: KeyClass
    number: int
    generation: int
    root: str
    epoch_wrapped: bytes
    claimed_by: str | None = None


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """A subject key wrapped by the epoch key of its partition; `staged` is its form under the coming generation."""

    id: bytes
    controller: str
    subject: str
    key_class: KeyClass
    partition: int
    wrapped: bytes
    staged: bytes | None = None
    staged_generation: int | None = None


@dataclass(frozen=True, slots=True)
class DataKey:
    """A data key wrapped by its subject key. `doomed_by` names the first erasure that is to destroy it."""

    id: bytes
    subject_key_id: bytes
    scope: Scope
    sequence: int
    wrapped: bytes
    created_at: datetime
    leased_until: datetime | None = None
    messages: int = 0
    doomed_by: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPath:
    """Everything needed to open one data key: the key, its subject key, their partition."""

    key: DataKey
    subject_key: SubjectKey
    partition: Partition


@dataclass(frozen=True, slots=True)
class IndexKey:
    """The key of one blind index: a controller's field, in one epoch; wrapped by the index partition's epoch key."""

    id: bytes
    controller: str
    field: str
    epoch: int
    partition: int
    wrapped: bytes
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DestroyedKey:
    """What remains of a data key: its id, what it was for, and when it went."""

    id: bytes
    scope: Scope
    at: datetime
    erasure_id: str


@dataclass(frozen=True, slots=True)
class NamedKey:
    """A data key as a certificate names it; `until` and `reason` where it was kept."""

    id: bytes
    holder: str
    category: str
    basis: str
    life: str
    until: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class ErasureTarget:
    """One subject in one key class of one erasure, as decided when it was asked for."""

    controller: str
    subject: str
    key_class: KeyClass
    partition: int
    whole: bool
    subject_key_id: bytes
    destroyed: tuple[NamedKey, ...]
    retained: tuple[NamedKey, ...]


@dataclass(frozen=True, slots=True)
class ErasureSite:
    """One partition that an erasure re-wraps, and what is known of it so far."""

    key_class: KeyClass
    partition: int
    old_generation: int | None = None
    old_root: str | None = None
    new_generation: int | None = None
    new_root: str | None = None
    new_epoch_wrapped: bytes | None = None
    keys_before: int | None = None
    keys_after: int | None = None
    inventory_before: str | None = None
    inventory_after: str | None = None
    root_state: str | None = None
    irrevocable_at: datetime | None = None
    assurance: str | None = None
    evidence: Mapping[str, Json] = field(default_factory=dict)
    kept_until: datetime | None = None
    """Until when the old root lives on for backups of the key store; None where it went at once."""


@dataclass(frozen=True, slots=True)
class Scan:
    """The byte search after an erasure. `hits` counts found traces; a `reason` says why something was not searched."""

    files: int
    bytes_read: int
    hits: int
    truncated: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Erasure:
    """The journal of one erasure."""

    id: str
    state: ErasureState
    requested_at: datetime
    acknowledged: bool
    committed_at: datetime | None
    targets: tuple[ErasureTarget, ...]
    sites: tuple[ErasureSite, ...]
    scan: Scan | None
    certificates: tuple[Mapping[str, Json], ...]
    changed_at: datetime | None = None
    batch: str | None = None
    """The erasure that led the batch this one goes with; None before it joined any."""
    requested_by: str | None = None
    held_for: Hold | None = None
    approved_at: datetime | None = None
    not_before: datetime | None = None
    approvals: tuple[Approval, ...] = ()
    completions: tuple[Mapping[str, Json], ...] = ()
    """One signed document for each subject, once roots that were kept for a window are gone."""

    @property
    def places(self) -> tuple[tuple[KeyClass, int], ...]:
        """The partitions it re-wraps."""
        return tuple((site.key_class, site.partition) for site in self.sites)


class KeyTransaction(Protocol):
    """One transaction on the key store; a row read with `lock` stays as it is until the end."""

    def partition(self, key_class: KeyClass, number: int, *, lock: bool = False) -> Partition | None: ...
    def partitions(self) -> Sequence[Partition]:
        """Return all of them, in the order in which everybody holds them."""
        ...

    def add_partition(self, partition: Partition) -> None:
        """Add it unless there is one already."""
        ...

    def under_root(self, root: str) -> Sequence[Partition]:
        """The partitions whose epoch key this root wraps."""
        ...

    def claim(self, key_class: KeyClass, number: int, erasure_id: str) -> bool:
        """Claim the partition for one erasure; false when another has it."""
        ...

    def release(self, erasure_id: str) -> None:
        """Give back every partition this erasure claimed."""
        ...

    def allot(self, count: int) -> int:
        """Take `count` places for subjects and return the first."""
        ...

    def known(self, controller: str, subjects: Sequence[str]) -> frozenset[str]:
        """Which of these subjects have, or had, keys."""
        ...

    def add_subject_keys(self, keys: Sequence[SubjectKey], at: datetime) -> None: ...
    def subject_key(
        self, controller: str, subject: str, key_class: KeyClass, *, lock: bool = False
    ) -> SubjectKey | None: ...
    def subject_keys_in(self, key_class: KeyClass, number: int) -> Sequence[SubjectKey]: ...
    def subject_key_ids_in(self, key_class: KeyClass, number: int) -> Sequence[bytes]: ...
    def stage(self, staged: Sequence[tuple[bytes, bytes]], generation: int) -> None:
        """Set each (subject key id, wrapped under the coming epoch)."""
        ...

    def promote(self, key_class: KeyClass, number: int, new: Partition) -> None:
        """Let the staged forms take the place of the old ones, and the new generation that of the old."""
        ...

    def remove_subject_key(self, key_id: bytes) -> None: ...
    def erased_at(self, controller: str, subject: str, key_class: KeyClass) -> datetime | None: ...
    def close_subject(
        self, controller: str, subject: str, key_class: KeyClass, at: datetime, erasure_id: str
    ) -> None: ...

    def path_of_scope(self, scope: Scope) -> KeyPath | None:
        """The newest key of the scope that is not doomed."""
        ...

    def path_of_key(self, key_id: bytes) -> KeyPath | None: ...
    def data_keys(self, subject_key_id: bytes) -> Sequence[DataKey]: ...
    def next_sequence(self, scope: Scope) -> int: ...
    def add_data_key(self, key: DataKey) -> None: ...
    def charge(self, key_id: bytes, messages: int, leased_until: datetime | None) -> bool:
        """Count messages and note a lease; false when the key is doomed or gone."""
        ...

    def doom(self, key_ids: Sequence[bytes], erasure_id: str) -> None: ...
    def leased_until(self, erasure_id: str) -> datetime | None:
        """When the last lease of a key this erasure dooms ends."""
        ...

    def shorten_leases(self, erasure_id: str, until: datetime) -> None:
        """Let none of those leases end later than this."""
        ...

    def remove_data_keys(self, destroyed: Sequence[DestroyedKey]) -> None: ...
    def rebind(self, moved: Sequence[tuple[bytes, bytes]], subject_key_id: bytes) -> None:
        """Set each (data key id, wrapped) under another subject key."""
        ...

    def destroyed(self, key_id: bytes) -> DestroyedKey | None: ...
    def index_keys(self, controller: str, index_field: str) -> Sequence[IndexKey]:
        """Newest epoch first."""
        ...

    def index_paths(self, controller: str, index_field: str) -> Sequence[tuple[IndexKey, Partition]]:
        """Newest epoch first, each with its partition as it is at the same moment."""
        ...

    def add_index_key(self, key: IndexKey) -> None: ...
    def remove_index_keys(self, key_ids: Sequence[bytes]) -> None: ...
    def index_keys_in(self, number: int) -> Sequence[IndexKey]: ...
    def rewrap_index_keys(self, moved: Sequence[tuple[bytes, bytes]]) -> None:
        """Set each (index key id, wrapped under the coming epoch)."""
        ...

    def add_erasure(self, erasure: Erasure) -> None: ...
    def erasure(self, erasure_id: str) -> Erasure | None: ...
    def unfinished(self) -> Sequence[str]: ...
    def unfinished_by_state(self) -> Sequence[tuple[ErasureState, int, datetime]]:
        """Return (state, how many, since when the oldest was asked for) of those that have not ended."""
        ...

    def acknowledge(self, erasure_id: str, at: datetime) -> None: ...
    def take(self, erasure_id: str, worker: str, now: datetime, until: datetime) -> bool:
        """Let one worker have the erasure for a while; false when another has it."""
        ...

    def give_back(self, erasure_id: str, worker: str) -> None: ...
    def hold(self, erasure_id: str, state: ErasureState, worker: str) -> bool:
        """Hold the journal of an erasure until the end; false when it is in another state or not this worker's."""
        ...

    def waiting(self, now: datetime) -> Sequence[str]:
        """Return, and hold, the erasures at KEY_ROW_REMOVED that are in no batch and no worker's, oldest first."""
        ...

    def members(self, batch: str) -> Sequence[str]:
        """Return the ids of the erasures in a batch, in order."""
        ...

    def join(self, erasure_ids: Sequence[str], batch: str) -> None: ...
    def part(self, batch: str) -> None:
        """Make each member of the batch a batch of its own."""
        ...

    def startable(self, now: datetime, moved_before: datetime | None) -> Sequence[str]:
        """Return the unfinished ones that wait neither for approval nor for a cooling period, oldest first."""
        ...

    def one_at_a_time(self) -> None:
        """Let no other transaction that asks for this pass before the end of this one."""
        ...

    def asked_since(self, since: datetime) -> frozenset[tuple[str, str]]:
        """Return (controller, subject) of whole people whose erasure was asked for later; replays do not count."""
        ...

    def add_approval(self, erasure_id: str, approval: Approval, *, last: bool) -> None:
        """Note a colleague's word; with the `last` one the erasure may begin."""
        ...

    def permit(self, erasure_id: str, at: datetime) -> None:
        """Let an erasure begin without asking or waiting again."""
        ...

    def held(self) -> Sequence[str]:
        """Return the ids of those that wait for approval, oldest first."""
        ...

    def move(self, erasure_id: str, old: ErasureState, new: ErasureState, worker: str, at: datetime) -> None:
        """Journal the step; raises `PartitionBusy` when another worker moved it meanwhile."""
        ...

    def save_site(self, erasure_id: str, site: ErasureSite) -> None: ...
    def save_scan(self, erasure_id: str, scan: Scan) -> None: ...
    def save_certificates(self, erasure_id: str, certificates: Sequence[Mapping[str, Json]]) -> None: ...
    def recoverable_until(self, key_class: KeyClass, number: int) -> datetime | None:
        """Return until when an earlier root of the partition could be brought back; None when it never had another."""
        ...

    def open_still(self, now: datetime) -> frozenset[tuple[str, str, KeyClass]]:
        """Return (controller, subject, class) of those of whom an erasure takes keys that an old copy may still open:
        its root has not ended, is kept for backups, can be called back, or nobody knows.
        """
        ...

    def lives_on(self, key_class: KeyClass, number: int, generation: int) -> bool:
        """Whether an erasure committed away from an earlier generation's root and nobody noted what became of it."""
        ...

    def kept_sites(self, until: datetime | None) -> Sequence[tuple[str, ErasureSite]]:
        """Return (erasure, site) of each old root that is kept for backups: those whose window is over then, or all."""
        ...

    def uncompleted(self) -> Sequence[str]:
        """Return the certified erasures that kept roots, keep none any more, and have no completion."""
        ...

    def save_completions(self, erasure_id: str, completions: Sequence[Mapping[str, Json]]) -> bool:
        """Keep the signed completions; false when there are some already."""
        ...

    def add_probes(self, erasure_id: str, probes: Sequence[bytes]) -> None: ...
    def probes(self, erasure_id: str) -> Sequence[bytes]: ...
    def drop_probes(self, erasure_id: str) -> None: ...


class KeyStore(Protocol):
    """The database of wrapped keys. Leaving a transaction by an error undoes it."""

    def writing(self) -> AbstractContextManager[KeyTransaction]: ...
    def reading(self) -> AbstractContextManager[KeyTransaction]: ...
    def checkpoint(self) -> bool:
        """Empty the write-ahead log into the database; false when a reader prevented it."""
        ...

    def scan(self, needles: Sequence[bytes]) -> Scan:
        """Search every file of the store for these bytes."""
        ...

"""Moving the roots of a key store from one provider to another while the service runs (vault.md section 4).

Two providers stand side by side for the time of a move: each root's reference says whose it is, new roots are made by
the present one. A partition moves as an erasure moves it: a new generation with a root of the present provider and a
new epoch key, every key re-wrapped and opened again under both, in one transaction. The same epoch key under a new root
would let whoever has an old backup and a stolen old root open what is made after the move.

A partition is claimed before it moves and keeps that claim until its old root is destroyed. Which root that was stands
in the journal of erasures, as an entry about nobody made in the transaction of the move: so every step can be killed
and taken again, and a later certificate knows until when an old root could be called back. Erasures of a claimed
partition wait, because an old root that lives still opens what they promise to destroy; that is the price of destroying
nothing before all have moved.
Leaves out the ledger's entries and the service's restarts (`app.wiring.moves`; docs/runbooks/moving-roots.md).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from app.vault.epochs import Epochs
from app.vault.errors import (
    KeyDamaged,
    NotMovedYet,
    PartitionBusy,
    RootDestroyed,
    RootStillAlive,
    SurvivorUnverified,
    UnknownRoot,
)
from app.vault.keys import KeyClass
from app.vault.partitions import Partitions
from app.vault.ports import (
    Clock,
    Erasure,
    ErasureSite,
    ErasureState,
    KeyProvider,
    KeyStore,
    KeyTransaction,
    Partition,
    RootDescription,
    RootName,
    RootState,
)
from app.vault.wrapping import Random, Wrapper, fresh, index_key_name, named, subject_key_name, wipe

_T = TypeVar("_T")
_MOVE = "move."


class JoinedProviders:
    """A key provider over two: roots of both are usable, new ones are the present provider's."""

    def __init__(self, present: KeyProvider, before: KeyProvider) -> None:
        self.present = present
        self.before = before

    @property
    def kind(self) -> str:
        """The present provider's."""
        return self.present.kind

    def create_root(self, name: RootName) -> str:
        """Make it with the present provider."""
        return self.present.create_root(name)

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        return self.of(root).wrap(root, key, name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        return self.of(root).unwrap(root, wrapped, name)

    def destroy(self, root: str) -> None:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        self.of(root).destroy(root)

    def describe(self, root: str) -> RootDescription:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        return self.of(root).describe(root)

    def of(self, root: str) -> KeyProvider:
        """Return whose root it is; raises `UnknownRoot` where it is neither's."""
        for provider in (self.present, self.before):
            if kind_of(root) == provider.kind:
                return provider
        raise UnknownRoot


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a move is: partitions under old roots, and partitions that moved and whose old root still lives."""

    waiting: tuple[tuple[KeyClass, int], ...]
    moved: tuple[tuple[KeyClass, int], ...]


@dataclass(frozen=True, slots=True)
class OldRoot:
    """What the provider says of a root that was moved away from."""

    irrevocable_at: datetime | None
    assurance: str


Told = Callable[[OldRoot | None], None]


class Moves:
    """Takes the steps of a move; any number of processes may take them, each step again and again."""

    def __init__(self, store: KeyStore, providers: JoinedProviders, clock: Clock, random: Random) -> None:
        self._store = store
        self._providers = providers
        self._clock = clock
        self._random = random
        self._partitions = Partitions(store, providers, random)
        self._epochs = Epochs(providers, clock, random)

    def progress(self) -> Progress:
        """Return what waits and what has moved, in the order in which it is done."""
        with self._store.reading() as tx:
            found = tx.partitions()
        waiting = (each for each in found if kind_of(each.root) != self._providers.kind)
        moved = (each for each in found if kind_of(each.root) == self._providers.kind and is_moving(each))
        return Progress(*(tuple((each.key_class, each.number) for each in some) for some in (waiting, moved)))

    def move(self, key_class: KeyClass, number: int) -> None:
        """Bring a partition under a root of the present provider; nothing happens when it is.

        Raises `PartitionBusy` (an erasure has it: try again), `ProviderUnavailable`, `SurvivorUnverified` (nothing
        changed).
        """
        old = self._claim(key_class, number)
        if old is None:
            return
        # Outside any transaction: a provider may be slow, and writers must not wait for it.
        new = self._partitions.new_generation(key_class, number, old.generation + 1)
        rewrap = _Rewrap(self._epochs.fetch(old), *self._fetched_twice(new))
        with self._store.writing() as tx:
            locked = tx.partition(key_class, number, lock=True)
            if locked != old:
                raise PartitionBusy
            self._rewrapped(tx, rewrap, new)
            tx.add_erasure(self._journal(old, new))
        self._epochs.forget(old.root)

    def _fetched_twice(self, new: Partition) -> tuple[Wrapper, Wrapper]:
        """Ask the provider for the new epoch key and ask again: the second answer must open what the first closed."""
        try:
            return self._epochs.fetch(new), self._epochs.fetch(new)
        except KeyDamaged:
            raise SurvivorUnverified from None

    @staticmethod
    def _rewrapped(tx: KeyTransaction, rewrap: _Rewrap, new: Partition) -> None:
        keys = tx.subject_keys_in(new.key_class, new.number)
        staged = [(key.id, rewrap(key.wrapped, subject_key_name(key))) for key in keys]
        tx.stage(staged, new.generation)
        if new.key_class is KeyClass.INDEX:
            indexes = tx.index_keys_in(new.number)
            tx.rewrap_index_keys([(key.id, rewrap(key.wrapped, index_key_name(key.id))) for key in indexes])
        tx.promote(new.key_class, new.number, new)

    def _claim(self, key_class: KeyClass, number: int) -> Partition | None:
        """Claim a partition that has to move; one that moved the other way before has to be done with that first."""
        present = self._partition(key_class, number)
        if kind_of(present.root) == self._providers.kind:
            return None
        if is_moving(present) and present.claimed_by != _move_of(present):
            self.end(key_class, number)
        with self._store.writing() as tx:
            found = tx.partition(key_class, number, lock=True)
            if found is None or found.root != present.root or not tx.claim(key_class, number, _move_of(found)):
                raise PartitionBusy
            return tx.partition(key_class, number)

    def end(self, key_class: KeyClass, number: int, told: Told = lambda _gone: None) -> OldRoot | None:
        """Destroy the root that a partition was moved away from, and let erasures have it again.

        `told` is called when the old root is gone and the claim is not: what it writes is written at least once.
        Raises `RootStillAlive`, `UnknownRoot` (the provider is not the one it was), `ProviderUnavailable`, and
        `KeyDamaged` when the partition does not open: then nothing was destroyed.
        """
        present = self._partition(key_class, number)
        if not is_moving(present):
            return None
        name = str(present.claimed_by)
        site = None
        if name != _move_of(present):
            self._epochs.fetch(present)
            self._store.checkpoint()
            site = self._destroyed(name)
        gone = None if site is None else OldRoot(site.irrevocable_at, site.assurance or "")
        told(gone)
        with self._store.writing() as tx:
            if site is not None:
                tx.save_site(name, site)
            tx.release(name)
        return gone

    def _destroyed(self, name: str) -> ErasureSite:
        """Destroy the old root that the journal names, and see that it opens nothing, whatever its provider says."""
        with self._store.reading() as tx:
            entry = tx.erasure(name)
        if entry is None or entry.sites[0].old_root is None:
            raise KeyDamaged
        (site,), root = entry.sites, entry.sites[0].old_root
        key, probe = fresh(self._random), named("regard.probe")
        wrapped = _unless_gone(lambda: self._providers.wrap(root, key, probe))
        self._providers.destroy(root)
        seen = self._providers.describe(root)
        opened = wrapped and _unless_gone(lambda: self._providers.unwrap(root, wrapped, probe))
        if opened or seen.state is RootState.ACTIVE:
            raise RootStillAlive
        return replace(
            site,
            root_state=seen.state.value,
            irrevocable_at=seen.irrevocable_at,
            assurance=seen.assurance,
            evidence=seen.evidence,
        )

    def _journal(self, old: Partition, new: Partition) -> Erasure:
        site = ErasureSite(
            old.key_class,
            old.number,
            old_generation=old.generation,
            old_root=old.root,
            new_generation=new.generation,
            new_root=new.root,
            root_state=RootState.ACTIVE.value,
        )
        now = self._clock.now()
        return Erasure(
            _move_of(old),
            ErasureState.CERTIFIED,
            now,
            acknowledged=True,
            committed_at=now,
            targets=(),
            sites=(site,),
            scan=None,
            certificates=(),
        )

    def end_all(self, told: Callable[[Sequence[OldRoot]], None]) -> tuple[OldRoot, ...]:
        """Destroy every old root, once nothing waits; `told` has them all before the last claim ends, at least once.

        Raises `NotMovedYet` while a partition is under an old root, and what `end` raises.
        """
        progress = self.progress()
        if progress.waiting:
            raise NotMovedYet
        gone: list[OldRoot] = []

        def note(root: OldRoot | None) -> None:
            gone.extend([] if root is None else [root])
            if place == progress.moved[-1]:
                told(gone)

        for place in progress.moved:
            self.end(*place, note)
        return tuple(gone)

    def _partition(self, key_class: KeyClass, number: int) -> Partition:
        with self._store.reading() as tx:
            found = tx.partition(key_class, number)
        if found is None:
            raise KeyDamaged
        return found


@dataclass(frozen=True, slots=True)
class _Rewrap:
    """Brings a wrapped key from one epoch key to the next, and opens what came out of it once more."""

    under_old: Wrapper
    under_new: Wrapper
    verifier: Wrapper

    def __call__(self, wrapped: bytes, name: bytes) -> bytes:
        opened = self.under_old.unwrap(wrapped, name)
        moved = self.under_new.wrap(opened, name)
        try:
            again = self.verifier.unwrap(moved, name)
        except KeyDamaged:
            wipe(opened)
            raise SurvivorUnverified from None
        same = hmac.compare_digest(opened, again)
        wipe(opened, again)
        if not same:
            raise SurvivorUnverified
        return moved


def _unless_gone(work: Callable[[], _T]) -> _T | None:
    try:
        return work()
    except RootDestroyed:
        return None


def kind_of(root: str) -> str:
    """Return the kind of provider that a root's reference names: what stands before its first colon."""
    return root.partition(":")[0]


def _move_of(partition: Partition) -> str:
    """Return the name of the move away from a partition's present generation: its claim, its entry in the journal."""
    return _MOVE + RootName(partition.key_class, partition.number, partition.generation).text()


def is_moving(partition: Partition) -> bool:
    """Return whether a move has the partition, its old root not destroyed yet."""
    return (partition.claimed_by or "").startswith(_MOVE)

"""Erasing: nine journalled steps, each of which may be killed and taken again (vault.md section 5).

`advance` performs exactly one step; a durable workflow drives it. The same worker takes its own work again at once
after a crash; another waits until the lease on the row has run out. A step ends by moving the state and is refused
when somebody else moved it. Provider calls can be repeated and change nothing: a root is found by its name.
An erasure takes any number of subjects; each partition they share is re-wrapped once. From KEY_ROW_REMOVED on erasures
go in batches (`app.vault.batches`), so that partitions are re-wrapped once for all that wait. Leaves out the asking
(`app.vault.asking`), the moving of keys (`app.vault.staging`), and when a step may be taken (`app.vault.guarding`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from threading import Lock
from typing import Final, TypeVar

from app.vault.asking import Requests, hold_partitions, journal_of, partition_of
from app.vault.batches import Batch
from app.vault.certificate import certificates, completions
from app.vault.epochs import Epochs
from app.vault.errors import (
    ErasureUnknown,
    KeyDamaged,
    PartitionBusy,
    ProviderUnavailable,
    RootDestroyed,
    RootStillAlive,
    SurvivorUnverified,
    UnknownRoot,
)
from app.vault.guarding import (
    AT_ONCE,
    Reason,
    Terms,
    irrevocable,
    together,
    wait_of,
)
from app.vault.inventory import inventory_root
from app.vault.keys import KeyClass
from app.vault.partitions import Partitions
from app.vault.ports import (
    Clock,
    DataKey,
    DestroyedKey,
    Erasure,
    ErasureSite,
    ErasureState,
    ErasureTarget,
    Json,
    KeyProvider,
    KeyStore,
    KeyTransaction,
    Partition,
    RootDescription,
    RootState,
    Sign,
    SubjectKey,
)
from app.vault.staging import Staging, check_survivor, coming, planned, rebound
from app.vault.tombstones import Tombstone, Tombstones
from app.vault.wrapping import (
    NONCE_BYTES,
    Random,
    Wrapper,
    fresh,
    named,
    subject_key_name,
    wipe,
)

_T = TypeVar("_T")
WORKER_LEASE: Final = timedelta(seconds=30)
MOST_SITES: Final = 16
"""Partitions in one batch: about 65,000 keys to re-wrap, and no writer waits for more than that."""
MOST_REMOVED: Final = 50
"""Erasures whose key rows go in one transaction."""
_LOGICAL: Final = frozenset({ErasureState.REQUESTED, ErasureState.CACHES_EVICTED})
Note = Callable[[Erasure, Sequence[Mapping[str, Json]]], None]
_ENDED: Final = ErasureState.CERTIFIED
_STOPS: Final = (
    ErasureUnknown,
    KeyDamaged,
    PartitionBusy,
    ProviderUnavailable,
    RootDestroyed,
    RootStillAlive,
    SurvivorUnverified,
    UnknownRoot,
)
"""What holds up one erasure; what holds up all of them is raised."""


@dataclass(frozen=True, slots=True)
class Driven:
    """What a drive came to: ids of what ended, of what is left, and the code of what stopped some of these."""

    ended: tuple[str, ...]
    left: tuple[str, ...]
    stopped: Mapping[str, str]


class Erasures(Requests):
    """Carries out what is asked. `worker` must be the same after a restart and differ between live processes."""

    def __init__(
        self,
        store: KeyStore,
        provider: KeyProvider,
        partitions: Partitions,
        epochs: Epochs,
        *,
        clock: Clock,
        random: Random,
        tombstones: Tombstones,
        sign: Sign,
        worker: str,
        unnamed: Collection[str] = (),
        terms: Terms = AT_ONCE,
    ) -> None:
        """`unnamed`: categories whose keys no certificate lists; `terms`: when the physical work may begin."""
        super().__init__(store, clock=clock, terms=terms)
        self._provider = provider
        self._partitions = partitions
        self._epochs = epochs
        self._random = random
        self._tombstones = tombstones
        self._sign = sign
        self._worker = worker
        self._unnamed = frozenset(unnamed)
        self._in_hand: set[str] = set()
        self._reserving = Lock()

    def under(self, worker: str) -> Erasures:
        """Return the same driver under another worker's name: for a command beside the service that is running."""
        other = copy(self)
        other._worker, other._in_hand, other._reserving = worker, set(), Lock()
        return other

    # Driving

    def advance(self, erasure_id: str) -> ErasureState:
        """Perform exactly one step, of its whole batch, and return the state reached; the same again while it waits.

        Raises `ErasureUnknown`, `PartitionBusy` (try again), `ProviderUnavailable` (it waits), `SurvivorUnverified`
        (nothing was destroyed), `RootStillAlive`, `DurabilityLost`.
        """
        return self._advance(erasure_id, now=False)

    def drive(self, erasure_id: str, *, now: bool = False) -> ErasureState:
        """Advance until CERTIFIED, or until it has to wait; with `now` it does not wait for the next batch."""
        state = self.state(erasure_id)
        while (reached := self._advance(erasure_id, now=now)) is not _ENDED and reached is not state:
            state = reached
        return reached

    def drive_all(self, *, now: bool = False, idle: timedelta | None = None) -> Driven:
        """Drive whatever need not wait: first every logical part, so that the physical ones share their batches.

        One that cannot go on stops nobody else. `idle`: leave those alone that moved more recently than that.
        """
        at = self._clock.now()
        with self._store.reading() as tx:
            chosen = tx.startable(at, None if idle is None else at - idle)
        for some in (chosen[at : at + MOST_REMOVED] for at in range(0, len(chosen), MOST_REMOVED)):
            if _stopped(partial(self._remove_together, some)) is not None:
                for each in some:
                    _stopped(partial(self._until_removed, each))
        stops = {each: _stopped(partial(self.drive, each, now=now)) for each in chosen}
        left = self.pending()
        stopped = {each: code for each, code in stops.items() if code is not None and each in left}
        return Driven(tuple(each for each in chosen if each not in left), left, stopped)

    def _remove_together(self, ids: Sequence[str]) -> None:
        """Take the first two steps of many in few transactions: a commit for each would cost more than the work."""
        with self._taken_free(ids) as members:
            asked = [each for each in members if each.state is ErasureState.REQUESTED]
            removable = [each for each in members if each.state is ErasureState.CACHES_EVICTED]
            if asked:
                self._evict(Batch("", tuple(asked)))
                removable += [replace(each, state=ErasureState.CACHES_EVICTED) for each in asked]
            if removable:
                self._remove(Batch("", tuple(sorted(removable, key=lambda each: each.id))))

    @contextmanager
    def _taken_free(self, ids: Sequence[str]) -> Iterator[list[Erasure]]:
        """Have those to oneself that nobody else has, that wait for nothing and whose key rows are still there."""
        with self._reserving:
            with self._store.writing() as tx:
                members = [each for name in sorted(set(ids)) if (each := self._free(tx, name)) is not None]
            names = [each.id for each in members]
            self._in_hand.update(names)
        try:
            yield members
        finally:
            self._give_back(names)

    def _free(self, tx: KeyTransaction, erasure_id: str) -> Erasure | None:
        now = self._clock.now()
        if erasure_id in self._in_hand or not tx.take(erasure_id, self._worker, now, now + WORKER_LEASE):
            return None
        found = journal_of(tx, erasure_id)
        wait = wait_of(found, tx.leased_until(erasure_id), self._terms, now) if found.state in _LOGICAL else None
        if found.state in _LOGICAL and wait is None:
            return found
        tx.give_back(erasure_id, self._worker)
        return None

    def _until_removed(self, erasure_id: str) -> ErasureState:
        state = self.state(erasure_id)
        while state in _LOGICAL:
            reached = self._advance(erasure_id, now=False)
            if reached is state:
                break
            state = reached
        return state

    def _advance(self, erasure_id: str, *, now: bool) -> ErasureState:
        erasure, wait = self._look(erasure_id)
        if erasure.state is _ENDED:
            return _ENDED
        if wait is not None and not (now and wait.reason is Reason.BATCH):
            return erasure.state
        with self._taken(erasure_id) as batch:
            return batch.state if batch.state is _ENDED else self._step(batch)

    def _step(self, batch: Batch) -> ErasureState:
        try:
            return _STEPS[batch.state](self, batch)
        except (KeyDamaged, RootDestroyed, RootStillAlive, SurvivorUnverified, UnknownRoot):
            self._fall_back(batch)
            raise

    def _fall_back(self, batch: Batch) -> None:
        """Undo what is not committed; let the members go on one by one, so that one broken partition stops only its
        own.
        """
        with self._store.writing() as tx:
            self._hold(tx, batch)
            if batch.state in (ErasureState.REWRAPPED, ErasureState.VERIFIED):
                self._move_all(tx, batch, ErasureState.KEY_ROW_REMOVED)
            if len(batch.members) > 1:
                tx.part(batch.id)
                tx.release(batch.id)
                if batch.state is ErasureState.COMMITTED:
                    _hand_over(tx, batch)

    @contextmanager
    def _taken(self, erasure_id: str) -> Iterator[Batch]:
        """Have an erasure and all that go with it to oneself, as they stand now. Raises `PartitionBusy`."""
        with self._reserving:  # the journal knows the threads of a process by one name: here they are told apart
            batch = self._take(erasure_id)
            ids = [each.id for each in batch.members]
            self._in_hand.update(ids)
        try:
            yield batch
        finally:
            self._give_back(ids)

    def _give_back(self, ids: Sequence[str]) -> None:
        with self._reserving:
            self._in_hand.difference_update(ids)
            with self._store.writing() as tx:
                for each in ids:
                    tx.give_back(each, self._worker)

    def _take(self, erasure_id: str) -> Batch:
        now = self._clock.now()
        with self._store.writing() as tx:
            seen = journal_of(tx, erasure_id)
            ids = tx.members(seen.batch) if seen.batch is not None else (erasure_id,)
            for each in ids:  # in order, so that two workers cannot wait for each other
                self._take_one(tx, each, now)
            # Read again: another worker may have taken a step, or it into a batch, between reading and taking.
            first = journal_of(tx, erasure_id)
            if first.batch != seen.batch:
                raise PartitionBusy
            if first.state is ErasureState.KEY_ROW_REMOVED and first.batch is None:
                return self._gathered(tx, first, now)
            return Batch(first.batch or erasure_id, tuple(journal_of(tx, each) for each in ids))

    def _take_one(self, tx: KeyTransaction, erasure_id: str, now: datetime) -> None:
        if erasure_id in self._in_hand or not tx.take(erasure_id, self._worker, now, now + WORKER_LEASE):
            raise PartitionBusy

    def _gathered(self, tx: KeyTransaction, first: Erasure, now: datetime) -> Batch:
        """Make a batch of what waits for its re-wrap; what needs a partition that is busy stays for the next."""
        waiting = [each for each in tx.waiting(now) if each != first.id and each not in self._in_hand]
        chosen = together(first, [journal_of(tx, each) for each in waiting], MOST_SITES)
        places = sorted({place for each in chosen for place in each.places})
        busy = {place for place in places if not _is_free(tx, place, first.id)}
        free = [each for each in chosen if busy.isdisjoint(each.places)]
        if first not in free:
            raise PartitionBusy
        for place in sorted({place for each in free for place in each.places}):
            tx.claim(*place, first.id)
        for each in free:
            self._take_one(tx, each.id, now)
        tx.join([each.id for each in free], first.id)
        members = sorted((replace(each, batch=first.id) for each in free), key=lambda each: each.id)
        return Batch(first.id, tuple(members))

    def _hold(self, tx: KeyTransaction, batch: Batch) -> None:
        """Begin a step's transaction: journals first, then partitions, then keys, as everybody does."""
        for each in batch.members:
            if not tx.hold(each.id, each.state, self._worker):
                raise PartitionBusy

    def _hold_keys(self, tx: KeyTransaction, batch: Batch) -> None:
        """Begin the transaction of a step that changes keys: every partition is held, in order, before the first key.

        Those of targets as well: the key of a class that holds nothing goes without a re-wrap of its partition.
        """
        self._hold(tx, batch)
        sites = {(site.key_class, site.partition) for site in batch.sites}
        targets = {(each.key_class, each.partition) for member in batch.members for each in member.targets}
        hold_partitions(tx, sites | targets)

    def _move_all(self, tx: KeyTransaction, batch: Batch, new: ErasureState) -> ErasureState:
        for each in batch.members:
            self._move(tx, each, new)
        return new

    def _move(self, tx: KeyTransaction, erasure: Erasure, new: ErasureState) -> ErasureState:
        tx.move(erasure.id, erasure.state, new, self._worker, self._clock.now())
        return new

    # The steps

    def _evict(self, batch: Batch) -> ErasureState:
        with self._store.writing() as tx:
            return self._move_all(tx, batch, ErasureState.CACHES_EVICTED)

    def _remove(self, batch: Batch) -> ErasureState:
        # Dsar rule 54: written outside before anything is destroyed, so that a restore can never undo it unseen.
        self._tombstones.append([stone for each in batch.members for stone in _stones(each)])
        for each in batch.members:
            self._warm_for_survivors(each)
        with self._store.writing() as tx:
            self._hold_keys(tx, batch)
            for each in batch.members:
                self._remove_one(tx, each)
            return self._move_all(tx, batch, ErasureState.KEY_ROW_REMOVED)

    def _remove_one(self, tx: KeyTransaction, erasure: Erasure) -> None:
        for site in erasure.sites:
            partition = partition_of(tx, site)
            ids = tx.subject_key_ids_in(site.key_class, site.partition)
            before = replace(
                site,
                old_generation=partition.generation,
                old_root=partition.root,
                keys_before=len(ids),
                inventory_before=inventory_root(ids),
            )
            tx.save_site(erasure.id, before)
        for target in erasure.targets:
            self._remove_target(tx, erasure, target)

    def _warm_for_survivors(self, erasure: Erasure) -> None:
        """Have the epoch keys at hand under which survivors move; one whose root is gone has none to move."""
        moving = {(each.key_class, each.partition) for each in erasure.targets if each.retained or not each.whole}
        with self._store.reading() as tx:
            places = [partition_of(tx, site) for site in erasure.sites if (site.key_class, site.partition) in moving]
        with suppress(RootDestroyed):
            self._warm(places)

    def _warm(self, partitions: Sequence[Partition]) -> None:
        """Ask the provider before a transaction, not in it: it may be slow, and writers must not wait for it."""
        for each in partitions:
            self._epochs.wrapper(each)

    def _remove_target(self, tx: KeyTransaction, erasure: Erasure, target: ErasureTarget) -> None:
        subject_key = tx.subject_key(target.controller, target.subject, target.key_class, lock=True)
        if subject_key is None:
            return
        keys = tx.data_keys(subject_key.id)
        doomed, kept = _divided(keys, target)
        sites = {(site.key_class, site.partition) for site in erasure.sites}
        if (target.key_class, target.partition) not in sites:
            if target.whole and not keys:
                tx.remove_subject_key(subject_key.id)
            return
        if not doomed and (kept or not target.whole):
            return
        probes = [key.wrapped[:NONCE_BYTES] for key in doomed] + [subject_key.wrapped[:NONCE_BYTES]]
        tx.add_probes(erasure.id, probes)
        now = self._clock.now()
        tx.remove_data_keys([DestroyedKey(key.id, key.scope, now, erasure.id) for key in doomed])
        if kept or not target.whole:
            self._replace_subject_key(tx, subject_key, kept)
        else:
            tx.remove_subject_key(subject_key.id)

    def _replace_subject_key(self, tx: KeyTransaction, old: SubjectKey, kept: Sequence[DataKey]) -> None:
        """Partial shred, retained data: a new subject key takes the survivors over, the old one goes."""
        partition = tx.partition(old.key_class, old.partition)
        if partition is None:
            raise KeyDamaged
        try:
            epoch = self._epochs.wrapper(partition)
        except RootDestroyed:
            # A restored key store whose root is gone: nothing under it opens any more, there is nothing to take over.
            return
        new_id, new_key = self._random(16), fresh(self._random)
        old_key = epoch.unwrap(old.wrapped, subject_key_name(old))
        under_old, under_new = Wrapper(old_key, self._random), Wrapper(new_key, self._random)
        moved = [(key.id, rebound(key, old.id, new_id, under_old, under_new)) for key in kept]
        bare = replace(old, id=new_id, wrapped=b"", staged=None, staged_generation=None)
        new = replace(bare, wrapped=epoch.wrap(new_key, subject_key_name(bare)))
        wipe(old_key, new_key)
        tx.remove_subject_key(old.id)
        tx.add_subject_keys([new], self._clock.now())
        tx.rebind(moved, new_id)

    def _rewrap(self, batch: Batch) -> ErasureState:
        olds = self._claim(batch)
        news = [self._partitions.new_generation(old.key_class, old.number, old.generation + 1) for old in olds]
        # The provider is asked before the transaction: it may be slow, and writers must not wait for it.
        stagings = [self._staging(old, new) for old, new in zip(olds, news, strict=True)]
        with self._store.writing() as tx:
            self._hold_keys(tx, batch)
            for site, old, new, staging in zip(batch.sites, olds, news, stagings, strict=True):
                tx.stage(staging.all(tx.subject_keys_in(old.key_class, old.number)), new.generation)
                for member, own in batch.at(site):
                    tx.save_site(member.id, planned(own, old, new))
            return self._move_all(tx, batch, ErasureState.REWRAPPED)

    def _staging(self, old: Partition, new: Partition) -> Staging:
        return Staging(self._epochs.wrapper(old), self._epochs.wrapper(new), new.generation)

    def _claim(self, batch: Batch) -> list[Partition]:
        """Take all the partitions or none; sites are sorted, so that two batches cannot wait for each other."""
        with self._store.writing() as tx:
            for site in batch.sites:
                if not tx.claim(site.key_class, site.partition, batch.id):
                    raise PartitionBusy
            return [partition_of(tx, site) for site in batch.sites]

    def _verify(self, batch: Batch) -> ErasureState:
        with self._store.reading() as tx:
            for site in batch.sites:
                self._verify_site(tx, site)
        with self._store.writing() as tx:
            return self._move_all(tx, batch, ErasureState.VERIFIED)

    def _verify_site(self, tx: KeyTransaction, site: ErasureSite) -> None:
        """Open every survivor under the new root, asked of the provider anew, and compare with the old."""
        old, new = partition_of(tx, site), coming(site)
        try:
            under_old, under_new = self._epochs.wrapper(old), self._epochs.fetch(new)
        except KeyDamaged:
            raise SurvivorUnverified from None
        keys = tx.subject_keys_in(site.key_class, site.partition)
        for key in (key for key in keys if key.staged_generation == new.generation):
            check_survivor(key, under_old, under_new)

    def _commit(self, batch: Batch) -> ErasureState:
        with self._store.reading() as tx:
            olds = [partition_of(tx, site) for site in batch.sites]
        self._warm([*olds, *map(coming, batch.sites)])
        with self._store.writing() as tx:
            self._hold_keys(tx, batch)
            for site in batch.sites:
                self._commit_site(tx, batch, site)
            self._move_all(tx, batch, ErasureState.COMMITTED)
        self._store.checkpoint()
        return ErasureState.COMMITTED

    def _commit_site(self, tx: KeyTransaction, batch: Batch, site: ErasureSite) -> None:
        old, new = partition_of(tx, site), coming(site)
        staging = self._staging(old, new)
        tx.stage(staging.missing(tx.subject_keys_in(site.key_class, site.partition)), new.generation)
        if site.key_class is KeyClass.INDEX:
            tx.rewrap_index_keys([(key.id, staging.index_key(key)) for key in tx.index_keys_in(site.partition)])
        tx.promote(site.key_class, site.partition, new)
        ids = tx.subject_key_ids_in(site.key_class, site.partition)
        after = inventory_root(ids)
        for member, own in batch.at(site):
            tx.save_site(member.id, replace(own, keys_after=len(ids), inventory_after=after))

    def _destroy(self, batch: Batch) -> ErasureState:
        # The commit is durable; its copies in the log must be gone before the root is.
        self._store.checkpoint()
        ended = [self._end_site(site, batch) for site in batch.sites]
        scheduled = any(site.root_state != RootState.DESTROYED for site in ended)
        new = ErasureState.SCHEDULED if scheduled else ErasureState.OLD_ROOT_DESTROYED
        with self._store.writing() as tx:
            self._hold(tx, batch)
            for site in ended:
                for member, own in batch.at(site):
                    tx.save_site(member.id, _as_ended(own, site))
            tx.release(batch.id)
            return self._move_all(tx, batch, new)

    def _end_site(self, site: ErasureSite, batch: Batch) -> ErasureSite:
        """Destroy the old root, or note until when it is kept so that backups of the key store restore survivors."""
        committed = max((each.committed_at for each in batch.members if each.committed_at is not None), default=None)
        if committed is None or not self._terms.window or site.old_root is None:
            return self._destroy_site(site)
        self._epochs.forget(site.old_root)
        told = self._provider.describe(site.old_root)
        if told.state is not RootState.ACTIVE:
            return self._noted(site, told)
        promised = replace(told, irrevocable_at=irrevocable(committed, self._terms))
        return replace(self._noted(site, promised), kept_until=committed + self._terms.window)

    def _destroy_site(self, site: ErasureSite) -> ErasureSite:
        if site.old_root is None or site.old_root == site.new_root:
            raise KeyDamaged
        with self._store.reading() as tx:
            if tx.under_root(site.old_root):
                raise SurvivorUnverified
        told = self._shut(site.old_root)
        return self._noted(site, told)

    def _noted(self, site: ErasureSite, told: RootDescription) -> ErasureSite:
        """Note what became of a root. What earlier roots of the partition open in old copies lasts as long as they do:
        no promise of this one is earlier than theirs, and there is none while one of them was left and not ended.
        """
        with self._store.reading() as tx:
            if site.old_generation is not None and tx.lives_on(site.key_class, site.partition, site.old_generation):
                raise PartitionBusy
            earlier = tx.recoverable_until(site.key_class, site.partition)
        noted = _told(site, told)
        if noted.irrevocable_at is None or earlier is None:
            return noted
        return replace(noted, irrevocable_at=max(noted.irrevocable_at, earlier))

    def _shut(self, root: str) -> RootDescription:
        """Destroy a root and see that it opens nothing any more, whatever its provider says of it."""
        key, name = fresh(self._random), named("regard.probe")
        wrapped = _unless_gone(lambda: self._provider.wrap(root, key, name))
        self._provider.destroy(root)
        self._epochs.forget(root)
        opened = wrapped and _unless_gone(lambda: self._provider.unwrap(root, wrapped, name))
        told = self._provider.describe(root)
        if opened or told.state is RootState.ACTIVE:
            raise RootStillAlive
        return told

    def _scan(self, batch: Batch) -> ErasureState:
        """Search once for the traces of all of them: a trace of any stands on every certificate of the batch."""
        truncated = self._store.checkpoint()
        with self._store.reading() as tx:
            probes = [probe for each in batch.members for probe in tx.probes(each.id)]
        scan = replace(self._store.scan(probes), truncated=truncated)
        with self._store.writing() as tx:
            self._hold(tx, batch)
            for each in batch.members:
                tx.save_scan(each.id, scan)
                tx.drop_probes(each.id)
            return self._move_all(tx, batch, ErasureState.SCANNED)

    def _certify(self, batch: Batch) -> ErasureState:
        now = self._clock.now()
        made = {each.id: certificates(each, now, self._sign, self._unnamed) for each in batch.members}
        with self._store.writing() as tx:
            self._hold(tx, batch)
            for erasure_id, signed in made.items():
                tx.save_certificates(erasure_id, signed)
            return self._move_all(tx, batch, ErasureState.CERTIFIED)

    # After the window for backups

    def end_windows(self, note: Note | None = None) -> Driven:
        """Destroy the old roots whose window is over, then sign for every erasure whose roots are all gone.

        `note` is given each erasure and its completions before they are kept: killed in between, it is given them anew.
        May be killed anywhere and called again. Returns the erasures completed now; `left` are those that still keep
        a root, `stopped` tells what held one up.
        """
        now = self._clock.now()
        with self._store.reading() as tx:
            due = tx.kept_sites(now)
        by_root: dict[str, list[tuple[str, ErasureSite]]] = {}
        for erasure_id, site in due:
            by_root.setdefault(site.old_root or "", []).append((erasure_id, site))
        stops = {notes[0][0]: _stopped(partial(self._end_root, notes)) for notes in by_root.values()}
        completed = self._complete(now, note)
        return Driven(completed, self.keeping(), {each: code for each, code in stops.items() if code is not None})

    def _end_root(self, notes: Sequence[tuple[str, ErasureSite]]) -> None:
        """One root may stand in the notes of several erasures: those of its batch."""
        ended = self._destroy_site(notes[0][1])
        with self._store.writing() as tx:
            for erasure_id, own in notes:
                tx.save_site(erasure_id, _as_ended(own, ended))

    def _complete(self, now: datetime, note: Note | None) -> tuple[str, ...]:
        with self._store.reading() as tx:
            found = [journal_of(tx, each) for each in tx.uncompleted()]
        return tuple(each.id for each in found if self._completed(each, now, note))

    def _completed(self, erasure: Erasure, now: datetime, note: Note | None) -> bool:
        signed = completions(erasure, now, self._sign)
        if note is not None:
            note(erasure, signed)
        with self._store.writing() as tx:
            return tx.save_completions(erasure.id, signed)


def _unless_gone(work: Callable[[], _T]) -> _T | None:
    """Ask a provider about a root that may be destroyed already."""
    try:
        return work()
    except (RootDestroyed, UnknownRoot):
        return None


_STEPS: Final[Mapping[ErasureState, Callable[[Erasures, Batch], ErasureState]]] = {
    ErasureState.REQUESTED: Erasures._evict,
    ErasureState.CACHES_EVICTED: Erasures._remove,
    ErasureState.KEY_ROW_REMOVED: Erasures._rewrap,
    ErasureState.REWRAPPED: Erasures._verify,
    ErasureState.VERIFIED: Erasures._commit,
    ErasureState.COMMITTED: Erasures._destroy,
    ErasureState.OLD_ROOT_DESTROYED: Erasures._scan,
    ErasureState.SCHEDULED: Erasures._scan,
    ErasureState.SCANNED: Erasures._certify,
}


def _stopped(going: Callable[[], object]) -> str | None:
    """Return the code of what held up this one erasure."""
    try:
        going()
    except _STOPS as fault:
        return fault.code
    return None


def _is_free(tx: KeyTransaction, place: tuple[KeyClass, int], batch: str) -> bool:
    found = tx.partition(*place, lock=True)
    if found is None:
        raise KeyDamaged
    return found.claimed_by in (None, batch)


def _hand_over(tx: KeyTransaction, batch: Batch) -> None:
    """Give each partition of a batch that parts to one of its members: its old root still lives after the commit, and
    whoever came next would promise what that root undoes. Who has the fewest waits for the fewest other roots.
    """
    for site in batch.sites:
        heir = min((member for member, _ in batch.at(site)), key=lambda member: len(member.sites))
        tx.claim(site.key_class, site.partition, heir.id)


def _told(site: ErasureSite, told: RootDescription) -> ErasureSite:
    return replace(
        site,
        root_state=told.state.value,
        irrevocable_at=told.irrevocable_at,
        assurance=told.assurance,
        evidence=told.evidence,
    )


def _as_ended(own: ErasureSite, ended: ErasureSite) -> ErasureSite:
    """What became of a root is the same on every member's note of it."""
    names = ("root_state", "irrevocable_at", "assurance", "evidence", "kept_until")
    return replace(own, **{name: getattr(ended, name) for name in names})


def _divided(keys: Sequence[DataKey], target: ErasureTarget) -> tuple[list[DataKey], list[DataKey]]:
    """Return the keys that journal, tombstone and certificate name, and the rest.

    What another erasure has doomed belongs to the rest and is carried over like any survivor: that one may be held or
    cooling down, and whoever restores a copy from before it gets back what nobody agreed to.
    """
    here = {key.id for key in target.destroyed}
    return [key for key in keys if key.id in here], [key for key in keys if key.id not in here]


def _stones(erasure: Erasure) -> list[Tombstone]:
    return [_tombstone(erasure, each) for each in erasure.targets if each.whole or each.destroyed]


def _tombstone(erasure: Erasure, target: ErasureTarget) -> Tombstone:
    return Tombstone(
        erasure.id,
        erasure.requested_at.isoformat(),
        target.controller,
        target.subject,
        target.key_class,
        target.whole,
        target.subject_key_id.hex(),
        tuple(key.id.hex() for key in target.destroyed),
    )

"""Erasing: nine journalled steps, each of which may be killed and taken again (vault.md section 5).

`advance` performs exactly one step; a durable workflow drives it. The same worker takes its own work again at once
after a crash; another waits until the lease on the row has run out. A step ends by moving the state and is refused
when somebody else moved it. Provider calls can be repeated and change nothing: a root is found by its name.
An erasure takes any number of subjects; each partition they share is re-wrapped once.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.vault.certificate import certificates
from app.vault.epochs import Epochs
from app.vault.errors import (
    ErasureConflict,
    ErasureUnknown,
    KeyDamaged,
    PartitionBusy,
    RootDestroyed,
    RootStillAlive,
    SurvivorUnverified,
    UnknownSubject,
)
from app.vault.inventory import inventory_root
from app.vault.keys import Keep, KeyClass, Scope, Selector, Target
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
    NamedKey,
    Partition,
    RootState,
    Sign,
    SubjectKey,
)
from app.vault.tombstones import Tombstone, Tombstones
from app.vault.wrapping import NONCE_BYTES, Random, Wrapper, data_key_name, fresh, subject_key_name, wipe

WORKER_LEASE: Final = timedelta(seconds=30)
_ENDED: Final = ErasureState.CERTIFIED


@dataclass(frozen=True, slots=True)
class _Found:
    """A subject's key and data keys in one class, and what this target takes of them."""

    target: Target
    subject_key: SubjectKey
    doomed: tuple[DataKey, ...]
    kept: tuple[tuple[DataKey, Keep | None], ...]


class Erasures:
    """The erasure driver. `worker` must be the same after a restart and differ between live processes."""

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
    ) -> None:
        """`unnamed`: categories whose keys no certificate lists."""
        self._store = store
        self._provider = provider
        self._partitions = partitions
        self._epochs = epochs
        self._clock = clock
        self._random = random
        self._tombstones = tombstones
        self._sign = sign
        self._worker = worker
        self._unnamed = frozenset(unnamed)
        self._steps = {
            ErasureState.REQUESTED: self._evict,
            ErasureState.CACHES_EVICTED: self._remove,
            ErasureState.KEY_ROW_REMOVED: self._rewrap,
            ErasureState.REWRAPPED: self._verify,
            ErasureState.VERIFIED: self._commit,
            ErasureState.COMMITTED: self._destroy,
            ErasureState.OLD_ROOT_DESTROYED: self._scan,
            ErasureState.SCHEDULED: self._scan,
            ErasureState.SCANNED: self._certify,
        }

    # Asking

    def request(self, erasure_id: str, targets: Sequence[Target]) -> ErasureState:
        """Journal an erasure and refuse its keys from now on; the same request again returns its present state.

        Raises `UnknownSubject`, `ErasureConflict`.
        """
        with self._store.writing() as tx:
            present = tx.erasure(erasure_id)
            if present is not None:
                return _same(present, targets)
            named = [(each.controller, each.subject, one) for each in targets for one in each.classes]
            _lock_partitions(tx, named)
            found = [each for target in targets for each in self._find(tx, target)]
            return self._journal(tx, erasure_id, found)

    def _find(self, tx: KeyTransaction, target: Target) -> list[_Found]:
        if not tx.known(target.controller, [target.subject]):
            raise UnknownSubject
        found = []
        for key_class in target.classes:
            subject_key = tx.subject_key(target.controller, target.subject, key_class, lock=True)
            if subject_key is not None:
                found.append(_sorted(target, subject_key, tx.data_keys(subject_key.id)))
        return found

    def _journal(self, tx: KeyTransaction, erasure_id: str, found: Sequence[_Found]) -> ErasureState:
        now = self._clock.now()
        # A subject key under which no data key goes opens nothing, in no backup either: no re-wrap on its account.
        taking = [each.subject_key for each in found if each.doomed]
        sites = dict.fromkeys((key.key_class, key.partition) for key in taking)
        tx.add_erasure(
            Erasure(
                erasure_id,
                ErasureState.REQUESTED,
                now,
                acknowledged=False,
                committed_at=None,
                targets=tuple(_as_target(each) for each in found),
                sites=tuple(ErasureSite(key_class, number) for key_class, number in sorted(sites)),
                scan=None,
                certificates=(),
            )
        )
        tx.doom([key.id for each in found for key in each.doomed], erasure_id)
        for each in (each for each in found if not each.target.only):
            key = each.subject_key
            tx.close_subject(key.controller, key.subject, key.key_class, now, erasure_id)
        return ErasureState.REQUESTED

    def acknowledge(self, erasure_id: str) -> None:
        """Note that every component has dropped its leases, so that the erasure need not wait for their end."""
        with self._store.writing() as tx:
            tx.acknowledge(erasure_id, self._clock.now())

    # Asking about

    def state(self, erasure_id: str) -> ErasureState:
        """Return where it stands; raises `ErasureUnknown`."""
        return self.journal(erasure_id).state

    def journal(self, erasure_id: str) -> Erasure:
        """Return all that is journalled; raises `ErasureUnknown`."""
        with self._store.reading() as tx:
            found = tx.erasure(erasure_id)
        if found is None:
            raise ErasureUnknown
        return found

    def due_at(self, erasure_id: str) -> datetime | None:
        """When the last lease of a doomed key ends: `advance` stays at REQUESTED until then, or an acknowledgement."""
        with self._store.reading() as tx:
            return tx.leased_until(erasure_id)

    def pending(self) -> tuple[str, ...]:
        """Return the ids of erasures that have not ended, oldest first."""
        with self._store.reading() as tx:
            return tuple(tx.unfinished())

    def certificates(self, erasure_id: str) -> tuple[Mapping[str, Json], ...]:
        """Return one signed certificate for each subject, once CERTIFIED; raises `ErasureUnknown`."""
        return self.journal(erasure_id).certificates

    # Driving

    def advance(self, erasure_id: str) -> ErasureState:
        """Perform exactly one step and return the state reached; REQUESTED again while leases run.

        Raises `ErasureUnknown`, `PartitionBusy` (try again), `ProviderUnavailable` (it waits), `SurvivorUnverified`
        (nothing was destroyed), `RootStillAlive`, `DurabilityLost`.
        """
        erasure = self.journal(erasure_id)
        if erasure.state is _ENDED:
            return _ENDED
        self._take(erasure_id)
        try:
            # Read again: another worker may have taken a step between reading and taking.
            erasure = self.journal(erasure_id)
            return erasure.state if erasure.state is _ENDED else self._steps[erasure.state](erasure)
        finally:
            with self._store.writing() as tx:
                tx.give_back(erasure_id, self._worker)

    def drive(self, erasure_id: str) -> ErasureState:
        """Advance until CERTIFIED, or until leases have to end first."""
        state = self.advance(erasure_id)
        while state not in (_ENDED, ErasureState.REQUESTED):
            state = self.advance(erasure_id)
        return state

    def _take(self, erasure_id: str) -> None:
        now = self._clock.now()
        with self._store.writing() as tx:
            if not tx.take(erasure_id, self._worker, now, now + WORKER_LEASE):
                raise PartitionBusy

    def _move(self, tx: KeyTransaction, erasure: Erasure, new: ErasureState) -> ErasureState:
        tx.move(erasure.id, erasure.state, new, self._worker, self._clock.now())
        return new

    def _evict(self, erasure: Erasure) -> ErasureState:
        with self._store.writing() as tx:
            leased = tx.leased_until(erasure.id)
            if not erasure.acknowledged and leased is not None and self._clock.now() < leased:
                return ErasureState.REQUESTED
            return self._move(tx, erasure, ErasureState.CACHES_EVICTED)

    def _remove(self, erasure: Erasure) -> ErasureState:
        # Dsar rule 54: written outside before anything is destroyed, so that a restore can never undo it unseen.
        taken = [target for target in erasure.targets if target.whole or target.destroyed]
        self._tombstones.append([_tombstone(erasure, target) for target in taken])
        with self._store.writing() as tx:
            for site in erasure.sites:
                partition = _partition(tx, site, lock=True)
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
            return self._move(tx, erasure, ErasureState.KEY_ROW_REMOVED)

    def _remove_target(self, tx: KeyTransaction, erasure: Erasure, target: ErasureTarget) -> None:
        subject_key = tx.subject_key(target.controller, target.subject, target.key_class, lock=True)
        if subject_key is None:
            return
        keys = tx.data_keys(subject_key.id)
        doomed = [key for key in keys if key.doomed_by is not None]
        kept = [key for key in keys if key.doomed_by is None]
        sites = {(site.key_class, site.partition) for site in erasure.sites}
        if (target.key_class, target.partition) not in sites:
            # It took no data key: what another erasure has doomed since is that one's to remove.
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
        old_key = epoch.unwrap(old.wrapped, subject_key_name(old.id))
        under_old, under_new = Wrapper(old_key, self._random), Wrapper(new_key, self._random)
        moved = [(key.id, _rewrapped(key, old.id, new_id, under_old, under_new)) for key in kept]
        new = replace(
            old,
            id=new_id,
            wrapped=epoch.wrap(new_key, subject_key_name(new_id)),
            staged=None,
            staged_generation=None,
        )
        wipe(old_key, new_key)
        tx.remove_subject_key(old.id)
        tx.add_subject_keys([new], self._clock.now())
        tx.rebind(moved, new_id)

    def _rewrap(self, erasure: Erasure) -> ErasureState:
        olds = self._claim(erasure)
        news = [self._partitions.new_generation(old.key_class, old.number, old.generation + 1) for old in olds]
        # The provider is asked before the transaction: it may be slow, and writers must not wait for it.
        stagings = [self._staging(old, new) for old, new in zip(olds, news, strict=True)]
        with self._store.writing() as tx:
            for site, old, new, staging in zip(erasure.sites, olds, news, stagings, strict=True):
                tx.stage(staging.all(tx.subject_keys_in(old.key_class, old.number)), new.generation)
                tx.save_site(erasure.id, _planned(site, old, new))
            return self._move(tx, erasure, ErasureState.REWRAPPED)

    def _staging(self, old: Partition, new: Partition) -> _Staging:
        return _Staging(self._epochs.wrapper(old), self._epochs.wrapper(new), new.generation)

    def _claim(self, erasure: Erasure) -> list[Partition]:
        """Take all the partitions or none; sites are sorted, so that two erasures cannot wait for each other."""
        with self._store.writing() as tx:
            for site in erasure.sites:
                if not tx.claim(site.key_class, site.partition, erasure.id):
                    raise PartitionBusy
            return [_partition(tx, site) for site in erasure.sites]

    def _verify(self, erasure: Erasure) -> ErasureState:
        try:
            with self._store.reading() as tx:
                for site in erasure.sites:
                    self._verify_site(tx, site)
        except SurvivorUnverified:
            with self._store.writing() as tx:
                self._move(tx, erasure, ErasureState.KEY_ROW_REMOVED)
            raise
        with self._store.writing() as tx:
            return self._move(tx, erasure, ErasureState.VERIFIED)

    def _verify_site(self, tx: KeyTransaction, site: ErasureSite) -> None:
        """Open every survivor under the new root, asked of the provider anew, and compare with the old."""
        old, new = _partition(tx, site), _coming(site)
        try:
            under_old, under_new = self._epochs.wrapper(old), self._epochs.fetch(new)
        except KeyDamaged:
            raise SurvivorUnverified from None
        keys = tx.subject_keys_in(site.key_class, site.partition)
        for key in (key for key in keys if key.staged_generation == new.generation):
            _check(key, under_old, under_new)

    def _commit(self, erasure: Erasure) -> ErasureState:
        for site in erasure.sites:
            self._epochs.wrapper(_coming(site))
        with self._store.writing() as tx:
            for site in erasure.sites:
                self._commit_site(tx, erasure, site)
            self._move(tx, erasure, ErasureState.COMMITTED)
        self._store.checkpoint()
        return ErasureState.COMMITTED

    def _commit_site(self, tx: KeyTransaction, erasure: Erasure, site: ErasureSite) -> None:
        old, new = _partition(tx, site, lock=True), _coming(site)
        staging = self._staging(old, new)
        tx.stage(staging.missing(tx.subject_keys_in(site.key_class, site.partition)), new.generation)
        tx.promote(site.key_class, site.partition, new)
        ids = tx.subject_key_ids_in(site.key_class, site.partition)
        tx.save_site(erasure.id, replace(site, keys_after=len(ids), inventory_after=inventory_root(ids)))

    def _destroy(self, erasure: Erasure) -> ErasureState:
        # The commit is durable; its copies in the log must be gone before the root is.
        self._store.checkpoint()
        ended = [self._destroy_site(site) for site in erasure.sites]
        scheduled = any(site.root_state == RootState.SCHEDULED for site in ended)
        with self._store.writing() as tx:
            for site in ended:
                tx.save_site(erasure.id, site)
            tx.release(erasure.id)
            return self._move(tx, erasure, ErasureState.SCHEDULED if scheduled else ErasureState.OLD_ROOT_DESTROYED)

    def _destroy_site(self, site: ErasureSite) -> ErasureSite:
        if site.old_root is None or site.old_root == site.new_root:
            raise KeyDamaged
        with self._store.reading() as tx:
            if _partition(tx, site).root == site.old_root:
                raise SurvivorUnverified
        self._provider.destroy(site.old_root)
        self._epochs.forget(site.old_root)
        told = self._provider.describe(site.old_root)
        if told.state is RootState.ACTIVE:
            raise RootStillAlive
        return replace(
            site,
            root_state=told.state.value,
            irrevocable_at=told.irrevocable_at,
            assurance=told.assurance,
            evidence=told.evidence,
        )

    def _scan(self, erasure: Erasure) -> ErasureState:
        truncated = self._store.checkpoint()
        with self._store.reading() as tx:
            probes = tx.probes(erasure.id)
        scan = replace(self._store.scan(probes), truncated=truncated)
        with self._store.writing() as tx:
            tx.save_scan(erasure.id, scan)
            tx.drop_probes(erasure.id)
            return self._move(tx, erasure, ErasureState.SCANNED)

    def _certify(self, erasure: Erasure) -> ErasureState:
        made = certificates(erasure, self._clock.now(), self._sign, self._unnamed)
        with self._store.writing() as tx:
            tx.save_certificates(erasure.id, made)
            return self._move(tx, erasure, ErasureState.CERTIFIED)

    # After a restore

    def replay(self, tombstones: Sequence[Tombstone]) -> tuple[str, ...]:
        """Ask again for what a restored store brought back; returns all erasures to drive, old ones included."""
        groups: dict[str, list[Tombstone]] = {}
        for stone in tombstones:
            groups.setdefault(stone.erasure, []).append(stone)
        for erasure_id, stones in groups.items():
            with self._store.writing() as tx:
                self._replay_one(tx, f"{erasure_id.removesuffix('.replay')}.replay", erasure_id, stones)
        return self.pending()

    def _replay_one(self, tx: KeyTransaction, replay_id: str, origin: str, stones: Sequence[Tombstone]) -> None:
        journalled = tx.erasure(origin)
        if (journalled is not None and journalled.state is not _ENDED) or tx.erasure(replay_id) is not None:
            return
        _lock_partitions(tx, [(each.controller, each.subject, each.key_class) for each in stones])
        found = [each for stone in stones for each in _brought_back(tx, stone)]
        if found:
            self._journal(tx, replay_id, found)


@dataclass(frozen=True, slots=True)
class _Staging:
    """Re-wraps subject keys from one epoch key to the next."""

    under_old: Wrapper
    under_new: Wrapper
    generation: int

    def all(self, keys: Sequence[SubjectKey]) -> list[tuple[bytes, bytes]]:
        return [(key.id, self._moved(key)) for key in keys]

    def missing(self, keys: Sequence[SubjectKey]) -> list[tuple[bytes, bytes]]:
        """Keys made since the re-wrap: moved, and verified at once."""
        late = [key for key in keys if key.staged_generation != self.generation]
        staged = self.all(late)
        for key, (_, wrapped) in zip(late, staged, strict=True):
            _check(replace(key, staged=wrapped), self.under_old, self.under_new)
        return staged

    def _moved(self, key: SubjectKey) -> bytes:
        name = subject_key_name(key.id)
        opened = self.under_old.unwrap(key.wrapped, name)
        wrapped = self.under_new.wrap(opened, name)
        wipe(opened)
        return wrapped


def _check(key: SubjectKey, under_old: Wrapper, under_new: Wrapper) -> None:
    name = subject_key_name(key.id)
    try:
        before, after = under_old.unwrap(key.wrapped, name), under_new.unwrap(key.staged or b"", name)
    except KeyDamaged:
        raise SurvivorUnverified from None
    same = hmac.compare_digest(before, after)
    wipe(before, after)
    if not same:
        raise SurvivorUnverified


def _sorted(target: Target, subject_key: SubjectKey, keys: Sequence[DataKey]) -> _Found:
    doomed, kept = [], []
    for key in keys:
        keep = _keep(target, key.scope)
        spared = keep is not None or (target.only and not any(each.takes(key.scope) for each in target.only))
        if spared and key.doomed_by is None:
            kept.append((key, keep))
        else:
            doomed.append(key)
    return _Found(target, subject_key, tuple(doomed), tuple(kept))


def _keep(target: Target, scope: Scope) -> Keep | None:
    return next((keep for keep in target.keep if keep.selector.takes(scope)), None)


def _as_target(found: _Found) -> ErasureTarget:
    key = found.subject_key
    retained = [(kept, keep) for kept, keep in found.kept if keep is not None]
    return ErasureTarget(
        key.controller,
        key.subject,
        key.key_class,
        key.partition,
        not found.target.only,
        key.id,
        tuple(_named(each, None) for each in found.doomed),
        tuple(_named(each, keep) for each, keep in retained),
    )


def _named(key: DataKey, keep: Keep | None) -> NamedKey:
    scope = key.scope
    until, reason = (keep.until.isoformat(), keep.reason) if keep is not None else (None, None)
    return NamedKey(key.id, scope.holder, scope.category, scope.basis.value, scope.life, until, reason)


def _same(present: Erasure, targets: Sequence[Target]) -> ErasureState:
    journalled = {(each.controller, each.subject) for each in present.targets}
    if not journalled <= {(each.controller, each.subject) for each in targets}:
        raise ErasureConflict
    return present.state


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


def _lock_partitions(tx: KeyTransaction, named: Sequence[tuple[str, str, KeyClass]]) -> None:
    """Hold the partitions of these subjects' keys, in order and before the keys: nobody then waits in a circle."""
    keys = [tx.subject_key(*each) for each in named]
    for key_class, number in sorted({(key.key_class, key.partition) for key in keys if key is not None}):
        tx.partition(key_class, number, lock=True)


def _brought_back(tx: KeyTransaction, stone: Tombstone) -> list[_Found]:
    """What of a tombstone lives in this store again."""
    subject_key = tx.subject_key(stone.controller, stone.subject, stone.key_class, lock=True)
    if subject_key is None:
        return []
    keys = tx.data_keys(subject_key.id)
    doomed = tuple(key for key in keys if key.id.hex() in stone.keys)
    closed = tx.erased_at(stone.controller, stone.subject, stone.key_class) is not None
    if not (doomed or (stone.whole and not closed)):
        return []
    only = () if stone.whole else (Selector(),)
    target = Target(stone.controller, stone.subject, only=only, classes=(stone.key_class,))
    kept = tuple((key, None) for key in keys if key not in doomed)
    return [_Found(target, subject_key, doomed, kept)]


def _rewrapped(key: DataKey, old_id: bytes, new_id: bytes, under_old: Wrapper, under_new: Wrapper) -> bytes:
    opened = under_old.unwrap(key.wrapped, data_key_name(key.id, old_id))
    wrapped = under_new.wrap(opened, data_key_name(key.id, new_id))
    wipe(opened)
    return wrapped


def _partition(tx: KeyTransaction, site: ErasureSite, *, lock: bool = False) -> Partition:
    found = tx.partition(site.key_class, site.partition, lock=lock)
    if found is None:
        raise KeyDamaged
    return found


def _planned(site: ErasureSite, old: Partition, new: Partition) -> ErasureSite:
    return replace(
        site,
        old_generation=old.generation,
        old_root=old.root,
        new_generation=new.generation,
        new_root=new.root,
        new_epoch_wrapped=new.epoch_wrapped,
    )


def _coming(site: ErasureSite) -> Partition:
    if site.new_generation is None or site.new_root is None or site.new_epoch_wrapped is None:
        raise KeyDamaged
    return Partition(site.key_class, site.partition, site.new_generation, site.new_root, site.new_epoch_wrapped)

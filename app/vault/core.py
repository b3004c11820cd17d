"""The vault: subjects' keys, leases, sealing in the service, shredding (vault.md sections 1 to 3).

Nothing of a data key stays in memory after a call: each lease and each open reads the key store, so that a shred counts
at once in every process; only epoch keys are kept, five minutes at most. Every key is random, none is derived.
Leaves out who may lease (the law decides first) and the ledger leaf of each lease (the caller's unit of work).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from app.sdk.sealed import MESSAGES_PER_KEY, Cipher, Place, key_id_of
from app.vault.epochs import Epochs
from app.vault.erasure import Erasures
from app.vault.errors import (
    Erased,
    KeyDamaged,
    LeaseTooLong,
    NotLeasable,
    RootDestroyed,
    UnknownKey,
    UnknownRoot,
    UnknownSubject,
)
from app.vault.guarding import AT_ONCE, Terms
from app.vault.indexes import Indexes
from app.vault.keys import SUBJECT_CLASSES, KeyClass, Scope, Target
from app.vault.partitions import SUBJECTS_PER_PARTITION, Partitions, runs
from app.vault.ports import (
    LONGEST_LEASE,
    Clock,
    DataKey,
    ErasureState,
    KeyPath,
    KeyProvider,
    KeyStore,
    KeyTransaction,
    Sign,
    SubjectKey,
)
from app.vault.tombstones import Tombstone, Tombstones
from app.vault.wrapping import Random, Wrapper, data_key_name, fresh, subject_key_name, wipe

LEASE_MESSAGES: Final = 1 << 14
"""How many messages one lease may seal; charged to the key in full."""
_SEALS_PER_CHARGE: Final = 1 << 14
_WORN_OUT: Final = MESSAGES_PER_KEY - (1 << 25)
"""Seals in the service are counted by sampling; the margin is eight standard deviations of that estimate."""
_KEY_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Lease:
    """A data key on loan. Wipe `key` when done; `messages` is how many it may seal."""

    key_id: bytes
    key: bytearray = field(repr=False)
    expires_at: datetime
    messages: int


class Vault:
    """All that the service does with keys. One per process; safe to share between threads."""

    def __init__(
        self,
        store: KeyStore,
        provider: KeyProvider,
        *,
        clock: Clock,
        random: Random,
        tombstones: Tombstones,
        sign: Sign,
        worker: str,
        per_partition: int = SUBJECTS_PER_PARTITION,
        unnamed: Collection[str] = (),
        terms: Terms = AT_ONCE,
    ) -> None:
        """`worker` names this process across restarts (host and slot); `sign` signs certificates.

        `unnamed`: categories whose keys no certificate lists, so that none tells whether there were any.
        """
        self._store = store
        self._clock = clock
        self._random = random
        self._per_partition = per_partition
        self._partitions = Partitions(store, provider, random)
        self.epochs = Epochs(provider, clock, random)
        self.indexes = Indexes(store, self._partitions, self.epochs, clock=clock, random=random)
        self.erasures = Erasures(
            store,
            provider,
            self._partitions,
            self.epochs,
            clock=clock,
            random=random,
            tombstones=tombstones,
            sign=sign,
            worker=worker,
            unnamed=unnamed,
            terms=terms,
        )

    # Subjects

    def create_subject(self, controller: str, subject: str) -> None:
        """Make the subject's keys in each class; nothing happens when they exist. Raises `ProviderUnavailable`."""
        self.create_subjects(controller, [subject])

    def create_subjects(self, controller: str, subjects: Sequence[str]) -> None:
        """Make many subjects' keys; those that have, or had, keys are left as they are."""
        with self._store.reading() as tx:
            known = tx.known(controller, subjects)
        new = [subject for subject in dict.fromkeys(subjects) if subject not in known]
        if not new:
            return
        with self._store.writing() as tx:
            first = tx.allot(len(new))
        at = 0
        for number, count in runs(first, len(new), self._per_partition):
            self._fill(controller, new[at : at + count], number)
            at += count

    def known(self, controller: str, subjects: Sequence[str]) -> frozenset[str]:
        """Return those that have, or had, keys; a key store that was restored does not know the newest."""
        with self._store.reading() as tx:
            return tx.known(controller, subjects)

    def _fill(self, controller: str, subjects: Sequence[str], number: int) -> None:
        for key_class in SUBJECT_CLASSES:
            self._partitions.ensure(key_class, number)
        with self._store.writing() as tx:
            # Asked again inside: another process may have made the same subject meanwhile.
            known = tx.known(controller, subjects)
            new = [subject for subject in subjects if subject not in known]
            for key_class in SUBJECT_CLASSES:
                wrapper = self._locked_epoch(tx, key_class, number)
                keys = [self._new_subject_key(wrapper, controller, each, key_class, number) for each in new]
                tx.add_subject_keys(keys, self._clock.now())

    def _locked_epoch(self, tx: KeyTransaction, key_class: KeyClass, number: int) -> Wrapper:
        partition = tx.partition(key_class, number, lock=True)
        if partition is None:
            raise KeyDamaged
        return self.epochs.wrapper(partition)

    def _new_subject_key(
        self, wrapper: Wrapper, controller: str, subject: str, key_class: KeyClass, number: int
    ) -> SubjectKey:
        key, key_id = fresh(self._random), self._random(_KEY_ID_BYTES)
        bare = SubjectKey(key_id, controller, subject, key_class, number, b"")
        wrapped = wrapper.wrap(key, subject_key_name(bare))
        wipe(key)
        # Made anew: `replace` takes four times as long, and people come by the hundred thousand.
        return SubjectKey(key_id, controller, subject, key_class, number, wrapped)

    # Data keys and leases

    def dek_for(self, scope: Scope) -> bytes:
        """Return the 16-byte id of the scope's present data key, made when there is none.

        Raises `UnknownSubject`, `Erased` (the whole subject was), `ProviderUnavailable`.
        """
        return self._path_for(scope).key.id

    def lease(self, scope: Scope, seconds: int = LONGEST_LEASE, *, key_id: bytes | None = None) -> Lease:
        """Lend a data key for 1 to 60 seconds: the scope's present one, or the one a sealed record names.

        Raises `LeaseTooLong`, `NotLeasable`, `UnknownSubject`, `UnknownKey`, `Erased`, `ProviderUnavailable`.
        """
        if not 1 <= seconds <= LONGEST_LEASE:
            raise LeaseTooLong
        if scope.key_class is not KeyClass.DATA:
            raise NotLeasable
        path = self._path_for(scope) if key_id is None else self._path_of(key_id, scope)
        expires = self._clock.now() + timedelta(seconds=seconds)
        path, _ = self._present(path)  # a provider that is away is found out before a lease is written down
        # Written before the key is handed out, and refused by the same statement when the key is doomed: an erasure
        # therefore knows of every lease it has to wait for.
        with self._store.writing() as tx:
            if not tx.charge(path.key.id, LEASE_MESSAGES, expires):
                raise self._gone(path.key.id, scope, tx)
        return Lease(path.key.id, self._open_path(path), expires, LEASE_MESSAGES)

    def _path_for(self, scope: Scope) -> KeyPath:
        with self._store.reading() as tx:
            path = tx.path_of_scope(scope)
        if path is None or path.key.messages >= _WORN_OUT:
            return self._make_data_key(scope)
        return path

    def _make_data_key(self, scope: Scope) -> KeyPath:
        with self._store.writing() as tx:
            subject_key = self._living_subject_key(tx, scope)
            path = tx.path_of_scope(scope)
            if path is not None and path.key.messages < _WORN_OUT:
                return path
            # Not locked: no re-wrap of this partition can be committed while the subject key is held.
            partition = tx.partition(subject_key.key_class, subject_key.partition)
            if partition is None:
                raise KeyDamaged
            key_id, key = self._random(_KEY_ID_BYTES), fresh(self._random)
            bare = DataKey(key_id, subject_key.id, scope, tx.next_sequence(scope), b"", self._clock.now())
            with self._subject_wrapper(subject_key, self.epochs.wrapper(partition)) as wrapper:
                made = replace(bare, wrapped=wrapper.wrap(key, data_key_name(bare, subject_key.id)))
            wipe(key)
            tx.add_data_key(made)
            return KeyPath(made, subject_key, partition)

    @staticmethod
    def _living_subject_key(tx: KeyTransaction, scope: Scope) -> SubjectKey:
        subject_key = tx.subject_key(scope.controller, scope.subject, scope.key_class, lock=True)
        erased = tx.erased_at(scope.controller, scope.subject, scope.key_class)
        if erased is not None:
            raise Erased(erased)
        if subject_key is None:
            raise UnknownSubject
        return subject_key

    def _path_of(self, key_id: bytes, scope: Scope) -> KeyPath:
        with self._store.reading() as tx:
            path = tx.path_of_key(key_id)
            if path is None or path.key.doomed_by is not None or not path.key.scope.same_place(scope):
                raise self._gone(key_id, scope, tx)
        return path

    @staticmethod
    def _gone(key_id: bytes, scope: Scope, tx: KeyTransaction) -> UnknownKey | Erased:
        """Erased for whoever names the key's own place; unknown for the rest, who learn nothing."""
        destroyed = tx.destroyed(key_id)
        if destroyed is not None and destroyed.scope.same_place(scope):
            return Erased(destroyed.at)
        path = tx.path_of_key(key_id)
        if path is None or path.key.doomed_by is None or not path.key.scope.same_place(scope):
            return UnknownKey()
        erasure = tx.erasure(path.key.doomed_by)
        return UnknownKey() if erasure is None else Erased(erasure.requested_at)

    @contextmanager
    def _subject_wrapper(self, subject_key: SubjectKey, epoch: Wrapper) -> Iterator[Wrapper]:
        key = epoch.unwrap(subject_key.wrapped, subject_key_name(subject_key))
        try:
            yield Wrapper(key, self._random)
        finally:
            wipe(key)

    def _open_path(self, path: KeyPath) -> bytearray:
        path, epoch = self._present(path)
        with self._subject_wrapper(path.subject_key, epoch) as wrapper:
            return wrapper.unwrap(path.key.wrapped, data_key_name(path.key, path.subject_key.id))

    def _present(self, path: KeyPath) -> tuple[KeyPath, Wrapper]:
        """Return the path and its epoch's wrapper; it is read anew when its partition was re-wrapped since."""
        while True:
            try:
                return path, self.epochs.wrapper(path.partition)
            except (RootDestroyed, UnknownRoot):
                with self._store.reading() as tx:
                    again = tx.path_of_key(path.key.id)
                if again is None or again.key.doomed_by is not None:
                    raise UnknownKey from None
                if again.partition.generation <= path.partition.generation:
                    raise
                path = again

    # Sealing in the service

    def seal(self, scope: Scope, record_id: str, plaintext: bytes, *, handle: str | None = None) -> bytes:
        """Return the sealed record. `handle`: what the holder calls the subject, when it is not Regard itself.

        Raises what `dek_for` raises.
        """
        path = self._path_for(scope)
        self._count(path.key.id)
        with self._cipher(path) as cipher:
            place = cipher.place(handle or scope.subject, scope.category)
            return place.seal(plaintext, record_id)

    def open(self, scope: Scope, record_id: str, record: bytes, *, handle: str | None = None) -> bytes:
        """Return the plaintext of a record in the scope's place; basis and life bucket are the key's own.

        Raises `UnknownKey`, `Erased`, `ProviderUnavailable`, and `SealError` when the record is not what it says.
        """
        path = self._path_of(key_id_of(record), scope)
        with self._cipher(path) as cipher:
            return cipher.place(handle or scope.subject, scope.category).open(record, record_id)

    def trial(self, record: bytes, *, handle: str, category: str, record_id: str) -> None:
        """See whether a sealed record still opens, by the key it names; what it says is shown to nobody.

        For drills: nothing is asked about who may read. Raises what opening raises when it does not.
        """
        key_id = key_id_of(record)
        with self._store.reading() as tx:
            path = tx.path_of_key(key_id)
            destroyed = tx.destroyed(key_id)
        if path is None or path.key.doomed_by is not None:
            raise Erased(destroyed.at) if destroyed is not None else UnknownKey
        with self._cipher(path) as cipher:
            cipher.place(handle, category).open(record, record_id)

    def open_all(self, scope: Scope, records: Sequence[tuple[str, bytes]], *, handle: str | None = None) -> list[bytes]:
        """Return the plaintexts of (record id, record) of one place, each key read once. Raises as `open`: all or none.

        A shred that comes while this runs is not seen by it.
        """
        with ExitStack() as keys:
            places: dict[bytes, Place] = {}
            for _, record in records:
                key_id = key_id_of(record)
                if key_id not in places:
                    cipher = keys.enter_context(self._cipher(self._path_of(key_id, scope)))
                    places[key_id] = cipher.place(handle or scope.subject, scope.category)
            return [places[key_id_of(record)].open(record, record_id) for record_id, record in records]

    @contextmanager
    def _cipher(self, path: KeyPath) -> Iterator[Cipher]:
        key = self._open_path(path)
        try:
            cipher = Cipher(path.key.id, key, random=self._random)
            yield cipher
            cipher.wipe()
        finally:
            wipe(key)

    def _count(self, key_id: bytes) -> None:
        """Count seals by sampling: one in 16,384 is charged as 16,384, which costs no write on the others."""
        if int.from_bytes(self._random(4), "big") % _SEALS_PER_CHARGE == 0:
            with self._store.writing() as tx:
                tx.charge(key_id, _SEALS_PER_CHARGE, None)

    # Shredding

    def shred(self, erasure_id: str, targets: Sequence[Target], *, by: str | None = None) -> ErasureState:
        """Ask for an erasure: from here on no lease, no open and no new key of what it takes. Needs no provider.

        The same id and targets again return the present state. Drive it with `erasures.advance` or `erasures.drive`.
        Raises `UnknownSubject`, `ErasureConflict`.
        """
        return self.erasures.request(erasure_id, targets, by=by)

    def replay(self, tombstones: Sequence[Tombstone]) -> tuple[str, ...]:
        """Shred again what a restored key store brought back; to be called before serving. Returns erasure ids.

        The keys are refused from here on; drive the erasures to the end afterwards.
        """
        return self.erasures.replay(tombstones)

    def erased_at(self, controller: str, subject: str, key_class: KeyClass = KeyClass.DATA) -> datetime | None:
        """When the whole subject was erased in this class; for callers that were entitled."""
        with self._store.reading() as tx:
            return tx.erased_at(controller, subject, key_class)

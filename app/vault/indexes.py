"""Blind indexes: finding who an address belongs to without storing it (vault.md sections 1 and 2).

A value is stored as HMAC-SHA256 under a key of its field, controller and epoch. Whoever has an old copy of such a key
and of the provider’s root can test a guess against an old copy of the rows; so the key is changed on a schedule:
`rekey` begins an epoch, the caller stores its values anew, `retire` removes the older keys. What makes a *copy* of them
worthless is the rotation of their partition that must follow (`Erasures.rotate`).

Look-ups are counted: a process that asks for far more addresses than people sign in is testing guesses.
Leaves out the rows that hold indexes (`app.profiles`) and when all this happens (`app.wiring.rotating`).
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock
from typing import Final

from app.vault.epochs import Epochs
from app.vault.errors import KeyDamaged, RootDestroyed, TooManyLookUps, UnknownRoot
from app.vault.keys import KeyClass
from app.vault.partitions import Partitions
from app.vault.ports import Clock, IndexKey, KeyStore, Partition
from app.vault.wrapping import Random, fresh, index_key_name, wipe

LOOK_UPS_A_MINUTE: Final = 3_000
"""Of one process: fifty sign-ins a second. A hundred million guesses then take more than three weeks, not an hour."""
_KEY_ID_BYTES: Final = 16
_PARTITION: Final = 0


@dataclass(frozen=True, slots=True)
class BlindIndex:
    """A value as an index stores it: the epoch of the key, and HMAC-SHA256 under it in hex."""

    epoch: int
    digest: str


class Pace:
    """So many in any minute of the clock, then none until the next."""

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = most
        self._minute: datetime | None = None
        self._taken = 0
        self._lock = Lock()

    def take(self) -> bool:
        """Return whether there was one left. A clock set back begins no new minute."""
        now = self._clock.now()
        with self._lock:
            if self._minute is None or now - self._minute >= timedelta(minutes=1):
                self._minute, self._taken = now, 0
            self._taken += 1
            return self._taken <= self._most


class Indexes:
    """The keys of blind indexes and what is computed under them."""

    def __init__(
        self,
        store: KeyStore,
        partitions: Partitions,
        epochs: Epochs,
        *,
        clock: Clock,
        random: Random,
        look_ups_a_minute: int = LOOK_UPS_A_MINUTE,
    ) -> None:
        self._store = store
        self._partitions = partitions
        self._epochs = epochs
        self._clock = clock
        self._random = random
        self._pace = Pace(clock, look_ups_a_minute)
        self.looked = 0
        """How many look-ups were asked for since this process began, refused ones among them."""

    def blind(self, controller: str, field: str, value: str) -> BlindIndex:
        """Return what to store for `value` (already normalised) under the field's newest key."""
        return self._all(controller, field, value)[0]

    def blinds(self, controller: str, field: str, value: str) -> tuple[BlindIndex, ...]:
        """Return what to look for: one for each epoch of the field's key, newest first. Raises `TooManyLookUps`."""
        self.looked += 1
        if not self._pace.take():
            raise TooManyLookUps
        return tuple(self._all(controller, field, value))

    def newest(self, controller: str, field: str) -> IndexKey:
        """Return the field's newest key, still wrapped; it is made when there is none."""
        return self._paths(controller, field)[0][0]

    def rekey(self, controller: str, field: str) -> int:
        """Begin a new epoch and return its number; the caller then stores its values anew. Twice at once begins one."""
        return self._add(controller, field, after=self.newest(controller, field).epoch)

    def retire(self, controller: str, field: str, *, before: int) -> int:
        """Remove the keys of epochs before this one; return how many. Only once nothing is stored under them.

        The epoch is named, because another one may have begun since whoever asks has looked.
        """
        with self._store.writing() as tx:
            older = [key.id for key in tx.index_keys(controller, field) if key.epoch < before]
            tx.remove_index_keys(older)
        return len(older)

    def _all(self, controller: str, field: str, value: str) -> Sequence[BlindIndex]:
        paths = self._paths(controller, field)
        while True:
            try:
                return [self._blinded(key, partition, value) for key, partition in paths]
            except (RootDestroyed, UnknownRoot):
                # The partition was re-wrapped since its row was read; nothing has changed when it was not.
                before, paths = paths, self._paths(controller, field)
                if paths[0][1].generation <= before[0][1].generation:
                    raise

    def _paths(self, controller: str, field: str) -> Sequence[tuple[IndexKey, Partition]]:
        with self._store.reading() as tx:
            found = tx.index_paths(controller, field)
        if found:
            return found
        self._add(controller, field, after=0)
        with self._store.reading() as tx:
            return tx.index_paths(controller, field)

    def _add(self, controller: str, field: str, *, after: int) -> int:
        self._partitions.ensure(KeyClass.INDEX, _PARTITION)
        key, key_id = fresh(self._random), self._random(_KEY_ID_BYTES)
        with self._store.writing() as tx:
            partition = tx.partition(KeyClass.INDEX, _PARTITION, lock=True)
            if partition is None:
                raise KeyDamaged
            wrapped = self._epochs.wrapper(partition).wrap(key, index_key_name(key_id))
            wipe(key)
            found = tx.index_keys(controller, field)
            if found and found[0].epoch > after:
                return found[0].epoch
            tx.add_index_key(IndexKey(key_id, controller, field, after + 1, _PARTITION, wrapped, self._clock.now()))
        return after + 1

    def _blinded(self, index_key: IndexKey, partition: Partition, value: str) -> BlindIndex:
        key = self._epochs.wrapper(partition).unwrap(index_key.wrapped, index_key_name(index_key.id))
        try:
            return BlindIndex(index_key.epoch, hmac.digest(bytes(key), value.encode(), "sha256").hex())
        finally:
            wipe(key)

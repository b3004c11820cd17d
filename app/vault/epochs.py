"""Epoch keys in memory, at most five minutes each, so that the provider may be away for a while (vault.md 1, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from app.vault.ports import Clock, KeyProvider, Partition
from app.vault.wrapping import Random, Wrapper, epoch_name, wipe

EPOCH_LIFE = timedelta(minutes=5)
"""How long an epoch key is used from memory."""
MEMORY_CLEAR = EPOCH_LIFE + timedelta(minutes=1)
"""By when it has left memory: what is over is dropped by the next use, or by a sweep within the minute."""


@dataclass(frozen=True, slots=True)
class _Kept:
    wrapper: Wrapper
    since: datetime


class Epochs:
    """Opens subject keys of a partition; asks the provider when the epoch key is not in memory."""

    def __init__(self, provider: KeyProvider, clock: Clock, random: Random, life: timedelta = EPOCH_LIFE) -> None:
        self._provider = provider
        self._clock = clock
        self._random = random
        self._life = life
        self._kept: dict[tuple[str, bytes], _Kept] = {}
        self._lock = Lock()

    def wrapper(self, partition: Partition) -> Wrapper:
        """Return the wrapper under the partition's epoch key; raises `ProviderUnavailable`, `RootDestroyed`."""
        name = (partition.root, partition.epoch_wrapped)
        self.drop_stale()
        kept = self._kept.get(name)
        if kept is not None:
            return kept.wrapper
        wrapper = self.fetch(partition)
        with self._lock:
            self._kept[name] = _Kept(wrapper, self._clock.now())
        return wrapper

    def fetch(self, partition: Partition) -> Wrapper:
        """Ask the provider, whatever is in memory."""
        names = epoch_name(partition.key_class, partition.number, partition.generation)
        key = self._provider.unwrap(partition.root, partition.epoch_wrapped, names)
        wrapper = Wrapper(key, self._random)
        wipe(key)
        return wrapper

    def forget(self, root: str | None = None) -> None:
        """Drop the epoch keys of one root, or all."""
        with self._lock:
            for name in [name for name in self._kept if root in (None, name[0])]:
                del self._kept[name]

    def drop_stale(self) -> int:
        """Drop what was kept for its time and return how many; whoever keeps a process calls it as long as that lives.

        A clock that went back does not lengthen a key's life in memory.
        """
        now = self._clock.now()
        with self._lock:
            stale = [name for name, kept in self._kept.items() if not timedelta(0) <= now - kept.since < self._life]
            for name in stale:
                del self._kept[name]
        return len(stale)

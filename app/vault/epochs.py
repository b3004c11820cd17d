"""Epoch keys in memory, at most five minutes each, so that the provider may be away for a while (vault.md 1, 6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

from app.vault.ports import Clock, KeyProvider, Partition
from app.vault.wrapping import Random, Wrapper, epoch_name, wipe

EPOCH_LIFE = timedelta(minutes=5)


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
        kept = self._kept.get(name)
        now = self._clock.now()
        # A clock that went back must not lengthen a key's life in memory.
        if kept is not None and timedelta(0) <= now - kept.since < self._life:
            return kept.wrapper
        wrapper = self.fetch(partition)
        with self._lock:
            self._drop_stale(now)
            self._kept[name] = _Kept(wrapper, now)
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

    def _drop_stale(self, now: datetime) -> None:
        stale = [name for name, kept in self._kept.items() if not timedelta(0) <= now - kept.since < self._life]
        for name in stale:
            del self._kept[name]

"""Which partition a subject falls into, and making partitions (vault.md section 1: about one per 4,096 subjects)."""

from __future__ import annotations

from collections.abc import Iterator

from app.vault.errors import RootReused
from app.vault.keys import KeyClass
from app.vault.ports import KeyProvider, KeyStore, Partition, RootName
from app.vault.wrapping import Random, epoch_name, fresh, wipe

SUBJECTS_PER_PARTITION = 4_096


def runs(first: int, count: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut `count` places from `first` on into (partition, how many)."""
    while count > 0:
        taken = min(count, size - first % size)
        yield first // size, taken
        first, count = first + taken, count - taken


class Partitions:
    """Gives partitions by class and number, each made when first asked for."""

    def __init__(self, store: KeyStore, provider: KeyProvider, random: Random) -> None:
        self._store = store
        self._provider = provider
        self._random = random

    def ensure(self, key_class: KeyClass, number: int) -> Partition:
        """Return the partition; raises `ProviderUnavailable`."""
        with self._store.reading() as tx:
            found = tx.partition(key_class, number)
        return found if found is not None else self._make(key_class, number)

    def _make(self, key_class: KeyClass, number: int) -> Partition:
        # The provider is called outside any transaction: it may be slow, and both of two racers get the same root.
        new = self.new_generation(key_class, number, 1)
        with self._store.writing() as tx:
            tx.add_partition(new)
            made = tx.partition(key_class, number)
        return made if made is not None else new

    def new_generation(self, key_class: KeyClass, number: int, generation: int) -> Partition:
        """Make a root and an epoch key for a generation; nothing is stored. Raises `RootReused`."""
        root = self._provider.create_root(RootName(key_class, number, generation))
        with self._store.reading() as tx:
            if any(
                (each.key_class, each.number, each.generation) != (key_class, number, generation)
                for each in tx.under_root(root)
            ):
                raise RootReused
        epoch = fresh(self._random)
        wrapped = self._provider.wrap(root, epoch, epoch_name(key_class, number, generation))
        wipe(epoch)
        return Partition(key_class, number, generation, root, wrapped)

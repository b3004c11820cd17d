"""Erasures that go the same steps together: a partition is re-wrapped once for all of them (vault.md section 5).

Every member has its own journal and its own certificate; all of them move in the same transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.vault.ports import Erasure, ErasureSite, ErasureState


@dataclass(frozen=True, slots=True)
class Batch:
    """Members in the order of their ids, all in the same state; an erasure alone is a batch of one.

    `id` is the erasure that led them together: partitions are claimed in its name.
    """

    id: str
    members: tuple[Erasure, ...]

    @property
    def state(self) -> ErasureState:
        """Where all of them stand."""
        return self.members[0].state

    @property
    def sites(self) -> tuple[ErasureSite, ...]:
        """One site for each partition, in the order in which everybody holds them."""
        found = {(site.key_class, site.partition): site for each in self.members for site in each.sites}
        return tuple(found[place] for place in sorted(found))

    def at(self, site: ErasureSite) -> Iterator[tuple[Erasure, ErasureSite]]:
        """Yield every member that re-wraps this partition, with its own note of it."""
        for member in self.members:
            for own in member.sites:
                if (own.key_class, own.partition) == (site.key_class, site.partition):
                    yield member, own

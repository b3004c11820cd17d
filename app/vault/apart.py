"""A key provider for drills: roots of its own, in a range of names no deployment reaches, and no other root touched.

A drill makes, destroys and tries roots in the deployment's real provider. Its partitions are numbered from a thousand
million on (a deployment would need four million million subjects to get there), at a place drawn anew each time, since
a destroyed root's name is never used again. Whatever root it is handed that it did not make it refuses to know.
"""

from __future__ import annotations

from typing import Final

from app.vault.errors import UnknownRoot
from app.vault.ports import KeyProvider, RootDescription, RootName, RootState
from app.vault.wrapping import Random

FIRST: Final = 1_000_000_000
_PLACES: Final = 1_000_000
_EACH: Final = 1_000
"""Partitions a drill may have; the last number is below 2^31."""


class ApartProvider:
    """Hands calls about its own roots on to `provider`."""

    def __init__(self, provider: KeyProvider, random: Random) -> None:
        self._provider = provider
        self._first = FIRST + int.from_bytes(random(8), "big") % _PLACES * _EACH
        self._made: dict[str, None] = {}

    @property
    def kind(self) -> str:
        return self._provider.kind

    def create_root(self, name: RootName) -> str:
        """Return the root of this name in the drill's own range."""
        if not 0 <= name.partition < _EACH:
            raise UnknownRoot
        root = self._provider.create_root(RootName(name.key_class, self._first + name.partition, name.generation))
        self._made[root] = None
        return root

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        return self._provider.wrap(self._own(root), key, name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        return self._provider.unwrap(self._own(root), wrapped, name)

    def destroy(self, root: str) -> None:
        self._provider.destroy(self._own(root))

    def describe(self, root: str) -> RootDescription:
        return self._provider.describe(self._own(root))

    def _own(self, root: str) -> str:
        if root not in self._made:
            raise UnknownRoot
        return root

    def clear(self) -> int:
        """Destroy every root that was made and still works; return how many. Raises what `destroy` raises."""
        alive = [root for root in self._made if self.describe(root).state is RootState.ACTIVE]
        for root in alive:
            self.destroy(root)
        return len(alive)

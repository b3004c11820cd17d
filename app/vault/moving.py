"""Moving the roots of a key store from one provider to another while the service runs (vault.md section 4).

Two providers stand side by side for the time of a move: each root's reference says whose it is, new roots are made by
the present one.
"""

from __future__ import annotations

from app.vault.errors import UnknownRoot
from app.vault.ports import KeyProvider, RootDescription, RootName


class JoinedProviders:
    """A key provider over two: roots of both are usable, new ones are the present provider's."""

    def __init__(self, present: KeyProvider, before: KeyProvider) -> None:
        self._present = present
        self._by_kind = {before.kind: before, present.kind: present}

    @property
    def kind(self) -> str:
        """The present provider's."""
        return self._present.kind

    def create_root(self, name: RootName) -> str:
        """Make it with the present provider."""
        return self._present.create_root(name)

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        return self._of(root).wrap(root, key, name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        return self._of(root).unwrap(root, wrapped, name)

    def destroy(self, root: str) -> None:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        self._of(root).destroy(root)

    def describe(self, root: str) -> RootDescription:
        """Ask whose root it is; raises `UnknownRoot` where it is neither's."""
        return self._of(root).describe(root)

    def _of(self, root: str) -> KeyProvider:
        provider = self._by_kind.get(kind_of(root))
        if provider is None:
            raise UnknownRoot
        return provider


def kind_of(root: str) -> str:
    """Return the kind of provider that a root's reference names: what stands before its first colon."""
    return root.partition(":")[0]

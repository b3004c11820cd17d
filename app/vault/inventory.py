"""The key inventory of a partition as one hash: an RFC 6962 section 2.1 Merkle root over the ids of its subject keys.

Ids are sorted, so that the root depends on which keys live and on nothing else. With the list of ids, which are
random and say nothing of anybody, an auditor recomputes it and sees that an erased key is no longer among them.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256


def inventory_root(key_ids: Iterable[bytes]) -> str:
    """Return the hex Merkle root; of an empty inventory, SHA-256 of nothing."""
    return _root([sha256(b"\x00" + key_id).digest() for key_id in sorted(key_ids)]).hex()


def _root(level: list[bytes]) -> bytes:
    """Pairing level by level, the odd one carried up, gives the same tree as RFC 6962's split at a power of two."""
    if not level:
        return sha256(b"").digest()
    while len(level) > 1:
        paired = [sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]

"""Sealing and opening objects larger than memory, piece by piece (vault.md section 2: above 1 MiB, chunks).

The shape is version 2 of the sealed record (`sealed`): what was sealed here opens there whole, and the other way round.
A chunk is given out once its own tag holds, so a reader sees true bytes in their true order; only the end shows that
nothing was cut off. Whoever reads a stream therefore keeps nothing of it until it has ended: `open_file` writes a draft
beside the target and gives it its name at the end.

Leaves out where keys come from and how long they last (`sealer`).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, Protocol

from .disk import sync_folder
from .sealed import CHUNK_BYTES, CHUNKED, HEADER_BYTES, TAG_BYTES, Altered, Chunks, Place, key_id_in

_SEALED_CHUNK: Final = CHUNK_BYTES + TAG_BYTES


Still = Callable[[], None]
"""Asked before each chunk whether the key may still be used; raises when it may not."""


def always() -> None:
    """A key that is the caller's own."""


class Source(Protocol):
    """Bytes to read: a file, a socket's file, a response. An empty answer means the end."""

    def read(self, size: int, /) -> bytes: ...


class Opening:
    """A sealed record of which the header was read: which key opens it, then its plaintext."""

    def __init__(self, source: Source) -> None:
        """Raises `NotSealed`, `UnknownVersion`."""
        self._source = source
        self._header = _filled(source, HEADER_BYTES)
        self.key_id = key_id_in(self._header)

    def plaintext(self, place: Place, record_id: str, still: Still = always) -> Iterator[bytes]:
        """Return the plaintext in pieces of at most 1 MiB.

        Raises a `SealError` at once when key, commitment or version is another's; `Altered` while it is read when a
        chunk was changed, moved or repeated, or the end is missing: throw away what came before.
        """
        if self._header[3] != CHUNKED:
            return iter((place.open(self._header + _rest(self._source), record_id),))
        return _opened(place.resume(self._header, record_id), self._source, still)


def sealing(place: Place, source: Source, record_id: str, still: Still = always) -> Iterator[bytes]:
    """Return the sealed record of all that `source` holds, in pieces. Raises `KeyWornOut` at once."""
    header, chunks = place.begin(record_id)
    return _sealed(header, chunks, source, still)


def write_file(pieces: Iterable[bytes], target: Path) -> int:
    """Write the pieces to `target` durably, mode 0600, whole or not at all; return how many bytes."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            size = sum(file.write(piece) for piece in pieces)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)
    return size


def _sealed(header: bytes, chunks: Chunks, source: Source, still: Still) -> Iterator[bytes]:
    yield header
    for piece, last in _pieces(source, CHUNK_BYTES):
        still()
        yield chunks.seal(piece, last)


def _opened(chunks: Chunks, source: Source, still: Still) -> Iterator[bytes]:
    for piece, last in _pieces(source, _SEALED_CHUNK):
        still()
        yield chunks.open(piece, last)


def _pieces(source: Source, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield (piece, whether it is the last); one piece is read ahead, an empty source is one empty piece."""
    piece = _filled(source, size)
    while after := _filled(source, size):
        yield piece, False
        piece = after
    yield piece, True


def _filled(source: Source, size: int) -> bytes:
    """Read until there are `size` bytes or the end: pipes and sockets give less than they are asked for."""
    found = source.read(size)
    if len(found) == size or not found:
        return found
    parts, missing = [found], size - len(found)
    while missing and (more := source.read(missing)):
        parts.append(more)
        missing -= len(more)
    return b"".join(parts)


def _rest(source: Source) -> bytes:
    """Return what follows the header of a record that is one message; raises `Altered` when it is too long for one."""
    rest = _filled(source, _SEALED_CHUNK + 1)
    if len(rest) > _SEALED_CHUNK:
        raise Altered
    return rest

"""Tombstones: what was shredded, in a file outside both databases, replayed before a restored service serves.

Dsar rule 54 (write before destroying, replay after any restore). One JSON line each, opaque handles and key ids only,
with a checksum chained from the line before, so that a cut or edited middle shows. A last line without its end
was never acknowledged and is dropped by the next append.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.vault.errors import DurabilityLost, TombstonesDamaged
from app.vault.keys import KeyClass


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One subject in one key class: whole (nothing new may be made), or the keys named. Ids in hex, `at` ISO 8601."""

    erasure: str
    at: str
    controller: str
    subject: str
    key_class: KeyClass
    whole: bool
    subject_key: str
    keys: tuple[str, ...]


class Tombstones:
    """The append-only file; made with mode 0600 when there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False

    def append(self, stones: Sequence[Tombstone]) -> None:
        """Add those that are not there yet and make them durable; raises `DurabilityLost`, `TombstonesDamaged`."""
        if self._failed:
            raise DurabilityLost
        try:
            new = not self._path.exists()
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._add(handle, stones)
            finally:
                os.close(handle)
            if new:
                _sync_folder(self._path.parent)
        except OSError as fault:
            # After a failed fsync a second one may succeed without having written: never retried (operations.md 6).
            self._failed = True
            raise DurabilityLost from fault

    def read(self) -> tuple[Tombstone, ...]:
        """Return all of them in order; raises `TombstonesDamaged`."""
        try:
            return _parse(self._path.read_bytes())[0]
        except FileNotFoundError:
            return ()

    @staticmethod
    def _add(handle: int, stones: Sequence[Tombstone]) -> None:
        whole = os.pread(handle, os.fstat(handle).st_size, 0)
        present, check, end = _parse(whole)
        lines = b""
        for stone in (stone for stone in stones if stone not in set(present)):
            line, check = _line(stone, check)
            lines += line
        if end < len(whole):
            os.ftruncate(handle, end)
        at = end
        while lines:
            written = os.pwrite(handle, lines, at)
            at, lines = at + written, lines[written:]
        os.fsync(handle)


def _parse(whole: bytes) -> tuple[tuple[Tombstone, ...], str, int]:
    """Return the tombstones, the last checksum, and where the last whole line ends."""
    end = whole.rfind(b"\n") + 1
    check, stones = "", []
    for line in whole[:end].splitlines():
        stone = _stone(line)
        expected, check = _line(stone, check)
        if expected != line + b"\n":
            raise TombstonesDamaged
        stones.append(stone)
    return tuple(stones), check, end


def _stone(line: bytes) -> Tombstone:
    try:
        found: dict[str, Any] = json.loads(line)
        found.pop("check")
        return Tombstone(**{**found, "keys": tuple(found["keys"]), "key_class": KeyClass(found["key_class"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TombstonesDamaged from None


def _line(stone: Tombstone, before: str) -> tuple[bytes, str]:
    body = json.dumps(asdict(stone), sort_keys=True, separators=(",", ":"))
    check = sha256((before + body).encode()).hexdigest()
    return body[:-1].encode() + b',"check":"' + check.encode() + b'"}\n', check


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

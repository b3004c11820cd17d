"""Tombstones: what was shredded, in a file outside both databases, replayed before a restored service serves.

Dsar rule 54 (write before destroying, replay after any restore). One JSON line each, opaque handles and key ids only,
with a checksum chained from the line before, so that a cut or edited middle shows. A last line without its end
was never acknowledged and is dropped by the next append. A founded log begins with a line that names it at random, so
that each database can say which log it was last compared with, and how far (`Mark`): what comes after is new to it, and
a log that does not reach so far, or is another one, is refused. Leaves out where the marks are kept (`app.store.marks`)
and what a replay does (`app.wiring.restoring`).
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from app.sdk.disk import sync_folder
from app.vault.errors import DurabilityLost, TombstonesDamaged, TombstonesLost
from app.vault.keys import KeyClass
from app.vault.wrapping import Random

REPLAYED: Final = ".replay"
"""How the id of an erasure ends that does again what a restored key store undid."""
_CHECK_BEGIN: Final = b',"check":"'
_CHECK_END: Final = b'"}\n'
_CHECK: Final = len(_CHECK_BEGIN) + 64 + len(_CHECK_END)
"""How many bytes the checksum takes at the end of a line."""


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


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a log has been replayed: its first `upto` bytes, which are `lines` lines, the last with this checksum."""

    upto: int
    lines: int
    check: str


START: Final = Mark(0, 0, "")
"""Before the first line of any log."""


class Tombstones:
    """The append-only file; made with mode 0600 when there is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False
        self._left: _Left | None = None

    def append(self, stones: Sequence[Tombstone]) -> None:
        """Add those that are not there yet and make them durable; raises `DurabilityLost`, `TombstonesDamaged`.

        Reads the log when it is not as this process left it, which the file's times, size and number tell: in a second
        append, and in the hundred thousandth, only its last line.
        """
        self._change(lambda handle: self._add(handle, stones))

    def found(self, random: Random) -> None:
        """Begin the log with a line that names it; one that exists is left as it is. Raises `DurabilityLost`."""
        self._change(lambda handle: _name(handle, random(16).hex()))

    def _change(self, change: Callable[[int], None]) -> None:
        if self._failed:
            raise DurabilityLost
        try:
            new = not self._path.exists()
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                change(handle)
            finally:
                os.close(handle)
            if new:
                sync_folder(self._path.parent)
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

    @property
    def exists(self) -> bool:
        """Whether there is a log at all."""
        return self._path.exists()

    def verify(self, *marks: Mark) -> None:
        """See that each whole line is chained to the one before, and that the log goes through each mark.

        Reads all of it, 0.2 s for 50 MB. Raises `TombstonesDamaged`, `TombstonesLost`.
        """
        try:
            with self._path.open("rb") as log:
                reached = _reached(log, {mark.upto for mark in marks})
        except FileNotFoundError:
            raise TombstonesLost from None
        if any(reached.get(mark.upto) != mark.check for mark in marks):
            raise TombstonesLost

    def since(self, mark: Mark, most: int | None = None) -> tuple[tuple[Tombstone, ...], Mark]:
        """Return what was added after `mark`, at most `most` lines, and the mark behind it.

        The part before is not read again: see `verify`. Raises `TombstonesLost` when this log does not go through
        `mark`, or there is none; `TombstonesDamaged`.
        """
        lines = b"".join(self._after(mark, most))
        stones, check, end = _parse(lines, mark.check)
        return stones, Mark(mark.upto + end, mark.lines + lines[:end].count(b"\n"), check)

    def _after(self, mark: Mark, most: int | None) -> list[bytes]:
        try:
            with self._path.open("rb") as log:
                _pass(log, mark)
                return list(islice(log, most))
        except FileNotFoundError:
            raise TombstonesLost from None

    def _add(self, handle: int, stones: Sequence[Tombstone]) -> None:
        left, self._left = self._left, None  # whatever fails below, the next append reads all of the log
        chain = left.chain if left is not None and _untouched(handle, left) else _read_chain(handle)
        at = chain.end
        lines = b"".join(chain.add(stone) for stone in stones)
        if at < os.fstat(handle).st_size:
            os.ftruncate(handle, at)
        _write(handle, lines, at)
        self._left = _Left(_stamp(handle), chain)


@dataclass(slots=True)
class _Chain:
    """A log whose every line was seen to be chained to the one before: its end, last checksum, a digest of each line.

    Digests, because a process that serves for years need not hold who was erased, nor a kilobyte for each.
    """

    end: int = 0
    check: str = ""
    held: set[bytes] = field(default_factory=set)

    def add(self, stone: Tombstone) -> bytes:
        """Return the line to append; nothing for one that is there already."""
        body = _body(asdict(stone))
        digest = sha256(body).digest()
        if digest in self.held:
            return b""
        line, self.check = _closed(body, self.check)
        self.end += len(line)
        self.held.add(digest)
        return line


@dataclass(frozen=True, slots=True)
class _Left:
    """A log as this process left it: what is told of its file, and its chain."""

    stamp: tuple[int, ...]
    chain: _Chain


def _stamp(handle: int) -> tuple[int, ...]:
    """Return what changes with a file: whoever replaces, cuts or edits it leaves another one."""
    told = os.fstat(handle)
    return told.st_dev, told.st_ino, told.st_size, told.st_mtime_ns, told.st_ctime_ns


def _untouched(handle: int, left: _Left) -> bool:
    # Some kernels' file times tick every few milliseconds: the last line is compared as well, so that in no case
    # something is chained to a line that is not there.
    last = (left.chain.check.encode() + _CHECK_END) if left.chain.end else b""
    return _stamp(handle) == left.stamp and os.pread(handle, len(last), left.chain.end - len(last)) == last


def _read_chain(handle: int) -> _Chain:
    """Read all of a log; raises `TombstonesDamaged`."""
    chain = _Chain()
    with open(handle, "rb", closefd=False) as log:
        for chain.end, body, chain.check in _chained(log):
            chain.held.add(sha256(body).digest())
    return chain


def _pass(log: BinaryIO, mark: Mark) -> None:
    """Go behind the marked line, which ends with its checksum."""
    if mark == START:
        return
    last = mark.check.encode() + _CHECK_END
    log.seek(max(0, mark.upto - len(last)))
    if log.read(len(last)) != last:
        raise TombstonesLost


def _chained(log: BinaryIO) -> Iterator[tuple[int, bytes, str]]:
    """Check the chain as it is written, byte for byte; yield where each whole line ends, its body, its checksum."""
    at, check = 0, ""
    for line in log:
        if not line.endswith(b"\n"):
            break  # never acknowledged
        body = line[:-_CHECK] + b"}"
        expected, check = _closed(body, check)
        if line != expected:
            raise TombstonesDamaged
        at += len(line)
        yield at, body, check


def _reached(log: BinaryIO, stops: Collection[int]) -> dict[int, str]:
    """Return the checksums of the lines that end at the stops; raises `TombstonesDamaged` for any line."""
    return {0: ""} | {at: check for at, _, check in _chained(log) if at in stops}


def _name(handle: int, name: str) -> None:
    if os.fstat(handle).st_size == 0:
        _write(handle, _line({"log": name}, "")[0], 0)


def _write(handle: int, lines: bytes, at: int) -> None:
    while lines:
        written = os.pwrite(handle, lines, at)
        at, lines = at + written, lines[written:]
    os.fsync(handle)


def _parse(whole: bytes, check: str = "") -> tuple[tuple[Tombstone, ...], str, int]:
    """Return the tombstones, the last checksum, and where the last whole line ends; `check`: of the line before."""
    end = whole.rfind(b"\n") + 1
    stones = []
    for line in whole[:end].splitlines():
        found = _read(line)
        expected, check = _line(found, check)
        if expected != line + b"\n":
            raise TombstonesDamaged
        if found.keys() != {"log"}:
            stones.append(_stone(found))
    return tuple(stones), check, end


def _read(line: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
        found.pop("check")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TombstonesDamaged from None
    return found


def _stone(found: dict[str, Any]) -> Tombstone:
    try:
        return Tombstone(**{**found, "keys": tuple(found["keys"]), "key_class": KeyClass(found["key_class"])})
    except (ValueError, KeyError, TypeError):
        raise TombstonesDamaged from None


def _line(said: dict[str, Any], before: str) -> tuple[bytes, str]:
    return _closed(_body(said), before)


def _body(said: dict[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, separators=(",", ":")).encode()


def _closed(body: bytes, before: str) -> tuple[bytes, str]:
    """Return the line of a body, with its checksum, and that checksum."""
    check = sha256(before.encode() + body).hexdigest()
    return body[:-1] + _CHECK_BEGIN + check.encode() + _CHECK_END, check

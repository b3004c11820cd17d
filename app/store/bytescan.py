"""Searching files for byte strings, in a time that hardly depends on how many (vault.md section 5, SCANNED).

Two tables of 65,536 bits, over bytes 1-2 and 3-4 of the needles, leave a handful of places to look at by hand.

A file that was looked into is never closed. POSIX drops all locks a process has on a file when it closes any descriptor
of it, SQLite's too: the next process would take the database for unused and delete the log this one still writes to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

CHUNK = 4 << 20
_FEW = 6
_HEAD = 4
_Table = NDArray[np.bool_]
_HELD: dict[tuple[int, int], int] = {}
"""Device and inode -> the descriptor this process keeps; an inode whose descriptor is open is not given out again."""
_HOLDING = Lock()


def search(path: Path, needles: Sequence[bytes]) -> tuple[int, int]:
    """Return (bytes read, how many of the needles are in the file); a needle has 4 bytes or more."""
    overlap = max((len(needle) for needle in needles), default=1) - 1
    missing = set(needles)
    size, tail = 0, b""
    for chunk in _chunks(_held(path)):
        size += len(chunk)
        window = tail + chunk
        missing -= present(window, missing)
        tail = window[-overlap:] if overlap else b""
    return size, len(set(needles)) - len(missing)


def _chunks(file: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(file, CHUNK, at):
        at += len(chunk)
        yield chunk


def _held(path: Path) -> int:
    """Return a descriptor of the file, the one from an earlier search where there is one."""
    with _HOLDING:
        there = path.stat()
        known = _HELD.get((there.st_dev, there.st_ino))
        if known is not None:
            return known
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        found = os.fstat(opened)
        return _HELD.setdefault((found.st_dev, found.st_ino), opened)


def present(window: bytes, needles: set[bytes]) -> set[bytes]:
    """Return the needles that occur in `window`."""
    if len(needles) <= _FEW or len(window) < _HEAD:
        return {needle for needle in needles if needle in window}
    return _present_of_many(window, needles)


def _present_of_many(window: bytes, needles: set[bytes]) -> set[bytes]:
    by_head: dict[bytes, list[bytes]] = {}
    for needle in needles:
        by_head.setdefault(needle[:_HEAD], []).append(needle)
    first, second = np.zeros(65_536, bool), np.zeros(65_536, bool)
    for head in by_head:
        first[int.from_bytes(head[:2], "little")] = second[int.from_bytes(head[2:], "little")] = True
    places = [place for start in (0, 1) for place in _places(window, start, first, second)]
    likely = ((place, by_head.get(window[place : place + _HEAD], [])) for place in places)
    return {needle for place, those in likely for needle in those if window.startswith(needle, place)}


def _places(window: bytes, start: int, first: _Table, second: _Table) -> list[int]:
    """Where a needle may begin among every other byte from `start` on: two bytes are one number as they lie there."""
    pairs = np.frombuffer(window, "<u2", offset=start, count=(len(window) - start) // 2)
    at = np.flatnonzero(first.take(pairs[:-1]))
    found: list[int] = (at[second.take(pairs[at + 1])] * 2 + start).tolist()
    return found

"""Searching files for byte strings, in a time that hardly depends on how many (vault.md section 5, SCANNED).

Two tables of 65,536 bits, over bytes 1-2 and 3-4 of the needles, leave a handful of places to look at by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

CHUNK = 4 << 20
_FEW = 8
_HEAD = 4


def search(path: Path, needles: Sequence[bytes]) -> tuple[int, int]:
    """Return (bytes read, how many of the needles are in the file); a needle has 4 bytes or more."""
    overlap = max((len(needle) for needle in needles), default=1) - 1
    missing = set(needles)
    size, tail = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            size += len(chunk)
            window = tail + chunk
            missing -= present(window, missing)
            tail = window[-overlap:] if overlap else b""
    return size, len(set(needles)) - len(missing)


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
        first[int.from_bytes(head[:2], "big")] = second[int.from_bytes(head[2:], "big")] = True
    raw = np.frombuffer(window, np.uint8).astype(np.uint16)
    pairs = (raw[:-1] << 8) | raw[1:]
    at = np.flatnonzero(first[pairs[:-2]] & second[pairs[2:]])
    places = ((int(place), by_head.get(window[place : place + _HEAD], [])) for place in at)
    return {needle for place, likely in places for needle in likely if window.startswith(needle, place)}

"""The parts of an upload: records as they lie in a holder's database, sealed, one a line (dsar.md section 4).

NDJSON, each line `category`, `record_id`, `sealed` (base64). Whole lines only, so that each part reads by itself; the
upload is its parts in order, and its digest SHA-256 over their bytes. Nothing is opened here. Leaves out the calls.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from .errors import BadLine, RecordTooLarge
from .sealed import SealError, key_id_of

MEDIA_TYPE: Final = "application/x-ndjson"
PART_BYTES: Final = 1024 * 1024
"""A part is closed once it has reached this size."""
MOST_BYTES: Final = 12 * 1024 * 1024
"""What a part may have: room for one scanned document of 8 MiB behind a part that was nearly full."""
MOST_PARTS: Final = 4096
CATEGORY_CHARS: Final = 64
RECORD_ID_CHARS: Final = 200
_FIELDS: Final = frozenset({"category", "record_id", "sealed"})


@dataclass(frozen=True, slots=True)
class Found:
    """One record as it lies in the holder's database."""

    category: str
    record_id: str
    sealed: bytes


def cut(found: Iterable[Found]) -> Iterator[bytes]:
    """Yield the parts. Raises `RecordTooLarge` for a record that no part can hold."""
    lines: list[bytes] = []
    size = 0
    for one in found:
        lines.append(_line(one))
        size += len(lines[-1])
        if size >= PART_BYTES:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines)


def read(part: bytes) -> list[Found]:
    """Return the records of a part, none opened. Raises `BadLine` for the first one that is none."""
    if not part.endswith(b"\n"):
        raise BadLine(0)
    return [_found(line, number) for number, line in enumerate(part[:-1].split(b"\n"), start=1)]


def _line(one: Found) -> bytes:
    sealed = b64encode(one.sealed).decode("ascii")
    said = {"category": one.category, "record_id": one.record_id, "sealed": sealed}
    line = json.dumps(said, separators=(",", ":")).encode() + b"\n"
    if len(line) > MOST_BYTES - PART_BYTES:
        raise RecordTooLarge("a record is larger than a part may be")
    return line


def _found(line: bytes, number: int) -> Found:
    try:
        said: Any = json.loads(line)
        if not isinstance(said, dict) or said.keys() != _FIELDS:
            raise ValueError
        found = Found(
            _name(said["category"], CATEGORY_CHARS),
            _name(said["record_id"], RECORD_ID_CHARS),
            b64decode(said["sealed"], validate=True),
        )
        key_id_of(found.sealed)
    except (ValueError, TypeError, RecursionError, binascii.Error, SealError):
        raise BadLine(number) from None
    return found


def _name(value: object, most: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= most:
        raise ValueError
    value.encode()  # a lone surrogate is no name: nothing could be sealed under it
    return value

"""Reporting who read what: batched, idempotent, losing nothing on a crash (consent.md section 5).

Each read is on disk, synced, before `record` returns; so a component that records first and reads afterwards can never
have read unseen. Reports go out at least once; their ids make the second time harmless. The journal holds handles,
codes and counts, never data.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path
from typing import IO, Any, Final

from .client import Authority
from .disk import sync_folder
from .errors import JournalDamaged, Refused
from .gate import Permit
from .scopes import Scope

BATCH: Final = 200
_PATH: Final = "/api/v1/disclosures"


@dataclass(frozen=True, slots=True)
class Report:
    """What a flush did: accepted for the first time or before, and refused (kept aside in `*.refused`)."""

    accepted: int
    refused: int


class Disclosures:
    """The journal of one component, one process at a time (`OSError` when another has it open)."""

    def __init__(self, authority: Authority, journal: str | os.PathLike[str]) -> None:
        path = Path(journal)
        self._authority = authority
        self._journal = path
        self._sending = path.with_name(path.name + ".sending")
        self._refused = path.with_name(path.name + ".refused")
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._guard = _exclusive(path.with_name(path.name + ".lock"))
        self._file = _open_mended(path)

    def record(self, permit: Permit, records: int, *, categories: frozenset[str] | None = None) -> str:
        """Put one read on record and return its id; `records` is how many were read."""
        line: dict[str, Any] = {
            "id": "dis_" + secrets.token_hex(16),
            "at": self._authority.clock().astimezone(UTC).isoformat(),
            "handle": permit.subject,
            "categories": sorted(permit.categories if categories is None else categories),
            "records": records,
            "purpose": permit.purpose,
            "consent": permit.consent,
            "attended": permit.attended,
            "reader": permit.client_id,
            "action": "read",
        }
        with self._lock:
            _append(self._file, [line])
        return str(line["id"])

    def pending(self) -> int:
        """Return how many reads are on record and not yet reported."""
        with self._lock:
            return sum(1 for path in (self._sending, self._journal) for _ in _lines(path))

    def flush(self) -> Report:
        """Report all that is on record. Raises `Unreachable`, `Refused`; nothing is lost then, flush again later."""
        with self._flushing:
            report = Report(0, 0)
            while self._sending.exists() or self._turn():
                sent = self._send()
                report = Report(report.accepted + sent.accepted, report.refused + sent.refused)
            return report

    def close(self) -> None:
        """Close the journal; what was not reported stays for the next time."""
        with self._lock:
            self._file.close()
            self._guard.close()

    def _turn(self) -> bool:
        """Set the journal aside for sending and begin a new one; False when there is nothing to send."""
        with self._lock:
            if self._file.tell() == 0:
                return False
            self._file.close()
            self._journal.rename(self._sending)
            self._file = _open_mended(self._journal)
            sync_folder(self._journal.parent)
            return True

    def _send(self) -> Report:
        lines = list(_lines(self._sending))
        refused = 0
        for start in range(0, len(lines), BATCH):
            refused += self._send_batch(lines[start : start + BATCH])
        self._sending.unlink()
        sync_folder(self._sending.parent)
        return Report(len(lines) - refused, refused)

    def _send_batch(self, batch: list[dict[str, Any]]) -> int:
        """Send a batch; lines that the authority names as wrong are kept aside and the others sent again."""
        wrong: list[dict[str, Any]] = []
        while batch:
            faulty = self._offer(batch)
            if not faulty:
                break
            wrong += [line for place, line in enumerate(batch) if place in faulty]
            batch = [line for place, line in enumerate(batch) if place not in faulty]
        if wrong:
            with _open_mended(self._refused) as file:
                _append(file, wrong)
        return len(wrong)

    def _offer(self, batch: list[dict[str, Any]]) -> frozenset[int]:
        """Return the places of the faults for which the whole batch was refused; none when it was taken."""
        # the same batch has the same key, so that a lost answer is repeated and not answered anew
        named = hashlib.sha256("\n".join(line["id"] for line in batch).encode()).hexdigest()
        body = {"disclosures": batch}
        try:
            self._authority.call("POST", _PATH, Scope.DISCLOSURES_WRITE, body, idempotency_key=named)
        except Refused as refusal:
            faulty = _places(refusal.fields, len(batch))
            if not faulty:
                raise
            return faulty
        return frozenset()


_PLACE = re.compile(r"disclosures\.(\d{1,6})(?:\.|$)")


def _places(fields: Iterable[str], many: int) -> frozenset[int]:
    """Read `disclosures.<place>.<field>`."""
    found = (_PLACE.match(field) for field in fields)
    return frozenset(place for match in found if match and (place := int(match[1])) < many)


def _exclusive(path: Path) -> IO[bytes]:
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def _open_mended(path: Path) -> IO[bytes]:
    """Open for appending, readable by the owner alone, without the torn last line of a crash.

    A torn line is a read whose `record` never returned: nobody was told that it is on record.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
    os.fsync(file.fileno())
    sync_folder(path.parent)
    return file


def _append(file: IO[bytes], lines: list[dict[str, Any]]) -> None:
    file.write(b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines))
    file.flush()
    os.fsync(file.fileno())


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    for raw in content.split(b"\n")[:-1]:
        try:
            line = json.loads(raw)
        except ValueError:
            raise JournalDamaged(f"{path.name} has a line that cannot be read") from None
        yield line

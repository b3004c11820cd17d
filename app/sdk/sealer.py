"""Sealing and opening a subject's records under leased keys (vault.md sections 2, 3).

A key is used for its lease and not a moment longer; then it is wiped, and the next use asks the authority again, which
asks the law again. Keys are kept for one permit's token: another token never rides on them. The time that counts is
one that also runs while the machine sleeps, and starts when the lease was asked for, so it ends early, never late.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import LONGEST_LEASE, Authority
from .errors import LeaseEnded
from .gate import Permit
from .sealed import Cipher, KeyWornOut, key_id_of
from .streams import Opening, Source, sealing, write_file


def elapsed() -> float:
    """Return seconds on a clock that nobody sets and that runs through suspension, where the system has one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@dataclass(slots=True)
class _Held:
    cipher: Cipher
    ends: float


_Place = tuple[str, str, bytes | None]


class Sealer:
    """Seals and opens for one holder. Safe to share between threads; `clock` returns seconds, see `elapsed`.

    `lease_seconds` (1 to 60): shorter leases are asked for more often, and hold up an erasure less.
    """

    def __init__(
        self, authority: Authority, clock: Callable[[], float] = elapsed, *, lease_seconds: int = LONGEST_LEASE
    ) -> None:
        self._authority = authority
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._held: dict[_Place, _Held] = {}
        self._lock = threading.Lock()

    def seal(self, permit: Permit, category: str, record_id: str, plaintext: bytes) -> bytes:
        """Return the sealed record of `plaintext`.

        Raises `Refused`, `Unreachable` (no lease), `LeaseEnded` (the category is not the permit's, or time ran out).
        """
        with self._lock:
            cipher = self._cipher(permit, category, None)
            try:
                return cipher.seal(plaintext, subject=permit.subject, category=category, record_id=record_id)
            except KeyWornOut:
                self._drop((permit.token, category, None))
                cipher = self._cipher(permit, category, None)
                return cipher.seal(plaintext, subject=permit.subject, category=category, record_id=record_id)

    def open(self, permit: Permit, category: str, record_id: str, sealed: bytes) -> bytes:
        """Return the plaintext of a sealed record. Raises as `seal`, and `SealError` when it is not what it says."""
        with self._lock:
            cipher = self._cipher(permit, category, key_id_of(sealed))
            return cipher.open(sealed, subject=permit.subject, category=category, record_id=record_id)

    def seal_json(self, permit: Permit, category: str, record_id: str, value: Any) -> bytes:
        """Seal a JSON value."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return self.seal(permit, category, record_id, text.encode())

    def open_json(self, permit: Permit, category: str, record_id: str, sealed: bytes) -> Any:
        """Open a sealed JSON value."""
        return json.loads(self.open(permit, category, record_id, sealed))

    def seal_stream(self, permit: Permit, category: str, record_id: str, source: Source) -> Iterator[bytes]:
        """Return the sealed record of all that `source` holds, in pieces of about 1 MiB: memory stays constant.

        Raises as `seal`, and `LeaseEnded` between two pieces when the lease is over before the object is: give it a
        source and a sink that are faster than that, a local file say.
        """
        with self._lock:
            try:
                return self._sealing(permit, category, record_id, source)
            except KeyWornOut:
                self._drop((permit.token, category, None))
                return self._sealing(permit, category, record_id, source)

    def open_stream(self, permit: Permit, category: str, record_id: str, source: Source) -> Iterator[bytes]:
        """Return the plaintext of a sealed record in pieces. Raises as `open`, and `LeaseEnded` as `seal_stream`.

        Only the end tells that nothing was cut off: throw away what came before when this raises.
        """
        opening = Opening(source)
        with self._lock:
            place = self._cipher(permit, category, opening.key_id).place(permit.subject, category)
            still = self._still((permit.token, category, opening.key_id))
            return opening.plaintext(place, record_id, still)

    def seal_file(self, permit: Permit, category: str, record_id: str, source: Path, target: Path) -> int:
        """Seal one file into another, whole or not at all; return the bytes written. Raises as `seal_stream`."""
        with source.open("rb") as file:
            return write_file(self.seal_stream(permit, category, record_id, file), target)

    def open_file(self, permit: Permit, category: str, record_id: str, source: Path, target: Path) -> int:
        """Open a sealed file into another, mode 0600, whole or not at all. Raises as `open_stream`."""
        with source.open("rb") as file:
            return write_file(self.open_stream(permit, category, record_id, file), target)

    def evict(self, token: str | None = None) -> int:
        """Wipe the keys held under one token, or all of them; return how many. Call it on word of a withdrawal."""
        with self._lock:
            gone = [place for place in self._held if token in (None, place[0])]
            return sum(self._drop(place) for place in gone)

    def _sealing(self, permit: Permit, category: str, record_id: str, source: Source) -> Iterator[bytes]:
        place = self._cipher(permit, category, None).place(permit.subject, category)
        return sealing(place, source, record_id, self._still((permit.token, category, None)))

    def _still(self, place: _Place) -> Callable[[], None]:
        """Return what raises `LeaseEnded` once the key now held there is held no more."""
        now_held = self._held[place].cipher

        def check() -> None:
            with self._lock:
                self._expire()
                held = self._held.get(place)
            if held is None or held.cipher is not now_held:
                raise LeaseEnded("the lease ended before the object did")

        return check

    def _cipher(self, permit: Permit, category: str, key_id: bytes | None) -> Cipher:
        if category not in permit.categories:
            raise LeaseEnded("the permit does not cover this category")
        self._expire()
        held = self._held.get((permit.token, category, key_id))
        return held.cipher if held is not None else self._lease(permit, category, key_id)

    def _lease(self, permit: Permit, category: str, key_id: bytes | None) -> Cipher:
        asked = self._clock()
        leased = self._authority.lease(
            permit.token, permit.subject, category, key_id=key_id, seconds=self._lease_seconds
        )
        cipher = Cipher(leased.key_id, leased.key, budget=leased.messages)
        leased.key[:] = bytes(len(leased.key))
        ends = asked + leased.life.total_seconds()
        if self._clock() >= ends:
            cipher.wipe()
            raise LeaseEnded("the lease was over before it arrived")
        # under its own id as well, so that what was just sealed opens without a second lease
        for known in {key_id, leased.key_id}:
            self._held[(permit.token, category, known)] = _Held(cipher, ends)
        return cipher

    def _expire(self) -> None:
        now = self._clock()
        for place in [place for place, held in self._held.items() if now >= held.ends]:
            self._drop(place)

    def _drop(self, place: _Place) -> bool:
        """Wipe a key and forget every place it is held in; False when that was done under another one."""
        held = self._held.pop(place, None)
        if held is None:
            return False
        for twin in [other for other, also in self._held.items() if also.cipher is held.cipher]:
            del self._held[twin]
        held.cipher.wipe()
        return True

"""The file keyring: root keys in fixed slots of one file, overwritten in place (vault.md section 4, assurance A).

A 128-byte header, then 128-byte slots, none of which crosses a disk sector:

    state 1 | id 16 | digest of the root's name 32 | key 32 | time of the last change 8 | zeros 7 | SHA-256 of these 32

A destroyed slot keeps its name and loses its key: random bytes, fsync, zeros, fsync. It is never used again, so that a
reference always means one root. Mode 0600 is required and checked. Every access takes the file lock.
What it does not promise: on a file system that copies on write, or a disk that moves sectors, old bytes may remain.
The checksum finds damage, not malice: whoever can write this file holds the keys already.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from app.sdk.disk import sync_folder
from app.vault.errors import (
    DurabilityLost,
    KeyringDamaged,
    KeyringExposed,
    ProviderUnavailable,
    RootDestroyed,
    UnknownRoot,
)
from app.vault.ports import Clock, RootDescription, RootName, RootState
from app.vault.wrapping import Random, Wrapper, named, wipe

_HEADER: Final = b"REGARD KEYRING 1\n".ljust(128, b"\x00")
_SLOT: Final = 128
_GROWTH: Final = 256
_FREE, _ACTIVE, _DESTROYED = 0, 1, 2
ASSURANCE: Final = "A: overwritten in place on this host"


@dataclass(slots=True)
class _Slot:
    state: int
    id: bytes
    name: bytes
    key: bytearray
    changed: int

    def encode(self) -> bytes:
        body = bytes([self.state]) + self.id + self.name + self.key + self.changed.to_bytes(8, "big") + bytes(7)
        return body + sha256(body).digest()


def _decode(raw: bytes) -> _Slot:
    if len(raw) != _SLOT or sha256(raw[:96]).digest() != raw[96:]:
        raise KeyringDamaged
    return _Slot(raw[0], raw[1:17], raw[17:49], bytearray(raw[49:81]), int.from_bytes(raw[81:89], "big"))


_EMPTY: Final = _Slot(_FREE, bytes(16), bytes(32), bytearray(32), 0).encode()


class FileKeyring:
    """A key provider on one local file. `create` makes it once; a missing file is never made anew by itself."""

    kind = "file"

    def __init__(self, path: Path, *, clock: Clock, random: Random) -> None:
        """Open the keyring and check every slot; raises `ProviderUnavailable`, `KeyringDamaged`, `KeyringExposed`."""
        self._path = path
        self._clock = clock
        self._random = random
        self._failed = False
        with self._opened(fcntl.LOCK_SH) as handle:
            for at in range(len(_HEADER), os.fstat(handle).st_size, _SLOT):
                wipe(_decode(os.pread(handle, _SLOT, at)).key)

    @classmethod
    def create(cls, path: Path, *, clock: Clock, random: Random) -> FileKeyring:
        """Make an empty keyring; raises `FileExistsError` when there is one: losing it would lose every key."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, _HEADER + _EMPTY * _GROWTH)
            os.fsync(handle)
        finally:
            os.close(handle)
        sync_folder(path.parent)
        return cls(path, clock=clock, random=random)

    def create_root(self, name: RootName) -> str:
        """Return the reference `file:<slot>:<id>` of the root of this name, made when there is none."""
        digest = sha256(named("regard.root", name.text())).digest()
        with self._opened(fcntl.LOCK_EX) as handle:
            found = self._find(handle, digest)
            return found if found is not None else self._add(handle, digest)

    def wrap(self, root: str, key: bytearray, name: bytes) -> bytes:
        """Return `key` wrapped under the root; raises `UnknownRoot`, `RootDestroyed`."""
        return self._wrapper(root).wrap(key, name)

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        """Return the key; raises `UnknownRoot`, `RootDestroyed`, `KeyDamaged`."""
        return self._wrapper(root).unwrap(wrapped, name)

    def destroy(self, root: str) -> None:
        """Overwrite the root's key in place, twice, each made durable; a destroyed root stays so."""
        with self._opened(fcntl.LOCK_EX) as handle:
            at, slot = self._read(handle, root)
            if slot.state == _DESTROYED and slot.key == bytes(32):
                return
            changed = self._now()
            for noise in (bytearray(self._random(32)), bytearray(32)):
                gone = replace(slot, state=_DESTROYED, key=noise, changed=changed)
                self._write(handle, at, gone.encode())
            wipe(slot.key)

    def describe(self, root: str) -> RootDescription:
        """Return the state read back from the file."""
        with self._opened(fcntl.LOCK_SH) as handle:
            _, slot = self._read(handle, root)
        destroyed = slot.state == _DESTROYED and slot.key == bytes(32)
        wipe(slot.key)
        at = datetime.fromtimestamp(slot.changed, UTC) if destroyed else None
        state = RootState.DESTROYED if destroyed else RootState.ACTIVE
        return RootDescription(state, at, ASSURANCE, {"provider": self.kind, "root": root, "read_back": state.value})

    def _wrapper(self, root: str) -> Wrapper:
        with self._opened(fcntl.LOCK_SH) as handle:
            _, slot = self._read(handle, root)
        if slot.state != _ACTIVE:
            raise RootDestroyed
        wrapper = Wrapper(slot.key, self._random)
        wipe(slot.key)
        return wrapper

    @staticmethod
    def _read(handle: int, root: str) -> tuple[int, _Slot]:
        scheme, _, rest = root.partition(":")
        number, _, identifier = rest.partition(":")
        if scheme != "file" or not number.isdecimal():
            raise UnknownRoot
        at = len(_HEADER) + int(number) * _SLOT
        raw = os.pread(handle, _SLOT, at)
        if not raw:
            raise UnknownRoot
        slot = _decode(raw)
        if slot.state == _FREE or slot.id.hex() != identifier:
            raise UnknownRoot
        return at, slot

    @staticmethod
    def _find(handle: int, digest: bytes) -> str | None:
        whole = os.pread(handle, os.fstat(handle).st_size, 0)
        at = whole.find(digest)
        if at < 0:
            return None
        number = (at - len(_HEADER)) // _SLOT
        slot = _decode(whole[len(_HEADER) + number * _SLOT :][:_SLOT])
        if slot.state != _ACTIVE:
            raise RootDestroyed
        return f"file:{number}:{slot.id.hex()}"

    def _add(self, handle: int, digest: bytes) -> str:
        number = self._free(handle)
        slot = _Slot(_ACTIVE, self._random(16), digest, bytearray(self._random(32)), self._now())
        self._write(handle, len(_HEADER) + number * _SLOT, slot.encode())
        wipe(slot.key)
        return f"file:{number}:{slot.id.hex()}"

    def _free(self, handle: int) -> int:
        size = os.fstat(handle).st_size
        whole = os.pread(handle, size, 0)
        for at in range(len(_HEADER), size, _SLOT):
            if whole[at] == _FREE:
                return (at - len(_HEADER)) // _SLOT
        self._write(handle, size, _EMPTY * _GROWTH)
        return (size - len(_HEADER)) // _SLOT

    def _now(self) -> int:
        return int(self._clock.now().timestamp())

    def _write(self, handle: int, at: int, raw: bytes) -> None:
        """After a failed fsync nothing is known of the disk: this keyring stops, and is not retried."""
        try:
            if os.pwrite(handle, raw, at) != len(raw):
                raise OSError("short write")
            os.fsync(handle)
        except OSError as fault:
            self._failed = True
            raise DurabilityLost from fault

    @contextmanager
    def _opened(self, lock: int) -> Iterator[int]:
        if self._failed:
            raise DurabilityLost
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as fault:
            refusal = KeyringExposed if self._path.is_symlink() else ProviderUnavailable
            raise refusal from fault
        try:
            fcntl.flock(handle, lock)
            _check(handle)
            yield handle
        finally:
            os.close(handle)


def _check(handle: int) -> None:
    found = os.fstat(handle)
    if found.st_mode & 0o077:
        raise KeyringExposed
    if found.st_size % _SLOT or os.pread(handle, len(_HEADER), 0) != _HEADER:
        raise KeyringDamaged

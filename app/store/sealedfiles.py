"""Sealed bytes too large for a row, one file each under the data folder: copies for people and holders' uploads.

Everything here is a sealed record already (`app.sdk.sealed`): without the subject's key it says nothing. A file is
whole or absent. Leaves out several hosts: they share the folder.
"""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

_NAME = re.compile(r"[a-z]+_[a-z0-9]+")


class UnknownFile(LookupError):
    """No such sealed file, or no name of one."""

    code = "unknown_sealed_file"


class SealedFolder:
    """Files by opaque id (`line_...`, `task_...`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, sealed: bytes) -> None:
        """Write durably, replacing what was there. Raises UnknownFile for a name that is no id."""
        path = self._path(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_suffix(f".{secrets.token_hex(4)}")
        with draft.open("wb") as file:
            file.write(sealed)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        self._settle()

    def read(self, name: str) -> bytes:
        """Raises UnknownFile."""
        try:
            return self._path(name).read_bytes()
        except FileNotFoundError:
            raise UnknownFile(name) from None

    def remove(self, name: str) -> None:
        """Remove; nothing happens when it is gone already."""
        path = self._path(name)
        if path.exists():
            path.unlink(missing_ok=True)
            self._settle()

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UnknownFile("not the id of a sealed file")
        return self._folder / name

    def _settle(self) -> None:
        """Make the folder's own entries durable."""
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

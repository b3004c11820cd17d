"""Sealed bytes too large for a row, one file each under the data folder: copies for people and holders' uploads.

Everything here is sealed records already (`app.sdk.sealed`): without the subject's key it says nothing. A file is
whole or absent. What comes in parts is a folder of them, numbered from 1 without a gap. Leaves out several hosts: they
share the folder.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from app.sdk.disk import sync_folder
from app.sdk.streams import write_file

_NAME = re.compile(r"[a-z]+_[a-z0-9]+")


class UnknownFile(LookupError):
    """No such sealed file, or no name of one."""

    code = "unknown_sealed_file"


class SealedFolder:
    """Files, or folders of parts, by opaque id (`line_...`, `task_...`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, sealed: bytes) -> None:
        """Write durably, replacing what was there. Raises UnknownFile for a name that is no id."""
        _write(self._path(name), sealed)

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
            sync_folder(self._folder)
        self.keep_parts(name, 0)

    # Parts

    def write_part(self, name: str, number: int, sealed: bytes) -> None:
        """Write part `number` durably, replacing it. Raises UnknownFile when the one before it is missing."""
        if number < 1 or (number > 1 and not self._part(name, number - 1).exists()):
            raise UnknownFile("the part before this one is missing")
        _write(self._part(name, number), sealed)

    def read_part(self, name: str, number: int) -> bytes:
        """Raises UnknownFile."""
        try:
            return self._part(name, number).read_bytes()
        except FileNotFoundError:
            raise UnknownFile("no such part") from None

    def parts(self, name: str) -> int:
        """Return how many parts there are: 1 to that number."""
        number = 0
        while self._part(name, number + 1).exists():
            number += 1
        return number

    def keep_parts(self, name: str, count: int) -> None:
        """Remove the parts behind the first `count`, the last first, so that no gap can come to be."""
        last = self.parts(name)
        for number in range(last, count, -1):
            self._part(name, number).unlink(missing_ok=True)
        if last > count:
            sync_folder(self._parts_of(name))
        if count == 0 and self._parts_of(name).exists():
            shutil.rmtree(self._parts_of(name))  # drafts of writers that were killed
            sync_folder(self._folder)

    def _part(self, name: str, number: int) -> Path:
        return self._parts_of(name) / f"{number:06d}"

    def _parts_of(self, name: str) -> Path:
        return self._path(name).with_suffix(".parts")

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise UnknownFile("not the id of a sealed file")
        return self._folder / name


def _write(path: Path, sealed: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_file((sealed,), path)

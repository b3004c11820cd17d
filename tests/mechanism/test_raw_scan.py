"""What a disk still holds after an erasure, read below the file system (vault.md sections 5, 8).

Key store and keyring live on an ext4 image of their own, mounted over a loop device; the image is unmounted and
searched byte by byte, free blocks included. Of the keys in clear nothing may be there: not the destroyed root, under
which all else lies, and not the epoch, subject and data keys, which were never written at all. Wrapped keys may be left
in free blocks, where SQLite's log was: SQLite removes that file, and no file system overwrites what is removed. They
are noise without the root, which is why the root is destroyed and not the row alone. In files nothing is left of them.

Where this machine may not mount (no root, or a container without the privilege) the same is searched in every file of a
plain folder; what was searched is told as a warning, so that a run says what it saw.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SIZE = 24 << 20
PART = 16
"""Bytes of a key that are looked for, from either end: a key that is there in part is found as well."""


@dataclass
class Disk:
    """A folder, and what can be read below it."""

    folder: Path
    image: Path | None

    def bring(self) -> None:
        if self.image is not None:
            _mount(self.image, self.folder)

    def take_away(self) -> None:
        if self.image is not None:
            subprocess.run(["umount", self.folder], check=True, capture_output=True)

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}

    def raw(self) -> dict[str, bytes]:
        """Everything, while it is away: the image where there is one, else the files."""
        return self.files() if self.image is None else {"image": self.image.read_bytes()}

    def run(self, phase: str) -> dict[str, str]:
        command = [sys.executable, "-m", "tests.mechanism.raw_scan_worker", phase, str(self.folder)]
        done = subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
        said: dict[str, str] = json.loads(done.stdout)
        return said


def _mount(image: Path, folder: Path) -> None:
    """Three tries: another process may take the free loop device that was chosen."""
    for again in (True, True, False):
        done = subprocess.run(["mount", "-o", "loop", image, folder], capture_output=True, check=not again)
        if done.returncode == 0:
            return
        time.sleep(0.3)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder, image = tmp_path / "disk", tmp_path / "image"
    folder.mkdir()
    with image.open("wb") as made:
        made.truncate(SIZE)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True, capture_output=True)
        _mount(image, folder)
    except (OSError, subprocess.CalledProcessError):
        warnings.warn("no loop mount here: files were searched, free blocks were not", UserWarning, stacklevel=1)
        yield Disk(folder, None)
        return
    yield Disk(folder, image)
    subprocess.run(["umount", folder], check=False, capture_output=True)


def found(needles: dict[str, str], content: dict[str, bytes]) -> set[str]:
    """The names of the keys of which either end is there."""
    parts = {name: (bytes.fromhex(key)[:PART], bytes.fromhex(key)[-PART:]) for name, key in needles.items()}
    return {name for name, ends in parts.items() if any(end in one for one in content.values() for end in ends)}


def test_a_raw_disk_gives_no_key_of_the_erased(disk: Disk) -> None:
    needles = disk.run("make")
    assert len(needles) == 7
    disk.take_away()
    wrapped = {name for name in needles if name.startswith("wrapped")}
    assert found(needles, disk.raw()) == {"clear root", *wrapped}, "the control: what is there is found, and only that"
    disk.bring()
    assert disk.run("erase") == {"state": "certified", "other": "sealed", "traces": 0}
    assert found(needles, disk.files()) == set(), "in no file, not even wrapped"
    disk.take_away()
    assert found(needles, disk.raw()) <= wrapped, "below the files: nothing in clear, and what wraps the rest is gone"

"""Files that commands write: a folder that is not there is told before any work, what cannot be written after it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from app.cli.configured import FAULTY


class NewFile(click.Path):
    """A file to be written, in a folder that is there."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:  # what click declares; a Path
        """Return the path; refuses one whose folder does not exist."""
        folder = Path(value).parent
        if not folder.is_dir():
            self.fail(f"there is no folder {folder}", param, ctx)
        return super().convert(value, param, ctx)


def write(file: Path, content: bytes) -> None:
    """Write a file, or leave saying which and why not."""
    try:
        file.write_bytes(content)
    except OSError as fault:
        click.echo(f"{file} is not written: {fault.strerror}", err=True)
        sys.exit(FAULTY)

"""`regard serve`, in a module that loads almost nothing: the process it becomes loads the service, and once is enough.

The schema is brought up to date by the server itself, before it builds the house (`app.wsgi`).
"""

from __future__ import annotations

import os
import sys

import click

from app.cli.configured import settings
from app.settings import Settings


@click.command()
def serve() -> None:
    """Serve the pages and the API, and carry out the durable work, in one process."""
    read = settings()
    # replaces this process, so that whoever stops the one has stopped the other
    os.execv(sys.executable, command_line(read))  # noqa: S606 - our own interpreter and literal words


def command_line(read: Settings) -> list[str]:
    """Return how the web server is started: one worker, since SQLite has one writer (decision 0006)."""
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--host", read.bind_host]
    command += ["--port", str(read.port), "--workers", "1", "--blocking-threads", "8", "--respawn-failed-workers"]
    return [*command, "--no-ws", "--log-level", "warning", "app.wsgi:application"]

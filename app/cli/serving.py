"""`regard serve`, in a module that loads almost nothing: the web server's worker loads the service, once is enough.

The schema is brought up to date by the worker itself, before it builds the house (`app.wsgi`). A worker that refuses to
serve tells this process so (`REFUSED`), which ends then, with 1; whoever stops this process ends it with 0.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from app.cli.configured import FAULTY, settings
from app.settings import Settings

if TYPE_CHECKING:
    from granian.server.common import AbstractServer

REFUSED: Final = signal.SIGUSR1
"""What the worker sends its parent. Under another parent than this one it ends that too, and not with 0."""


@click.command()
def serve() -> None:
    """Serve the pages and the API, and carry out the durable work, in one process."""
    server = _server(settings())
    refusals: list[int] = []

    def refused(number: int, _frame: object) -> None:
        refusals.append(number)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(REFUSED, refused)
    server.serve()
    if refusals:
        sys.exit(FAULTY)


def _server(read: Settings) -> AbstractServer[Any]:
    """Return the web server as it is set up: one worker, since SQLite has one writer (decision 0006)."""
    from granian import Granian  # noqa: PLC0415 - settings at fault are told before anything is loaded
    from granian.constants import Interfaces  # noqa: PLC0415
    from granian.log import LogLevels  # noqa: PLC0415

    return Granian(
        "app.wsgi:application",
        address=read.bind_host,
        port=read.port,
        interface=Interfaces.WSGI,
        workers=1,
        blocking_threads=8,
        respawn_failed_workers=True,
        websockets=False,
        log_level=LogLevels.warning,
    )

"""`regard serve`, in a module that loads almost nothing: the web server's worker loads the service, once is enough.

The schema is brought up to date by the worker itself, before it builds the house (`app.wsgi`). A worker that refuses to
serve tells this process so (`REFUSED`), which ends then, with 1; whoever stops this process ends it with 0.
"""

from __future__ import annotations

import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import click

from app.cli.configured import FAULTY, settings
from app.cli.ports import taken
from app.settings import Settings
from app.vault.process import end_with_parent

if TYPE_CHECKING:
    from granian.server.common import AbstractServer

REFUSED: Final = signal.SIGUSR1
"""What the worker sends its parent. Under another parent than this one it ends that too, and not with 0."""
_PATIENCE: Final = 15
"""Seconds a worker that was told to stop may take: requests that are being answered, steps that are being done."""


def follow(parent: int) -> None:
    """Let a worker, which was just forked, end with its parent and by its word only.

    It begins with its parent's own handlers, which would take a stop for the parent's while the service is loaded. A
    stop typed at the terminal reaches both: it is the parent that passes it on.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # until the web server sets its own
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)  # it ended before it could be followed


def announce(read: Settings) -> None:
    """Say where the service answers, and how it is stopped; the worker does, since it knows when there is something."""
    host = f"[{read.bind_host}]" if ":" in read.bind_host else read.bind_host
    click.echo(f"serving {read.issuer} on {host}:{read.port}; Ctrl-C stops")


@click.command()
def serve() -> None:
    """Serve the pages and the API, and carry out the durable work, in one process."""
    read = settings()
    _refuse_taken(read)
    server = _server(read)
    refusals: list[int] = []

    def refused(number: int, _frame: object) -> None:
        refusals.append(number)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(REFUSED, refused)
    os.register_at_fork(after_in_child=partial(follow, os.getpid()))
    server.serve()
    if refusals:
        sys.exit(FAULTY)


def _refuse_taken(read: Settings) -> None:
    """Leave when another process listens there: the web server would share the port, and both would answer in turns."""
    why = taken(read.bind_host, read.port)
    if why is None:
        return
    click.echo(
        f"port_taken: nothing can listen on port {read.port} of {read.bind_host} ({why.lower()}): stop what does, or "
        "serve another REGARD_ISSUER or REGARD_BIND_HOST",
        err=True,
    )
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
        blocking_threads=8,  # decision 0013 measured these: they wait for disks more than they compute, so that the
        # web server's warning of so many on few cores is let stand
        respawn_failed_workers=True,
        workers_kill_timeout=_PATIENCE,
        websockets=False,
        log_level=LogLevels.warning,
    )

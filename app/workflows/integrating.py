"""The integrator: entries that were committed get their place in the tree, in batches, about every second (ledger.md).

Writers never wait for it. Any number of processes may run one: a batch takes the tree's lock. A tree that is not the
one last signed is never signed over: the integrator stops, says so once, and the process is not ready any more. So it
does at any fault that it does not know: a process whose entries wait for ever must not look sound.
"""

from __future__ import annotations

import threading
from typing import Final, Protocol

import structlog

from app.ledger.errors import LedgerCorrupted, LedgerForked
from app.workflows.durable import place_of

EVERY: Final = 1.0
"""Seconds between two looks."""


class Ledger(Protocol):
    """What waits, and how it is given its place."""

    def waiting(self) -> int: ...
    def integrate(self) -> int: ...


class Integrator:
    """One thread over one ledger. `passing`: what a later look may get over, the database's own errors."""

    def __init__(self, ledger: Ledger, passing: type[Exception], *, every: float = EVERY) -> None:
        self._ledger = ledger
        self._passing = passing
        self._every = every
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self.sound = True
        """False once it has stopped: the stored tree was not the one that was signed, or something unknown happened."""

    def start(self) -> None:
        """Look from now on."""
        self._thread = threading.Thread(target=self._run, name="ledger-integrator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Finish the batch at hand and stop."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while self.sound and not self._over.wait(self._every):
            self.look()

    def look(self) -> None:
        """Integrate what waits, if anything does."""
        try:
            if self._ledger.waiting():
                self._ledger.integrate()
        except LedgerForked:
            return  # another process was quicker
        except LedgerCorrupted as found:
            self.sound = False
            structlog.get_logger().error("ledger.corrupted", code=found.code)
        except self._passing as fault:
            structlog.get_logger().warning("ledger.integrator_waits", fault=type(fault).__name__)
        except Exception as fault:  # noqa: BLE001 - whatever it is, readiness must tell; what it says stays here
            self.sound = False
            structlog.get_logger().error("ledger.integrator_stopped", fault=type(fault).__name__, at=place_of(fault))

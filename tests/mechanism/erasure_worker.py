"""A process that drives an erasure and kills itself with SIGKILL at the point it is told (for test_erasure_kill).

Reads one JSON case a line from standard input and forks for each, so that a case costs a fork and not an
interpreter; prints the child's exit as one line. The hooks that kill are here and nowhere in the product.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore
from app.vault.erasure import Erasures
from app.vault.ports import Erasure, ErasureState, KeyTransaction
from tests.mechanism.vaults import SetClock, open_vault


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hook(moment: str, state: str) -> None:
    """Kill before the step's journal line, after it but before the commit, or after the commit."""
    real = Erasures._move

    def move(self: Erasures, tx: KeyTransaction, erasure: Erasure, new: ErasureState) -> ErasureState:
        if (moment, state) == ("before", new.value):
            die()
        reached = real(self, tx, erasure, new)
        if (moment, state) == ("inside", new.value):
            die()
        return reached

    Erasures._move = move  # type: ignore[method-assign]
    if moment == "checkpoint":
        SqlKeyStore.checkpoint = lambda _self: die()  # type: ignore[method-assign, assignment, return-value, func-returns-value]


def work(case: dict[str, Any]) -> None:
    hook(case["moment"], case["state"])
    vault = open_vault(open_engine(case["url"], keys=True), Path(case["folder"]), SetClock(), per_partition=4)
    while True:
        state = vault.erasures.advance("era_1")
        if (case["moment"], case["state"]) == ("after", state.value):
            die()
        if state is ErasureState.CERTIFIED:
            return


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(json.loads(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

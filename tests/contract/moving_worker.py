"""A process that moves roots and kills itself with SIGKILL at the point it is told (for test_moving_providers).

Reads one JSON case a line from standard input and forks for each; prints the child's exit as one line. The hooks that
kill are here and nowhere in the product.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore, SqlKeyTransaction
from app.vault.moving import JoinedProviders, Moves
from app.vault.partitions import Partitions
from app.vault.ports import KeyProvider
from app.vault.providers.file import FileKeyring
from app.vault.providers.openbao import OpenBaoTransit
from tests.mechanism.vaults import SetClock

POINTS = ("claim", "root", "inside", "after", "destroy", "release", "told")


def hook(point: str, at: int) -> None:
    """Kill the `at`-th time the point is passed."""
    places = {
        "claim": (SqlKeyTransaction, "claim"),
        "root": (Partitions, "new_generation"),
        "inside": (SqlKeyTransaction, "promote"),
        "after": (Moves, "move"),
        "destroy": (FileKeyring, "destroy"),
        "release": (SqlKeyTransaction, "release"),
    }
    if point not in places:
        return
    owner, name = places[point]
    real, left = getattr(owner, name), [at]

    def passed(*args: Any, **more: Any) -> Any:
        done = real(*args, **more)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, name, passed)


def moves(url: str, present: KeyProvider, before: KeyProvider) -> Moves:
    return Moves(SqlKeyStore(open_engine(url, keys=True)), JoinedProviders(present, before), SetClock(), os.urandom)


def work(case: dict[str, Any]) -> None:
    hook(case["point"], case["at"])
    clock = SetClock()
    present = OpenBaoTransit(case["bao"], case["token"], mount=case["mount"], clock=clock, random=os.urandom)
    steps = moves(case["url"], present, FileKeyring(Path(case["keyring"]), clock=clock, random=os.urandom))
    for place in steps.progress().waiting:
        steps.move(*place)
    steps.end_all(lambda _roots: os.kill(os.getpid(), signal.SIGKILL) if case["point"] == "told" else None)


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(json.loads(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

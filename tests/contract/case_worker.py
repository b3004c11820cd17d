"""A process that carries out a case's work and kills itself with SIGKILL where it is told (for test_case_kill).

Reads one JSON order a line from standard input and forks for each; prints the child's exit as one line. The hooks that
kill are here and nowhere in the product.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from app.store.subjects import SqlSubjects
from app.vault.erasure import Erasures
from app.wiring import House
from dsar.vocabulary import CaseId, LineId
from tests.contract.case_house import open_house, quick
from tests.waiting import came_to_pass

BEFORE_COMMIT, AFTER = "inside", "after"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hook(moment: str, state: str) -> None:
    """Kill when the erasure's journal moves to `state`, before or after that commits; or while forgetting."""
    move, advance, forget = Erasures._move, Erasures.advance, SqlSubjects.forget

    def moved(self, tx, erasure, new):
        reached = move(self, tx, erasure, new)
        if (moment, state) == (BEFORE_COMMIT, new.value):
            die()
        return reached

    def advanced(self, erasure_id):
        reached = advance(self, erasure_id)
        if (moment, state) == (AFTER, reached.value):
            die()
        return reached

    def forgotten(self, ref, at, **more):
        forget(self, ref, at, **more)
        if state == "forget":
            die()

    Erasures._move, Erasures.advance, SqlSubjects.forget = moved, advanced, forgotten


def carried_out(house: House, case: str, line: str) -> bool:
    with house.casework.unit() as unit:
        return unit.desk.cases.get(CaseId(case)).lines[LineId(line)].carried_out is not None


def work(order: dict[str, str]) -> None:
    hook(order["moment"], order["state"])
    house = open_house(Path(order["folder"]), order["records"], order["keys"])
    house = quick(house, first=timedelta(seconds=0.2), longest=timedelta(seconds=0.2))
    house.work.launch(poll_seconds=0.05)
    done = came_to_pass(lambda: carried_out(house, order["case"], order["line"]))
    os._exit(0 if done else 3)


def serve(job: Callable[[dict[str, str]], None]) -> None:
    """Fork for each order, let the child do the job, and print how it ended."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            job(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(work)

"""A process that lets a case go by itself and kills itself with SIGKILL where it is told (for test_case_proceed_kill).

Takes its orders as `case_worker` does. The hooks that kill are here and nowhere in the product: each names a step and
whether to die with the step's writing undone ("inside") or just committed ("after").
"""

from __future__ import annotations

import os
import threading
from datetime import timedelta
from pathlib import Path

from app.outbound.package import Copies
from app.wiring.caseunit import CaseUnitFace
from app.wiring.office import CaseOffice
from app.workflows.proceeding import CaseCourse
from dsar import usecases
from dsar.vocabulary import CaseId
from tests.contract.case_house import open_house, quick
from tests.contract.case_worker import AFTER, BEFORE_COMMIT, die, serve
from tests.waiting import came_to_pass

OWN_STEPS = ("house", "post", "keep", "part")
"""Steps beside the turns of a course."""


def hook(moment: str, step: str) -> None:
    act, commit = CaseCourse._act, CaseUnitFace.commit
    search, post, keep, part = CaseOffice.search, CaseOffice.post, Copies.keep, CaseOffice.part
    here = threading.local()  # each piece of work has a thread of its own

    def passed(name: str) -> None:
        here.done = name
        if (moment, step) == (BEFORE_COMMIT, name):
            die()

    def acted(self, unit, case, taken, copy):
        act(self, unit, case, taken, copy)
        passed(taken.turn.value)

    def committed(self):
        commit(self)
        if moment == AFTER and getattr(here, "done", None) == step:
            die()
        here.done = None

    def wrapped(name, real):
        def called(self, *args):
            result = real(self, *args)
            passed(name)
            return result

        return called

    CaseCourse._act, CaseUnitFace.commit = acted, committed
    CaseOffice.search, CaseOffice.post = wrapped("house", search), wrapped("post", post)
    Copies.keep, CaseOffice.part = wrapped("keep", keep), wrapped("part", part)
    carry_out = usecases.carry_out

    def carried(*args):
        carry_out(*args)
        passed("carry_out")

    # whichever comes first does it: the erasure's own work, or the look at the case
    usecases.carry_out = carried


def work(order: dict[str, str]) -> None:
    hook(order["moment"], order["state"])
    house = open_house(Path(order["folder"]), order["records"], order["keys"])
    wait = timedelta(seconds=0.2)
    house = quick(house, by_itself=True, first=wait, longest=wait)
    house.work.launch(poll_seconds=0.05)
    os._exit(0 if came_to_pass(lambda: closed(house, order["case"])) else 3)


def closed(house, case: str) -> bool:
    with house.casework.reading() as unit:
        return unit.desk.cases.get(CaseId(case)).final


if __name__ == "__main__":
    serve(work)

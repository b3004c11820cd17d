"""Units of work in several threads: one that waits for the writer does not keep the writer from going on."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.contract import case_house as town
from tests.waiting import PATIENCE


def test_a_unit_that_waits_for_the_writer_does_not_hold_it_up(records_url: str, keys_url: str, tmp_path: Path) -> None:
    """Operations.md section 2: on SQLite there is one writer; the others queue, and none waits for a waiting one."""
    house = town.open_house(tmp_path, records_url, keys_url, fresh=True)
    begun, told = threading.Event(), list[bool]()

    def second() -> None:
        begun.set()
        with house.units.writing() as unit:
            told.append(unit.clients.find("nobody") is None)  # waits in here until the first is done

    with house.units.writing() as first:
        first.subjects.listed(house.controller)
        first.session.connection()
        waiting = threading.Thread(target=second)
        waiting.start()
        assert begun.wait(PATIENCE)
        waiting.join(0.3)
        reached = threading.Event()
        reach = threading.Thread(target=lambda: (first.clients, reached.set()))
        reach.start()
        assert reached.wait(PATIENCE), "the writer waits for the one that waits for it"
    waiting.join(PATIENCE)
    assert told == [True]
    house.close()

"""Kill -9 at every step of a case that goes by itself, restart each time: the same end as without, nothing twice.

Dsar rules 40, 53, 60; operations.md section 3.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.store.rows.leaves import LedgerEntryRow
from app.wiring import House
from dsar import events as e
from dsar import usecases
from dsar.case import State
from dsar.course import Turn
from dsar.errors import CaseChanged, CopyGone
from dsar.vocabulary import Actor, TaskKind
from tests.contract import case_house as town
from tests.contract.test_case_kill import say
from tests.contract.test_case_proceed import mails

pytestmark = pytest.mark.slow
FAN_OUT = [
    ("inside", Turn.ACKNOWLEDGE),
    ("after", Turn.ACKNOWLEDGE),
    ("inside", Turn.SEARCH),
    ("after", Turn.SEARCH),
    ("inside", "house"),
    ("after", "house"),
    ("inside", "keep"),
    ("after", Turn.SEAL),
    ("inside", Turn.DECIDE),
    ("after", Turn.DECIDE),
    ("inside", Turn.SUBMIT),
    ("inside", Turn.REPLY),
    ("after", Turn.REPLY),
    ("inside", "post"),
]
"""As they come to pass, up to the copy in the person's hands."""
ERASING = [
    ("inside", "part"),
    ("inside", Turn.ERASE),
    ("after", Turn.ERASE),
    ("inside", Turn.CARRY_OUT),
    ("after", Turn.CARRY_OUT),
    ("inside", Turn.CLOSE),
]
WITHOUT = ("never", "")
ONCE = {
    "case.acknowledged": 1,
    "case.search_started": 1,
    "case.search_completed": 1,
    "case.package_sealed": 1,
    "case.line_decided": 2,
    "case.submitted": 1,
    "case.approved": 1,
    "case.erasure_started": 1,
    "case.carried_out": 1,
    "case.message_prepared": 3,
    "case.message_dispatched": 3,
    "case.holder_answered": 9,
    "case.dispatched": 1,
    "case.closed": 1,
}


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    yield built
    built.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.contract.course_worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=town.ROOT, env=dict(os.environ), **pipes) as process:
        yield process
        process.stdin.close()


class Others:
    """Everybody but the worker: holders that pull, a DPO that approves, a person who downloads the copy."""

    def __init__(self, story: town.Story) -> None:
        self._story = story
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go_on)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._stop.is_set():
            self._story.answer_all()
            with suppress(CaseChanged):
                self._approve()
                self._fetch()
            time.sleep(0.1)

    def _approve(self) -> None:
        with self._story.desk() as desk:
            if desk.cases.get(self._story.case).state is State.APPROVAL:
                usecases.approve(desk, self._story.case, town.DPO)

    def _fetch(self) -> None:
        with self._story.desk() as desk, suppress(CopyGone):
            case = desk.cases.get(self._story.case)
            for package in set(case.packages) - case.fetched:
                usecases.record_fetch(desk, case.id, package, Actor(self._story.subject, human=True))


def end_state(story: town.Story) -> dict[str, object]:
    house = story.house
    with house.casework.reading() as unit:
        case = unit.desk.cases.get(story.case)
        seen = Counter(e.kind_of(one.event) for one in unit.desk.cases.history(story.case))
        tasks = Counter(task.kind for task in unit.desk.cases.tasks(story.case))
    return {
        "state": case.state,
        "events": {kind: seen[kind] for kind in ONCE},
        "left": seen["case.left_to_staff"],
        "tasks": dict(tasks),
        "mails": dict(Counter(mail.message.template for mail in mails(house))),
        "sent": sent(house),
        "profile": house.profiles.profile(story.subject),
        "files": len(list((house.settings.data_dir / "sealed").iterdir())),
        "kept": story.holders[town.FILES].read(story.subject),
        "rows": story.holders[town.ACCOUNTS].rows,
        "ledger": house.ledger.audit() if house.ledger.integrate() else None,
    }


def sent(house: House) -> int:
    with house.records.connect() as connection:
        return connection.scalar(
            select(func.count()).select_from(LedgerEntryRow).where(LedgerEntryRow.kind == "mail.sent")
        )


def check(found: dict[str, object]) -> None:
    assert found["state"] is State.CLOSED
    assert found["events"] == ONCE
    assert found["left"] == 0
    assert found["tasks"] == dict.fromkeys((TaskKind.SEARCH, TaskKind.ERASE, TaskKind.VERIFY), 3)
    assert found["sent"] == 3, "received, answered, certificate: each once"
    assert found["mails"] == {"certificate": 1}, "the last letter takes the others out of the outbox"
    assert found["profile"] is None
    assert found["files"] == 0
    assert found["kept"] == [{"kind": "passport", "number": "X1"}]
    assert found["rows"] == []
    assert found["ledger"] == []


def test_killed_at_every_step_and_restarted(
    worker: subprocess.Popen[str], house: House, laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    story = town.ask(house, rows=3)
    order = {"records": laid_records_url, "keys": laid_keys_url, "folder": str(tmp_path), "case": story.case}
    with Others(story):
        for moment, step in (*FAN_OUT, *ERASING):
            assert say(worker, order, (moment, str(step))) == -signal.SIGKILL, (moment, step)
        assert say(worker, order, WITHOUT) == 0
    wait_for_mail(story)
    check(end_state(story))


def test_without_a_kill(
    worker: subprocess.Popen[str], house: House, laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    story = town.ask(house, rows=3)
    order = {"records": laid_records_url, "keys": laid_keys_url, "folder": str(tmp_path), "case": story.case}
    with Others(story):
        assert say(worker, order, WITHOUT) == 0
    check(end_state(story))


def wait_for_mail(story: town.Story) -> None:
    """A case closes on the hand-over of its last letter, so whatever was queued before has left as well."""
    assert [mail.message.template for mail in mails(story.house)].count("certificate") == 1

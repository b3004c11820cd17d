"""Kill -9 at every state of an erasure while its case is carried out, restart each time: the same end as without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.wiring import House
from dsar import events as e
from dsar.vocabulary import TaskKind
from tests.contract import case_house as town

pytestmark = pytest.mark.slow
STATES = [
    "caches_evicted",
    "key_row_removed",
    "rewrapped",
    "verified",
    "committed",
    "old_root_destroyed",
    "scanned",
    "certified",
]
POINTS = [(moment, state) for state in STATES for moment in ("inside", "after")] + [("inside", "forget")]
WITHOUT = ("never", "")


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    yield built
    built.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.contract.case_worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=town.ROOT, env=dict(os.environ), **pipes) as process:
        yield process
        process.stdin.close()


def say(worker: subprocess.Popen[str], order: dict[str, str], point: tuple[str, str]) -> int:
    stdin, stdout = worker.stdin, worker.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(json.dumps({**order, "moment": point[0], "state": point[1]}) + "\n")
    stdin.flush()
    return int(stdout.readline())


def ordered(house: House) -> town.Story:
    """A case whose erasure is ordered and whose holders have confirmed; nothing of the shred is done."""
    story = town.begin(house, rows=3)
    story.answer_all()
    town.decide(story)
    with story.desk() as desk:
        (reply,) = desk.cases.get(story.case).messages
        town.usecases.dispatch_message(desk, reply, channel="space", proof="posting")
    town.order_erasure(story)
    assert story.answer_all() == 2
    return story


def answering(story: town.Story, stop: threading.Event) -> None:
    """The holders go on pulling while the worker works."""
    while not stop.is_set():
        story.answer_all()
        time.sleep(0.1)


def end_state(story: town.Story) -> dict[str, object]:
    """What is left, without the random parts."""
    house = story.house
    erasure = f"era_{story.gone}"
    journal = house.vault.erasures.journal(erasure)
    with story.desk() as desk:
        evidence = str(desk.cases.get(story.case).lines[story.gone].carried_out)
        kinds = [type(one.event) for one in desk.cases.history(story.case)]
        verified = len(desk.cases.tasks(story.case, TaskKind.VERIFY))
    return {
        "state": journal.state.value,
        "certificates": len(journal.certificates),
        "retained": sorted(key.category for target in journal.targets for key in target.retained),
        "evidence": evidence.partition(":")[0] == erasure,
        "carried_out": kinds.count(e.CarriedOut),
        "verified": verified,
        "profile": house.profiles.profile(story.subject),
        "found": house.profiles.find_by_email(house.controller, "ana@example.org"),
        "files": len(list((house.settings.data_dir / "sealed").iterdir())),
        "kept": story.holders[town.FILES].read(story.subject),
        "ledger": house.ledger.audit() if house.ledger.integrate() else None,
    }


def run_to_the_end(worker: subprocess.Popen[str], story: town.Story, order: dict[str, str]) -> dict[str, object]:
    stop = threading.Event()
    holders = threading.Thread(target=answering, args=(story, stop))
    holders.start()
    try:
        assert say(worker, order, WITHOUT) == 0
    finally:
        stop.set()
        holders.join()
    return end_state(story)


def check(found: dict[str, object]) -> None:
    assert found["state"] == "certified"
    assert found["certificates"] == found["carried_out"] == 1
    assert found["verified"] == 2
    assert found["retained"] == [town.PAPERS]
    assert found["evidence"] is True
    assert found["profile"] is found["found"] is None
    assert found["files"] == 0
    assert found["kept"] == [{"kind": "passport", "number": "X1"}]
    assert found["ledger"] == []


def order_of(story: town.Story, records_url: str, keys_url: str, folder: Path) -> dict[str, str]:
    """What the worker is told."""
    return {"records": records_url, "keys": keys_url, "folder": str(folder), "case": story.case, "line": story.gone}


def test_killed_at_every_state_and_restarted(
    worker: subprocess.Popen[str], house: House, laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    """Operations.md section 3; vault.md section 5; dsar rules 53, 54."""
    story = ordered(house)
    order = order_of(story, laid_records_url, laid_keys_url, tmp_path)
    for point in POINTS:
        assert say(worker, order, point) == -signal.SIGKILL, point
    check(run_to_the_end(worker, story, order))


def test_without_a_kill(
    worker: subprocess.Popen[str], house: House, laid_records_url: str, laid_keys_url: str, tmp_path: Path
) -> None:
    story = ordered(house)
    order = order_of(story, laid_records_url, laid_keys_url, tmp_path)
    check(run_to_the_end(worker, story, order))

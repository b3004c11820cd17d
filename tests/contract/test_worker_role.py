"""One process carries out a deployment's durable work; the next may once it ended (operations.md sections 2, 3)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from app.cli.main import main as commands
from app.store.engine import open_engine
from app.store.workerrole import RoleTakenError, WorkerRole
from app.wiring import UnfitDeployment
from tests.contract.case_house import found_deployment, open_house, settings_for

ROOT = Path(__file__).resolve().parents[2]
HOLDER = """
import sys, time
from app.store.engine import open_engine
from app.store.workerrole import WorkerRole
WorkerRole(open_engine(sys.argv[1]), "regard-1").take(patience=0)
print("taken", flush=True)
time.sleep(600)
"""


@pytest.fixture
def engine(records_url: str) -> Iterator[Engine]:
    built = open_engine(records_url)
    yield built
    built.dispose()


def refused(role: WorkerRole) -> bool:
    try:
        role.take(patience=0.2)
    except RoleTakenError:
        return True
    return False


def test_the_second_is_refused_until_the_first_gives_up(engine: Engine, records_url: str) -> None:
    other = open_engine(records_url)
    first, second = WorkerRole(engine, "regard-1"), WorkerRole(other, "regard-1")
    first.take(patience=0)
    first.take(patience=0)
    assert refused(second)
    first.give_up()
    first.give_up()
    assert not refused(second)
    second.give_up()
    other.dispose()


def test_another_executor_works_beside_it_on_postgresql_alone(engine: Engine) -> None:
    """SQLite has one writer: a second worker would be in the first one's way."""
    first, other = WorkerRole(engine, "regard-1"), WorkerRole(engine, "regard-2")
    first.take(patience=0)
    assert refused(other) is (engine.dialect.name == "sqlite")
    other.give_up()
    first.give_up()


def test_commands_write_beside_whoever_has_the_role(engine: Engine, records_url: str) -> None:
    role, other = WorkerRole(engine, "regard-1"), open_engine(records_url)
    role.take(patience=0)
    with other.begin() as connection:
        connection.execute(text("CREATE TABLE beside (id INTEGER)"))
    role.give_up()
    other.dispose()


def test_a_killed_process_leaves_the_role_to_the_next(engine: Engine, records_url: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, records_url]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        role = WorkerRole(engine, "regard-1")
        assert refused(role)
        process.send_signal(signal.SIGKILL)
        role.take()
        role.give_up()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    taking = WorkerRole.take
    monkeypatch.setattr(WorkerRole, "take", lambda role: taking(role, patience=0.2))


@pytest.mark.usefixtures("impatient")
def test_a_second_service_says_what_to_do_and_touches_nothing(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(tmp_path, laid_records_url, laid_keys_url)
    found_deployment(settings)
    first, second = (open_house(tmp_path, laid_records_url, laid_keys_url) for _ in range(2))
    first.role.take()
    with pytest.raises(UnfitDeployment, match=r"'regard-1'.*end it first") as told:
        second.start()
    assert told.value.code == "worker_running"
    for name, value in (
        ("DATA_DIR", str(settings.data_dir)),
        ("POLICIES_DIR", str(settings.policies_dir)),
        ("RECORDS_URL", laid_records_url),
        ("KEYS_URL", laid_keys_url),
    ):
        monkeypatch.setenv(f"REGARD_{name}", value)
    said = CliRunner().invoke(commands, ["worker"])
    assert said.exit_code == 1
    assert said.output.startswith("worker_running: another process, as executor 'regard-1', carries out")
    second.close()
    first.close()

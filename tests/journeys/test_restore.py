"""A restore as an operator does it, with the real server: what was erased stays erased, or nothing is served at all."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.profiles import Profile
from app.settings import read_settings
from app.vault.keys import Target
from app.vault.ports import ErasureState
from app.wiring import build, migrate
from consent.vocabulary import Locale
from tests.cluster import free_port
from tests.journeys.outsider import Browser
from tests.waiting import PATIENCE, wait

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow]


@pytest.fixture
def said(tmp_path: Path) -> dict[str, str]:
    return {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(ROOT / "policies"),
        "REGARD_ISSUER": f"http://127.0.0.1:{free_port()}",
    }


def erased_since_the_backup(said: dict[str, str], folder: Path) -> None:
    """Ana and Ben are enrolled, both databases backed up, Ana is erased, and the records' backup is put back."""
    migrate(read_settings(said))
    house = build(read_settings(said))
    house.restoring.before_serving()
    people = [(Profile(name, f"{name.lower()}@example.org"), Locale.EN) for name in ("Ana", "Ben")]
    ana, _ = house.profiles.enrol_all(house.controller, people)
    house.close()
    for name in ("records", "keys"):
        shutil.copy(folder / f"{name}.sqlite", folder / f"{name}.backup")
    house = build(read_settings(said))
    house.vault.shred("era_1", [Target(house.controller, ana)])
    assert house.vault.erasures.drive("era_1", now=True) is ErasureState.CERTIFIED
    house.close()
    shutil.copy(folder / "records.backup", folder / "records.sqlite")


@contextmanager
def served(said: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """`regard serve`, ended afterwards."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGARD_")} | said
    command = [sys.executable, "-m", "app.cli.entry", "serve"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=environment, cwd=ROOT, **pipes) as server:  # type: ignore[call-overload]
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)  # nothing happens to one that has ended


def ready(origin: str, server: subprocess.Popen[str]) -> httpx.Response:
    ends = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < ends, "it did not answer"
        assert server.poll() is None, server.stdout.read() if server.stdout else ""
        try:
            return httpx.get(f"{origin}/health/ready", timeout=PATIENCE)
        except httpx.TransportError:
            time.sleep(0.1)


def asked_for_links(origin: str) -> str:
    """Both ask for a link to sign in, Ana first; returns every mail once Ben's is there."""
    for name in ("ana", "ben"):
        person = Browser(origin)
        page = person.get("/en/sign-in")
        told = person.send(page, page.form(has="email"), email=f"{name}@example.org")
        assert told.url.endswith("/sign-in/sent"), "the answer is the same for every address"
    wait(lambda: "ben@example.org" in outbox(origin))
    return outbox(origin)


def outbox(origin: str) -> str:
    with httpx.Client(base_url=origin, timeout=PATIENCE) as client:
        listed = client.get("/outbox").text
        return listed + "".join(client.get(mail).text for mail in re.findall(r'href="(/outbox/\w+)"', listed))


def test_restored_records_let_nobody_erased_in(said: dict[str, str], tmp_path: Path) -> None:
    erased_since_the_backup(said, tmp_path / "var")
    with served(said) as server:
        answer = ready(said["REGARD_ISSUER"], server)
        assert answer.status_code == 200, answer.text
        assert answer.json()["checks"]["partitions"] is True
        assert "ana@example.org" not in asked_for_links(said["REGARD_ISSUER"])
        server.send_signal(signal.SIGTERM)
        told, _ = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0, f"whoever stops it hears that nothing was wrong: {told}"


def lost(file: Path) -> None:
    file.unlink()


def edited(file: Path) -> None:
    """One character of the very first line, long before either database's mark."""
    content = bytearray(file.read_bytes())
    content[10] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harmed", "harm", "told"),
    [
        ("tombstones", lost, "tombstones_lost: .*restore.md"),
        ("tombstones", edited, "tombstones_damaged: .*restore.md"),
        ("keyring", lost, "roots_lost: .*founding.md"),
    ],
)
def test_what_must_not_be_served_is_not(
    said: dict[str, str], tmp_path: Path, harmed: str, harm: Callable[[Path], None], told: str
) -> None:
    """One sentence, no door, exit code 1: the server ends instead of trying again and again."""
    folder = tmp_path / "var"
    erased_since_the_backup(said, folder)
    harm(folder / harmed)
    with served(said) as server:
        everything, _ = server.communicate(timeout=120)
    assert server.returncode == 1, everything
    assert len(re.findall(f"^{told}", everything, re.MULTILINE)) == 1, everything
    assert "Traceback" not in everything

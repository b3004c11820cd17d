"""The reference component and holder as processes of their own, over real sockets: the commands the demo runs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from werkzeug.serving import make_server

from app.demo.generator import records
from tests.doors.api_house import Agreed
from tests.doors.demo_house import BALANCES, DETAILS, DemoHouse

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(look: Callable[[], Any], what: str) -> Any:
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE:.0f} s")


class Street:
    """The authority in a thread, the safe and the collector as processes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        port, self.safe_port, self.collector_port = free_port(), free_port(), free_port()
        self.issuer = f"http://127.0.0.1:{port}"
        # two processes have no clock but the machine's
        monkeypatch.setattr("tests.doors.api_house.ISSUER", self.issuer)
        monkeypatch.setattr("tests.doors.api_house.START", datetime.now(UTC))
        self.at = DemoHouse(folder, monkeypatch, safe_at=self.address(self.safe_port))
        monkeypatch.setattr(self.at.clock, "now", lambda: datetime.now(UTC))
        self.server = make_server("127.0.0.1", port, self.at.app, threaded=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def address(port: int) -> str:
        return f"http://127.0.0.1:{port}"

    def start(self, name: str, port: int, *more: str) -> subprocess.Popen[bytes]:
        words = ["--issuer", self.issuer, "--client-id", name, "--key", str(self.at.key(name)), "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", f"app.demo.{name}", *words, *more],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.running.append(process)
        wait_for(lambda: self.healthy(port), f"{name} answers")
        return process

    def start_safe(self) -> subprocess.Popen[bytes]:
        return self.start("safe", self.safe_port, "--data", str(self.folder / "safe"), "--every", "0.2")

    def start_collector(self) -> subprocess.Popen[bytes]:
        more = ("--safe", self.address(self.safe_port), "--bank", str(self.folder / "bank"))
        return self.start("collector", self.collector_port, *more)

    def healthy(self, port: int) -> bool:
        try:
            return httpx.get(f"{self.address(port)}/health").is_success
        except httpx.TransportError:
            return False

    def ask(self, door: str, agreed: Agreed, **said: str) -> httpx.Response:
        body = {"consent_id": agreed.consent, **said}
        return httpx.post(f"{self.address(self.collector_port)}/{door}", json=body, timeout=PATIENCE)

    def counted(self) -> list[tuple[str, int]]:
        return [(row["component"], row["records"]) for row in self.at.rows("disclosures") if row["records"]]

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self.server.shutdown()
        self.server.server_close()
        self.at.house.close()


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Street]:
    built = Street(tmp_path, monkeypatch)
    yield built
    built.close()


def test_fetch_read_crash_withdraw_stop(street: Street) -> None:
    """Steps 3 to 5 of the main job; a read is in the person's log once, whatever happens to the process."""
    at, ana = street.at, street.at.agree()
    connection, person = at.connect()
    safe, collector = street.start_safe(), street.start_collector()
    bank = Counter(record.category for record in records(person))
    fetched = street.ask("fetch", ana, connection=connection)
    assert fetched.json()["stored"] == {name: bank[name] for name in (BALANCES, DETAILS)}, fetched.text
    assert street.ask("read", ana, category=BALANCES).json() == {"records": bank[BALANCES]}
    safe.kill()  # SIGKILL: whether the read was reported already or not
    safe.communicate()
    refused = street.ask("read", ana, category=BALANCES)
    assert (refused.status_code, refused.json()["code"]) == (503, "safe_unreachable")
    safe = street.start_safe()
    wait_for(street.counted, "the read is reported")
    assert street.counted() == [("collector", bank[BALANCES])]
    assert street.ask("read", ana, category=DETAILS).json() == {"records": bank[DETAILS]}
    wait_for(lambda: len(street.counted()) == 2, "the next read is reported")
    at.withdraw(ana)
    refused = street.ask("read", ana, category=BALANCES)
    assert (refused.status_code, refused.json()["code"], refused.json()["said_by"]) == (401, "token_inactive", "safe")
    refused = street.ask("fetch", ana, connection=connection)
    assert (refused.json()["code"], refused.json()["reason"]) == ("access_denied", "consent_withdrawn")
    assert refused.json()["stored"] == {}
    for process in (safe, collector):
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        for secret in ("pw_", "rgt_", ana.consent, person.family_name):
            assert secret not in said.decode()


def test_a_component_does_not_start_with_a_key_that_others_can_read(
    street: Street, monkeypatch: pytest.MonkeyPatch
) -> None:
    street.at.key("safe").chmod(0o644)
    monkeypatch.setattr("tests.doors.test_demo_processes.PATIENCE", 5.0)
    with pytest.raises(AssertionError, match="answers"):
        street.start_safe()
    said, _ = street.running[0].communicate()
    assert b"chmod 600" in said
    assert street.running[0].returncode != 0

"""The service stops when it is told to, whenever that is, and leaves nothing that keeps the next one from serving."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cluster import free_port
from tests.waiting import PATIENCE, wait

ROOT = Path(__file__).resolve().parents[2]
SOON = 14
"""Seconds: sooner than a worker that does not stop is killed for it."""
pytestmark = [pytest.mark.slow]


@pytest.fixture
def said(tmp_path: Path) -> Mapping[str, str]:
    return {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(ROOT / "policies"),
        "REGARD_ISSUER": f"http://127.0.0.1:{free_port()}",
    }


@contextmanager
def running(said: Mapping[str, str], command: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, as at a terminal; whatever is left of it is killed afterwards."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REGARD_")} | said
    words = [sys.executable, "-m", "app.cli.entry", command]
    with subprocess.Popen(words, env=environment, cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def lives(said: Mapping[str, str]) -> bool:
    try:
        return httpx.get(f"{said['REGARD_ISSUER']}/health/ready", timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def test_typed_at_the_terminal_a_stop_ends_all_of_it(said: Mapping[str, str]) -> None:
    """And how to stop it was told, once it served."""
    with running(said, "serve") as server:
        wait(lambda: lives(said))
        os.killpg(server.pid, signal.SIGINT)
        assert server.wait(SOON) == 0
        assert server.stdout is not None
        address = said["REGARD_ISSUER"]
        told = f"serving {address} on {address.removeprefix('http://')}; Ctrl-C stops"
        assert server.stdout.read().decode().splitlines().count(told) == 1
    assert not lives(said)


@pytest.mark.parametrize("after", [1.5, 3])
def test_a_stop_while_it_starts_is_not_lost(said: Mapping[str, str], after: float) -> None:
    with running(said, "serve") as server:
        time.sleep(after)
        server.send_signal(signal.SIGTERM)
        server.wait(SOON)
    assert not lives(said)


def test_the_worker_does_not_outlive_a_killed_server(said: Mapping[str, str]) -> None:
    """Nobody knows its pid: it would hold address and data against every later start."""
    with running(said, "serve") as server:
        wait(lambda: lives(said))
        server.kill()
        server.wait(SOON)
        wait(lambda: not lives(said))
    with running(said, "serve") as server:
        wait(lambda: lives(said) or server.poll() is not None)
        assert server.poll() is None
        server.send_signal(signal.SIGTERM)
        assert server.wait(SOON) == 0


def test_a_worker_alone_ends_in_order(said: Mapping[str, str]) -> None:
    with running(said, "serve") as server:  # founds the deployment
        wait(lambda: lives(said))
        server.send_signal(signal.SIGTERM)
        server.wait(SOON)
    with running(said, "worker") as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith(b"carrying out durable work")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(SOON) == 0

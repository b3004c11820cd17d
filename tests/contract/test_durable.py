"""Work committed with a state change is carried out once the process lives again (operations.md section 3)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
from sqlalchemy.orm import Session
from app.store.engine import open_engine
from app.workflows.durable import DurableWork, UnknownWorkError

url, mode, trace = sys.argv[1], sys.argv[2], Path(sys.argv[3])

class Now:
    def now(self):
        return datetime.now(UTC)

def note(word):
    with trace.open("a") as file:
        file.write(word + "\\n")

def handle(ref, steps):
    steps.run("first", lambda: note("first " + ref))
    if mode == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    steps.run("second", lambda: note("second " + ref))

engine = open_engine(url)
work = DurableWork(engine, Now(), {"test.kind": handle}, executor="one")
work.launch(poll_seconds=0.05)
if mode == "die":
    with Session(engine) as session:
        work.enqueue(session, "test.kind", "rolled_back")
        session.rollback()
    with Session(engine) as session:
        work.enqueue(session, "test.kind", "kept")
        work.enqueue(session, "test.kind", "kept")
        try:
            work.enqueue(session, "test.other", "kept")
        except UnknownWorkError:
            note("refused")
        session.commit()
ends = time.monotonic() + 120
while "second" not in (trace.read_text() if trace.exists() else "") and time.monotonic() < ends:
    time.sleep(0.05)
work.stop(patience_seconds=1)
"""


def _run(url: str, mode: str, trace: Path) -> int:
    command = [sys.executable, "-c", SCRIPT, url, mode, str(trace)]
    return subprocess.run(
        command, check=False, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=180
    ).returncode


def test_a_killed_worker_loses_nothing_and_repeats_no_finished_step(records_url: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    assert _run(records_url, "die", trace) == -signal.SIGKILL
    assert trace.read_text().split("\n")[:2] == ["refused", "first kept"]
    assert _run(records_url, "resume", trace) == 0
    assert trace.read_text() == "refused\nfirst kept\nsecond kept\n"

"""From `regard serve` to a ready service: wall and CPU seconds, and the memory it then holds (operations.md section 1).

    python -m bench.start [--times 3]

The first start makes both databases and every key; a later one finds them. CPU seconds are given because wall time on a
busy machine says more of its neighbours. The floor is what Python takes to load the libraries alone, in the same run.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.introspection import HOST, READY, family, free_port, seconds
from bench.table import ROOT, Row, printed, within

LIBRARIES = "import granian.server, sqlalchemy.orm, dbos, flask_smorest, flask_babel, authlib.oauth2, webauthn, numpy"


@dataclass(frozen=True)
class Start:
    """One start: seconds, and the bytes resident once it is ready."""

    wall: float
    cpu: float
    resident: int


def start(folder: Path) -> Start:
    """Start the service on `folder`, wait until it is ready, stop it."""
    port = free_port()
    issuer = f"http://{HOST}:{port}"
    environment = {**os.environ, "REGARD_DATA_DIR": str(folder), "REGARD_ISSUER": issuer, "PYTHONPATH": str(ROOT)}
    begin = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "app.cli.entry", "serve"], env=environment, cwd=ROOT)
    try:
        while not _ready(issuer):
            if process.poll() is not None or time.perf_counter() - begin > READY:
                raise SystemExit("the service did not become ready")
            time.sleep(0.02)
        wall, all_of_it = time.perf_counter() - begin, family(process.pid)
        return Start(wall, sum(map(seconds, all_of_it)), sum(map(_resident, all_of_it)))
    finally:
        process.terminate()
        process.wait(30)


def _ready(issuer: str) -> bool:
    try:
        return httpx.get(f"{issuer}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _resident(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def libraries() -> float:
    """CPU seconds to load the libraries alone."""
    code = f"{LIBRARIES}; import time; print(time.process_time())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(ran.stdout)


def rows(times: int = 3) -> list[Row]:
    """The figures of this bench."""
    with tempfile.TemporaryDirectory(prefix="regard-bench-") as name:
        first = start(Path(name))
        later = [start(Path(name)) for _ in range(times)]
    floor = statistics.median(libraries() for _ in range(times))
    busy = f"load {os.getloadavg()[0]:.1f}; loading the libraries alone takes {floor:.1f} s of CPU in the same run"
    return [
        within("first start, ready", first.wall, "s", most=15),
        within("later start, ready", statistics.median(each.wall for each in later), "s", most=5, note=busy),
        within("later start, CPU", statistics.median(each.cpu for each in later), "s", most=5),
        Row("resident when ready", statistics.median(each.resident for each in later) / 2**20, "MiB"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3)
    print(printed(rows(parser.parse_args().times)))


if __name__ == "__main__":
    main()

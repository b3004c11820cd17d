"""Introspection in requests per second of the server's own CPU, against bare servers (tokens.md section 7).

    python -m bench.introspection [--requests 3000] [--rounds 3] [--people 60]

Every side runs under granian with the settings `regard serve` uses (one worker, eight blocking threads), on loopback,
asked by a process of its own over eight connections. Sides take turns, so that a busy machine slows all; the median
round counts. Ours authenticate the caller by `private_key_jwt`, one ES256 signature verified and one `jti` durably
spent at each call; of the floors only "bare WSGI, checked" does. The path is the good one: all answers must be active.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from app.sdk.dpop import Prover, new_key, public_jwk, thumbprint
from bench.load import ASSERTION, RESOURCE, assertion
from bench.table import ROOT, Row, against, printed

HOST = "127.0.0.1"
CONNECTIONS = 8
GRANIAN = ("--interface", "wsgi", "--workers", "1", "--blocking-threads", "8", "--no-ws", "--log-level", "warning")
TICKS = os.sysconf("SC_CLK_TCK")
READY = 120.0
"""Seconds a server may take to come up on a busy machine."""


@dataclass(frozen=True)
class Side:
    """One server: what it serves, how much of the asked number it gets, and its environment."""

    name: str
    target: str
    share: float
    environment: Mapping[str, str]
    ours: bool


@dataclass(frozen=True)
class Served:
    """A server that answers."""

    side: Side
    port: int
    process: int

    def cpu(self) -> float:
        """Seconds of CPU the server and its worker have used."""
        return sum(map(seconds, family(self.process)))


def family(process: int) -> list[int]:
    """A process and all that came of it."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in family(int(child)))]


def seconds(process: int) -> float:
    """CPU a process has used, in user and system mode, as the kernel counts it."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def served(side: Side, log: Path) -> Iterator[Served]:
    """Start one side and stop it afterwards."""
    port = int(side.environment.get("REGARD_BENCH_PORT") or free_port())
    command = [sys.executable, "-m", "granian", *GRANIAN, "--host", HOST, "--port", str(port), side.target]
    environment = {**os.environ, **side.environment, "PYTHONPATH": str(ROOT)}
    environment.pop("REGARD_BENCH_PORT", None)
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=ROOT)
        try:
            _wait(port, process, log)
            yield Served(side, port, process.pid)
        finally:
            process.terminate()
            process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx.get(f"http://{HOST}:{port}/health/live", timeout=1)
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"a server did not start:\n{log.read_text(errors='replace')[-2000:]}")


def stage(folder: Path, people: int, issuer: str) -> dict[str, Any]:
    """Fill a house in `folder`; return consents and keys."""
    environment = {**os.environ, "REGARD_DATA_DIR": str(folder), "REGARD_ISSUER": issuer, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "bench.stage", str(people)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode:
        raise SystemExit(ran.stderr[-2000:])
    return dict(json.loads(ran.stdout.splitlines()[-1]))


class Caller:
    """A component as this bench plays it."""

    def __init__(self, name: str, pem: str, issuer: str) -> None:
        self.name, self.issuer = name, issuer
        self._key = load_pem_private_key(pem.encode(), None)
        self._kid = thumbprint(public_jwk(self._key))  # type: ignore[arg-type]
        self._prover = Prover(new_key(), lambda: datetime.now(UTC))

    def post(self, base: str, path: str, *, proof: bool, **form: str) -> Any:
        said = {"client_assertion_type": ASSERTION, **form}
        said["client_assertion"] = assertion(self.name, self._key, self._kid, self.issuer)
        headers = {"DPoP": self._prover.prove("POST", self.issuer + path)} if proof else {}
        answer = httpx.post(base + path, data=said, headers=headers, timeout=30)
        if answer.status_code != 200:
            raise SystemExit(f"{path} answered {answer.status_code}: {answer.text[:300]}")
        return answer.json()


def tokens(base: str, reader: Caller, consents: Sequence[str]) -> list[str]:
    """Issue one token for each consent, over HTTP."""
    got = []
    for consent in consents:
        detail = [{"type": "aggregation_consent", "consent_id": consent, "actions": ["read"]}]
        form = {"grant_type": "client_credentials", "resource": RESOURCE, "authorization_details": json.dumps(detail)}
        got.append(reader.post(base, "/oauth/token", proof=True, **form)["access_token"])
    return got


def assert_active(base: str, holder: Caller, held: Sequence[str]) -> None:
    for token in held:
        if holder.post(base, "/oauth/introspect", proof=False, token=token)["active"] is not True:
            raise SystemExit("a token that should be active is not")


def one_round(server: Served, job: Mapping[str, Any], asked: int) -> float:
    """One side, one round: requests per second of server CPU."""
    mine = {"host": HOST, "port": server.port, "connections": CONNECTIONS, **job}
    mine["requests"] = max(50, int(asked * server.side.share))
    command = [sys.executable, "-m", "bench.load"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        load.stdin.write(json.dumps(mine) + "\n")
        load.stdin.flush()
        if load.stdout.readline().strip() != "ready":
            raise SystemExit("the load did not start")
        before = server.cpu()
        load.stdin.write("go\n")
        load.stdin.flush()
        result = json.loads(load.stdout.readline())
        used = server.cpu() - before
    if result["wrong"]:
        raise SystemExit(f"{server.side.name}: {result['wrong']}")
    return float(result["requests"] / used)


def sides(folder: Path, issuer_port: int) -> list[Side]:
    issuer = f"http://{HOST}:{issuer_port}"
    house = {"REGARD_ISSUER": issuer}
    bare = {"REGARD_BENCH_DATABASE": str(folder / "bare.sqlite")}
    ours = {name: {**house, "REGARD_DATA_DIR": str(folder / name)} for name in ("lane", "full")}
    return [
        Side("lane", "app.wsgi:application", 1, {**ours["lane"], "REGARD_FAST_LANE": "yes"}, ours=True),
        Side("full", "app.wsgi:application", 0.15, {**ours["full"], "REGARD_FAST_LANE": "no"}, ours=True),
        Side("bare Flask POST", "bench.floors:flask_post", 1.5, bare, ours=False),
        Side("bare WSGI lookup", "bench.floors:wsgi_lookup", 3, bare, ours=False),
        Side("bare WSGI, checked", "bench.floors:wsgi_checked", 1.5, bare, ours=False),
    ]


def measure(requests: int, rounds: int, people: int) -> dict[str, float]:
    """Requests per second of server CPU, by side: the median of the rounds."""
    with tempfile.TemporaryDirectory(prefix="regard-bench-") as name, ExitStack() as stack:
        folder, port = Path(name), free_port()
        issuer = f"http://{HOST}:{port}"
        staged = stage(folder / "lane", people, issuer)
        shutil.copytree(folder / "lane", folder / "full")
        reader, holder = (Caller(each, staged["keys"][each], issuer) for each in ("bench-reader", "bench-holder"))
        all_sides = sides(folder, port)
        up = [stack.enter_context(served(side, folder / f"{side.name}.log")) for side in all_sides if side.ours]
        held = {each.side.name: tokens(f"http://{HOST}:{each.port}", reader, staged["consents"]) for each in up}
        for each in up:
            assert_active(f"http://{HOST}:{each.port}", holder, held[each.side.name])
        _copy(folder / "lane" / "records.sqlite", folder / "bare.sqlite")
        up += [stack.enter_context(served(side, folder / f"{side.name}.log")) for side in all_sides if not side.ours]
        rates: dict[str, list[float]] = {each.side.name: [] for each in up}
        first = held["lane"]
        for turn in range(rounds):
            if turn:  # tokens live five minutes; a consent gives at most four a day (RTS art. 36(5)(b))
                ours = [each for each in up if each.side.ours]
                held = {s.side.name: tokens(f"http://{HOST}:{s.port}", reader, staged["consents"]) for s in ours}
            for each in up:
                job = {"issuer": issuer, "seed": turn, "client": "bench-holder", "key": staged["keys"]["bench-holder"]}
                job["tokens"] = held.get(each.side.name, first)
                rates[each.side.name].append(one_round(each, job, requests))
        for each in up:
            if each.side.ours:
                assert_active(f"http://{HOST}:{each.port}", holder, held[each.side.name])
    return {name: statistics.median(each) for name, each in rates.items()}


def _copy(source: Path, target: Path) -> None:
    with sqlite3.connect(source) as read, sqlite3.connect(target) as write:
        read.backup(write)
        write.execute("PRAGMA journal_mode=WAL")


def rows(requests: int = 2000, rounds: int = 3, people: int = 40) -> list[Row]:
    """The figures of this bench."""
    rate = measure(requests, rounds, people)
    priced = "the caller proves itself by private_key_jwt: one ES256 signature and one durable single use a call"
    unit = "req / CPU s"
    lane, full = rate["lane"], rate["full"]
    return [
        against(
            "introspection, fast lane",
            lane,
            unit,
            floor=("bare WSGI lookup", rate["bare WSGI lookup"]),
            at_least=0.5,
            note=priced,
        ),
        against(
            "introspection, fast lane",
            lane,
            unit,
            floor=("bare WSGI, checked", rate["bare WSGI, checked"]),
            at_least=0.5,
        ),
        against("introspection, fast lane", lane, unit, floor=("bare Flask POST", rate["bare Flask POST"])),
        against("introspection, Flask door", full, unit, floor=("bare Flask POST", rate["bare Flask POST"])),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3, choices=(1, 2, 3, 4))
    parser.add_argument("--people", type=int, default=60)
    asked = parser.parse_args()
    print(printed(rows(asked.requests, asked.rounds, asked.people)))


if __name__ == "__main__":
    main()

"""A PostgreSQL cluster of the tests' own: on a free port, in a temporary folder, gone afterwards.

Hundreds of databases are copied and dropped in a run; in memory, where there is plenty, each costs a fifth of what it
costs on a disk.
PostgreSQL refuses to run as root, so as root the cluster runs as the `postgres` account that its package makes.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 6 << 30
"""Bytes to spare, many times what a cluster takes."""


def _place() -> str | None:
    """Return a folder in memory, None where memory is scarce or has no folder."""
    if not os.access(MEMORY, os.W_OK):
        return None
    spare = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return str(MEMORY) if min(spare, shutil.disk_usage(MEMORY).free) > ROOM else None


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name))
    if found:
        return found[-1]
    initdb = shutil.which("initdb")
    if initdb is None:
        raise RuntimeError("PostgreSQL is not installed; `make test` installs it")
    return Path(initdb).resolve().parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Cluster:
    """One running cluster; `url(database)` names a database in it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="regard-pg-", dir=_place()))
        self.port = free_port()
        self._bin = _binaries()
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")

    def _run(self, *command: str) -> None:
        as_account = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*as_account, *command], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)

    def start(self) -> None:
        data = str(self.folder / "data")
        self._run(str(self._bin / "initdb"), "-D", data, "-U", "regard", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = (
            f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off -c full_page_writes=off "
            "-c max_connections=200 -c shared_buffers=64MB -c max_wal_size=256MB -c log_min_messages=fatal"
        )
        log = str(self.folder / "log")
        self._run(str(self._bin / "pg_ctl"), "-D", data, "-l", log, "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run(str(self._bin / "pg_ctl"), "-D", str(self.folder / "data"), "-m", "immediate", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://regard@127.0.0.1:{self.port}/{database}"

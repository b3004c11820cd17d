"""A process that carries out a history of a vault and may be killed anywhere in it (for test_histories).

Reads one JSON case a line from standard input and forks for each; prints the child's exit as one line. A history is a
list of operations; what each came to is appended to a file, and a later child goes on after the last one written
there, so that the operation in which a child was killed is carried out again, as whoever asked for it would.
A child counts the moments at which it could die (around every commit, every write of a keyring slot, every checkpoint,
every tombstone) and dies by SIGKILL at the one it is told. The hooks that kill are here and nowhere in the product.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, text

from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore, SqlKeyTransaction
from app.vault.core import Vault
from app.vault.errors import PartitionBusy, VaultError
from app.vault.keys import Basis, Keep, KeyClass, Scope, Selector, Target
from app.vault.ports import ErasureState
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstones
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault

Op = dict[str, Any]
PER_PARTITION = 4
WORKERS = ("host:0", "host:1")
ORDER = [each.value for each in ErasureState if each is not ErasureState.SCHEDULED]
_PATIENCE = 60.0


def scope_of(named: Sequence[str]) -> Scope:
    """A scope from [subject, holder, category, basis, life, class]."""
    subject, holder, category, basis, life, key_class = named
    return Scope(CONTROLLER, subject, holder, category, Basis(basis), life, KeyClass(key_class))


def secret(number: int) -> bytes:
    """What record `number` says."""
    return f"what record {number} says".encode()


def selector_of(named: dict[str, str]) -> Selector:
    basis = Basis(named["basis"]) if "basis" in named else None
    return Selector(**{**named, "basis": basis})  # type: ignore[arg-type]


def target_of(named: dict[str, Any]) -> Target:
    keep = tuple(Keep(selector_of(each), date(2031, 1, 1), "law") for each in named["keep"])
    classes = tuple(KeyClass(each) for each in named["classes"])
    return Target(CONTROLLER, named["subject"], tuple(map(selector_of, named["only"])), keep, classes)


class Fuse:
    """Counts moments; burns down at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.passed = at, 0

    def tick(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def wire(fuse: Fuse) -> None:
    """Lay the fuse along everything that leaves a trace outside this process."""
    writing = SqlKeyStore.writing

    @contextmanager
    def watched(self: SqlKeyStore) -> Iterator[SqlKeyTransaction]:
        fuse.tick()
        with writing(self) as tx:
            yield tx
            fuse.tick()
        fuse.tick()

    SqlKeyStore.writing = watched  # type: ignore[method-assign]
    for owner, name in ((SqlKeyStore, "checkpoint"), (FileKeyring, "_write"), (Tombstones, "append")):
        setattr(owner, name, _around(getattr(owner, name), fuse))


def _around(real: Callable[..., Any], fuse: Fuse) -> Callable[..., Any]:
    def watched(*given: Any) -> Any:
        fuse.tick()
        answer = real(*given)
        fuse.tick()
        return answer

    return watched


class Run:
    """One child: two workers' vaults on one key store, and the history so far."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder, self.clock = url, folder, SetClock()
        self.engines: list[Engine] = []
        self.vaults = [self._vault(worker) for worker in WORKERS]
        self.standing: Connection | None = None

    def _vault(self, worker: str) -> Vault:
        engine = open_engine(self.url, keys=True)
        self.engines.append(engine)
        return open_vault(engine, self.folder, self.clock, worker=worker, per_partition=PER_PARTITION)

    def go(self, program: Sequence[Op]) -> None:
        path = self.folder / "outcomes"
        done = len(outcomes(self.folder))
        for op in program[:done]:
            self._catch_up(op)
        with path.open("ab") as told:
            # What a kill left half written is not an outcome.
            told.truncate(sum(len(line) + 1 for line in whole_lines(path)))
            for op in program[done:]:
                told.write(json.dumps(getattr(self, op["do"])(op)).encode() + b"\n")
                told.flush()

    def _catch_up(self, op: Op) -> None:
        """The time that passed, and the reader that stands open, belong to this process."""
        if op["do"] in ("pass_", "reader"):
            getattr(self, op["do"])(op)

    def create(self, op: Op) -> str:
        return self._told(lambda: self.vaults[op["worker"]].create_subjects(CONTROLLER, op["subjects"]))

    def seal(self, op: Op) -> list[str]:
        """The sealed record in hex, or the code of the refusal."""
        vault = self.vaults[op["worker"]]
        wanted = [(scope_of(named), secret(number)) for number, named in op["records"]]
        return [self._told(partial(vault.seal, scope, "r", said)) for scope, said in wanted]

    def lease(self, op: Op) -> str:
        return self._told(lambda: self.vaults[op["worker"]].lease(scope_of(op["scope"]), op["seconds"]) and "lent")

    def shred(self, op: Op) -> str:
        targets = [target_of(each) for each in op["targets"]]
        return self._told(lambda: self.vaults[op["worker"]].shred(op["erasure"], targets) and "asked")

    def advance(self, op: Op) -> str:
        """Up to a state, so that doing it again changes nothing."""
        erasures = self.vaults[op["worker"]].erasures

        def up_to() -> str:
            state = erasures.state(op["erasure"])
            while ORDER.index(state) < ORDER.index(op["state"]):
                before, state = state, erasures.advance(op["erasure"])
                if state == before:
                    break
            return state.value

        return self._told(up_to)

    def pass_(self, op: Op) -> str:
        self.clock.pass_(seconds=op["seconds"])
        return "passed"

    def reader(self, op: Op) -> str:
        """Somebody looks at the key store and does not go away, or goes."""
        if self.standing is not None and not op["open"]:
            self.standing.close()
            self.standing = None
        elif self.standing is None and op["open"]:
            self.standing = self.engines[1].connect().execution_options(regard_read=True)
            self.standing.execute(text("SELECT count(*) FROM subject_keys")).scalar_one()
        return "reader"

    def race(self, op: Op) -> list[str]:
        """Two workers drive every erasure at once while a third hand makes subjects and seals."""
        with ThreadPoolExecutor(3) as pool:
            pending = self.vaults[0].erasures.pending()
            driving = [pool.submit(self._drive_all, number, pending) for number in range(len(WORKERS))]
            made = pool.submit(lambda: [self.create({**op, "worker": 0}), *self.seal({**op, "worker": 0})])
            for each in driving:
                each.result()
            return list(made.result())

    def _drive_all(self, number: int, ids: Sequence[str]) -> None:
        until, erasures = time.monotonic() + _PATIENCE, self.vaults[number].erasures
        left = set(ids) & set(erasures.pending())
        while left:
            for each in sorted(left):
                try:
                    left -= (
                        {each} if erasures.drive(each) in (ErasureState.CERTIFIED, ErasureState.REQUESTED) else set()
                    )
                except PartitionBusy:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.002)

    def finish(self, op: Op) -> str:
        """Drive everything to the end, or to where leases have to end first."""
        self._drive_all(op["worker"], self.vaults[0].erasures.pending())
        return "left" if self.vaults[0].erasures.pending() else "done"

    @staticmethod
    def _told(work: Callable[[], Any]) -> str:
        try:
            answer = work()
        except VaultError as refused:
            return refused.code
        return answer.hex() if isinstance(answer, bytes) else str(answer)


def whole_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    whole = path.read_bytes()
    return whole[: whole.rfind(b"\n") + 1].splitlines()


def outcomes(folder: Path) -> list[Any]:
    """What the operations so far came to."""
    return [json.loads(line) for line in whole_lines(folder / "outcomes")]


def work(case: dict[str, Any]) -> None:
    fuse, folder = Fuse(case["dies_at"]), Path(case["folder"])
    wire(fuse)
    Run(case["url"], folder).go(json.loads(Path(case["program"]).read_text(encoding="utf-8")))
    (folder / "moments").write_text(str(fuse.passed), encoding="utf-8")


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            work(json.loads(line))
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()

"""Random histories of a vault, killed anywhere and taken up again: the same end as without (vault.md sections 5 and 8).

A history is made from a seed: people, records in several holders, categories, bases, life buckets and key classes,
leases, partial and whole shreds with and without retained keys, erasures that share partitions, subjects made during a
re-wrap, two workers on one partition, a reader that stands open. It is carried out three times: in the head
(`Foretold`, which knows no keys), by a process nobody disturbs, and by processes killed by SIGKILL one after another.
All three must agree on who opens what. At every kill the key store is copied; with today's keyring no copy may open
what was erased, whatever of the journal an attacker strikes out of it; with that day's keyring it opens all it has.

A few seeds by default; `make prove` (REGARD_TEST_PROVE=1) runs 200 on each database.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from app.sdk.sealed import key_id_of
from app.store.engine import open_engine
from app.vault.core import Vault
from app.vault.errors import Erased, VaultError
from app.vault.keys import Scope
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstones
from tests.databases import postgres_database, postgres_url, sqlite_database
from tests.mechanism.history_worker import Op, outcomes, scope_of, secret, target_of
from tests.mechanism.vaults import SetClock, open_vault
from tests.waiting import PATIENCE

PROVE = os.environ.get("REGARD_TEST_PROVE") == "1"
SEEDS = range(200 if PROVE else 3)
HOLDERS, CATEGORIES, LIVES = ("bank", "broker"), ("accounts.balances", "loans", "identity"), ("", "2026-03")
CLASSES = ("data", "data", "data", "pool", "audit")
STATES = ("caches_evicted", "key_row_removed", "rewrapped", "verified", "committed", "old_root_destroyed", "certified")


# Making a history


class Author:
    """Writes one history; every choice comes from the seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.program: list[Op] = []
        self.people: list[str] = []
        self.places: list[list[str]] = []
        self.records = self.erasures = 0

    def write(self) -> list[Op]:
        self._create(self.random.randint(4, 7))
        self._seal(10)
        moves = [self._create, self._seal, self._lease, self._shred, self._advance, self._pass, self._reader]
        weights = [2, 4, 2, 4, 7, 1, 1]
        for move in self.random.choices(moves, weights, k=self.random.randint(12, 20)):
            move()
        if self.random.random() < 0.6:
            self._race()
            for move in self.random.choices(moves, weights, k=self.random.randint(0, 6)):
                move()
        self._add(do="reader", open=False)
        self._add(do="finish")
        self._add(do="pass_", seconds=60)
        self._add(do="finish")
        return self.program

    def _add(self, **op: Any) -> None:
        self.program.append({"worker": self.random.randrange(2), **op})

    def _new(self, count: int) -> list[str]:
        born = [f"sub_{len(self.people) + number}" for number in range(count)]
        self.people += born
        return born

    def _create(self, count: int = 1) -> None:
        self._add(do="create", subjects=self._new(count))

    def _place(self) -> list[str]:
        if self.places and self.random.random() < 0.4:
            return self.random.choice(self.places)
        pick = self.random.choice
        place = [pick([*self.people, *self.people, "nobody"]), pick(HOLDERS), pick(CATEGORIES)]
        place += [pick(("consent", "other")), pick(LIVES), pick(CLASSES)]
        self.places.append(place)
        return place

    def _drawn(self, count: int) -> list[tuple[int, list[str]]]:
        self.records += count
        return [(self.records - number, self._place()) for number in range(count)]

    def _seal(self, count: int = 3) -> None:
        self._add(do="seal", records=self._drawn(count))

    def _lease(self) -> None:
        self._add(do="lease", scope=self._place(), seconds=self.random.randint(1, 60))

    def _shred(self) -> None:
        self.erasures += 1
        people = self.random.sample(self.people, self.random.choice((1, 1, 2, 3)))
        if self.random.random() < 0.05:
            people.append("nobody")
        self._add(do="shred", erasure=f"era_{self.erasures}", targets=[self._target(each) for each in people])

    def _target(self, subject: str) -> dict[str, Any]:
        shape = self.random.choice(("whole", "whole", "keep", "only", "only"))
        return {
            "subject": subject,
            "only": [self._selector()] if shape == "only" else [],
            "keep": [self._selector()] if shape == "keep" else [],
            "classes": self.random.choice((["data", "pool"], ["data", "pool"], ["data"], ["audit", "data", "pool"])),
        }

    def _selector(self) -> dict[str, str]:
        every = {"holder": HOLDERS, "category": CATEGORIES, "basis": ("consent", "other"), "life": LIVES}
        names = self.random.sample(sorted(every), self.random.choice((1, 1, 2)))
        return {name: self.random.choice(every[name]) for name in names}

    def _advance(self) -> None:
        if self.erasures:
            which = f"era_{self.random.randint(1, self.erasures)}"
            self._add(do="advance", erasure=which, state=self.random.choice(STATES))

    def _pass(self) -> None:
        self._add(do="pass_", seconds=self.random.randint(1, 70))

    def _reader(self) -> None:
        self._add(do="reader", open=self.random.random() < 0.5)

    def _race(self) -> None:
        born = self._new(2)
        self._add(do="race", subjects=born, records=self._drawn(4))


# What must come of it


@dataclass
class Foretold:
    """Who opens what after a history: no keys, no states, no database."""

    people: set[str] = field(default_factory=set)
    alive: set[Scope] = field(default_factory=set)
    closed: set[tuple[str, str]] = field(default_factory=set)
    open: dict[int, Scope] = field(default_factory=dict)
    gone: dict[int, Scope] = field(default_factory=dict)

    def run(self, program: Sequence[Op]) -> list[Any]:
        return [getattr(self, op["do"], lambda _op: None)(op) for op in program]

    def create(self, op: Op) -> str:
        self.people |= set(op["subjects"])
        return "None"

    def seal(self, op: Op) -> list[str]:
        said = []
        for number, named in op["records"]:
            place = scope_of(named)
            said.append(self._touched(place))
            if said[-1] == "sealed":
                self.open[number] = place
        return said

    def lease(self, op: Op) -> str:
        place = scope_of(op["scope"])
        if place.key_class != "data":
            return "not_leasable"
        return self._touched(place).replace("sealed", "lent")

    def race(self, op: Op) -> list[str]:
        return [self.create(op), *self.seal(op)]

    def _touched(self, place: Scope) -> str:
        if place in self.alive:
            return "sealed"
        if (place.subject, place.key_class) in self.closed:
            return "erased"
        if place.subject not in self.people:
            return "unknown_subject"
        self.alive.add(place)
        return "sealed"

    def shred(self, op: Op) -> str:
        targets = [target_of(each) for each in op["targets"]]
        if any(each.subject not in self.people for each in targets):
            return "unknown_subject"
        for target in targets:
            mine = {p for p in self.alive if p.subject == target.subject and p.key_class in target.classes}
            kept = {p for p in mine if any(keep.selector.takes(p) for keep in target.keep)}
            asked = {p for p in mine if not target.only or any(each.takes(p) for each in target.only)}
            self.alive -= asked - kept
            if not target.only:
                self.closed |= {(target.subject, each) for each in target.classes}
        self.gone |= {number: place for number, place in self.open.items() if place not in self.alive}
        self.open = {number: place for number, place in self.open.items() if number not in self.gone}
        return "asked"


def plain(told: Any) -> Any:
    """An outcome without the random bytes of a sealed record."""
    if isinstance(told, list):
        return [plain(each) for each in told]
    return "sealed" if told.startswith("524744") else told


def sealed_in(program: Sequence[Op], told: Sequence[Any]) -> dict[int, bytes]:
    """The sealed records by their number."""
    found = {}
    for op, said in zip(program, told, strict=True):
        answers = said[-len(op["records"]) :] if "records" in op else []
        found |= {
            n: bytes.fromhex(each)
            for (n, _), each in zip(op.get("records", []), answers, strict=True)
            if plain(each) == "sealed"
        }
    return found


# Carrying it out


@pytest.fixture(scope="module")
def historian() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.mechanism.history_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def run(historian: subprocess.Popen[str], **case: object) -> int:
    assert historian.stdin is not None
    assert historian.stdout is not None
    historian.stdin.write(json.dumps(case) + "\n")
    historian.stdin.flush()
    ended = int(historian.stdout.readline())
    assert ended in (0, -signal.SIGKILL)
    return ended


@dataclass
class Place:
    """A key store of one backend, its folder, and the copies taken of it."""

    backend: str
    url: str
    folder: Path
    copies: list[tuple[str, Path]] = field(default_factory=list)

    @property
    def case(self) -> dict[str, str]:
        return {"url": self.url, "folder": str(self.folder)}

    def copy(self, stack: ExitStack) -> None:
        """Copy database and keyring as they lie there: nobody has them open."""
        into = self.folder / f"copy_{len(self.copies)}"
        into.mkdir()
        shutil.copy(self.folder / "keyring", into / "keyring")
        (into / "keyring").chmod(0o600)
        copied = sqlite_copy(self.folder, into) if self.backend == "sqlite" else stack.enter_context(pg_copy(self.url))
        self.copies.append((copied, into))


@contextmanager
def placed(backend: str, folder: Path) -> Iterator[Place]:
    folder.mkdir()
    if backend == "sqlite":
        yield Place(backend, sqlite_database(folder / "keys.sqlite", "keys"), folder)
        return
    with postgres_database("keys") as url:
        yield Place(backend, url, folder)


def sqlite_copy(folder: Path, into: Path) -> str:
    for tail in ("", "-wal"):
        if (folder / f"keys.sqlite{tail}").exists():
            shutil.copy(folder / f"keys.sqlite{tail}", into)
    return f"sqlite:///{into / 'keys.sqlite'}"


@contextmanager
def pg_copy(url: str) -> Iterator[str]:
    source, name = url.rsplit("/", 1)[1], f"c_{secrets.token_hex(8)}"
    server = create_engine(postgres_url("postgres"), isolation_level="AUTOCOMMIT", pool_size=1)
    with server.connect() as connection:
        until = time.monotonic() + PATIENCE
        # The server notices that a killed client is gone only once it has done what it was told.
        asked = text("SELECT count(*) FROM pg_stat_activity WHERE datname = :name")
        while connection.execute(asked, {"name": source}).scalar_one():
            assert time.monotonic() < until
            time.sleep(0.01)
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY file_copy"))
        yield postgres_url(name)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


# Looking at the end


@contextmanager
def looked_at(url: str, folder: Path, *, keyring: Path | None = None) -> Iterator[tuple[Vault, Engine]]:
    """A service started anew on this key store; `keyring`: another folder's."""
    engine, clock = open_engine(url, keys=True), SetClock()
    clock.pass_(days=1)
    ring = FileKeyring((keyring or folder) / "keyring", clock=clock, random=os.urandom)
    yield open_vault(engine, folder, clock, provider=ring), engine
    engine.dispose()


def refusal(vault: Vault, place: Scope, number: int, record: bytes) -> str:
    """The code of the refusal; `opens` when it opens and says what it should."""
    try:
        said = vault.open(place, "r", record)
    except VaultError as refused:
        return refused.code
    return "opens" if said == secret(number) else "something else"


def summary(place: Place, program: Sequence[Op], foretold: Foretold) -> dict[str, Any]:
    """The end state without what is random; everything that can be said of it alone is checked here."""
    told = outcomes(place.folder)
    records = sealed_in(program, told)
    assert set(records) == set(foretold.open) | set(foretold.gone)
    with looked_at(place.url, place.folder) as (vault, engine):
        for number, scope in foretold.open.items():
            assert refusal(vault, scope, number, records[number]) == "opens", scope
            if scope.key_class == "data":
                assert vault.lease(scope, key_id=key_id_of(records[number])).key
        for number, scope in foretold.gone.items():
            assert refusal(vault, scope, number, records[number]) == "erased", scope
            if scope.key_class == "data":
                with pytest.raises(Erased):
                    vault.lease(scope, key_id=key_id_of(records[number]))
        assert vault.erasures.pending() == ()
        rows = counts(engine)
        assert rows["left over"] == 0, "no claim, no staged key, no probe"
        assert rows["live data keys"] == len(foretold.alive)
        spare = live_roots(place.folder) - rows["partitions"]
        stones = Tombstones(place.folder / "tombstones").read()
        made = {
            each["erasure"]: vault.erasures.certificates(each["erasure"])
            for each in program
            if "targets" in each and asked(program, told, each["erasure"])
        }
        for each in (each for several in made.values() for each in several):
            sound(each, place.backend)
        fresh = {name: newly(vault, name) for name in sorted({*foretold.people, "nobody"})}
    return {
        "told": [plain(each) for each in told],
        "rows": {name: rows[name] for name in rows if name not in ("partitions", "places")},
        "stones": sorted((s.erasure, s.at, s.subject, s.key_class, s.whole, len(s.keys)) for s in stones),
        "certificates": {name: [outline(each) for each in several] for name, several in made.items()},
        "exact": {name: [exactly(each) for each in several] for name, several in made.items()},
        "places": rows["places"],
        "spare": spare,
        "fresh": fresh,
    }


def asked(program: Sequence[Op], told: Sequence[Any], erasure: str) -> bool:
    return any(
        op.get("erasure") == erasure and op["do"] == "shred" and said == "asked"
        for op, said in zip(program, told, strict=True)
    )


def newly(vault: Vault, name: str) -> list[str]:
    """Whether a key for something new can be had, in each class."""
    said = []
    for key_class in ("data", "pool", "audit"):
        try:
            vault.dek_for(scope_of([name, "bank", "new", "other", "", key_class]))
            said.append("made")
        except VaultError as refused:
            said.append(refused.code)
    return said


def counts(engine: Engine) -> dict[str, int]:
    asked = {
        "subject_keys": "SELECT count(*) FROM subject_keys",
        "live data keys": "SELECT count(*) FROM data_keys",
        "destroyed_keys": "SELECT count(*) FROM destroyed_keys",
        "erased_subjects": "SELECT count(*) FROM erased_subjects",
        "partitions": "SELECT count(*) FROM partitions",
        "places": "SELECT taken FROM allotments",
        "left over": "SELECT (SELECT count(*) FROM partitions WHERE claimed_by IS NOT NULL) + "
        "(SELECT count(*) FROM subject_keys WHERE staged IS NOT NULL) + (SELECT count(*) FROM erasure_probes) + "
        "(SELECT count(*) FROM data_keys WHERE doomed_by IS NOT NULL)",
    }
    with engine.connect() as connection:
        return {name: connection.execute(text(query)).scalar_one() for name, query in asked.items()}


def live_roots(folder: Path) -> int:
    content = (folder / "keyring").read_bytes()
    return sum(content[at] == 1 for at in range(128, len(content), 128))


def sound(certificate: Any, backend: str) -> None:
    """What every certificate has to say, whatever happened on the way."""
    assert certificate["statement"] == "keys destroyed"
    assert certificate["irrevocable_at"] is not None
    for site in certificate["partitions"]:
        assert site["generation_after"] == site["generation_before"] + 1
        assert site["old_root"]["state"] == "destroyed"
        assert site["inventory_before"]
        assert site["inventory_after"]
    scan = certificate["scan"]
    assert (scan["not_searched"] is None) == (backend == "sqlite")
    assert scan["traces_found"] == 0 or not scan["log_truncated"]


def outline(certificate: Any) -> Any:
    """What two runs share even when workers raced or a kill cost a subject its place in a partition."""
    keys = [
        (each["class"], each["whole"], sorted(map(keyless, each["data_keys"]))) for each in certificate["destroyed"]
    ]
    said = {name: certificate[name] for name in ("subject", "requested_at", "does_not_prove", "statement")}
    return [said, keys, sorted(map(keyless, certificate["retained"]))]


def exactly(certificate: Any) -> Any:
    """All of a certificate, save random ids and what depends on who else had the files open."""
    moments = {name: certificate[name] for name in certificate if name.endswith(("_at", "_by"))}
    unlike = {"inventory_before", "inventory_after", "old_root"}
    sites = [{name: site[name] for name in site if name not in unlike} for site in certificate["partitions"]]
    return [outline(certificate), moments, sites, sorted(certificate)]


def keyless(key: Any) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in key.items() if name != "key")


STRUCK_OUT = (
    "UPDATE data_keys SET doomed_by = NULL",
    "DELETE FROM destroyed_keys",
    "DELETE FROM erased_subjects",
)
BROUGHT_FORWARD = (
    "UPDATE subject_keys SET wrapped = staged WHERE staged IS NOT NULL",
    (
        "UPDATE partitions SET generation = s.new_generation, root = s.new_root, epoch_wrapped = s.new_epoch_wrapped "
        "FROM erasure_sites AS s WHERE s.erasure_id = partitions.claimed_by AND s.key_class = partitions.key_class "
        "AND s.partition = partitions.number AND s.new_root IS NOT NULL"
    ),
)


def strike(engine: Engine, statements: Sequence[str]) -> None:
    with engine.begin() as connection:
        for each in statements:
            connection.execute(text(each))


def opened_by_a_thief(
    copy: str, folder: Path, keyring: Path, records: dict[int, bytes], places: dict[int, Scope]
) -> dict[int, str]:
    """What each record says to somebody who holds a copy of the key store and strikes the journal out of it."""
    with looked_at(copy, folder, keyring=keyring) as (vault, engine):
        strike(engine, STRUCK_OUT)
        return {number: refusal(vault, places[number], number, records[number]) for number in places}


# The tests


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_anywhere_it_ends_alike(
    historian: subprocess.Popen[str], backend: str, tmp_path: Path, seed: int
) -> None:
    program, random = Author(seed).write(), Random(-seed - 1)
    script = tmp_path / "program"
    script.write_text(json.dumps(program), encoding="utf-8")
    foretold = Foretold()
    expected = foretold.run(program)
    with ExitStack() as stack:
        calm = stack.enter_context(placed(backend, tmp_path / "calm"))
        assert run(historian, **calm.case, program=str(script), dies_at=0) == 0
        moments = int((calm.folder / "moments").read_text())
        dies_at = random.randint(1, moments)
        killed = stack.enter_context(placed(backend, tmp_path / "killed_0"))
        # Workers that race wait for each other more or less often: a moment of one run may come too late for the next.
        while run(historian, **killed.case, program=str(script), dies_at=dies_at) == 0:
            dies_at = dies_at // 2 or 1
            killed = stack.enter_context(placed(backend, tmp_path / f"killed_{dies_at}"))
        killed.copy(stack)
        for _ in range(random.choice((0, 1, 2))):
            if run(historian, **killed.case, program=str(script), dies_at=random.randint(1, moments)) == 0:
                break
            killed.copy(stack)
        assert run(historian, **killed.case, program=str(script), dies_at=0) == 0
        ends = [summary(place, program, foretold) for place in (calm, killed)]
        for end in ends:
            assert end["told"][-1] == "done"
            said = [said for said, want in zip(end["told"], expected, strict=True) if want is not None]
            assert said == [want for want in expected if want is not None]
        agree(program, *ends)
        thieves(killed, sealed_in(program, outcomes(killed.folder)), foretold)


def agree(program: Sequence[Op], calm: dict[str, Any], killed: dict[str, Any]) -> None:
    raced = any(op["do"] == "race" for op in program)
    assert calm["spare"] == 0, "one root for each partition, none forgotten"
    # A kill between the making of a root and that of its partition may leave a root that wraps nothing.
    assert killed["spare"] == 0 or calm["places"] < killed["places"]
    for name, expected in calm.items():
        # Who comes first in a race is open, and a kill may cost a place in a partition: then the outline has to agree.
        if name in ("exact", "places", "spare") and (raced or calm["places"] != killed["places"]):
            continue
        assert killed[name] == expected, name


def thieves(place: Place, records: dict[int, bytes], foretold: Foretold) -> None:
    places = {**foretold.open, **foretold.gone}
    for copy, folder in place.copies:
        then = opened_by_a_thief(copy, folder, folder, records, places)
        assert set(then.values()) <= {"opens", "unknown_key"}, "with that day's keyring it opens whatever it has"
        put_back(copy, place.url)
        for url, statements in ((copy, ()), (copy, BROUGHT_FORWARD), (place.url, ())):
            with looked_at(url, folder) as (_, engine):
                strike(engine, statements)
            today = opened_by_a_thief(url, folder, place.folder, records, foretold.gone)
            assert "opens" not in today.values(), "an erased key is of use"
            assert "something else" not in today.values()


def put_back(copy: str, live: str) -> None:
    """Put the erased data keys of a copy back under today's subject keys, or under the copy's where there is none."""
    old, new = open_engine(copy, keys=True), open_engine(live, keys=True)
    with old.connect() as source, new.begin() as target:
        there = set(target.execute(text("SELECT id FROM data_keys")).scalars())
        parents = set(target.execute(text("SELECT id FROM subject_keys")).scalars())
        for table, column in (("subject_keys", "id"), ("data_keys", "subject_key_id")):
            for row in source.execute(text(f"SELECT * FROM {table}")).mappings():
                if row["id"] not in there | parents:
                    _put_back(target, table, dict(row), orphan=row[column] not in parents)
    old.dispose()
    new.dispose()


def _put_back(target: Connection, table: str, row: dict[str, Any], *, orphan: bool) -> None:
    named = "controller = :controller AND subject = :subject AND key_class = :key_class"
    if table == "data_keys":
        named += " AND holder = :holder AND category = :category AND basis = :basis AND life = :life"
        if orphan:
            asked = text(
                "SELECT id FROM subject_keys WHERE controller = :controller AND subject = :subject "
                "AND key_class = :key_class"
            )
            row["subject_key_id"] = target.execute(asked, row).scalar_one()
        target.execute(text(f"DELETE FROM data_keys WHERE {named}"), row)
    elif target.execute(text(f"SELECT 1 FROM subject_keys WHERE {named}"), row).first():
        return
    target.execute(
        text(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(':' + name for name in row)})"), row
    )

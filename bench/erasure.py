"""Erasure against its figures (vault.md section 7): one subject, a hundred at once, and making subjects' keys.

Figures to reach, physical, file keyring, SQLite: one subject among 1,000,000 within 1 s, however many records it has; a
batch of 100 within 10 s; the keys of 100,000 subjects within 10 s. This one calls the vault itself, because no door
does only that. The floor of each is what the bare library needs in the same run for as many keys: AES-GCM on 32 bytes,
wrapped once where keys are made, unwrapped and wrapped again where a partition is re-wrapped; it writes nothing down,
asks no database and no keyring, verifies nothing and searches no file.

    python -m bench.erasure [--subjects 1000 100000] [--folder FOLDER]

Wall-clock seconds stand beside processor seconds, so that a busy machine or a slow disk is seen as one. Leaves with 1
when a survivor is lost or an erased record opens.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.machine import SystemClock
from app.store.engine import open_engine
from app.store.keystore import SqlKeyStore
from app.store.rows.base import KeysBase
from app.vault.core import Vault
from app.vault.errors import Erased
from app.vault.keys import SUBJECT_CLASSES, Scope, Target
from app.vault.partitions import SUBJECTS_PER_PARTITION
from app.vault.ports import Json
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstones
from bench.table import Row, printed, within, written

CONTROLLER = "ctl_bench"
BATCH = 100
MANY = 10_000
"""Records of the person who has many."""
_ONCE = 20_000


@dataclass(frozen=True)
class Spent:
    """Seconds of the clock on the wall and of the processor."""

    wall: float
    cpu: float


def timed(work: Callable[[], object]) -> Spent:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def digest(document: bytes) -> Mapping[str, Json]:
    return {"alg": "bench-sha256", "value": hashlib.sha256(document).hexdigest()}


def opened(folder: Path) -> Vault:
    """A vault as the embedded mode has it."""
    url = f"sqlite:///{folder / 'keys.sqlite'}"
    engine, clock = open_engine(url, keys=True), SystemClock()
    KeysBase.metadata.create_all(engine)
    ring = FileKeyring.create(folder / "keyring", clock=clock, random=os.urandom)
    return Vault(
        SqlKeyStore(engine),
        ring,
        clock=clock,
        random=os.urandom,
        tombstones=Tombstones(folder / "tombstones"),
        sign=digest,
        worker="bench:0",
    )


def place(subject: str) -> Scope:
    return Scope(CONTROLLER, subject, "bank", "accounts.balances")


def name(number: int) -> str:
    return f"sub_{number:026d}"


class House:
    """A vault with so many subjects, one record of each that matters."""

    def __init__(self, folder: Path, subjects: int) -> None:
        self.vault, self.subjects, self.erasures = opened(folder), subjects, 0
        self.path = folder / "keys.sqlite"
        self.records: dict[str, bytes] = {}

    def fill(self) -> None:
        names = [name(number) for number in range(self.subjects)]
        for at in range(0, self.subjects, _ONCE):
            self.vault.create_subjects(CONTROLLER, names[at : at + _ONCE])

    def with_record(self, subject: str) -> str:
        self.records[subject] = self.vault.seal(place(subject), "rec", subject.encode())
        return subject

    def erase(self, subjects: Sequence[str]) -> Spent:
        """Ask for each by itself, then do all the physical work; the asking is not timed: it waits for nobody."""
        for subject in subjects:
            self.erasures += 1
            self.vault.shred(f"era_{self.erasures}", [Target(CONTROLLER, subject)])
        spent = timed(lambda: self.vault.erasures.drive_all(now=True))
        if self.vault.erasures.pending():
            raise SystemExit("an erasure did not end")
        for subject in subjects:
            self.shut(subject)
        return spent

    def shut(self, subject: str) -> None:
        try:
            self.vault.open(place(subject), "rec", self.records.pop(subject))
        except Erased:
            return
        raise SystemExit("an erased record opens")

    def survivors_open(self) -> None:
        for subject, record in self.records.items():
            if self.vault.open(place(subject), "rec", record) != subject.encode():
                raise SystemExit("a survivor is lost")


def bare_wrap(keys: int) -> Spent:
    """What the library needs to make and wrap so many keys."""
    aead, urandom, label = AESGCM(os.urandom(32)), os.urandom, b"regard.subject" + bytes(24)

    def work() -> None:
        for _ in range(keys):
            nonce = urandom(12)
            aead.encrypt(nonce, urandom(32), label)

    return timed(work)


def bare_rewrap(keys: int) -> Spent:
    """What the library needs to unwrap so many keys and wrap them under another."""
    old, new, urandom, label = AESGCM(os.urandom(32)), AESGCM(os.urandom(32)), os.urandom, b"regard.subject" + bytes(24)
    nonce = urandom(12)
    wrapped = old.encrypt(nonce, urandom(32), label)

    def work() -> None:
        for _ in range(keys):
            new.encrypt(urandom(12), old.decrypt(nonce, wrapped, label), label)

    return timed(work)


@dataclass(frozen=True)
class Figures:
    """One size, measured; `one_much` is the person with many records."""

    subjects: int
    made: Spent
    made_floor: Spent
    one: Spent
    one_much: Spent
    one_floor: Spent
    batch: Spent
    batch_partitions: int
    batch_floor: Spent
    store_bytes: int


def measure(subjects: int, folder: Path) -> Figures:
    """Everything at one size. The people erased lie anywhere, from a seed."""
    house, pick = House(folder, subjects), random.Random(subjects)
    made = timed(house.fill)
    chosen = [house.with_record(name(number)) for number in pick.sample(range(subjects), BATCH + 20)]
    warm, few, much, *others = chosen
    for number in range(MANY):
        house.vault.seal(place(much), f"rec_{number}", b"x")
    house.erase([warm])
    one, one_much = house.erase([few]), house.erase([much])
    batch = house.erase(others[:BATCH])
    house.survivors_open()
    partitions = len({int(each[4:]) // SUBJECTS_PER_PARTITION for each in others[:BATCH]})
    keys = min(subjects, SUBJECTS_PER_PARTITION)
    return Figures(
        subjects,
        made,
        bare_wrap(subjects * len(SUBJECT_CLASSES)),
        one,
        one_much,
        bare_rewrap(keys),
        batch,
        partitions,
        bare_rewrap(keys * partitions),
        house.path.stat().st_size,
    )


def rows_of(found: Figures, *, judged: bool) -> list[Row]:
    """The figures of one size; `judged` where the goal is stated for it."""
    among = f"among {found.subjects:,}"
    size = f"key store {found.store_bytes / 1e6:,.0f} MB"
    return [
        _row(f"keys of {found.subjects:,} subjects", found.made, found.made_floor, 10 if judged else None, "wrapping"),
        _row(f"erase one {among}", found.one, found.one_floor, 1, "re-wrapping", note=size),
        _row(f"erase one with {MANY:,} records {among}", found.one_much, found.one_floor, 1, "re-wrapping"),
        _row(
            f"erase {BATCH} {among}",
            found.batch,
            found.batch_floor,
            10,
            "re-wrapping",
            note=f"{found.batch_partitions} partitions; {found.batch.cpu / BATCH * 1e3:.0f} ms of the processor each",
        ),
    ]


def _row(figure: str, spent: Spent, floor: Spent, most: float | None, what: str, *, note: str = "") -> Row:
    told = f"{spent.cpu:.2f} s of the processor, {spent.cpu / floor.cpu:.1f} times the bare library's {what}"
    noted = f"{told} ({floor.cpu:.3f} s)" + (f"; {note}" if note else "")
    if most is None:
        return Row(figure, spent.wall, "s", note=noted)
    return within(figure, spent.wall, "s", most=most, note=noted)


def rows(sizes: Sequence[int] = (1_000, 100_000), inside: Path | None = None) -> list[Row]:
    """The figures at each size, and how the time of one erasure grows from the smallest to the largest."""
    found = []
    for subjects in sizes:
        with tempfile.TemporaryDirectory(dir=inside) as folder:
            found.append(measure(subjects, Path(folder)))
    least, most = found[0], found[-1]
    growth = Row(
        "growth of one erasure",
        most.one.cpu / least.one.cpu,
        "times",
        note=f"of the processor, from {least.subjects:,} to {most.subjects:,} subjects; a partition is full at "
        f"{SUBJECTS_PER_PARTITION:,}, what grows beyond is the search of the key store's files",
    )
    return [*(row for each in found for row in rows_of(each, judged=each.subjects == 100_000)), growth]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--folder", type=Path, help="where the key stores are made; a temporary folder otherwise")
    given = parser.parse_args()
    found = rows(given.subjects, given.folder)
    print(printed(found))
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"\nwritten to {written(found, Path('var/bench'))}")


if __name__ == "__main__":
    main()

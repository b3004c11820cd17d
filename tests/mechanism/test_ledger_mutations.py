"""Any edit, removal, insertion, swap or truncation in a large bundle is found (issue 3, shows 5).

Each mutation is examined by the real verifier, whole, with no short cut. Examining 100,000 leaves takes over a second,
so that ten thousand files would take hours; `make prove` therefore does three things, in every core:

1. 10,000 mutations, each in a file of its own of 1,000 leaves;
2. 10,000 mutations over 100,000 leaves, a hundred to a file, where each of the hundred must be *named*, at its place:
   to see that something is wrong is not enough;
3. 200 mutations, each in a file of its own of 100,000 leaves.

`make test` does the same over smaller numbers.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from base64 import b64encode
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache

import pytest

from app.ledger.bundle import About, Selection, build_bundle
from app.ledger.checkpoint import NoteSigner
from app.ledger.tree import root
from app.sdk.evidence import Entry, Envelope, Finding, verify_bundle
from tests.mechanism.test_merkle import Memory

PROVE = bool(os.environ.get("REGARD_TEST_PROVE"))
SIGNER = NoteSigner("regard.example/ledger", b"\x07" * 32)
KEY = SIGNER.verifier.text()
AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


class Ledger(Memory):
    """Entries about nothing, most with a payload, some without."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.entries = [_entry(n) for n in range(size)]
        self.append([entry.envelope.leaf_hash() for entry in self.entries])

    def select(self, selection: Selection, size: int) -> list[Entry]:
        return self.entries


def _entry(n: int) -> Entry:
    sealed = hashlib.sha512(n.to_bytes(8, "big")).digest()
    digest, at = hashlib.sha256(sealed).digest(), f"2026-11-21T09:00:00.{n % 1_000_000:06d}Z"
    kind = ("consent.given", "key.leased", "case.received", "token.issued")[n % 4]
    envelope = Envelope(n, f"led_{n:026d}", at, kind, f"cmp_{n % 7}", "atlas", f"aud_{n % 31}", digest)
    return Entry(envelope, None if n % 50 == 49 else sealed)


@dataclass(frozen=True, slots=True)
class Good:
    """A sound bundle, cut so that changing an entry costs nothing: head, one text an entry, tail."""

    head: str
    entries: tuple[str, ...]
    tail: str

    def file(self, entries: list[str] | None = None) -> bytes:
        return f"{self.head}{','.join(self.entries if entries is None else entries)}{self.tail}".encode()


@lru_cache(maxsize=2)
def good(size: int) -> Good:
    ledger = Ledger(size)
    data = build_bundle(ledger, Selection(About.ALL), SIGNER.checkpoint(size, root(ledger, size)), SIGNER, AT).decode()
    head, _, rest = data.partition('"entries":[')
    inside, _, tail = rest.partition('],"format":')
    entries = inside.replace('},{"envelope"', '}\n{"envelope"').split("\n")
    found = Good(head + '"entries":[', tuple(entries), '],"format":' + tail)
    assert len(entries) == size
    assert found.file() == data.encode()
    assert verify_bundle(found.file(), KEY).ok
    return found


# -- one mutation a file -----------------------------------------------------------------------------------------------


class Kind(StrEnum):
    BIT = "a bit flipped"
    BYTE_OUT = "a byte taken out"
    BYTE_IN = "a byte put in"
    EDIT = "a field edited"
    PAYLOAD = "a payload changed"
    REMOVAL = "entries removed"
    INSERTION = "an entry inserted"
    SWAP = "two entries swapped"
    TRUNCATION = "the end cut off"
    CUT = "the file cut off"
    MOVED = "an entry put under another number"


def mutated(of: Good, kind: Kind, source: random.Random) -> bytes:
    if kind in (Kind.BIT, Kind.BYTE_OUT, Kind.BYTE_IN, Kind.CUT):
        return _bytes_changed(of.file(), kind, source)
    entries = list(of.entries)
    n = source.randrange(len(entries))
    m = (n + source.randint(1, max(1, len(entries) - 1))) % len(entries)
    if kind is Kind.EDIT:
        entries[n] = _edited(entries[n], source)
    elif kind is Kind.PAYLOAD:
        entries[n] = _payload_changed(entries[n], source)
    elif kind is Kind.REMOVAL:
        del entries[n : n + source.randint(1, 4)]
    elif kind is Kind.INSERTION:
        entries.insert(m, entries[n])
    elif kind is Kind.SWAP:
        entries[n], entries[m] = entries[m], entries[n]
    elif kind is Kind.MOVED:
        entries[n] = entries[m].replace(f'"seq":{m},', f'"seq":{n},')
    else:
        del entries[-source.randint(1, min(50, len(entries))) :]
    return of.file(entries)


def _bytes_changed(data: bytes, kind: Kind, source: random.Random) -> bytes:
    at = source.randrange(len(data))
    if kind is Kind.BIT:
        return data[:at] + bytes([data[at] ^ (1 << source.randrange(8))]) + data[at + 1 :]
    if kind is Kind.BYTE_OUT:
        return data[:at] + data[at + 1 :]
    if kind is Kind.BYTE_IN:
        return data[:at] + source.choice((b" ", b"\n", b"0", b'"', b"A", b"\x00", b"\xc3")) + data[at:]
    return data[:at]


def _edited(text: str, source: random.Random) -> str:
    value = json.loads(text)
    name = source.choice(("actor", "at", "controller", "digest", "id", "key", "kind", "v", "seq"))
    old = value["envelope"][name]
    if isinstance(old, int):
        value["envelope"][name] = old + source.randint(1, 9)
    elif name == "at":
        value["envelope"][name] = old.replace("2026", "2025")
    elif name == "digest":
        value["envelope"][name] = b64encode(source.randbytes(32)).decode()
    else:
        value["envelope"][name] = old + "x"
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _payload_changed(text: str, source: random.Random) -> str:
    value = json.loads(text)
    other = [None, b64encode(source.randbytes(64)).decode()]
    value["sealed"] = other[1] if value["sealed"] is None else source.choice(other)
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def singles(size: int, seed: int, count: int) -> tuple[int, list[str]]:
    """Return how many mutations were examined, and a line for each that was missed."""
    source, base, missed = random.Random(seed), good(size), []
    kinds, sound = list(Kind), good(size).file()
    done = 0
    while done < count:
        kind = kinds[done % len(kinds)]
        bad = mutated(base, kind, source)
        if bad == sound:
            continue
        done += 1
        report = verify_bundle(bad, KEY)
        if report.ok or not all(fault.sentence for fault in report.faults):
            missed.append(f"{kind} ({seed}, number {done})")
    return done, missed


# -- a hundred mutations a file, each to be named ----------------------------------------------------------------------

NAMED = {
    Kind.EDIT: Finding.EDITED,
    Kind.PAYLOAD: Finding.EDITED,
    Kind.REMOVAL: Finding.REMOVED,
    Kind.INSERTION: Finding.INSERTED,
    Kind.SWAP: Finding.REORDERED,
}


def together(size: int, seed: int, count: int) -> tuple[int, list[str]]:
    """Do `count` mutations in one file, at entries far from one another; each must be named, and nothing else."""
    source, base = random.Random(seed), good(size)
    places = source.sample(range(size // 3), count)
    entries: list[list[str]] = [[text] for text in base.entries]
    due: dict[Finding, set[int]] = {finding: set() for finding in NAMED.values()}
    for number, place in enumerate(places):
        kind = list(NAMED)[number % len(NAMED)]
        due[NAMED[kind]] |= _mutate(entries, kind, place * 3, source)
    report = verify_bundle(base.file([text for texts in entries for text in texts]), KEY)
    named: dict[Finding, set[int]] = {finding: set() for finding in NAMED.values()}
    for fault in report.faults:
        named.setdefault(fault.finding, set()).update(fault.sequences)
    return count, [f"{f}: {sorted(due.get(f, set()) ^ named[f])[:5]} ({seed})" for f in named if due.get(f) != named[f]]


def _mutate(entries: list[list[str]], kind: Kind, at: int, source: random.Random) -> set[int]:
    """Change the entry at `at` (and the one behind it, for a swap); return the positions that must be named."""
    if kind is Kind.EDIT:
        value = json.loads(entries[at][0])
        name = source.choice(("actor", "controller", "id", "key", "kind"))
        value["envelope"][name] += "x"
        entries[at] = [json.dumps(value, separators=(",", ":"), sort_keys=True)]
    elif kind is Kind.PAYLOAD:
        entries[at] = [_payload_changed(entries[at][0], source)]
    elif kind is Kind.REMOVAL:
        entries[at] = []
    elif kind is Kind.INSERTION:
        entries[at] = entries[at] * 2
    else:
        entries[at], entries[at + 1] = entries[at + 1], entries[at]
        return {at, at + 1}
    return {at}


# -- what is run -------------------------------------------------------------------------------------------------------

SMALL, LARGE = (1_000, 100_000) if PROVE else (100, 3_000)
ALONE, FILES, HERE = (10_000, 100, 200) if PROVE else (330, 2, 11)


def spread(work: str, size: int, count: int, chunk: int) -> None:
    """Examine `count` mutations in pieces of `chunk`, in every core where it is asked to prove; none may be missed."""
    jobs = [(work, size, 2026 + at, min(chunk, count - at)) for at in range(0, count, chunk)]
    if PROVE:
        with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
            results = list(pool.map(_job, jobs))
    else:
        results = list(map(_job, jobs))
    assert [line for _, missed in results for line in missed] == []
    assert sum(done for done, _ in results) == count


def _job(job: tuple[str, int, int, int]) -> tuple[int, list[str]]:
    work, size, seed, count = job
    return {"singles": singles, "together": together}[work](size, seed, count)


def test_every_mutation_of_a_file_of_its_own_is_found() -> None:
    spread("singles", SMALL, ALONE, 500 if PROVE else ALONE)


def test_a_hundred_mutations_in_one_large_file_are_each_named() -> None:
    spread("together", LARGE, FILES * 100, 100)


def test_every_mutation_of_a_large_file_is_found() -> None:
    spread("singles", LARGE, HERE, 10 if PROVE else HERE)


def test_the_mutations_are_of_every_kind_and_change_something() -> None:
    source, base = random.Random(1), good(SMALL)
    changed = Counter(kind for kind in Kind for _ in range(5) if mutated(base, kind, source) != base.file())
    assert set(changed) == set(Kind)


@pytest.mark.parametrize("size", [1, 2])
def test_the_smallest_bundles_hide_nothing_either(size: int) -> None:
    base = good(size)
    for kind in (Kind.EDIT, Kind.PAYLOAD, Kind.REMOVAL, Kind.TRUNCATION, Kind.CUT):
        assert not verify_bundle(mutated(base, kind, random.Random(size)), KEY).ok, kind

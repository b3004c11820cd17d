"""Objects larger than memory (vault.md section 2): the shape of `sealed`, piece by piece, and never half a file."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.sdk.sealed import (
    CHUNK_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    Altered,
    Cipher,
    CommitmentMismatch,
    KeyWornOut,
    NotSealed,
    Place,
    SealError,
    WrongKey,
)
from app.sdk.streams import Opening, Source, sealing, write_file

KEY_ID, KEY = bytes(range(16)), bytes(range(32))
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 7]
MIB = 1024 * 1024


def place(key: bytes = KEY, key_id: bytes = KEY_ID) -> Place:
    return Cipher(key_id, key).place("pw_a", "identity.papers")


def sealed(plaintext: bytes) -> bytes:
    return b"".join(sealing(place(), io.BytesIO(plaintext), "doc_1"))


def opened(record: bytes, record_id: str = "doc_1") -> bytes:
    return b"".join(Opening(io.BytesIO(record)).plaintext(place(), record_id))


class Drip:
    """A source that gives less than it is asked for, as pipes do."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, 70_001))


@pytest.mark.parametrize("size", SIZES)
def test_streamed_and_whole_are_one_format(size: int) -> None:
    content = os.urandom(size)
    assert opened(sealed(content)) == content
    assert place().open(sealed(content), "doc_1") == content
    assert opened(place().seal(content, "doc_1")) == content


@pytest.mark.parametrize("make", [Drip, io.BytesIO])
def test_short_reads_change_nothing(make: Callable[[bytes], Source]) -> None:
    content = os.urandom(CHUNK_BYTES + 100_000)
    record = b"".join(sealing(place(), make(content), "doc_1"))
    assert b"".join(Opening(make(record)).plaintext(place(), "doc_1")) == content


def chunks_of(record: bytes) -> list[bytes]:
    size = CHUNK_BYTES + TAG_BYTES
    return [record[:HEADER_BYTES]] + [record[at : at + size] for at in range(HEADER_BYTES, len(record), size)]


ATTACKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "cut after a chunk": lambda c: c[:3],
    "cut inside a chunk": lambda c: [*c[:3], c[3][:-1]],
    "header alone": lambda c: c[:1],
    "chunks swapped": lambda c: [c[0], c[2], c[1], c[3]],
    "chunk repeated": lambda c: [c[0], c[1], c[1], c[2], c[3]],
    "chunk removed": lambda c: [c[0], c[2], c[3]],
    "bytes behind the end": lambda c: [*c, b"\x00"],
    "a second record behind the end": lambda c: [*c, *c],
    "nonce changed": lambda c: [c[0][:20] + bytes(12) + c[0][32:], *c[1:]],
    "last chunk changed": lambda c: [*c[:3], bytes([c[3][0] ^ 1]) + c[3][1:]],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_was_done_to_it_is_found(attack: str, tmp_path: Path) -> None:
    """No piece is ever false, and nothing is left behind in a file."""
    content = os.urandom(2 * CHUNK_BYTES + 50)
    record = b"".join(ATTACKS[attack](chunks_of(sealed(content))))
    seen: list[bytes] = []
    with pytest.raises(Altered):
        seen.extend(Opening(io.BytesIO(record)).plaintext(place(), "doc_1"))
    assert content.startswith(b"".join(seen))
    with pytest.raises(Altered):
        write_file(Opening(io.BytesIO(record)).plaintext(place(), "doc_1"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_it_opens_in_its_own_place_only() -> None:
    record = sealed(bytes(CHUNK_BYTES + 1))
    others: list[tuple[Place, str, type[SealError]]] = [
        (place(), "doc_2", Altered),
        (Cipher(KEY_ID, KEY).place("pw_b", "identity.papers"), "doc_1", Altered),
        (Cipher(KEY_ID, KEY).place("pw_a", "loans"), "doc_1", Altered),
        (place(key_id=bytes(16)), "doc_1", WrongKey),
        (place(key=bytes(32)), "doc_1", CommitmentMismatch),
    ]
    for other, record_id, refusal in others:
        with pytest.raises(refusal):
            b"".join(Opening(io.BytesIO(record)).plaintext(other, record_id))


@pytest.mark.parametrize("record", [b"", b"RGD", b"x" * 200])
def test_what_is_no_record_is_refused_at_once(record: bytes) -> None:
    with pytest.raises(NotSealed):
        Opening(io.BytesIO(record))


def test_a_whole_record_followed_by_more_is_refused() -> None:
    with pytest.raises(Altered):
        opened(place().seal(b"x", "doc_1") + bytes(CHUNK_BYTES))


def test_a_worn_out_key_begins_nothing() -> None:
    with pytest.raises(KeyWornOut):
        sealing(Cipher(KEY_ID, KEY, budget=0).place("a", "b"), io.BytesIO(b"x"), "r")


def test_a_file_that_was_there_stays_when_the_new_one_is_false(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"before")
    record = sealed(bytes(3 * CHUNK_BYTES))[:-5]
    with pytest.raises(Altered):
        write_file(Opening(io.BytesIO(record)).plaintext(place(), "doc_1"), target)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("out", b"before")]


def test_what_was_opened_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert write_file(iter((b"ab", b"c")), tmp_path / "out") == 3
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


_BIG = """
import resource, sys
from pathlib import Path
from app.sdk.sealed import Cipher
from app.sdk.streams import Opening, sealing, write_file

mebibytes, folder = int(sys.argv[1]), Path(sys.argv[2])
piece = bytes(range(256)) * 4096

class Noise:
    left = mebibytes * 1024 * 1024
    def read(self, size):
        given = piece[: min(size, self.left)]
        self.left -= len(given)
        return given

place = Cipher(bytes(16), bytes(32)).place("pw_a", "identity.papers")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sealed = write_file(sealing(place, Noise(), "big"), folder / "sealed")
with (folder / "sealed").open("rb") as file:
    opened = write_file(Opening(file).plaintext(place, "big"), folder / "opened")
assert opened == mebibytes * 1024 * 1024 and sealed == opened + 64 + 16 * mebibytes
with (folder / "opened").open("rb") as file:
    assert all(part == piece for part in iter(lambda: file.read(len(piece)), b""))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_constant(tmp_path: Path) -> None:
    """Peak memory, in KiB above where it began, does not follow the object's size; `make prove`: 1 GiB."""
    large = 1024 if os.environ.get("REGARD_TEST_PROVE") else 96
    script = tmp_path / "big.py"
    script.write_text(_BIG)
    for mebibytes in (8, large):
        command = [sys.executable, str(script), str(mebibytes), str(tmp_path)]
        told = subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
        )
        assert int(told.stdout) * 1024 < 24 * MIB, mebibytes

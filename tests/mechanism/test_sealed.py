"""The sealed record (vault.md section 2): it opens in its own place under its own key, and nowhere else."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from app.sdk import sealed
from app.sdk.sealed import (
    Altered,
    Cipher,
    CommitmentMismatch,
    KeyWornOut,
    NotSealed,
    SealError,
    UnknownVersion,
    WrongKey,
)

KEY_ID, KEY = bytes(range(16)), bytes(range(32))
HERE = {"subject": "pw_a", "category": "accounts.balances", "record_id": "rec_1"}


def cipher(**more: object) -> Cipher:
    return Cipher(KEY_ID, KEY, **more)  # type: ignore[arg-type]


@given(st.binary(max_size=5_000), st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_what_was_sealed_opens(plaintext: bytes, subject: str, category: str, record_id: str) -> None:
    place = {"subject": subject, "category": category, "record_id": record_id}
    record = cipher().seal(plaintext, **place)
    assert cipher().open(record, **place) == plaintext
    assert len(record) == len(plaintext) + 80


def test_layout_is_the_published_one() -> None:
    """Written from the format alone, with HKDF of RFC 5869 by hand."""
    record = cipher(random=lambda size: b"\x07" * size).seal(b"hello", **HERE)
    assert record[:3] == b"RGD"
    assert record[3] == 1
    assert record[4:20] == KEY_ID
    assert sealed.key_id_of(record) == KEY_ID
    assert record[20:32] == b"\x07" * 12
    prk = hmac.digest(bytes(32), KEY, "sha256")
    info, block, okm = b"regard sealed record 1" + KEY_ID, b"", b""
    for count in range(1, 4):
        block = hmac.digest(prk, block + info + bytes([count]), "sha256")
        okm += block
    assert record[32:64] == okm[32:64]
    named = b"".join(len(each).to_bytes(4, "big") + each for each in (b"pw_a", b"accounts.balances"))
    bound = b"regard.sealed\x01" + named + KEY_ID + b"rec_1"
    assert AESGCM(okm[:32]).decrypt(record[20:32], record[64:], bound) == b"hello"


@pytest.mark.parametrize("size", [100, sealed.CHUNK_BYTES + 1, 2 * sealed.CHUNK_BYTES])
@pytest.mark.parametrize("name", ["subject", "category", "record_id"])
def test_another_place_is_refused(name: str, size: int) -> None:
    record = cipher().seal(bytes(size), **HERE)
    with pytest.raises(Altered):
        cipher().open(record, **{**HERE, name: "other"})


def test_place_cannot_be_shifted_between_its_parts() -> None:
    record = cipher().seal(b"x", subject="ab", category="c", record_id="d")
    with pytest.raises(Altered):
        cipher().open(record, subject="a", category="bc", record_id="d")


@pytest.mark.parametrize("size", [0, 1, 1024])
def test_every_byte_counts(size: int) -> None:
    record = cipher().seal(os.urandom(size), **HERE)
    for at in range(len(record)):
        changed = bytearray(record)
        changed[at] ^= 1
        with pytest.raises(SealError):
            cipher().open(bytes(changed), **HERE)


def test_every_truncation_is_refused() -> None:
    record = cipher().seal(b"hello", **HERE)
    for end in range(len(record)):
        with pytest.raises(SealError):
            cipher().open(record[:end], **HERE)
    with pytest.raises(Altered):
        cipher().open(record + b"\x00", **HERE)


def test_each_refusal_has_its_code() -> None:
    record = cipher().seal(b"hello", **HERE)
    other = Cipher(bytes(16), KEY)
    same_name = Cipher(KEY_ID, bytes(32))
    cases: list[tuple[Callable[[], bytes], type[SealError], str]] = [
        (lambda: cipher().open(b"", **HERE), NotSealed, "not_sealed"),
        (lambda: cipher().open(b"XXX" + record[3:], **HERE), NotSealed, "not_sealed"),
        (lambda: cipher().open(record[:3] + b"\x09" + record[4:], **HERE), UnknownVersion, "unknown_version"),
        (lambda: other.open(record, **HERE), WrongKey, "wrong_key"),
        (lambda: same_name.open(record, **HERE), CommitmentMismatch, "commitment_mismatch"),
        (lambda: cipher().open(record[:-1] + b"\x00\x00", **HERE), Altered, "altered"),
    ]
    for work, kind, code in cases:
        with pytest.raises(kind) as caught:
            work()
        assert caught.value.code == code
        assert "hello" not in repr(caught.value)


def test_version_cannot_be_swapped() -> None:
    small = cipher().seal(b"x" * 100, **HERE)
    large = cipher().seal(bytes(sealed.CHUNK_BYTES + 5), **HERE)
    for record, version in ((small, 2), (large, 1)):
        with pytest.raises(Altered):
            cipher().open(record[:3] + bytes([version]) + record[4:], **HERE)


def test_large_objects_are_chunked_and_whole() -> None:
    plaintext = os.urandom(2 * sealed.CHUNK_BYTES + 17)
    record = cipher().seal(plaintext, **HERE)
    assert record[3] == 2
    assert cipher().open(record, **HERE) == plaintext
    step = sealed.CHUNK_BYTES + 16
    first, second, third = record[64 : 64 + step], record[64 + step : 64 + 2 * step], record[64 + 2 * step :]
    head = record[:64]
    for broken in (head + first + second, head + first, head, head + second + first + third, record + third):
        with pytest.raises(SealError):
            cipher().open(broken, **HERE)


def test_key_wears_out() -> None:
    worn = cipher(budget=2)
    worn.seal(b"", **HERE)
    worn.seal(bytes(sealed.CHUNK_BYTES + 1), **HERE)
    assert worn.left == 0
    for size in (1, sealed.CHUNK_BYTES + 1):
        with pytest.raises(KeyWornOut):
            worn.seal(bytes(size), **HERE)
    assert cipher(budget=1 << 40).left == 1 << 30


def test_nonces_are_fresh_and_the_key_is_nowhere() -> None:
    used = cipher()
    records = [used.seal(b"x", **HERE) for _ in range(100)]
    assert len({record[20:32] for record in records}) == 100
    assert all(KEY not in record for record in records)
    assert hashlib.sha256(KEY).digest() not in records[0]
    assert KEY.hex() not in repr(used)


def test_wiped_cipher_opens_nothing() -> None:
    used = cipher()
    place = used.place("pw_a", "accounts.balances")
    small, large = (used.seal(bytes(size), **HERE) for size in (1, sealed.CHUNK_BYTES + 1))
    used.wipe()
    for record in (small, large):
        with pytest.raises(SealError):
            used.open(record, **HERE)
        with pytest.raises(SealError):
            place.open(record, "rec_1")
    with pytest.raises(KeyWornOut):
        place.seal(b"", "rec_1")


@pytest.mark.parametrize(("key_id", "key"), [(bytes(15), KEY), (KEY_ID, bytes(16))])
def test_wrong_lengths_are_refused(key_id: bytes, key: bytes) -> None:
    with pytest.raises(sealed.UnusableKey):
        Cipher(key_id, key)

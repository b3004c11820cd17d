"""ES256 signing keys: published before they sign, kept until nothing they signed still lives (tokens.md section 5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from app.tokens.errors import NoSigningKey
from app.tokens.records import KeyState, StoredKey
from app.tokens.signing import CACHE, SigningKeys, TooSoon, verify

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)


class Rows:
    def __init__(self) -> None:
        self.kept: dict[str, StoredKey] = {}

    def all(self) -> list[StoredKey]:
        return list(self.kept.values())

    def put(self, key: StoredKey) -> None:
        self.kept[key.kid] = key


def flip(data: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in data)


@pytest.fixture
def keys() -> SigningKeys:
    made = SigningKeys(Rows(), flip, flip, longest=DAY)
    made.prepare(NOW)
    return made


def kids(keys: SigningKeys) -> list[str]:
    return [key["kid"] for key in keys.jwks()["keys"]]


def test_what_is_signed_verifies_with_the_published_key_and_nothing_else(keys: SigningKeys) -> None:
    signed = keys.sign({"a": "é"}, typ="receipt+jwt")
    assert verify(signed, keys.jwks(), typ="receipt+jwt") == {"a": "é"}
    assert jwt.get_unverified_header(signed)["alg"] == "ES256"
    head, body, tag = signed.split(".")
    for wrong in (f"{head}.{body[:-2]}AA.{tag}", jwt.encode({}, None, algorithm="none")):
        with pytest.raises(jwt.PyJWTError):
            verify(wrong, keys.jwks(), typ="receipt+jwt")
    with pytest.raises(jwt.PyJWTError):
        verify(signed, keys.jwks(), typ="at+jwt")
    others = SigningKeys(Rows(), flip, flip, longest=DAY)
    others.prepare(NOW)
    with pytest.raises(jwt.PyJWTError):
        verify(signed, others.jwks(), typ="receipt+jwt")


def test_a_key_is_published_twice_the_cache_time_before_it_signs(keys: SigningKeys) -> None:
    active, coming = kids(keys)
    with pytest.raises(TooSoon):
        keys.rotate(NOW + 2 * CACHE - timedelta(seconds=1))
    assert kids(keys) == [active, coming]
    done = keys.rotate(NOW + 2 * CACHE)
    assert (done.activated, done.retiring) == (coming, active)
    assert kids(keys) == [coming, done.published, active]
    assert jwt.get_unverified_header(keys.sign({}, typ="x"))["kid"] == coming


def test_a_retiring_key_verifies_until_what_it_signed_has_ended(keys: SigningKeys) -> None:
    signed = keys.sign({}, typ="x")
    at = NOW + 2 * CACHE
    old = keys.rotate(at).retiring
    assert keys.retire(at + DAY - timedelta(seconds=1)) == []
    assert verify(signed, keys.jwks(), typ="x") == {}
    assert keys.retire(at + DAY) == [old]
    assert old not in kids(keys)
    assert next(key for key in keys.rows.all() if key.kid == old).sealed == b""


def test_a_compromised_key_leaves_at_once(keys: SigningKeys) -> None:
    signed = keys.sign({}, typ="x")
    keys.rotate(NOW, compromised=True)
    with pytest.raises(jwt.PyJWTError):
        verify(signed, keys.jwks(), typ="x")


def test_private_keys_rest_sealed_and_never_show(keys: SigningKeys) -> None:
    sealed = keys.rows.all()[0].sealed
    assert flip(sealed)[:1] == b"\x30"
    assert sealed[:1] != b"\x30"
    assert all("d" not in key for key in keys.jwks()["keys"])


def test_preparing_twice_changes_nothing_and_no_key_means_no_signature(keys: SigningKeys) -> None:
    before = kids(keys)
    keys.prepare(NOW + DAY)
    assert kids(keys) == before
    empty = SigningKeys(Rows(), flip, flip, longest=DAY)
    with pytest.raises(NoSigningKey):
        empty.sign({}, typ="x")
    retired = [replace(key, state=KeyState.RETIRED) for key in keys.rows.all()]
    for key in retired:
        keys.rows.put(key)
    with pytest.raises(NoSigningKey):
        keys.sign({}, typ="x")

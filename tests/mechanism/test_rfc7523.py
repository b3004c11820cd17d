"""`private_key_jwt` (RFC 7523): what a registered key signed and no store could take is a refusal, not a fault."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.api_jws import PyJWS

from app.sdk.dpop import new_key, public_jwk
from app.tokens import rfc7523
from app.tokens.errors import InvalidClient
from app.tokens.records import Client

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ISSUER = "https://regard.example"


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return new_key()


@pytest.fixture
def client(key: ec.EllipticCurvePrivateKey) -> Client:
    keys = {"keys": [{**public_jwk(key), "kid": "1"}]}
    return Client("reader", "firm", "party", "Reader", keys, frozenset(), frozenset(), (), None, NOW)


def _signed(key: ec.EllipticCurvePrivateKey, payload: bytes) -> str:
    return PyJWS().encode(payload, key, algorithm="ES256", headers={"kid": "1"})


def _claims(**said: Any) -> bytes:
    until = int(NOW.timestamp()) + 60
    claims = {"iss": "reader", "sub": "reader", "aud": ISSUER, "exp": until, "jti": "an-id-of-the-test", **said}
    return json.dumps(claims).encode()


@pytest.mark.parametrize("jti", ["x" * 16, "~!" * 128])
def test_an_id_of_visible_characters_is_taken(key: ec.EllipticCurvePrivateKey, client: Client, jti: str) -> None:
    found = rfc7523.verify(_signed(key, _claims(jti=jti)), client, issuer=ISSUER, now=NOW)
    assert (found.client, found.jti) == ("reader", jti)


@pytest.mark.parametrize(
    "jti", ["\ud800" * 16, "\x00" * 16, "x" * 16 + "\n", "é" * 16, "x y" * 6, "x" * 15, "x" * 257], ids=ascii
)
def test_any_other_id_is_refused(key: ec.EllipticCurvePrivateKey, client: Client, jti: str) -> None:
    """RFC 7523 section 3: `jti` is remembered, so it has to be something that can be."""
    with pytest.raises(InvalidClient):
        rfc7523.verify(_signed(key, _claims(jti=jti)), client, issuer=ISSUER, now=NOW)


@pytest.mark.parametrize("payload", [b"[" * 5000, _claims(more=1)[:-2] + b"[" * 5000], ids=["all", "one claim"])
def test_claims_deeper_than_anybody_reads_are_refused(
    key: ec.EllipticCurvePrivateKey, client: Client, payload: bytes
) -> None:
    with pytest.raises(InvalidClient):
        rfc7523.verify(_signed(key, payload), client, issuer=ISSUER, now=NOW)

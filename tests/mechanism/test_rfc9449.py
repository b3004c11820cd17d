"""DPoP (RFC 9449): its own example proofs, and every check of section 4.3."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from app.sdk import dpop
from app.sdk.errors import BadProof
from app.tokens import rfc9449
from app.tokens.errors import InvalidDpopProof, UseDpopNonce

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
URL = "https://server.example.com/token"
_HEADER = (
    "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQy"
    "VVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
)
SECTION_4_1 = (
    f"{_HEADER}.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuI"
    "iwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
)
SECTION_7_1 = (
    f"{_HEADER}.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90Z"
    "WN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9"
    "RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
)
TOKEN_7_1 = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
JKT = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_the_proof_of_section_4_1() -> None:
    proof = dpop.verify(SECTION_4_1, method="POST", url=URL, now=datetime.fromtimestamp(1562262616, UTC))
    assert (proof.jkt, proof.jti) == (JKT, "-BwC3ESc6acc2lTc")


def test_the_proof_of_section_7_1_with_its_token() -> None:
    now = datetime.fromtimestamp(1562262618, UTC)
    url = "https://resource.example.org/protectedresource"
    proof = dpop.verify(SECTION_7_1, method="GET", url=url, now=now, access_token=TOKEN_7_1)
    assert proof.jkt == JKT
    with pytest.raises(BadProof):
        dpop.verify(SECTION_7_1, method="GET", url=url, now=now, access_token="another")


@pytest.fixture
def key() -> ec.EllipticCurvePrivateKey:
    return dpop.new_key()


def test_a_proof_of_ours_holds_and_names_its_key(key: ec.EllipticCurvePrivateKey) -> None:
    prover = dpop.Prover(key, lambda: NOW)
    proof = prover.prove("POST", URL + "?a=1#b", access_token="t", nonce="n")
    good = dpop.verify(proof, method="POST", url="HTTPS://Server.Example.com:443/token?c", now=NOW, access_token="t")
    assert (good.jkt, good.nonce) == (prover.jkt, "n")
    assert good.until > NOW


@pytest.mark.parametrize(("seconds", "good"), [(10, True), (61, False), (-60, True), (-61, False)])
def test_clocks(key: ec.EllipticCurvePrivateKey, seconds: int, good: bool) -> None:
    """FAPI 2.0 5.3.2.1: up to 10 s ahead accepted, over 60 s refused."""
    proof = dpop.Prover(key, lambda: NOW + timedelta(seconds=seconds)).prove("POST", URL)
    if good:
        dpop.verify(proof, method="POST", url=URL, now=NOW)
    else:
        with pytest.raises(BadProof):
            dpop.verify(proof, method="POST", url=URL, now=NOW)


def _signed(key: ec.EllipticCurvePrivateKey, claims: dict[str, Any], **header: Any) -> str:
    said = {"jti": "j" * 20, "htm": "POST", "htu": URL, "iat": int(NOW.timestamp()), **claims}
    kept = {name: value for name, value in said.items() if value is not None}
    headers = {"typ": "dpop+jwt", "jwk": dpop.public_jwk(key), **header}
    return jwt.encode(kept, key, algorithm="ES256", headers=headers)


def _rsa() -> str:
    key = rsa.generate_private_key(65537, 2048)
    jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return jwt.encode({"jti": "j" * 20}, key, algorithm="RS256", headers={"typ": "dpop+jwt", "jwk": jwk})


def _symmetric() -> str:
    jwk = {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}
    header = {"typ": "dpop+jwt", "jwk": jwk}
    return jwt.encode({"jti": "j" * 20}, b"secretsecretsecretsecretsecretse", algorithm="HS256", headers=header)


FAULTS: dict[str, Callable[[ec.EllipticCurvePrivateKey], str]] = {
    "typ": lambda key: _signed(key, {}, typ="JWT"),
    "no key": lambda key: _signed(key, {}, jwk=None),
    "key of another": lambda key: _signed(key, {}, jwk=dpop.public_jwk(dpop.new_key())),
    "key off the curve": lambda key: _signed(key, {}, jwk={**dpop.public_jwk(key), "y": "AAAA"}),
    "RSA": lambda key: _rsa(),
    "symmetric": lambda key: _symmetric(),
    "no jti": lambda key: _signed(key, {"jti": None}),
    "short jti": lambda key: _signed(key, {"jti": "1"}),
    "long jti": lambda key: _signed(key, {"jti": "1" * 257}),
    "no iat": lambda key: _signed(key, {"iat": None}),
    "iat true": lambda key: _signed(key, {"iat": True}),
    "iat beyond time": lambda key: _signed(key, {"iat": 1e300}),
    "no htm": lambda key: _signed(key, {"htm": None}),
    "htm in lower case": lambda key: _signed(key, {"htm": "post"}),
    "no htu": lambda key: _signed(key, {"htu": None}),
    "htu with a longer path": lambda key: _signed(key, {"htu": URL + "/more"}),
    "htu on another port": lambda key: _signed(key, {"htu": "https://server.example.com:8443/token"}),
    "htu in http": lambda key: _signed(key, {"htu": "http://server.example.com/token"}),
    "htu no address": lambda key: _signed(key, {"htu": "https://[::1/token"}),
    "nonce a number": lambda key: _signed(key, {"nonce": 5}),
    "cut": lambda key: _signed(key, {})[:-8],
    "empty": lambda key: "",
    "three dots": lambda key: "...",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_check_of_section_4_3(key: ec.EllipticCurvePrivateKey, fault: str) -> None:
    dpop.verify(_signed(key, {}), method="POST", url=URL, now=NOW)
    with pytest.raises(BadProof):
        dpop.verify(FAULTS[fault](key), method="POST", url=URL, now=NOW)


class _Once:
    def __init__(self) -> None:
        self.spent: set[tuple[str, str, str]] = set()

    def spend(self, kind: str, owner: str, jti: str, until: datetime) -> bool:
        fresh = (kind, owner, jti) not in self.spent
        self.spent.add((kind, owner, jti))
        return fresh


def test_a_jti_is_good_once_for_each_key(key: ec.EllipticCurvePrivateKey) -> None:
    once, nonces = _Once(), rfc9449.Nonces(b"k" * 32, required=False)

    def present(proof: str) -> str:
        good = rfc9449.check(proof, method="POST", url=URL, now=NOW, nonces=nonces)
        rfc9449.spend(good, once)
        return good.jkt

    proof = _signed(key, {})
    assert present(proof)
    with pytest.raises(InvalidDpopProof):
        present(proof)
    assert present(_signed(dpop.new_key(), {}))


def test_a_nonce_is_ours_and_fresh_or_asked_for_again(key: ec.EllipticCurvePrivateKey) -> None:
    nonces = rfc9449.Nonces(b"k" * 32, required=True)
    nonces.check(nonces.fresh(NOW), NOW + timedelta(minutes=5))
    others = rfc9449.Nonces(b"o" * 32, required=True).fresh(NOW)
    for nonce, at in (
        (None, NOW),
        ("x", NOW),
        ("é", NOW),
        (others, NOW),
        (nonces.fresh(NOW), NOW + timedelta(minutes=6)),
    ):
        with pytest.raises(UseDpopNonce):
            nonces.check(nonce, at)
    rfc9449.Nonces(b"k" * 32, required=False).check(None, NOW)

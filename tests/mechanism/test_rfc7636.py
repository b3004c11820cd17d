"""PKCE (RFC 7636): the example of appendix B, and no downgrade (section 7.2, RFC 9700 section 2.1.1)."""

from __future__ import annotations

import pytest

from app.tokens.errors import InvalidGrant, InvalidRequest
from app.tokens.rfc7636 import challenge_of, check_challenge, check_verifier

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_example_of_appendix_b() -> None:
    assert challenge_of(VERIFIER) == CHALLENGE
    check_challenge(CHALLENGE, "S256")
    check_verifier(VERIFIER, CHALLENGE)


@pytest.mark.parametrize(
    ("challenge", "method"),
    [
        (CHALLENGE, "plain"),
        (CHALLENGE, None),
        (None, "S256"),
        ("", "S256"),
        ("short", "S256"),
        (CHALLENGE + "\n", "S256"),
    ],
)
def test_nothing_less_than_an_s256_challenge_is_taken(challenge: str | None, method: str | None) -> None:
    with pytest.raises(InvalidRequest):
        check_challenge(challenge, method)


@pytest.mark.parametrize(
    "verifier", [None, "", CHALLENGE, "a" * 42, "a" * 129, VERIFIER + "=", VERIFIER + "\n", "é" * 43]
)
def test_another_verifier_is_refused(verifier: str | None) -> None:
    with pytest.raises(InvalidGrant):
        check_verifier(verifier, CHALLENGE)

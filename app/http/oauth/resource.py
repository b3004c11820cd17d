"""Our own doors as a protected resource: a DPoP-bound token meant for this service (RFC 9449 section 7, RFC 6750).

Fits `app.http.doors.ClientTokens`. A token under a consent is joined to it here too. Leaves out scopes: the guard
that asks for one compares it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from app.http.doors import ClientActor
from app.http.errors import ClientUnknown
from app.http.oauth.services import OAuthServices
from app.http.oauth.validity import Standing, standing
from app.sdk.dpop import Proof
from app.tokens import rfc9449
from app.tokens.errors import InsufficientScope, InvalidToken, TokenError, UseDpopNonce
from consent.vocabulary import ControllerId, PartyId


class PresentedTokens:
    """Reads the token of a request to this service."""

    def __init__(self, services: OAuthServices) -> None:
        self._services = services

    def present(self, headers: Mapping[str, str], method: str, url: str) -> ClientActor:
        """Return who presents a good token with a good proof. Raises `ClientUnknown`, saying what is missing."""
        try:
            found = self.require(headers, method, url)
        except TokenError as error:
            said = (
                error if "Authorization" in headers else None
            )  # RFC 6750 section 3.1: nothing was wrong, all is missing
            raise ClientUnknown(challenge(self._services.issuer, said), self._nonce(error)) from None
        token = found.token
        return ClientActor(
            client=token.client,
            party=PartyId(token.party),
            controller=ControllerId(token.controller),
            scopes=frozenset(token.scopes),
            consent=token.consent,
        )

    def require(self, headers: Mapping[str, str], method: str, url: str) -> Standing:
        """Return the token of a request. Raises `InvalidToken`, `InvalidDpopProof` or `UseDpopNonce`.

        The proof is checked against our own origin and the path of `url`, not against the Host header.
        """
        scheme, _, secret = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "dpop" or not secret:
            raise InvalidToken("a DPoP-bound token is required")
        proof = self._proof(headers, method, url, secret)
        with self._services.units() as unit:
            found = standing(self._services, unit, secret, self._services.issuer)
            if found is None or found.token.jkt != proof.jkt:
                raise InvalidToken("the token is not valid, or not bound to this key")
            rfc9449.spend(proof, unit.tokens)  # last: nobody without a good token makes us write
            unit.commit()
        return found

    def _nonce(self, error: TokenError) -> str | None:
        nonces = self._services.nonces
        due = isinstance(error, UseDpopNonce) or nonces.required
        return nonces.fresh(self._services.clock.now()) if due else None

    def _proof(self, headers: Mapping[str, str], method: str, url: str, secret: str) -> Proof:
        return rfc9449.check(
            headers.get("DPoP"),
            method=method,
            url=self._services.issuer + urlsplit(url).path,
            now=self._services.clock.now(),
            nonces=self._services.nonces,
            access_token=secret,
        )


def challenge(issuer: str, error: TokenError | None = None) -> str:
    """Return the `WWW-Authenticate` value that says what is missing (RFC 9449 section 7.1, RFC 9728 section 5.1)."""
    parts = [f'resource_metadata="{issuer}/.well-known/oauth-protected-resource"', 'algs="ES256"']
    if error is not None:
        parts.append(f'error="{error.code}"')
    if isinstance(error, InsufficientScope):
        parts.append(f'scope="{error.scope}"')
    return "DPoP " + ", ".join(parts)

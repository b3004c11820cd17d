"""Who is calling: `private_key_jwt` (RFC 7523), or, at introspection, the component's own DPoP-bound token.

No shared secret exists. Every failure reads the same to the caller: `invalid_client`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.http.oauth.models import ClientModel
from app.http.oauth.requests import OAuthRequest
from app.http.oauth.validity import standing
from app.sdk.dpop import Proof
from app.tokens import rfc7523, rfc9449
from app.tokens.errors import InvalidClient, InvalidToken

if TYPE_CHECKING:
    from app.http.oauth.server import Server

_UNKNOWN = "client authentication failed"


def by_assertion(server: Server, request: OAuthRequest) -> ClientModel | None:
    """Return the client that signed the assertion; None when the request brings no assertion."""
    assertion = request.form.get("client_assertion")
    if assertion is None and "Authorization" in request.headers:
        return None
    if assertion is None or request.form.get("client_assertion_type") != rfc7523.ASSERTION_TYPE:
        raise InvalidClient("client_assertion of type jwt-bearer is required")
    client = server.query_client(rfc7523.client_named(assertion))
    if client is None or request.form.get("client_id", client.client_id) != client.client_id:
        raise InvalidClient(_UNKNOWN)
    proven = rfc7523.verify(assertion, client.record, issuer=server.services.issuer, now=server.now)
    if not server.replays.spend("assertion", proven.client, proven.jti, proven.until):
        raise InvalidClient("jti was used before")
    return client


def by_own_token(server: Server, request: OAuthRequest) -> ClientModel | None:
    """Return the client whose own token for this service comes with a fresh proof (RFC 7662 section 2.1)."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "dpop" or not secret:
        return None
    proof = _checked(server, request, secret)
    found = standing(server.services, server.unit, secret, server.services.issuer)
    if found is None or found.token.jkt != proof.jkt:
        raise InvalidToken("the token is not valid, or not bound to this key")
    rfc9449.spend(proof, server.replays)  # last: nobody without a good token makes us write
    return ClientModel(found.client)


def prove(server: Server, request: OAuthRequest) -> str:
    """Check the DPoP proof of a client that is known by now and return its key's thumbprint (RFC 9449)."""
    proof = _checked(server, request, None)
    rfc9449.spend(proof, server.replays)
    return proof.jkt


def _checked(server: Server, request: OAuthRequest, access_token: str | None) -> Proof:
    return rfc9449.check(
        request.headers.get("DPoP"),
        method=request.method,
        url=request.url,
        now=server.now,
        nonces=server.services.nonces,
        access_token=access_token,
    )

"""Authlib's server with our grants in it, made for one request over one unit of work.

Made anew each time because Authlib's callbacks carry no request: so nothing is shared and nothing is global.
What goes wrong leaves the unit uncommitted; only ids already spent, and ends brought on by misuse, are written after.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from authlib.oauth2 import AuthorizationServer, OAuth2Error
from authlib.oauth2.rfc9207 import IssuerParameter
from flask import Request, Response

from app.http.oauth import requests
from app.http.oauth.authentication import by_assertion, by_own_token
from app.http.oauth.endpoints import Introspection, PushedAuthorization, Revocation
from app.http.oauth.grants import S256, ClientCredentials, CodeGrant, RefreshGrant
from app.http.oauth.issue import Issue
from app.http.oauth.models import ASSERTION, OWN_TOKEN, ClientModel
from app.http.oauth.services import OAuthServices, Unit
from app.http.oauth.validity import live_client
from app.sdk.scopes import Scope
from app.tokens.errors import TokenError, UnsupportedGrantType, UnsupportedResponseType, UseDpopNonce
from app.tokens.records import GrantType, Tokens


@dataclass(slots=True)
class Spending:
    """Spends single-use ids in the unit, and remembers them in case the unit is left."""

    tokens: Tokens
    spent: list[tuple[str, str, str, datetime]] = field(default_factory=list)

    def spend(self, kind: str, owner: str, jti: str, until: datetime) -> bool:
        """Spend an id; False when it was spent before."""
        fresh = self.tokens.spend(kind, owner, jti, until)
        if fresh:
            self.spent.append((kind, owner, jti, until))
        return fresh


class _Issuer(IssuerParameter):
    """RFC 9207: every authorization response says who answers, so that answers cannot be mixed up."""

    def __init__(self, server: Server) -> None:
        self._issuer = server.services.issuer
        super().__call__(server)

    def get_issuer(self) -> str:
        return self._issuer


class Server(AuthorizationServer):
    """The authorization server of one request."""

    def __init__(self, services: OAuthServices, unit: Unit) -> None:
        super().__init__(scopes_supported=[scope.value for scope in Scope])
        self.services = services
        self.unit = unit
        self.now = services.clock.now()
        self.replays = Spending(unit.tokens)
        self.afterwards: list[Callable[[Unit], None]] = []
        self.issue: Issue | None = None
        self.register_client_auth_method(ASSERTION, lambda _query, request: by_assertion(self, request))
        self.register_client_auth_method(OWN_TOKEN, lambda _query, request: by_own_token(self, request))
        self.register_grant(CodeGrant, [S256()])
        self.register_grant(ClientCredentials)
        self.register_grant(RefreshGrant)
        for endpoint in (PushedAuthorization, Revocation, Introspection):
            self.register_endpoint(endpoint)
        self.register_token_generator("default", self._mint)
        self.register_extension(_Issuer)

    def query_client(self, client_id: str) -> ClientModel | None:
        """Find a client that may act."""
        found = live_client(self.services, self.unit, client_id)
        return None if found is None else ClientModel(found)

    def get_authorization_grant(self, request: requests.OAuthRequest) -> Any:
        """Return the grant of a request. Authlib's own refusal would say the value back."""
        if request.payload.response_type != "code":
            raise UnsupportedResponseType("the response type is code")
        return super().get_authorization_grant(request)

    def get_token_grant(self, request: requests.OAuthRequest) -> Any:
        """Return the grant of a request. Authlib's own refusal would say the value back."""
        if request.payload.grant_type not in set(GrantType):
            raise UnsupportedGrantType("there is no such grant here")
        return super().get_token_grant(request)

    def create_oauth2_request(self, request: Request | requests.OAuthRequest) -> requests.OAuthRequest:
        """Read a Flask request, or take one that was read already."""
        if isinstance(request, requests.OAuthRequest):
            return request
        return requests.from_flask(request, self.services.issuer)

    def handle_response(self, status: int, body: Any, headers: list[tuple[str, str]]) -> Response:
        """Make the Flask answer; nothing of it may be stored (RFC 6749 section 5.1)."""
        text = json.dumps(body) if isinstance(body, dict) else body
        response = Response(text, status=status, headers=dict(headers))
        response.headers["Cache-Control"] = "no-store"
        return response

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """No listeners: what matters is recorded in the unit."""

    def save_token(self, token: dict[str, Any], request: requests.OAuthRequest) -> None:
        """Store what was minted, with its ledger entry, in the unit."""
        if self.issue is None:
            raise RuntimeError("a grant issued a token without saying for what")
        self.issue.save(self.services, self.unit)

    def refused(self, error: TokenError) -> Response:
        """Answer one of our own errors in the shape of RFC 6749 section 5.2."""
        response: Response = self.handle_error_response(
            None, OAuth2Error(description=error.sentence, status_code=error.status, error=error.code)
        )
        if isinstance(error, UseDpopNonce) or self.services.nonces.required:
            response.headers["DPoP-Nonce"] = self.services.nonces.fresh(self.now)
        return response

    def settle(self, unit: Unit) -> None:
        """After a failure, in a unit of its own: keep spent ids spent, and end what misuse has ended."""
        for spent in self.replays.spent:
            unit.tokens.spend(*spent)
        for act in self.afterwards:
            act(unit)

    def _mint(self, **wanted: Any) -> dict[str, Any]:
        if self.issue is None:
            raise RuntimeError("a grant asked for a token without saying for what")
        return self.issue.mint(self.services, self.unit, refresh=wanted["include_refresh_token"])


def carry_out(services: OAuthServices, act: Callable[[Server], Response]) -> Response:
    """Run one request: commit if it went well; otherwise nothing happened, save what `Server.settle` keeps."""
    with services.units() as unit:
        server = Server(services, unit)
        try:
            response = act(server)
        except TokenError as error:
            response = server.refused(error)
        if response.status_code < 400:
            unit.commit()
            return response
    if server.replays.spent or server.afterwards:
        with services.units() as unit:
            server.settle(unit)
            unit.commit()
    return response

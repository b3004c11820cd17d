"""Pushed requests (RFC 9126), revocation (RFC 7009) and introspection (RFC 7662), as Authlib endpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from authlib.consts import default_json_headers
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.endpoint import Endpoint
from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from app.http.oauth.authentication import prove
from app.http.oauth.grants import audience_of, named_in
from app.http.oauth.introspected import INACTIVE, described
from app.http.oauth.issue import consent_for
from app.http.oauth.models import ASSERTION, OWN_TOKEN, AccessModel, ClientModel, RefreshModel
from app.http.oauth.requests import OAuthRequest
from app.http.oauth.validity import Standing, standing
from app.sdk.claims import AggregationConsent
from app.tokens import rfc9396
from app.tokens.errors import InvalidAuthorizationDetails, InvalidDpopProof, InvalidGrant, InvalidRequest
from app.tokens.minting import digest, mint
from app.tokens.records import Client, PushedRequest
from consent.vocabulary import ControllerId, PartyId

if TYPE_CHECKING:
    from app.http.oauth.server import Server

Answer = tuple[int, dict[str, Any], list[tuple[str, str]]]
URN = "urn:ietf:params:oauth:request_uri:"
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")
"""RFC 7638 with SHA-256, in base64url."""
_KEPT = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
    "authorization_details",
    "resource",
    "ui_locales",
)


class PushedAuthorization(Endpoint):
    """`/oauth/par`: the whole request over the back channel, checked before any browser is involved."""

    ENDPOINT_NAME = "pushed_authorization_request"
    server: Server

    def create_endpoint_response(self, request: OAuthRequest) -> Answer:
        """Authenticate, check as the authorization endpoint would, store; answer 201 with the reference."""
        client: Client = self.server.authenticate_client(request, [ASSERTION], "par").record
        request.parameters["client_id"] = client.id
        self._check(request, client)
        reference = mint("", self.server.services.entropy)
        pushed = self._record(request, client, reference.digest)
        self.server.unit.tokens.push(pushed)
        life = int(self.server.services.request_life.total_seconds())
        return 201, {"request_uri": URN + reference.text, "expires_in": life}, default_json_headers

    def _check(self, request: OAuthRequest, client: Client) -> None:
        if "request_uri" in request.form or "request" in request.form:
            raise InvalidRequest("request and request_uri have no place here")
        request.payload.data.update(request.parameters)
        try:
            self.server.get_authorization_grant(request).validate_consent_request()
        except OAuth2Error as error:
            error.redirect_uri = None  # no browser here: the answer is the client's (RFC 9126 section 2.3)
            raise
        detail = rfc9396.proposal(rfc9396.parse(request.form.get("authorization_details", "")))
        audience = audience_of(self.server, client, request.form.get("resource"))
        named_in(self.server, self._named(client, detail), audience)

    def _named(self, client: Client, detail: AggregationConsent) -> frozenset[PartyId]:
        """Whom the person was told of, or will be; what cannot be asked is said now, and not after they signed in."""
        if detail.consent_id is not None:
            return consent_for(self.server, client, detail.consent_id).parties
        if (fault := self.server.services.unfit(client, detail)) is not None:
            raise InvalidAuthorizationDetails(fault)
        return self.server.services.named(client, detail)

    def _record(self, request: OAuthRequest, client: Client, reference: bytes) -> PushedRequest:
        now = self.server.now
        return PushedRequest(
            digest=reference,
            client=client.id,
            controller=client.controller,
            party=client.party,
            journey=self.server.services.ids.new("jrn"),
            parameters={name: request.form[name] for name in _KEPT if name in request.form},
            jkt=self._bound_key(request),
            created_at=now,
            expires_at=now + self.server.services.request_life,
        )

    def _bound_key(self, request: OAuthRequest) -> str | None:
        """A request may be bound to a key already: by a proof, by `dpop_jkt`, or both (RFC 9449 section 10)."""
        stated = request.form.get("dpop_jkt")
        if stated is not None and not _THUMBPRINT.fullmatch(stated):
            raise InvalidRequest("dpop_jkt is the SHA-256 thumbprint of a key")
        if "DPoP" not in request.headers:
            return stated
        proven = prove(self.server, request)
        if stated not in (None, proven):
            raise InvalidDpopProof("dpop_jkt is another key")
        return proven


class Revocation(RevocationEndpoint):
    """`/oauth/revoke`: a client gives back its own token; giving back the refresh token ends the grant."""

    CLIENT_AUTH_METHODS = [ASSERTION]  # noqa: RUF012 - Authlib's own attribute
    server: Server

    def check_params(self, request: OAuthRequest, client: ClientModel) -> None:
        """A wrong hint is only a wrong hint (RFC 7009 section 2.1)."""
        if "token" not in request.form:
            raise InvalidRequest("token is required")

    def authenticate_token(self, request: OAuthRequest, client: ClientModel) -> AccessModel | RefreshModel | None:
        """Find the token. Raises `InvalidGrant` for somebody else's (RFC 7009 section 2.1)."""
        self.check_params(request, client)
        token = self.query_token(request.form["token"], None)
        if token is not None and not token.check_client(client):
            raise InvalidGrant("the token was issued to another client")
        return token

    def query_token(self, token_string: str, token_type_hint: str | None) -> AccessModel | RefreshModel | None:
        """Look in both tables, whatever the hint."""
        found = digest(token_string)
        access = self.server.unit.tokens.access(found)
        if access is not None:
            return AccessModel(access, self.server.now)
        refresh = self.server.unit.tokens.refresh(found)
        return None if refresh is None else RefreshModel(refresh)

    def revoke_token(self, token: AccessModel | RefreshModel, request: OAuthRequest) -> None:
        """End the token, or the grant with all its tokens; record it."""
        if isinstance(token, AccessModel):
            self.server.unit.tokens.revoke_access(token.record.digest, self.server.now)
            grant, consent = token.record.grant, token.record.consent
        else:
            grant, consent = token.record.grant.id, token.record.grant.consent
            self.server.unit.tokens.end_grant(grant, self.server.now)
        self._journal(request, grant, consent)

    def _journal(self, request: OAuthRequest, grant: str | None, consent: str | None) -> None:
        client: Client = request.client.record if request.client else None  # type: ignore[assignment]
        self.server.unit.journal.record(
            "token.revoked",
            actor=client.id,
            controller=ControllerId(client.controller),
            subject=None,
            payload={"party": client.party, "consent": consent, "grant": grant},
        )


class Introspection(IntrospectionEndpoint):
    """`/oauth/introspect`: joined to the consent at every call, for the token's own audience alone."""

    CLIENT_AUTH_METHODS = [ASSERTION, OWN_TOKEN]  # noqa: RUF012 - Authlib's own attribute
    server: Server

    def authenticate_token(self, request: OAuthRequest, client: ClientModel) -> Standing | None:
        """Return how the token stands for this caller; to anyone but its audience it stands nowhere."""
        if "token" not in request.form:
            raise InvalidRequest("token is required")
        audience, party = client.record.resource, client.record.party
        if audience is None:
            return None
        return standing(self.server.services, self.server.unit, request.form["token"], audience, party)

    def create_introspection_payload(self, token: Standing | None) -> dict[str, Any]:
        """Write the answer of RFC 7662 section 2.2; an inactive token has no other member, not even why."""
        if token is None:
            return dict(INACTIVE)
        return described(token, self.server.services.issuer, self._handle(token))

    def _handle(self, found: Standing) -> str | None:
        """What the audience's party calls the subject; it gets its name for them at the first time of asking."""
        if found.consent is None or found.token.detail is None:
            return None
        holder = self.server.unit.clients.of_resource(found.token.audience)
        return self.server.unit.consents.handle(found.consent.subject, PartyId(holder.party if holder else ""))

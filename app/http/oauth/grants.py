"""The three grants, on Authlib's: code with PKCE, a component's own credentials, refresh (tokens.md section 2).

Each finds out who, with which key, under which consent; `issue` asks the judge and mints. Left out on purpose:
password, implicit, device, token exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authlib.oauth2.rfc6749 import grants
from authlib.oauth2.rfc7636 import CodeChallenge

from app.http.oauth.authentication import prove
from app.http.oauth.issue import Issue, consent_for, permitted
from app.http.oauth.models import ASSERTION, ClientModel, CodeModel, RefreshModel
from app.http.oauth.requests import OAuthRequest
from app.http.oauth.services import ConsentView
from app.sdk.scopes import parse
from app.tokens import rfc7636, rfc9396
from app.tokens.errors import (
    AccessDenied,
    InvalidAuthorizationDetails,
    InvalidDpopProof,
    InvalidGrant,
    InvalidRequest,
    InvalidScope,
    InvalidTarget,
)
from app.tokens.minting import digest, mint
from app.tokens.records import Client, Code, TokenGrant

if TYPE_CHECKING:
    from app.http.oauth.server import Server
    from consent.vocabulary import PartyId


def _matches(verifier: str, challenge: str) -> bool:
    rfc7636.check_verifier(verifier, challenge)
    return True


class S256(CodeChallenge):
    """PKCE, always asked for, S256 alone (RFC 9700 section 2.1.1)."""

    DEFAULT_CODE_CHALLENGE_METHOD = rfc7636.METHOD
    SUPPORTED_CODE_CHALLENGE_METHOD = [rfc7636.METHOD]  # noqa: RUF012 - Authlib's own attribute
    CODE_CHALLENGE_METHODS = {rfc7636.METHOD: _matches}  # noqa: RUF012 - Authlib's own attribute

    def validate_code_challenge(self, grant: CodeGrant, redirect_uri: str | None) -> None:
        """Refuse a request without a challenge, where Authlib would let a confidential client pass."""
        parameters = grant.request.form
        rfc7636.check_challenge(parameters.get("code_challenge"), parameters.get("code_challenge_method"))
        super().validate_code_challenge(grant, redirect_uri)


class CodeGrant(grants.AuthorizationCodeGrant):
    """Authorization code with PAR, PKCE S256 and DPoP (FAPI 2.0 5.3.2)."""

    TOKEN_ENDPOINT_AUTH_METHODS = [ASSERTION]  # noqa: RUF012 - Authlib's own attribute
    request: OAuthRequest
    server: Server

    @staticmethod
    def validate_authorization_redirect_uri(request: OAuthRequest, client: ClientModel) -> str:
        """The address is named in every request and is one of the registered ones, character by character."""
        uri = request.form.get("redirect_uri", "")
        if not client.check_redirect_uri(uri):
            raise InvalidRequest("redirect_uri is not one of the registered ones")
        return uri

    def generate_authorization_code(self) -> str:
        """256 bits of ours instead of Authlib's letters."""
        return mint("rgc_", self.server.services.entropy).text

    def save_authorization_code(self, code: str, request: OAuthRequest) -> None:
        """Store the grant and the code's digest; the code lives at most 60 s."""
        client, pushed = _client(request), request.pushed
        if pushed is None or request.consent is None:
            raise RuntimeError("a code is only made when a pushed request completes")
        view = consent_for(self.server, client, request.consent)
        audience = pushed.parameters.get("resource", self.server.services.issuer)
        named_in(self.server, view.parties, audience)
        asked = rfc9396.parse(pushed.parameters["authorization_details"])
        grant = TokenGrant(
            id=self.server.services.ids.new("gnt"),
            client=client.id,
            controller=client.controller,
            party=client.party,
            consent=view.id,
            scopes=parse(request.scope or ""),
            audience=audience,
            detail=rfc9396.granted(asked, view.covered()),
            created_at=self.server.now,
        )
        self.server.unit.tokens.add_grant(grant)
        until = self.server.now + self.server.services.code_life
        challenge = pushed.parameters["code_challenge"]
        redirect_uri = pushed.parameters["redirect_uri"]
        self.server.unit.tokens.add_code(Code(digest(code), grant, redirect_uri, challenge, pushed.jkt, until))

    def query_authorization_code(self, code: str, client: ClientModel) -> CodeModel | None:
        """Find a live code of this client; a second use ends what the first one gave (RFC 6749 section 4.1.2)."""
        found = self.server.unit.tokens.code(digest(code))
        if found is None:
            return None
        if found.used_at is not None:
            self._end(found)
            return None
        ended = found.grant.ended_at is not None or self.server.now >= found.expires_at
        return None if ended or found.grant.client != client.client_id else CodeModel(found)

    def validate_token_request(self) -> None:
        """After Authlib's checks and PKCE: the proof, and the key the request was bound to, if it was."""
        super().validate_token_request()
        code: Code = self.request.authorization_code.record
        jkt = prove(self.server, self.request)
        if code.jkt not in (None, jkt):
            raise InvalidDpopProof("the code is bound to another key")
        _same_resource(self.request, code.grant.audience)
        self.server.issue = _under_grant(self.server, _client(self.request), code.grant, jkt, attended=True)

    def authenticate_user(self, authorization_code: CodeModel) -> str | None:
        """The subject, who agreed a moment ago."""
        issue = self.server.issue
        return issue.consent.subject if issue and issue.consent else None

    def delete_authorization_code(self, authorization_code: CodeModel) -> None:
        """Use the code up; of two that race, the second finds it used, and ends what the first was given."""
        if not self.server.unit.tokens.use_code(authorization_code.record.digest, self.server.now):
            self._end(authorization_code.record)
            raise InvalidGrant("the code was used before")

    def _end(self, code: Code) -> None:
        grant, now = code.grant.id, self.server.now
        self.server.afterwards.append(lambda unit: unit.tokens.end_grant(grant, now))


class ClientCredentials(grants.ClientCredentialsGrant):
    """A component's own token: for this service, or for one named consent at one holder."""

    TOKEN_ENDPOINT_AUTH_METHODS = [ASSERTION]  # noqa: RUF012 - Authlib's own attribute
    request: OAuthRequest
    server: Server

    def validate_token_request(self) -> None:
        """After Authlib's checks: scopes, proof, audience, and the consent if data is asked for."""
        super().validate_token_request()
        client = _client(self.request)
        scope = self.request.client.get_allowed_scope(self.request.form.get("scope")) if self.request.client else None
        if scope is None:
            raise InvalidScope("a scope is unknown or not for this client")
        jkt = prove(self.server, self.request)
        audience = audience_of(self.server, client, self.request.form.get("resource"))
        issue = Issue(client, jkt, audience, parse(scope), self.server.now)
        details = self.request.form.get("authorization_details")
        if details is None:
            _own(self.server, issue)
        else:
            _bound(self.server, issue, details)
        self.server.issue = issue


class RefreshGrant(grants.RefreshTokenGrant):
    """A new access token for a grant that still stands; the refresh token is not rotated (FAPI 2.0 5.3.2.1-9)."""

    TOKEN_ENDPOINT_AUTH_METHODS = [ASSERTION]  # noqa: RUF012 - Authlib's own attribute
    INCLUDE_NEW_REFRESH_TOKEN = False
    request: OAuthRequest
    server: Server

    def authenticate_refresh_token(self, refresh_token: str) -> RefreshModel | None:
        """Find a refresh token whose grant has not ended."""
        found = self.server.unit.tokens.refresh(digest(refresh_token))
        return None if found is None or found.grant.ended_at is not None else RefreshModel(found)

    def validate_token_request(self) -> None:
        """After Authlib's checks: the same key as at the beginning, and the consent as it is now."""
        super().validate_token_request()
        refresh = self.request.refresh_token.record
        jkt = prove(self.server, self.request)
        if jkt != refresh.jkt:
            raise InvalidDpopProof("the refresh token is bound to another key")
        _same_resource(self.request, refresh.grant.audience)
        client, grant = _client(self.request), refresh.grant
        issue = _under_grant(self.server, client, grant, jkt, attended=None)
        scope = self.request.form.get("scope")
        issue.scopes = parse(scope) if scope else grant.scopes
        self.server.issue = issue

    def authenticate_user(self, refresh_token: RefreshModel) -> str | None:
        """The subject of the consent behind the grant."""
        issue = self.server.issue
        return issue.consent.subject if issue and issue.consent else None

    def revoke_old_credential(self, refresh_token: RefreshModel) -> None:
        """Nothing: a lost answer must be repeatable."""


def _client(request: OAuthRequest) -> Client:
    if request.client is None:
        raise RuntimeError("the client was not authenticated")
    return request.client.record


def _under_grant(server: Server, client: Client, grant: TokenGrant, jkt: str, *, attended: bool | None) -> Issue:
    """Prepare a token under a grant; `attended` None means: ask whether the subject is there."""
    try:
        view = consent_for(server, client, grant.consent)
        named_in(server, view.parties, grant.audience)
        there = _present(server, view) if attended is None else attended
        detail = permitted(server, client, view, grant.detail, attended=there)
    except (AccessDenied, InvalidAuthorizationDetails) as fault:
        # RFC 6749 section 5.2: at this endpoint a grant that no longer stands is an invalid grant
        raise InvalidGrant(fault.sentence) from None
    return Issue(client, jkt, grant.audience, grant.scopes, server.now, view, detail, there, grant)


def _present(server: Server, view: ConsentView) -> bool:
    return server.services.present(server.unit, view, server.now)


def _own(server: Server, issue: Issue) -> None:
    """Without a consent a token opens only this service's own doors, each of which decides again."""
    if issue.audience != server.services.issuer:
        raise InvalidAuthorizationDetails("a token for a holder names its consent")
    if not issue.scopes:
        raise InvalidScope("scope or authorization_details is required")


def _bound(server: Server, issue: Issue, details: str) -> None:
    asked = rfc9396.named(rfc9396.parse(details))
    view = consent_for(server, issue.client, asked.consent_id or "")
    named_in(server, view.parties, issue.audience)
    issue.attended = _present(server, view)
    issue.consent = view
    issue.detail = permitted(server, issue.client, view, asked, attended=issue.attended)


def audience_of(server: Server, client: Client, resource: str | None) -> str:
    """One audience: a component of the same controller by its address, or this service (RFC 8707)."""
    if resource in (None, server.services.issuer):
        return server.services.issuer
    holder = server.unit.clients.of_resource(resource or "")
    if holder is None or holder.controller != client.controller or server.query_client(holder.id) is None:
        raise InvalidTarget("no such resource")
    return holder.resource or ""


def named_in(server: Server, parties: frozenset[PartyId], audience: str) -> None:
    """A holder is one the person was told of (consent rules 15, 51). Raises `InvalidTarget` (RFC 8707 section 2)."""
    if audience == server.services.issuer:
        return
    holder = server.unit.clients.of_resource(audience)
    if holder is None or holder.party not in parties:
        raise InvalidTarget("the consent does not name this holder")


def _same_resource(request: OAuthRequest, audience: str) -> None:
    if request.form.get("resource", audience) != audience:
        raise InvalidTarget("the grant is for another resource")

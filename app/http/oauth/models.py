"""Our records in the shapes Authlib's grants ask for (RFC 6749): thin views without state of their own."""

from __future__ import annotations

from datetime import datetime

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin

from app.sdk.errors import Malformed
from app.sdk.scopes import join, parse
from app.tokens.records import AccessToken, Client, Code, GrantType, Refresh

ASSERTION = "private_key_jwt"
OWN_TOKEN = "own_access_token"  # noqa: S105 - the name of a method, no secret


class ClientModel(ClientMixin):
    """A client. Has no secret and never authenticates with one."""

    def __init__(self, client: Client) -> None:
        self.record = client
        self.client_id = client.id

    def get_client_id(self) -> str:
        return self.record.id

    def get_default_redirect_uri(self) -> str | None:
        return None  # every request names its own (RFC 9700 section 4.1.3)

    def get_allowed_scope(self, scope: str | None) -> str | None:
        try:
            asked = parse(scope or "")
        except Malformed:
            return None
        return join(asked) if asked <= self.record.scopes else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.record.redirect_uris

    def check_client_secret(self, client_secret: str) -> bool:
        return False

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == ASSERTION or (method == OWN_TOKEN and endpoint == "introspection")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and GrantType.AUTHORIZATION_CODE in self.record.grants

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in self.record.grants


class CodeModel(AuthorizationCodeMixin):
    """An authorization code."""

    code_challenge_method = "S256"

    def __init__(self, code: Code) -> None:
        self.record = code
        self.code_challenge = code.challenge

    def get_redirect_uri(self) -> str:
        return self.record.redirect_uri

    def get_scope(self) -> str:
        return join(self.record.grant.scopes)


class RefreshModel(TokenMixin):
    """A refresh token; its end is the grant's and the consent's."""

    def __init__(self, refresh: Refresh) -> None:
        self.record = refresh

    def check_client(self, client: ClientModel) -> bool:
        return self.record.grant.client == client.client_id

    def get_scope(self) -> str:
        return join(self.record.grant.scopes)

    def get_expires_in(self) -> int:
        return 0  # never asked by the refresh grant; the consent's end is checked by the judge

    def is_expired(self) -> bool:
        return False

    def is_revoked(self) -> bool:
        return self.record.grant.ended_at is not None


class AccessModel(TokenMixin):
    """An access token at a given moment."""

    def __init__(self, token: AccessToken, now: datetime) -> None:
        self.record = token
        self._now = now

    def check_client(self, client: ClientModel) -> bool:
        return self.record.client == client.client_id

    def get_scope(self) -> str:
        return join(self.record.scopes)

    def get_expires_in(self) -> int:
        return int((self.record.expires_at - self.record.issued_at).total_seconds())

    def is_expired(self) -> bool:
        return self._now >= self.record.expires_at

    def is_revoked(self) -> bool:
        return self.record.revoked_at is not None

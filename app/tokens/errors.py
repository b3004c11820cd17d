"""What can go wrong with a token, a proof or a client: one family; `code` is the OAuth error code of its RFC.

Messages are fixed phrases in the characters RFC 6749 allows; they never repeat what the caller sent.
"""

from __future__ import annotations

from typing import ClassVar


class TokenError(Exception):
    """The family; `status` is the HTTP status its RFC gives it."""

    code: ClassVar[str] = "invalid_request"
    status: ClassVar[int] = 400

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class InvalidRequest(TokenError):
    """RFC 6749 section 5.2."""


class InvalidClient(TokenError):
    """RFC 6749 section 5.2: who the client is was not proven, or it may not act."""

    code = "invalid_client"
    status = 401


class InvalidGrant(TokenError):
    """RFC 6749 section 5.2: the code or refresh token is unknown, ended, or somebody else's."""

    code = "invalid_grant"


class InvalidScope(TokenError):
    """RFC 6749 section 5.2."""

    code = "invalid_scope"


class UnauthorizedClient(TokenError):
    """RFC 6749 section 5.2: the client may not use this grant."""

    code = "unauthorized_client"


class UnsupportedGrantType(TokenError):
    """RFC 6749 section 5.2."""

    code = "unsupported_grant_type"


class UnsupportedResponseType(TokenError):
    """RFC 6749 section 4.1.2.1."""

    code = "unsupported_response_type"


class AccessDenied(TokenError):
    """RFC 6749 section 4.1.2.1; `reason` is the first reason of the decision, a closed code."""

    code = "access_denied"

    def __init__(self, reason: str) -> None:
        super().__init__(f"refused: {reason}")
        self.reason = reason


class InvalidAuthorizationDetails(TokenError):
    """RFC 9396 section 5."""

    code = "invalid_authorization_details"


class InvalidTarget(TokenError):
    """RFC 8707 section 2: the resource is unknown, or not for this client."""

    code = "invalid_target"


class InvalidRequestUri(TokenError):
    """RFC 9126: the pushed request is unknown, ended, or was completed already."""

    code = "invalid_request_uri"


class InvalidDpopProof(TokenError):
    """RFC 9449 section 5."""

    code = "invalid_dpop_proof"


class UseDpopNonce(TokenError):
    """RFC 9449 section 8: try again with the nonce in the `DPoP-Nonce` header."""

    code = "use_dpop_nonce"


class InvalidToken(TokenError):
    """RFC 6750 section 3.1: expired, revoked, malformed, or bound to another key."""

    code = "invalid_token"
    status = 401


class InsufficientScope(TokenError):
    """RFC 6750 section 3.1; `scope` is what is missing."""

    code = "insufficient_scope"
    status = 403

    def __init__(self, scope: str) -> None:
        super().__init__("the token lacks a scope")
        self.scope = scope


class NoSigningKey(TokenError):
    """No key is active: `SigningKeys.prepare` was never called."""

    code = "server_error"
    status = 503

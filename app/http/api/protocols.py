"""The JSON doors whose shapes are other texts': the authorization server (RFCs 6749, 7009, 7523, 7662, 8414, 9126,
9396, 9449, 9728), health, and the signal of Global Privacy Control. As OpenAPI paths, written by hand.

Their rooms know nothing of this description; tests hold it against the URL map and against real answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_TEXT: Final = {"type": "string"}
_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ISSUER: Final = "https://regard.example"
_DETAIL: Final = (
    '[{"type":"aggregation_consent","actions":["read"],"purpose":"wealth_overview",'
    '"categories":["accounts.balances"],"period":{"until":"2027-04-30"}}]'
)
_NAMED: Final = '[{"type":"aggregation_consent","actions":["read"],"consent_id":"con_4f2qk7mzr6wdxjv3"}]'
_SIGNED: Final = {
    "client_assertion_type": {"const": _ASSERTION_TYPE},
    "client_assertion": {
        **_TEXT,
        "description": "A JWT signed ES256 with the client's key: `iss` and `sub` the client id, `aud` exactly the "
        "issuer, `jti` never used before, `exp` near (RFC 7523).",
    },
}
_BY_ASSERTION: Final = {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": "eyJhbGciOiJFUzI1NiJ9..."}
_PROOF: Final = {
    "in": "header",
    "name": "DPoP",
    "required": True,
    "schema": _TEXT,
    "description": "A proof of the key the token is bound to (RFC 9449).",
}

ERROR: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"error": _TEXT, "error_description": _TEXT},
    "required": ["error"],
}
"""RFC 6749 section 5.2; the schema's name is OAuthError."""


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _form(properties: Mapping[str, Any], required: tuple[str, ...], example: Mapping[str, str]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {**properties, **_SIGNED}, "required": [*required, *_SIGNED]}
    content = {"application/x-www-form-urlencoded": {"schema": schema, "example": {**example, **_BY_ASSERTION}}}
    return {"required": True, "content": content}


def _answer(says: str, schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"description": says, "content": {"application/json": {"schema": schema, "example": example}}}


def _refused(status_says: str, *errors: tuple[str, str]) -> dict[str, Any]:
    examples = {code: {"summary": says, "value": {"error": code}} for code, says in errors}
    schema = {"$ref": "#/components/schemas/OAuthError"}
    return {"description": status_says, "content": {"application/json": {"schema": schema, "examples": examples}}}


_CLIENT_REFUSED: Final = _refused(
    "Unauthorized", ("invalid_client", "Who the client is was not proven, or it or its party may not act.")
)
_MALFORMED: Final = ("invalid_request", "A parameter is missing, repeated, too long or malformed.")
_BAD_DETAILS: Final = (
    "invalid_authorization_details",
    "Unknown type or field, or no consent of this client (RFC 9396 section 5).",
)
_BAD_TARGET: Final = ("invalid_target", "The resource is unknown, or not for this client (RFC 8707).")
_BAD_PROOF: Final = ("invalid_dpop_proof", "No proof, a stale or used one, or another key (RFC 9449).")
_BAD_SCOPE: Final = ("invalid_scope", "A scope is unknown or not for this client.")


def _operation(says: str, text: str, responses: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"tags": ["oauth"], "summary": says, "description": text, "responses": dict(responses), **more}


def _document(says: str, schema: Mapping[str, Any], example: Any, *, tag: str = "oauth", text: str = "") -> Any:
    described = _operation(says, text, {"200": _answer("OK", schema, example)})
    return {"get": {**described, "tags": [tag]}}


_LIST: Final = {"type": "array", "items": _TEXT}
_TOKEN: Final = _object(
    access_token=_TEXT,
    token_type={"const": "DPoP"},
    expires_in={"type": "integer", "description": "Seconds, at most 300."},
    scope=_TEXT,
    refresh_token={**_TEXT, "description": "With a code; not rotated, ends with the consent."},
    authorization_details={"type": "array", "items": {"type": "object"}, "description": "What was granted."},
    sub={**_TEXT, "description": "What the client's own party calls the person."},
)
_INTROSPECTED: Final = _object(
    active={"type": "boolean"},
    iss=_TEXT,
    aud=_TEXT,
    client_id=_TEXT,
    party=_TEXT,
    scope=_TEXT,
    token_type={"const": "DPoP"},
    iat={"type": "integer"},
    exp={"type": "integer"},
    cnf={"type": "object", "description": "`jkt`: thumbprint of the key the token is bound to."},
    sub={**_TEXT, "description": "What the audience's own party calls the person."},
    authorization_details={"type": "array", "items": {"type": "object"}},
    consent_version={"type": "integer"},
    attended={"type": "boolean"},
    obligations={"type": "object", "description": "What the yes binds its bearer to."},
)

_PAR: Final = _operation(
    "Push a request for a person's agreement.",
    "The whole request goes over the back channel (RFC 9126); the browser then carries only its reference. "
    "`authorization_details` holds exactly one detail of type `aggregation_consent`.",
    {
        "201": _answer(
            "Created",
            _object(request_uri=_TEXT, expires_in={"type": "integer"}),
            {"request_uri": "urn:ietf:params:oauth:request_uri:rVh5...", "expires_in": 300},
        ),
        "400": _refused("Bad Request", _MALFORMED, _BAD_SCOPE, _BAD_DETAILS, _BAD_TARGET, _BAD_PROOF),
        "401": _CLIENT_REFUSED,
    },
    requestBody=_form(
        {
            "response_type": {"const": "code"},
            "redirect_uri": {**_TEXT, "description": "One of the registered ones, character by character."},
            "scope": _TEXT,
            "state": _TEXT,
            "code_challenge": _TEXT,
            "code_challenge_method": {"const": "S256"},
            "authorization_details": _TEXT,
            "resource": {**_TEXT, "description": "The holder the tokens are for (RFC 8707)."},
            "ui_locales": {**_TEXT, "description": "`fr`, `en`, `es` or `pt`."},
            "dpop_jkt": {**_TEXT, "description": "Binds the code to a key already."},
        },
        ("response_type", "redirect_uri", "code_challenge", "code_challenge_method", "authorization_details"),
        {
            "response_type": "code",
            "redirect_uri": "https://partner.example/back",
            "state": "x7Kq",
            "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "code_challenge_method": "S256",
            "authorization_details": _DETAIL,
        },
    ),
)
_AUTHORIZE: Final = _operation(
    "Send the person to the consent page.",
    "For a browser. The person signs in, reads, answers; the browser comes back to `redirect_uri` with `code`, `state` "
    "and `iss`, or with `error=access_denied`.",
    {
        "303": {"description": "To the page `/{language}/consent/{journey}`."},
        "400": _refused(
            "Bad Request",
            _MALFORMED,
            ("invalid_request_uri", "The pushed request is unknown, over, or answered already."),
        ),
    },
    parameters=[
        {"in": "query", "name": "client_id", "required": True, "schema": _TEXT},
        {"in": "query", "name": "request_uri", "required": True, "schema": _TEXT},
    ],
)
_ISSUE: Final = _operation(
    "Issue a token.",
    "Grants: `authorization_code` with its PKCE verifier, `refresh_token`, and `client_credentials`: without "
    "`authorization_details` for this service's own doors, with a `consent_id` in them for one consent at one holder. "
    "Each token that opens data without the person there counts as one unattended read: at most four in 24 hours.",
    {
        "200": _answer(
            "OK",
            _TOKEN,
            {"access_token": "rgt_Zk3v...", "token_type": "DPoP", "expires_in": 300, "scope": "keys.lease"},
        ),
        "400": _refused(
            "Bad Request",
            _MALFORMED,
            ("invalid_grant", "The code or refresh token is unknown, ended, or somebody else's."),
            ("access_denied", "The decision is no; `error_description` ends with its reason."),
            ("unsupported_grant_type", "There is no such grant here."),
            _BAD_SCOPE,
            _BAD_DETAILS,
            _BAD_TARGET,
            _BAD_PROOF,
        ),
        "401": _CLIENT_REFUSED,
    },
    parameters=[_PROOF],
    requestBody=_form(
        {
            "grant_type": {"enum": ["authorization_code", "client_credentials", "refresh_token"]},
            "code": _TEXT,
            "redirect_uri": _TEXT,
            "code_verifier": _TEXT,
            "refresh_token": _TEXT,
            "scope": _TEXT,
            "resource": _TEXT,
            "authorization_details": _TEXT,
        },
        ("grant_type",),
        {
            "grant_type": "client_credentials",
            "resource": "https://holder.example",
            "authorization_details": _NAMED,
        },
    ),
)
_INTROSPECT: Final = _operation(
    "Ask whether a token that was presented is good now.",
    "Joined to the consent at every call, nothing cached (RFC 7662). Only the token's own audience learns anything; "
    "everybody else, and every token that opens nothing, gets `active: false` and not even why. The caller "
    "authenticates with an assertion, or with its own token and a DPoP proof.",
    {
        "200": _answer("OK", _INTROSPECTED, {"active": False}),
        "400": _refused("Bad Request", _MALFORMED),
        "401": _CLIENT_REFUSED,
    },
    requestBody=_form({"token": _TEXT}, ("token",), {"token": "rgt_Zk3v..."}),
)
_REVOKE: Final = _operation(
    "Give back a token.",
    "Giving back the refresh token ends the grant with all its tokens (RFC 7009). A token nobody knows is no error.",
    {
        "200": {"description": "OK, nothing to say."},
        "400": _refused("Bad Request", _MALFORMED, ("invalid_grant", "The token was issued to another client.")),
        "401": _CLIENT_REFUSED,
    },
    requestBody=_form({"token": _TEXT, "token_type_hint": _TEXT}, ("token",), {"token": "rgr_Lw9c..."}),
)
_KEY: Final = _object(kty=_TEXT, crv=_TEXT, x=_TEXT, y=_TEXT, kid=_TEXT, use=_TEXT, alg=_TEXT)
_READY: Final = _object(
    ready={"type": "boolean"}, checks={"type": "object", "additionalProperties": {"type": "boolean"}}
)
_SOUND: Final = {"records": True, "keys": True, "key_provider": True}

PATHS: Final[Mapping[str, Any]] = {
    "/oauth/par": {"post": _PAR},
    "/oauth/authorize": {"get": _AUTHORIZE},
    "/oauth/token": {"post": _ISSUE},
    "/oauth/introspect": {"post": _INTROSPECT},
    "/oauth/revoke": {"post": _REVOKE},
    "/oauth/jwks": _document(
        "Return the keys that verify receipts.",
        _object(keys={"type": "array", "items": _KEY}),
        {
            "keys": [
                {
                    "kty": "EC",
                    "crv": "P-256",
                    "x": "uXRb0NDHJgrjn1OLmwuHbCTzP3VkzROd_90K-4l6dRQ",
                    "y": "DanX9LwIFE4WKJkQL3PS5T9z40z2kKnDLZgUp0guUeM",
                    "kid": "Tes7QQkgt2zeYCXB-oVGpaKDyk70C89jyUSyjgmoLO4",
                    "use": "sig",
                    "alg": "ES256",
                }
            ]
        },
        text="The next key is published before it signs.",
    ),
    "/.well-known/oauth-authorization-server": _document(
        "Say what the authorization server can do.",
        _object(
            issuer=_TEXT,
            token_endpoint=_TEXT,
            pushed_authorization_request_endpoint=_TEXT,
            introspection_endpoint=_TEXT,
            jwks_uri=_TEXT,
            scopes_supported=_LIST,
            grant_types_supported=_LIST,
        ),
        {
            "issuer": _ISSUER,
            "token_endpoint": f"{_ISSUER}/oauth/token",
            "pushed_authorization_request_endpoint": f"{_ISSUER}/oauth/par",
            "introspection_endpoint": f"{_ISSUER}/oauth/introspect",
            "jwks_uri": f"{_ISSUER}/oauth/jwks",
            "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
        },
        text="RFC 8414; more members than are shown here.",
    ),
    "/.well-known/oauth-protected-resource": _document(
        "Say how this service's own doors are protected.",
        _object(
            resource=_TEXT,
            authorization_servers=_LIST,
            scopes_supported=_LIST,
            bearer_methods_supported=_LIST,
            dpop_bound_access_tokens_required={"type": "boolean"},
        ),
        {
            "resource": _ISSUER,
            "authorization_servers": [_ISSUER],
            "bearer_methods_supported": ["header"],
            "dpop_bound_access_tokens_required": True,
        },
        text="RFC 9728; more members than are shown here.",
    ),
    "/.well-known/gpc.json": _document(
        "Say that the browser's signal against selling and sharing is honoured.",
        _object(gpc={"type": "boolean"}, lastUpdate={**_TEXT, "format": "date"}),
        {"gpc": True, "lastUpdate": "2026-01-01"},
        tag="health",
    ),
    "/health/live": _document(
        "Say that the process lives.", _object(alive={"type": "boolean"}), {"alive": True}, tag="health"
    ),
    "/health/ready": {
        "get": {
            "tags": ["health"],
            "summary": "Say whether this process should get requests.",
            "responses": {
                "200": _answer("OK", _READY, {"ready": True, "checks": _SOUND}),
                "503": _answer(
                    "Service Unavailable", _READY, {"ready": False, "checks": {**_SOUND, "key_provider": False}}
                ),
            },
        }
    },
    "/api/openapi.json": _document(
        "Return this description.", {"type": "object"}, {"openapi": "3.1.0", "info": {"title": "Regard"}}, tag="health"
    ),
}
TAGS: Final = (
    {"name": "oauth", "description": "The authorization server"},
    {"name": "health", "description": "The service about itself"},
)

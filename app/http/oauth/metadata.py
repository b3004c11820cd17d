"""What the server says of itself (RFC 8414) and of the doors it protects (RFC 9728)."""

from __future__ import annotations

from typing import Any

from app.http.oauth.models import ASSERTION
from app.sdk.claims import AGGREGATION_CONSENT
from app.sdk.scopes import Scope
from app.tokens.records import GrantType

_ES256 = ["ES256"]


def server_metadata(issuer: str) -> dict[str, Any]:
    """Return the document of RFC 8414 with the members of RFCs 9126, 9207, 9396 and 9449."""
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "pushed_authorization_request_endpoint": f"{issuer}/oauth/par",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "jwks_uri": f"{issuer}/oauth/jwks",
        "scopes_supported": list(Scope),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GrantType),
        "code_challenge_methods_supported": ["S256"],
        "ui_locales_supported": ["fr", "en", "es", "pt"],
        "require_pushed_authorization_requests": True,
        "authorization_response_iss_parameter_supported": True,
        "authorization_details_types_supported": [AGGREGATION_CONSENT],
        "dpop_signing_alg_values_supported": _ES256,
        **{
            f"{endpoint}_{member}": value
            for endpoint in ("token_endpoint", "revocation_endpoint", "introspection_endpoint")
            for member, value in (
                ("auth_methods_supported", [ASSERTION]),
                ("auth_signing_alg_values_supported", _ES256),
            )
        },
    }


def resource_metadata(issuer: str) -> dict[str, Any]:
    """Return the document of RFC 9728 for this service's own API."""
    return {
        "resource": issuer,
        "authorization_servers": [issuer],
        "scopes_supported": list(Scope),
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": _ES256,
        "dpop_bound_access_tokens_required": True,
        "authorization_details_types_supported": [AGGREGATION_CONSENT],
    }

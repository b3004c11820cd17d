"""The answer of introspection (RFC 7662 section 2.2), the same from the full door and from the fast lane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.http.oauth.validity import Standing
from app.sdk.claims import AggregationConsent
from app.sdk.scopes import join
from consent.decision import Permit

INACTIVE: Final[Mapping[str, Any]] = {"active": False}
"""An inactive token has no other member, not even why (tokens.md section 4: no oracle about consents of others)."""


def described(found: Standing, issuer: str, handle: str | None) -> dict[str, Any]:
    """Return the members of a token that is good now; `handle` is what its audience's party calls the subject."""
    token = found.token
    return {
        "active": True,
        "iss": issuer,
        "aud": token.audience,
        "client_id": token.client,
        "party": token.party,
        "scope": join(token.scopes),
        "token_type": "DPoP",
        "iat": int(token.issued_at.timestamp()),
        "exp": int(token.expires_at.timestamp()),
        "cnf": {"jkt": token.jkt},
        **_about(found, handle),
    }


def _about(found: Standing, handle: str | None) -> dict[str, Any]:
    token = found.token
    if found.consent is None or token.detail is None:
        return {}
    about: dict[str, Any] = {
        "authorization_details": [token.detail.to_json()],
        "consent_version": token.consent_version,
        "attended": token.attended,
        "obligations": _obligations(found.permit, token.detail),
    }
    return about if handle is None else {**about, "sub": handle}


def _obligations(permit: Permit | None, detail: AggregationConsent) -> dict[str, Any]:
    """What the decision binds its bearer to, as plain data; a history asked for shorter is no longer for the token."""
    if permit is None:
        return {}
    bound = permit.obligations
    history = max((day for day in (bound.history_from, detail.history_from) if day is not None), default=None)
    said: dict[str, Any] = {
        "keep": bound.keep.value,
        "keep_until": bound.keep_until.isoformat() if bound.keep_until else None,
        "where": list(bound.where),
        "mask": sorted(bound.mask),
        "history_from": history.isoformat() if history else None,
        "reads_per_hour": bound.reads_per_hour,
    }
    return {name: value for name, value in said.items() if value is not None}

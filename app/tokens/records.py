"""The records of the authorization server and the ports it keeps them behind; `app.store` has the adapters.

A token points at a consent's id and version and says nothing else about it: validity is a join (tokens.md section 1).
Secrets (codes, tokens, references) appear here only as SHA-256 digests of 32 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from app.sdk.claims import AggregationConsent
from app.sdk.scopes import Scope


class GrantType(StrEnum):
    """The grants there are; no password, implicit, device or token exchange (tokens.md section 2)."""

    AUTHORIZATION_CODE = "authorization_code"
    CLIENT_CREDENTIALS = "client_credentials"
    REFRESH_TOKEN = "refresh_token"  # noqa: S105 - the name of a grant, no secret


@dataclass(frozen=True, slots=True)
class Client:
    """A component: an OAuth client that belongs to a party of the processor list."""

    id: str
    controller: str
    party: str
    name: str
    jwks: Mapping[str, Any]
    """A JWK set of public P-256 keys, each with its `kid`."""
    scopes: frozenset[Scope]
    grants: frozenset[GrantType]
    redirect_uris: tuple[str, ...]
    """Compared character by character (RFC 9700 section 2.1)."""
    resource: str | None
    """The address under which this component is an audience (RFC 8707); None if it holds nothing."""
    created_at: datetime
    suspended_at: datetime | None = None
    country: str = ""
    """Where it runs, ISO 3166-1 alpha-2; empty means unknown, which is inside no region."""
    honours: frozenset[str] = frozenset()
    """The ways of keeping data it can enforce (`consent.decision.Keep`); none by default."""


@dataclass(frozen=True, slots=True)
class PushedRequest:
    """An authorization request pushed by its client (RFC 9126)."""

    digest: bytes
    client: str
    controller: str
    party: str
    journey: str
    """The id of the consent journey it opens; the page's address, no secret."""
    parameters: Mapping[str, str]
    jkt: str | None
    created_at: datetime
    expires_at: datetime
    """Until when it can be opened, and, once opened, completed."""
    opened_at: datetime | None = None
    completed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """What one completed authorization gave a client; its tokens end with it."""

    id: str
    client: str
    controller: str
    party: str
    consent: str
    scopes: frozenset[Scope]
    audience: str
    detail: AggregationConsent
    created_at: datetime
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code: single use, at most 60 s."""

    digest: bytes
    grant: TokenGrant
    redirect_uri: str
    challenge: str
    jkt: str | None
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """A refresh token: one per grant, bound to client and key, not rotated (FAPI 2.0 5.3.2.1-9)."""

    digest: bytes
    grant: TokenGrant
    jkt: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An opaque access token, sender-constrained to a key."""

    digest: bytes
    client: str
    controller: str
    party: str
    audience: str
    scopes: frozenset[Scope]
    jkt: str
    consent: str | None
    consent_version: int | None
    detail: AggregationConsent | None
    attended: bool
    grant: str | None
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None


class KeyState(StrEnum):
    """The life of a signing key (tokens.md section 5)."""

    NEXT = "next"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key at rest: `sealed` is its PKCS#8 form, sealed under the vault's root; gone once retired."""

    kid: str
    state: KeyState
    public: Mapping[str, str]
    sealed: bytes
    created_at: datetime
    since: datetime
    """When it took its present state."""


class Clients(Protocol):
    """The register of clients."""

    def add(self, client: Client) -> None: ...
    def find(self, client: str) -> Client | None: ...
    def of_resource(self, resource: str) -> Client | None: ...
    def of_party(self, party: str) -> list[Client]: ...
    def suspend(self, client: str, at: datetime) -> bool: ...
    def resume(self, client: str) -> bool: ...


class Replays(Protocol):
    """Remembers single-use ids; survives kill and restart."""

    def spend(self, kind: str, owner: str, jti: str, until: datetime) -> bool:
        """Spend an id; False when it was spent before."""
        ...


class SigningKeyRows(Protocol):
    """Where signing keys rest."""

    def all(self) -> list[StoredKey]: ...
    def put(self, key: StoredKey) -> None: ...


class Tokens(Replays, Protocol):
    """Requests, codes, grants, tokens, read counters; each method is atomic within the unit of work."""

    def push(self, request: PushedRequest) -> None: ...
    def pushed(self, digest: bytes) -> PushedRequest | None: ...
    def pushed_for(self, journey: str) -> PushedRequest | None: ...
    def open_pushed(self, digest: bytes, at: datetime, until: datetime) -> bool: ...
    def complete_pushed(self, digest: bytes, at: datetime) -> bool:
        """Complete a request; False when it was completed before."""
        ...

    def add_grant(self, grant: TokenGrant) -> None: ...
    def end_grant(self, grant: str, at: datetime) -> None:
        """End a grant: its refresh token and its access tokens end with it."""
        ...

    def add_code(self, code: Code) -> None: ...
    def code(self, digest: bytes) -> Code | None: ...
    def use_code(self, digest: bytes, at: datetime) -> bool:
        """Use a code up; False when it was used before."""
        ...

    def add_refresh(self, refresh: Refresh) -> None: ...
    def refresh(self, digest: bytes) -> Refresh | None: ...
    def add_access(self, token: AccessToken) -> None: ...
    def access(self, digest: bytes) -> AccessToken | None: ...
    def revoke_access(self, digest: bytes, at: datetime) -> None: ...
    def count_read(self, consent: str, party: str, connection: str, at: datetime, limit: int) -> bool:
        """Count one unattended read; False, and nothing counted, when `limit` were reached in the last 24 hours."""
        ...

    def reads(self, consent: str, party: str, at: datetime) -> int:
        """How many unattended reads the last 24 hours hold, over the busiest connection."""
        ...

    def purge(self, now: datetime, most: int) -> int:
        """Remove at most `most` rows of each kind that can never matter again; return how many went."""
        ...

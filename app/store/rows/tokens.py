"""Tables of the authorization server: pushed requests, codes, grants, tokens, spent ids, read counters, signing keys.

No subject here: a token points at a consent, and the consent at its subject (tokens.md section 1).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase

_DIGEST = LargeBinary(32)


class PushedRequestRow(RecordsBase):
    """An authorization request pushed by its client (RFC 9126)."""

    __tablename__ = "oauth_requests"

    digest: Mapped[bytes] = mapped_column(_DIGEST, primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("oauth_clients.id"))
    controller: Mapped[str] = mapped_column(String(64))
    party: Mapped[str] = mapped_column(String(64))
    journey: Mapped[str] = mapped_column(String(64), unique=True)
    parameters: Mapped[dict[str, str]] = mapped_column(JSON)
    jkt: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)
    opened_at: Mapped[datetime | None] = mapped_column(Instant)
    completed_at: Mapped[datetime | None] = mapped_column(Instant)


class TokenGrantRow(RecordsBase):
    """What one completed authorization gave a client."""

    __tablename__ = "oauth_grants"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    client: Mapped[str] = mapped_column(ForeignKey("oauth_clients.id"))
    controller: Mapped[str] = mapped_column(String(64))
    party: Mapped[str] = mapped_column(String(64))
    consent: Mapped[str] = mapped_column(String(64), index=True)
    scopes: Mapped[str] = mapped_column(String(1000))
    audience: Mapped[str] = mapped_column(String(500))
    detail: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(Instant)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)


class CodeRow(RecordsBase):
    """An authorization code, by its digest."""

    __tablename__ = "oauth_codes"

    digest: Mapped[bytes] = mapped_column(_DIGEST, primary_key=True)
    grant: Mapped[str] = mapped_column(ForeignKey("oauth_grants.id"))
    redirect_uri: Mapped[str] = mapped_column(String(2000))
    challenge: Mapped[str] = mapped_column(String(64))
    jkt: Mapped[str | None] = mapped_column(String(64))
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)
    used_at: Mapped[datetime | None] = mapped_column(Instant)


class RefreshRow(RecordsBase):
    """The one refresh token of a grant, by its digest."""

    __tablename__ = "oauth_refresh_tokens"

    digest: Mapped[bytes] = mapped_column(_DIGEST, primary_key=True)
    grant: Mapped[str] = mapped_column(ForeignKey("oauth_grants.id"), unique=True)
    jkt: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(Instant)


class AccessTokenRow(RecordsBase):
    """An access token, by its digest."""

    __tablename__ = "oauth_access_tokens"

    digest: Mapped[bytes] = mapped_column(_DIGEST, primary_key=True)
    client: Mapped[str] = mapped_column(String(64))
    controller: Mapped[str] = mapped_column(String(64))
    party: Mapped[str] = mapped_column(String(64))
    audience: Mapped[str] = mapped_column(String(500))
    scopes: Mapped[str] = mapped_column(String(1000))
    jkt: Mapped[str] = mapped_column(String(64))
    consent: Mapped[str | None] = mapped_column(String(64))
    consent_version: Mapped[int | None] = mapped_column(Integer)
    detail: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    attended: Mapped[bool]
    grant: Mapped[str | None] = mapped_column(String(64), index=True)
    issued_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)


class SpentIdRow(RecordsBase):
    """A `jti` that was used; kept as a digest over kind, owner and id."""

    __tablename__ = "oauth_spent_ids"

    digest: Mapped[bytes] = mapped_column(_DIGEST, primary_key=True)
    until: Mapped[datetime] = mapped_column(Instant, index=True)


class ReadCounterRow(RecordsBase):
    """The row whoever counts reads of one consent, party and connection locks first."""

    __tablename__ = "oauth_read_counters"

    consent: Mapped[str] = mapped_column(String(64), primary_key=True)
    party: Mapped[str] = mapped_column(String(64), primary_key=True)
    connection: Mapped[str] = mapped_column(String(128), primary_key=True)
    total: Mapped[int] = mapped_column(Integer)


class UnattendedReadRow(RecordsBase):
    """One unattended read, counted at token issue (RTS art. 36(5)(b))."""

    __tablename__ = "oauth_unattended_reads"
    __table_args__ = (Index("ix_oauth_unattended_reads_of", "consent", "party", "connection", "at"),)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    consent: Mapped[str] = mapped_column(String(64))
    party: Mapped[str] = mapped_column(String(64))
    connection: Mapped[str] = mapped_column(String(128))
    at: Mapped[datetime] = mapped_column(Instant, index=True)


class SigningKeyRow(RecordsBase):
    """A signing key, its private half sealed under the vault's root."""

    __tablename__ = "oauth_signing_keys"

    kid: Mapped[str] = mapped_column(String(64), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    public: Mapped[dict[str, str]] = mapped_column(JSON)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Instant)
    since: Mapped[datetime] = mapped_column(Instant)

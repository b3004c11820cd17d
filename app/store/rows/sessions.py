"""Sessions, pending sign-ins, passkey enrolment codes and guess counters: digests only, nothing that opens anything.

A stolen copy of these tables signs nobody in: the secrets behind the digests are 128 random bits and more, and the
link and short code of a sign-in are derived from a server key and stored nowhere.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class SessionRow(RecordsBase):
    """One server-side session, under the SHA-256 of its cookie."""

    __tablename__ = "sessions"
    __table_args__ = (Index("ix_sessions_kind_person", "kind", "person"),)

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    person: Mapped[str] = mapped_column(String(64))
    level: Mapped[int]
    proven_at: Mapped[datetime | None] = mapped_column(Instant)
    credential: Mapped[str | None] = mapped_column(String(64))
    """Digest of the passkey asserted, for the evidence of what is then agreed to."""
    opened_at: Mapped[datetime] = mapped_column(Instant)
    seen_at: Mapped[datetime] = mapped_column(Instant)
    idle_at: Mapped[datetime] = mapped_column(Instant)
    ends_at: Mapped[datetime] = mapped_column(Instant, index=True)
    challenge: Mapped[bytes | None] = mapped_column(LargeBinary)
    challenge_until: Mapped[datetime | None] = mapped_column(Instant)
    enrolment: Mapped[str | None] = mapped_column(String(64))


class SignInRow(RecordsBase):
    """One e-mail sign-in asked for; `subject` is null where the address is nobody's, so that both cost the same."""

    __tablename__ = "sign_ins"

    ref: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str | None] = mapped_column(String(64), index=True)
    link_digest: Mapped[str] = mapped_column(String(64), unique=True)
    ticket_digest: Mapped[str] = mapped_column(String(64), unique=True)
    onward: Mapped[str | None] = mapped_column(String(500))
    asked_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)
    tries: Mapped[int] = mapped_column(default=0)
    ended_at: Mapped[datetime | None] = mapped_column(Instant)
    """Used, or cancelled by a newer one."""


class CounterRow(RecordsBase):
    """How often something was tried in one window of time; `key` is a keyed hash, never an address."""

    __tablename__ = "door_counters"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    window_at: Mapped[datetime] = mapped_column(Instant, primary_key=True)
    tries: Mapped[int]

"""Consents: their events, append-only and chained, and the state they leave, for the join of every token.

Everything is an opaque id, a code, a date or a digest; `body` is the canonical JSON of one event.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class ConsentRow(RecordsBase):
    """The state of one consent after its last event; tokens, leases and decisions join it by id and version."""

    __tablename__ = "consents"
    __table_args__ = (
        Index("ix_consents_subject", "controller", "subject", "purpose"),
        Index("ix_consents_party", "controller", "party", "id"),
        Index("ix_consents_due_at", "due_at"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    purpose: Mapped[str] = mapped_column(String(64))
    party: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(32))
    version: Mapped[int]
    valid_until: Mapped[datetime | None] = mapped_column(Instant)
    due_at: Mapped[datetime | None] = mapped_column(Instant)
    """When time ends it (the offer's or the period's end); empty once it is final, so the sweep sees only live ones."""
    requested_at: Mapped[datetime] = mapped_column(Instant)
    head: Mapped[str] = mapped_column(String(64))
    """Digest of the last event: a removed tail is found too (consent rule 56)."""


class ConsentEventRow(RecordsBase):
    """One event. Rows are inserted only; the key refuses two events of the same number."""

    __tablename__ = "consent_events"

    consent: Mapped[str] = mapped_column(ForeignKey("consents.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    controller: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(48))
    at: Mapped[datetime] = mapped_column(Instant)
    body: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))

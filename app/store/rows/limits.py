"""Restrictions and objections (GDPR arts 18, 21): what the decision meets beside consents.

Opaque ids, codes and moments only. Lists of ids are sorted and separated by spaces; empty is not the same as absent.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class RestrictionRow(RecordsBase):
    """One restriction, kept after its end."""

    __tablename__ = "restrictions"
    __table_args__ = (Index("ix_restrictions_subject", "subject", "controller"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(ForeignKey("subjects.ref"))
    ground: Mapped[str] = mapped_column(String(32))
    since: Mapped[datetime] = mapped_column(Instant)
    origin: Mapped[str | None] = mapped_column(String(64))
    categories: Mapped[str | None] = mapped_column(Text)
    """Absent: all."""
    purposes: Mapped[str | None] = mapped_column(Text)
    """Absent: all."""
    exempt: Mapped[str] = mapped_column(Text)
    told: Mapped[str | None] = mapped_column(String(64))
    lifted_at: Mapped[datetime | None] = mapped_column(Instant)


class ObjectionRow(RecordsBase):
    """One objection, kept after it was refused or taken back."""

    __tablename__ = "objections"
    __table_args__ = (Index("ix_objections_subject", "subject", "controller"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(ForeignKey("subjects.ref"))
    purpose: Mapped[str | None] = mapped_column(String(64))
    """Absent: direct marketing, whatever purpose serves it."""
    since: Mapped[datetime] = mapped_column(Instant)
    origin: Mapped[str | None] = mapped_column(String(64))
    evidence: Mapped[str | None] = mapped_column(String(64))
    refused_at: Mapped[datetime | None] = mapped_column(Instant)
    retracted_at: Mapped[datetime | None] = mapped_column(Instant)

"""Receipts of consents, sealed whole under the subject's own key, and what a person was told about a consent.

A receipt names everything a person agreed to: without the key nothing of it can be read (consent rules 56, 57).
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class ReceiptRow(RecordsBase):
    """One signed receipt: of one consent as it stood after one of its events."""

    __tablename__ = "consent_receipts"
    __table_args__ = (
        UniqueConstraint("consent", "version"),
        Index("ix_consent_receipts_subject", "controller", "subject"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    consent: Mapped[str] = mapped_column(ForeignKey("consents.id"))
    version: Mapped[int]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    made_at: Mapped[datetime] = mapped_column(Instant)


class ConsentNoticeRow(RecordsBase):
    """Something done about a consent, once: `occasion` names what, so that a repeated run tells nobody twice."""

    __tablename__ = "consent_notices"

    consent: Mapped[str] = mapped_column(ForeignKey("consents.id"), primary_key=True)
    occasion: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime] = mapped_column(Instant)

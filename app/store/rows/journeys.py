"""Where a person is in a consent question: opaque ids and chosen codes only, never a name or an account number."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class JourneyRow(RecordsBase):
    """One question put to one person; the answers so far, so that changing the language loses none."""

    __tablename__ = "journeys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    consent: Mapped[str] = mapped_column(String(64))
    script: Mapped[str] = mapped_column(String(64))
    """The journey of the policy pack whose stages it has."""
    progress: Mapped[str] = mapped_column(String(8000))
    """`consent.journey.to_plain` as JSON."""
    onward: Mapped[bool]
    """Whether a partner waits for the person to come back."""
    begun_at: Mapped[datetime] = mapped_column(Instant, index=True)

"""Mail waiting to be sent: sealed whole, because an address and a sign-in link are both worth stealing."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class QueuedMailRow(RecordsBase):
    """One mail; the row goes once the mail is handed over."""

    __tablename__ = "queued_mail"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(32))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    queued_at: Mapped[datetime] = mapped_column(Instant)

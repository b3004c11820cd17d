"""When each holder was last heard of, so that a dead one is seen (dsar rules, section 2). Nothing of any person."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class HolderHeartbeatRow(RecordsBase):
    """The last sign of life of one component."""

    __tablename__ = "holder_heartbeats"

    component: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64), index=True)
    seen_at: Mapped[datetime] = mapped_column(Instant)

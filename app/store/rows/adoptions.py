"""Which policy packs were adopted, and the ledger entry of each."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class PolicyAdoptionRow(RecordsBase):
    """One adoption; the newest is in force."""

    __tablename__ = "policy_adoptions"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    digest: Mapped[str] = mapped_column(String(64))
    version: Mapped[str] = mapped_column(String(32))
    entry: Mapped[str] = mapped_column(String(64))
    adopted_at: Mapped[datetime] = mapped_column(Instant)

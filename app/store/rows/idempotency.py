"""Requests that clients named with an `Idempotency-Key` (api.md), each for a day.

Neither the key nor the request stands here, only keyed digests of them: a client may put anything into its keys. The
answer is sealed under the controller's own key.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class KeyedRequestRow(RecordsBase):
    """One named request: being carried out (`claim`), or done (`sealed`)."""

    __tablename__ = "keyed_requests"

    name: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    """The client and its key."""
    controller: Mapped[str] = mapped_column(String(64))
    request: Mapped[bytes] = mapped_column(LargeBinary(32))
    claim: Mapped[str | None] = mapped_column(String(64))
    claimed_until: Mapped[datetime] = mapped_column(Instant)
    """From when on somebody else may carry it out: whoever claimed it has died."""
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(Instant, index=True)

"""How far each database has been brought in line with the tombstones; one row in each, so one table of a name in both.

A database that was restored from a backup has the row of that day, and so tells by itself that it is older than the
tombstone file (vault.md section 5, dsar rule 54). Nothing about anybody.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, KeysBase, RecordsBase


class RecordsMarkRow(RecordsBase):
    """The mark of the records database."""

    __tablename__ = "tombstone_marks"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    upto: Mapped[int] = mapped_column(BigInteger)
    """Bytes of the tombstone file."""
    lines: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    """The checksum in its last line, which is chained from all before."""
    marked_at: Mapped[datetime] = mapped_column(Instant)


class KeysMarkRow(KeysBase):
    """The mark of the key store."""

    __tablename__ = "tombstone_marks"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    upto: Mapped[int] = mapped_column(BigInteger)
    lines: Mapped[int] = mapped_column(BigInteger)
    digest: Mapped[str] = mapped_column(String(64))
    marked_at: Mapped[datetime] = mapped_column(Instant)

"""Rows of the ledger: entries as written, which opaque ids they mention, tree nodes, the tree's size, signed heads.

Entries and nodes are only ever inserted; an entry gains its position once, and may lose its sealed payload when the
audit key's own retention ends. Nothing here is in clear but handles, kinds and moments.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase

_Serial = BigInteger().with_variant(Integer, "sqlite")


class LedgerEntryRow(RecordsBase):
    """One entry, unsequenced while `position` is null."""

    __tablename__ = "ledger_entries"

    arrival: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=True)
    """Order of insertion, not of commit: a later commit may carry a lower number. The position is what counts."""
    id: Mapped[str] = mapped_column(String(64), unique=True)
    position: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    at: Mapped[datetime] = mapped_column(Instant)
    kind: Mapped[str] = mapped_column(String(64))
    actor: Mapped[str] = mapped_column(String(128))
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str | None] = mapped_column(String(64))
    key_id: Mapped[str] = mapped_column(String(128))
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)


Index(
    "ix_ledger_entries_waiting",
    LedgerEntryRow.arrival,
    sqlite_where=LedgerEntryRow.position.is_(None),
    postgresql_where=LedgerEntryRow.position.is_(None),
)
Index("ix_ledger_entries_subject_position", LedgerEntryRow.subject, LedgerEntryRow.position)
Index("ix_ledger_entries_at", LedgerEntryRow.at)
Index("ix_ledger_entries_key_id", LedgerEntryRow.key_id)


class LedgerReferenceRow(RecordsBase):
    """An opaque id that stands in an entry's payload, so that the entries of a case or a consent are found."""

    __tablename__ = "ledger_references"

    ref: Mapped[str] = mapped_column(String(64), primary_key=True)
    entry: Mapped[str] = mapped_column(ForeignKey("ledger_entries.id"), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))


class LedgerNodeRow(RecordsBase):
    """The hash of a full subtree; level 0 are the leaves (RFC 9162 section 2.1).

    Level and index share one number, level * 2**56 + index: a proof is then one look-up of some twenty whole numbers,
    which both databases answer from the primary key (a pair of columns made SQLite read the whole table).
    """

    __tablename__ = "ledger_nodes"

    node: Mapped[int] = mapped_column(_Serial, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class LedgerTreeRow(RecordsBase):
    """The one row that says how many leaves the tree has; whoever integrates holds its lock."""

    __tablename__ = "ledger_tree"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    size: Mapped[int] = mapped_column(BigInteger)


class LedgerCheckpointRow(RecordsBase):
    """A signed tree head, with the cosignatures gathered so far."""

    __tablename__ = "ledger_checkpoints"

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(Instant)
    note: Mapped[str] = mapped_column(Text)

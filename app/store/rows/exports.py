"""The hold-back pool, the release candidates, the sealed cohorts and the released tables (exports.md rules 4-6).

The pool holds sealed bytes under key class `pool` and opaque references only. A membership says *that* a subject was
in a cohort, so that nobody enters two; it says nothing about where in the table, and no such link is kept.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class PoolRow(RecordsBase):
    """One subject's analysable values, still sealed and still erasable, waiting for a cohort."""

    __tablename__ = "export_pool"

    controller: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    profile: Mapped[str] = mapped_column(String(64))
    schema_version: Mapped[int]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    deadline: Mapped[datetime] = mapped_column(Instant, index=True)


class ReleaseCandidateRow(RecordsBase):
    """A table that asks to leave: its digest and the figures the DPO reads. The table itself is not here."""

    __tablename__ = "release_candidates"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64), index=True)
    profile: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    """Hex SHA-256 over the three files; an approval is of exactly these."""
    report: Mapped[str] = mapped_column(Text)
    """JSON of `app.exports.risk.report`: figures of groups, never a value of a row."""
    planned_at: Mapped[datetime] = mapped_column(Instant)
    approved_by: Mapped[str | None] = mapped_column(String(64))
    """Opaque staff reference."""
    approved_at: Mapped[datetime | None] = mapped_column(Instant)
    cohort: Mapped[str | None] = mapped_column(String(64))
    """The sealed cohort it became; null while it has not left."""


class CohortRow(RecordsBase):
    """A sealed cohort and the table released from it: written once, never changed."""

    __tablename__ = "export_cohorts"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64), index=True)
    profile: Mapped[str] = mapped_column(String(64))
    schema_version: Mapped[int]
    subjects: Mapped[int]
    table_csv: Mapped[bytes] = mapped_column(LargeBinary)
    table_parquet: Mapped[bytes] = mapped_column(LargeBinary)
    manifest: Mapped[bytes] = mapped_column(LargeBinary)
    outline: Mapped[str] = mapped_column(Text)
    """JSON of `app.exports.attacks.outline`: what later releases are compared with."""
    approved_by: Mapped[str] = mapped_column(String(64))
    """Opaque staff reference."""
    released_at: Mapped[datetime] = mapped_column(Instant)


class CohortMemberRow(RecordsBase):
    """A subject of a sealed cohort; the key makes a second entry impossible."""

    __tablename__ = "export_members"

    controller: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    cohort: Mapped[str] = mapped_column(ForeignKey("export_cohorts.id"), index=True)

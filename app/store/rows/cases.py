"""Cases of data subjects: their events (append-only), and what is derived from them to be found fast.

No row holds what a person wrote in clear: notes are sealed, everything else is ids, codes and moments (dsar rule 59).
`case_events` is the truth; `cases` and `case_lines` are its projection for the queue and for duplicates.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import JSON, Date, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class CaseRow(RecordsBase):
    """One message from a person, as it stands after `version` events."""

    __tablename__ = "cases"
    __table_args__ = (Index("ix_cases_queue", "controller", "ended", "due_strict", "id"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str | None] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(32))
    ended: Mapped[bool]
    received_at: Mapped[datetime] = mapped_column(Instant)
    due_strict: Mapped[date] = mapped_column(Date, index=True)
    due_effective: Mapped[date] = mapped_column(Date)
    month_one: Mapped[date] = mapped_column(Date)
    version: Mapped[int]


class CaseLineRow(RecordsBase):
    """One right asked for; at most one open line per controller, subject and right (dsar rule 9)."""

    __tablename__ = "case_lines"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    case: Mapped[str] = mapped_column("case_id", ForeignKey("cases.id"), index=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str | None] = mapped_column(String(64))
    right: Mapped[str] = mapped_column("asked_right", String(32))
    outcome: Mapped[str | None] = mapped_column(String(32))
    open: Mapped[bool] = mapped_column("is_open")


Index(
    "uq_case_lines_open",
    CaseLineRow.controller,
    CaseLineRow.subject,
    CaseLineRow.right,
    unique=True,
    sqlite_where=CaseLineRow.open.is_(True),
    postgresql_where=CaseLineRow.open.is_(True),
)


class CaseEventRow(RecordsBase):
    """One event of a case; never updated, never deleted."""

    __tablename__ = "case_events"

    case: Mapped[str] = mapped_column("case_id", ForeignKey("cases.id"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    controller: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(64))
    shape: Mapped[int]
    """The version of the event's own shape."""
    at: Mapped[datetime] = mapped_column(Instant)
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    entry: Mapped[str] = mapped_column(String(64))
    """The ledger entry that says the same."""


class CaseMessageRow(RecordsBase):
    """Which case a message belongs to; the message's own story is in the events."""

    __tablename__ = "case_messages"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    case: Mapped[str] = mapped_column("case_id", ForeignKey("cases.id"), index=True)
    controller: Mapped[str] = mapped_column(String(64))


class CaseNoteRow(RecordsBase):
    """What a person or an agent wrote, sealed."""

    __tablename__ = "case_notes"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    case: Mapped[str] = mapped_column("case_id", String(64), index=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str | None] = mapped_column(String(64), index=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class HolderTaskRow(RecordsBase):
    """What one holder is asked for one line, and what it answered (dsar rule 40)."""

    __tablename__ = "holder_tasks"
    __table_args__ = (
        Index("ix_holder_tasks_open", "holder", "answered_at", "created_at"),
        Index("ix_holder_tasks_subject", "subject", "holder"),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    case: Mapped[str] = mapped_column("case_id", ForeignKey("cases.id"), index=True)
    line: Mapped[str] = mapped_column(String(64))
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    holder: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(Instant)
    place: Mapped[int]
    """Order within the case."""
    instructions: Mapped[list[Any]] = mapped_column(JSON)
    answer: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    answered_at: Mapped[datetime | None] = mapped_column(Instant)


class PackageRow(RecordsBase):
    """A sealed package: its facts; the bytes are elsewhere, sealed."""

    __tablename__ = "case_packages"
    __table_args__ = (Index("ix_case_packages_subject", "controller", "subject"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    case: Mapped[str] = mapped_column("case_id", ForeignKey("cases.id"), index=True)
    line: Mapped[str] = mapped_column(String(64))
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    sealed_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    revoked_at: Mapped[datetime | None] = mapped_column(Instant)


class RecipientTaskRow(RecordsBase):
    """An art. 19 notice owed to one named recipient (dsar rule 56)."""

    __tablename__ = "recipient_tasks"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    case: Mapped[str] = mapped_column("case_id", ForeignKey("cases.id"), index=True)
    line: Mapped[str] = mapped_column(String(64))
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    recipient: Mapped[str] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16))
    due: Mapped[date] = mapped_column(Date, index=True)
    reason: Mapped[str | None] = mapped_column(Text)


class RetentionRow(RecordsBase):
    """What outlived an erasure and the day it goes (dsar rule 49)."""

    __tablename__ = "case_retentions"
    __table_args__ = (Index("ix_case_retentions_due", "erased_at", "until"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    case: Mapped[str] = mapped_column("case_id", ForeignKey("cases.id"), index=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    holder: Mapped[str] = mapped_column(String(64))
    category: Mapped[str] = mapped_column(String(64))
    purpose: Mapped[str] = mapped_column(String(64))
    legal_ref: Mapped[str] = mapped_column(Text)
    until: Mapped[date] = mapped_column(Date)
    erased_at: Mapped[datetime | None] = mapped_column(Instant)

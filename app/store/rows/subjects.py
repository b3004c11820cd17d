"""Subjects, their known contact points and what each party calls them. Nothing here can be read without a key.

The profile is sealed; a contact point is a keyed hash (blind index) and says only since when it is known
(dsar rule 27). Pairwise handles are random: destroying a row destroys the link.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class SubjectRow(RecordsBase):
    """One natural person as one controller knows them; known to two controllers, they are two subjects."""

    __tablename__ = "subjects"

    ref: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64), index=True)
    created_at: Mapped[datetime] = mapped_column(Instant)
    erased_at: Mapped[datetime | None] = mapped_column(Instant)
    locale: Mapped[str] = mapped_column(String(2))
    profile: Mapped[bytes | None] = mapped_column(LargeBinary)


class ContactPointRow(RecordsBase):
    """A way to reach a subject, as a blind index; the address itself is in the sealed profile."""

    __tablename__ = "contact_points"
    __table_args__ = (UniqueConstraint("controller", "kind", "blind_index"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    subject: Mapped[str] = mapped_column(ForeignKey("subjects.ref"), index=True)
    controller: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    blind_index: Mapped[bytes] = mapped_column(LargeBinary)
    known_since: Mapped[datetime] = mapped_column(Instant)


class PairwiseHandleRow(RecordsBase):
    """What one party calls one subject."""

    __tablename__ = "pairwise_handles"
    __table_args__ = (UniqueConstraint("subject", "party"),)

    handle: Mapped[str] = mapped_column(String(64), primary_key=True)
    subject: Mapped[str] = mapped_column(ForeignKey("subjects.ref"), index=True)
    controller: Mapped[str] = mapped_column(String(64))
    party: Mapped[str] = mapped_column(String(64))


class DisclosureRow(RecordsBase):
    """One read, look or sending of a subject's data (GDPR art. 15(1)(c), consent rule 51)."""

    __tablename__ = "disclosures"
    __table_args__ = (Index("ix_disclosures_subject_at", "subject", "at"),)

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(64))
    party: Mapped[str] = mapped_column(String(64))
    component: Mapped[str | None] = mapped_column(String(64))
    actor_role: Mapped[str | None] = mapped_column(String(32))
    categories: Mapped[str] = mapped_column(String(2000))
    """Category ids, sorted, separated by spaces."""
    records: Mapped[int]
    purpose: Mapped[str] = mapped_column(String(64))
    consent: Mapped[str | None] = mapped_column(String(64))
    attended: Mapped[bool]
    action: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime] = mapped_column(Instant)

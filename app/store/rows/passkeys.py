"""Passkeys (public keys), the printed codes that permit a first one, and the firm's own people."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class PasskeyRow(RecordsBase):
    """A WebAuthn credential: its public half only."""

    __tablename__ = "passkeys"
    __table_args__ = (Index("ix_passkeys_kind_person", "kind", "person"),)

    credential_id: Mapped[str] = mapped_column(String(1400), primary_key=True)
    """base64url; a credential id has at most 1023 bytes (WebAuthn section 4)."""
    controller: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    person: Mapped[str] = mapped_column(String(64))
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    sign_count: Mapped[int]
    added_at: Mapped[datetime] = mapped_column(Instant)
    usable_from: Mapped[datetime] = mapped_column(Instant)
    used_at: Mapped[datetime | None] = mapped_column(Instant)


class EnrolmentCodeRow(RecordsBase):
    """A printed code, as a keyed hash; it permits one passkey."""

    __tablename__ = "enrolment_codes"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    person: Mapped[str] = mapped_column(String(64), index=True)
    issued_at: Mapped[datetime] = mapped_column(Instant)
    expires_at: Mapped[datetime] = mapped_column(Instant)
    cooling_seconds: Mapped[int]
    used_at: Mapped[datetime | None] = mapped_column(Instant)


class StaffRow(RecordsBase):
    """A member of staff: who may open the console, in which roles, for which controllers."""

    __tablename__ = "staff_members"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    roles: Mapped[str] = mapped_column(String(200))
    """Role ids, sorted, separated by spaces."""
    controllers: Mapped[str] = mapped_column(String(500))
    """Controller ids, sorted, separated by spaces."""
    left_at: Mapped[datetime | None] = mapped_column(Instant)

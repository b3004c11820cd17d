"""Links by which somebody whose keys are destroyed reads the certificate of it: nobody can sign in any more then."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, RecordsBase


class CertificateLinkRow(RecordsBase):
    """One link: the digest of its token, and what it shows. Names an erasure and a case, never a person."""

    __tablename__ = "certificate_links"

    digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    controller: Mapped[str] = mapped_column(String(64))
    case: Mapped[str] = mapped_column("case_id", String(64), index=True)
    erasure: Mapped[str] = mapped_column(String(64), unique=True)
    mail: Mapped[str | None] = mapped_column(String(64), unique=True)
    """The mail that carries the link, kept back until there is a certificate to read."""
    message: Mapped[str | None] = mapped_column(String(64))
    """The case's message that this mail delivers, once it is on its way."""
    made_at: Mapped[datetime] = mapped_column(Instant)

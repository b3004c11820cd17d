"""Repository of the links to erasure certificates; tokens are kept as digests only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from app.store.rows.certificates import CertificateLinkRow
from consent.vocabulary import ControllerId
from dsar.vocabulary import CaseId, MessageId


@dataclass(frozen=True, slots=True)
class CertificateLink:
    """What a token shows, and the mail that brings it."""

    controller: ControllerId
    case: CaseId
    erasure: str
    """The id of the vault's erasure, `era_line_...`."""
    made_at: datetime
    mail: str | None = None
    message: MessageId | None = None


class SqlCertificateLinks:
    """Links within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, digest: bytes, link: CertificateLink) -> None:
        """Write a link under the SHA-256 of its token; the database refuses a second one of the same erasure."""
        values = {
            "digest": digest,
            "controller": link.controller,
            "case": link.case,
            "erasure": link.erasure,
            "mail": link.mail,
            "message": link.message,
            "made_at": link.made_at,
        }
        self._session.execute(insert(CertificateLinkRow).values(**values))

    def find(self, digest: bytes) -> CertificateLink | None:
        """Return what a token shows, by its SHA-256; None for one nobody was given."""
        return self._one(CertificateLinkRow.digest, digest)

    def of_erasure(self, erasure: str) -> CertificateLink | None:
        """Return the link of an erasure; None when there was nobody to send one to."""
        return self._one(CertificateLinkRow.erasure, erasure)

    def of_mail(self, mail: str) -> CertificateLink | None:
        """Return the link a mail brings; None when it brings none."""
        return self._one(CertificateLinkRow.mail, mail)

    def deliver(self, erasure: str, message: MessageId) -> None:
        """Note which message of the case the mail of this link delivers."""
        of = CertificateLinkRow.erasure == erasure
        self._session.execute(update(CertificateLinkRow).where(of).values(message=message))

    def _one(
        self, column: InstrumentedAttribute[bytes] | InstrumentedAttribute[str | None], key: object
    ) -> CertificateLink | None:
        query = select(CertificateLinkRow).where(column == key).execution_options(populate_existing=True)
        row = self._session.scalars(query).one_or_none()
        return None if row is None else _link(row)


def _link(row: CertificateLinkRow) -> CertificateLink:
    return CertificateLink(
        controller=ControllerId(row.controller),
        case=CaseId(row.case),
        erasure=row.erasure,
        made_at=row.made_at,
        mail=row.mail,
        message=MessageId(row.message) if row.message is not None else None,
    )

"""Repositories of receipts and of what was told about a consent: written once, whoever tries twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select
from sqlalchemy.dialects import postgresql, sqlite

from app.store.rows.receipts import ConsentNoticeRow, ReceiptRow
from consent.vocabulary import ConsentId, ControllerId, SubjectRef

_RECEIPTS = ReceiptRow.__table__
_NOTICES = ConsentNoticeRow.__table__


@dataclass(frozen=True, slots=True)
class StoredReceipt:
    """A receipt as stored; `sealed` opens with the subject's key only."""

    id: str
    controller: ControllerId
    subject: SubjectRef
    consent: ConsentId
    version: int
    sealed: bytes = field(repr=False)
    made_at: datetime


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """Something that was done about a consent, and when."""

    consent: ConsentId
    occasion: str
    controller: ControllerId
    subject: SubjectRef
    at: datetime


class SqlReceipts:
    """Receipts within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(
        self,
        receipt: str,
        *,
        controller: ControllerId,
        subject: SubjectRef,
        consent: ConsentId,
        version: int,
        sealed: bytes,
        at: datetime,
    ) -> bool:
        """Store it; False when this version of the consent has one already."""
        values = {
            "id": receipt,
            "controller": controller,
            "subject": subject,
            "consent": consent,
            "version": version,
            "sealed": sealed,
            "made_at": at,
        }
        return _added(self._connection, ReceiptRow, values)

    def find(self, controller: ControllerId, consent: ConsentId, receipt: str) -> StoredReceipt | None:
        """Return one receipt of one consent."""
        wanted = (ReceiptRow.id == receipt) & (ReceiptRow.consent == consent) & (ReceiptRow.controller == controller)
        row = self._connection.execute(select(_RECEIPTS).where(wanted)).one_or_none()
        return _receipt(row) if row is not None else None

    def of_version(self, controller: ControllerId, consent: ConsentId, version: int) -> StoredReceipt | None:
        """Return the receipt of a consent as it stood after its event number `version`."""
        wanted = (ReceiptRow.consent == consent) & (ReceiptRow.version == version)
        row = self._connection.execute(
            select(_RECEIPTS).where(wanted, ReceiptRow.controller == controller)
        ).one_or_none()
        return _receipt(row) if row is not None else None

    def of_consent(self, controller: ControllerId, consent: ConsentId) -> Sequence[StoredReceipt]:
        """Return the receipts of a consent, newest first."""
        wanted = (ReceiptRow.consent == consent) & (ReceiptRow.controller == controller)
        query = select(_RECEIPTS).where(wanted).order_by(ReceiptRow.version.desc())
        return [_receipt(row) for row in self._connection.execute(query)]

    def of_subject(self, controller: ControllerId, subject: SubjectRef) -> Sequence[StoredReceipt]:
        """Return all receipts of a person, newest first."""
        theirs = (ReceiptRow.controller == controller) & (ReceiptRow.subject == subject)
        query = select(_RECEIPTS).where(theirs).order_by(ReceiptRow.made_at.desc(), ReceiptRow.id)
        return [_receipt(row) for row in self._connection.execute(query)]


class SqlConsentNotices:
    """What was told or done about consents, within the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(
        self, controller: ControllerId, consent: ConsentId, occasion: str, *, subject: SubjectRef, at: datetime
    ) -> bool:
        """Note it; False when it was noted before: then it was done before."""
        values = {
            "consent": consent,
            "occasion": occasion,
            "controller": controller,
            "subject": subject,
            "at": at,
        }
        return _added(self._connection, ConsentNoticeRow, values)

    def of_consent(self, controller: ControllerId, consent: ConsentId) -> Sequence[StoredNotice]:
        """Return what was done about a consent, in order."""
        wanted = (ConsentNoticeRow.consent == consent) & (ConsentNoticeRow.controller == controller)
        query = select(_NOTICES).where(wanted).order_by(ConsentNoticeRow.at, ConsentNoticeRow.occasion)
        return [
            StoredNotice(
                ConsentId(row.consent), row.occasion, ControllerId(row.controller), SubjectRef(row.subject), row.at
            )
            for row in self._connection.execute(query)
        ]


def _added(connection: Connection, row: type[ReceiptRow | ConsentNoticeRow], values: dict[str, object]) -> bool:
    """Insert or nothing: waits for a rival's commit instead of failing on it."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    insertion: Any = dialect.insert(row).values(values).on_conflict_do_nothing().returning(row.controller)
    return connection.execute(insertion).first() is not None


def _receipt(row: Row[Any]) -> StoredReceipt:
    return StoredReceipt(
        id=row.id,
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject),
        consent=ConsentId(row.consent),
        version=row.version,
        sealed=row.sealed,
        made_at=row.made_at,
    )

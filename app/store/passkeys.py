"""Repositories of passkeys, printed enrolment codes and staff, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, Delete, Update, delete, select, update
from sqlalchemy.orm import Session

from app.store.rows.passkeys import EnrolmentCodeRow, PasskeyRow, StaffRow
from consent.vocabulary import ControllerId

Kind = Literal["subject", "staff"]


@dataclass(frozen=True, slots=True)
class StoredPasskey:
    """A public key somebody enrolled."""

    credential_id: str
    kind: Kind
    person: str
    controller: ControllerId
    public_key: bytes
    sign_count: int
    added_at: datetime
    usable_from: datetime
    used_at: datetime | None


@dataclass(frozen=True, slots=True)
class StoredEnrolment:
    """For whom a printed code was issued, and how long what it enrols has to cool."""

    kind: Kind
    person: str
    controller: ControllerId
    cooling: timedelta


@dataclass(frozen=True, slots=True)
class StoredStaff:
    """A member of staff who has not left."""

    id: str
    name: str
    roles: frozenset[str]
    controllers: frozenset[ControllerId]

    def may_act(self, roles: frozenset[str], controllers: Collection[ControllerId]) -> bool:
        """Return whether they have one of the roles and serve each of the controllers."""
        return bool(roles & self.roles) and self.controllers.issuperset(controllers)


class SqlPasskeys:
    """Passkeys by credential id."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        credential_id: str,
        *,
        kind: Kind,
        person: str,
        controller: ControllerId,
        public_key: bytes,
        sign_count: int,
        now: datetime,
        usable_from: datetime,
    ) -> None:
        self._session.add(
            PasskeyRow(
                credential_id=credential_id,
                controller=controller,
                kind=kind,
                person=person,
                public_key=public_key,
                sign_count=sign_count,
                added_at=now,
                usable_from=usable_from,
            )
        )
        self._session.flush()

    def find(self, credential_id: str) -> StoredPasskey | None:
        row = self._session.get(PasskeyRow, credential_id)
        return _passkey(row) if row else None

    def of(self, kind: Kind, person: str) -> Sequence[StoredPasskey]:
        """Return a person's passkeys, oldest first."""
        query = (
            select(PasskeyRow)
            .where(PasskeyRow.kind == kind, PasskeyRow.person == person)
            .order_by(PasskeyRow.added_at, PasskeyRow.credential_id)
        )
        return [_passkey(row) for row in self._session.scalars(query)]

    def used(self, credential_id: str, sign_count: int, now: datetime) -> bool:
        """Move the counter; it has to rise, save for authenticators that always say 0 (WebAuthn section 6.1.1)."""
        fresh = (PasskeyRow.sign_count < sign_count) if sign_count else (PasskeyRow.sign_count == 0)
        statement = (
            update(PasskeyRow)
            .where(PasskeyRow.credential_id == credential_id, fresh)
            .values(sign_count=sign_count, used_at=now)
        )
        return _count(self._session, statement) == 1

    def remove(self, credential_id: str, kind: Kind, person: str) -> bool:
        """Remove one of the person's own; False where it is not theirs."""
        statement = delete(PasskeyRow).where(
            PasskeyRow.credential_id == credential_id, PasskeyRow.kind == kind, PasskeyRow.person == person
        )
        return _count(self._session, statement) == 1


class SqlEnrolments:
    """Printed codes by their keyed hash."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def issue(
        self,
        digest: str,
        *,
        kind: Kind,
        person: str,
        controller: ControllerId,
        now: datetime,
        expires_at: datetime,
        cooling: timedelta,
    ) -> None:
        """Store it; an earlier unused one of the same person ends."""
        self._session.execute(
            update(EnrolmentCodeRow)
            .where(EnrolmentCodeRow.kind == kind, EnrolmentCodeRow.person == person, EnrolmentCodeRow.used_at.is_(None))
            .values(used_at=now)
        )
        self._session.add(
            EnrolmentCodeRow(
                digest=digest,
                controller=controller,
                kind=kind,
                person=person,
                issued_at=now,
                expires_at=expires_at,
                cooling_seconds=int(cooling.total_seconds()),
            )
        )
        self._session.flush()

    def find(self, digest: str, now: datetime) -> StoredEnrolment | None:
        query = select(EnrolmentCodeRow).where(EnrolmentCodeRow.digest == digest, *_open(now))
        row = self._session.scalars(query).first()
        return _enrolment(row) if row else None

    def redeem(self, digest: str, now: datetime) -> StoredEnrolment | None:
        """Use it up; one of two racing callers gets it."""
        statement = update(EnrolmentCodeRow).where(EnrolmentCodeRow.digest == digest, *_open(now)).values(used_at=now)
        if not _count(self._session, statement):
            return None
        return _enrolment(self._session.get_one(EnrolmentCodeRow, digest))

    def end_all(self, kind: Kind, person: str, now: datetime) -> int:
        """Use up every code of a person; return how many there were."""
        theirs = (EnrolmentCodeRow.kind == kind, EnrolmentCodeRow.person == person, EnrolmentCodeRow.used_at.is_(None))
        return _count(self._session, update(EnrolmentCodeRow).where(*theirs).values(used_at=now))


class SqlStaff:
    """The firm's people."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, member: StoredStaff) -> None:
        self._session.add(
            StaffRow(
                id=member.id,
                name=member.name,
                roles=" ".join(sorted(member.roles)),
                controllers=" ".join(sorted(member.controllers)),
            )
        )
        self._session.flush()

    def find(self, staff: str) -> StoredStaff | None:
        row = self._session.get(StaffRow, staff)
        return None if row is None or row.left_at is not None else _staff(row)

    def present(self) -> Sequence[StoredStaff]:
        """Return everybody who has not left, by name."""
        query = select(StaffRow).where(StaffRow.left_at.is_(None)).order_by(StaffRow.name, StaffRow.id)
        return [_staff(row) for row in self._session.scalars(query)]

    def leave(self, staff: str, at: datetime) -> None:
        """The console closes for them at once."""
        self._session.execute(update(StaffRow).where(StaffRow.id == staff).values(left_at=at))


def _open(now: datetime) -> tuple[Any, Any]:
    return EnrolmentCodeRow.used_at.is_(None), EnrolmentCodeRow.expires_at > now


def _count(session: Session, statement: Update | Delete) -> int:
    done = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", done).rowcount


def _passkey(row: PasskeyRow) -> StoredPasskey:
    return StoredPasskey(
        credential_id=row.credential_id,
        kind=cast("Kind", row.kind),
        person=row.person,
        controller=ControllerId(row.controller),
        public_key=row.public_key,
        sign_count=row.sign_count,
        added_at=row.added_at,
        usable_from=row.usable_from,
        used_at=row.used_at,
    )


def _staff(row: StaffRow) -> StoredStaff:
    return StoredStaff(
        id=row.id,
        name=row.name,
        roles=frozenset(row.roles.split()),
        controllers=frozenset(ControllerId(controller) for controller in row.controllers.split()),
    )


def _enrolment(row: EnrolmentCodeRow) -> StoredEnrolment:
    return StoredEnrolment(
        kind=cast("Kind", row.kind),
        person=row.person,
        controller=ControllerId(row.controller),
        cooling=timedelta(seconds=row.cooling_seconds),
    )

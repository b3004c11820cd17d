"""Repository of subjects: find by blind index, name to a party, forget."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.store.rows.subjects import ContactPointRow, PairwiseHandleRow, SubjectRow
from consent.vocabulary import ControllerId, Locale, PairwiseHandle, PartyId, SubjectRef


@dataclass(frozen=True, slots=True)
class StoredSubject:
    """A subject as stored; `profile` is a sealed record, or None once forgotten."""

    ref: SubjectRef
    controller: ControllerId
    created_at: datetime
    erased_at: datetime | None
    locale: Locale
    profile: bytes | None


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact point as stored: whose it is, its blind index."""

    subject: SubjectRef
    index: bytes


class SqlSubjects:
    """Subjects within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, subject: StoredSubject) -> None:
        self._session.add(
            SubjectRow(
                ref=subject.ref,
                controller=subject.controller,
                created_at=subject.created_at,
                erased_at=subject.erased_at,
                locale=subject.locale.value,
                profile=subject.profile,
            )
        )
        self._session.flush()

    def enrol(
        self, ref: SubjectRef, controller: ControllerId, *, locale: Locale, profile: bytes, index: bytes, at: datetime
    ) -> None:
        """Write a new subject with a sealed profile and the blind index of their address."""
        self.add(StoredSubject(ref, controller, at, None, locale, profile))
        self.add_contact(ref, controller, "email", index, at)

    def add_contact(self, ref: SubjectRef, controller: ControllerId, kind: str, index: bytes, since: datetime) -> None:
        """Make the subject findable by `kind` (`email`); `index` is the blind index of the normalised address."""
        self._session.add(
            ContactPointRow(subject=ref, controller=controller, kind=kind, blind_index=index, known_since=since)
        )
        self._session.flush()

    def get(self, ref: SubjectRef) -> StoredSubject | None:
        row = self._session.get(SubjectRow, ref)
        return _stored(row) if row else None

    def listed(self, controller: ControllerId) -> Sequence[SubjectRef]:
        """Every live subject of a controller."""
        query = select(SubjectRow.ref).where(SubjectRow.controller == controller, SubjectRow.erased_at.is_(None))
        return [SubjectRef(ref) for ref in self._session.scalars(query)]

    def find(self, controller: ControllerId, kind: str, indexes: Sequence[bytes]) -> SubjectRef | None:
        """Return the subject any of the blind indexes (one for each key epoch) belongs to."""
        query = select(ContactPointRow.subject).where(
            ContactPointRow.controller == controller,
            ContactPointRow.kind == kind,
            ContactPointRow.blind_index.in_(indexes),
        )
        found = self._session.scalars(query).first()
        return SubjectRef(found) if found else None

    def contacts_below(self, controller: ControllerId, kind: str, index: bytes, limit: int) -> Sequence[Contact]:
        """Return contact points whose blind index sorts before `index`: those under keys of earlier epochs."""
        query = (
            select(ContactPointRow.subject, ContactPointRow.blind_index)
            .where(ContactPointRow.controller == controller, ContactPointRow.kind == kind)
            .where(ContactPointRow.blind_index < index)
            .order_by(ContactPointRow.blind_index)
            .limit(limit)
        )
        return [Contact(SubjectRef(row.subject), row.blind_index) for row in self._session.execute(query)]

    def reindex(self, ref: SubjectRef, before: bytes, index: bytes | None) -> None:
        """Put a contact point under another blind index, or remove it (None); nothing when it changed meanwhile."""
        same = (ContactPointRow.subject == ref, ContactPointRow.blind_index == before)
        if index is None:
            self._session.execute(delete(ContactPointRow).where(*same))
        else:
            self._session.execute(update(ContactPointRow).where(*same).values(blind_index=index))

    def known_since(self, ref: SubjectRef, kind: str) -> datetime | None:
        """Since when the contact point has been known (dsar rule 27)."""
        query = select(ContactPointRow.known_since).where(ContactPointRow.subject == ref, ContactPointRow.kind == kind)
        return self._session.scalars(query).first()

    def handle(
        self, ref: SubjectRef, controller: ControllerId, party: PartyId, fresh: PairwiseHandle
    ) -> PairwiseHandle:
        """Return what `party` calls the subject; `fresh` becomes it when there is none yet."""
        query = select(PairwiseHandleRow.handle).where(
            PairwiseHandleRow.subject == ref, PairwiseHandleRow.party == party
        )
        known = self._session.scalars(query).first()
        if known is not None:
            return PairwiseHandle(known)
        self._session.add(PairwiseHandleRow(handle=fresh, subject=ref, controller=controller, party=party))
        self._session.flush()
        return fresh

    def handle_of(self, ref: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        """Return what `party` calls the subject, or None when it has no name for them."""
        query = select(PairwiseHandleRow.handle).where(
            PairwiseHandleRow.subject == ref, PairwiseHandleRow.party == party
        )
        found = self._session.scalars(query).first()
        return PairwiseHandle(found) if found else None

    def named(self, handle: PairwiseHandle, party: PartyId) -> SubjectRef | None:
        """Return the subject `party` calls `handle`; another party's is unknown, an erased subject's as well."""
        query = (
            select(PairwiseHandleRow.subject)
            .join(SubjectRow, SubjectRow.ref == PairwiseHandleRow.subject)
            .where(PairwiseHandleRow.handle == handle, PairwiseHandleRow.party == party, SubjectRow.erased_at.is_(None))
        )
        found = self._session.scalars(query).first()
        return SubjectRef(found) if found else None

    def forget(self, ref: SubjectRef, at: datetime, *, sparing: Collection[PartyId] = ()) -> None:
        """Remove the sealed profile, contact points and handles; the bare reference stays, marked erased.

        `sparing`: parties that keep their own handle, because they still have to be told to delete; see `drop_handle`.
        """
        self._session.execute(delete(ContactPointRow).where(ContactPointRow.subject == ref))
        self._session.execute(
            delete(PairwiseHandleRow).where(
                PairwiseHandleRow.subject == ref, PairwiseHandleRow.party.not_in(list(sparing))
            )
        )
        self._session.execute(update(SubjectRow).where(SubjectRow.ref == ref).values(profile=None, erased_at=at))

    def drop_handle(self, ref: SubjectRef, party: PartyId) -> None:
        """Remove what a party calls an erased subject; a living one keeps it."""
        erased = select(SubjectRow.ref).where(SubjectRow.ref == ref, SubjectRow.erased_at.is_not(None))
        self._session.execute(
            delete(PairwiseHandleRow).where(PairwiseHandleRow.subject.in_(erased), PairwiseHandleRow.party == party)
        )


def _stored(row: SubjectRow) -> StoredSubject:
    return StoredSubject(
        ref=SubjectRef(row.ref),
        controller=ControllerId(row.controller),
        created_at=row.created_at,
        erased_at=row.erased_at,
        locale=Locale(row.locale),
        profile=row.profile,
    )

"""Repository of consents (`consent.ports.Consents`): events in, the record folded out of them, one row for the joins.

Events are only ever inserted; an update of the state row carries the version it was computed from, so that two writers
cannot both win. Reading a record verifies its chain (consent rule 56). Core throughout: withdrawal and issue are hot.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select, update
from sqlalchemy.exc import IntegrityError

from app.store.rows.consents import ConsentEventRow, ConsentRow
from consent.errors import StaleVersionError, UnreadableEventError
from consent.events import FIRST, Event, from_plain, link, to_plain, verify
from consent.plain import canonical
from consent.record import Consent, begin, fold
from consent.vocabulary import ConsentId, ControllerId, PartyId, PurposeId, SubjectRef

_CONSENTS = ConsentRow.__table__
_EVENTS = ConsentEventRow.__table__
_AT_ONCE = 400
"""Ids in one query, within every SQLite's limit of parameters."""


class SqlConsents:
    """Consents within the caller's transaction; commits nothing itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, consent: ConsentId, event: Event) -> Consent:
        """Begin a consent with its first event."""
        record = begin(consent, event)
        digest = link(FIRST, consent, 1, event)
        values = {"id": consent, "requested_at": record.requested_at, "head": digest, **_state(record)}
        terms = record.terms
        values |= {"controller": terms.controller, "subject": terms.subject}
        values |= {"purpose": terms.purpose, "party": terms.party}
        self._connection.execute(insert(ConsentRow).values(values))
        self._write(record, event, digest)
        return record

    def find(self, controller: ControllerId, consent: ConsentId) -> Consent | None:
        """Return the consent as its events leave it. Raises BrokenChainError when they were tampered with."""
        found = self._records(_whose(controller, consent))
        return found[0] if found else None

    def controller_of(self, consent: ConsentId) -> ControllerId | None:
        """Return whose consent it is; None when there is no such consent."""
        found = self._connection.execute(select(_CONSENTS.c.controller).where(ConsentRow.id == consent)).scalar()
        return ControllerId(found) if found is not None else None

    def lock(self, controller: ControllerId, consent: ConsentId) -> Consent | None:
        """Return it for a change; on SQLite the one writer is this transaction already."""
        query = select(_CONSENTS.c.id).where(_whose(controller, consent)).with_for_update()
        if self._connection.execute(query).one_or_none() is None:
            return None
        return self.find(controller, consent)

    def append(self, before: Consent, event: Event) -> Consent:
        """Append an event to what was read. Raises StaleVersionError when somebody else changed it since."""
        after = before.apply(event)
        as_read = (ConsentRow.id == before.id) & (ConsentRow.version == before.version)
        row = self._connection.execute(select(_CONSENTS.c.head).where(as_read)).one_or_none()
        if row is None:
            raise StaleVersionError("the consent changed since it was read")
        digest = link(row.head, before.id, after.version, event)
        moved = update(ConsentRow).where(as_read, ConsentRow.head == row.head).values(head=digest, **_state(after))
        if self._connection.execute(moved).rowcount != 1:
            raise StaleVersionError("the consent changed since it was read")
        self._write(after, event, digest)
        return after

    def events(self, controller: ControllerId, consent: ConsentId) -> tuple[Event, ...]:
        """Return its events in order; empty when there is no such consent."""
        rows = self._connection.execute(select(_CONSENTS).where(_whose(controller, consent))).all()
        return self._histories(rows)[consent] if rows else ()

    def head(self, controller: ControllerId, consent: ConsentId) -> str | None:
        """Return the digest of its last event, for the receipt."""
        query = select(_CONSENTS.c.head).where(_whose(controller, consent))
        return self._connection.execute(query).scalar_one_or_none()

    def of_subject(
        self, controller: ControllerId, subject: SubjectRef, purpose: PurposeId | None = None
    ) -> tuple[Consent, ...]:
        """Return the subject's consents, newest first, of one purpose or of all."""
        theirs = (ConsentRow.controller == controller) & (ConsentRow.subject == subject)
        if purpose is not None:
            theirs &= ConsentRow.purpose == purpose
        return self._records(theirs, newest_first=True)

    def of_party(
        self, controller: ControllerId, party: PartyId, *, limit: int, after: ConsentId | None = None
    ) -> tuple[Consent, ...]:
        """Return the consents a party asked for, by id, those after `after`."""
        theirs = (ConsentRow.controller == controller) & (ConsentRow.party == party)
        if after is not None:
            theirs &= ConsentRow.id > after
        return self._records(theirs, limit=limit)

    def due(self, at: datetime, *, limit: int) -> tuple[tuple[ControllerId, ConsentId], ...]:
        """Return what time has ended by `at` and nobody has recorded yet, the longest overdue first."""
        query = select(_CONSENTS.c.controller, _CONSENTS.c.id).where(ConsentRow.due_at <= at)
        rows = self._connection.execute(query.order_by(ConsentRow.due_at, ConsentRow.id).limit(limit))
        return tuple((ControllerId(row.controller), ConsentId(row.id)) for row in rows)

    def _write(self, record: Consent, event: Event, digest: str) -> None:
        row = {
            "consent": record.id,
            "version": record.version,
            "controller": record.terms.controller,
            "kind": event.kind,
            "at": event.at,
            "body": canonical(to_plain(event)).decode(),
            "digest": digest,
        }
        try:
            self._connection.execute(insert(ConsentEventRow).values(row))
        except IntegrityError as clash:
            raise StaleVersionError("the consent changed since it was read") from clash

    def _records(
        self, where: ColumnElement[bool], *, newest_first: bool = False, limit: int | None = None
    ) -> tuple[Consent, ...]:
        order = (ConsentRow.requested_at.desc(), ConsentRow.id.desc()) if newest_first else (ConsentRow.id,)
        query: Select[Any] = select(_CONSENTS).where(where).order_by(*order)
        rows = self._connection.execute(query if limit is None else query.limit(limit)).all()
        histories = self._histories(rows)
        return tuple(fold(ConsentId(row.id), histories[ConsentId(row.id)]) for row in rows)

    def _histories(self, rows: Sequence[Row[Any]]) -> dict[ConsentId, tuple[Event, ...]]:
        """Return the verified events of each consent, read in as few queries as parameters allow."""
        entries: dict[str, list[tuple[int, str, Event]]] = {row.id: [] for row in rows}
        ids = list(entries)
        for start in range(0, len(ids), _AT_ONCE):
            some = ConsentEventRow.consent.in_(ids[start : start + _AT_ONCE])
            query = select(_EVENTS).where(some).order_by(ConsentEventRow.consent, ConsentEventRow.version)
            for stored in self._connection.execute(query):
                entries[stored.consent].append((stored.version, stored.digest, _event(stored.body)))
        return {ConsentId(row.id): verify(ConsentId(row.id), entries[row.id], head=row.head) for row in rows}


def record_of(consent: ConsentId, entries: Iterable[tuple[int, str, str]], head: str) -> Consent:
    """Fold a consent from stored (version, digest, body), in order. Raises BrokenChainError (consent rule 56)."""
    read = [(version, digest, _event(body)) for version, digest, body in entries]
    return fold(consent, verify(consent, read, head=head))


def _whose(controller: ControllerId, consent: ConsentId) -> ColumnElement[bool]:
    return (ConsentRow.id == consent) & (ConsentRow.controller == controller)


def _state(record: Consent) -> dict[str, object]:
    return {
        "state": record.state.value,
        "version": record.version,
        "valid_until": record.valid_until,
        "due_at": record.due_at,
    }


def _event(body: str) -> Event:
    try:
        plain = json.loads(body)
    except ValueError as fault:
        raise UnreadableEventError("not JSON") from fault
    if not isinstance(plain, dict):
        raise UnreadableEventError("not an event")
    return from_plain(plain)

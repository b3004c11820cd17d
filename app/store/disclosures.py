"""Repository of disclosures: who looked, when, at what (consent rule 51; GDPR arts 15(1)(c), 19)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, literal, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.rows.subjects import DisclosureRow
from consent.vocabulary import CategoryId, ControllerId, PartyId, PurposeId, SubjectRef


@dataclass(frozen=True, slots=True)
class Disclosure:
    """One read, look or sending. `id` is the reporter's own and makes reporting twice harmless."""

    id: str
    controller: ControllerId
    subject: SubjectRef
    party: PartyId
    component: str | None
    actor_role: str | None
    categories: tuple[CategoryId, ...]
    records: int
    purpose: PurposeId
    consent: str | None
    attended: bool
    action: str
    at: datetime


class SqlDisclosures:
    """Disclosures within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, disclosure: Disclosure) -> bool:
        """Write one; return False when its id was reported before."""
        dialect = sqlite if self._session.get_bind().dialect.name == "sqlite" else postgresql
        # waits for a rival's commit instead of failing: the same batch may be sent twice at once
        query = dialect.insert(DisclosureRow).on_conflict_do_nothing().returning(DisclosureRow.id)
        return self._session.connection().execute(query.values(**_row(disclosure))).one_or_none() is not None

    def of_subject(
        self, subject: SubjectRef, *, limit: int = 500, without: Collection[CategoryId] = ()
    ) -> Sequence[Disclosure]:
        """The newest first; the categories `without` in none, and nothing of a look that was at these alone."""
        query = (
            select(DisclosureRow)
            .where(DisclosureRow.subject == subject, _beyond(without))
            .order_by(DisclosureRow.at.desc(), DisclosureRow.id)
            .limit(limit)
        )
        return [_disclosure(row, without) for row in self._session.scalars(query)]

    def recipients(self, subject: SubjectRef, *, without: Collection[CategoryId] = ()) -> frozenset[PartyId]:
        """Every party that ever read the subject's data: the named recipients of art. 15(1)(c) (dsar rule 38).

        Those that read nothing but the categories `without` are not among them.
        """
        query = select(DisclosureRow.party).where(DisclosureRow.subject == subject, _beyond(without)).distinct()
        return frozenset(PartyId(party) for party in self._session.scalars(query))


def _beyond(without: Collection[CategoryId]) -> ColumnElement[bool]:
    """Say in SQL that a look was not at these categories alone: rows left out later would shorten a limited list."""
    left: ColumnElement[str] = literal(" ") + DisclosureRow.categories + literal(" ")
    for category in sorted(without):
        left = func.replace(left, f" {category} ", " ")
    return or_(func.trim(left) != "", DisclosureRow.categories == "")


def _row(d: Disclosure) -> dict[str, Any]:
    return {
        "id": d.id,
        "controller": d.controller,
        "subject": d.subject,
        "party": d.party,
        "component": d.component,
        "actor_role": d.actor_role,
        "categories": " ".join(sorted(d.categories)),
        "records": d.records,
        "purpose": d.purpose,
        "consent": d.consent,
        "attended": d.attended,
        "action": d.action,
        "at": d.at,
    }


def _disclosure(row: DisclosureRow, without: Collection[CategoryId]) -> Disclosure:
    return Disclosure(
        id=row.id,
        controller=ControllerId(row.controller),
        subject=SubjectRef(row.subject),
        party=PartyId(row.party),
        component=row.component,
        actor_role=row.actor_role,
        categories=tuple(CategoryId(c) for c in row.categories.split() if c not in without),
        records=row.records,
        purpose=PurposeId(row.purpose),
        consent=row.consent,
        attended=row.attended,
        action=row.action,
        at=row.at,
    )

"""What the decision needs to know of a subject and of a component, read in the caller's transaction.

A subject's standing is their controller, whether they were erased, and what they restricted or objected to, read at the
moment of the question: lifting or taking back counts from its commit on. Mandates have no table yet.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy.orm import InstrumentedAttribute, Session

from app.store.clients import SqlClients
from app.store.limits import SqlLimits
from app.store.rows.limits import ObjectionRow, RestrictionRow
from app.store.rows.subjects import SubjectRow
from app.tokens.records import Client
from consent.decision import Component, Keep, Standing
from consent.vocabulary import ComponentId, ControllerId, PartyId, PurposeId, SubjectRef

BESIDE: Final[tuple[InstrumentedAttribute[str], ...]] = (RestrictionRow.subject, ObjectionRow.subject)
"""The subject column of every further table a standing is read from (restrictions, objections, ...): the fast lane
leaves a subject with a row in one of them to the full door. A test holds this list against what `standing` reads."""


class SqlStandings:
    """`consent.ports.Standings` over the subjects' rows."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def standing(self, subject: SubjectRef, purpose: PurposeId, at: datetime) -> Standing | None:
        """Return the subject's standing; None when there is no such subject."""
        row = self._session.get(SubjectRow, subject)
        if row is None:
            return None
        controller, limits = ControllerId(row.controller), SqlLimits(self._session.connection())
        return Standing(
            controller,
            erased=row.erased_at is not None,
            restrictions=tuple(one.limit for one in limits.restrictions(controller, subject)),
            objections=tuple(one.limit for one in limits.objections(controller, subject)),
        )


class SqlComponents:
    """`consent.ports.Components` over the clients' rows."""

    def __init__(self, clients: SqlClients) -> None:
        self._clients = clients

    def component(self, component: ComponentId) -> Component | None:
        """Return what is registered about a client; None when it is unknown."""
        found = self._clients.find(component)
        return None if found is None else component_of(found)


def component_of(client: Client) -> Component:
    """Return what the decision needs to know of a client."""
    return Component(
        id=ComponentId(client.id),
        party=PartyId(client.party),
        suspended=client.suspended_at is not None,
        country=client.country,
        honours=frozenset(Keep(way) for way in client.honours),
    )

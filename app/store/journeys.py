"""Repository of consent questions under way, within the caller's transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.rows.journeys import JourneyRow
from consent.vocabulary import ConsentId, ControllerId, SubjectRef


@dataclass(frozen=True, slots=True)
class StoredJourney:
    """One question put to one person."""

    id: str
    controller: ControllerId
    subject: SubjectRef
    consent: ConsentId
    script: str
    progress: Mapping[str, object]
    onward: bool


class SqlJourneys:
    """Questions under way, by id."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def begin(
        self,
        journey: str,
        *,
        controller: ControllerId,
        subject: SubjectRef,
        consent: ConsentId,
        script: str,
        progress: Mapping[str, object],
        onward: bool,
        now: datetime,
    ) -> None:
        """Keep the first page; of two that begin at once the first is kept."""
        insert = postgresql.insert if self._session.get_bind().dialect.name == "postgresql" else sqlite.insert
        values = {
            "id": journey,
            "controller": controller,
            "subject": subject,
            "consent": consent,
            "script": script,
            "progress": json.dumps(progress),
            "onward": onward,
            "begun_at": now,
        }
        self._session.execute(insert(JourneyRow).values(values).on_conflict_do_nothing())

    def find(self, journey: str) -> StoredJourney | None:
        """Return it, nobody else's to change while the unit lasts: of two answers at once the second sees the first.

        That holds for what is saved in the same unit. PostgreSQL locks the row; on SQLite the one writer is this one.
        """
        row = self._session.scalars(select(JourneyRow).where(JourneyRow.id == journey).with_for_update()).first()
        if row is None:
            return None
        return StoredJourney(
            id=row.id,
            controller=ControllerId(row.controller),
            subject=SubjectRef(row.subject),
            consent=ConsentId(row.consent),
            script=row.script,
            progress=json.loads(row.progress),
            onward=row.onward,
        )

    def latest(self, controller: ControllerId, subject: SubjectRef, consent: ConsentId) -> str | None:
        """Return the journey this consent was last asked in, one a partner waits for before others; None: in none."""
        asked = select(JourneyRow.id).where(
            JourneyRow.subject == subject, JourneyRow.controller == controller, JourneyRow.consent == consent
        )
        order = (JourneyRow.onward.desc(), JourneyRow.begun_at.desc(), JourneyRow.id)
        return self._session.scalars(asked.order_by(*order).limit(1)).first()

    def save(self, journey: str, progress: Mapping[str, object]) -> None:
        self._session.execute(update(JourneyRow).where(JourneyRow.id == journey).values(progress=json.dumps(progress)))

    def sweep(self, before: datetime) -> int:
        """Remove what was begun before; return how many rows went."""
        done = self._session.execute(delete(JourneyRow).where(JourneyRow.begun_at < before))
        return cast("CursorResult[Any]", done).rowcount

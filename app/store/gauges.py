"""What a scrape counts in the records (operations.md section 7): what waits, since when, how near deadlines are.

Aggregates only; the statements are bounded by indexes. Leaves out the key store's own (`SqlKeyTransaction`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Engine, func, select

from app.store.rows.cases import CaseRow
from app.store.rows.mail import QueuedMailRow


@dataclass(frozen=True, slots=True)
class Due:
    """Open cases by their two deadlines (dsar rules 1.1)."""

    strict: date
    effective: date
    count: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is in a queue, and since when its oldest."""

    count: int
    since: datetime | None


class Gauges:
    """Reads counts from the records."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def cases(self) -> Sequence[Due]:
        """Return open cases by their deadlines."""
        days = (CaseRow.due_strict, CaseRow.due_effective)
        query = select(*days, func.count()).where(CaseRow.ended.is_(False)).group_by(*days)
        with self._engine.connect() as connection:
            return [Due(*row) for row in connection.execute(query)]

    def mail(self) -> Waiting:
        """Return what of the outgoing mail is not handed over yet."""
        with self._engine.connect() as connection:
            found = connection.execute(select(func.count(), func.min(QueuedMailRow.queued_at))).one()
        return Waiting(*found)

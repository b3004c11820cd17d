"""Repository of restrictions and objections (`consent.ports.Limits`), in the caller's transaction.

Rows are never removed: what held on a given day stays answerable. Core, since every decision reads here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, insert, select, update

from app.store.rows.limits import ObjectionRow, RestrictionRow
from app.store.rows.subjects import SubjectRow
from consent.limits import LimitId, ObjectionRecord, RestrictionGround, RestrictionRecord, Scope, Whose
from consent.vocabulary import CategoryId, ControllerId, PurposeId, SubjectRef

_RESTRICTIONS = RestrictionRow.__table__
_OBJECTIONS = ObjectionRow.__table__


class SqlLimits:
    """Restrictions and objections; commits nothing itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def knows(self, controller: ControllerId, subject: SubjectRef) -> bool:
        """Say whether that is a subject of this controller, and not an erased one."""
        mine = (SubjectRow.ref == subject, SubjectRow.controller == controller, SubjectRow.erased_at.is_(None))
        return bool(self._connection.execute(select(exists().where(*mine))).scalar())

    def add_restriction(self, record: RestrictionRecord) -> None:
        """Write a new restriction."""
        values = {"id": record.id, "ground": record.ground.value, "since": record.since, **_whose(record.whose)}
        values |= {"categories": _joined(record.scope.categories), "purposes": _joined(record.scope.purposes)}
        self._connection.execute(insert(RestrictionRow).values(values | _end(record)))

    def restriction(self, controller: ControllerId, limit: LimitId) -> RestrictionRecord | None:
        """Return it for a change; on SQLite the one writer is this transaction already."""
        mine = (RestrictionRow.controller == controller, RestrictionRow.id == limit)
        found = self._connection.execute(select(_RESTRICTIONS).where(*mine).with_for_update()).one_or_none()
        return None if found is None else _restriction(found)

    def restrictions(self, controller: ControllerId, subject: SubjectRef) -> Sequence[RestrictionRecord]:
        """Return the subject's, lifted ones too, newest first."""
        mine = (_RESTRICTIONS.c.controller == controller, _RESTRICTIONS.c.subject == subject)
        query = select(_RESTRICTIONS).where(*mine).order_by(_RESTRICTIONS.c.since.desc(), _RESTRICTIONS.c.id)
        return [_restriction(row) for row in self._connection.execute(query)]

    def write_restriction(self, record: RestrictionRecord) -> None:
        """Write down what changed: exempt purposes, its end and who was told."""
        self._connection.execute(update(RestrictionRow).where(RestrictionRow.id == record.id).values(_end(record)))

    def add_objection(self, record: ObjectionRecord) -> None:
        """Write a new objection."""
        values = {"id": record.id, "purpose": record.purpose, "since": record.since, **_whose(record.whose)}
        self._connection.execute(insert(ObjectionRow).values(values | _outcome(record)))

    def objection(self, controller: ControllerId, limit: LimitId) -> ObjectionRecord | None:
        """Return it for a change; on SQLite the one writer is this transaction already."""
        mine = (ObjectionRow.controller == controller, ObjectionRow.id == limit)
        found = self._connection.execute(select(_OBJECTIONS).where(*mine).with_for_update()).one_or_none()
        return None if found is None else _objection(found)

    def objections(self, controller: ControllerId, subject: SubjectRef) -> Sequence[ObjectionRecord]:
        """Return the subject's, refused and retracted ones too, newest first."""
        mine = (_OBJECTIONS.c.controller == controller, _OBJECTIONS.c.subject == subject)
        query = select(_OBJECTIONS).where(*mine).order_by(_OBJECTIONS.c.since.desc(), _OBJECTIONS.c.id)
        return [_objection(row) for row in self._connection.execute(query)]

    def write_objection(self, record: ObjectionRecord) -> None:
        """Write down what changed: its refusal or its retraction."""
        self._connection.execute(update(ObjectionRow).where(ObjectionRow.id == record.id).values(_outcome(record)))


def _whose(whose: Whose) -> dict[str, object]:
    return {"controller": whose.controller, "subject": whose.subject, "origin": whose.origin}


def _end(record: RestrictionRecord) -> dict[str, object]:
    return {"exempt": _joined(record.exempt), "told": record.told, "lifted_at": record.lifted_at}


def _outcome(record: ObjectionRecord) -> dict[str, object]:
    return {
        "evidence": record.evidence,
        "refused_at": record.refused_at,
        "retracted_at": record.retracted_at,
    }


def _joined(names: Iterable[str] | None) -> str | None:
    return None if names is None else " ".join(sorted(names))


def _restriction(row: Row[Any]) -> RestrictionRecord:
    return RestrictionRecord(
        id=LimitId(row.id),
        whose=Whose(ControllerId(row.controller), SubjectRef(row.subject), row.origin),
        ground=RestrictionGround(row.ground),
        since=row.since,
        scope=Scope(
            None if row.categories is None else frozenset(map(CategoryId, row.categories.split())),
            None if row.purposes is None else frozenset(map(PurposeId, row.purposes.split())),
        ),
        exempt=frozenset(map(PurposeId, row.exempt.split())),
        told=row.told,
        lifted_at=row.lifted_at,
    )


def _objection(row: Row[Any]) -> ObjectionRecord:
    return ObjectionRecord(
        id=LimitId(row.id),
        whose=Whose(ControllerId(row.controller), SubjectRef(row.subject), row.origin),
        purpose=None if row.purpose is None else PurposeId(row.purpose),
        since=row.since,
        evidence=row.evidence,
        refused_at=row.refused_at,
        retracted_at=row.retracted_at,
    )

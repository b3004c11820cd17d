"""What the fast lane reads and writes: one prepared statement on a held connection, no ORM (tokens.md section 7).

Read, at every call: the caller, the token meant for it, the token's client, the consent's state, its subject and the
handle, joined. A consent's record is folded from its events and kept under its id and the digest of its last event:
that digest fixes every event before it (consent rule 56), so what is remembered is never older than the row just read.

Written: the single use of an assertion. Callers that wait for the disk at the same time share one commit.

Leaves out everything else: a subject with a row in a table of `standings.BESIDE` is `complicated`, for the full door.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock
from types import SimpleNamespace
from typing import Any, ClassVar, Final

from sqlalchemy import Dialect, Engine, FromClause, Text, bindparam, cast, false, or_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.sql import ClauseElement, ColumnElement
from sqlalchemy.types import JSON, TypeEngine

from app.store.clients import client_of
from app.store.consents import record_of
from app.store.rows.clients import ClientRow
from app.store.rows.consents import ConsentEventRow, ConsentRow
from app.store.rows.subjects import PairwiseHandleRow, SubjectRow
from app.store.rows.tokens import AccessTokenRow, SpentIdRow
from app.store.standings import BESIDE, component_of
from app.store.tokens import access_of, spent_digest
from app.tokens.minting import digest
from app.tokens.records import AccessToken, Client
from consent.decision import Component, Standing
from consent.record import Consent
from consent.vocabulary import ConsentId, ControllerId, PairwiseHandle, SubjectRef

_MOST_KEPT: Final = 10_000
_MOST_AT_ONCE: Final = 256


class RecordsUnreachable(Exception):
    """The records database did not answer on a held connection; says no more, since drivers quote what was asked."""

    code: ClassVar[str] = "records_unreachable"


@dataclass(frozen=True, slots=True)
class Looked:
    """One joined row: what is known of a presented token at this moment, for the component that asks about it."""

    caller: Client
    token: AccessToken | None
    """None unless the token is meant for the caller."""
    client: Client | None
    """To whom the token was issued."""
    consent: Consent | None
    subject: SubjectRef | None
    standing: Standing | None
    handle: PairwiseHandle | None
    """What the caller's party calls the subject; None as long as it never asked."""
    complicated: bool
    """Whether more than this row bears on the subject's standing."""

    def component(self) -> Component | None:
        """Return what the decision needs to know of the token's client."""
        return None if self.client is None else component_of(self.client)


class HotReads:
    """Looks tokens up and spends ids on connections of its own; shared by threads. `close` lets go of them."""

    def __init__(self, engine: Engine) -> None:
        self._held = _Held(engine)
        self._spending = _Spending(self._held, engine.dialect)
        self._join = _Join(engine.dialect)
        self._client = lru_cache(maxsize=_MOST_KEPT)(lambda raw: client_of(self._join.client.read(raw)))
        self._folded: dict[tuple[str, str], Consent] = {}

    def look(self, caller: str, secret: str) -> Looked | None:
        """Return what is known of a token; None when there is no such caller. Raises `RecordsUnreachable`."""
        join = self._join
        rows = self._held.run(join.statement, {"asked": digest(secret), "asking": caller})
        if not rows:
            return None
        asking, token, client, consent, subject, (handle, complicated) = join.split(rows[0])
        return Looked(
            caller=self._client(asking),
            token=None if token[0] is None else access_of(join.token.read(token)),
            client=None if client[0] is None else self._client(client),
            consent=None if consent[0] is None else self._record(*consent),
            subject=None if subject[0] is None else SubjectRef(subject[0]),
            standing=None if subject[0] is None else _standing(join.subject.read(subject)),
            handle=None if handle is None else PairwiseHandle(handle),
            complicated=bool(complicated),
        )

    def spend(self, kind: str, owner: str, jti: str, until: datetime) -> bool:
        """Spend an id, durably; False when it was spent before. Raises `RecordsUnreachable`."""
        return self._spending.spend(spent_digest(kind, owner, jti), until)

    def close(self) -> None:
        """Close the idle connections; one in use closes when its call ends."""
        self._held.close()

    def _record(self, consent: str, head: str) -> Consent:
        known = self._folded.get((consent, head))
        if known is not None:
            return known
        stored = self._held.run(self._join.events, {"whose": consent})
        found = record_of(ConsentId(consent), stored, head)
        if len(self._folded) >= _MOST_KEPT:
            self._folded.clear()
        self._folded[consent, head] = found
        return found


def _standing(row: Any) -> Standing:
    return Standing(ControllerId(row.controller), erased=row.erased_at is not None)


class _Join:
    """The one statement and how its row is taken apart; nothing here depends on a request."""

    def __init__(self, dialect: Dialect) -> None:
        asking, client = ClientRow.__table__.alias("asking"), ClientRow.__table__.alias("holding")
        token, consent = AccessTokenRow.__table__, ConsentRow.__table__
        subject, handle = SubjectRow.__table__, PairwiseHandleRow.__table__
        self.client = _Shape(client, dialect)
        self.token = _Shape(token, dialect)
        self.subject = _Shape(subject, dialect, "ref", "controller", "erased_at")
        parts = (
            _Shape(asking, dialect).selected,
            self.token.selected,
            self.client.selected,
            (consent.c.id, consent.c.head),
            self.subject.selected,
            (handle.c.handle, _complicated(subject.c.ref)),
        )
        self._slices = tuple(_slices(parts))
        self.statement = _Statement(
            select(*(column for part in parts for column in part))
            .select_from(asking)
            .outerjoin(token, (token.c.digest == bindparam("asked")) & (token.c.audience == asking.c.resource))
            .outerjoin(client, client.c.id == token.c.client)
            .outerjoin(consent, consent.c.id == token.c.consent)
            .outerjoin(subject, subject.c.ref == consent.c.subject)
            .outerjoin(handle, (handle.c.subject == subject.c.ref) & (handle.c.party == asking.c.party))
            .where(asking.c.id == bindparam("asking")),
            dialect,
        )
        event = ConsentEventRow.__table__
        self.events = _Statement(
            select(event.c.version, event.c.digest, event.c.body)
            .where(event.c.consent == bindparam("whose"))
            .order_by(event.c.version),
            dialect,
        )

    def split(self, row: tuple[Any, ...]) -> tuple[tuple[Any, ...], ...]:
        return tuple(row[each] for each in self._slices)


def _complicated(subject: ColumnElement[str]) -> ColumnElement[bool]:
    more = [select(column).where(column == subject).exists() for column in BESIDE]
    return or_(*more) if more else false()


def _slices(parts: Iterable[Sequence[object]]) -> Iterable[slice]:
    start = 0
    for part in parts:
        yield slice(start, start + len(part))
        start += len(part)


class _Shape:
    """Columns of one table, and how to read what the bare driver returns for them."""

    def __init__(self, table: FromClause, dialect: Dialect, *names: str) -> None:
        columns = [table.c[name] for name in names or table.c.keys()]
        # JSON as text: one form on both databases, and one that can be compared with what was read before
        self.selected = tuple(cast(each, Text) if isinstance(each.type, JSON) else each for each in columns)
        self._readers = [_reader(each.type, dialect) for each in columns]
        self._names = [each.name for each in columns]

    def read(self, raw: Sequence[Any]) -> Any:
        """Return the values by name."""
        columns = zip(self._names, self._readers, raw, strict=True)
        return SimpleNamespace(
            **{name: value if read is None or value is None else read(value) for name, read, value in columns}
        )


def _reader(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    if isinstance(kind, JSON):
        return json.loads
    return kind.dialect_impl(dialect).result_processor(dialect, None)


class _Statement:
    """SQL written once, and the order of its values where the driver wants them by place."""

    def __init__(self, clause: ClauseElement, dialect: Dialect) -> None:
        compiled: Any = clause.compile(dialect=dialect)
        self.text = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup

    def values(self, named: dict[str, Any]) -> Any:
        return named if self._order is None else [named[name] for name in self._order]


class _Held:
    """Open AUTOCOMMIT connections, one for each caller at a time; one that failed is dropped."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._faults: tuple[type[Exception], ...] = (engine.dialect.loaded_dbapi.Error, SQLAlchemyError)
        self._idle: deque[tuple[Any, Any]] = deque()
        self._closed = False

    def run(self, statement: _Statement, named: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Execute one statement by itself and fetch all, which also ends its snapshot."""
        return self.together([(statement.text, statement.values(named))])[0]

    def together(self, work: Sequence[tuple[str, Any]]) -> list[list[tuple[Any, ...]]]:
        """Execute statements on one connection and return the rows of each."""
        connection, cursor = self._take()
        try:
            found = [_fetched(cursor, text, values) for text, values in work]
        except self._faults:
            connection.close()
            raise RecordsUnreachable from None
        if self._closed:
            connection.close()
        else:
            self._idle.append((connection, cursor))
        return found

    def close(self) -> None:
        self._closed = True
        while self._idle:
            self._idle.pop()[0].close()

    def _take(self) -> tuple[Any, Any]:
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def _open(self) -> tuple[Any, Any]:
        try:
            connection: Any = self._engine.raw_connection()
        except self._faults:
            raise RecordsUnreachable from None
        driver = connection.driver_connection
        connection.detach()  # the pool counts it no more: nothing else waits for one that is held
        if self._engine.dialect.name == "postgresql":
            driver.autocommit, driver.prepare_threshold = True, 0
        return connection, driver.cursor()


def _fetched(cursor: Any, text: str, values: Any) -> list[tuple[Any, ...]]:
    cursor.execute(text, values)
    return cursor.fetchall() if cursor.description is not None else []


class _Spend:
    """One id waiting for its commit; `fresh` is the answer, which a commit that failed leaves open."""

    __slots__ = ("fresh", "taken", "values")

    def __init__(self, values: Any) -> None:
        self.values = values
        self.taken = False
        self.fresh: bool | None = None


class _Spending:
    """Single use, durable before it is believed. Who finds the disk free commits for all who wait behind it."""

    def __init__(self, held: _Held, dialect: Dialect) -> None:
        kind = sqlite if dialect.name == "sqlite" else postgresql
        row = kind.insert(SpentIdRow).values(digest=bindparam("named"), until=bindparam("ends"))
        self._insert = _Statement(row.on_conflict_do_nothing().returning(SpentIdRow.digest), dialect)
        self._moment = SpentIdRow.until.type.dialect_impl(dialect).bind_processor(dialect) or _as_is
        self._begin = "BEGIN IMMEDIATE" if dialect.name == "sqlite" else "BEGIN"
        self._held = held
        self._waiting: deque[_Spend] = deque()
        self._writing = Lock()

    def spend(self, named: bytes, until: datetime) -> bool:
        mine = _Spend(self._insert.values({"named": named, "ends": self._moment(until)}))
        self._waiting.append(mine)
        with self._writing:
            while not mine.taken:
                self._commit()
        if mine.fresh is None:
            raise RecordsUnreachable  # whoever committed for this one failed
        return mine.fresh

    def _commit(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
        for each in batch:
            each.taken = True
        work = [(self._insert.text, each.values) for each in batch]
        if len(batch) == 1:
            answers = self._held.together(work)
        else:
            answers = self._held.together([(self._begin, ()), *work, ("COMMIT", ())])[1:-1]
        for each, rows in zip(batch, answers, strict=True):
            each.fresh = bool(rows)


def _as_is(value: Any) -> Any:
    return value

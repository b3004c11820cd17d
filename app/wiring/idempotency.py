"""Requests that carry an `Idempotency-Key`, carried out in one transaction with the answer that is kept (api.md).

While such a request is carried out, every writing unit the JSON doors open is a savepoint of one unit: their commits
become durable together with the sealed answer, or not at all. A crash in between therefore leaves nothing but a claim,
which runs out. Looking units stay apart: they see the database as it was before the request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self

from sqlalchemy.orm import SessionTransaction

from app.http.api.services import Answered, Asked, Claimed, Taken
from app.store.unit import RecordsUnit, Units
from app.wiring.house import OwnSeals

_LENDER: ContextVar[RecordsUnit | None] = ContextVar("regard_lender", default=None)


class LentUnit(RecordsUnit):
    """A unit inside of another: leaving it without `commit()` means nothing happened, ending is the lender's."""

    def __init__(self, units: Units, lender: RecordsUnit) -> None:
        super().__init__(units, lender.session)
        self._depth = 0
        self._savepoint: SessionTransaction | None = None

    def __enter__(self) -> Self:
        self._depth += 1
        if self._savepoint is None:
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._savepoint is not None:
            self._savepoint.rollback()
            self._savepoint = None
        if self._depth:
            self._begin()

    def commit(self) -> None:
        """Keep it for the lender to make durable."""
        if self._savepoint is not None:
            self._savepoint.commit()
        self._begin()

    def _begin(self) -> None:
        # a unit of its own would have read everything anew
        self.session.expire_all()
        self._savepoint = self.session.begin_nested()


def lending(units: Units) -> Callable[[], RecordsUnit]:
    """Return what opens a writing unit: a unit of its own, or one inside of the keyed request under way."""

    def writing() -> RecordsUnit:
        lender = _LENDER.get()
        return units.writing() if lender is None else LentUnit(units, lender)

    return writing


class KeyedRequests:
    """Fits `app.http.api.services.KeyedRequests`."""

    def __init__(self, units: Units, seals: OwnSeals) -> None:
        self._units = units
        self._seals = seals

    def claim(self, asked: Asked) -> Claimed | Answered | Taken:
        """Claim the name, in a unit of its own, so that a rival sees it at once; or say what stands there."""
        claimed = Claimed(asked.name, asked.controller, self._units.ids.new("clm"))
        with self._units.writing() as unit:
            mine = unit.keyed_requests.claim(
                asked.name,
                controller=asked.controller,
                request=asked.request,
                claim=claimed.claim,
                now=self._units.clock.now(),
            )
            found = None if mine else unit.keyed_requests.find(asked.name)
            unit.commit()
        if mine:
            return claimed
        if found is not None and found.request != asked.request:
            return Taken.OTHER_REQUEST
        if found is None or found.sealed is None:
            return Taken.IN_PROGRESS
        return Answered(self._seals.open_answer(asked.controller, asked.name.hex(), found.sealed))

    @contextmanager
    def carrying(self, claimed: Claimed) -> Iterator[Callable[[bytes], bool]]:
        """Lend one unit to whatever is opened inside; calling what this yields commits it all with the answer."""
        with self._units.writing() as unit:

            def keep(answer: bytes) -> bool:
                sealed = self._seals.answer(claimed.controller, claimed.name.hex(), answer)
                done = unit.keyed_requests.finish(claimed.name, claimed.claim, sealed)
                if done:
                    unit.commit()
                return done

            lent = _LENDER.set(unit)
            try:
                yield keep
            finally:
                _LENDER.reset(lent)

    def release(self, claimed: Claimed) -> None:
        """Give back a claim that came to nothing."""
        with self._units.writing() as unit:
            unit.keyed_requests.release(claimed.name, claimed.claim)
            unit.commit()

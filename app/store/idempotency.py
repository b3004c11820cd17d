"""Repository of named requests (`Idempotency-Key`, api.md), in the caller's transaction.

Of two that claim a name at once one gets it: the insertion waits for a rival's commit instead of failing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from app.store.rows.idempotency import KeyedRequestRow

CLAIM_LIFE: Final = timedelta(seconds=60)
"""How long a claim keeps others out; whoever takes longer is refused when they want to finish."""
ANSWER_LIFE: Final = timedelta(days=1)
_TABLE = KeyedRequestRow.__table__


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """What stands under a name: `sealed` is the answer, None while somebody is at work on it."""

    request: bytes
    claimed_until: datetime
    sealed: bytes | None


class SqlKeyedRequests:
    """Named requests over one open connection; commits nothing itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def claim(self, name: bytes, *, controller: str, request: bytes, claim: str, now: datetime) -> bool:
        """Claim a name that is free, has run out, or whose claimant died over the same request; False otherwise."""
        self._connection.execute(delete(KeyedRequestRow).where(_TABLE.c.name == name, _TABLE.c.expires_at <= now))
        dialect: Any = postgresql if self._connection.dialect.name == "postgresql" else sqlite
        until, expires = now + CLAIM_LIFE, now + ANSWER_LIFE
        values = {"name": name, "controller": controller, "request": request, "claim": claim}
        row = dialect.insert(KeyedRequestRow).values(**values, claimed_until=until, expires_at=expires)
        written = self._connection.execute(row.on_conflict_do_nothing().returning(_TABLE.c.name)).first()
        return written is not None or self._take_over(name, request, claim, now)

    def _take_over(self, name: bytes, request: bytes, claim: str, now: datetime) -> bool:
        orphaned = (_TABLE.c.sealed.is_(None), _TABLE.c.claimed_until <= now, _TABLE.c.request == request)
        again = {"claim": claim, "claimed_until": now + CLAIM_LIFE}
        done = self._connection.execute(update(KeyedRequestRow).where(_TABLE.c.name == name, *orphaned).values(again))
        return done.rowcount == 1

    def find(self, name: bytes) -> KeyedRequest | None:
        """Return what stands under a name."""
        found = self._connection.execute(select(_TABLE).where(_TABLE.c.name == name)).one_or_none()
        return None if found is None else KeyedRequest(found.request, found.claimed_until, found.sealed)

    def finish(self, name: bytes, claim: str, sealed: bytes) -> bool:
        """Put the answer in place of the claim; False when somebody else has taken over."""
        own = (_TABLE.c.name == name, _TABLE.c.claim == claim)
        done = self._connection.execute(update(KeyedRequestRow).where(*own).values(claim=None, sealed=sealed))
        return done.rowcount == 1

    def release(self, name: bytes, claim: str) -> None:
        """Give a claim back that came to nothing."""
        self._connection.execute(delete(KeyedRequestRow).where(_TABLE.c.name == name, _TABLE.c.claim == claim))

    def sweep(self, now: datetime, most: int) -> int:
        """Remove at most `most` rows that have run out; return how many went."""
        over = select(_TABLE.c.name).where(_TABLE.c.expires_at <= now).order_by(_TABLE.c.expires_at).limit(most)
        return self._connection.execute(delete(KeyedRequestRow).where(_TABLE.c.name.in_(over))).rowcount

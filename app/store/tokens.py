"""The authorization server's records in SQL (`app.tokens.records.Tokens`, `SigningKeyRows`): Core, hot paths.

Single use rests on the database: a primary key for ids, an UPDATE that matches once for codes and requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Insert, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import InstrumentedAttribute

from app.sdk.claims import AggregationConsent
from app.sdk.scopes import join, parse
from app.store.rows.base import RecordsBase
from app.store.rows.consents import ConsentEventRow, ConsentRow
from app.store.rows.tokens import (
    AccessTokenRow,
    CodeRow,
    PushedRequestRow,
    ReadCounterRow,
    RefreshRow,
    SigningKeyRow,
    SpentIdRow,
    TokenGrantRow,
    UnattendedReadRow,
)
from app.tokens.records import (
    AccessToken,
    Code,
    KeyState,
    PushedRequest,
    Refresh,
    StoredKey,
    TokenGrant,
)
from consent.record import FINAL

DAY: Final = timedelta(hours=24)
"""The window of RTS art. 36(5)(b), rolling."""
GRANTS_KEPT: Final = timedelta(days=30)
"""How long a grant that is over stays, for a partner that comes seldom to hear why. Who got what is in the ledger."""
_FINAL: Final = sorted(state.value for state in FINAL)
_COUNTED: Final = ("consent", "party", "connection")
"""Of what unattended reads are counted."""
_IDLE_COUNTER: Final = delete(ReadCounterRow).where(
    *(getattr(ReadCounterRow, name) == bindparam(name) for name in _COUNTED),
    ~select(UnattendedReadRow.id)
    .where(*(getattr(UnattendedReadRow, name) == bindparam(name) for name in _COUNTED))
    .exists(),
)


def _insert_or_nothing(connection: Connection, row: type[RecordsBase]) -> Any:
    """INSERT ... ON CONFLICT DO NOTHING in the dialect at hand: waits for a rival's commit instead of failing."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return dialect.insert(row).on_conflict_do_nothing()


def _insert_or_count(connection: Connection) -> Any:
    """INSERT ... ON CONFLICT DO UPDATE of a read counter: one statement, so that no removal comes in between."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    another = {"total": ReadCounterRow.total + 1}
    return dialect.insert(ReadCounterRow).on_conflict_do_update(index_elements=_COUNTED, set_=another)


def spent_digest(kind: str, owner: str, jti: str) -> bytes:
    """Return the 32 bytes under which a single-use id is remembered."""
    return hashlib.sha256("\x00".join((kind, owner, jti)).encode()).digest()


class SqlTokens:
    """Requests, codes, grants, tokens, counters over one open connection; commits nothing itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- single-use ids -----------------------------------------------------------------------------------------

    def spend(self, kind: str, owner: str, jti: str, until: datetime) -> bool:
        """Spend an id; False when it was spent before."""
        values = {"digest": spent_digest(kind, owner, jti), "until": until}
        insertion = _insert_or_nothing(self._connection, SpentIdRow).values(**values).returning(SpentIdRow.digest)
        return self._connection.execute(insertion).first() is not None

    # --- pushed requests ----------------------------------------------------------------------------------------

    def push(self, request: PushedRequest) -> None:
        """Store a pushed request."""
        self._connection.execute(
            insert(PushedRequestRow).values(
                digest=request.digest,
                client=request.client,
                controller=request.controller,
                party=request.party,
                journey=request.journey,
                parameters=dict(request.parameters),
                jkt=request.jkt,
                created_at=request.created_at,
                expires_at=request.expires_at,
                opened_at=request.opened_at,
                completed_at=request.completed_at,
            )
        )

    def pushed(self, digest: bytes) -> PushedRequest | None:
        """Return the request behind a `request_uri`."""
        return self._request(PushedRequestRow.digest, digest)

    def pushed_for(self, journey: str) -> PushedRequest | None:
        """Return the request that opened a journey."""
        return self._request(PushedRequestRow.journey, journey)

    def open_pushed(self, digest: bytes, at: datetime, until: datetime) -> bool:
        """Note the first opening and give the person until `until`; False when it was opened before."""
        done = self._connection.execute(
            update(PushedRequestRow)
            .where(PushedRequestRow.digest == digest, PushedRequestRow.opened_at.is_(None))
            .values(opened_at=at, expires_at=until)
        )
        return done.rowcount == 1

    def complete_pushed(self, digest: bytes, at: datetime) -> bool:
        """Complete a request; False when it was completed before."""
        done = self._connection.execute(
            update(PushedRequestRow)
            .where(PushedRequestRow.digest == digest, PushedRequestRow.completed_at.is_(None))
            .values(completed_at=at)
        )
        return done.rowcount == 1

    def _request(self, column: InstrumentedAttribute[Any], value: object) -> PushedRequest | None:
        row = self._connection.execute(select(PushedRequestRow.__table__).where(column == value)).one_or_none()
        return None if row is None else PushedRequest(**row._mapping)

    # --- grants, codes, refresh tokens --------------------------------------------------------------------------

    def add_grant(self, grant: TokenGrant) -> None:
        """Store a grant."""
        self._connection.execute(
            insert(TokenGrantRow).values(
                id=grant.id,
                client=grant.client,
                controller=grant.controller,
                party=grant.party,
                consent=grant.consent,
                scopes=join(grant.scopes),
                audience=grant.audience,
                detail=grant.detail.to_json(),
                created_at=grant.created_at,
                ended_at=grant.ended_at,
            )
        )

    def end_grant(self, grant: str, at: datetime) -> None:
        """End a grant and revoke its access tokens."""
        for row, key, ended in (
            (TokenGrantRow, TokenGrantRow.id, TokenGrantRow.ended_at),
            (AccessTokenRow, AccessTokenRow.grant, AccessTokenRow.revoked_at),
        ):
            self._connection.execute(update(row).where(key == grant, ended.is_(None)).values({ended: at}))

    def add_code(self, code: Code) -> None:
        """Store a code."""
        self._connection.execute(
            insert(CodeRow).values(
                digest=code.digest,
                grant=code.grant.id,
                redirect_uri=code.redirect_uri,
                challenge=code.challenge,
                jkt=code.jkt,
                expires_at=code.expires_at,
                used_at=code.used_at,
            )
        )

    def code(self, digest: bytes) -> Code | None:
        """Return a code, used or not, and hold on to it: of two that race, the second finds it used."""
        asked = select(CodeRow.__table__).where(CodeRow.digest == digest).with_for_update()
        row = self._connection.execute(asked).one_or_none()
        if row is None:
            return None
        grant = self._grant(row.grant)
        return None if grant is None else self._code(row, grant)

    @staticmethod
    def _code(row: Any, grant: TokenGrant) -> Code:
        return Code(
            digest=row.digest,
            grant=grant,
            redirect_uri=row.redirect_uri,
            challenge=row.challenge,
            jkt=row.jkt,
            expires_at=row.expires_at,
            used_at=row.used_at,
        )

    def use_code(self, digest: bytes, at: datetime) -> bool:
        """Use a code up; False when it was used before."""
        done = self._connection.execute(
            update(CodeRow).where(CodeRow.digest == digest, CodeRow.used_at.is_(None)).values(used_at=at)
        )
        return done.rowcount == 1

    def add_refresh(self, refresh: Refresh) -> None:
        """Store a refresh token; the database refuses a second one for the same grant."""
        self._connection.execute(
            insert(RefreshRow).values(
                digest=refresh.digest, grant=refresh.grant.id, jkt=refresh.jkt, created_at=refresh.created_at
            )
        )

    def refresh(self, digest: bytes) -> Refresh | None:
        """Return a refresh token with its grant, ended or not."""
        row = self._connection.execute(select(RefreshRow.__table__).where(RefreshRow.digest == digest)).one_or_none()
        if row is None:
            return None
        grant = self._grant(row.grant)
        return None if grant is None else Refresh(row.digest, grant, row.jkt, row.created_at)

    def _grant(self, grant: str) -> TokenGrant | None:
        """As it is now and stays until the unit ends: none of its tokens is issued while it is being ended.

        None where it was removed at this moment, being over for long.
        """
        asked = select(TokenGrantRow.__table__).where(TokenGrantRow.id == grant).with_for_update()
        row = self._connection.execute(asked).one_or_none()
        if row is None:
            return None
        return TokenGrant(
            id=row.id,
            client=row.client,
            controller=row.controller,
            party=row.party,
            consent=row.consent,
            scopes=parse(row.scopes),
            audience=row.audience,
            detail=AggregationConsent.from_json(row.detail),
            created_at=row.created_at,
            ended_at=row.ended_at,
        )

    # --- access tokens ------------------------------------------------------------------------------------------

    def add_access(self, token: AccessToken) -> None:
        """Store an access token."""
        self._connection.execute(
            insert(AccessTokenRow).values(
                digest=token.digest,
                client=token.client,
                controller=token.controller,
                party=token.party,
                audience=token.audience,
                scopes=join(token.scopes),
                jkt=token.jkt,
                consent=token.consent,
                consent_version=token.consent_version,
                detail=None if token.detail is None else token.detail.to_json(),
                attended=token.attended,
                grant=token.grant,
                issued_at=token.issued_at,
                expires_at=token.expires_at,
                revoked_at=token.revoked_at,
            )
        )

    def access(self, digest: bytes) -> AccessToken | None:
        """Return an access token, whatever its state."""
        found = self._connection.execute(select(AccessTokenRow.__table__).where(AccessTokenRow.digest == digest))
        row = found.one_or_none()
        return None if row is None else access_of(row)

    def revoke_access(self, digest: bytes, at: datetime) -> None:
        """Revoke one access token."""
        self._connection.execute(
            update(AccessTokenRow)
            .where(AccessTokenRow.digest == digest, AccessTokenRow.revoked_at.is_(None))
            .values(revoked_at=at)
        )

    # --- unattended reads ---------------------------------------------------------------------------------------

    def count_read(self, consent: str, party: str, connection: str, at: datetime, limit: int) -> bool:
        """Count one unattended read; False, and nothing counted, when `limit` were reached in the last 24 hours.

        The counter row is written first, so that two issues at the same moment cannot both be the last one allowed.
        """
        of = {"consent": consent, "party": party, "connection": connection}
        self._connection.execute(_insert_or_count(self._connection).values(**of, total=1))
        counted = self._connection.execute(
            select(func.count()).where(
                *(getattr(UnattendedReadRow, name) == value for name, value in of.items()),
                UnattendedReadRow.at > at - DAY,
            )
        ).scalar_one()
        if counted >= limit:
            return False
        self._connection.execute(insert(UnattendedReadRow).values(**of, at=at))
        return True

    def reads(self, consent: str, party: str, at: datetime) -> int:
        """How many unattended reads the last 24 hours hold, over the busiest connection."""
        counts = self._connection.execute(
            select(func.count())
            .where(
                UnattendedReadRow.consent == consent,
                UnattendedReadRow.party == party,
                UnattendedReadRow.at > at - DAY,
            )
            .group_by(UnattendedReadRow.connection)
        ).scalars()
        return max(counts, default=0)

    # --- housekeeping -------------------------------------------------------------------------------------------

    def purge(self, now: datetime, most: int) -> int:
        """Remove at most `most` rows of each kind that can never matter again; return how many went.

        A used code stays a day, so that its reuse still ends the grant (RFC 6749 section 4.1.2).
        """
        return sum(
            self._purge(key, moment, before, most)
            for key, moment, before in (
                (SpentIdRow.digest, SpentIdRow.until, now),
                (PushedRequestRow.digest, PushedRequestRow.expires_at, now - DAY),
                (CodeRow.digest, CodeRow.expires_at, now - DAY),
                (AccessTokenRow.digest, AccessTokenRow.expires_at, now - DAY),
            )
        ) + self._purge_reads(now - DAY, most)

    def grants_over(self, now: datetime, most: int) -> list[str]:
        """Return at most `most` grants that were over `GRANTS_KEPT` ago; reads every grant.

        Over is what was ended, what nobody redeemed, and what stands on a consent that has ended.
        """
        row, before = TokenGrantRow, now - GRANTS_KEPT
        redeemed = select(RefreshRow.digest).where(RefreshRow.grant == row.id).exists()
        last = (ConsentEventRow.consent == ConsentRow.id, ConsentEventRow.version == ConsentRow.version)
        final = (ConsentRow.id == row.consent, ConsentRow.state.in_(_FINAL), ConsentEventRow.at < before)
        over = or_(
            row.ended_at < before,
            and_(row.created_at < before, ~redeemed),
            select(ConsentRow.id).where(*last, *final).exists(),
        )
        found = select(row.id).where(over, row.id.not_in(select(CodeRow.grant))).limit(most)
        return list(self._connection.execute(found).scalars())

    def drop_grants(self, grants: Sequence[str]) -> None:
        """Remove grants with their refresh tokens; their access tokens have a life of their own."""
        self._connection.execute(delete(RefreshRow).where(RefreshRow.grant.in_(grants)))
        self._connection.execute(delete(TokenGrantRow).where(TokenGrantRow.id.in_(grants)))

    def _purge_reads(self, before: datetime, most: int) -> int:
        """Remove reads that count no more, and the counters of whoever has none left."""
        row = UnattendedReadRow
        ended = select(row.id).where(row.at < before).order_by(row.at).limit(most).scalar_subquery()
        removed = delete(row).where(row.id.in_(ended)).returning(row.consent, row.party, row.connection)
        gone = self._connection.execute(removed).all()
        if gone:
            self._connection.execute(_IDLE_COUNTER, [dict(of._mapping) for of in set(gone)])
        return len(gone)

    def _purge(
        self, key: InstrumentedAttribute[Any], moment: InstrumentedAttribute[datetime], before: datetime, most: int
    ) -> int:
        ended = select(key).where(moment < before).order_by(moment).limit(most).scalar_subquery()
        return self._connection.execute(delete(key.class_).where(key.in_(ended))).rowcount


def access_of(row: Any) -> AccessToken:
    """Return the token of a row of `oauth_access_tokens`, however it was fetched."""
    return AccessToken(
        digest=row.digest,
        client=row.client,
        controller=row.controller,
        party=row.party,
        audience=row.audience,
        scopes=parse(row.scopes),
        jkt=row.jkt,
        consent=row.consent,
        consent_version=row.consent_version,
        detail=None if row.detail is None else AggregationConsent.from_json(row.detail),
        attended=row.attended,
        grant=row.grant,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


class SqlSigningKeys:
    """Signing keys at rest over one open connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def all(self) -> list[StoredKey]:
        """Return every key, retired ones too, oldest first."""
        found = self._connection.execute(select(SigningKeyRow.__table__).order_by(SigningKeyRow.created_at))
        return [
            StoredKey(row.kid, KeyState(row.state), row.public, row.sealed, row.created_at, row.since) for row in found
        ]

    def put(self, key: StoredKey) -> None:
        """Insert a key, or change its state."""
        changed = {"state": key.state.value, "sealed": key.sealed, "since": key.since}
        done = self._connection.execute(update(SigningKeyRow).where(SigningKeyRow.kid == key.kid).values(**changed))
        if done.rowcount == 0:
            new: Insert = insert(SigningKeyRow).values(
                kid=key.kid, public=dict(key.public), created_at=key.created_at, **changed
            )
            self._connection.execute(new)

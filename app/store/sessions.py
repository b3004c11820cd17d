"""Repositories of sessions, pending sign-ins and guess counters, within the caller's transaction.

What may happen once (a link, a challenge) is one conditional UPDATE, so that of two racing callers one loses.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, cast

from sqlalchemy import CursorResult, Delete, Update, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.rows.sessions import CounterRow, SessionRow, SignInRow
from consent.vocabulary import ControllerId, SubjectRef

PersonKind = Literal["visitor", "subject", "staff"]
CODE_TRIES = 5
"""Tries at the short code of one sign-in (dsar rule 30)."""


@dataclass(frozen=True, slots=True)
class StoredSession:
    """A live session."""

    kind: PersonKind
    person: str
    controller: ControllerId
    level: int
    proven_at: datetime | None
    credential: str | None
    seen_at: datetime
    enrolment: str | None


@dataclass(frozen=True, slots=True)
class StoredSignIn:
    """A sign-in just redeemed."""

    subject: SubjectRef | None
    controller: ControllerId
    onward: str | None


@dataclass(frozen=True, slots=True)
class PendingSignIn:
    """A sign-in that still opens something; its subject is None where the address is nobody's."""

    subject: SubjectRef | None
    controller: ControllerId
    expires_at: datetime


class SqlSessions:
    """Sessions by digest."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def open(
        self,
        digest: str,
        *,
        kind: PersonKind,
        person: str,
        controller: ControllerId,
        level: int,
        proven_at: datetime | None,
        credential: str | None,
        now: datetime,
        idle: timedelta,
        longest: timedelta,
    ) -> None:
        self._session.add(
            SessionRow(
                digest=digest,
                controller=controller,
                kind=kind,
                person=person,
                level=level,
                proven_at=proven_at,
                credential=credential,
                opened_at=now,
                seen_at=now,
                idle_at=now + idle,
                ends_at=now + longest,
            )
        )
        self._session.flush()

    def find(self, digest: str, now: datetime) -> StoredSession | None:
        query = select(SessionRow).where(
            SessionRow.digest == digest, SessionRow.idle_at > now, SessionRow.ends_at > now
        )
        row = self._session.scalars(query).first()
        return _session(row) if row else None

    def touch(self, digest: str, now: datetime, idle: timedelta) -> None:
        """Move the idle end; never past the longest one."""
        self._session.execute(
            update(SessionRow).where(SessionRow.digest == digest).values(seen_at=now, idle_at=now + idle)
        )

    def close(self, digest: str) -> None:
        self._session.execute(delete(SessionRow).where(SessionRow.digest == digest))

    def close_all(self, kind: PersonKind, person: str) -> int:
        """End every session of a person; return how many there were."""
        return _count(self._session, delete(SessionRow).where(SessionRow.kind == kind, SessionRow.person == person))

    def close_others(self, kind: PersonKind, person: str, digest: str) -> int:
        """End every session of a person but this one; return how many there were."""
        others = (SessionRow.kind == kind, SessionRow.person == person, SessionRow.digest != digest)
        return _count(self._session, delete(SessionRow).where(*others))

    def put_challenge(self, digest: str, challenge: bytes, until: datetime) -> None:
        self._session.execute(
            update(SessionRow).where(SessionRow.digest == digest).values(challenge=challenge, challenge_until=until)
        )

    def pop_challenge(self, digest: str, now: datetime) -> bytes | None:
        """Return the challenge once."""
        query = select(SessionRow.challenge).where(SessionRow.digest == digest, SessionRow.challenge_until > now)
        challenge = self._session.scalars(query).first()
        taken = _count(
            self._session,
            update(SessionRow)
            .where(SessionRow.digest == digest, SessionRow.challenge == challenge)
            .values(challenge=None, challenge_until=None),
        )
        return challenge if taken else None

    def permit_enrolment(self, digest: str, code_digest: str) -> None:
        self._session.execute(update(SessionRow).where(SessionRow.digest == digest).values(enrolment=code_digest))

    def sweep(self, now: datetime) -> int:
        """Remove what ended; return how many rows went."""
        return _count(
            self._session, delete(SessionRow).where((SessionRow.ends_at <= now) | (SessionRow.idle_at <= now))
        )


class SqlSignIns:
    """Pending e-mail sign-ins."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(
        self,
        ref: str,
        *,
        subject: SubjectRef | None,
        controller: ControllerId,
        link_digest: str,
        ticket_digest: str,
        onward: str | None,
        now: datetime,
        expires_at: datetime,
    ) -> None:
        """Store it; every earlier one of the subject ends (consent rule 30)."""
        self._session.execute(
            update(SignInRow)
            .where(SignInRow.subject == (subject or ""), SignInRow.ended_at.is_(None))
            .values(ended_at=now)
        )
        self._session.add(
            SignInRow(
                ref=ref,
                controller=controller,
                subject=subject,
                link_digest=link_digest,
                ticket_digest=ticket_digest,
                onward=onward,
                asked_at=now,
                expires_at=expires_at,
                tries=0,
            )
        )
        self._session.flush()

    def peek(self, link_digest: str, now: datetime) -> bool:
        query = select(SignInRow.ref).where(SignInRow.link_digest == link_digest, *_open(now))
        return self._session.scalars(query).first() is not None

    def pending(self, ref: str, now: datetime) -> PendingSignIn | None:
        """Return it, or None once it was used, cancelled or is over."""
        row = self._session.scalars(select(SignInRow).where(SignInRow.ref == ref, *_open(now))).first()
        if row is None:
            return None
        subject = SubjectRef(row.subject) if row.subject else None
        return PendingSignIn(subject, ControllerId(row.controller), row.expires_at)

    def redeem_link(self, link_digest: str, now: datetime) -> StoredSignIn | None:
        query = select(SignInRow.ref).where(SignInRow.link_digest == link_digest)
        ref = self._session.scalars(query).first()
        return self.redeem_ref(ref, now) if ref else None

    def pending_ref(self, ticket_digest: str, now: datetime) -> str | None:
        """Count a try and return the reference, or None when there is none or its tries are used up."""
        counted = _count(
            self._session,
            update(SignInRow)
            .where(SignInRow.ticket_digest == ticket_digest, SignInRow.tries < CODE_TRIES, *_open(now))
            .values(tries=SignInRow.tries + 1),
        )
        if not counted:
            return None
        return self._session.scalars(select(SignInRow.ref).where(SignInRow.ticket_digest == ticket_digest)).first()

    def redeem_ref(self, ref: str, now: datetime) -> StoredSignIn | None:
        if not _count(self._session, update(SignInRow).where(SignInRow.ref == ref, *_open(now)).values(ended_at=now)):
            return None
        row = self._session.get_one(SignInRow, ref)
        return StoredSignIn(SubjectRef(row.subject) if row.subject else None, ControllerId(row.controller), row.onward)

    def end_all(self, subject: SubjectRef, now: datetime) -> int:
        """End every sign-in of a subject that is still open; return how many there were."""
        open_ = update(SignInRow).where(SignInRow.subject == subject, SignInRow.ended_at.is_(None))
        return _count(self._session, open_.values(ended_at=now))

    def sweep(self, now: datetime) -> int:
        """Remove what can no longer be used; return how many rows went."""
        return _count(self._session, delete(SignInRow).where(SignInRow.expires_at <= now))


class SqlCounters:
    """Guess counters: one row a key and window."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def hit(self, key: str, now: datetime, window: timedelta) -> int:
        """Count one and return the count; atomic on both databases."""
        seconds = int(window.total_seconds())
        start = datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)
        insert = postgresql.insert if self._session.get_bind().dialect.name == "postgresql" else sqlite.insert
        statement = (
            insert(CounterRow)
            .values(key=key, window_at=start, tries=1)
            .on_conflict_do_update(
                index_elements=[CounterRow.key, CounterRow.window_at], set_={"tries": CounterRow.tries + 1}
            )
            .returning(CounterRow.tries)
        )
        return int(self._session.execute(statement).scalar_one())

    def sweep(self, before: datetime) -> int:
        """Remove windows that began before; return how many rows went."""
        return _count(self._session, delete(CounterRow).where(CounterRow.window_at < before))


def _open(now: datetime) -> tuple[Any, Any]:
    return SignInRow.ended_at.is_(None), SignInRow.expires_at > now


def _count(session: Session, statement: Update | Delete) -> int:
    done = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", done).rowcount


def _session(row: SessionRow) -> StoredSession:
    return StoredSession(
        kind=cast("PersonKind", row.kind),
        person=row.person,
        controller=ControllerId(row.controller),
        level=row.level,
        proven_at=row.proven_at,
        credential=row.credential,
        seen_at=row.seen_at,
        enrolment=row.enrolment,
    )

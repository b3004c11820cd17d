"""One unit of work on the records database: leaving it without `commit()` means nothing happened.

State change, ledger entry and follow-up work share its transaction. Every repository of the store is an attribute;
the law and the doors each see the few they ask for, through their own Protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from app.store.adoptions import SqlAdoptions
from app.store.certificates import SqlCertificateLinks
from app.store.clients import SqlClients
from app.store.consents import SqlConsents
from app.store.disclosures import SqlDisclosures
from app.store.exports import SqlExports, SqlReleaseCandidates
from app.store.idempotency import SqlKeyedRequests
from app.store.journeys import SqlJourneys
from app.store.leaves import Randomness, Seal, SqlJournal, SqlLeafNumbers
from app.store.limits import SqlLimits
from app.store.mailqueue import MailQueue, SealMail
from app.store.once import once
from app.store.passkeys import SqlEnrolments, SqlPasskeys, SqlStaff
from app.store.receipts import SqlConsentNotices, SqlReceipts
from app.store.sessions import SqlCounters, SqlSessions, SqlSignIns
from app.store.standings import SqlComponents, SqlStandings
from app.store.subjects import SqlSubjects
from app.store.tokens import SqlSigningKeys, SqlTokens
from consent.ports import Clock, Ids

Enqueue = Callable[[Session, str, str, datetime | None], None]
"""(session, kind, reference, due) commits durable work with the session."""


@dataclass(frozen=True, slots=True)
class Units:
    """Opens units of work; what they need beside the database is handed in."""

    engine: Engine
    clock: Clock
    ids: Ids
    entropy: Randomness
    seal_payload: Seal
    seal_mail: SealMail
    enqueue: Enqueue

    def writing(self) -> RecordsUnit:
        """A unit that may commit."""
        return RecordsUnit(self, Session(self.engine))

    def reading(self) -> RecordsUnit:
        """A unit for looking only: on SQLite it does not queue behind the one writer."""
        return RecordsUnit(self, Session(self.engine.execution_options(regard_read=True)))


class _SessionWork:
    """`consent.ports.Work` inside one session."""

    def __init__(self, session: Session, enqueue: Enqueue) -> None:
        self._session = session
        self._enqueue = enqueue

    def enqueue(self, kind: str, ref: str, *, due: datetime | None = None) -> None:
        self._enqueue(self._session, kind, ref, due)


class RecordsUnit:
    """One transaction and the repositories in it."""

    def __init__(self, units: Units, session: Session) -> None:
        self._units = units
        self.session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.session.close()

    def commit(self) -> None:
        """Make everything in the unit durable at once."""
        self.session.commit()

    @once
    def journal(self) -> SqlJournal:
        units = self._units
        return SqlJournal(self.session, units.seal_payload, units.clock, units.ids, units.entropy)

    @once
    def work(self) -> _SessionWork:
        return _SessionWork(self.session, self._units.enqueue)

    @once
    def mail_queue(self) -> MailQueue:
        return MailQueue(self.session, self._units.seal_mail, self.work, self._units.clock, self._units.ids)

    @once
    def subjects(self) -> SqlSubjects:
        return SqlSubjects(self.session)

    @once
    def certificate_links(self) -> SqlCertificateLinks:
        return SqlCertificateLinks(self.session)

    @once
    def disclosures(self) -> SqlDisclosures:
        return SqlDisclosures(self.session)

    @once
    def sessions(self) -> SqlSessions:
        return SqlSessions(self.session)

    @once
    def sign_ins(self) -> SqlSignIns:
        return SqlSignIns(self.session)

    @once
    def counters(self) -> SqlCounters:
        return SqlCounters(self.session)

    @once
    def passkeys(self) -> SqlPasskeys:
        return SqlPasskeys(self.session)

    @once
    def enrolments(self) -> SqlEnrolments:
        return SqlEnrolments(self.session)

    @once
    def journeys(self) -> SqlJourneys:
        return SqlJourneys(self.session)

    @once
    def staff(self) -> SqlStaff:
        return SqlStaff(self.session)

    @once
    def clients(self) -> SqlClients:
        return SqlClients(self.session.connection())

    @once
    def tokens(self) -> SqlTokens:
        return SqlTokens(self.session.connection())

    @once
    def signing_key_rows(self) -> SqlSigningKeys:
        return SqlSigningKeys(self.session.connection())

    @once
    def exports(self) -> SqlExports:
        return SqlExports(self.session)

    @once
    def release_candidates(self) -> SqlReleaseCandidates:
        return SqlReleaseCandidates(self.session)

    @once
    def leaf_numbers(self) -> SqlLeafNumbers:
        return SqlLeafNumbers(self.session)

    @once
    def consents(self) -> SqlConsents:
        return SqlConsents(self.session.connection())

    @once
    def receipts(self) -> SqlReceipts:
        return SqlReceipts(self.session.connection())

    @once
    def notices(self) -> SqlConsentNotices:
        return SqlConsentNotices(self.session.connection())

    @once
    def limits(self) -> SqlLimits:
        return SqlLimits(self.session.connection())

    @once
    def standings(self) -> SqlStandings:
        return SqlStandings(self.session)

    @once
    def components(self) -> SqlComponents:
        return SqlComponents(self.clients)

    @property
    def reads(self) -> SqlTokens:
        return self.tokens

    @once
    def keyed_requests(self) -> SqlKeyedRequests:
        return SqlKeyedRequests(self.session.connection())

    @once
    def adoptions(self) -> SqlAdoptions:
        return SqlAdoptions(self.session)

"""A policy of two controllers just large enough, a unit of work on a real SQLite database, and hands to use them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine

from app.store.consents import SqlConsents
from app.store.engine import open_engine
from app.store.rows.consents import ConsentEventRow, ConsentRow
from consent import usecases
from consent.decision import Component, Keep, Question, Standing
from consent.events import Actor, ActorKind, Channel, Evidence
from consent.journey import Agreement
from consent.parties import ARTICLE_28_BOXES, Baseline, Grant, Party, PartyRole, Security
from consent.policy import (
    Category,
    Cluster,
    Controller,
    Figure,
    FigureName,
    Institution,
    Journey,
    Notice,
    Policy,
    Purpose,
    Retention,
    RightRule,
    Role,
    Stage,
    StageKind,
)
from consent.ports import Json
from consent.proposal import Proposal
from consent.record import Consent
from consent.vocabulary import (
    Action,
    CategoryId,
    ComponentId,
    ConsentId,
    ControllerId,
    LegalBasis,
    Locale,
    PartyId,
    PurposeId,
    SubjectRef,
)

NOW = datetime(2026, 3, 5, 9, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TEXT = dict.fromkeys(Locale, "text")
HERE, THERE = ControllerId("here"), ControllerId("there")
ANNA, BRUNO, FAR = SubjectRef("sub_anna"), SubjectRef("sub_bruno"), SubjectRef("sub_far")
BALANCES, RECENT, OLDER, HEALTH = (
    CategoryId(name) for name in ("accounts.balances", "transactions.recent", "transactions.older", "health.hints")
)
OVERVIEW, CREDIT, SERVICE, AUDIT, ELSEWHERE = (
    PurposeId(name) for name in ("overview", "credit", "service", "audit", "elsewhere")
)
PARTNER, RIVAL, HOLDER, TEAM, BANK, FAR_PARTNER = (
    PartyId(name) for name in ("partner", "rival", "holder", "team", "bank", "far_partner")
)
READER = ComponentId("cmp_reader")


def _controller(name: ControllerId) -> Controller:
    return Controller(
        id=name,
        legal_name=f"{name} SAS",
        brand_name=name,
        register_numbers={"REGAFI": "1"},
        address="1 rue A, Paris",
        country="FR",
        dpo_email="dpo@example.test",
        authority=TEXT,
        authority_url="https://authority.example.test",
        locales=(Locale.FR, Locale.EN),
        time_zone="Europe/Paris",
        holiday_country="FR",
        holiday_subdivision=None,
        capacity="controller",
        regions=("NL", "EU"),
        baseline=Baseline(("ISO 27001",), True, True, 24, 400),
    )


def _party(
    name: PartyId, controller: ControllerId, role: PartyRole, *allowed: tuple[PurposeId, Action, set[CategoryId]]
):
    grants = tuple(
        Grant(purpose, category, action, TEXT, date(2025, 1, 1), None)
        for purpose, action, categories in allowed
        for category in sorted(categories)
    )
    return Party(
        id=name,
        controller=controller,
        role=role,
        legal_name=f"{name} SA",
        brand_name=name,
        register_numbers={},
        country="FR",
        contact="contact@example.test",
        dpo="dpo@example.test",
        does=TEXT,
        parent=None,
        contract_ref="C-1",
        contract_start=date(2025, 1, 1),
        contract_end=None,
        article_28=dict.fromkeys(ARTICLE_28_BOXES, "clause"),
        transfer_mechanism=None,
        security=Security("ISO 27001", True, True, 24, date(2026, 1, 1)),
        objection_until=None,
        notice_url="https://notice.example.test",
        grants=grants,
    )


def _purpose(name: PurposeId, controller: ControllerId = HERE, **changes: object) -> Purpose:
    usual = Purpose(
        id=name,
        controller=controller,
        names=TEXT,
        why=TEXT,
        consequence=TEXT,
        basis=LegalBasis.CONSENT,
        needed=frozenset({BALANCES}),
        optional=frozenset({RECENT, OLDER, HEALTH}),
        longest_days=365,
        periods_days=(1, 180, 365),
        history_days=90,
        reads_per_day=2,
        needs_sca=False,
        needs_mandate=False,
        notice_version=1,
    )
    return replace(usual, **changes)


_ALL = {BALANCES, RECENT, OLDER, HEALTH}
_STAGES = (StageKind.INSTITUTION, StageKind.FACTS, StageKind.CHECK, StageKind.STEP_UP, StageKind.LEAVING)
PARTIES = (
    _party(PARTNER, HERE, PartyRole.RECIPIENT, (OVERVIEW, Action.READ, {BALANCES, RECENT})),
    _party(RIVAL, HERE, PartyRole.RECIPIENT, (OVERVIEW, Action.READ, _ALL)),
    _party(
        HOLDER,
        HERE,
        PartyRole.PROCESSOR,
        (OVERVIEW, Action.READ, _ALL),
        (OVERVIEW, Action.HOLD, _ALL),
        (OVERVIEW, Action.USE_CREDENTIAL, {BALANCES}),
        (SERVICE, Action.READ, {BALANCES}),
        (SERVICE, Action.HOLD, {BALANCES}),
        (AUDIT, Action.READ, {BALANCES}),
        (AUDIT, Action.HOLD, {BALANCES}),
    ),
    _party(
        TEAM,
        HERE,
        PartyRole.INTERNAL_TEAM,
        (OVERVIEW, Action.READ, {BALANCES, RECENT}),
        (CREDIT, Action.TRANSMIT, {BALANCES}),
    ),
    _party(BANK, HERE, PartyRole.RECIPIENT, (CREDIT, Action.READ, {BALANCES})),
    _party(FAR_PARTNER, THERE, PartyRole.RECIPIENT, (ELSEWHERE, Action.READ, {BALANCES})),
)
PURPOSES = (
    _purpose(OVERVIEW, needs_sca=True),
    _purpose(CREDIT, needs_mandate=True),
    _purpose(SERVICE, basis=LegalBasis.CONTRACT),
    _purpose(AUDIT, basis=LegalBasis.LEGITIMATE_INTERESTS, periods_days=()),
    _purpose(ELSEWHERE, THERE),
)
FIGURES = {
    FigureName.LONGEST_CONSENT_DAYS: (365,),
    FigureName.ASK_AGAIN_MONTHS: (6,),
    FigureName.ENDED_VISIBLE_DAYS: (730,),
    FigureName.RENEWAL_NOTICE_DAYS: (14, 3),
    FigureName.REMINDER_DAYS: (90,),
}


def small_policy() -> Policy:
    return Policy(
        version="1",
        digest="ab" * 32,
        controllers={name: _controller(name) for name in (HERE, THERE)},
        clusters={"money": Cluster("money", TEXT)},
        categories={name: Category(name, None, "money", TEXT, name == HEALTH, 3, "data") for name in sorted(_ALL)},
        purposes={purpose.id: purpose for purpose in PURPOSES},
        parties={party.id: party for party in PARTIES},
        retentions=(Retention(BALANCES, OVERVIEW, 30, "consent_end", "GDPR 5", "erase", TEXT),),
        rights={"access": RightRule("access", "15", 1, 2, TEXT)},
        roles={"adviser": Role("adviser", TEXT, frozenset({BALANCES}))},
        institutions={
            "big": Institution("big", "Big", "FR", ("own_credentials", "poa_login"), (), (), 6, frozenset(_ALL)),
            "little": Institution("little", "Little", "FR", ("poa_feed",), (), (), 6, frozenset({BALANCES, RECENT})),
            "loans": Institution("loans", "Loans", "FR", ("poa_feed",), (), (), 6, frozenset({OLDER})),
        },
        notices={
            (purpose.id, 1, locale): Notice(purpose.id, 1, locale, "words", f"{purpose.id}-{locale}")
            for purpose in PURPOSES
            for locale in Locale
        },
        figures={name: Figure(name, values, "P", "test") for name, values in FIGURES.items()},
        journeys={
            "partner": _journey("partner", StageKind.FACTS, StageKind.CHECK, StageKind.RESULT),
            "aggregation": _journey("aggregation", *_STAGES, StageKind.RESULT),
        },
    )


def _journey(name: str, *kinds: StageKind) -> Journey:
    return Journey(name, TEXT, (OVERVIEW,), tuple(Stage(kind, TEXT) for kind in kinds))


POLICY = small_policy()


def with_purpose(policy: Policy, name: PurposeId, **changes: object) -> Policy:
    return replace(policy, purposes={**policy.purposes, name: replace(policy.purposes[name], **changes)})


def with_party(policy: Policy, name: PartyId, **changes: object) -> Policy:
    return replace(policy, parties={**policy.parties, name: replace(policy.parties[name], **changes)})


@dataclass
class Books:
    """What other rooms would have stored, and what was committed to the ledger and to the queue of work."""

    standings: dict[SubjectRef, Standing] = field(
        default_factory=lambda: {ANNA: Standing(HERE), BRUNO: Standing(HERE), FAR: Standing(THERE)}
    )
    components: dict[ComponentId, Component] = field(
        default_factory=lambda: {READER: Component(READER, PARTNER, False, "FR", frozenset(Keep))}
    )
    reads: int = 0
    entries: list[tuple[str, str, str | None, Mapping[str, Json]]] = field(default_factory=list)
    work: list[tuple[str, str, datetime | None]] = field(default_factory=list)


class SmallUnit:
    """A `consent.ports.Unit` on a real connection; entries and work reach the books only by commit."""

    def __init__(self, engine: Engine, books: Books) -> None:
        self._engine, self._books = engine, books
        self._entries: list[tuple[str, str, str | None, Mapping[str, Json]]] = []
        self._work: list[tuple[str, str, datetime | None]] = []
        self.journal = self.work = self.standings = self.components = self

    @property
    def reads(self) -> SmallReads:
        return SmallReads(self._books)

    def __enter__(self) -> Self:
        self.connection: Connection = self._engine.connect()
        self.consents = SqlConsents(self.connection)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self.connection.close()

    def commit(self) -> None:
        self.connection.commit()
        self._books.entries += self._entries
        self._books.work += self._work
        self._entries, self._work = [], []

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str:
        self._entries.append((kind, controller, subject, payload))
        return "ent_1"

    def enqueue(self, kind: str, ref: str, *, due: datetime | None = None) -> None:
        self._work.append((kind, ref, due))

    def standing(self, subject: SubjectRef, purpose: PurposeId, at: datetime) -> Standing | None:
        return self._books.standings.get(subject)

    def component(self, component: ComponentId) -> Component | None:
        return self._books.components.get(component)


class SmallReads:
    def __init__(self, books: Books) -> None:
        self._books = books

    def reads(self, consent: str, party: str, at: datetime) -> int:
        return self._books.reads


class Counting:
    """Ids in order."""

    def __init__(self) -> None:
        self.count = 0

    def new(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{self.count:026d}"


SUBJECT = Actor(ActorKind.SUBJECT, ANNA)
PARTNER_ACTOR = Actor(ActorKind.PARTY, PARTNER)
SYSTEM = Actor(ActorKind.SYSTEM, "clock")
STAFF = Actor(ActorKind.STAFF, "stf_1")
EVIDENCE = Evidence(level=1, step_up=None, step_up_at=None, credential_digest=None, gpc=False)
PROVEN = replace(EVIDENCE, level=3, step_up="passkey", step_up_at=NOW)
PROPOSAL = Proposal(controller=HERE, subject=ANNA, purpose=OVERVIEW, party=PARTNER)
AGREEMENT = Agreement(frozenset({RECENT}), 180, attended_only=False, institution=None, access_path=None)


class Desk:
    """Use cases by hand, with the usual arguments filled in."""

    def __init__(self, engine: Engine, policy: Policy = POLICY) -> None:
        self.engine, self.policy, self.books, self.ids = engine, policy, Books(), Counting()

    def unit(self) -> SmallUnit:
        return SmallUnit(self.engine, self.books)

    def propose(self, at: datetime = NOW, by: Actor = PARTNER_ACTOR, **changes: object) -> Consent:
        proposal = replace(PROPOSAL, **changes)
        return usecases.propose(self.unit(), self.policy, proposal, ids=self.ids, by=by, channel=Channel.API, at=at)

    def show(self, consent: ConsentId, at: datetime = NOW, by: Actor = SUBJECT, **changes: object) -> Consent:
        usual: dict[str, object] = {
            "controller": HERE,
            "locale": Locale.FR,
            "template_digest": "t1",
            "catalogue_digest": "c1",
            "gpc": False,
        }
        return usecases.show(
            self.unit(), self.policy, consent=consent, by=by, channel=Channel.PAGE, at=at, **{**usual, **changes}
        )

    def give(
        self,
        consent: ConsentId,
        agreement: Agreement = AGREEMENT,
        at: datetime = NOW,
        by: Actor = SUBJECT,
        evidence: Evidence = EVIDENCE,
    ) -> Consent:
        return usecases.give(
            self.unit(),
            self.policy,
            agreement,
            controller=HERE,
            consent=consent,
            evidence=evidence,
            by=by,
            channel=Channel.PAGE,
            at=at,
        )

    def active(self, agreement: Agreement = AGREEMENT, at: datetime = NOW, **changes: object) -> Consent:
        asked = self.propose(at, **changes)
        self.show(asked.id, at)
        return self.give(asked.id, agreement, at)

    def withdraw(self, consent: ConsentId, at: datetime = NOW, by: Actor = SUBJECT, **more: object) -> Consent:
        usual: dict[str, object] = {"controller": HERE, "channel": Channel.PAGE}
        return usecases.withdraw(self.unit(), consent=consent, by=by, at=at, **{**usual, **more})

    def find(self, consent: ConsentId, controller: ControllerId = HERE) -> Consent | None:
        with self.unit() as unit:
            return unit.consents.find(controller, consent)

    def judge(self, question: Question):
        with self.unit() as unit:
            return usecases.judge(unit, self.policy, question)


QUESTION = Question(
    party=PARTNER,
    component=READER,
    purpose=OVERVIEW,
    categories=frozenset({BALANCES}),
    action=Action.READ,
    subject=ANNA,
    attended=True,
    at=NOW + DAY,
)


@contextmanager
def desk_on(url: str, policy: Policy = POLICY) -> Iterator[Desk]:
    """A desk on a database of its own, with the tables of consents only."""
    engine = open_engine(url)
    ConsentRow.metadata.create_all(engine, tables=[ConsentRow.__table__, ConsentEventRow.__table__])
    yield Desk(engine, policy)
    engine.dispose()

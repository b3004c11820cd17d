"""A desk on a real SQLite or PostgreSQL session, with a pack just large enough, a clock that is set, and open books."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from app.calendars import Calendars
from app.store.cases import SqlCases, SqlNotes
from app.store.consents import SqlConsents
from app.store.limits import SqlLimits
from consent.policy import Category, Controller, Policy, Purpose, Retention
from consent.vocabulary import (
    CategoryId,
    ComponentId,
    ControllerId,
    LegalBasis,
    Locale,
    PurposeId,
    SubjectRef,
)
from dsar.ports import Desk
from dsar.practice import Practice
from dsar.proofs.shape import Proof
from dsar.vocabulary import Actor, Method

PARIS = ZoneInfo("Europe/Paris")
BANK = ControllerId("ctl_bank")
OTHER = ControllerId("ctl_other")
ANNA = SubjectRef("sub_anna")
AGENT = Actor("staff_agent", human=True)
DPO = Actor("staff_dpo", human=True, dpo=True)
HOLDERS = (ComponentId("holder_accounts"), ComponentId("holder_loans"))
BALANCES, IDENTITY, STATS = CategoryId("accounts.balances"), CategoryId("identity.papers"), CategoryId("usage")
ADVICE, AML = PurposeId("advice"), PurposeId("aml")
TEXT = dict.fromkeys(Locale, "text")
PRACTICE = Practice(
    acknowledge_working_days=1,
    ask_within_working_days=3,
    no_answer_days=30,
    target_working_days=10,
    recent_contact_days=30,
    document_hours=72,
    recipient_working_days=5,
    package_days=30,
    copy_wait_days=7,
    breach_hours=72,
)


def controller(id_: ControllerId, subdivision: str | None = None) -> Controller:
    return Controller(
        id=id_,
        legal_name="B",
        brand_name="B",
        register_numbers={},
        address="",
        country="FR",
        dpo_email="",
        authority=TEXT,
        authority_url="",
        locales=tuple(Locale),
        time_zone="Europe/Paris",
        holiday_country="FR",
        holiday_subdivision=subdivision,
        capacity="controller",
        regions=("EU",),
    )


def category(id_: CategoryId, sensitivity: int) -> Category:
    return Category(id_, None, "c", TEXT, special=False, sensitivity=sensitivity, key_class="data")


def purpose(id_: PurposeId, categories: frozenset[CategoryId], basis: LegalBasis) -> Purpose:
    return Purpose(
        id=id_,
        controller=BANK,
        names=TEXT,
        why=TEXT,
        consequence=TEXT,
        basis=basis,
        needed=categories,
        optional=frozenset(),
        longest_days=180,
        periods_days=(1, 180),
        history_days=90,
        reads_per_day=4,
        needs_sca=False,
        needs_mandate=False,
        notice_version=1,
    )


def pack() -> Policy:
    """Balances for advice are erased, papers for AML are kept five years after the relation ends, usage is counted."""
    return Policy(
        version="1",
        digest="0" * 64,
        controllers={BANK: controller(BANK), OTHER: controller(OTHER)},
        clusters={},
        categories={BALANCES: category(BALANCES, 3), IDENTITY: category(IDENTITY, 3), STATS: category(STATS, 1)},
        purposes={
            ADVICE: purpose(ADVICE, frozenset({BALANCES, IDENTITY, STATS}), LegalBasis.CONSENT),
            AML: purpose(AML, frozenset({IDENTITY}), LegalBasis.LEGAL_OBLIGATION),
        },
        parties={},
        retentions=(
            Retention(IDENTITY, AML, 1826, "relationship_end", "CMF L.561-12", "retain", TEXT),
            Retention(STATS, ADVICE, 30, "last_use", "RGPD 5(1)(e)", "anonymise", TEXT),
        ),
        rights={},
        roles={},
        institutions={},
        notices={},
    )


@dataclass
class SetClock:
    moment: datetime

    def now(self) -> datetime:
        return self.moment


class CountingIds:
    def __init__(self) -> None:
        self._next = itertools.count(1)

    def new(self, prefix: str) -> str:
        return f"{prefix}_{next(self._next):026d}"


@dataclass
class Books:
    """The journal, open to be read."""

    entries: list[tuple[str, str, Mapping[str, object]]] = field(default_factory=list)

    def record(self, kind, *, actor, controller, subject, payload) -> str:
        self.entries.append((kind, actor, dict(payload)))
        return f"leaf_{len(self.entries)}"


@dataclass
class Chores:
    """The follow-up work, open to be read."""

    asked: list[tuple[str, str, datetime | None]] = field(default_factory=list)

    def enqueue(self, kind: str, ref: str, *, due: datetime | None = None) -> None:
        self.asked.append((kind, ref, due))


@dataclass
class Agreements:
    """The rooms of consents, on the same session."""

    consents: SqlConsents
    limits: SqlLimits
    journal: Books
    work: Chores


class XorSeal:
    """Makes sealed bytes differ from the text; real sealing is proven with the vault."""

    def seal(self, controller, subject, note, text) -> bytes:
        return bytes(byte ^ 0x5A for byte in text.encode())

    def open(self, controller, subject, note, sealed):
        return bytes(byte ^ 0x5A for byte in sealed).decode()


def paris(year: int, month: int, day: int, hour: int = 10) -> datetime:
    return datetime(year, month, day, hour, tzinfo=PARIS).astimezone(UTC)


def make_desk(session: Session, moment: datetime | None = None) -> Desk:
    ids, books, chores = CountingIds(), Books(), Chores()
    return Desk(
        cases=SqlCases(session),
        notes=SqlNotes(session, ids, XorSeal()),
        agreements=Agreements(SqlConsents(session.connection()), SqlLimits(session.connection()), books, chores),
        journal=books,
        work=chores,
        clock=SetClock(moment or paris(2026, 3, 5)),
        ids=ids,
        calendars=Calendars(),
        policy=pack(),
        practice=PRACTICE,
    )


def at(desk: Desk, moment: datetime) -> None:
    """Set the desk's clock."""
    desk.clock.moment = moment


def passkey(moment: datetime, known_since: datetime | None = None) -> Proof:
    return Proof(Method.PASSKEY, moment, "pk_1", known_since or paris(2025, 1, 2))


def email(moment: datetime, known_since: datetime | None = None) -> Proof:
    return Proof(Method.EMAIL_LINK, moment, "mail_1", known_since or paris(2025, 1, 2))


def ends(day: date) -> Mapping[str, date]:
    return {"relationship_end": day, "last_use": day}

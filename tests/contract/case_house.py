"""A house with one person, two holders that really keep and delete rows, and a case driven through the use cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import Engine, text

from app.outbound.package import Copies, Words, assemble
from app.outbound.uploads import Whose, gather
from app.profiles import Profile
from app.sdk import parts
from app.sdk.scopes import Scope as Permission
from app.settings import Settings, read_settings
from app.tokens.records import Client, GrantType
from app.vault.errors import Erased, UnknownKey
from app.vault.keys import Basis, Scope
from app.wiring import House, build
from consent.vocabulary import CategoryId, ComponentId, Locale, PairwiseHandle, PartyId, PurposeId, SubjectRef
from dsar import usecases
from dsar.errors import CaseChanged
from dsar.package import CategoryResult, Filled, HolderAnswer, NoneToReport, Section
from dsar.ports import Desk, HolderTask
from dsar.proofs.shape import Proof
from dsar.retention import Holding, matrix
from dsar.usecases import Decision, Intake
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    Channel,
    FateKind,
    Ground,
    HolderStatus,
    LineId,
    Method,
    Outcome,
    Right,
    TaskKind,
)
from tests.databases import found_deployment

T = TypeVar("T")
_TRIES = 20
ROOT = Path(__file__).resolve().parents[2]
DPO = Actor("staff_dpo", human=True, dpo=True)
ACCOUNTS, FILES = ComponentId("accounts_store"), ComponentId("file_store")
PARTIES = {ACCOUNTS: "nuage", FILES: "compliance"}
"""Who runs each holder: keys are kept by party, tasks by component."""
BALANCES, PAPERS = CategoryId("accounts.balances"), CategoryId("identity.papers")
OVERVIEW, AML = PurposeId("wealth_overview"), PurposeId("aml_duties")
ENDED = datetime.now(ZoneInfo("Europe/Paris")).date()
"""Today, for the controller: the day it is elsewhere may be another."""


@dataclass
class Holder:
    """Keeps sealed rows; the vault alone opens them."""

    house: House
    name: ComponentId
    category: CategoryId
    basis: Basis
    handle: str = ""
    """What the holder's party calls the person; it remembers that by itself."""
    rows: list[bytes] = field(default_factory=list)

    def scope(self, subject: str) -> Scope:
        return Scope(self.house.controller, subject, PARTIES[self.name], self.category, basis=self.basis)

    def store(self, subject: str, *records: dict[str, object]) -> None:
        fresh = PairwiseHandle(self.house.units.ids.new("pw"))
        with self.house.units.writing() as unit:
            whose = SubjectRef(subject), self.house.controller
            self.handle = unit.subjects.handle(*whose, PartyId(PARTIES[self.name]), fresh)
            unit.commit()
        for record in records:
            self.rows.append(self.sealed(subject, f"row_{len(self.rows)}", json.dumps(record).encode()))

    def sealed(self, subject: str, record_id: str, plain: bytes) -> bytes:
        return self.house.vault.seal(self.scope(subject), record_id, plain, handle=self.handle)

    def open(self, subject: str, record_id: str, row: bytes) -> bytes:
        return self.house.vault.open(self.scope(subject), record_id, row, handle=self.handle)

    def read(self, subject: str) -> list[dict[str, object]]:
        return [json.loads(self.open(subject, f"row_{at}", row)) for at, row in enumerate(self.rows)]

    def answer(self, task: HolderTask) -> HolderAnswer:
        return {TaskKind.SEARCH: self._search, TaskKind.ERASE: self._erase, TaskKind.VERIFY: self._verify}[task.kind](
            task
        )

    def _search(self, task: HolderTask) -> HolderAnswer:
        digest = hashlib.sha256()
        rows = [parts.Found(self.category, f"row_{at}", row) for at, row in enumerate(self.rows)]
        for number, part in enumerate(parts.cut(rows), start=1):
            self.house.casework.files.write_part(task.id, number, part)
            digest.update(part)
        found = CategoryResult(self.category, HolderStatus.FOUND, len(rows))
        return HolderAnswer(self.name, HolderStatus.FOUND, now(), (found,), digest=digest.hexdigest())

    def _erase(self, task: HolderTask) -> HolderAnswer:
        if any(one.fate is FateKind.RETAIN for one in task.instructions):
            return self._kept()
        self.rows.clear()
        done = CategoryResult(self.category, HolderStatus.ERASED, 0)
        return HolderAnswer(self.name, HolderStatus.ERASED, now(), (done,))

    def _verify(self, task: HolderTask) -> HolderAnswer:
        return self._kept() if self.rows else HolderAnswer(self.name, HolderStatus.NONE, now())

    def _kept(self) -> HolderAnswer:
        kept = CategoryResult(self.category, HolderStatus.RETAINED, len(self.rows), "aml")
        return HolderAnswer(self.name, HolderStatus.RETAINED, now(), (kept,))


BY_HAND = {usecases.PROCEED: lambda _ref, _steps: None}
"""Nobody looks at what comes next: the test makes every move itself."""


def now() -> datetime:
    return datetime.now(UTC)


def open_house(folder: Path, records_url: str, keys_url: str, *, fresh: bool = False, **more: str) -> House:
    """`more`: settings by their short names, e.g. `erasure_guard_subjects`."""
    settings = settings_for(folder, records_url, keys_url, **more)
    if fresh:
        found_deployment(settings)
    return build(settings)


def settings_for(folder: Path, records_url: str, keys_url: str, **more: str) -> Settings:
    return read_settings(
        {
            "REGARD_DATA_DIR": str(folder / "var"),
            "REGARD_POLICIES_DIR": str(ROOT / "policies"),
            "REGARD_RECORDS_URL": records_url,
            "REGARD_KEYS_URL": keys_url,
            "REGARD_ERASURE_BATCH_MINUTES": "0",
            **{f"REGARD_{name.upper()}": value for name, value in more.items()},
        }
    )


@dataclass
class Story:
    """A case as far as the order to erase."""

    house: House
    subject: SubjectRef
    holders: dict[ComponentId, Holder]
    case: CaseId
    copy: LineId
    gone: LineId

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        with self.house.casework.unit() as unit:
            yield unit.desk
            unit.commit()

    def act(self, deed: Callable[[Desk], T]) -> T:
        """One deed in its own unit; again when the service wrote the case at the same moment, as the doors do."""
        for _ in range(_TRIES):
            with suppress(CaseChanged), self.desk() as desk:
                return deed(desk)
        raise AssertionError(f"somebody else wrote the case {_TRIES} times in a row")

    def answer_all(self) -> int:
        """Every holder pulls what it has to do and answers; returns how much that was."""
        return sum(self.act(partial(_answer_open, holder)) for holder in self.holders.values())


def _answer_open(holder: Holder, desk: Desk) -> int:
    tasks = desk.cases.open_tasks(holder.name, limit=10)
    for task in tasks:
        usecases.record_answer(desk, task.id, holder.answer(task))
    return len(tasks)


def register(house: House) -> None:
    """Enter both holders into the register of clients; they answer without the wire, so their keys are no keys."""
    with house.units.writing() as unit:
        for name, party in PARTIES.items():
            holder = Client(
                id=name,
                controller=house.controller,
                party=party,
                name=name,
                jwks={"keys": []},
                scopes=frozenset({Permission.CASES_FULFIL}),
                grants=frozenset({GrantType.CLIENT_CREDENTIALS}),
                redirect_uris=(),
                resource=f"https://{name}.example",
                created_at=now(),
            )
            unit.clients.add(holder)
        unit.commit()


def begin(house: House, rows: int = 310) -> Story:
    """Open access and erasure for one person whose data two holders keep, and have both asked."""
    story = ask(house, rows)
    with story.desk() as desk:
        usecases.start_search(desk, story.case, (ACCOUNTS, FILES))
    return story


def ask(house: House, rows: int = 310, rights: tuple[Right, ...] = (Right.ACCESS, Right.ERASURE)) -> Story:
    """Open a case of one person whose data two holders keep; nothing has been done about it."""
    register(house)
    subject = house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.FR)
    accounts, files = Holder(house, ACCOUNTS, BALANCES, Basis.CONSENT), Holder(house, FILES, PAPERS, Basis.OTHER)
    accounts.store(subject, *({"bank": "=HYPERLINK(1)", "balance": n} for n in range(rows)))
    files.store(subject, {"kind": "passport", "number": "X1"})
    with house.casework.unit() as unit:
        opened = usecases.open_case(unit.desk, _intake(house, subject, rights))
        assert opened.case is not None
        unit.commit()
    lines = [opened.lines.get(right, LineId("none")) for right in (Right.ACCESS, Right.ERASURE)]
    return Story(house, subject, {ACCOUNTS: accounts, FILES: files}, opened.case, *lines)


def intake_of(story: Story, *rights: Right) -> Intake:
    """The same person asks for something else."""
    return _intake(story.house, story.subject, rights)


def _intake(house: House, subject: SubjectRef, rights: tuple[Right, ...]) -> Intake:
    before = now() - timedelta(days=400)
    return Intake(
        controller=house.controller,
        subject=subject,
        rights=rights,
        channel=Channel.SPACE,
        received_at=now(),
        locale=Locale.FR,
        by=Actor(subject, human=True),
        text="Tout, puis effacez",
        proofs=(Proof(Method.PASSKEY, now(), "pk_1", before),),
    )


def checklist() -> dict[Section, Filled | NoneToReport]:
    said: dict[Section, Filled | NoneToReport] = {section: Filled(("Voir le registre.",)) for section in Section}
    return said | {Section.AUTOMATED_DECISIONS: NoneToReport()}


WORDS = Words(
    locale=Locale.FR,
    title="Vos données",
    found="Ce que nous avons",
    rows="{} lignes".format,
    rest="{} sur {} lignes ; le reste est dans {}.".format,
    sections={section: f"Art. {section.value}" for section in Section},
    nothing="Rien.",
    categories={BALANCES: "Soldes", PAPERS: "Papiers"},
)


def decide(story: Story) -> None:
    """Seal the copy, decide both lines, have them approved, prepare the reply to the copy."""
    house, whose = story.house, Whose(story.house.controller, story.subject)
    with story.desk() as desk:
        answers = {task.id: task.answer for task in desk.cases.tasks(story.case, TaskKind.SEARCH) if task.answer}
        data = gather(house.casework.uploads, whose, answers)
        copy = assemble(story.case, story.copy, tuple(answers.values()), data, checklist(), words=WORDS, made_at=now())
        Copies(house.vault, house.casework.files).keep(whose, story.copy, copy)
        usecases.seal_package(desk, story.case, copy.manifest)
        usecases.decide_line(desk, story.case, story.copy, Decision(Outcome.GRANTED, SYSTEM))
        partly = Decision(Outcome.PARTLY_GRANTED, SYSTEM, (Ground.LEGAL_OBLIGATION,), (PAPERS,))
        usecases.decide_line(desk, story.case, story.gone, partly)
        usecases.submit(desk, story.case)
        usecases.approve(desk, story.case, DPO)
        usecases.prepare_reply(desk, story.case, [story.copy])


def order_erasure(story: Story) -> None:
    with story.desk() as desk:
        held = [Holding(ACCOUNTS, BALANCES, OVERVIEW), Holding(FILES, PAPERS, AML)]
        triggers = {"relationship_ended": ENDED, "consent_ended": ENDED}
        cells = matrix(held, desk.policy, triggers=triggers, cohorts={}, on=ENDED)
        usecases.begin_erasure(desk, story.case, story.gone, cells=cells, recipients=())


def gone(story: Story, holder: ComponentId, row: bytes) -> bool:
    try:
        story.holders[holder].open(story.subject, "row_0", row)
    except (Erased, UnknownKey):
        return True
    return False


def jobs(engine: Engine) -> list[str]:
    """What the durable engine keeps, as text: it may hold opaque ids only."""
    schema = "dbos." if engine.dialect.name == "postgresql" else ""
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT * FROM {schema}workflow_status")).all()
        rows += connection.execute(text(f"SELECT * FROM {schema}operation_outputs")).all()
    return [str(row) for row in rows]


def quick(house: House, *, by_itself: bool = False, **waits: timedelta) -> House:
    """The same house, waiting less; used before `launch`. `by_itself`: its cases go on without the test."""
    from app.workflows.cases import Waits

    casework = replace(house.casework, waits=Waits(**waits))
    house.work.register(casework.handlers() if by_itself else {**casework.handlers(), **BY_HAND})
    return replace(house, casework=casework)

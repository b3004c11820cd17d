"""What a person asks goes through the reference holder: real doors, the wheel's `Holder`, the safe's own database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from app.demo.generator import records
from app.outbound.uploads import Whose, gather
from consent.vocabulary import CategoryId, ComponentId, Locale, PurposeId
from dsar import usecases
from dsar.ports import Desk, Instruction
from dsar.proofs.shape import Proof
from dsar.usecases import Intake
from dsar.usecases.searching import ask_holder
from dsar.vocabulary import Actor, CaseId, Channel, FateKind, HolderStatus, Method, Right, TaskKind
from tests.doors.api_house import PURPOSE, Agreed
from tests.doors.demo_house import BALANCES, DETAILS, PARTY, DemoHouse, Pair

SAFE = ComponentId("safe")


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    at = DemoHouse(tmp_path, monkeypatch)
    built = Pair(at)
    yield built
    built.safe.close()
    at.house.close()


@contextmanager
def desk(at: DemoHouse) -> Iterator[Desk]:
    with at.house.casework.unit() as unit:
        yield unit.desk
        unit.commit()


def opened(at: DemoHouse, agreed: Agreed) -> CaseId:
    """A case for a copy and an erasure, from a person signed in with a passkey; the safe is asked."""
    now = at.clock.now()
    intake = Intake(
        controller=at.house.controller,
        subject=agreed.subject,
        rights=(Right.ACCESS, Right.ERASURE),
        channel=Channel.SPACE,
        received_at=now,
        locale=Locale.EN,
        by=Actor(agreed.subject, human=True),
        proofs=(Proof(Method.PASSKEY, now, "pk_1", now - timedelta(days=400)),),
    )
    with desk(at) as found:
        case = usecases.open_case(found, intake).case
        assert case is not None
        usecases.start_search(found, case, (SAFE,))
    return case


def tell(at: DemoHouse, agreed: Agreed, case: CaseId, kind: TaskKind, *fates: tuple[str, FateKind]) -> None:
    told = tuple(
        Instruction(CategoryId(name), PurposeId(PURPOSE), fate, legal_ref="law" if fate is FateKind.RETAIN else None)
        for name, fate in fates
    )
    with desk(at) as found:
        whole = found.cases.get(case)
        line = next(one.id for one in whole.lines.values() if one.right is Right.ERASURE)
        ask_holder(found, whole, agreed.subject, line=line, holder=SAFE, kind=kind, instructions=told)


def last(at: DemoHouse, case: CaseId, kind: TaskKind) -> tuple[HolderStatus, dict[str, tuple[HolderStatus, int]]]:
    with desk(at) as found:
        answer = found.cases.tasks(case, kind)[-1].answer
    assert answer is not None
    return answer.status, {one.category: (one.status, one.count) for one in answer.categories}


def test_the_copy_holds_what_the_bank_sent_and_the_erasure_leaves_nothing(pair: Pair) -> None:
    """dsar rules 40, 48, 53: complete, category by category, and searched again."""
    at, ana, ben = pair.at, pair.at.agree(), pair.at.agree("ben@example.org")
    connection, person = at.connect()
    pair.fetch(ana, connection)
    pair.fetch(ben, at.connect(8)[0])
    went_in = {record.id: record.content for record in records(person) if record.category in (BALANCES, DETAILS)}
    counts = Counter(record.category for record in records(person) if record.id in went_in)
    case = opened(at, ana)
    assert pair.safe.holder.work() == 1
    found = {name: (HolderStatus.FOUND, counts[name]) for name in (BALANCES, DETAILS)}
    assert last(at, case, TaskKind.SEARCH) == (HolderStatus.FOUND, found)
    with desk(at) as looking:
        answers = {task.id: task.answer for task in looking.cases.tasks(case, TaskKind.SEARCH) if task.answer}
    upload = gather(at.house.casework.uploads, Whose(at.house.controller, ana.subject), answers)[SAFE]
    shown = [dict(record) for category in upload.values() for record in category]
    assert all(any(content.items() <= one.items() for one in shown) for content in went_in.values()), shown
    assert len(shown) == len(went_in)
    bens = pair.safe.shelf.all_of(at.handle(ben, PARTY))
    tell(at, ana, case, TaskKind.ERASE, (BALANCES, FateKind.ERASE), (DETAILS, FateKind.RETAIN))
    assert pair.safe.holder.work() == 1
    erased = {BALANCES: (HolderStatus.ERASED, counts[BALANCES]), DETAILS: (HolderStatus.RETAINED, counts[DETAILS])}
    assert last(at, case, TaskKind.ERASE) == (HolderStatus.RETAINED, erased)
    tell(at, ana, case, TaskKind.VERIFY, (BALANCES, FateKind.ERASE), (DETAILS, FateKind.RETAIN))
    assert pair.safe.holder.work() == 1
    kept = {DETAILS: (HolderStatus.RETAINED, counts[DETAILS])}
    assert last(at, case, TaskKind.VERIFY) == (HolderStatus.RETAINED, kept)
    assert {one.category for one in pair.safe.shelf.all_of(at.handle(ana, PARTY))} == {DETAILS}
    assert pair.safe.shelf.all_of(at.handle(ben, PARTY)) == bens
    assert pair.safe.holder.work() == 0


def test_a_person_the_safe_has_nothing_of_is_answered_too(pair: Pair) -> None:
    """dsar rule 40: every holder answers for every case."""
    case = opened(pair.at, pair.at.agree())
    assert pair.safe.holder.work() == 1
    assert last(pair.at, case, TaskKind.SEARCH) == (HolderStatus.NONE, {})


def test_a_round_answers_by_itself_and_after_an_outage(pair: Pair) -> None:
    at, ana = pair.at, pair.at.agree()
    pair.fetch(ana, at.connect()[0])
    case = opened(at, ana)
    at.down = True
    pair.safe.round()
    at.down = False
    pair.safe.round()
    assert last(at, case, TaskKind.SEARCH)[0] is HolderStatus.FOUND

"""The holder protocol over HTTP with the SDK's own Holder: asked, uploaded, answered, erased; nothing by guessing."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from app.outbound.uploads import Document, UploadRefused, Whose, gather
from app.sdk import parts
from app.sdk.client import Authority
from app.sdk.dpop import new_key, public_jwk
from app.sdk.errors import Refused, Unreachable
from app.sdk.holder import Change, Holder, Kind, Task
from app.sdk.parts import Found
from app.sdk.scopes import Scope
from app.sdk.sealer import Sealer
from app.store.holders import SqlHolders
from app.store.rows.cases import HolderTaskRow
from app.store.sealedfiles import SealedFolder
from app.tokens.registration import Registration, RegistrationRefused
from app.vault.errors import Erased
from app.vault.keys import Basis
from app.vault.keys import Scope as KeyScope
from app.wiring.registrations import register
from consent.vocabulary import CategoryId, ComponentId, LegalBasis, Locale
from dsar import usecases
from dsar.case import State
from dsar.package import CategoryResult, HolderAnswer
from dsar.ports import Desk
from dsar.proofs.shape import Proof
from dsar.retention import Anonymise, Cell, Erase, Fate, Holding, Retain
from dsar.usecases import Decision, Intake
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    Channel,
    Ground,
    HolderStatus,
    LineId,
    Method,
    Outcome,
    Right,
    TaskId,
    TaskKind,
)
from tests.doors.api_house import BALANCES, DETAILS, HOLDER, ISSUER, PURPOSE, RIVAL, STORE, Agreed, ApiHouse, problem
from tests.doors.oauth_house import Component
from tests.doors.test_api_sdk import authority, permit

TASKS = "/api/v1/holder/tasks"
PDF = b"%PDF-1.7\n a contract, as it was signed"
LEGAL = "Code X art. 1"
DPO = Actor("staff_dpo", human=True, dpo=True)


shape = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""For what never reaches a database: one of them is enough."""


class Straight:
    """Runs each step of durable work at once."""

    def run(self, name: str, effect: Any) -> Any:
        return effect()


@dataclass
class Database:
    """A component's own rows: (handle, category, record id) -> sealed."""

    rows: dict[tuple[str, str, str], bytes] = field(default_factory=dict)
    erased: int = 0

    def find(self, task: Task) -> Iterator[Found]:
        for (handle, category, record), sealed in list(self.rows.items()):
            if handle == task.subject:
                yield Found(category, record, sealed)

    def erase(self, task: Task, category: str) -> int:
        self.erased += 1
        gone = [key for key in self.rows if key[:2] == (task.subject, category)]
        for key in gone:
            del self.rows[key]
        return len(gone)

    def rectify(self, task: Task, change: Change) -> int:
        raise NotImplementedError

    def restrict(self, task: Task) -> int:
        raise NotImplementedError


class Scene:
    """Ana's data lies sealed with `store`, under keys leased to its party; `rival` is a registered holder too."""

    def __init__(self, at: ApiHouse, folder: Path) -> None:
        self.at, self.folder = at, folder
        self.database, self.rival_database = Database(), Database()
        self.store = self.holder(at.holder, self.database)
        self.rival = self.holder(at.rival, self.rival_database)
        self.ana = at.agree()
        self.handle = at.handle(self.ana)
        self.fill(self.ana)

    def holder(self, who: Component, database: Database, line: Authority | None = None) -> Holder:
        calls = {name: getattr(database, name) for name in ("find", "erase", "rectify", "restrict")}
        return Holder(line or authority(self.at, who), self.folder / who.record.id, **calls)

    def fill(self, agreed: Agreed) -> None:
        """Seal two balances and one contract through leases, as a component does."""
        at, line = self.at, authority(self.at, self.at.reader)
        granted = permit(at, agreed, line.token(agreed.consent, STORE, [BALANCES, DETAILS]).secret)
        sealer = Sealer(authority(at, at.holder))
        for number in (1, 2):
            sealed = sealer.seal_json(granted, BALANCES, f"b{number}", {"bank": "Armorel", "balance": number})
            self.database.rows[granted.subject, BALANCES, f"b{number}"] = sealed
        self.database.rows[granted.subject, DETAILS, "d1"] = sealer.seal(granted, DETAILS, "d1", PDF)

    def desk(self) -> Any:
        return self.at.house.casework.unit()

    def begin(self, agreed: Agreed | None = None, *rights: Right) -> CaseId:
        """Open a case of a person signed in with a passkey and ask every registered holder (dsar rule 40)."""
        agreed, now = agreed or self.ana, self.at.clock.now()
        house = self.at.house
        proof = Proof(Method.PASSKEY, now, "pk_1", now - timedelta(days=400))
        with self.desk() as unit:
            asked = (house.controller, agreed.subject, rights or (Right.ACCESS,), Channel.SPACE, now, Locale.EN)
            who = Actor(agreed.subject, human=True)
            opened = usecases.open_case(unit.desk, Intake(*asked, by=who, proofs=(proof,)))
            assert opened.case is not None
            holders = [ComponentId(each.id) for each in unit.records.clients.holders(house.controller)]
            assert holders == ["rival", "store"]
            usecases.start_search(unit.desk, opened.case, holders)
            unit.commit()
        return opened.case

    def task(self, case: CaseId, holder: str = "store", kind: TaskKind = TaskKind.SEARCH) -> Any:
        with self.desk() as unit:
            return next(each for each in unit.desk.cases.tasks(case, kind) if each.holder == holder)

    def state(self, case: CaseId) -> State:
        with self.desk() as unit:
            return State(unit.desk.cases.get(case).state)

    def gathered(self, case: CaseId) -> Any:
        with self.desk() as unit:
            answers = {each.id: each.answer for each in unit.desk.cases.tasks(case, TaskKind.SEARCH)}
        return gather(self.at.house.casework.uploads, Whose(self.at.house.controller, self.ana.subject), answers)

    def call(self, method: str, path: str, who: Component | None = None, **more: Any) -> Any:
        at, who = self.at, who or self.at.holder
        secret = more.pop("secret", None) or at.own_token(who, more.pop("scope", Scope.CASES_FULFIL))
        proof = who.prover.prove(method, ISSUER + path.partition("?")[0], access_token=secret)
        headers = {"Authorization": f"DPoP {secret}", "DPoP": proof, **more.pop("headers", {})}
        return at.web.open(path, method=method, headers=headers, **more)

    def put(self, task: str, number: int, raw: bytes, **more: Any) -> Any:
        path = f"{TASKS}/{task}/parts/{number}"
        return self.call("PUT", path, data=raw, content_type=more.pop("content_type", parts.MEDIA_TYPE), **more)

    def post(self, task: str, body: Any, **more: Any) -> Any:
        return self.call("POST", f"{TASKS}/{task}/result", json=body, **more)

    def sealed(self) -> list[str]:
        """The names of everything that rests in the folder of sealed bytes."""
        folder = self.at.house.settings.data_dir / "sealed"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    def world(self) -> Any:
        """Everything a refusal must not change; that tokens were issued to ask is another matter."""
        tables = ("holder_tasks", "case_events", "holder_heartbeats", "pairwise_handles")
        told = [row for row in self.at.rows("ledger_entries") if not row["kind"].startswith("token.")]
        return {name: self.at.rows(name) for name in tables}, told, self.sealed()


@pytest.fixture
def at(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


@pytest.fixture
def scene(at: ApiHouse, tmp_path: Path) -> Scene:
    return Scene(at, tmp_path)


def lines(*found: Found) -> bytes:
    return b"".join(parts.cut(found))


def found_of(scene: Scene, *categories: str) -> list[Found]:
    rows = scene.database.rows.items()
    return [Found(c, r, sealed) for (handle, c, r), sealed in rows if handle == scene.handle and c in categories]


def result(category: str, status: str, count: int, **more: Any) -> dict[str, Any]:
    return {"category": category, "status": status, "count": count, **more}


def answer(*results: dict[str, Any], status: str = "found", **more: Any) -> dict[str, Any]:
    return {"status": status, "categories": list(results), **more}


# --- asked and answered


def test_a_search_is_pulled_uploaded_sealed_and_becomes_the_copy(scene: Scene) -> None:
    """dsar rules 39, 40: every registered holder answers; documents come out as they are."""
    other = scene.at.agree("bea@example.org")
    scene.fill(other)
    case = scene.begin()
    assert scene.rival.work() == 1
    assert scene.state(case) is State.SEARCHING
    assert scene.store.work() == 1
    assert scene.state(case) is State.REVIEW
    assert scene.store.work() == scene.rival.work() == 0, "what is answered is not asked again"
    task = scene.task(case)
    assert task.answer.status is HolderStatus.FOUND
    assert {(one.category, one.count) for one in task.answer.categories} == {(BALANCES, 2), (DETAILS, 1)}
    assert scene.task(case, "rival").answer.status is HolderStatus.NONE
    assert scene.sealed() == [f"{task.id}.parts/000001"]
    rest = (scene.at.house.settings.data_dir / "sealed" / scene.sealed()[0]).read_bytes()
    assert b"Armorel" not in rest
    assert base64.b64encode(b"Armorel")[:6] not in rest
    upload = scene.gathered(case)["store"]
    assert upload[BALANCES] == [{"bank": "Armorel", "balance": 1}, {"bank": "Armorel", "balance": 2}]
    (contract,) = upload[DETAILS]
    assert contract == {"record_id": "d1", "file": Document("application/pdf", "pdf", PDF)}
    assert "rival" not in scene.gathered(case)


def test_the_person_is_named_by_the_party_s_own_handle(scene: Scene) -> None:
    scene.begin()
    mine, theirs = (scene.call("GET", TASKS, who).json["tasks"] for who in (scene.at.holder, scene.at.rival))
    assert [task["subject"] for task in mine] == [scene.handle]
    assert [task["kind"] for task in mine] == ["search"]
    assert theirs[0]["subject"] == scene.at.handle(scene.ana, RIVAL)  # type: ignore[arg-type]
    assert theirs[0]["subject"] != scene.handle
    assert theirs[0]["id"] != mine[0]["id"]
    assert scene.ana.subject not in json.dumps([mine, theirs])


def test_a_heartbeat_is_kept_and_the_newest_counts(scene: Scene) -> None:
    seen = []
    for _ in range(2):
        scene.store.work()
        scene.at.clock.forward(minutes=1)
        with scene.at.house.units.reading() as unit:
            seen.append(SqlHolders(unit.session).last_seen(scene.at.house.controller))
    first = scene.at.clock.now() - timedelta(minutes=2)
    assert seen == [{"store": first}, {"store": first + timedelta(minutes=1)}]
    assert len(scene.at.rows("holder_heartbeats")) == 1


def test_tasks_come_oldest_first_and_as_many_as_asked(scene: Scene) -> None:
    first = scene.task(scene.begin()).id
    scene.at.clock.forward(minutes=1)
    bea = scene.at.agree("bea@example.org")
    second = scene.task(scene.begin(bea)).id
    listed = [task["id"] for task in scene.call("GET", TASKS).json["tasks"]]
    assert listed == [first, second]
    assert [task["id"] for task in scene.call("GET", TASKS + "?limit=1").json["tasks"]] == [first]
    for query in ("limit=0", "limit=101", "limit=x", "after=1"):
        problem(scene.call("GET", f"{TASKS}?{query}"), 422, "body_invalid")


def test_an_error_is_seen_and_the_task_comes_again(scene: Scene) -> None:
    """dsar rule 40: a failed holder keeps the search open."""
    case = scene.begin()
    scene.rival.work()
    find, scene.store._find = scene.store._find, lambda task: 1 / 0  # type: ignore[method-assign, return-value]
    assert scene.store.work() == 1
    task = scene.task(case)
    assert (task.answer.status, task.answer.reason) == (HolderStatus.ERROR, "callback_failed")
    events = len(scene.at.rows("case_events"))
    scene.store.work()
    assert len(scene.at.rows("case_events")) == events, "the same error again is no news"
    assert scene.state(case) is State.SEARCHING
    scene.store._find = find  # type: ignore[method-assign]
    scene.store.work()
    assert scene.state(case) is State.REVIEW


def test_of_tasks_that_always_fail_the_one_tried_longest_ago_comes_first(scene: Scene) -> None:
    """Dsar rule 40: a listing is as long as it is; what fails in front of it keeps nothing behind it for ever."""
    first = scene.task(scene.begin()).id
    scene.at.clock.forward(minutes=1)
    second = scene.task(scene.begin(scene.at.agree("bea@example.org"))).id
    scene.store._find = lambda task: 1 / 0  # type: ignore[method-assign, return-value]
    scene.store.work()
    for last in (first, second, first):
        scene.at.clock.forward(minutes=1)
        waiting = scene.call("GET", TASKS + "?limit=1").json["tasks"]
        assert [task["id"] for task in waiting] == [last]
        scene.store.answer(Task(last, Kind.SEARCH, waiting[0]["subject"]))
    assert [task["id"] for task in scene.call("GET", TASKS).json["tasks"]] == [second, first]


# --- loss and repetition


class Cut(Authority):
    """A line that breaks after the authority has acted: the answer to one call is lost, once for each place in it."""

    lose: str | None = None

    def send(self, method: str, path: str, *args: Any, **more: Any) -> Any:
        answered = super().send(method, path, *args, **more)
        if self.lose is not None and self.lose in path:
            type(self).lose = None
            raise Unreachable("cut")
        return answered


@pytest.mark.parametrize("where", ["/parts/1", "/parts/2", "/result"])
def test_a_holder_killed_after_any_call_ends_in_the_same_state(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Operations.md section 3: repeated, never done twice."""
    monkeypatch.setattr(parts, "PART_BYTES", 10)
    case = scene.begin()
    scene.rival.work()
    line = authority(scene.at, scene.at.holder)
    cut = Cut(ISSUER, line.client_id, scene.at.holder.key, resource=STORE, http=line._http, clock=scene.at.clock.now)
    monkeypatch.setattr(Cut, "lose", where)
    with pytest.raises(Unreachable):
        scene.holder(scene.at.holder, scene.database, cut).work()
    scene.holder(scene.at.holder, scene.database).work()  # another process
    task = scene.task(case)
    again = scene.holder(scene.at.holder, scene.database)
    again.answer(Task(id=task.id, kind=Kind.SEARCH, subject=scene.handle))
    assert scene.task(case) == task
    answered = [row for row in scene.at.rows("case_events") if row["kind"].endswith("holder_answered")]
    assert len(answered) == 2, "one for each holder"
    assert scene.state(case) is State.REVIEW
    assert len(scene.sealed()) == 3
    assert {name: len(records) for name, records in scene.gathered(case)["store"].items()} == {BALANCES: 2, DETAILS: 1}


@shape
def test_a_second_attempt_that_finds_less_leaves_nothing_of_the_first(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 10)
    case = scene.begin()
    task = scene.task(case).id
    for number, one in enumerate(found_of(scene, BALANCES, DETAILS), start=1):
        assert scene.put(task, number, lines(one)).status_code == 204
    assert len(scene.sealed()) == 3
    del scene.database.rows[scene.handle, DETAILS, "d1"]
    scene.store.work()
    assert scene.sealed() == [f"{task}.parts/000001", f"{task}.parts/000002"]
    scene.rival.work()
    assert list(scene.gathered(case)["store"]) == [BALANCES]


@shape
def test_records_that_were_lost_are_sent_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    case = scene.begin()
    send = Holder._send
    monkeypatch.setattr(Holder, "_send", lambda *_: (_ for _ in ()).throw(Unreachable("cut")))
    with pytest.raises(Unreachable):
        scene.store.work()
    monkeypatch.setattr(Holder, "_send", send)
    scene.at.house.casework.files.remove(scene.task(case).id)
    with pytest.raises(Refused) as refusal:
        scene.store.work()
    assert (refusal.value.status, refusal.value.error) == (409, "upload_differs")
    scene.store.work()
    assert scene.task(case).answered_at is not None


def test_holders_that_answer_at_the_same_moment_are_both_heard(scene: Scene) -> None:
    """Neither is refused, and the last one completes the search."""
    case = scene.begin()
    lanes = [threading.Thread(target=each.work) for each in (scene.store, scene.rival)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert scene.state(case) is State.REVIEW


def test_the_same_answer_twice_is_one_and_another_after_it_is_refused(scene: Scene) -> None:
    task = scene.task(scene.begin()).id
    raw = lines(*found_of(scene, BALANCES))
    digest = hashlib.sha256(raw).hexdigest()
    assert scene.put(task, 1, raw).status_code == 204
    said = answer(result(BALANCES, "found", 2), digest=digest)
    assert scene.post(task, said).status_code == 204
    before = scene.world()
    scene.at.clock.forward(minutes=1)
    assert scene.post(task, said).status_code == 204
    problem(scene.post(task, answer(status="none")), 409, "move_refused")
    problem(scene.put(task, 1, raw), 409, "task_answered")
    assert scene.world() == before


def each_part_read(scene: Scene, monkeypatch: pytest.MonkeyPatch, then: Callable[[], None]) -> None:
    """Do something whenever a part of an upload has been read."""
    read = SealedFolder.read_part

    def reading(folder: SealedFolder, name: str, number: int) -> bytes:
        raw = read(folder, name, number)
        then()
        return raw

    monkeypatch.setattr(SealedFolder, "read_part", reading)


def test_a_large_upload_is_read_through_while_others_write(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decision 0013: on SQLite an open unit of work is the one writer, so nothing slow is done in one."""
    heard: list[str] = []
    engine = scene.at.house.records
    busy = ("PRAGMA busy_timeout=0", "PRAGMA busy_timeout=15000") if engine.dialect.name == "sqlite" else ("SELECT 1",)

    def write() -> None:
        with engine.connect().execution_options(regard_read=True) as connection:
            connection.exec_driver_sql(busy[0])
            connection.execute(update(HolderTaskRow).values(created_at=HolderTaskRow.created_at))
            connection.commit()
            connection.exec_driver_sql(busy[-1])
        heard.append("written")

    case = scene.begin()
    each_part_read(scene, monkeypatch, write)
    scene.store.work()
    assert heard == ["written"]
    assert scene.task(case).answered_at is not None


def test_an_answer_that_was_overtaken_by_itself_is_one(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answer sent again while the first is being read through; what was uploaded is used up meanwhile."""
    task = scene.task(scene.begin()).id
    raws = [lines(one) for one in found_of(scene, BALANCES)]
    assert [scene.put(task, number, raw).status_code for number, raw in enumerate(raws, start=1)] == [204, 204]
    said = answer(result(BALANCES, "found", 2), digest=hashlib.sha256(b"".join(raws)).hexdigest())
    first: list[int] = []

    def overtake() -> None:
        if not first:
            first.append(0)
            first[0] = scene.post(task, said).status_code
            scene.at.house.casework.files.remove(task)

    each_part_read(scene, monkeypatch, overtake)
    assert scene.post(task, said).status_code == 204
    assert first == [204]
    answered = [row for row in scene.at.rows("case_events") if row["kind"].endswith("holder_answered")]
    assert len(answered) == 1


# --- erasing


def order_erasure(scene: Scene, case: CaseId, *fates: tuple[str, Fate]) -> LineId:
    """Decide, have it approved, tell the person, begin: what the use cases of the house do."""
    with scene.desk() as unit:
        desk: Desk = unit.desk
        (line,) = desk.cases.get(case).lines
        if any(isinstance(fate, Retain) for _, fate in fates):
            kept = tuple(CategoryId(category) for category, fate in fates if isinstance(fate, Retain))
            decision = Decision(Outcome.PARTLY_GRANTED, SYSTEM, (Ground.LEGAL_OBLIGATION,), kept)
        else:
            decision = Decision(Outcome.GRANTED, SYSTEM)
        usecases.decide_line(desk, case, line, decision)
        usecases.submit(desk, case)
        usecases.approve(desk, case, DPO)
        holdings = [(Holding(ComponentId("store"), CategoryId(category), PURPOSE), fate) for category, fate in fates]
        cells = [Cell(holding, LegalBasis.CONSENT, fate) for holding, fate in holdings]
        usecases.begin_erasure(desk, case, line, cells=cells, recipients=())
        unit.commit()
    return line


def run_erasure(scene: Scene, case: CaseId, line: LineId) -> None:
    scene.at.clock.forward(minutes=2)  # the leases run out
    scene.at.house.casework.handlers()["case.run_erasure"](f"{case}/{line}", Straight())


def opens(scene: Scene, category: str, record: str, sealed: bytes) -> bytes:
    scope = KeyScope(scene.at.house.controller, scene.ana.subject, HOLDER, category, basis=Basis.CONSENT)
    return scene.at.house.vault.open(scope, record, sealed, handle=scene.handle)


def test_an_erasure_keeps_the_retained_keys_of_the_holder_s_party_and_its_name_until_it_is_done(scene: Scene) -> None:
    """dsar rules 48, 49, 53; vault.md section 1: keys are the party's, tasks the component's."""
    case = scene.begin(scene.ana, Right.ERASURE)
    scene.store.work()
    scene.rival.work()
    rows = dict(scene.database.rows)
    until = scene.at.clock.now().date() + timedelta(days=30)
    line = order_erasure(scene, case, (BALANCES, Erase()), (DETAILS, Retain({}, LEGAL, until)))
    run_erasure(scene, case, line)
    assert opens(scene, DETAILS, "d1", rows[scene.handle, DETAILS, "d1"]) == PDF
    for record in ("b1", "b2"):
        with pytest.raises(Erased):
            opens(scene, BALANCES, record, rows[scene.handle, BALANCES, record])
    assert scene.sealed() == []
    told = scene.call("GET", TASKS).json["tasks"]
    assert [(task["kind"], task["subject"]) for task in told] == [("erase", scene.handle)], "known though forgotten"
    assert told[0]["instructions"] == [
        {"category": BALANCES, "purpose": PURPOSE, "fate": "erase"},
        {"category": DETAILS, "purpose": PURPOSE, "fate": "retain", "until": until.isoformat(), "legal_ref": LEGAL},
    ]
    with scene.at.house.units.reading() as unit:
        assert unit.subjects.named(scene.handle, HOLDER) is None, "no door takes a forgotten person's handle"
    assert scene.store.work() == scene.rival.work() == 1
    scene.at.house.casework.handlers()["case.run_erasure"](f"{case}/{line}/2", Straight())
    assert scene.store.work() == scene.rival.work() == 1, "searched again"
    kept = {(row["party"], row["handle"]) for row in scene.at.rows("pairwise_handles")}
    assert kept == {(HOLDER, scene.handle)}, "the rival is done; the store keeps something for a while"
    assert list(scene.database.rows) == [(scene.handle, DETAILS, "d1")]
    scene.at.house.casework.handlers()["case.run_erasure"](f"{case}/{line}/3", Straight())
    with scene.desk() as unit:
        assert unit.desk.cases.get(case).lines[line].carried_out is not None
        (retention,) = unit.desk.cases.retentions(case)
    scene.at.clock.forward(days=31)
    scene.at.house.casework.handlers()["case.end_retention"](retention.id, Straight())
    with pytest.raises(Erased):
        opens(scene, DETAILS, "d1", rows[scene.handle, DETAILS, "d1"])
    assert scene.store.work() == 1
    assert scene.database.rows == {}
    assert scene.at.rows("pairwise_handles") == []


def test_a_holder_that_still_has_something_is_asked_until_it_has_not(scene: Scene) -> None:
    """dsar rule 53: the verification stays open; nothing is reported as done."""
    case = scene.begin(scene.ana, Right.ERASURE)
    scene.store.work()
    scene.rival.work()
    line = order_erasure(scene, case, (BALANCES, Erase()), (DETAILS, Erase()))
    left = scene.database.rows[scene.handle, BALANCES, "b1"]
    scene.store.work()
    scene.rival.work()
    scene.database.rows[scene.handle, BALANCES, "b1"] = left  # a backup came back
    run_erasure(scene, case, line)
    scene.store.work()
    scene.rival.work()
    assert scene.task(case, kind=TaskKind.VERIFY).answer.status is HolderStatus.FOUND
    scene.database.rows.clear()
    scene.store.work()
    assert scene.task(case, kind=TaskKind.VERIFY).answer.status is HolderStatus.NONE
    assert scene.at.rows("pairwise_handles") == []


def test_what_goes_to_a_cohort_is_handed_over_with_the_answer(scene: Scene) -> None:
    case = scene.begin(scene.ana, Right.ERASURE)
    scene.store.work()
    scene.rival.work()
    order_erasure(scene, case, (BALANCES, Anonymise("cohort_1")), (DETAILS, Erase()))
    task = scene.task(case, kind=TaskKind.ERASE)
    pooled = result(BALANCES, "anonymised", 2)
    refused = problem(scene.post(task.id, answer(pooled, status="anonymised")), 422, "body_invalid")
    assert refused["fields"] == ["digest"]
    scene.store.work()
    assert scene.task(case, kind=TaskKind.ERASE).answer.digest is not None
    assert f"{task.id}.parts/000001" in scene.sealed()


# --- refused, and nothing changed


def test_nobody_else_s_task_and_no_task_look_alike(scene: Scene) -> None:
    case = scene.begin()
    task = scene.task(case).id
    before = scene.world()
    good = answer(status="none")
    seen = set()
    for name, who in ((task, scene.at.rival), ("task_0", scene.at.holder), ("x", scene.at.holder)):
        told = [scene.post(name, good, who=who), scene.put(name, 1, lines(*found_of(scene, BALANCES)), who=who)]
        seen |= {json.dumps(problem(one, 404, "not_found"), sort_keys=True) for one in told}
    for odd in ("%00", "task_%00", "..%2F..%2Fetc", "a" * 3000, "task_é"):
        problem(scene.post(odd, good), 404, "not_found")
    assert len(seen) == 1
    assert scene.world() == before


def test_a_task_of_another_controller_is_nobody_s(scene: Scene) -> None:
    task = scene.task(scene.begin()).id
    with scene.at.house.records.begin() as connection:
        connection.execute(HolderTaskRow.__table__.update().values(controller="another"))  # type: ignore[attr-defined]
    assert scene.call("GET", TASKS).json == {"tasks": []}
    problem(scene.post(task, answer(status="none")), 404, "not_found")


@shape
def test_without_a_token_with_a_stale_one_and_with_another_scope(scene: Scene) -> None:
    task = scene.task(scene.begin()).id
    raw = lines(*found_of(scene, BALANCES))
    stale = scene.at.own_token(scene.at.holder, Scope.CASES_FULFIL)
    scene.at.clock.forward(hours=2)
    before = scene.world()
    for ask in (
        lambda **more: scene.call("POST", "/api/v1/holder/heartbeat", json={}, **more),
        lambda **more: scene.call("GET", TASKS, **more),
        lambda **more: scene.put(task, 1, raw, **more),
        lambda **more: scene.post(task, answer(status="none"), **more),
    ):
        problem(ask(secret=stale), 401, "token_invalid")
        problem(ask(headers={"Authorization": ""}), 401, "token_invalid")
        assert problem(ask(scope=Scope.KEYS_LEASE), 403, "scope_missing")["scope"] == "cases.fulfil"
    assert scene.world() == before


@shape
def test_parts_are_sealed_records_one_a_line_and_nothing_else(scene: Scene) -> None:
    task = scene.task(scene.begin()).id
    (one, *_) = found_of(scene, BALANCES)
    good = lines(one)
    said = json.loads(good)

    def line(**fields: Any) -> bytes:
        return json.dumps({**said, **fields}).encode() + b"\n"

    before = scene.world()
    for raw, place in (
        (b"", "lines.0"),
        (good[:-1], "lines.0"),
        (good + b"\n", "lines.2"),
        (good + b"{}\n", "lines.2"),
        (b"[]\n", "lines.1"),
        (b"[" * 100_000 + b"\n", "lines.1"),
        (b"\xff\n", "lines.1"),
        (line(more=1), "lines.1"),
        (line(sealed="!"), "lines.1"),
        (line(sealed=5), "lines.1"),
        (line(sealed=base64.b64encode(b"clear text").decode()), "lines.1"),
        (line(record_id=""), "lines.1"),
        (line(record_id="x" * 201), "lines.1"),
        (line(record_id="\ud800"), "lines.1"),
        (line(category=None), "lines.1"),
        (good + line(category="no.such"), "lines.2.category"),
    ):
        assert problem(scene.put(task, 1, raw), 422, "body_invalid")["fields"] == [place]
    problem(scene.put(task, 1, good, content_type="application/json"), 415, "media_type_unsupported")
    problem(scene.put(task, 1, b"x" * (parts.MOST_BYTES + 1)), 413, "body_too_large")
    for number in (0, 2, 99_999_999):
        problem(scene.put(task, number, good), 409, "part_out_of_order")
    for odd in ("-1", "x", "1.0"):
        assert scene.call("PUT", f"{TASKS}/{task}/parts/{odd}", data=good).status_code == 404
    assert scene.world() == before
    assert scene.put(task, 1, good).status_code == 204
    assert scene.put(task, 2, lines(one) * 9000).status_code == 204, "larger than other bodies may be"


@shape
def test_answers_are_read_strictly(scene: Scene) -> None:
    """What does not fit is named by its place, never by its value; nothing is changed."""
    task = scene.task(scene.begin()).id
    raw = lines(*found_of(scene, BALANCES))
    digest = hashlib.sha256(raw).hexdigest()
    assert scene.put(task, 1, raw).status_code == 204
    before = scene.world()
    two = result(BALANCES, "found", 2)
    for body, places in (
        ({}, ["categories", "status"]),
        ([], ["_schema"]),
        (answer(two, digest=digest, extra=1), ["extra"]),
        (answer(two, digest=digest, status="gone"), ["status"]),
        (answer(two, digest=digest, status="erased"), ["status"]),
        (answer({**two, "status": "erased"}, digest=digest), ["categories.0.status"]),
        (answer(two, digest=digest, status="none"), ["status"]),
        (answer(two, digest="A" * 64), ["digest"]),
        (answer(two), ["digest"]),
        (answer(digest=digest), ["categories"]),
        (answer(two, two, digest=digest), ["categories.0.category", "categories.1.category"]),
        (answer({**two, "category": "no.such"}, digest=digest), ["categories.0.category"]),
        (answer({**two, "purpose": "no_such"}, digest=digest), ["categories.0.purpose"]),
        (answer({**two, "count": "2"}, digest=digest), ["categories.0.count"]),
        (answer({**two, "count": True}, digest=digest), ["categories.0.count"]),
        (answer({**two, "count": -1}, digest=digest), ["categories.0.count"]),
        (answer({**two, "until": "soon"}, digest=digest), ["categories.0.until"]),
        (answer({**two, "status": "retained"}, digest=digest), ["categories.0.reason"]),
        (answer(two, digest=digest, status="partial"), ["reason"]),
        (answer(two, digest=digest, reason="a\nb"), ["reason"]),
        (answer(two, digest=digest, reason="\ud800"), ["reason"]),
        (answer(*[two] * 501, digest=digest), ["categories"]),
    ):
        refused = problem(scene.post(task, body), 422, "body_invalid")
        assert refused["fields"] == places, body
    for text in ("{", '{"status":NaN}', ""):
        sent = {"data": text, "content_type": "application/json"}
        problem(scene.call("POST", f"{TASKS}/{task}/result", **sent), 400, "bad_request")
    form = {"data": "{}", "content_type": "text/plain"}
    problem(scene.call("POST", f"{TASKS}/{task}/result", **form), 415, "media_type_unsupported")
    large = {"data": b" " * (1 << 20) + b"{}", "content_type": "application/json"}
    problem(scene.call("POST", f"{TASKS}/{task}/result", **large), 413, "body_too_large")
    problem(scene.call("POST", "/api/v1/holder/heartbeat", json={"x": 1}), 422, "body_invalid")
    problem(scene.call("POST", "/api/v1/holder/heartbeat", json=[]), 422, "body_invalid")
    assert scene.world() == before


@shape
def test_an_answer_that_is_not_the_upload_is_refused(scene: Scene) -> None:
    task = scene.task(scene.begin()).id
    raw = lines(*found_of(scene, BALANCES))
    digest = hashlib.sha256(raw).hexdigest()
    problem(scene.post(task, answer(result(BALANCES, "found", 2), digest=digest)), 409, "upload_differs")
    assert scene.put(task, 1, raw).status_code == 204
    before = scene.world()
    for said in (
        answer(result(BALANCES, "found", 2), digest="0" * 64),
        answer(result(BALANCES, "found", 3), digest=digest),
        answer(result(DETAILS, "found", 2), digest=digest),
        answer(result(BALANCES, "found", 2), result(DETAILS, "found", 1), digest=digest),
    ):
        problem(scene.post(task, said), 409, "upload_differs")
    assert scene.world() == before
    assert scene.post(task, answer(result(BALANCES, "found", 2), digest=digest)).status_code == 204


@shape
def test_a_verification_takes_no_records(scene: Scene) -> None:
    case = scene.begin(scene.ana, Right.ERASURE)
    scene.store.work()
    scene.rival.work()
    order_erasure(scene, case, (BALANCES, Erase()), (DETAILS, Erase()))
    task = scene.task(case, kind=TaskKind.ERASE).id
    problem(scene.put(task, 1, lines(*found_of(scene, BALANCES))), 409, "upload_not_expected")
    said = answer(result(BALANCES, "erased", 2), status="erased", digest="0" * 64)
    assert problem(scene.post(task, said), 422, "body_invalid")["fields"] == ["digest"]


@shape
def test_no_client_can_be_registered_under_the_house_s_own_name(scene: Scene) -> None:
    """The house answers its own tasks, and keys of its own records stand under its name."""
    asked = Registration(
        id="regard",
        party=HOLDER,
        name="Regard",
        jwk=public_jwk(new_key()),
        scopes=("cases.fulfil",),
        grants=("client_credentials",),
        resource="https://regard-holder.example",
    )
    with pytest.raises(RegistrationRefused, match="the house's own name"):
        register(scene.at.house, asked, by="operator")
    assert register(scene.at.house, replace(asked, id="regard2"), by="operator").id == "regard2"


# --- the copy trusts nobody


def test_a_copy_is_made_of_this_person_s_records_alone(scene: Scene) -> None:
    """dsar rule 41: another person's record, another category's and a changed one make no copy."""
    bea = scene.at.agree("bea@example.org")
    scene.fill(bea)
    case = scene.begin()
    scene.store.work()
    scene.rival.work()
    own = found_of(scene, BALANCES)
    foreign = next(sealed for (who, category, _), sealed in scene.database.rows.items() if who != scene.handle)
    whose = Whose(scene.at.house.controller, scene.ana.subject)
    changed = own[0].sealed[:-1] + bytes([own[0].sealed[-1] ^ 1])
    for strange in (
        Found(BALANCES, "b1", foreign),
        Found(DETAILS, "b1", own[0].sealed),
        Found(BALANCES, "b2", own[0].sealed),
        Found(BALANCES, "b1", changed),
    ):
        with pytest.raises(UploadRefused):
            read_back(scene, case, whose, [strange])
    assert read_back(scene, case, whose, [own[0]])[BALANCES] == [{"bank": "Armorel", "balance": 1}]


def read_back(scene: Scene, case: CaseId, whose: Whose, records: list[Found]) -> Any:
    """Put records where an upload rests and read them as the answer names them."""
    house, raw = scene.at.house, lines(*records)
    task = scene.task(case)
    house.casework.files.remove(task.id)
    house.casework.files.write_part(task.id, 1, raw)
    (first,) = task.answer.categories[:1]
    counted = tuple(replace(first, category=one.category, count=1) for one in records)
    told: HolderAnswer = replace(task.answer, categories=counted, digest=hashlib.sha256(raw).hexdigest())
    return house.casework.uploads.read(whose, TaskId(task.id), told)


@shape
def test_what_the_house_has_is_kept_and_read_like_a_holder_s(scene: Scene) -> None:
    uploads = scene.at.house.casework.uploads
    whose, task, house = Whose(scene.at.house.controller, scene.ana.subject), TaskId("task_h1"), ComponentId("regard")
    said = {CategoryId(BALANCES): [{"a": 1}, {"a": 2}], CategoryId(DETAILS): [{"b": "x"}]}
    digest = uploads.keep(whose, task, house, said)
    search = scene.task(scene.begin())
    results = tuple(category_result(name, len(records)) for name, records in said.items())
    told = HolderAnswer(house, HolderStatus.FOUND, search.created_at, results, digest=digest)
    assert uploads.read(whose, task, told) == said
    with pytest.raises(UploadRefused):
        uploads.read(whose, task, replace(told, categories=results[:1]))
    assert uploads.keep(whose, task, house, {}) is None
    assert not [name for name in scene.sealed() if name.startswith("task_h1")]


def category_result(name: CategoryId, count: int) -> Any:
    return CategoryResult(name, HolderStatus.FOUND, count)

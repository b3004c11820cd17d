"""The holder protocol from four callbacks: every task answered, the same after a crash (dsar.md section 4)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import jsonify, request

from app.sdk import parts
from app.sdk.errors import Malformed, Refused, Unreachable
from app.sdk.holder import Change, Found, Holder, Task
from app.sdk.scopes import Scope
from tests.doors.oauth_house import House
from tests.mechanism.sdk_house import outage
from tests.mechanism.test_sdk_sealer import Setting

WHO = "pw_one"


class Database:
    """The component's own rows: (subject, category, record id) -> sealed bytes."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], bytes] = {}
        self.restricted: set[str] = set()
        self.erasures = 0
        self.broken = False
        for subject in (WHO, "pw_two"):
            for category, many in (("a", 3), ("b", 1)):
                self.rows.update(
                    {(subject, category, f"r{n}"): f"{subject}{category}{n}".encode() for n in range(many)}
                )

    def find(self, task: Task) -> Iterator[Found]:
        if self.broken:
            raise RuntimeError("disk gone: Jeanne Martin")
        for (subject, category, record), sealed in list(self.rows.items()):
            if subject == task.subject:
                yield Found(category, record, sealed)

    def erase(self, task: Task, category: str) -> int:
        self.erasures += 1
        gone = [key for key in self.rows if key[:2] == (task.subject, category)]
        for key in gone:
            del self.rows[key]
        return len(gone)

    def rectify(self, task: Task, change: Change) -> int:
        key = (task.subject, change.category, change.record_id)
        if key not in self.rows:
            return 0
        self.rows[key] = change.sealed
        return 1

    def restrict(self, task: Task) -> int:
        (self.restricted.add if task.restricted else self.restricted.discard)(task.subject)
        return 4


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    component = House.component

    def with_cases(house: House, *args: Any, **kwargs: Any) -> Any:
        return component(house, *args, **kwargs, scopes=frozenset(Scope))

    monkeypatch.setattr(House, "component", with_cases)
    return Setting(tmp_path)


@pytest.fixture
def rows() -> Database:
    return Database()


@pytest.fixture
def holder(at: Setting, rows: Database, tmp_path: Path) -> Holder:
    return made(at, rows, tmp_path)


def made(at: Setting, rows: Database, tmp_path: Path) -> Holder:
    answers = tmp_path / "answers"
    return Holder(at.authority, answers, find=rows.find, erase=rows.erase, rectify=rows.rectify, restrict=rows.restrict)


def test_the_directory_of_answers_is_named_in_words_too(at: Setting, rows: Database, tmp_path: Path) -> None:
    answers = tmp_path / "said"
    given = {"find": rows.find, "erase": rows.erase, "rectify": rows.rectify, "restrict": rows.restrict}
    holder = Holder(at.authority, str(answers), **given)
    ask(at, "search")
    assert holder.work() == 1
    assert len(list(answers.glob("*.json"))) == 1


def instruct(category: str, fate: str, **more: str) -> dict[str, str]:
    return {"category": category, "purpose": "budget", "fate": fate, **more}


def result(category: str, status: str, count: int, **more: Any) -> dict[str, Any]:
    return {"category": category, "status": status, "count": count, **more}


def ask(at: Setting, kind: str, *, task: str = "task_1", subject: str = WHO, **more: Any) -> None:
    at.doors.tasks = [{"id": task, "kind": kind, "subject": subject, **more}]


def test_a_search_sends_the_records_as_they_lie_and_counts_them(at: Setting, holder: Holder, rows: Database) -> None:
    ask(at, "search")
    assert holder.work() == 1
    part = at.doors.parts["task_1", 1]
    lines = [json.loads(line) for line in part.splitlines()]
    assert {(one["category"], one["record_id"], base64.b64decode(one["sealed"])) for one in lines} == {
        (category, record, sealed) for (subject, category, record), sealed in rows.rows.items() if subject == WHO
    }
    assert at.doors.answers == [
        (
            "task_1",
            {
                "status": "found",
                "categories": [result("a", "found", 3), result("b", "found", 1)],
                "digest": hashlib.sha256(part).hexdigest(),
            },
        )
    ]


def test_a_large_find_goes_in_numbered_parts(at: Setting, holder: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 100)
    ask(at, "search")
    holder.work()
    assert sorted(at.doors.parts) == [("task_1", 1), ("task_1", 2)]
    whole = at.doors.parts["task_1", 1] + at.doors.parts["task_1", 2]
    assert at.doors.answers[0][1]["digest"] == hashlib.sha256(whole).hexdigest()


def test_nothing_held_is_said_too(at: Setting, holder: Holder) -> None:
    ask(at, "search", subject="pw_nobody")
    holder.work()
    assert at.doors.answers == [("task_1", {"status": "none", "categories": []})]
    assert at.doors.parts == {}


def test_an_erasure_keeps_what_has_a_reason_and_nobody_else_s(at: Setting, holder: Holder, rows: Database) -> None:
    """dsar rules 48, 53: a category retained for one purpose stays, whatever another purpose says."""
    retain = {"until": "2031-01-01", "legal_ref": "CMF L561-12"}
    ask(at, "erase", instructions=[instruct("a", "erase"), instruct("b", "erase"), instruct("b", "retain", **retain)])
    holder.work()
    kept = result("b", "retained", 1, purpose="budget", reason="CMF L561-12", until="2031-01-01")
    answer = {"status": "retained", "categories": [result("a", "erased", 3), kept]}
    assert at.doors.answers == [("task_1", answer)]
    assert sorted(rows.rows) == [(WHO, "b", "r0"), *[("pw_two", "a", f"r{n}") for n in range(3)], ("pw_two", "b", "r0")]
    ask(at, "verify", task="task_2", instructions=[instruct("b", "retain", **retain)])
    holder.work()
    assert at.doors.answers[1] == ("task_2", {"status": "retained", "categories": [kept]})
    ask(at, "verify", task="task_3")
    holder.work()
    assert at.doors.answers[2] == ("task_3", {"status": "found", "categories": [result("b", "found", 1)]})


def test_what_goes_to_a_cohort_is_handed_over_before_it_is_removed(at: Setting, holder: Holder, rows: Database) -> None:
    ask(at, "erase", instructions=[instruct("a", "anonymise", cohort="c1"), instruct("b", "erase")])
    with outage(at.doors), pytest.raises(Unreachable):
        holder.work()
    assert len(rows.rows) == 8
    holder.work()
    answer = at.doors.answers[0][1]
    assert answer["categories"] == [result("a", "anonymised", 3), result("b", "erased", 1)]
    assert answer["digest"] == hashlib.sha256(at.doors.parts["task_1", 1]).hexdigest()
    assert {key[0] for key in rows.rows} == {"pw_two"}


def test_a_lost_answer_is_repeated_and_nothing_is_done_twice(
    at: Setting, holder: Holder, rows: Database, tmp_path: Path
) -> None:
    ask(at, "erase", instructions=[instruct("a", "erase"), instruct("b", "erase")])
    at.doors.lose_answers = 2  # heartbeat, then the answer
    with pytest.raises(Unreachable):
        holder.work()
    with pytest.raises(Unreachable):
        holder.work()
    made(at, rows, tmp_path).work()  # another process
    assert rows.erasures == 2
    said = [answer for _, answer in at.doors.answers]
    assert said == [said[0]] * len(said)
    assert said[0]["categories"] == [result("a", "erased", 3), result("b", "erased", 1)]


class Killed(BaseException):
    """The process ends here."""


def cut_off(rows: Database, monkeypatch: pytest.MonkeyPatch, after: int, with_: BaseException) -> None:
    """Let `erase` do its work and end with `with_` instead of an answer, the `after`-th time it is called."""
    erase = rows.erase

    def ending(task: Task, category: str) -> int:
        count = erase(task, category)
        if rows.erasures == after:
            raise with_
        return count

    monkeypatch.setattr(rows, "erase", ending)


PLAIN = [instruct("a", "erase"), instruct("b", "erase")]
POOLED = [instruct("a", "anonymise", cohort="c1"), instruct("b", "erase")]
KEPT = [instruct("a", "erase"), instruct("b", "retain", until="2031-01-01", legal_ref="law")]
RETAINED = result("b", "retained", 1, purpose="budget", reason="law", until="2031-01-01")


@pytest.mark.parametrize(
    ("told", "after", "status", "results"),
    [
        (PLAIN, 1, "erased", [result("a", "erased", 3), result("b", "erased", 1)]),
        (PLAIN, 2, "erased", [result("a", "erased", 3), result("b", "erased", 1)]),
        (POOLED, 1, "anonymised", [result("a", "anonymised", 3), result("b", "erased", 1)]),
        (POOLED, 2, "anonymised", [result("a", "anonymised", 3), result("b", "erased", 1)]),
        (KEPT, 1, "retained", [result("a", "erased", 3), RETAINED]),
    ],
)
def test_an_erasure_killed_before_its_answer_is_on_disk_is_answered_as_if_it_had_not_been(
    at: Setting,
    rows: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    told: list[dict[str, str]],
    after: int,
    status: str,
    results: list[dict[str, Any]],
) -> None:
    """dsar rule 48, operations.md section 3: what was removed before the crash is counted, not answered as none."""
    ask(at, "erase", instructions=told)
    cut_off(rows, monkeypatch, after, Killed())
    with pytest.raises(Killed):
        made(at, rows, tmp_path).work()
    assert at.doors.answers == []
    made(at, rows, tmp_path).work()  # another process
    handed = {"digest": hashlib.sha256(at.doors.parts["task_1", 1]).hexdigest()} if told is POOLED else {}
    assert at.doors.answers == [("task_1", {"status": status, "categories": results, **handed})]
    assert [key[1] for key in rows.rows if key[0] == WHO] == (["b"] if told is KEPT else [])


def test_what_was_handed_over_before_a_crash_is_what_is_answered(
    at: Setting, rows: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority holds the answer's counts against the upload: another count would lose the cohort's records."""
    ask(at, "erase", instructions=POOLED)
    cut_off(rows, monkeypatch, 2, Killed())
    with pytest.raises(Killed):
        made(at, rows, tmp_path).work()
    part = at.doors.parts["task_1", 1]
    rows.rows[WHO, "a", "late"] = b"came afterwards"
    made(at, rows, tmp_path).work()
    assert at.doors.parts == {("task_1", 1): part}
    assert at.doors.answers[0][1]["categories"][0] == result("a", "anonymised", part.count(b"\n"))
    assert at.doors.answers[0][1]["digest"] == hashlib.sha256(part).hexdigest()
    assert {key[0] for key in rows.rows} == {"pw_two"}


def test_an_erasure_that_fails_in_the_middle_counts_what_went_the_first_time(
    at: Setting, rows: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ask(at, "erase", instructions=PLAIN)
    cut_off(rows, monkeypatch, 1, RuntimeError("disk gone: Jeanne Martin"))
    made(at, rows, tmp_path).work()
    made(at, rows, tmp_path).work()
    (_, failed), (_, answer) = at.doors.answers
    assert failed == {"status": "error", "reason": "callback_failed", "categories": []}
    assert answer == {"status": "erased", "categories": [result("a", "erased", 3), result("b", "erased", 1)]}


def test_a_failing_callback_is_an_error_that_names_no_data_and_is_tried_again(
    at: Setting, holder: Holder, rows: Database
) -> None:
    rows.broken = True
    ask(at, "search")
    holder.work()
    assert at.doors.answers == [("task_1", {"status": "error", "reason": "callback_failed", "categories": []})]
    rows.broken = False
    holder.work()
    assert at.doors.answers[1][1]["status"] == "found"


def refuse(at: Setting, monkeypatch: pytest.MonkeyPatch, door: str, status: int, code: str) -> None:
    """Have a door of the authority refuse whatever speaks of category `a`, the task's own error apart."""
    views = at.house.web.application.view_functions
    taking = views[door]

    def view(**place: Any) -> Any:
        if b'"a"' in request.get_data():
            return jsonify(code=code), status
        return taking(**place)

    monkeypatch.setitem(views, door, view)


def three(at: Setting, rows: Database) -> None:
    """Three tasks, of which the first person alone has something in `a`."""
    rows.rows = {("pw_1", "a", "r"): b"odd", **{(f"pw_{n}", "b", "r"): b"good" for n in (1, 2, 3)}}
    at.doors.tasks = [{"id": f"task_{n}", "kind": "search", "subject": f"pw_{n}"} for n in (1, 2, 3)]


@pytest.mark.parametrize("door", ["part", "result"])
def test_a_task_that_is_refused_is_an_error_and_holds_up_no_other(
    at: Setting, holder: Holder, rows: Database, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """dsar rule 40: every holder answers for every case; one record the authority does not take is one task's error."""
    three(at, rows)
    refuse(at, monkeypatch, door, 422, "body_invalid")
    with pytest.raises(Refused) as refusal:
        holder.work()
    assert (refusal.value.status, refusal.value.error) == (422, "body_invalid")
    first, *others = at.doors.answers
    assert first == ("task_1", {"status": "error", "reason": "body_invalid", "categories": []})
    assert [(task, answer["status"]) for task, answer in others] == [("task_2", "found"), ("task_3", "found")]


def test_an_answer_that_is_refused_is_made_anew(
    at: Setting, holder: Holder, rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    three(at, rows)
    with monkeypatch.context() as patch:
        refuse(at, patch, "result", 422, "body_invalid")
        with pytest.raises(Refused):
            holder.work()
    del rows.rows["pw_1", "a", "r"]  # what was wrong is mended
    holder.work()
    assert at.doors.answers[3][1]["categories"] == [result("b", "found", 1)]


def test_an_erasure_whose_answer_is_refused_does_not_become_none(
    at: Setting, holder: Holder, rows: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(at, "erase", instructions=POOLED)
    with monkeypatch.context() as patch:
        refuse(at, patch, "result", 409, "upload_differs")
        with pytest.raises(Refused):
            holder.work()
    holder.work()
    error, answer = (said for _, said in at.doors.answers)
    assert (error["status"], error["reason"]) == ("error", "upload_differs")
    assert answer["categories"] == [result("a", "anonymised", 3), result("b", "erased", 1)]
    assert answer["digest"] == hashlib.sha256(at.doors.parts["task_1", 1]).hexdigest()


@pytest.mark.parametrize("said", [(404, "not_found"), (409, "task_answered"), (413, "body_too_large")])
def test_a_task_that_takes_no_error_either_holds_up_no_other(
    at: Setting, holder: Holder, rows: Database, monkeypatch: pytest.MonkeyPatch, said: tuple[int, str]
) -> None:
    """It is another's by now, or answered by another: there is nothing to say of it."""
    three(at, rows)
    views = at.house.web.application.view_functions
    taking = views["result"]

    def view(task: str) -> Any:
        return (jsonify(code=said[1]), said[0]) if task == "task_1" else taking(task=task)

    monkeypatch.setitem(views, "result", view)
    with pytest.raises(Refused) as refusal:
        holder.work()
    assert (refusal.value.status, refusal.value.error) == said
    assert [task for task, _ in at.doors.answers] == ["task_2", "task_3"]


@pytest.mark.parametrize("said", [(401, "token_invalid"), (403, "scope_missing")])
def test_a_refusal_of_the_holder_itself_ends_the_round_and_blames_no_task(
    at: Setting, holder: Holder, rows: Database, monkeypatch: pytest.MonkeyPatch, said: tuple[int, str]
) -> None:
    three(at, rows)
    refuse(at, monkeypatch, "part", *said)
    with pytest.raises(Refused) as refusal:
        holder.work()
    assert (refusal.value.status, refusal.value.error) == said
    assert at.doors.answers == []


def test_rectifying_and_restricting(at: Setting, holder: Holder, rows: Database) -> None:
    change = {"category": "a", "record_id": "r0", "sealed": base64.b64encode(b"new").decode()}
    ask(at, "rectify", changes=[change])
    holder.work()
    assert rows.rows[WHO, "a", "r0"] == b"new"
    assert at.doors.answers[-1][1] == {"status": "found", "categories": [result("a", "found", 1)]}
    ask(at, "rectify", task="task_2", changes=[change, {**change, "record_id": "r9"}])
    holder.work()
    assert at.doors.answers[-1][1]["status"] == "partial"
    assert at.doors.answers[-1][1]["reason"] == "record_not_found"
    ask(at, "restrict", task="task_3")
    holder.work()
    assert rows.restricted == {WHO}
    ask(at, "restrict", task="task_4", restricted=False)
    holder.work()
    assert rows.restricted == set()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "delete_everything"},
        {"kind": None},
        {"id": ""},
        {"subject": 5},
        {"instructions": [{"category": "a", "purpose": "p", "fate": "sell"}]},
        {"instructions": [{"category": "a"}]},
        {"changes": [{"category": "a", "record_id": "r", "sealed": "!"}]},
    ],
)
def test_a_task_that_is_not_understood_is_an_error_and_touches_nothing(
    at: Setting, holder: Holder, rows: Database, wrong: dict[str, Any]
) -> None:
    at.doors.tasks = [{"id": "t", "kind": "erase", "subject": WHO, **wrong}]
    with pytest.raises(Malformed):
        holder.work()
    assert (rows.erasures, at.doors.answers) == (0, [])


def test_a_task_s_id_cannot_name_a_file(at: Setting, holder: Holder, tmp_path: Path) -> None:
    ask(at, "search", task="x_.._.._evil", subject="pw_nobody")
    holder.work()
    assert [file.parent for file in tmp_path.rglob("*.json")] == [tmp_path / "answers"]

"""The AuthZEN 1.0 doors: the judge's own answer, in the specification's manners (consent.md section 4; tokens.md 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.sdk.scopes import Scope
from consent.vocabulary import PartyId
from tests.doors.api_house import BALANCES, HOLDER, PURPOSE, READER, Agreed, ApiHouse, problem

ONE, MANY = "/access/v1/evaluation", "/access/v1/evaluations"


@pytest.fixture
def at(tmp_path: Path, laid_records_url: str, laid_keys_url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    built = ApiHouse(tmp_path, laid_records_url, laid_keys_url, monkeypatch)
    yield built
    built.house.close()


def question(at: ApiHouse, agreed: Agreed, party: PartyId = READER, component: str = "reader") -> dict[str, Any]:
    return {
        "subject": {"type": "component", "id": component},
        "action": {"name": "read"},
        "resource": {"type": "category", "id": BALANCES, "properties": {"handle": at.handle(agreed, party)}},
        "context": {"purpose": PURPOSE},
    }


def ask(at: ApiHouse, body: Any, path: str = ONE, who: Any = None, **more: Any) -> Any:
    return at.post(path, who or at.reader, Scope.DECISIONS_EVALUATE, body, **more)


def test_yes_with_its_obligations_and_no_right_after_withdrawal(at: ApiHouse) -> None:
    """consent rule 46."""
    ana = at.agree()
    said = ask(at, question(at, ana)).json
    assert said["decision"] is True
    assert said["context"]["consent"]["id"] == ana.consent
    assert said["context"]["obligations"]["keep"] == "call"
    assert said["context"]["obligations"]["where"] == ["NL", "EU"]
    at.withdraw(ana)
    assert ask(at, question(at, ana)).json == {"decision": False, "context": {"reason": "consent_withdrawn"}}


def test_a_holder_may_ask_about_a_reader_and_a_stranger_may_not(at: ApiHouse) -> None:
    ana = at.agree()
    assert ask(at, question(at, ana, HOLDER), who=at.holder).json["decision"] is True
    rival = at.rival.record.party
    said = ask(at, question(at, ana, PartyId(rival)), who=at.rival).json
    assert said == {"decision": False, "context": {"reason": "asker_not_yours"}}
    own = ask(at, question(at, ana, PartyId(rival), "rival"), who=at.rival).json
    assert own == {"decision": False, "context": {"reason": "consent_for_another_party"}}


def test_erased_unknown_and_another_party_s_handle_look_alike(at: ApiHouse) -> None:
    ana, bea = at.agree(), at.agree("bea@example.org")
    gone, foreign = question(at, bea), question(at, ana, HOLDER)
    made_up = {**gone, "resource": {**gone["resource"], "properties": {"handle": "pw_none"}}}
    at.erase(bea)
    answers = [ask(at, each).json for each in (gone, foreign, made_up)]
    assert answers == [{"decision": False, "context": {"reason": "subject_unknown"}}] * 3


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        (("subject", "id"), "nobody", "party_unknown"),
        (("resource", "id"), "identity.papers", "category_outside_purpose"),
        (("resource", "id"), "moods", "category_unknown"),
        (("context", "purpose"), "nothing", "purpose_unknown"),
        (("action", "name"), "hold", None),
        (("action", "name"), "transmit", "not_granted"),
        (("action", "name"), "delete", "request_invalid"),
        (("context", "consent"), "con_none", "no_consent"),
    ],
)
def test_reasons(at: ApiHouse, where: tuple[str, str], value: str, reason: str | None) -> None:
    ana = at.agree()
    body = question(at, ana)
    body[where[0]][where[1]] = value
    said = ask(at, body).json
    assert said["decision"] is (reason is None)
    assert said["context"].get("reason") == reason


def test_presence_is_not_believed_and_unknown_fields_are_ignored(at: ApiHouse) -> None:
    ana = at.agree()
    body = {**question(at, ana), "more": [1]}
    body["context"]["attended"] = True
    body["subject"]["properties"] = {"x": 1}
    assert ask(at, body).json["decision"] is True


def test_the_request_id_comes_back_whatever_the_answer(at: ApiHouse) -> None:
    ana = at.agree()
    mine = {"X-Request-ID": "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"}
    for body in (question(at, ana), {}):
        answer = ask(at, body, headers=mine)
        assert answer.headers["X-Request-ID"] == mine["X-Request-ID"]
    assert "X-Request-ID" not in ask(at, question(at, ana)).headers


def test_a_broken_request_is_400_and_says_nothing(at: ApiHouse) -> None:
    ana = at.agree()
    good = question(at, ana)
    broken: list[Any] = [{}, [], {**good, "subject": "reader"}, {**good, "subject": {"type": "user", "id": "x"}}]
    broken += [
        {name: each for name, each in good.items() if name != left} for left in ("subject", "action", "resource")
    ]
    broken += [{**good, "context": []}, {**good, "resource": {**good["resource"], "properties": {}}}]
    for body in broken:
        problem(ask(at, body), 400, "bad_request")
    for data, kind in ((b"{", "application/json"), (b"{}", "text/plain"), (b"\xff", "application/json")):
        problem(ask(at, None, data=data, content_type=kind), 400, "bad_request")
    problem(ask(at, None, data=b'"' + b"x" * 1_100_000, content_type="application/json"), 413, "body_too_large")
    problem(at.web.post(ONE, json=good), 401, "token_invalid")
    problem(at.post(ONE, at.reader, Scope.KEYS_LEASE, good), 403, "scope_missing")


def test_a_batch_takes_what_is_said_at_the_top_and_survives_a_broken_item(at: ApiHouse) -> None:
    ana = at.agree()
    body = question(at, ana)
    resource = body.pop("resource")
    body["evaluations"] = [
        {"resource": resource},
        {"resource": {**resource, "id": "identity.papers"}},
        "broken",
        {"resource": {"type": "category"}},
        {"resource": resource, "action": {"name": "hold"}},
    ]
    said = ask(at, body, MANY).json["evaluations"]
    assert [each["decision"] for each in said] == [True, False, False, False, True]
    assert said[2]["context"]["reason"] == said[3]["context"]["reason"] == "request_invalid"


@pytest.mark.parametrize(
    ("semantic", "answers"),
    [
        ("execute_all", [False, True, False]),
        ("deny_on_first_deny", [False]),
        ("permit_on_first_permit", [False, True]),
    ],
)
def test_how_far_a_batch_goes(at: ApiHouse, semantic: str, answers: list[bool]) -> None:
    ana = at.agree()
    no = {"action": {"name": "transmit"}}
    body = {**question(at, ana), "evaluations": [no, {}, no], "options": {"evaluations_semantic": semantic}}
    assert [each["decision"] for each in ask(at, body, MANY).json["evaluations"]] == answers


def test_batches_that_are_refused_and_one_that_is_a_single_question(at: ApiHouse) -> None:
    ana = at.agree()
    body = question(at, ana)
    for wrong in ({"options": {"evaluations_semantic": "some"}}, {"options": []}, {"evaluations": {}}):
        problem(ask(at, {**body, "evaluations": [{}], **wrong}, MANY), 400, "bad_request")
    problem(ask(at, {**body, "evaluations": [{}] * 101}, MANY), 400, "bad_request")
    assert ask(at, body, MANY).json["decision"] is True
    assert ask(at, {**body, "evaluations": []}, MANY).json["decision"] is True


def test_asking_leaves_no_trace_about_the_person(at: ApiHouse) -> None:
    ana = at.agree()
    ask(at, question(at, ana))
    assert at.traces() == (0, [])

"""The console: who sees which case, who approves what and how freshly proven, what it says and what it never shows.

Dsar rules 21, 40, 49, 53, 56, 57, 59; exports.md rules 6, 7. On the real house, with a software passkey.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from html import unescape
from typing import Any

import pytest

from app.demo.generator import Standing, analysable, make_subjects
from app.exports.cells import Row, read_cells
from app.exports.gate import prepare
from app.exports.risk import report
from app.http import deskwords
from app.store.exports import ReleaseCandidate
from app.store.passkeys import StoredStaff
from app.wiring.releases import release_profile
from consent.decision import local_day
from consent.vocabulary import CategoryId, ComponentId, ControllerId, Locale, PartyId, PurposeId, SubjectRef
from dsar import events as e
from dsar import usecases
from dsar.case import State
from dsar.package import CategoryResult, Filled, HolderAnswer, Manifest, PackageFile, Section
from dsar.ports import Desk
from dsar.proofs.shape import Proof
from dsar.retention import Holding, matrix
from dsar.usecases import Decision, Intake
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    Channel,
    Ground,
    HolderStatus,
    Method,
    Outcome,
    RecipientOutcome,
    Right,
    TaskKind,
)
from tests.doors.pages_house import MAILBOX, ORIGIN, Town, Visitor, options_in, token_in, use_passkey
from tests.journeys.software_passkey import SoftwarePasskey

FIRM, OTHER = ControllerId("ormelune"), ControllerId("valombree")
SAFE = ComponentId("collecte_safe")
BALANCES, PAPERS = CategoryId("accounts.balances"), CategoryId("identity.papers")
BANK = PartyId("banque_armorel")


def hired(
    town: Town, *roles: str, ident: str = "stf_one", name: str = "Claire Petit", controllers: Any = (FIRM,)
) -> str:
    with town.unit() as unit:
        unit.staff.add(StoredStaff(ident, name, frozenset(roles), frozenset(controllers)))
        unit.commit()
    return ident


def at_console(town: Town, visitor: Visitor, ident: str, origin: str = ORIGIN) -> SoftwarePasskey:
    """Type the printed code, create the passkey, sign in with it: the only way in for staff."""
    code = town.printed_code("staff", ident)
    assert visitor.post("/staff/enrol", code=code).status_code == 303
    page = visitor.get("/staff/enrol/passkey").get_data(as_text=True)
    passkey = SoftwarePasskey(origin)
    form = {"form_token": token_in(page), "credential": json.dumps(passkey.create(options_in(page)))}
    assert visitor.client.post("/en/staff/enrol/passkey", data=form).location == "/en/sign-in/passkey"
    assert use_passkey(visitor, passkey, "/sign-in/passkey").status_code == 303
    return passkey


def signed_in(town: Town, *roles: str, **more: Any) -> tuple[Visitor, SoftwarePasskey]:
    visitor = Visitor(town.app())
    return visitor, at_console(town, visitor, hired(town, *roles, **more))


# Cases, made through the use cases


def opened(town: Town, *rights: Right, controller: ControllerId = FIRM, subject: str = "sub_ana") -> CaseId:
    now = town.clock.now()
    town.house.vault.create_subject(controller, subject)
    intake = Intake(
        controller=controller,
        subject=SubjectRef(subject),
        rights=rights or (Right.ACCESS,),
        channel=Channel.SPACE,
        received_at=now,
        locale=Locale.EN,
        by=Actor(subject, human=True),
        text=None,
        proofs=(Proof(Method.PASSKEY, now, "pk_1", now - timedelta(days=400)),),
    )
    with town.unit() as unit:
        case = usecases.open_case(town.doors.desk(unit), intake).case
        unit.commit()
    assert case is not None
    return case


def searched(desk: Desk, case: CaseId, status: HolderStatus) -> None:
    for task in usecases.start_search(desk, case, (SAFE,)):
        found = (CategoryResult(BALANCES, status, 24),) if status is HolderStatus.FOUND else ()
        usecases.record_answer(desk, task, HolderAnswer(SAFE, status, desk.clock.now(), found))


def for_approval(town: Town, case: CaseId, *, by: Actor = SYSTEM, refused: bool = False) -> None:
    """Nothing found, decided, handed to approval."""
    with town.unit() as unit:
        desk = town.doors.desk(unit)
        searched(desk, case, HolderStatus.NONE)
        decision = Decision(Outcome.NO_DATA, by)
        if refused:
            second = Actor("stf_second", human=True)
            decision = Decision(
                Outcome.REFUSED, by, (Ground.UNFOUNDED_OR_EXCESSIVE,), approved_by=second, evidence="three in a week"
            )
        for line in desk.cases.get(case).lines:
            usecases.decide_line(desk, case, line, decision)
        usecases.submit(desk, case)
        unit.commit()


def erasing(town: Town) -> CaseId:
    """A copy given and an erasure begun: one category kept, one recipient to tell."""
    case = opened(town, Right.ACCESS, Right.ERASURE)
    with town.unit() as unit:
        desk = town.doors.desk(unit)
        searched(desk, case, HolderStatus.FOUND)
        lines = {line.right: line.id for line in desk.cases.get(case).lines.values()}
        copy, gone = lines[Right.ACCESS], lines[Right.ERASURE]
        answers = tuple(task.answer for task in desk.cases.tasks(case, TaskKind.SEARCH) if task.answer)
        data = PackageFile("data.json", "application/json", 2, hashlib.sha256(b"{}").hexdigest())
        told = {section: Filled(("x",)) for section in Section}
        package = usecases.seal_package(desk, case, Manifest(case, copy, desk.clock.now(), answers, told, (data,)))
        usecases.decide_line(desk, case, copy, Decision(Outcome.GRANTED, SYSTEM))
        partly = Decision(Outcome.PARTLY_GRANTED, SYSTEM, (Ground.LEGAL_OBLIGATION,), (PAPERS,))
        usecases.decide_line(desk, case, gone, partly)
        usecases.submit(desk, case)
        usecases.approve(desk, case, Actor("stf_dpo", human=True, dpo=True))
        message = usecases.prepare_reply(desk, case, [copy])
        usecases.dispatch_message(desk, message, channel="space", proof="posting_1")
        usecases.record_fetch(desk, case, package, Actor("sub_ana", human=True))
        ended = desk.clock.now().date()
        held = [
            Holding(SAFE, BALANCES, PurposeId("wealth_overview")),
            Holding(SAFE, PAPERS, PurposeId("aml_duties")),
        ]
        triggers = {"relationship_ended": ended, "consent_ended": ended}
        cells = matrix(held, desk.policy, triggers=triggers, cohorts={}, on=ended)
        usecases.begin_erasure(desk, case, gone, cells=cells, recipients=(BANK,))
        unit.commit()
    return case


def state(town: Town, case: CaseId) -> State:
    with town.unit() as unit:
        return town.doors.desk(unit).cases.get(case).state


def text_of(answer: Any) -> str:
    """What a person reads of a page."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.get_data(as_text=True))).split())


def sent(visitor: Visitor, path: str, page: str | None = None, **fields: str) -> Any:
    """Send the form at `page` that goes to `path`, with everything it carries by itself."""
    shown = visitor.get(page or path).get_data(as_text=True)
    forms = re.findall(r"<form(?P<head>[^>]*)>(?P<body>.*?)</form>", shown, re.DOTALL)
    own = next(body for head, body in forms if f'action="{path}"' in head or (page is None and "action" not in head))
    carried = dict(re.findall(r'name="([^"]+)" value="([^"]*)"', own))
    return visitor.client.post(path, data=carried | fields)


# Who sees what


def test_staff_land_on_the_queue_and_nobody_else_gets_in(town: Town, visitor: Visitor) -> None:
    case = opened(town)
    assert visitor.get("/dpo/cases").location.startswith("/en/sign-in/passkey?next=/dpo/cases")
    staff, _ = signed_in(town, "dpo")
    assert staff.get("/dpo/").location == "/dpo/cases"
    assert case in staff.get("/dpo/cases").get_data(as_text=True)
    town.enrol()
    visitor.sign_in(town)
    assert visitor.get("/dpo/cases").status_code == 303, "a subject's session opens no console"
    assert visitor.get(f"/dpo/cases/{case}").status_code == 303


def test_staff_of_one_controller_never_see_the_others_cases(town: Town) -> None:
    ours, theirs = opened(town), opened(town, controller=OTHER, subject="sub_bob")
    for_approval(town, theirs)
    staff, _ = signed_in(town, "dpo", "agent")
    queue = staff.get("/dpo/cases").get_data(as_text=True)
    assert ours in queue
    assert theirs not in queue
    unknown = staff.get("/dpo/cases/case_nobody")
    foreign = staff.get(f"/dpo/cases/{theirs}")
    assert (unknown.status_code, foreign.status_code) == (404, 404)
    assert text_of(unknown) == text_of(foreign), "the same answer: nothing tells whether it exists"
    token = token_in(queue)
    for way in ("approve", "send-back", "submit", "recipients/task_x"):
        form = {"form_token": token, "version": "9", "answer": "acked"}
        assert staff.client.post(f"/dpo/cases/{theirs}/{way}", data=form).status_code == 404
    assert staff.get(f"/dpo/cases?after={theirs}").status_code == 404
    assert state(town, theirs) is State.APPROVAL


def test_staff_of_both_see_both_and_who_left_sees_nothing(town: Town) -> None:
    ours, theirs = opened(town), opened(town, controller=OTHER, subject="sub_bob")
    staff, _ = signed_in(town, "agent", controllers=(FIRM, OTHER))
    queue = staff.get("/dpo/cases").get_data(as_text=True)
    assert ours in queue
    assert theirs in queue
    with town.unit() as unit:
        unit.staff.leave("stf_one", town.clock.now())
        unit.commit()
    assert staff.get("/dpo/cases").status_code == 403


def test_no_page_shows_who_the_person_is(town: Town) -> None:
    """Dsar.md section 7: a look at personal data is a disclosure; the console shows none."""
    subject = town.enrol()
    case = opened(town, subject=subject)
    staff, _ = signed_in(town, "dpo")
    for path in ("/dpo/cases", f"/dpo/cases/{case}"):
        page = staff.get(path).get_data(as_text=True)
        assert "Ana" not in page
        assert MAILBOX not in page
        assert subject not in page
    with town.unit() as unit:
        assert list(unit.disclosures.of_subject(subject)) == []


# The queue


def test_the_queue_is_by_strict_date_with_days_left_in_words(town: Town) -> None:
    """Dsar rule 21."""
    first = opened(town)
    town.clock.forward(days=3)
    second = opened(town, subject="sub_bob")
    staff, _ = signed_in(town, "auditor")
    page = staff.get("/dpo/cases").get_data(as_text=True)
    assert page.index(first) < page.index(second)
    with town.unit() as unit:
        strict = town.doors.desk(unit).cases.summary(first).due_strict
    left = (strict - local_day(town.house.policy, town.house.controller, town.clock.now())).days
    assert f"{left} days left" in page
    town.clock.at += timedelta(days=left)
    fresh, _ = signed_in(town, "auditor", ident="stf_two")
    assert "due today" in text_of(fresh.get("/dpo/cases"))
    town.clock.forward(days=2)
    overdue, _ = signed_in(town, "auditor", ident="stf_three")
    assert "2 days overdue" in text_of(overdue.get("/dpo/cases"))


def test_the_queue_is_read_page_by_page_without_gap_or_repeat(town: Town) -> None:
    cases = {opened(town, subject=f"sub_{number}") for number in range(27)}
    staff, _ = signed_in(town, "agent")
    first = staff.get("/dpo/cases").get_data(as_text=True)
    further = re.search(r'rel="next" href="([^"]+)"', first)
    assert further
    second = staff.get(unescape(further.group(1))).get_data(as_text=True)
    seen = [re.findall(r'href="/dpo/cases/(case_\w+)"', page) for page in (first, second)]
    assert [len(each) for each in seen] == [25, 2]
    assert set(seen[0]) | set(seen[1]) == cases
    assert 'rel="next"' not in second


def test_ended_cases_are_apart(town: Town) -> None:
    case = opened(town)
    with town.unit() as unit:
        desk = town.doors.desk(unit)
        message = usecases.withdraw_request(desk, case, Actor("sub_ana", human=True))
        usecases.dispatch_message(desk, message, channel="space", proof="posting_1")
        usecases.close(desk, case)
        unit.commit()
    staff, _ = signed_in(town, "agent")
    assert case not in staff.get("/dpo/cases").get_data(as_text=True)
    ended = staff.get("/dpo/cases?show=ended")
    assert case in ended.get_data(as_text=True)
    assert "taken back by the person" in text_of(ended)


# One case


def test_a_case_shows_its_dates_its_leaves_and_everything_that_hangs_on_it(town: Town) -> None:
    """Dsar rules 21, 40, 49, 53, 56."""
    case = erasing(town)
    staff, _ = signed_in(town, "agent")
    waiting = text_of(staff.get(f"/dpo/cases/{case}"))
    assert "waits for its leaf" in waiting
    town.house.ledger.integrate()
    page = staff.get(f"/dpo/cases/{case}")
    said = text_of(page)
    with town.unit() as unit:
        history = town.doors.desk(unit).cases.history(case)
        kept = town.doors.desk(unit).cases.retentions(case)
    for step in history:
        leaf = town.house.ledger.position(step.entry)
        assert f"leaf {leaf} {step.entry}" in said
    assert "waits for its leaf" not in said
    for words in (
        "Strict date",
        "Effective date",
        "End of month one",
        "found",
        "24 records",
        "The person opened the copy",
    ):
        assert words in said, words
    assert kept
    assert kept[0].legal_ref in said
    assert "Banque Armorel" in said
    assert "to be told" in said
    assert page.headers["Cache-Control"] == "no-store"


def test_a_leaf_leads_to_a_proof_that_verifies(town: Town) -> None:
    """Ledger.md: what the console links to is the public proof, for this very leaf in this very tree."""
    from app.wiring import application

    case = opened(town)
    town.house.ledger.integrate()
    app = application(town.house)
    app.extensions["regard.doors"] = town.doors
    visitor = Visitor(app)
    at_console(town, visitor, hired(town, "auditor"))
    page = visitor.get(f"/dpo/cases/{case}").get_data(as_text=True)
    link = re.search(r'href="(/ledger/proof/inclusion\?[^"]+)"', page)
    assert link
    proof = visitor.client.get(unescape(link.group(1)))
    assert proof.status_code == 200
    assert set(proof.get_json()) == {"leaf", "size", "hashes"}


@pytest.mark.parametrize("locale", list(Locale))
def test_every_event_and_code_has_its_words(town: Town, locale: Locale) -> None:
    """What can happen can be said, in each language."""
    app = town.app()
    with app.test_request_context("/dpo/cases", headers={"Accept-Language": locale.value}):
        assert set(deskwords.steps()) == set(e.KINDS.values())
        for words, every in (
            (deskwords.state, State),
            (deskwords.outcome, Outcome),
            (deskwords.channel, Channel),
            (deskwords.holder_status, HolderStatus),
            (deskwords.recipient_outcome, RecipientOutcome),
            (deskwords.task_kind, TaskKind),
        ):
            said = [words(each) for each in every]  # type: ignore[operator]  # each takes its own enumeration
            assert all(said)


@pytest.mark.parametrize(
    ("language", "heading"), [("fr", "Demandes"), ("en", "Requests"), ("es", "Solicitudes"), ("pt", "Pedidos")]
)
def test_the_console_speaks_the_language_of_the_browser(town: Town, language: str, heading: str) -> None:
    case = erasing(town)
    staff, _ = signed_in(town, "dpo")
    page = staff.get("/dpo/cases", headers={"Accept-Language": language}).get_data(as_text=True)
    assert f'<html lang="{language}">' in page
    assert f"<h1>{heading}</h1>" in page
    other = staff.get(f"/dpo/cases/{case}", headers={"Accept-Language": language})
    assert other.status_code == 200
    if language != "en":
        assert "Strict date" not in other.get_data(as_text=True)


# Approving


def test_a_dpo_approves_what_they_saw(town: Town) -> None:
    case = opened(town)
    for_approval(town, case)
    staff, _ = signed_in(town, "dpo")
    assert "no data held" in text_of(staff.get(f"/dpo/cases/{case}/approve"))
    assert state(town, case) is State.APPROVAL, "looking approves nothing"
    done = sent(staff, f"/dpo/cases/{case}/approve")
    assert done.location == f"/dpo/cases/{case}"
    assert state(town, case) is State.DISPATCHING
    with town.unit() as unit:
        last = [each for each in town.doors.desk(unit).cases.history(case) if isinstance(each.event, e.Approved)]
    assert [each.event.by for each in last] == ["stf_one"]
    assert "Claire Petit" in text_of(staff.get(f"/dpo/cases/{case}"))
    again = staff.client.post(
        f"/dpo/cases/{case}/approve",
        data={"form_token": token_in(staff.get("/dpo/cases").get_data(as_text=True)), "version": "1"},
    )
    assert again.status_code == 409


@pytest.mark.parametrize("role", ["agent", "auditor", "second_reader", "aml"])
def test_only_a_dpo_approves(town: Town, role: str) -> None:
    case = opened(town)
    for_approval(town, case)
    staff, _ = signed_in(town, role)
    page = staff.get(f"/dpo/cases/{case}")
    assert page.status_code == 200
    assert "/approve" not in page.get_data(as_text=True)
    assert staff.get(f"/dpo/cases/{case}/approve").status_code == 403
    token = token_in(page.get_data(as_text=True))
    for way in ("approve", "send-back"):
        form = {"form_token": token, "version": "99"}
        assert staff.client.post(f"/dpo/cases/{case}/{way}", data=form).status_code == 403
    assert state(town, case) is State.APPROVAL


def test_an_administrator_sees_no_case(town: Town) -> None:
    case = opened(town)
    staff, _ = signed_in(town, "admin")
    assert staff.get("/dpo/cases").status_code == 403
    assert staff.get(f"/dpo/cases/{case}").status_code == 403


def test_a_stale_passkey_is_asked_for_again(town: Town) -> None:
    """Asserted in the last five minutes, or the approval waits: looking goes on, approving does not."""
    case = opened(town)
    for_approval(town, case)
    staff, passkey = signed_in(town, "dpo")
    ready = staff.get(f"/dpo/cases/{case}/approve").get_data(as_text=True)
    town.clock.forward(minutes=5, seconds=1)
    assert staff.get(f"/dpo/cases/{case}").status_code == 200
    form = dict(re.findall(r'name="(form_token|version)" value="([^"]*)"', ready))
    assert staff.client.post(f"/dpo/cases/{case}/approve", data=form).status_code == 403
    assert state(town, case) is State.APPROVAL
    asked = staff.get(f"/dpo/cases/{case}/approve")
    assert asked.status_code == 303
    assert "/me/step-up" in asked.location
    back = use_passkey(staff, passkey, asked.location, next=f"/dpo/cases/{case}/approve")
    assert back.location == f"/dpo/cases/{case}/approve"
    assert sent(staff, f"/dpo/cases/{case}/approve").status_code == 303
    assert state(town, case) is State.DISPATCHING


def test_whoever_decided_a_refusal_may_not_approve_it(town: Town) -> None:
    """Dsar rules 57, 59: four eyes."""
    case = opened(town)
    staff, _ = signed_in(town, "dpo")
    for_approval(town, case, by=Actor("stf_one", human=True, dpo=True), refused=True)
    refused = sent(staff, f"/dpo/cases/{case}/approve")
    assert refused.status_code == 403
    assert "A second person is needed" in text_of(refused)
    assert state(town, case) is State.APPROVAL
    other, _ = signed_in(town, "dpo", ident="stf_two", name="Paul Second")
    assert sent(other, f"/dpo/cases/{case}/approve").status_code == 303
    assert state(town, case) is State.DISPATCHING


def test_what_changed_since_it_was_shown_is_not_approved(town: Town) -> None:
    case = opened(town)
    for_approval(town, case)
    staff, _ = signed_in(town, "dpo")
    shown = staff.get(f"/dpo/cases/{case}/approve").get_data(as_text=True)
    form = dict(re.findall(r'name="(form_token|version)" value="([^"]*)"', shown))
    with town.unit() as unit:
        desk = town.doors.desk(unit)
        usecases.send_back(desk, case, Actor("stf_two", human=True, dpo=True))
        usecases.submit(desk, case, Actor("stf_two", human=True))
        unit.commit()
    refused = staff.client.post(f"/dpo/cases/{case}/approve", data=form)
    assert refused.status_code == 409
    assert "This has changed meanwhile" in text_of(refused)
    assert state(town, case) is State.APPROVAL


def test_a_case_in_another_state_says_so(town: Town) -> None:
    case = opened(town)
    staff, _ = signed_in(town, "dpo")
    assert "There is nothing to approve" in text_of(staff.get(f"/dpo/cases/{case}/approve"))
    with town.unit() as unit:
        version = town.doors.desk(unit).cases.get(case).version
    token = token_in(staff.get("/dpo/cases").get_data(as_text=True))
    for way in ("approve", "send-back"):
        form = {"form_token": token, "version": str(version)}
        refused = staff.client.post(f"/dpo/cases/{case}/{way}", data=form)
        assert refused.status_code == 409
        assert "no longer possible" in text_of(refused)
    undecided = staff.client.post(f"/dpo/cases/{case}/submit", data={"form_token": token, "version": str(version)})
    assert undecided.status_code == 409


def test_a_case_sent_back_can_be_handed_to_approval_again(town: Town) -> None:
    case = opened(town)
    for_approval(town, case)
    staff, _ = signed_in(town, "dpo")
    assert sent(staff, f"/dpo/cases/{case}/send-back", f"/dpo/cases/{case}").status_code == 303
    assert state(town, case) is State.REVIEW
    assert "sent back by whoever had to approve it" in text_of(staff.get(f"/dpo/cases/{case}"))
    assert sent(staff, f"/dpo/cases/{case}/submit", f"/dpo/cases/{case}").status_code == 303
    assert state(town, case) is State.APPROVAL


def test_a_form_from_elsewhere_approves_nothing(town: Town) -> None:
    case = opened(town)
    for_approval(town, case)
    staff, _ = signed_in(town, "dpo")
    assert staff.client.post(f"/dpo/cases/{case}/approve", data={"version": "9"}).status_code == 403
    assert state(town, case) is State.APPROVAL


# Recipients


def outcome(town: Town, case: CaseId) -> tuple[RecipientOutcome, str | None]:
    with town.unit() as unit:
        (task,) = town.doors.desk(unit).cases.recipients(case)
    return task.outcome, task.reason


def settle_path(town: Town, case: CaseId) -> str:
    with town.unit() as unit:
        (task,) = town.doors.desk(unit).cases.recipients(case)
    return f"/dpo/cases/{case}/recipients/{task.id}"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("acked", (RecipientOutcome.ACKED, None)),
        ("sent", (RecipientOutcome.SENT, None)),
        ("ceased", (RecipientOutcome.IMPOSSIBLE, "ceased")),
        ("unreachable", (RecipientOutcome.IMPOSSIBLE, "unreachable")),
    ],
)
def test_an_agent_notes_where_a_notice_stands(town: Town, answer: str, expected: Any) -> None:
    """Dsar rule 56."""
    case = erasing(town)
    staff, _ = signed_in(town, "agent")
    path = settle_path(town, case)
    assert sent(staff, path, f"/dpo/cases/{case}", answer=answer).status_code == 303
    assert outcome(town, case) == expected


def test_only_a_dpo_calls_a_notice_out_of_proportion(town: Town) -> None:
    """Dsar rule 56."""
    case = erasing(town)
    path = settle_path(town, case)
    agent, _ = signed_in(town, "agent")
    assert "out of proportion" not in text_of(agent.get(f"/dpo/cases/{case}"))
    assert sent(agent, path, f"/dpo/cases/{case}", answer="effort").status_code == 403
    assert outcome(town, case) == (RecipientOutcome.PENDING, None)
    dpo, _ = signed_in(town, "dpo", ident="stf_two")
    assert sent(dpo, path, f"/dpo/cases/{case}", answer="effort").status_code == 303
    assert outcome(town, case) == (RecipientOutcome.DISPROPORTIONATE, "effort")


def test_a_settled_notice_stays_settled_and_nonsense_changes_nothing(town: Town) -> None:
    case = erasing(town)
    path = settle_path(town, case)
    staff, _ = signed_in(town, "agent")
    token = token_in(staff.get("/dpo/cases").get_data(as_text=True))
    for answer in ("", "pending", "erased"):
        assert staff.client.post(path, data={"form_token": token, "answer": answer}).status_code == 422
    stranger = f"/dpo/cases/{case}/recipients/task_nobody"
    assert staff.client.post(stranger, data={"form_token": token, "answer": "acked"}).status_code == 404
    assert outcome(town, case) == (RecipientOutcome.PENDING, None)
    assert staff.client.post(path, data={"form_token": token, "answer": "acked"}).status_code == 303
    assert staff.client.post(path, data={"form_token": token, "answer": "ceased"}).status_code == 409
    assert outcome(town, case) == (RecipientOutcome.ACKED, None)
    auditor, _ = signed_in(town, "auditor", ident="stf_two")
    own = token_in(auditor.get("/dpo/cases").get_data(as_text=True))
    assert auditor.client.post(path, data={"form_token": own, "answer": "sent"}).status_code == 403


# Releases


@cache
def portfolio() -> tuple[list[Row], list[Row]]:
    """Made-up people who are gone, and those who are not; adding up their transactions takes a while."""
    people = [(each.standing, (str(each.number), analysable(each))) for each in make_subjects(7, date(2026, 3, 1))]
    gone = [row for standing, row in people if standing is not Standing.PRESENT]
    return gone, [row for standing, row in people if standing is Standing.PRESENT]


def planned(town: Town, ident: str = "rel_one", controller: ControllerId = FIRM) -> ReleaseCandidate:
    """A candidate with the report of a real table of made-up people."""
    profile = release_profile(town.house, "portfolio_statistics")
    gone, present = (read_cells(profile, rows, random.Random(1)) for rows in portfolio())
    candidate = prepare(profile, gone, town.house.policy.digest)
    told = report(candidate, live=present, earlier=())
    asked = ReleaseCandidate(ident, controller, profile.id, candidate.output.digest, told, town.clock.now())
    with town.unit() as unit:
        unit.release_candidates.add(asked)
        unit.commit()
    return asked


def found(town: Town, ident: str = "rel_one") -> ReleaseCandidate:
    with town.unit() as unit:
        candidate = unit.release_candidates.find(ident)
    assert candidate is not None
    return candidate


def test_a_dpo_reads_the_report_and_approves_exactly_these_files(town: Town) -> None:
    """Exports.md rules 6, 7; the approval is named, ledgered, and given once."""
    asked = planned(town)
    staff, _ = signed_in(town, "dpo")
    assert "waiting for approval" in text_of(staff.get("/dpo/exports"))
    said = text_of(staff.get("/dpo/exports/rel_one"))
    for words in (
        "120",
        asked.digest,
        "Singling somebody out withstood",
        "Financing needs change with age.",
        "People in a class",
    ):
        assert words in said, words
    done = sent(staff, "/dpo/exports/rel_one/approve")
    assert done.location == "/dpo/exports/rel_one"
    assert (found(town).approved_by, found(town).approved_at) == ("stf_one", town.clock.now())
    assert "Approved by Claire Petit" in text_of(staff.get("/dpo/exports/rel_one"))
    with town.house.records.connect() as connection:
        from sqlalchemy import text

        kinds = connection.execute(text("SELECT kind, actor FROM ledger_entries WHERE kind LIKE 'export.%'")).all()
    assert [tuple(each) for each in kinds] == [("export.approved", "stf_one")]
    assert "It was approved already." in text_of(staff.get("/dpo/exports/rel_one/approve"))
    token = token_in(staff.get("/dpo/exports").get_data(as_text=True))
    form = {"form_token": token, "digest": asked.digest}
    assert staff.client.post("/dpo/exports/rel_one/approve", data=form).status_code == 409


def test_other_files_are_not_approved(town: Town) -> None:
    planned(town)
    staff, _ = signed_in(town, "dpo")
    assert sent(staff, "/dpo/exports/rel_one/approve", digest="e" * 64).status_code == 409
    assert found(town).approved_by is None


def test_releases_are_for_dpo_and_auditor_of_their_controller_and_only_the_dpo_approves_freshly(town: Town) -> None:
    planned(town)
    planned(town, "rel_other", OTHER)
    auditor, _ = signed_in(town, "auditor")
    listed = auditor.get("/dpo/exports").get_data(as_text=True)
    assert "rel_one" in listed
    assert "rel_other" not in listed
    assert auditor.get("/dpo/exports/rel_other").status_code == 404
    assert auditor.get("/dpo/exports/rel_nobody").status_code == 404
    assert "/approve" not in auditor.get("/dpo/exports/rel_one").get_data(as_text=True)
    assert auditor.get("/dpo/exports/rel_one/approve").status_code == 403
    agent, _ = signed_in(town, "agent", ident="stf_two")
    assert agent.get("/dpo/exports").status_code == 403
    assert "/dpo/exports" not in agent.get("/dpo/cases").get_data(as_text=True)
    dpo, _ = signed_in(town, "dpo", ident="stf_three")
    token = token_in(dpo.get("/dpo/exports").get_data(as_text=True))
    foreign = {"form_token": token, "digest": found(town, "rel_other").digest}
    assert dpo.client.post("/dpo/exports/rel_other/approve", data=foreign).status_code == 404
    town.clock.forward(minutes=6)
    assert dpo.client.post("/dpo/exports/rel_one/approve", data=foreign).status_code == 403
    assert found(town).approved_by is None
    assert found(town, "rel_other").approved_by is None


def test_a_release_that_failed_an_attack_says_so(town: Town) -> None:
    asked = planned(town)
    told = dict(asked.report) | {
        "verdicts": {"singling_out": "failed", "linkability": "not_shown", "inference": "withstood"}
    }
    with town.unit() as unit:
        unit.release_candidates.add(replace(asked, id="rel_bad", report=told))
        unit.commit()
    staff, _ = signed_in(town, "dpo")
    said = text_of(staff.get("/dpo/exports/rel_bad"))
    assert "Singling somebody out failed" in said
    assert "Linking a row to a person not shown" in said


@pytest.mark.parametrize("language", ["fr", "en", "es", "pt"])
def test_releases_are_read_in_four_languages(town: Town, language: str) -> None:
    planned(town)
    staff, _ = signed_in(town, "dpo")
    for path in ("/dpo/exports", "/dpo/exports/rel_one", "/dpo/exports/rel_one/approve"):
        page = staff.get(path, headers={"Accept-Language": language})
        assert page.status_code == 200
        assert f'<html lang="{language}">' in page.get_data(as_text=True)

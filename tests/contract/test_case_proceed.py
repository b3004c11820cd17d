"""A case goes by itself from its opening to its closing: copy, letters, erasure, certificate, recipients.

Dsar rules 3-5, 37-42, 48-50, 53, 56, 58, 60, on both databases, with holders that really keep and delete rows.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from babel.dates import format_date
from sqlalchemy import update

from app.outbound.outbox import Delivered, LocalOutbox
from app.outbound.uploads import Whose
from app.store.disclosures import Disclosure
from app.store.rows.cases import CaseEventRow, HolderTaskRow
from app.wiring import House
from consent import events as ce
from consent import usecases as agreements
from consent.journey import Agreement
from consent.proposal import Proposal
from consent.record import State as Agreed
from consent.vocabulary import CategoryId, ConsentId, Locale, PartyId, PurposeId
from dsar import errors, usecases
from dsar import events as e
from dsar.case import Case, State
from dsar.vocabulary import Actor, HolderStatus, MessageKind, Outcome, PackageId, RecipientOutcome, Right, TaskKind
from tests.contract import case_house as town
from tests.waiting import came_to_pass

pytestmark = pytest.mark.slow
PARTNER = PartyId("patrivue")
ANA = "ana@example.org"


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    wait = timedelta(seconds=0.3)
    quick = town.quick(built, by_itself=True, first=wait, longest=wait)
    quick.work.launch(poll_seconds=0.05)
    yield quick
    quick.close()


def until(met: Callable[[], object], story: town.Story) -> None:
    """Wait, and say where the case stands when it does not come to pass."""
    if not came_to_pass(met):
        found = case_of(story)
        raise AssertionError((found.state, found.left, kinds(story)))


def case_of(story: town.Story) -> Case:
    with story.house.casework.reading() as unit:
        return unit.desk.cases.get(story.case)


def kinds(story: town.Story) -> list[str]:
    with story.house.casework.reading() as unit:
        return [e.kind_of(one.event) for one in unit.desk.cases.history(story.case)]


def state(story: town.Story, *wanted: State) -> Callable[[], bool]:
    return lambda: case_of(story).state in wanted


def agree(story: town.Story) -> ConsentId:
    """The person agrees to the overview with an outside reader, which then reads once."""
    house, at = story.house, town.now()
    asked = agreements.propose(
        house.units.writing(),
        house.policy,
        Proposal(house.controller, story.subject, town.OVERVIEW, PARTNER, categories=frozenset()),
        ids=house.units.ids,
        by=ce.Actor(ce.ActorKind.PARTY, PARTNER),
        channel=ce.Channel.API,
        at=at,
    )
    who = {
        "controller": house.controller,
        "consent": asked.id,
        "by": ce.Actor(ce.ActorKind.SUBJECT, story.subject),
        "channel": ce.Channel.PAGE,
        "at": at,
    }
    page = {"locale": Locale.FR, "template_digest": "a" * 64, "catalogue_digest": "b" * 64, "gpc": False}
    agreements.show(house.units.writing(), house.policy, **who, **page)
    answer = Agreement(frozenset(), 180, attended_only=False, institution=None, access_path=None)
    evidence = ce.Evidence(1, None, None, None, gpc=False)
    agreements.give(house.units.writing(), house.policy, answer, evidence=evidence, **who)
    with house.units.writing() as unit:
        unit.disclosures.add(
            Disclosure(
                id="dis_1",
                controller=house.controller,
                subject=story.subject,
                party=PARTNER,
                component=None,
                actor_role=None,
                categories=(town.BALANCES,),
                records=3,
                purpose=town.OVERVIEW,
                consent=asked.id,
                attended=False,
                action="read",
                at=at,
            )
        )
        unit.commit()
    return asked.id


def mails(house: House) -> list[Delivered]:
    return LocalOutbox(house.settings.data_dir / "outbox", town.now).delivered()


def links(house: House, kind: str) -> list[str]:
    said = [mail.message for mail in mails(house) if mail.message.template == kind]
    return [found[0] for one in said if (found := re.search(r"https?://\S+", one.text))]


def whole(story: town.Story) -> zipfile.ZipFile:
    whose = Whose(story.house.controller, story.subject)
    return zipfile.ZipFile(io.BytesIO(story.house.casework.office.copies.read(whose, story.copy)))


def test_from_opening_to_closing(house: House, tmp_path: Path) -> None:
    story = town.ask(house, rows=310)
    consent = agree(story)
    until(lambda: asked(story) and receipts(story), story)
    assert not links(house, "case-answered")
    assert story.answer_all() == 2
    until(state(story, State.APPROVAL), story)
    due = summary_due(story)
    check_decided(story)
    check_copy(story, consent, tmp_path)
    with pytest.raises(errors.CopyGone):
        fetch(story)  # nothing leaves before somebody approved it
    story.act(lambda desk: usecases.approve(desk, story.case, town.DPO))
    until(lambda: answered_with_copy(story), story)

    check_waiting(story)
    fetch(story)
    fetch(story)
    assert kinds(story).count("case.copy_fetched") == 1, "the second download is in the ledger only"
    until(lambda: "case.erasure_started" in kinds(story), story)
    with pytest.raises(errors.CopyGone):
        fetch(story)  # dsar rule 53: an erasure revokes earlier packages
    row, kept = story.holders[town.ACCOUNTS].rows[0], story.holders[town.FILES].rows[0]
    until(lambda: not house.vault.erasures.pending() and town.gone(story, town.ACCOUNTS, row), story)
    until(lambda: bool(open_tasks(story)), story)
    assert case_of(story).lines[story.gone].carried_out is None, "no holder has confirmed (rule 53)"
    drive(story, lambda: case_of(story).state is State.DISPATCHED)
    assert not town.gone(story, town.FILES, kept), "what the law keeps opens still"
    check_recipients(story)
    until(state(story, State.CLOSED), story)
    check_after(story, consent)
    assert summary_due(story) == due, "nothing of this moves the clock"


def asked(story: town.Story) -> bool:
    """The house has done its own part, so that nothing else writes to the case until a holder answers."""
    case = case_of(story)
    return len(open_tasks(story)) == 2 and len(case.answers) == 1 and case.acknowledged_at is not None


def receipts(story: town.Story) -> list[str]:
    with story.house.units.reading() as unit:
        return [one.id for one in unit.receipts.of_subject(story.house.controller, story.subject)]


def summary_due(story: town.Story) -> object:
    with house_unit(story) as unit:
        return unit.desk.cases.summary(story.case).due_strict


def house_unit(story: town.Story):
    return story.house.casework.reading()


def open_tasks(story: town.Story) -> list[str]:
    with house_unit(story) as unit:
        return [task.id for name in story.holders for task in unit.desk.cases.open_tasks(name, limit=10)]


def drive(story: town.Story, met: Callable[[], object]) -> None:
    """The holders pull and answer until it is so."""

    def pulled() -> object:
        story.answer_all()
        return met()

    until(pulled, story)


def check_decided(story: town.Story) -> None:
    """The house answered like any holder; the erasure is granted but for what a text keeps (rules 5, 48, 57)."""
    case = case_of(story)
    assert case.holders == ("regard", town.ACCOUNTS, town.FILES)
    assert case.lines[story.copy].outcome is Outcome.GRANTED
    assert case.lines[story.gone].outcome is Outcome.PARTLY_GRANTED
    with house_unit(story) as unit:
        (decided,) = [
            one.event
            for one in unit.desk.cases.history(story.case)
            if isinstance(one.event, e.LineDecided) and one.event.line == story.gone
        ]
    assert decided.categories == ("audit.trail", town.PAPERS)
    assert [one.value for one in decided.grounds] == ["legal_claims", "legal_obligation"]
    assert decided.by == "system"
    acknowledged = [one for one in case.messages.values() if one.kind is MessageKind.ACKNOWLEDGEMENT]
    assert len(acknowledged) == 1
    assert case.acknowledged_at is not None
    until(lambda: links(story.house, "case-received"), story)
    assert links(story.house, "case-received")[0].endswith(f"/fr/me/requests/{story.case}")


def check_copy(story: town.Story, consent: ConsentId, tmp_path: Path) -> None:
    """Dsar rules 37-40, 42: everything, named, with the digests the manifest says, and a PDF to read."""
    archive = whole(story)
    manifest = json.loads(archive.read("manifest.json"))
    for one in manifest["files"]:
        assert sha256(archive.read(one["name"])).hexdigest() == one["sha256"]
    assert {one["name"] for one in manifest["files"]} == set(archive.namelist()) - {"manifest.json"}
    assert [one["status"] for one in manifest["holders"]] == ["found"] * 3
    assert all(manifest["checklist"][section] for section in ("15.1.a", "15.1.c", "15.1.d", "15.1.f"))
    assert any("Patrivue" in entry for entry in manifest["checklist"]["15.1.c"]), "recipients by name (rule 38)"
    assert any("L.561-45" in entry for entry in manifest["checklist"]["15.1.f"])
    assert manifest["checklist"]["15.1.h"] is None, "none is said, not left out"
    everything = json.loads(archive.read("data.json"))["holders"]
    assert len(everything[town.ACCOUNTS][town.BALANCES]) == 310
    assert everything["regard"]["identity.civil"] == [{"name": "Ana Exemplo"}]
    trail = everything["regard"]["audit.trail"]
    assert {one["kind"] for one in trail} == {"agreement", "reading", "request"}
    assert {one["reference"] for one in trail if one["kind"] == "agreement"} == {consent}
    assert [name for name in archive.namelist() if name.startswith("receipts/")] == [
        f"receipts/{name}.jws" for name in receipts(story)
    ]
    looks = [name for name in archive.namelist() if name.endswith("audit-trail-reading.csv")]
    rows = list(csv.DictReader(io.StringIO(archive.read(looks[0]).decode("utf-8-sig"))))
    assert [row["reader"] for row in rows] == ["Patrivue"]
    pdf = tmp_path / "copy.pdf"
    pdf.write_bytes(archive.read("copy.pdf"))
    said = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
    for words in (
        "Une copie de vos données",
        "Ana Exemplo",
        str(story.case),
        "Qui les a reçues",
        "300 éléments sur 310",
    ):
        assert words in said, words


def fetch(story: town.Story) -> None:
    with house_unit(story) as unit:
        packages = [PackageId(one) for one in unit.desk.cases.get(story.case).packages] or [PackageId("pkg_gone")]
    story.act(lambda desk: usecases.record_fetch(desk, story.case, packages[0], Actor(story.subject, human=True)))


def answered_with_copy(story: town.Story) -> bool:
    with house_unit(story) as unit:
        return bool(usecases.ready_copies(unit.desk, story.case)) and bool(links(story.house, "case-answered"))


def check_waiting(story: town.Story) -> None:
    """Dsar rules 3, 53: the erasure waits for the copy, and the person is told until when."""
    with house_unit(story) as unit:
        begins = usecases.erasure_begins(unit.desk, story.case)
        sent = [one.dispatched_at for one in unit.desk.cases.get(story.case).messages.values() if one.dispatched_at]
    assert begins == max(sent) + timedelta(days=7)
    (letter,) = [mail for mail in mails(story.house) if mail.message.template == "case-answered"]
    told = format_date(begins.astimezone(ZoneInfo("Europe/Paris")).date(), "long", "fr")
    assert told in letter.message.text
    assert letter.message.locale == "fr"
    assert "case.erasure_started" not in kinds(story)


def check_recipients(story: town.Story) -> None:
    """Dsar rule 56: who looked and holds nothing here is written to, by reference, and waited for."""
    until(lambda: "case.recipient_answered" in kinds(story), story)
    with house_unit(story) as unit:
        tasks = {one.recipient: one for one in unit.desk.cases.recipients(story.case)}
    assert {party: task.outcome for party, task in tasks.items()} == {PARTNER: RecipientOutcome.SENT}
    until(lambda: [m for m in mails(story.house) if m.message.template == "recipient-erasure"], story)
    (letter,) = [m.message for m in mails(story.house) if m.message.template == "recipient-erasure"]
    assert letter.to == story.house.policy.parties[PARTNER].contact
    assert tasks[PARTNER].id in letter.text
    assert not any(word in letter.text for word in ("Ana", ANA, story.subject)), "by references only (rule 58)"
    told = tasks[PARTNER].id
    story.act(lambda desk: usecases.record_recipient(desk, told, RecipientOutcome.ACKED, by=town.DPO))


def check_after(story: town.Story, consent: ConsentId) -> None:
    """The certificate came by a link in the last mail; nobody is left, in no mail either (rules 49, 53, 54, 60)."""
    house = story.house
    (link,) = links(house, "certificate")
    token = link.rpartition("/")[2]
    assert len(token) == 43
    with house.units.reading() as unit:
        found = unit.certificate_links.find(sha256(token.encode()).digest())
        ended = unit.consents.find(house.controller, consent)
    assert found is not None
    assert (found.case, found.erasure) == (story.case, f"era_{story.gone}")
    assert ended is not None
    assert ended.state is Agreed.ENDED_BY_CONTROLLER
    (certificate,) = house.vault.erasures.certificates(found.erasure)
    assert certificate["statement"] == "keys destroyed"
    assert house.profiles.profile(story.subject) is None
    assert not any(ANA in str(mail.message.to) or ANA in mail.message.text for mail in mails(house))
    with house_unit(story) as unit:
        kept = {one.category: one.until for one in unit.desk.cases.retentions(story.case)}
    assert kept[town.PAPERS] == town.ENDED + timedelta(days=1826)
    history = kinds(story)
    assert history.count("case.carried_out") == history.count("case.erasure_started") == 1
    assert "case.left_to_staff" not in history
    told = "".join(town.jobs(house.records))
    assert not any(word in told for word in ("Ana", "example.org", "passport", "HYPERLINK", token))


def test_a_look_that_died_is_taken_again_within_the_hour(house: House) -> None:
    """Operations.md section 3: nothing is lost, not even to a fault that no restart resumes."""
    house.work.register(town.BY_HAND)
    story = town.ask(house, rows=2, rights=(Right.ACCESS,))
    time.sleep(0.5)
    house.work.register(house.casework.handlers())
    assert house.casework.sweeps()["cases"]() == 0, "what moved lately has its own look"
    with house.records.begin() as connection:
        connection.execute(update(CaseEventRow).values(at=town.now() - timedelta(hours=2)))
    assert case_of(story).state is State.VERIFIED
    assert house.casework.sweeps()["cases"]() == house.casework.sweeps()["cases"]() == 1
    until(lambda: len(open_tasks(story)) == 2, story)


def test_what_stops_a_use_stops_it_at_once_and_is_answered(house: House) -> None:
    """Dsar rules 7, 8: the consent is gone before anybody approved the letter."""
    story = town.ask(house, rows=2, rights=(Right.RECTIFICATION,))
    consent = agree(story)
    with story.desk() as desk:
        asked = usecases.open_case(desk, town.intake_of(story, Right.WITHDRAWAL, Right.MARKETING_OBJECTION))
    with house.units.reading() as unit:
        found = unit.consents.find(house.controller, consent)
    assert found is not None
    assert found.state is Agreed.WITHDRAWN
    other = replace(story, case=asked.case)
    until(state(other, State.APPROVAL), other)
    with other.desk() as desk:
        usecases.approve(desk, other.case, town.DPO)
    until(state(other, State.CLOSED), other)
    assert all(line.carried_out for line in case_of(other).lines.values())


def test_an_erasure_alone_waits_for_no_copy(house: House) -> None:
    story = town.ask(house, rows=2, rights=(Right.ERASURE,))
    drive(story, state(story, State.APPROVAL))
    story.act(lambda desk: usecases.approve(desk, story.case, town.DPO))
    drive(story, state(story, State.CLOSED))
    assert links(house, "certificate")


def test_a_holder_that_fails_keeps_the_case_open(house: House) -> None:
    """Dsar rule 40: nothing is sealed while a holder is missing or failed; its later answer completes the search."""
    story = town.ask(house, rows=2, rights=(Right.ACCESS,))
    until(lambda: asked(story), story)
    due = summary_due(story)
    with story.desk() as desk:
        (task,) = desk.cases.open_tasks(town.FILES, limit=5)
    failed = town.HolderAnswer(town.FILES, HolderStatus.ERROR, town.now())
    story.act(lambda desk: usecases.record_answer(desk, task.id, failed))
    story.holders.pop(town.FILES).answer  # noqa: B018
    assert story.answer_all() == 1
    time.sleep(1)
    assert case_of(story).state is State.SEARCHING
    assert case_of(story).packages == {}
    assert summary_due(story) == due
    again = town.HolderAnswer(town.FILES, HolderStatus.NONE, town.now())
    story.act(lambda desk: usecases.record_answer(desk, task.id, again))
    until(state(story, State.APPROVAL), story)


def test_a_suspended_holder_keeps_the_case_open_in_sight_of_staff(house: House) -> None:
    """Dsar rule 40: no package goes without a registered holder; resumed it answers, and the case goes on."""
    house.work.register(town.BY_HAND)
    story = town.ask(house, rows=2, rights=(Right.ACCESS,))
    with house.units.writing() as unit:
        unit.clients.suspend(town.FILES, town.now())
        unit.commit()
    house.work.register(house.casework.handlers())
    story.act(lambda desk: usecases.acknowledge(desk, story.case))
    until(lambda: case_of(story).left, story)
    found = case_of(story)
    assert (found.state, found.left) == (State.SEARCHING, "holder_suspended")
    assert found.holders == ("regard", town.ACCOUNTS, town.FILES)
    late = story.holders.pop(town.FILES)
    until(lambda: story.answer_all() or len(case_of(story).answers) == 2, story)
    time.sleep(0.5)
    assert (case_of(story).state, case_of(story).packages) == (State.SEARCHING, {})
    with house.units.writing() as unit:
        unit.clients.resume(town.FILES)
        unit.commit()
    story.holders = {town.FILES: late}
    drive(story, state(story, State.APPROVAL))
    assert case_of(story).left is None


def test_a_long_silent_holder_is_seen_by_the_hourly_look(house: House) -> None:
    """Dsar rule 40: asked a day ago, never heard of since."""
    story = town.ask(house, rows=2, rights=(Right.ACCESS,))
    until(lambda: len(open_tasks(story)) == 2 and len(case_of(story).answers) == 1, story)
    time.sleep(0.5)
    assert case_of(story).left is None
    with house.records.begin() as connection:
        long_ago = town.now() - timedelta(hours=25)
        connection.execute(update(CaseEventRow).values(at=long_ago))
        connection.execute(update(HolderTaskRow).values(created_at=long_ago))
    assert house.casework.sweeps()["cases"]() == 1
    until(lambda: case_of(story).left == "holder_silent", story)
    drive(story, state(story, State.APPROVAL))


def test_what_people_decide_is_left_to_them(house: House) -> None:
    """Dsar rule 46: a robot grants access; whether the data is wrong is for somebody to say. Said once."""
    story = town.ask(house, rows=2, rights=(Right.ACCESS, Right.RECTIFICATION))
    drive(story, lambda: case_of(story).left)
    case = case_of(story)
    assert (case.state, case.left) == (State.REVIEW, "decision_needed")
    assert case.lines[story.copy].outcome is Outcome.GRANTED
    time.sleep(0.5)
    assert kinds(story).count("case.left_to_staff") == 1


def test_what_was_sent_back_is_not_sent_in_again(house: House) -> None:
    story = town.ask(house, rows=2, rights=(Right.ACCESS,))
    drive(story, state(story, State.APPROVAL))
    story.act(lambda desk: usecases.send_back(desk, story.case, town.DPO))
    time.sleep(0.8)
    assert (case_of(story).state, case_of(story).left) == (State.REVIEW, "returned")
    story.act(lambda desk: usecases.submit(desk, story.case, town.DPO))
    story.act(lambda desk: usecases.approve(desk, story.case, Actor("staff_other", human=True, dpo=True)))
    until(state(story, State.CLOSED), story)


def test_taken_elsewhere_there_is_no_pdf_and_only_what_is_portable(house: House) -> None:
    """Dsar rules 44, 45."""
    story = town.ask(house, rows=2, rights=(Right.PORTABILITY,))
    agree(story)
    drive(story, state(story, State.APPROVAL))
    (line,) = case_of(story).lines
    whose = Whose(house.controller, story.subject)
    archive = zipfile.ZipFile(io.BytesIO(house.casework.office.copies.read(whose, line)))
    assert "copy.pdf" not in archive.namelist()
    everything = json.loads(archive.read("data.json"))["holders"]
    assert {category for held in everything.values() for category in held} == {town.BALANCES}


def looked_against_laundering(story: town.Story) -> None:
    with story.house.units.writing() as unit:
        for ident, party in (("dis_1", "compliance"), ("dis_2", "banque_armorel")):
            unit.disclosures.add(
                Disclosure(
                    id=ident,
                    controller=story.house.controller,
                    subject=story.subject,
                    party=PartyId(party),
                    component=None,
                    actor_role=None,
                    categories=(CategoryId("aml.file"),),
                    records=1,
                    purpose=PurposeId("aml_duties"),
                    consent=None,
                    attended=False,
                    action="read",
                    at=town.now(),
                )
            )
        unit.commit()


def test_what_is_held_against_laundering_only_shows_nowhere(house: House) -> None:
    """Dsar rule 42."""
    story = town.ask(house, rows=2, rights=(Right.ACCESS,))
    story.holders[town.FILES].category = CategoryId("aml.file")
    story.holders[town.FILES].rows.clear()
    story.holders[town.FILES].store(story.subject, {"note": "suspicion"})
    looked_against_laundering(story)
    drive(story, state(story, State.APPROVAL))
    archive = whole(story)
    said = b"".join(archive.read(name) for name in archive.namelist() if not name.endswith(".pdf"))
    assert b"Armorel" not in said, "who got nothing else is no recipient to be named"
    assert b"compliance" not in said
    assert b"aml" not in said.replace(b"aml_duties", b"")
    assert b"suspicion" not in said
    with house_unit(story) as unit:
        tasks = unit.desk.cases.tasks(story.case, TaskKind.SEARCH)
        (answer,) = [task.answer for task in tasks if task.holder == town.FILES]
    assert [one.reason for one in answer.categories] == ["aml_only"]

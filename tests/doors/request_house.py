"""Requests made on the pages and carried on as the durable work and staff would: search, seal, decide, approve."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.outbound.package import Copies, Copy
from app.outbound.uploads import Whose
from app.vault.keys import Target
from consent.decision import local_day
from consent.vocabulary import CategoryId, ComponentId, ControllerId, PurposeId, SubjectRef
from dsar import usecases
from dsar.case import Case
from dsar.package import CategoryResult, Filled, HolderAnswer, Manifest, NoneToReport, PackageFile, Section
from dsar.ports import Desk
from dsar.retention import Holding, matrix
from dsar.usecases import Decision
from dsar.vocabulary import (
    SYSTEM,
    Actor,
    CaseId,
    Ground,
    HolderStatus,
    LineId,
    Outcome,
    PackageId,
    Right,
    TaskKind,
)
from tests.doors.pages_house import MAILBOX, Town, Visitor, enrol_passkey, token_in, use_passkey

DPO = Actor("stf_dpo", human=True, dpo=True)
HOLDER = ComponentId("accounts_store")
BALANCES, PAPERS = CategoryId("accounts.balances"), CategoryId("identity.papers")
OVERVIEW, AML = PurposeId("wealth_overview"), PurposeId("aml_duties")
CHECK = "/me/requests/new/check"


def strong(town: Town, visitor: Visitor, subject: SubjectRef, email: str = MAILBOX) -> Any:
    """Sign in by e-mail, add a passkey with the printed code, use it; return the passkey."""
    visitor.sign_in(town, email)
    passkey = enrol_passkey(visitor, town.printed_code("subject", subject), town.doors.origin)
    town.clock.forward(minutes=1)  # a passkey proves nothing for a request as old as itself (dsar rule 27)
    assert use_passkey(visitor, passkey).status_code == 303
    return passkey


def send(visitor: Visitor, *rights: str, text: str = "", at: str | None = None) -> Any:
    """Fill the form of the last step in and send it."""
    asked = "&".join(f"right={right}" for right in rights)
    page = visitor.get(at or f"{CHECK}?{asked}").get_data(as_text=True)
    fields = {"form_token": token_in(page), "right": list(rights), "text": text}
    return visitor.client.post(f"/{visitor.locale}{CHECK}", data=fields)


def ask(visitor: Visitor, *rights: str, text: str = "") -> CaseId:
    """Send a request that opens a case; return its id."""
    answer = send(visitor, *rights, text=text)
    assert answer.status_code == 303, answer.get_data(as_text=True)
    return CaseId(answer.location.rsplit("/", 1)[1])


@dataclass
class Work:
    """Everybody but the person."""

    town: Town

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        with self.town.unit() as unit:
            yield self.town.doors.desk(unit)
            unit.commit()

    def case(self, case: CaseId) -> Case:
        with self.desk() as desk:
            return desk.cases.get(case)

    def line(self, case: CaseId, right: Right) -> LineId:
        return next(line.id for line in self.case(case).lines.values() if line.right is right)

    def post(self, case: CaseId) -> None:
        """Dispatch every message that waits."""
        with self.desk() as desk:
            for message in desk.cases.get(case).messages.values():
                if message.dispatched_at is None:
                    usecases.dispatch_message(desk, message.id, channel="space", proof=f"posting:{message.id}")

    def acknowledge(self, case: CaseId) -> None:
        with self.desk() as desk:
            usecases.acknowledge(desk, case)
        self.post(case)

    def search(self, case: CaseId) -> None:
        """One holder is asked, finds something, and says so."""
        with self.desk() as desk:
            (task,) = usecases.start_search(desk, case, (HOLDER,))
            found = CategoryResult(BALANCES, HolderStatus.FOUND, 2)
            usecases.record_answer(desk, task, HolderAnswer(HOLDER, HolderStatus.FOUND, desk.clock.now(), (found,)))

    def seal(self, case: CaseId, right: Right = Right.ACCESS) -> PackageId:
        """Put a copy together and on record."""
        line = self.line(case, right)
        with self.desk() as desk:
            stored = desk.cases.get(case)
            assert stored.subject is not None
            answers = [task.answer for task in desk.cases.tasks(case, TaskKind.SEARCH) if task.answer]
            copy = _copy(case, line, tuple(answers), desk.clock.now())
            house = self.town.house
            Copies(house.vault, house.casework.files).keep(Whose(stored.controller, stored.subject), line, copy)
            return usecases.seal_package(desk, case, copy.manifest)

    def decide(self, case: CaseId, right: Right, outcome: Outcome = Outcome.GRANTED, *grounds: Ground) -> None:
        categories = (PAPERS,) if grounds else ()
        second = Actor("stf_two", human=True) if outcome is Outcome.REFUSED else None
        by = Actor("stf_one", human=True) if outcome is Outcome.REFUSED else SYSTEM
        decision, line = Decision(outcome, by, grounds, categories, approved_by=second), self.line(case, right)
        with self.desk() as desk:
            usecases.decide_line(desk, case, line, decision)

    def approve(self, case: CaseId) -> None:
        with self.desk() as desk:
            usecases.submit(desk, case)
            usecases.approve(desk, case, DPO)

    def reply(self, case: CaseId, *rights: Right) -> None:
        lines = [self.line(case, right) for right in rights]
        with self.desk() as desk:
            usecases.prepare_reply(desk, case, lines)
        self.post(case)

    def hand_over(self, case: CaseId) -> PackageId:
        """The whole way of an access line: searched, sealed, granted, approved, told."""
        self.acknowledge(case)
        self.search(case)
        package = self.seal(case)
        self.decide(case, Right.ACCESS)
        self.approve(case)
        self.reply(case, Right.ACCESS)
        return package

    def erase(self, case: CaseId) -> str:
        """Begin the erasure and carry it out in the vault, papers kept by law; return the erasure's id."""
        line, erasures = self.line(case, Right.ERASURE), self.town.house.vault.erasures
        with self.desk() as desk:
            stored = desk.cases.get(case)
            held = [Holding(HOLDER, BALANCES, OVERVIEW), Holding(HOLDER, PAPERS, AML)]
            today = local_day(desk.policy, self.town.house.controller, self.town.clock.now())
            triggers = {"relationship_ended": today, "consent_ended": today}
            cells = matrix(held, desk.policy, triggers=triggers, cohorts={}, on=today)
            usecases.begin_erasure(desk, case, line, cells=cells, recipients=())
        assert stored.subject is not None
        erasure = f"era_{line}"
        self._shred(erasure, stored.controller, stored.subject)
        self._confirm(case, line, f"{erasure}:{hashlib.sha256(erasure.encode()).hexdigest()}")
        assert erasures.certificates(erasure)
        return erasure

    def _shred(self, erasure: str, controller: ControllerId, subject: SubjectRef) -> None:
        erasures = self.town.house.vault.erasures
        erasures.request(erasure, [Target(controller, subject)])
        erasures.drive(erasure)

    def _confirm(self, case: CaseId, line: LineId, evidence: str) -> None:
        """Holders confirm, search again, and the line is done."""
        for kind in (TaskKind.ERASE, TaskKind.VERIFY):
            with self.desk() as desk:
                if kind is TaskKind.VERIFY:
                    usecases.verify_erasure(desk, case, line)
                for task in desk.cases.tasks(case, kind):
                    usecases.record_answer(desk, task.id, _confirmed(task.kind, desk.clock.now()))
        with self.desk() as desk:
            usecases.carry_out(desk, case, line, evidence)


def _confirmed(kind: TaskKind, at: datetime) -> HolderAnswer:
    kept = CategoryResult(PAPERS, HolderStatus.RETAINED, 1, "aml")
    gone = CategoryResult(BALANCES, HolderStatus.ERASED, 2)
    results = (kept, gone) if kind is TaskKind.ERASE else (kept,)
    return HolderAnswer(HOLDER, HolderStatus.RETAINED, at, results)


def _copy(case: CaseId, line: LineId, answers: tuple[HolderAnswer, ...], at: datetime) -> Copy:
    """A small real archive and the manifest that names its files."""
    raw = json.dumps({"balances": [1200, 80]}).encode()
    files = (PackageFile("data.json", "application/json", len(raw), hashlib.sha256(raw).hexdigest()),)
    said: dict[Section, Filled | NoneToReport] = {section: Filled(("See the register.",)) for section in Section}
    manifest = Manifest(case, line, at, answers, said, files)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("data.json", raw)
        archive.writestr("copy.pdf", b"%PDF-1.7\n" + b"0" * 20_000)
    return Copy(manifest, target.getvalue())

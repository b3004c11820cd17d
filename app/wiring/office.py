"""The office of cases on a real store: copies, letters, and this service itself as a holder.

Fits `app.workflows.cases.Household` and `Correspondence`, and `app.workflows.proceeding.Office`. Rows are written in
the unit handed in; bytes are sealed by the vault, whose own store is another one. Leaves out deciding anything.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from app import letters
from app.outbound import household
from app.outbound.checklist import Tailored, checklist
from app.outbound.errors import PdfRefused
from app.outbound.package import Copies, Copy, assemble
from app.outbound.uploads import File, Upload, UploadRefused, Uploads, Whose, gather
from app.outbound.wording import Heading, code_words, package_words, speech_of
from app.profiles import Profile, opened
from app.receipts import Receipts
from app.store.certificates import CertificateLink
from app.store.unit import RecordsUnit
from app.vault.core import Vault
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.wiring.caseunit import CaseUnitFace, UnknownHolderError, Within, end_agreements, is_live
from app.workflows.cases import erasure_of, evidence_of
from app.workflows.proceeding import HOUSE_HOLDER, NotMakeableError
from consent.events import Actor, ActorKind
from consent.policy import Policy
from consent.vocabulary import CategoryId, ComponentId, Locale, PartyId, SubjectRef
from dsar import clock, usecases
from dsar.case import Case
from dsar.events import ReviewStarted, SearchCompleted
from dsar.holdings import AUDIT_TRAIL, holdings, portable
from dsar.package import CategoryResult, HolderAnswer
from dsar.ports import HolderTask
from dsar.vocabulary import (
    FateKind,
    HolderStatus,
    LineId,
    MessageId,
    MessageKind,
    Right,
    TaskId,
    TaskKind,
)

TOKEN_BYTES: Final = 32
"""Of the link to a certificate: 256 bits (dsar rule 30)."""
_ALL: Final = 1_000_000_000
"""A copy is complete: every look, however many (dsar rule 39)."""
_CASES: Final = Actor(ActorKind.SYSTEM, "cases")
_LETTERS: Mapping[MessageKind, str] = {
    MessageKind.ACKNOWLEDGEMENT: "case-received",
    MessageKind.REPLY: "case-answered",
    MessageKind.REFUSAL: "case-answered",
    MessageKind.END_NOTICE: "case-answered",
}
"""What tells of a message; the others get `case-message`."""
_SPOKEN: Mapping[str, Locale] = {"FR": Locale.FR, "ES": Locale.ES, "PT": Locale.PT}
"""In which language a party is written to, by country; the others get English."""


@dataclass(frozen=True, slots=True)
class CaseOffice:
    """Makes what a person gets, and answers for what this service holds."""

    vault: Vault
    uploads: Uploads
    copies: Copies
    policy: Policy
    issuer: str
    entropy: Callable[[int], bytes]

    # This service as a holder

    def search(self, unit: CaseUnitFace, task: HolderTask) -> HolderAnswer:
        """Keep what there is, sealed, as a holder's upload, and say what it is (dsar rules 38-40)."""
        case, at = unit.desk.cases.get(task.case), unit.desk.clock.now()
        found = self._own_records(unit, case, task.subject)
        if not found:
            return HolderAnswer(HOUSE_HOLDER, HolderStatus.NONE, at)
        digest = self.uploads.keep(Whose(case.controller, task.subject), task.id, HOUSE_HOLDER, found)
        results = tuple(CategoryResult(one, HolderStatus.FOUND, len(records)) for one, records in found.items())
        return HolderAnswer(HOUSE_HOLDER, HolderStatus.FOUND, at, results, digest=digest)

    def _own_records(self, unit: CaseUnitFace, case: Case, subject: SubjectRef) -> Upload:
        """Nothing for somebody whose keys are gone: there is nothing under which it could be sealed."""
        records = unit.records
        stored = records.subjects.get(subject)
        profile = opened(self.vault, subject, stored) if stored is not None else None
        if stored is None or profile is None:
            return {}
        own = household.Own(
            profile=profile,
            locale=case.locale,
            since=stored.created_at,
            consents=records.consents.of_subject(case.controller, subject),
            looked=records.disclosures.of_subject(subject, limit=_ALL, without=self.policy.aml_only()),
            cases=unit.desk.cases.of_subject(case.controller, subject),
        )
        speech = speech_of(self.policy, case.controller, case.locale)
        return household.own_records(own, self.policy, code_words(speech), unit.desk.clock.now())

    def erased(self, unit: CaseUnitFace, task: HolderTask) -> HolderAnswer:
        """Say what went with the keys and what stays (dsar rules 49, 53)."""
        kept = _retained(task)
        gone = {one.category for one in task.instructions} - kept
        results = [CategoryResult(category, HolderStatus.ERASED, 0) for category in sorted(gone)]
        return _told(unit.desk.clock.now(), [*results, *self._kept(unit, task)])

    def searched_again(self, unit: CaseUnitFace, task: HolderTask) -> HolderAnswer:
        """Look again: nobody may be left but in what is retained (dsar rule 53)."""
        results = self._kept(unit, task)
        stored = unit.records.subjects.get(task.subject)
        if stored is not None and stored.profile is not None and household.CIVIL not in _retained(task):
            results.append(CategoryResult(household.CIVIL, HolderStatus.FOUND, 1))
        return _told(unit.desk.clock.now(), results)

    def _kept(self, unit: CaseUnitFace, task: HolderTask) -> list[CategoryResult]:
        trail = len(unit.records.consents.of_subject(task.controller, task.subject))
        trail += len(unit.desk.cases.of_subject(task.controller, task.subject))
        counts = {AUDIT_TRAIL: trail}
        return [
            CategoryResult(category, HolderStatus.RETAINED, counts.get(category, 1), "retention")
            for category in sorted(_retained(task))
        ]

    # Copies

    def make(self, unit: CaseUnitFace, case: Case, line: LineId) -> Copy:
        """Assemble the copy of a line from what every holder sent (dsar rules 37-45).

        Raises NotMakeableError, PackageIncomplete.
        """
        try:
            return self._assembled(unit, case, line)
        except (UploadRefused, UnknownHolderError) as fault:
            raise NotMakeableError(fault.code) from fault
        except PdfRefused as fault:
            raise NotMakeableError("pdf_refused") from fault
        except (Erased, UnknownKey, UnknownSubject) as fault:
            raise NotMakeableError("keys_gone") from fault

    def _assembled(self, unit: CaseUnitFace, case: Case, line: LineId) -> Copy:
        answers = _answers(unit, case)
        data = gather(self.uploads, Whose(case.controller, _known(case)), answers)
        elsewhere = case.lines[line].right is Right.PORTABILITY
        if elsewhere:
            allowed = portable(self.policy, unit.agreed(case.controller, _known(case)))
            data = {holder: _only(upload, allowed) for holder, upload in data.items()}
        made_at = _as_of(unit, case)
        speech = speech_of(self.policy, case.controller, case.locale)
        heading = Heading(case.id, self._name_of(unit.records, _known(case)), made_at)
        names: dict[str, str] = {holder: self._holder_name(unit, case, holder) for holder in case.holders}
        return assemble(
            case.id,
            line,
            tuple(answers.values()),
            data,
            checklist(self.policy, self._tailored(unit, case, answers.values()), speech),
            words=package_words(self.policy, case.controller, speech, heading, names),
            made_at=made_at,
            readable=not elsewhere,
            enclosed=self._receipts(unit, case, made_at),
        )

    def _receipts(self, unit: CaseUnitFace, case: Case, made_at: datetime) -> list[File]:
        """Return the signed receipts of every agreement there was by then, each a file of its own (rules 38, 39)."""
        stored = unit.records.receipts.of_subject(case.controller, _known(case))
        signed = [(one, Receipts(self.vault).open(one)) for one in stored if one.made_at <= made_at]
        return [
            (f"receipts/{one.id}.jws", "application/jose", text.encode())
            for one, text in sorted(signed, key=lambda pair: pair[0].id)
            if isinstance(text, str)
        ]

    def _tailored(self, unit: CaseUnitFace, case: Case, answers: Collection[HolderAnswer]) -> Tailored:
        subject = _known(case)
        held = holdings(
            answers,
            self.policy,
            case.controller,
            party_of=lambda holder: PartyId(unit.party_of(holder)),
            house=HOUSE_HOLDER,
            agreed=unit.agreed(case.controller, subject),
        )
        agreements = unit.records.consents.of_subject(case.controller, subject)
        holders = {PartyId(unit.party_of(holder)) for holder in case.holders if holder != HOUSE_HOLDER}
        banks = {one.institution for one in agreements if one.institution is not None}
        return Tailored(case.controller, held, unit.recipients(case.controller, subject) | holders, banks)

    def _name_of(self, records: RecordsUnit, subject: SubjectRef) -> str | None:
        profile = self._profile(records, subject)
        return profile.name if profile is not None else None

    def _profile(self, records: RecordsUnit, subject: SubjectRef) -> Profile | None:
        stored = records.subjects.get(subject)
        return opened(self.vault, subject, stored) if stored is not None else None

    def _holder_name(self, unit: CaseUnitFace, case: Case, holder: ComponentId) -> str:
        """Return the name people know a holder by; this service goes by the controller's."""
        if holder == HOUSE_HOLDER:
            return self.policy.controllers[case.controller].brand_name
        party = self.policy.parties.get(unit.party_of(holder))
        return party.brand_name if party is not None else holder

    def keep(self, case: Case, line: LineId, copy: Copy) -> None:
        """Put a copy to rest under the person's key."""
        self.copies.keep(Whose(case.controller, _known(case)), line, copy)

    # Erasure: what has to be done while it is known who the person is

    def evidence(self, line: LineId) -> str | None:
        """Return what names the certificate of a line's erasure; None before there is one."""
        return evidence_of(self.vault.erasures, line)

    def part(self, unit: CaseUnitFace, case: Case, line: LineId) -> None:
        """End what the person agreed to, and put aside the letter with the link to the certificate."""
        self._end_agreements(unit, case)
        profile = self._profile(unit.records, _known(case))
        if profile is None:
            return
        token = urlsafe_b64encode(self.entropy(TOKEN_BYTES)).rstrip(b"=").decode()
        link = f"{self.issuer}/{case.locale.value}/certificates/{token}"
        letter = letters.write("certificate", self.policy.controllers[case.controller], case.locale, link=link)
        mail = unit.records.mail_queue.hold(case.controller, to=profile.email, **_said(letter))
        kept = CertificateLink(case.controller, case.id, erasure_of(line), unit.desk.clock.now(), mail)
        unit.records.certificate_links.add(hashlib.sha256(token.encode()).digest(), kept)

    def _end_agreements(self, unit: CaseUnitFace, case: Case) -> None:
        """GDPR art. 17(1)(b): nothing is read on an agreement of somebody who is erased."""
        at = unit.desk.clock.now()
        live = [one for one in unit.records.consents.of_subject(case.controller, _known(case)) if is_live(one, at)]
        end_agreements(Within(unit.records), live, by=_CASES, at=at)

    def notify(self, unit: CaseUnitFace, case: Case, told: Mapping[TaskId, PartyId]) -> None:
        """Write to recipients by mail, naming the person by the recipient's own handle (GDPR art. 19; rule 56)."""
        for task, party in told.items():
            self._write_to(unit, case, task, party)

    def _write_to(self, unit: CaseUnitFace, case: Case, task: TaskId, party: PartyId) -> None:
        listed = self.policy.parties.get(party)
        if listed is None:
            return
        known_as = unit.records.subjects.handle_of(_known(case), party)
        agreements = unit.records.consents.of_subject(case.controller, _known(case))
        letter = letters.write(
            "recipient-erasure",
            self.policy.controllers[case.controller],
            _SPOKEN.get(listed.country, Locale.EN),
            reference=task,
            handle=known_as or "",
            agreements=", ".join(one.id for one in agreements if party in one.readers),
            due=unit.desk.cases.recipient(task).due,
            dpo=self.policy.controllers[case.controller].dpo_email,
        )
        unit.records.mail_queue.send(case.controller, to=listed.contact, **_said(letter), about=task)

    # Letters

    def post(self, unit: CaseUnitFace, case: Case, message: MessageId) -> bool:
        """Tell the person that a message is in their space; without a space, send the letter that was put aside.

        False when the message has not been dispatched by this: the mail's own hand-over is its dispatch (rule 60).
        """
        profile = self._profile(unit.records, _known(case))
        if profile is None:
            self._send_farewell(unit, case, message)
            return False
        kind = _LETTERS.get(case.messages[message].kind, "case-message")
        controller = self.policy.controllers[case.controller]
        values = {"link": f"{self.issuer}/{case.locale.value}/me/requests/{case.id}", "reference": case.id}
        letter = letters.write(kind, controller, case.locale, **values, **self._dates(unit, case, message))
        unit.records.mail_queue.send(case.controller, to=profile.email, **_said(letter))
        return True

    def _dates(self, unit: CaseUnitFace, case: Case, message: MessageId) -> Mapping[str, object]:
        """Return the day by which an answer is due, and the day an erasure begins that waits for its copy."""
        due = usecases.dates_of(unit.desk, case).due_strict
        begins = usecases.erasure_begins_if_sent(unit.desk, case.id, message)
        zone = self.policy.controllers[case.controller].time_zone
        return {"due": due, "erased_from": clock.local_day(begins, zone) if begins is not None else None}

    def _send_farewell(self, unit: CaseUnitFace, case: Case, message: MessageId) -> None:
        for line in case.messages[message].lines:
            link = unit.records.certificate_links.of_erasure(erasure_of(line))
            if link is not None and link.mail is not None:
                unit.records.certificate_links.deliver(link.erasure, message)
                unit.records.mail_queue.release(link.mail)


def _said(letter: letters.Letter) -> dict[str, str]:
    return {
        "subject": letter.subject,
        "text": letter.text,
        "html": letter.html,
        "kind": letter.kind,
        "locale": letter.locale.value,
    }


def _known(case: Case) -> SubjectRef:
    if case.subject is None:
        raise NotMakeableError("no_subject")
    return case.subject


def _answers(unit: CaseUnitFace, case: Case) -> dict[TaskId, HolderAnswer]:
    """Return the latest answer of each holder, in the order they were asked."""
    latest = {task.holder: task for task in unit.desk.cases.tasks(case.id, TaskKind.SEARCH)}
    asked = [latest[holder] for holder in case.holders if holder in latest]
    return {task.id: task.answer for task in asked if task.answer is not None}


def _as_of(unit: CaseUnitFace, case: Case) -> datetime:
    """Return when the search was complete: a copy made again after a crash is the same copy."""
    done = [one.event.at for one in unit.desk.cases.history(case.id) if isinstance(one.event, _COMPLETE)]
    return done[-1] if done else unit.desk.clock.now()


_COMPLETE = (SearchCompleted, ReviewStarted)


def _only(upload: Upload, allowed: Collection[CategoryId]) -> Upload:
    return {category: records for category, records in upload.items() if category in allowed}


def _retained(task: HolderTask) -> set[CategoryId]:
    return {one.category for one in task.instructions if one.fate is FateKind.RETAIN}


def _told(at: datetime, results: list[CategoryResult]) -> HolderAnswer:
    """Return the answer its results make: the strongest word any category asks for."""
    said = {one.status for one in results}
    order = (HolderStatus.FOUND, HolderStatus.RETAINED, HolderStatus.ERASED)
    return HolderAnswer(
        HOUSE_HOLDER, next((one for one in order if one in said), HolderStatus.NONE), at, tuple(results)
    )

"""Cases on a real store: the desk of a unit of work, sealed notes, and the handlers of the work cases ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256

from app.calendars import Calendars
from app.outbound.package import Copies
from app.outbound.uploads import Named, Uploads, Whose
from app.profiles import HOUSE
from app.sdk.sealed import key_id_of
from app.store.cases import SqlCases, SqlNotes
from app.store.mailqueue import about
from app.store.sealedfiles import SealedFolder
from app.store.unit import RecordsUnit, Units
from app.vault.certificate import canonical
from app.vault.core import Vault
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import Scope
from app.vault.ports import Erasure, Json
from app.wiring.caseunit import CaseUnitFace, SparingSubjects, UnknownHolderError, holding_party
from app.wiring.office import CaseOffice
from app.workflows.cases import CaseWork, Waits
from app.workflows.durable import Handler, Sweep
from app.workflows.mail import MailUnit
from app.workflows.proceeding import SWEPT, CaseCourse
from consent.policy import Policy
from consent.ports import Journal
from consent.vocabulary import ComponentId, ControllerId, PartyId, Shredded, SubjectRef
from dsar.case import State
from dsar.errors import CaseChanged
from dsar.ports import Desk
from dsar.practice import Practice
from dsar.usecases import (
    PROCEED,
    dispatch_message,
    end_retentions,
    expire_copy,
    leave_to_staff,
    record_recipient,
)
from dsar.vocabulary import SYSTEM, RecipientOutcome, TaskId

__all__ = ["NOTES", "CaseUnitFace", "Casework", "SparingSubjects", "UnknownHolderError", "VaultNotes", "holding_party"]

NOTES = "case.notes"
LETTER_REFUSED = "letter_refused"
"""Why a case, or a notice to a recipient, waits for staff: no mail service took the letter."""
_STILL = timedelta(hours=1)
_UNDRIVEN = timedelta(minutes=1)
"""An erasure that moved more recently is in somebody's hands: whoever asked for it drives it first."""
_LOOKS = 500
_PURGED = 200
"""Copies in one sweep: what is left waits a minute."""
_MOVING = (
    State.RECEIVED,
    State.ACKNOWLEDGED,
    State.VERIFIED,
    State.SEARCHING,
    State.REVIEW,
    State.DISPATCHING,
    State.DISPATCHED,
    State.RECIPIENTS_NOTIFIED,
)
"""States in which something may be due without anybody else doing anything."""
_OWN = SubjectRef("house")
"""Under whose keys notes of cases about nobody known rest."""


class VaultNotes:
    """Seals notes under the subject's key, the controller's own without a subject (`app.store.cases.NoteSeal`)."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def seal(self, controller: ControllerId, subject: SubjectRef | None, note: str, text: str) -> bytes:
        """Raises `Erased` once the subject's keys are destroyed: what a person was is not written down again."""
        if subject is None:
            self._vault.create_subject(controller, _OWN)
        return self._vault.seal(_notes(controller, subject), note, text.encode())

    def open(self, controller: ControllerId, subject: SubjectRef | None, note: str, sealed: bytes) -> str | Shredded:
        """Return the text, or the mark of a destroyed key."""
        try:
            return self._vault.open(_notes(controller, subject), note, sealed).decode()
        except Erased as gone:
            return Shredded(key_id_of(sealed).hex(), gone.at)
        except (UnknownKey, UnknownSubject):
            return Shredded(key_id_of(sealed).hex())


def _notes(controller: ControllerId, subject: SubjectRef | None) -> Scope:
    return Scope(controller, subject or _OWN, HOUSE, NOTES)


class CaseJournal:
    """The ledger as cases write to it, also when the audit keys of the person are gone (dsar rules 49, 59).

    A case may have something to note after that, such as the word of a holder that what it retained is deleted too.
    The entry is about nobody then, under the controller's own key; a case's events are codes and opaque ids.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str:
        """Append an entry and return its id."""
        to = partial(self._journal.record, kind, actor=actor, controller=controller, payload=payload)
        try:
            return to(subject=subject)
        except Erased:
            return to(subject=None)


@dataclass(frozen=True, slots=True)
class Casework:
    """Opens units of work on cases and carries out what they enqueue."""

    units: Units
    vault: Vault
    policy: Policy
    practice: Practice
    files: SealedFolder
    waits: Waits
    calendars: Calendars
    issuer: str
    """The address links in letters begin with."""

    def unit(self) -> CaseUnitFace:
        """Open a unit that may commit; its `desk` is what `dsar.usecases` take."""
        records = self.units.writing()
        return CaseUnitFace(records, self.desk(records))

    def reading(self) -> CaseUnitFace:
        """Open a unit for looking only."""
        records = self.units.reading()
        return CaseUnitFace(records, self.desk(records))

    def desk(self, records: RecordsUnit) -> Desk:
        """Return the desk of a unit that is open already, e.g. a page's."""
        return Desk(
            cases=SqlCases(records.session),
            notes=SqlNotes(records.session, self.units.ids, VaultNotes(self.vault)),
            agreements=records,
            journal=CaseJournal(records.journal),
            work=records.work,
            clock=self.units.clock,
            ids=self.units.ids,
            calendars=self.calendars,
            policy=self.policy,
            practice=self.practice,
        )

    @property
    def uploads(self) -> Uploads:
        """What holders sent, named as their parties name the person."""
        return Uploads(self.vault, self.files, self._named)

    def _named(self, whose: Whose, holder: ComponentId) -> Named:
        """Raises UnknownHolderError."""
        with self.units.reading() as records:
            party = holding_party(records, holder)
            if party == HOUSE:
                return Named(HOUSE, None)
            handle = records.subjects.handle_of(whose.subject, PartyId(party))
        if handle is None:
            raise UnknownHolderError(holder)
        return Named(party, handle)

    @property
    def office(self) -> CaseOffice:
        """What makes copies and letters, and answers for this service as a holder."""
        return CaseOffice(
            vault=self.vault,
            uploads=self.uploads,
            copies=Copies(self.vault, self.files),
            policy=self.policy,
            issuer=self.issuer,
            entropy=self.units.entropy,
        )

    def handlers(self) -> Mapping[str, Handler]:
        """Return the work of cases, by kind."""
        office = self.office
        work = CaseWork(
            self.unit, self.vault.erasures, self.files, household=office, correspondence=office, waits=self.waits
        )
        course = CaseCourse(self.unit, self.reading, office, self.waits)
        return {**work.handlers(), **course.handlers()}

    def sweeps(self) -> Mapping[str, Sweep]:
        """Return what is looked for each minute."""
        return {
            "cases": self._look_again,
            "copies": self._purge_copies,
            "erasures": self._drive_erasures,
            "retentions": self._end_retentions,
        }

    def _drive_erasures(self) -> int:
        """Drive the erasures nobody drives just now: what is due, approved, cooled down; roots whose window ended."""
        erasures = self.vault.erasures
        return len(erasures.drive_all(idle=_UNDRIVEN).ended) + len(erasures.end_windows(self._note_completed).ended)

    def _note_completed(self, erasure: Erasure, completions: Sequence[Mapping[str, Json]]) -> None:
        """Enter the digest of each completion: the old roots that were kept for backups are gone."""
        with self.units.writing() as unit:
            for one in completions:
                unit.journal.record(
                    "erasure.completed",
                    actor="regard",
                    controller=ControllerId(str(one["controller"])),
                    subject=None,
                    payload={"erasure": erasure.id, "completion": sha256(canonical(one)).hexdigest()},
                )
            unit.commit()

    def _purge_copies(self) -> int:
        """Remove the bytes of copies whose time is over, then say so, a unit of work each (dsar rules 58, 59)."""
        with self.reading() as unit:
            over = SqlCases(unit.records.session).expired(self.units.clock.now(), limit=_PURGED)
        for package in over:
            self.files.remove(package.line)
            with suppress(CaseChanged), self.unit() as unit:  # the next minute finds it again
                expire_copy(unit.desk, package.id)
                unit.commit()
        return len(over)

    def _look_again(self) -> int:
        """Look again at cases that stand still, once an hour: their own look may have died of a fault.

        The hour is in the attempt's number, so that every sweep of the same hour asks for the same look.
        """
        now, after, done = self.units.clock.now(), None, 0
        attempt = SWEPT * int(now.timestamp() // _STILL.total_seconds())
        while True:
            with self.unit() as unit:
                found = SqlCases(unit.records.session).quiet(now - _STILL, _MOVING, limit=_LOOKS, after=after)
                for case, version in found:
                    unit.desk.work.enqueue(PROCEED, f"{case}/{version}/{attempt}")
                unit.commit()
            done += len(found)
            if len(found) < _LOOKS:
                return done
            after = found[-1][0]

    def _end_retentions(self) -> int:
        done, last = 0, None
        while True:
            with self.unit() as unit:
                found = end_retentions(unit.desk, limit=_LOOKS, after=last)
                unit.commit()
            done += len(found)
            if len(found) < _LOOKS:
                return done
            last = found[-1]

    def mail_sent(self, unit: MailUnit, mail: str) -> None:
        """Note that a letter left that is itself the message of a case, or a recipient's notice (rules 56, 60).

        The message is the one that brings a certificate. Raises TypeError for a unit of another house.
        """
        records = _own(unit)
        self._note_notice(records, mail, RecipientOutcome.SENT)
        link = records.certificate_links.of_mail(mail)
        if link is not None and link.message is not None:
            dispatch_message(self.desk(records), link.message, channel="mail", proof=f"mail:{mail}")

    def mail_lost(self, unit: MailUnit, mail: str) -> None:
        """Leave to people what such a letter was to bring: no mail service took it, and it is gone (rules 56, 60).

        Raises TypeError for a unit of another house.
        """
        records = _own(unit)
        self._note_notice(records, mail, RecipientOutcome.PENDING, LETTER_REFUSED)
        link = records.certificate_links.of_mail(mail)
        if link is not None and link.message is not None:
            leave_to_staff(self.desk(records), link.case, LETTER_REFUSED)

    def _note_notice(
        self, records: RecordsUnit, mail: str, outcome: RecipientOutcome, reason: str | None = None
    ) -> None:
        task, desk = about(mail), self.desk(records)
        # whoever settled it meanwhile knows better
        if task is not None and desk.cases.recipient(TaskId(task)).outcome is RecipientOutcome.PENDING:
            record_recipient(desk, TaskId(task), outcome, by=SYSTEM, reason=reason)


def _own(unit: MailUnit) -> RecordsUnit:
    if not isinstance(unit, RecordsUnit):
        raise TypeError("the post was handed a unit of another house")
    return unit

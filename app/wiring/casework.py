"""Cases on a real store: the desk of a unit of work, sealed notes, and the handlers of the work cases ask for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from app.calendars import Calendars
from app.outbound.uploads import Named, Uploads, Whose
from app.profiles import HOUSE
from app.sdk.sealed import key_id_of
from app.store.cases import SqlCases, SqlNotes
from app.store.sealedfiles import SealedFolder
from app.store.subjects import SqlSubjects
from app.store.unit import RecordsUnit, Units
from app.vault.core import Vault
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import Scope
from app.workflows.cases import CaseWork, Waits
from app.workflows.durable import Handler
from consent.policy import Policy
from consent.vocabulary import ComponentId, ControllerId, PartyId, Shredded, SubjectRef
from dsar.ports import Desk
from dsar.practice import Practice

NOTES = "case.notes"
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


class UnknownHolderError(LookupError):
    """A holder that is no registered client: whose keys it seals under cannot be said, so nothing is destroyed."""

    code = "holder_unknown"


class SparingSubjects(SqlSubjects):
    """Subjects whose handles outlive them for as long as a holder needs them, and no longer.

    A holder is told to delete, and searched again, after the keys are gone (dsar rule 53), and once more when what it
    retained ends (rule 49): it knows the person by its party's handle alone.
    """

    def __init__(self, records: RecordsUnit) -> None:
        super().__init__(records.session)
        self._records = records

    def forget(self, ref: SubjectRef, at: datetime, *, sparing: Collection[PartyId] = ()) -> None:
        """Forget a subject; parties whose holders are not done keep their handle."""
        super().forget(ref, at, sparing={*sparing, *self._concerned(ref)})

    def let_go(self, ref: SubjectRef, party: PartyId) -> None:
        """Remove a party's handle of an erased subject once its holders are done with them."""
        if party not in self._concerned(ref):
            self.drop_handle(ref, party)

    def _concerned(self, ref: SubjectRef) -> set[PartyId]:
        holders = SqlCases(self._records.session).concerned(ref)
        found = [self._records.clients.find(holder) for holder in holders]
        return {PartyId(client.party) for client in found if client is not None}


class CaseUnitFace:
    """A records unit as cases see it."""

    def __init__(self, records: RecordsUnit, desk: Desk) -> None:
        self.records = records
        self.desk = desk

    @property
    def subjects(self) -> SparingSubjects:
        return SparingSubjects(self.records)

    def party_of(self, holder: ComponentId) -> str:
        """Return under whose name keys of a holder's data are kept. Raises UnknownHolderError."""
        return holding_party(self.records, holder)

    def commit(self) -> None:
        """Make everything in the unit durable at once."""
        self.records.commit()

    def __enter__(self) -> Self:
        self.records.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.records.__exit__(kind, error, trace)


def holding_party(records: RecordsUnit, holder: ComponentId) -> str:
    """Return the party that runs a holder, suspended or not; the house is its own. Raises UnknownHolderError."""
    if holder == HOUSE:
        return HOUSE
    found = records.clients.find(holder)
    if found is None:
        raise UnknownHolderError(holder)
    return found.party


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

    def unit(self) -> CaseUnitFace:
        """Open a unit that may commit; its `desk` is what `dsar.usecases` take."""
        records = self.units.writing()
        return CaseUnitFace(records, self.desk(records))

    def desk(self, records: RecordsUnit) -> Desk:
        """Return the desk of a unit that is open already, e.g. a page's."""
        return Desk(
            cases=SqlCases(records.session),
            notes=SqlNotes(records.session, self.units.ids, VaultNotes(self.vault)),
            agreements=records,
            journal=records.journal,
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

    def handlers(self) -> Mapping[str, Handler]:
        """Return the work of cases, by kind."""
        return CaseWork(self.unit, self.vault.erasures, self.files, self.waits).handlers()

"""A records unit as cases see it: the desk, who is forgotten and by whom, who holds, who received.

Passes calls on to the store's repositories; what it derives it reads from there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from app.profiles import HOUSE
from app.store.cases import SqlCases
from app.store.holders import SqlHolders
from app.store.subjects import SqlSubjects
from app.store.unit import RecordsUnit
from consent import usecases as consents
from consent.events import Actor, Channel, EndReason
from consent.parties import PartyRole
from consent.ports import Journal, Unit
from consent.record import Consent, State
from consent.vocabulary import ComponentId, ControllerId, PartyId, SubjectRef
from dsar.case import Case
from dsar.course import Asked
from dsar.holdings import Agreed
from dsar.ports import Desk
from dsar.usecases.searching import task_fault
from dsar.vocabulary import TaskKind

_LIVE: Final = (State.REQUESTED, State.ACTIVE, State.SUSPENDED)


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
        """Forget a subject and close every way in; parties whose holders are not done keep their handle."""
        super().forget(ref, at, sparing={*sparing, *self._concerned(ref)})
        self._records.sessions.close_all("subject", ref)
        self._records.sign_ins.end_all(ref, at)
        self._records.enrolments.end_all("subject", ref, at)
        for passkey in self._records.passkeys.of("subject", ref):
            self._records.passkeys.remove(passkey.credential_id, "subject", ref)

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

    def holders(self, controller: ControllerId) -> Sequence[ComponentId]:
        """Return every registered holder of a controller, suspended ones too (dsar rule 40)."""
        return [ComponentId(client.id) for client in self.records.clients.holders(controller)]

    def unanswered(self, case: Case) -> Sequence[Asked]:
        """Return the holders that have not answered the search of a case yet."""
        heard = SqlHolders(self.records.session).last_seen(case.controller)
        latest = {task.holder: task for task in self.desk.cases.tasks(case.id, TaskKind.SEARCH)}
        waiting = [latest[holder] for holder in case.holders if holder in latest and task_fault(latest[holder])]
        return [
            Asked(task.created_at, self._suspended(task.holder), heard.get(task.holder))
            for task in waiting
            if task.holder != HOUSE
        ]

    def _suspended(self, holder: ComponentId) -> bool:
        client = self.records.clients.find(holder)
        return client is None or client.suspended_at is not None

    def agreed(self, controller: ControllerId, subject: SubjectRef) -> Agreed:
        """Return every purpose and category the person ever agreed to."""
        return {
            (one.terms.purpose, category)
            for one in self.records.consents.of_subject(controller, subject)
            for category in one.categories
        }

    def recipients(self, controller: ControllerId, subject: SubjectRef) -> frozenset[PartyId]:
        """Return everybody who received the person's data (GDPR art. 19; dsar rules 38, 56).

        Who looked, who holds it, and whom the person was told would get it; teams of the controller are no recipients,
        and those that only looked at what is kept solely against money laundering are told to nobody (rule 42).
        """
        named = set(self.records.disclosures.recipients(subject, without=self.desk.policy.aml_only()))
        for one in self.records.consents.of_subject(controller, subject):
            named |= {party for party in one.readers if one.parts and self._independent(party)}
        listed = self.desk.policy.parties
        return frozenset(
            party
            for party in named
            if party in listed
            and listed[party].controller == controller
            and listed[party].role is not PartyRole.INTERNAL_TEAM
        )

    def _independent(self, party: PartyId) -> bool:
        listed = self.desk.policy.parties.get(party)
        return listed is not None and listed.role in (PartyRole.RECIPIENT, PartyRole.JOINT_CONTROLLER)

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


class Within:
    """The records unit of somebody else, lent to the law of consents: ending and committing stay the lender's."""

    def __init__(self, records: RecordsUnit, journal: Journal | None = None) -> None:
        self.consents = records.consents
        self.journal = journal or records.journal
        self.work = records.work
        self.standings = records.standings
        self.components = records.components
        self.reads = records.reads

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        return None

    def commit(self) -> None:
        """Leave it to the lender."""


def holding_party(records: RecordsUnit, holder: ComponentId) -> str:
    """Return the party that runs a holder, suspended or not; the house is its own. Raises UnknownHolderError."""
    if holder == HOUSE:
        return HOUSE
    found = records.clients.find(holder)
    if found is None:
        raise UnknownHolderError(holder)
    return found.party


def is_live(agreement: Consent, at: datetime) -> bool:
    """Say whether something may still be read on an agreement, now or once it is given."""
    return agreement.state_at(at) in _LIVE


def end_agreements(unit: Unit, agreements: Sequence[Consent], *, by: Actor, at: datetime) -> None:
    """End what rested on a person's data, because the data was erased (GDPR art. 17(1)(b))."""
    for one in agreements:
        consents.end_by_controller(
            unit,
            controller=one.terms.controller,
            consent=one.id,
            reason=EndReason.SUBJECT_ERASED,
            by=by,
            channel=Channel.SCHEDULE,
            at=at,
        )

"""The house as the holder protocol sees it. Everything here passes a call on; nothing is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from app.http.api.services import HolderUnit
from app.store.holders import SqlHolders
from app.store.unit import RecordsUnit
from app.wiring.casework import SparingSubjects
from app.wiring.house import House
from consent.ports import Ids
from consent.vocabulary import ComponentId, ControllerId, PairwiseHandle, PartyId, SubjectRef
from dsar.ports import Desk


def holder_units(house: House, opened: Callable[[], RecordsUnit]) -> Callable[[], AbstractContextManager[HolderUnit]]:
    """Return what opens a unit of the holder protocol over `opened`, a writing or a reading unit."""

    @contextmanager
    def face() -> Iterator[HolderUnit]:
        with opened() as records:
            yield HolderFace(records, house.casework.desk(records), house.units.ids)

    return face


class HolderFace:
    """A unit as the holder protocol sees it."""

    def __init__(self, records: RecordsUnit, desk: Desk, ids: Ids) -> None:
        self._records = records
        self._subjects = SparingSubjects(records)
        self._ids = ids
        self.desk = desk

    def seen(self, component: ComponentId, controller: ControllerId, at: datetime) -> None:
        SqlHolders(self._records.session).seen(component, controller, at)

    def handle_of(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        return self._subjects.handle_of(subject, party)

    def name(self, subject: SubjectRef, controller: ControllerId, party: PartyId) -> PairwiseHandle:
        return self._subjects.handle(subject, controller, party, PairwiseHandle(self._ids.new("pw")))

    def let_go(self, subject: SubjectRef, party: PartyId) -> None:
        self._subjects.let_go(subject, party)

    def commit(self) -> None:
        self._records.commit()

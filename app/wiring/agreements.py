"""A party's consents as the JSON doors see them. Everything here passes a call on; nothing is decided."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from app.http.api.services import AgreementUnit
from app.store.receipts import SqlReceipts
from app.store.unit import RecordsUnit
from app.wiring.faces import Agreed
from consent.ports import Ids
from consent.vocabulary import PairwiseHandle, PartyId, SubjectRef


class AgreementFace:
    """A records unit as the doors of consents see it; `law` is the same unit as the law sees it."""

    def __init__(self, records: RecordsUnit, ids: Ids) -> None:
        self.law = records
        self._named = Agreed(records.consents, records.subjects, ids)

    @property
    def receipts(self) -> SqlReceipts:
        return self.law.receipts

    def handle_of(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        return self.law.subjects.handle_of(subject, party)

    def handle(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        return self._named.handle(subject, party)


def agreement_units(unit: Callable[[], RecordsUnit], ids: Ids) -> Callable[[], AbstractContextManager[AgreementUnit]]:
    """Return what opens such a unit."""

    @contextmanager
    def face() -> Iterator[AgreementUnit]:
        with unit() as records:
            yield AgreementFace(records, ids)

    return face

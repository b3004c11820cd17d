"""How the rooms see a unit of work: the store's one unit, shown through what each room's Protocols name.

Everything here passes a call on; nothing is decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from app.http.oauth import ConsentView, view_of
from app.store.consents import SqlConsents
from app.store.subjects import SqlSubjects
from app.store.unit import RecordsUnit, Units
from app.tokens.signing import SigningKeys
from consent.ports import Ids
from consent.vocabulary import ConsentId, PairwiseHandle, PartyId, SubjectRef

LONGEST_SIGNED = timedelta(days=400)
"""How long the longest-lived signed thing, a receipt, is checked against a published key."""
OwnSeal = Callable[[bytes], bytes]


class OAuthFace:
    """A unit as the authorization server sees it; `records` is the unit the law's judge reads."""

    def __init__(self, records: RecordsUnit, ids: Ids, seal: OwnSeal, open_: OwnSeal) -> None:
        self.records = records
        self.clients = records.clients
        self.tokens = records.tokens
        self.journal = records.journal
        self.signing_keys = SigningKeys(records.signing_key_rows, seal, open_, LONGEST_SIGNED)
        self.consents = Agreed(records.consents, records.subjects, ids)

    def commit(self) -> None:
        self.records.commit()


class Agreed:
    """Consents as a token needs them, and what parties call people."""

    def __init__(self, consents: SqlConsents, subjects: SqlSubjects, ids: Ids) -> None:
        self._consents = consents
        self._subjects = subjects
        self._ids = ids

    def view(self, consent: ConsentId) -> ConsentView | None:
        controller = self._consents.controller_of(consent)
        found = self._consents.find(controller, consent) if controller is not None else None
        return view_of(found) if found is not None else None

    def handle(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        """The first time a party asks, its handle is made; an erased subject has none any more."""
        stored = self._subjects.get(subject)
        if stored is None or stored.erased_at is not None:
            return None
        return self._subjects.handle(subject, stored.controller, party, PairwiseHandle(self._ids.new("pw")))


@contextmanager
def oauth_unit(units: Units, seal: OwnSeal, open_: OwnSeal) -> Iterator[OAuthFace]:
    """A writing unit as the authorization server sees it."""
    with units.writing() as records:
        yield OAuthFace(records, units.ids, seal, open_)

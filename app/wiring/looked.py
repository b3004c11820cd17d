"""The fast lane's one row as the authorization server and the law read it: `Joined` and `consent.ports.Reading`.

Everything here passes on what was looked up; nothing is decided and nothing further is read.
"""

from __future__ import annotations

from datetime import datetime

from app.http.oauth import ConsentView, view_of
from app.store.fastlane import Looked
from app.tokens.records import AccessToken, Client
from consent.decision import Component, Standing
from consent.record import Consent
from consent.vocabulary import ComponentId, ConsentId, ControllerId, PairwiseHandle, PartyId, PurposeId, SubjectRef


class NotLookedUpError(LookupError):
    """A question the one row cannot answer, such as a search: the fast lane has no business putting it."""


class LookedFace:
    """One look at the records. Each part answers for what was looked up and knows nothing else."""

    def __init__(self, looked: Looked) -> None:
        self.caller = looked.caller
        self.handle = looked.handle
        self.complicated = looked.complicated
        self.clients = _Clients(looked)
        self.tokens = _Tokens(looked)
        self.consents = _Consents(looked)
        self.standings = _Standings(looked)
        self.components = _Components(looked)
        self.reads = _Reads()


class _Clients:
    def __init__(self, looked: Looked) -> None:
        self._looked = looked

    def find(self, client: str) -> Client | None:
        known = (self._looked.caller, self._looked.client)
        return next((each for each in known if each is not None and each.id == client), None)


class _Tokens:
    def __init__(self, looked: Looked) -> None:
        self._looked = looked

    def access(self, named: bytes) -> AccessToken | None:
        token = self._looked.token
        return token if token is not None and token.digest == named else None


class _Consents:
    def __init__(self, looked: Looked) -> None:
        self._looked = looked

    def view(self, consent: ConsentId) -> ConsentView | None:
        found = self._looked.consent
        return view_of(found) if found is not None and found.id == consent else None

    def handle(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        asked = subject == self._looked.subject and party == self._looked.caller.party
        return self._looked.handle if asked else None

    def find(self, controller: ControllerId, consent: ConsentId) -> Consent | None:
        found = self._looked.consent
        return found if found is not None and (found.id, found.terms.controller) == (consent, controller) else None

    def of_subject(
        self, controller: ControllerId, subject: SubjectRef, purpose: PurposeId | None = None
    ) -> tuple[Consent, ...]:
        raise NotLookedUpError("every token under a consent names it")


class _Standings:
    def __init__(self, looked: Looked) -> None:
        self._looked = looked

    def standing(self, subject: SubjectRef, purpose: PurposeId, at: datetime) -> Standing | None:
        return self._looked.standing if subject == self._looked.subject else None


class _Components:
    def __init__(self, looked: Looked) -> None:
        self._looked = looked

    def component(self, component: ComponentId) -> Component | None:
        found = self._looked.component()
        return found if found is not None and found.id == component else None


class _Reads:
    def reads(self, consent: str, party: str, at: datetime) -> int:
        raise NotLookedUpError("reads are counted at issue, never at introspection")

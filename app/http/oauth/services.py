"""What the authorization server needs from the house, as small Protocols; `app.wiring` hands in what fits them.

The law is asked through one callable (`judge`), at every issue and every introspection; this room decides nothing
about consents itself (consent.md section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol

from app.sdk.claims import AggregationConsent
from app.tokens.records import AccessToken, Client, Clients, Tokens
from app.tokens.rfc9396 import Covered
from app.tokens.rfc9449 import Nonces
from app.tokens.signing import SigningKeys
from consent.decision import Deny, Permit, Question
from consent.ports import Clock, Ids, Journal
from consent.record import Consent
from consent.vocabulary import (
    Action,
    CategoryId,
    ComponentId,
    ConsentId,
    ControllerId,
    Locale,
    PairwiseHandle,
    PartyId,
    PurposeId,
    SubjectRef,
)


@dataclass(frozen=True, slots=True)
class ConsentView:
    """A consent as a token needs it: what it covers and for whom, not whether it is live (the judge says that)."""

    id: ConsentId
    version: int
    controller: ControllerId
    subject: SubjectRef
    purpose: PurposeId
    categories: frozenset[CategoryId]
    accounts: frozenset[str]
    """Empty means all."""
    parties: frozenset[PartyId]
    """The party that asked, and every processor, team and recipient named on the page (consent rule 15)."""
    valid_until: datetime | None
    reads_per_day: int
    """Unattended, in any 24 hours (consent rule 14)."""
    connection: str
    """Reads are counted for each connection; empty where there is none yet."""
    party: PartyId
    """The data user: who asked, and on whose account the data is read."""
    given_at: datetime | None
    history_from: date
    access_path: str | None
    """As chosen, or as asked; None where the person was asked for none."""

    def covered(self) -> Covered:
        """Return the limits of any token under this consent."""
        return Covered(
            consent=self.id,
            purpose=self.purpose,
            categories=frozenset(self.categories),
            accounts=self.accounts,
            party=self.party,
            access_path=self.access_path,
            valid_from=self.given_at.date() if self.given_at else None,
            valid_until=self.valid_until.date() if self.valid_until else None,
            history_from=self.history_from,
            reads_per_day=self.reads_per_day,
        )

    def question(
        self, client: Client, categories: AbstractSet[str], at: datetime, *, attended: bool, opens_read: bool
    ) -> Question:
        """Return what the judge is asked: may this client's party read these categories under this consent now?

        `opens_read` at issue only, where an unattended read is about to be counted (tokens.md section 3).
        """
        return Question(
            party=PartyId(client.party),
            component=ComponentId(client.id),
            purpose=self.purpose,
            categories=frozenset(CategoryId(name) for name in categories),
            action=Action.READ,
            subject=self.subject,
            attended=attended,
            at=at,
            consent=self.id,
            opens_read=opens_read,
        )


def view_of(consent: Consent) -> ConsentView:
    """Return the view of a consent's record."""
    terms = consent.terms
    chosen = (part.given.access_path for part in consent.parts if part.given.access_path is not None)
    return ConsentView(
        id=consent.id,
        version=consent.version,
        controller=terms.controller,
        subject=terms.subject,
        purpose=terms.purpose,
        categories=consent.categories,
        accounts=frozenset(),
        parties=consent.readers,
        valid_until=consent.valid_until,
        reads_per_day=consent.unattended_per_day,
        connection=terms.connection or "",
        party=terms.party,
        given_at=consent.given_at,
        history_from=terms.history_from,
        access_path=next(chosen, terms.access_path),
    )


class Consents(Protocol):
    """Consents and pairwise handles, read inside the unit."""

    def view(self, consent: ConsentId) -> ConsentView | None: ...
    def handle(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        """What a party calls the subject; None once the mapping died with the subject's keys."""
        ...


class Registered(Protocol):
    """The register of clients as a join reads it."""

    def find(self, client: str, /) -> Client | None: ...


class Issued(Protocol):
    """Access tokens as a join reads them."""

    def access(self, digest: bytes, /) -> AccessToken | None: ...


class Joined(Protocol):
    """What the validity of a token is a join of, and nothing else: every `Unit`, and the one row of the fast lane."""

    @property
    def clients(self) -> Registered: ...
    @property
    def tokens(self) -> Issued: ...
    @property
    def consents(self) -> Consents: ...


class Unit(Protocol):
    """One unit of work: leaving it without `commit()` means nothing happened."""

    @property
    def clients(self) -> Clients: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def signing_keys(self) -> SigningKeys: ...
    @property
    def consents(self) -> Consents: ...
    @property
    def journal(self) -> Journal: ...
    def commit(self) -> None: ...


@dataclass(frozen=True, slots=True)
class OAuthServices:
    """Everything the authorization server stands on."""

    issuer: str
    """`https://host[:port]`, without a slash at the end; also the audience of tokens for this service itself."""
    clock: Clock
    ids: Ids
    entropy: Callable[[int], bytes]
    units: Callable[[], AbstractContextManager[Unit]]
    judge: Callable[[Joined, Question], Permit | Deny]
    """`consent.usecases.judge` over the unit's facts: asked at every issue and every introspection."""
    party_live: Callable[[Joined, Client, datetime], bool]
    """Whether the client's party is in force on the processor list: a suspended party's clients get nothing."""
    present: Callable[[Unit, ConsentView, datetime], bool]
    """Whether the subject is there right now, by what this service itself saw: a client's word does not count."""
    unfit: Callable[[Client, AggregationConsent], str | None]
    """What in the policy pack stands against a client's proposal, in characters RFC 6749 allows; None: nothing."""
    named: Callable[[Client, AggregationConsent], frozenset[PartyId]]
    """Whom the page of a client's proposal would name: a holder that is not among them gets no token under it."""
    nonces: Nonces
    token_life: timedelta = timedelta(seconds=300)
    code_life: timedelta = timedelta(seconds=60)
    """FAPI 2.0 5.3.2.1: at most 60 s."""
    request_life: timedelta = timedelta(seconds=300)
    """RFC 9126: how long a pushed request waits to be opened."""
    journey_life: timedelta = timedelta(hours=1)
    """How long the person then has to sign in by mail, read and answer."""
    locale: Locale = Locale.FR
    """The page's language when the request names none of ours."""

"""Whether an access token is good now: a join of token, consent and decision, made each time (tokens.md section 1).

Nothing is cached, so that a withdrawal is felt by the very next call. Leaves out who presents it and with what proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.http.oauth.services import ConsentView, Joined, OAuthServices
from app.tokens.minting import digest
from app.tokens.records import AccessToken, Client
from consent.decision import Permit
from consent.vocabulary import ConsentId


@dataclass(frozen=True, slots=True)
class Standing:
    """A token that is good now, the client it was issued to, and the consent it stands on, if any."""

    token: AccessToken
    client: Client
    consent: ConsentView | None
    permit: Permit | None
    """The judge's yes, with its obligations; None for a token that stands on no consent."""


def standing(services: OAuthServices, unit: Joined, secret: str, audience: str, party: str = "") -> Standing | None:
    """Return how a presented token stands for `audience`; None when it opens nothing, whatever the cause.

    `party` is whose address the audience is; it is not asked for this service itself.
    """
    token = unit.tokens.access(digest(secret))
    now = services.clock.now()
    if token is None or token.audience != audience or not _alive(token, now):
        return None
    client = live_client(services, unit, token.client)
    if client is None:
        return None
    if token.consent is None:
        return Standing(token, client, None, None)
    return _agreed(services, unit, token, client, party)


def live_client(services: OAuthServices, unit: Joined, client: str) -> Client | None:
    """Return a client that may act: neither it nor its party is suspended (tokens.md section 2)."""
    found = unit.clients.find(client)
    if found is None or found.suspended_at is not None:
        return None
    return found if services.party_live(unit, found, services.clock.now()) else None


def _agreed(services: OAuthServices, unit: Joined, token: AccessToken, client: Client, party: str) -> Standing | None:
    """The consent it points at must be of the same version and name the holder, and the judge must still say yes."""
    view = unit.consents.view(ConsentId(token.consent or ""))
    if view is None or token.detail is None or view.version != token.consent_version:
        return None
    if token.audience != services.issuer and party not in view.parties:
        return None  # a holder the person was never told of (consent rules 15, 51)
    now = services.clock.now()
    question = view.question(client, token.detail.categories, now, attended=token.attended, opens_read=False)
    verdict = services.judge(unit, question)
    return Standing(token, client, view, verdict) if isinstance(verdict, Permit) else None


def _alive(token: AccessToken, now: datetime) -> bool:
    return token.revoked_at is None and token.issued_at <= now < token.expires_at

"""Issuing a token: the judge is asked, an unattended read is counted, the secrets are minted, the entry is written.

Order matters: the count is taken in the same unit that stores the token, so a token that never left was never counted
(RTS art. 36(5)(b): four unattended reads in 24 hours; tokens.md section 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.http.oauth.services import ConsentView, OAuthServices, Unit
from app.sdk.claims import AggregationConsent
from app.sdk.scopes import Scope, join
from app.tokens import rfc9396
from app.tokens.errors import AccessDenied, InvalidAuthorizationDetails
from app.tokens.minting import Minted, mint
from app.tokens.records import AccessToken, Client, Refresh, TokenGrant
from consent.decision import Deny
from consent.reasons import Reason
from consent.vocabulary import ConsentId, ControllerId, PartyId

if TYPE_CHECKING:
    from datetime import datetime

    from app.http.oauth.server import Server


@dataclass(slots=True)
class Issue:
    """One token about to be issued, and for what."""

    client: Client
    jkt: str
    audience: str
    scopes: frozenset[Scope]
    at: datetime
    consent: ConsentView | None = None
    detail: AggregationConsent | None = None
    attended: bool = False
    grant: TokenGrant | None = None
    access: Minted | None = None
    refresh: Minted | None = None

    def mint(self, services: OAuthServices, unit: Unit, *, refresh: bool) -> dict[str, Any]:
        """Mint the secrets and return the answer of RFC 6749 section 5.1 (RFC 9449 section 5, RFC 9396 section 7).

        `sub` is what the client's own party calls the person: nobody else's handle, so nothing to compare (api.md).
        """
        self.access = mint("rgt_", services.entropy)
        self.refresh = mint("rgr_", services.entropy) if refresh else None
        answer: dict[str, Any] = {
            "access_token": self.access.text,
            "token_type": "DPoP",
            "expires_in": int((self._end(services) - self.at).total_seconds()),
            "scope": join(self.scopes),
        }
        if self.refresh is not None:
            answer["refresh_token"] = self.refresh.text
        if self.detail is not None:
            answer["authorization_details"] = [self.detail.to_json()]
        handle = self._handle(unit)
        return answer if handle is None else {**answer, "sub": handle}

    def _handle(self, unit: Unit) -> str | None:
        if self.consent is None:
            return None
        return unit.consents.handle(self.consent.subject, PartyId(self.client.party))

    def save(self, services: OAuthServices, unit: Unit) -> None:
        """Store digests and ledger entry in the unit; nothing leaves if they cannot be committed."""
        if self.access is None:
            raise RuntimeError("nothing was minted")
        unit.tokens.add_access(self._record(self.access, services))
        if self.refresh is not None and self.grant is not None:
            unit.tokens.add_refresh(Refresh(self.refresh.digest, self.grant, self.jkt, self.at))
        unit.journal.record(
            "token.issued",
            actor=self.client.id,
            controller=ControllerId(self.client.controller),
            subject=self.consent.subject if self.consent else None,
            payload={
                "party": self.client.party,
                "audience": self.audience,
                "scope": join(self.scopes),
                "consent": self.consent.id if self.consent else None,
                "version": self.consent.version if self.consent else None,
                "categories": sorted(self.detail.categories) if self.detail else [],
                "attended": self.attended,
                "grant": self.grant.id if self.grant else None,
            },
        )

    def _record(self, minted: Minted, services: OAuthServices) -> AccessToken:
        return AccessToken(
            digest=minted.digest,
            client=self.client.id,
            controller=self.client.controller,
            party=self.client.party,
            audience=self.audience,
            scopes=self.scopes,
            jkt=self.jkt,
            consent=self.consent.id if self.consent else None,
            consent_version=self.consent.version if self.consent else None,
            detail=self.detail,
            attended=self.attended,
            grant=self.grant.id if self.grant else None,
            issued_at=self.at,
            expires_at=self._end(services),
        )

    def _end(self, services: OAuthServices) -> datetime:
        """A token never outlives its consent."""
        end = self.at + services.token_life
        limit = self.consent.valid_until if self.consent else None
        return end if limit is None else min(end, limit)


def consent_for(server: Server, client: Client, consent: str) -> ConsentView:
    """Return a consent this client's party was named in; anybody else's looks like one that does not exist."""
    view = server.unit.consents.view(ConsentId(consent))
    if view is None or view.controller != client.controller or client.party not in view.parties:
        raise InvalidAuthorizationDetails("no such consent for this client")
    return view


def permitted(
    server: Server, client: Client, view: ConsentView, asked: AggregationConsent, *, attended: bool
) -> AggregationConsent:
    """Ask the judge, count an unattended read, and return what is granted. Raises `AccessDenied` with the reason."""
    detail = rfc9396.granted(asked, view.covered())
    question = view.question(client, detail.categories, server.now, attended=attended, opens_read=not attended)
    verdict = server.services.judge(server.unit, question)
    if isinstance(verdict, Deny):
        raise _refusal(server, client, view, verdict.reason)
    if not attended and not _counted(server, client, view):
        raise _refusal(server, client, view, Reason.FREQUENCY_EXCEEDED)
    return detail


def _counted(server: Server, client: Client, view: ConsentView) -> bool:
    return server.unit.tokens.count_read(view.id, client.party, view.connection, server.now, view.reads_per_day)


def _refusal(server: Server, client: Client, view: ConsentView, reason: str) -> AccessDenied:
    """A refusal is on the record too; the entry is written after the unit was left."""
    server.afterwards.append(
        lambda unit: _journal_refusal(unit, client, view, reason),
    )
    return AccessDenied(reason)


def _journal_refusal(unit: Unit, client: Client, view: ConsentView, reason: str) -> None:
    unit.journal.record(
        "token.refused",
        actor=client.id,
        controller=view.controller,
        subject=view.subject,
        payload={"party": client.party, "consent": view.id, "reason": reason},
    )

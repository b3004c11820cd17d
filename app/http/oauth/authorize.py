"""The authorization endpoint and its end: from a pushed request to the consent page, from the answer to the code.

The page itself belongs to the pages; this room opens the journey and closes it. A `request_uri` can be opened again
and again (a reload of the sign-in page works); it is single use when the authorization completes (tokens.md section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response
from werkzeug.datastructures import Headers

from app.http.oauth.endpoints import URN
from app.http.oauth.requests import OAuthRequest
from app.http.oauth.server import Server
from app.http.oauth.services import OAuthServices, Unit
from app.sdk.claims import AggregationConsent
from app.tokens import rfc9396
from app.tokens.errors import InvalidRequest, InvalidRequestUri
from app.tokens.minting import digest
from app.tokens.records import PushedRequest
from consent.vocabulary import ConsentId, Locale, SubjectRef

_ENDED = "the request is unknown, over, or already answered"


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits for a person's answer: what the consent page is about."""

    journey: str
    client: str
    controller: str
    party: str
    proposal: AggregationConsent
    locale: Locale


def open_journey(server: Server, parameters: dict[str, str]) -> Response:
    """Answer `GET /oauth/authorize`: check the reference and send the person to the consent page."""
    if parameters.keys() != {"client_id", "request_uri"}:
        raise InvalidRequest("client_id and request_uri, nothing else: push the request first")
    if not parameters["request_uri"].startswith(URN):
        raise InvalidRequestUri(_ENDED)
    key = digest(parameters["request_uri"].removeprefix(URN))
    pushed = _waiting(server, server.unit.tokens.pushed(key))
    if pushed.client != parameters["client_id"]:
        raise InvalidRequestUri(_ENDED)
    server.unit.tokens.open_pushed(key, server.now, server.now + server.services.journey_life)
    path = f"/{_locale(pushed, server.services)}/consent/{pushed.journey}"
    return server.handle_response(303, "", [("Location", path)])


class Authorizations:
    """What the pages call: look at a pending request, complete it, or turn it down; all within the pages' own unit."""

    def __init__(self, services: OAuthServices) -> None:
        self._services = services

    def pending(self, unit: Unit, journey: str) -> Pending:
        """Return what a journey is about. Raises `InvalidRequestUri` when it is over or was answered."""
        pushed = self._opened(Server(self._services, unit), journey)
        proposal = rfc9396.parse(pushed.parameters["authorization_details"])
        locale = _locale(pushed, self._services)
        return Pending(pushed.journey, pushed.client, pushed.controller, pushed.party, proposal, locale)

    def complete(self, unit: Unit, journey: str, consent: ConsentId, subject: SubjectRef) -> str:
        """Complete a request after the person agreed; return where to send them (code, iss, state).

        Call it in the unit that gives the consent: both commit together. Raises `InvalidRequestUri` for a request
        that is over or was answered, `InvalidAuthorizationDetails` for a consent that is not this client's.
        """
        server = Server(self._services, unit)
        request = self._answered(server, journey)
        view = unit.consents.view(consent)
        if view is None or view.subject != subject:
            raise InvalidRequestUri(_ENDED)
        request.consent = consent
        return self._respond(server, request, subject)

    def refuse(self, unit: Unit, journey: str) -> str:
        """Complete a request after the person said no; return where to send them (error=access_denied, iss, state)."""
        server = Server(self._services, unit)
        return self._respond(server, self._answered(server, journey), None)

    def _opened(self, server: Server, journey: str) -> PushedRequest:
        pushed = _waiting(server, server.unit.tokens.pushed_for(journey))
        if pushed.opened_at is None:
            raise InvalidRequestUri(_ENDED)
        return pushed

    def _answered(self, server: Server, journey: str) -> OAuthRequest:
        pushed = self._opened(server, journey)
        if not server.unit.tokens.complete_pushed(pushed.digest, server.now):
            raise InvalidRequestUri(_ENDED)
        request = OAuthRequest("GET", self._services.issuer + "/oauth/authorize", pushed.parameters, Headers())
        request.pushed = pushed
        return request

    def _respond(self, server: Server, request: OAuthRequest, subject: SubjectRef | None) -> str:
        grant = server.get_authorization_grant(request)
        response: Response = server.create_authorization_response(request, grant_user=subject, grant=grant)
        if response.location is None:
            raise InvalidRequestUri(_ENDED)  # the client was suspended meanwhile
        return response.location


def _waiting(server: Server, pushed: PushedRequest | None) -> PushedRequest:
    if pushed is None or pushed.completed_at is not None or server.now >= pushed.expires_at:
        raise InvalidRequestUri(_ENDED)
    if server.query_client(pushed.client) is None:
        raise InvalidRequestUri(_ENDED)
    return pushed


def _locale(pushed: PushedRequest, services: OAuthServices) -> Locale:
    """The first of the request's languages that is one of ours (OpenID Connect Core section 3.1.2.1, `ui_locales`)."""
    for wanted in pushed.parameters.get("ui_locales", "").split():
        code = wanted.split("-")[0].lower()
        if code in {locale.value for locale in Locale}:
            return Locale(code)
    return services.locale

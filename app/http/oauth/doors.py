"""The routes of the authorization server (tokens.md section 4): parse, one call, answer."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from app.http.guard import anyone, by_protocol
from app.http.oauth.authorize import open_journey
from app.http.oauth.metadata import resource_metadata, server_metadata
from app.http.oauth.requests import arrive
from app.http.oauth.server import carry_out
from app.http.oauth.services import OAuthServices
from app.tokens.signing import CACHE

_CACHED = f"public, max-age={int(CACHE.total_seconds())}"


def blueprint(services: OAuthServices) -> Blueprint:
    """Return the blueprint with every `/oauth/*` and `/.well-known/*` route of the authorization server."""
    oauth = Blueprint("oauth", __name__)
    _protocol_doors(oauth, services)
    _open_doors(oauth, services)
    return oauth


def _protocol_doors(oauth: Blueprint, services: OAuthServices) -> None:
    @oauth.post("/oauth/token")
    @by_protocol("RFC 7523 section 2.2")
    def token() -> Response:
        arrive(request)
        return carry_out(services, lambda server: server.create_token_response(request))

    for path, name in (
        ("/oauth/par", "pushed_authorization_request"),
        ("/oauth/introspect", "introspection"),
        ("/oauth/revoke", "revocation"),
    ):
        _endpoint(oauth, services, path, name)


def _endpoint(oauth: Blueprint, services: OAuthServices, path: str, name: str) -> None:
    @oauth.post(path, endpoint=name)
    @by_protocol("RFC 7523 section 2.2")
    def endpoint() -> Response:
        arrive(request)
        return carry_out(services, lambda server: server.create_endpoint_response(name, request))


def _open_doors(oauth: Blueprint, services: OAuthServices) -> None:
    @oauth.get("/oauth/authorize")
    @anyone
    def authorize() -> Response:
        return carry_out(services, lambda server: open_journey(server, _query()))

    @oauth.get("/oauth/jwks")
    @anyone
    def jwks() -> Response:
        with services.units() as unit:
            return _document(unit.signing_keys.jwks())

    @oauth.get("/.well-known/oauth-authorization-server")
    @anyone
    def about_server() -> Response:
        return _document(server_metadata(services.issuer))

    @oauth.get("/.well-known/oauth-protected-resource")
    @anyone
    def about_resource() -> Response:
        return _document(resource_metadata(services.issuer))


def _query() -> dict[str, str]:
    """The query, each name once: a repeated one makes the request another than the one that was checked."""
    return {name: values[0] if len(values) == 1 else "" for name, values in request.args.lists()}


def _document(content: object) -> Response:
    response = jsonify(content)
    response.headers["Cache-Control"] = _CACHED
    return response

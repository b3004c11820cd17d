"""A Flask request in the shape Authlib reads (RFC 6749 section 3): small, form-encoded, each parameter once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress

from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from flask import Request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from app.http.characters import is_text
from app.http.oauth.models import ClientModel
from app.tokens.errors import InvalidRequest
from app.tokens.records import PushedRequest
from consent.vocabulary import ConsentId

MOST_BYTES = 64 * 1024
LONGEST_PARAMETER = 16 * 1024


class OAuthRequest(OAuth2Request):
    """One request: its parameters, and what the grants find out on their way."""

    client: ClientModel | None
    pushed: PushedRequest | None = None
    consent: ConsentId | None = None

    def __init__(self, method: str, url: str, parameters: Mapping[str, str], headers: Headers) -> None:
        super().__init__(method, url, headers=headers)
        self.payload = BasicOAuth2Payload(dict(parameters))
        self.parameters = dict(parameters)
        self.url = url

    @property
    def form(self) -> dict[str, str]:
        """The parameters; Authlib's grants read the body by this name."""
        return self.parameters

    @property
    def args(self) -> dict[str, str]:
        """Nothing is ever read from the query of a POST (RFC 6749 section 3.2)."""
        return {}


def arrive(request: Request) -> None:
    """Wait for the whole body, before a unit of work opens: on SQLite an open unit is the one writer, and whoever sends
    slowly must keep nobody else waiting. What is wrong with the body is for `from_flask` to say."""
    request.max_content_length = MOST_BYTES
    with suppress(HTTPException):
        request.get_data(parse_form_data=True)


def from_flask(request: Request, issuer: str) -> OAuthRequest:
    """Read a POST. Raises `InvalidRequest` for a wrong type, an oversized body, a repeated or malformed parameter.

    The address is the issuer's, not the Host header's: a proof is checked against where we say we are.
    """
    request.max_content_length = MOST_BYTES
    if request.mimetype != "application/x-www-form-urlencoded":
        raise InvalidRequest("the body must be application/x-www-form-urlencoded")
    try:
        form = request.form
    except HTTPException:
        raise InvalidRequest("the body is too large or malformed") from None
    return OAuthRequest(request.method, issuer + request.path, _single(form.lists()), request.headers)


def _single(lists: Iterable[tuple[str, list[str]]]) -> dict[str, str]:
    """Each parameter at most once (RFC 6749 section 3.2); empty ones count as left out (section 3.1)."""
    parameters: dict[str, str] = {}
    for name, values in lists:
        if len(values) > 1:
            raise InvalidRequest("a parameter is repeated")
        if len(values[0]) > LONGEST_PARAMETER or not is_text(name + values[0]):
            raise InvalidRequest("a parameter is too long or malformed")
        if values[0]:
            parameters[name] = values[0]
    return parameters

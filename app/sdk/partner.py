"""A people-facing partner: asking a person for an agreement and getting its tokens (tokens.md section 2).

Pushed request (RFC 9126), PKCE S256 (RFC 7636), `authorization_details` (RFC 9396), issuer and state checked when the
person comes back (RFC 9207, RFC 9700 section 4.4), code and refresh token bound to this partner's key (RFC 9449).
Leaves out the partner's own web pages and where it keeps what it is given: `Pushed` belongs into the session of the
browser that was sent away, `Agreed` beside the person's account.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from hmac import compare_digest
from urllib.parse import parse_qs, urlencode, urlsplit

from .claims import AggregationConsent
from .client import Authority, Token, read_token
from .dpop import b64url
from .errors import Malformed, NotTheAnswer, TurnedDown
from .scopes import Scope, join


@dataclass(frozen=True, slots=True)
class Pushed:
    """A request that waits for a person: send them to the address before `expires_at`. Text and one moment only."""

    request_uri: str
    expires_at: datetime
    state: str = field(repr=False)
    verifier: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Agreed:
    """What a partner holds after a person agreed; `refresh` lasts as long as the agreement and shows in no repr."""

    consent_id: str
    subject: str
    """What this partner's party calls the person: random, the same each time, another one for every party."""
    categories: frozenset[str]
    """What was agreed to, of what was asked."""
    token: Token
    refresh: str = field(repr=False)


class Partner:
    """One partner app. `redirect_uri` is one of its registered addresses, character by character.

    Refresh tokens are bound to the key of `authority`: give it a `binding` key that outlives the process.
    """

    def __init__(self, authority: Authority, redirect_uri: str) -> None:
        self._authority = authority
        self._redirect_uri = redirect_uri

    def push(
        self,
        *,
        purpose: str,
        categories: Collection[str],
        scopes: Collection[str] = (),
        resource: str | None = None,
        until: date | None = None,
        history_from: date | None = None,
        reads_per_day: int | None = None,
        locale: str | None = None,
    ) -> Pushed:
        """Hand the whole request to the authority over the back channel.

        `scopes` are for the authority's own doors, `resource` is the holder the token shall open (None: the authority),
        `until` a ceiling on the person's choice, `locale` the page's language. Raises `Refused`, `Unreachable`.
        """
        wish = AggregationConsent(
            purpose=purpose,
            categories=frozenset(categories),
            period_until=until,
            history_from=history_from,
            frequency_per_day=reads_per_day,
        )
        state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
        said = {
            "response_type": "code",
            "redirect_uri": self._redirect_uri,
            "state": state,
            "code_challenge": b64url(hashlib.sha256(verifier.encode("ascii")).digest()),
            "code_challenge_method": "S256",
            "authorization_details": json.dumps([wish.to_json()]),
            "scope": join(Scope(name) for name in scopes),
            "resource": resource,
            "ui_locales": locale,
        }
        asked = self._authority.clock()
        answer = self._authority.form("/oauth/par", {name: value for name, value in said.items() if value})
        try:
            ends = asked + timedelta(seconds=int(answer["expires_in"]))
            return Pushed(str(answer["request_uri"]), ends, state, verifier)
        except (KeyError, TypeError, ValueError):
            raise Malformed("a pushed request was not answered as RFC 9126 has it") from None

    def authorize_url(self, pushed: Pushed) -> str:
        """Return the address to send the person to; opening it twice does no harm."""
        named = urlencode({"client_id": self._authority.client_id, "request_uri": pushed.request_uri})
        return f"{self._authority.issuer}/oauth/authorize?{named}"

    def exchange(self, pushed: Pushed, came_back_to: str) -> Agreed:
        """Turn the address at which the person came back into tokens, within 60 s.

        Raises `NotTheAnswer` (another state or issuer: start again), `TurnedDown` (the person said no), `Refused`,
        `Unreachable`, `Malformed`.
        """
        code = self._code(pushed, came_back_to)
        asked = self._authority.clock()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": pushed.verifier,
        }
        answer = self._authority.form("/oauth/token", form)
        return _agreed(read_token(answer, asked), answer.get("refresh_token"))

    def renew(self, refresh: str) -> Token:
        """Get a fresh access token; the refresh token stays as it is, so a lost answer can be asked for again.

        Raises `Refused` with `invalid_grant` once the person has ended the agreement.
        """
        asked = self._authority.clock()
        form = {"grant_type": "refresh_token", "refresh_token": refresh}
        return read_token(self._authority.form("/oauth/token", form), asked)

    def give_back(self, secret: str) -> None:
        """Revoke a token of this partner (RFC 7009); a refresh token takes all its access tokens with it.

        The agreement itself stays the person's: only they end it.
        """
        self._authority.form("/oauth/revoke", {"token": secret})

    def _code(self, pushed: Pushed, came_back_to: str) -> str:
        said = _query(came_back_to)
        # both before anything else is believed: the answer is ours, and from the one we asked (RFC 9207 section 2.4)
        mine = compare_digest(said.get("state", "").encode(), pushed.state.encode())
        if not mine or said.get("iss") != self._authority.issuer:
            raise NotTheAnswer("state or issuer is another one")
        if "error" in said:
            raise TurnedDown(said["error"])
        if not said.get("code"):
            raise Malformed("the answer has neither code nor error")
        return said["code"]


def _query(address: str) -> dict[str, str]:
    """Each name once; a repeated one makes the answer nobody's."""
    lists = parse_qs(urlsplit(address).query, keep_blank_values=True)
    return {name: values[0] for name, values in lists.items() if len(values) == 1}


def _agreed(token: Token, refresh: object) -> Agreed:
    detail = token.detail
    if detail is None or detail.consent_id is None or token.subject is None or not isinstance(refresh, str):
        raise Malformed("the token answer names no agreement, no person or no refresh token")
    return Agreed(detail.consent_id, token.subject, detail.categories, token, refresh)

"""Server-side sessions: the cookie holds 256 random bits, the records database their SHA-256 and nothing else of it.

A session has a level; every change of level is a new cookie (rotation), so a cookie planted before signing in is worth
nothing after. The cookie is HttpOnly, SameSite=Lax, and Secure (with the `__Host-` prefix) as soon as the origin is
https. No other cookie outlives the visit; none needs consent.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta

from flask import Response, g, has_request_context, request

from app.http.doors import Doors, DoorUnit, PersonKind, SessionFacts, doors
from consent.vocabulary import ControllerId

SESSION = "regard_session"
VISIT = "regard_visit"
TICKET = "regard_ticket"
_TOUCH = timedelta(minutes=1)
_LONGEST_COOKIE = 100


def fresh_token(of: Doors) -> str:
    """Return 256 random bits, base64url."""
    return base64.urlsafe_b64encode(of.entropy(32)).rstrip(b"=").decode()


def digest(token: str) -> str:
    """Return the lower-case hex SHA-256 under which a token is stored."""
    return hashlib.sha256(token.encode()).hexdigest()


def cookie_name(base: str, of: Doors) -> str:
    """Return the cookie's name: `__Host-` pins it to this host over https (RFC 6265bis section 4.1.3.2)."""
    return f"__Host-{base}" if of.origin.startswith("https://") else base


def read_cookie(base: str) -> str | None:
    """Return a cookie of ours, or None when it is absent or absurdly long."""
    value = request.cookies.get(cookie_name(base, doors()))
    return value if value and len(value) <= _LONGEST_COOKIE else None


def current() -> SessionFacts | None:
    """Return this request's live session, looked up once a request."""
    if "regard_session" not in g:
        g.regard_session = _look_up()
    found: SessionFacts | None = g.regard_session
    return found


def _look_up() -> SessionFacts | None:
    token = read_cookie(SESSION)
    if token is None:
        return None
    of = doors()
    now = of.clock.now()
    with of.reading() as unit:
        found = unit.sessions.find(digest(token), now)
    if found is not None and now - found.seen_at >= _TOUCH:
        with of.unit() as unit:
            unit.sessions.touch(digest(token), now, of.limits.idle)
            unit.commit()
    return found


def look_no_further() -> None:
    """Take this request for nobody's unless its session is known already: the database does not answer."""
    g.setdefault("regard_session", None)


def session_digest() -> str | None:
    """Return under what this request's session is stored."""
    token = read_cookie(SESSION)
    return digest(token) if token and current() else None


def open_session(
    unit: DoorUnit,
    *,
    kind: PersonKind,
    person: str,
    controller: ControllerId,
    level: int,
    proven_at: datetime | None = None,
    credential: str | None = None,
) -> str:
    """Open a session in place of the one there may be and return its digest; the answer carries the new cookie."""
    of = doors()
    old = read_cookie(SESSION)
    if old is not None:
        unit.sessions.close(digest(old))
    token, limits = fresh_token(of), of.limits
    unit.sessions.open(
        digest(token),
        kind=kind,
        person=person,
        controller=controller,
        level=level,
        proven_at=proven_at,
        credential=credential,
        now=of.clock.now(),
        idle=limits.idle,
        longest=limits.longest,
    )
    set_cookie(SESSION, token)
    return digest(token)


def close_session(unit: DoorUnit) -> None:
    """End this request's session."""
    token = read_cookie(SESSION)
    if token is not None:
        unit.sessions.close(digest(token))
    set_cookie(SESSION, None)


def set_cookie(base: str, value: str | None, *, seconds: int | None = None) -> None:
    """Have the answer to this request set a cookie of ours, or remove it with None."""
    g.setdefault("regard_cookies", {})[base] = (value, seconds)


def new_cookie(base: str) -> str | None:
    """Return the value this request already decided to set, if any."""
    pending: dict[str, tuple[str | None, int | None]] = g.get("regard_cookies", {})
    return pending.get(base, (None, None))[0]


def write_cookies(response: Response) -> Response:
    """Write the cookies decided on during the request; runs after it."""
    if not has_request_context() or "regard_cookies" not in g:
        return response
    of = doors()
    for base, (value, seconds) in g.regard_cookies.items():
        name, secure = cookie_name(base, of), of.origin.startswith("https://")
        if value is None:
            response.delete_cookie(name, path="/", secure=secure, httponly=True, samesite="Lax")
        else:
            response.set_cookie(name, value, seconds, path="/", secure=secure, httponly=True, samesite="Lax")
    return response

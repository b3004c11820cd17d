"""The token of a form: an HMAC of the cookie it goes with, so nothing is stored and it changes with the session.

Signed in, the cookie is the session's; before, a visit cookie is set when the first form is shown. A request the
browser itself calls cross-site (`Sec-Fetch-Site`) is refused before that. Not a defence against a stolen session.
"""

from __future__ import annotations

import hashlib
import hmac

from flask import g, request
from markupsafe import Markup

from app.http.doors import doors
from app.http.errors import FormForged
from app.http.sessions import SESSION, VISIT, current, fresh_token, new_cookie, read_cookie, set_cookie
from app.settings import Secret

FIELD = "form_token"


def keyed(purpose: str, value: str) -> str:
    """Return the hex HMAC-SHA-256 of `value` under the server key, kept apart by `purpose`."""
    return keyed_with(doors().key, purpose, value)


def keyed_with(key: Secret, purpose: str, value: str) -> str:
    """The same under a key that is said, for whoever writes addresses outside of a request."""
    return hmac.new(key.reveal().encode(), f"{purpose}\0{value}".encode(), hashlib.sha256).hexdigest()


def form_field() -> Markup:
    """Return the hidden field every form of ours carries."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FIELD, form_token())


def form_token() -> str:
    """Return the token for this request's session or visit; starts a visit when there is neither."""
    bound = _bound_to()
    if bound is None:
        bound = g.setdefault("regard_visit", fresh_token(doors()))
        set_cookie(VISIT, bound)
    return keyed("form", bound)


def check_form() -> None:
    """Raise FormForged unless the form came from our own page in this very session."""
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        raise FormForged
    bound, given = _bound_to(), request.form.get(FIELD, "")
    if bound is None or not hmac.compare_digest(keyed("form", bound).encode(), given.encode()):
        raise FormForged


def _bound_to() -> str | None:
    opened = new_cookie(SESSION)  # by this very request
    if opened is not None:
        return opened
    return read_cookie(SESSION) if current() is not None else read_cookie(VISIT)

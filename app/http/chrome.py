"""What surrounds every page: the firm's name, the way to one's space, and at the foot whom to turn to, same order
everywhere (consent rules 40, 55; WCAG 3.2.3, 3.2.6)."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Flask, current_app, g, url_for
from flask_babel import gettext

from app.http.doors import doors
from app.http.forms import form_field
from app.http.locale import current_locale
from app.http.sessions import current
from consent.policy import Controller
from consent.vocabulary import ControllerId


@dataclass(frozen=True, slots=True)
class Way:
    """One entry of a menu."""

    endpoint: str
    label: str
    address: str


def install(app: Flask) -> None:
    """Give the templates what surrounds a page."""
    app.jinja_env.globals.update(
        form_field=form_field, firm=firm, space_ways=space_ways, signed_in=signed_in, authority=authority
    )


def speak_for(controller: ControllerId) -> None:
    """Have this page carry the name of `controller` (a journey's, before anyone is signed in)."""
    g.regard_firm = controller


def firm() -> Controller:
    """Return the controller whose name the page carries: the page's own, the session's, or the deployment's."""
    of, session = doors(), current()
    chosen = g.get("regard_firm") or (session.controller if session and session.kind == "subject" else of.controller)
    return of.policy.controllers.get(chosen, of.policy.controllers[of.controller])


def authority() -> str:
    """Return the name of the supervisory authority, in the reader's language."""
    return firm().authority[current_locale()]


def signed_in() -> str:
    """Return who is signed in: "subject", "staff", or an empty string."""
    session = current()
    return session.kind if session is not None and session.kind != "visitor" else ""


def space_ways() -> list[Way]:
    """Return the menu of the space, same words on every page; rooms that are not built in are left out."""
    labels = (
        ("me.home", gettext("My space")),
        ("agreements.listed", gettext("My agreements")),
        ("access_log.listed", gettext("Who looked")),
        ("requests.listed", gettext("My requests")),
        ("security.shown", gettext("My passkeys")),
    )
    known = current_app.view_functions
    return [Way(endpoint, label, url_for(endpoint)) for endpoint, label in labels if endpoint in known]

"""Every page there is, in one literal table: the browser looks at each of them, in four languages.

Whoever adds a page adds a line here, or says why not below: `test_browser_pages` walks the URL map and fails otherwise.
A name in braces is a path of the street (`street.py`), where something has been put behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Who(StrEnum):
    """Who looks."""

    ANYONE = "anyone"
    SUBJECT = "subject"
    """Ana, her passkey asserted just now."""
    WEAK = "weak"
    """Ana, by an e-mail link alone."""
    ERASED = "erased"
    """Eva, whose keys are destroyed, in a session that still runs."""
    NEW = "new"
    """Nora, who came by a first e-mail link and has nothing yet."""
    STAFF = "staff"


@dataclass(frozen=True, slots=True)
class Look:
    """One page in one state."""

    endpoint: str
    path: str
    who: Who = Who.ANYONE
    status: int = 200
    press: str = ""
    """A button (CSS) to press first: the page that answers a form."""
    spoken: bool = True
    """Whether the language is in the address; otherwise the browser's is taken."""


LOOKS: tuple[Look, ...] = (
    Look("home.shown", "/"),
    Look("processors.listed", "/processors"),
    Look("processors.shown", "/processors/patrivue"),
    Look("processors.shown", "/processors/connecteurs"),
    Look("privacy.shown", "/privacy"),
    Look("signin.ask", "/sign-in"),
    Look("signin.ask", "/sign-in", status=422, press="main form button"),
    Look("signin.sent", "/sign-in/sent"),
    Look("signin.sent", "/sign-in/sent", status=422, press="main form button"),
    Look("signin.confirm", "{link}"),
    Look("signin.passkey", "/sign-in/passkey"),
    Look("signin.step_up", "/me/step-up", Who.SUBJECT),
    Look("signin.step_up", "/me/step-up", Who.NEW),
    Look("staff_door.ask", "/staff/enrol"),
    Look("agreements.stop_by_link_page", "{stop}"),
    Look("certificates.shown", "{certificate}"),
    Look("journey.shown", "{facts}", Who.SUBJECT),
    Look("journey.shown", "{facts}", Who.SUBJECT, 422, press="button[value=agree]"),
    Look("journey.shown", "{check}", Who.SUBJECT),
    Look("journey.shown", "{result}", Who.SUBJECT),
    Look("journey.shown", "{refused}", Who.SUBJECT),
    Look("journey.shown", "{institution}", Who.SUBJECT),
    Look("journey.shown", "{institution}", Who.SUBJECT, 422, press="button[value=agree]"),
    Look("journey.shown", "{bank facts}", Who.SUBJECT),
    Look("journey.shown", "{bank check}", Who.SUBJECT),
    Look("journey.shown", "{step up}", Who.SUBJECT),
    Look("journey.shown", "{leaving}", Who.SUBJECT),
    Look("me.home", "/me", Who.SUBJECT),
    Look("me.home", "/me", Who.WEAK),
    Look("agreements.listed", "/me/consents", Who.SUBJECT),
    Look("agreements.listed", "/me/consents", Who.NEW),
    Look("agreements.listed", "/me/consents?status=expired", Who.SUBJECT),
    Look("agreements.shown", "{agreement}", Who.SUBJECT),
    Look("agreements.shown", "{ended}", Who.SUBJECT),
    Look("agreements.stop_page", "{withdraw}", Who.SUBJECT),
    Look("receipts.shown", "{receipt}", Who.SUBJECT),
    Look("access_log.listed", "/me/access-log", Who.SUBJECT),
    Look("access_log.listed", "/me/access-log", Who.NEW),
    Look("requests.listed", "/me/requests", Who.SUBJECT),
    Look("requests.listed", "/me/requests", Who.NEW),
    Look("requests.new", "/me/requests/new", Who.WEAK),
    Look("requests.new", "/me/requests/new", Who.SUBJECT, 422, press="main form button"),
    Look("requests.check", "/me/requests/new/check?right=rectification&right=erasure", Who.SUBJECT),
    Look("requests.check", "/me/requests/new/check?right=access", Who.SUBJECT, press="main form button"),
    Look("requests.shown", "{ready}", Who.SUBJECT),
    Look("requests.shown", "{ready}", Who.WEAK),
    Look("requests.shown", "{asked}", Who.SUBJECT),
    Look("requests.shown", "{unclear}", Who.SUBJECT),
    Look("requests.shown", "{taken back}", Who.SUBJECT),
    Look("requests.shown", "{erased}", Who.ERASED),
    Look("requests.take_back_page", "{asked}/take-back", Who.SUBJECT),
    Look("requests.copy_files", "{ready}/copy/files", Who.SUBJECT),
    Look("requests.destroy_page", "{ready}/copy/destroy", Who.SUBJECT),
    Look("requests.destroy_page", "{ready}/copy/destroy", Who.SUBJECT),
    Look("security.shown", "/me/security", Who.SUBJECT),
    Look("security.shown", "/me/security", Who.WEAK),
    Look("security.shown", "/me/security", Who.NEW),
    Look("security.add", "/me/security/add", Who.SUBJECT),
    Look("dpo.listed", "/dpo/cases", Who.STAFF, spoken=False),
    Look("dpo.listed", "/dpo/cases?show=ended", Who.STAFF, spoken=False),
    Look("dpo.shown", "{waiting}", Who.STAFF, spoken=False),
    Look("dpo.shown", "{busy}", Who.STAFF, spoken=False),
    Look("dpo.approve_page", "{waiting}/approve", Who.STAFF, spoken=False),
    Look("dpo.releases", "/dpo/exports", Who.STAFF, spoken=False),
    Look("dpo.release", "/dpo/exports/rel_one", Who.STAFF, spoken=False),
    Look("dpo.approve_release_page", "/dpo/exports/rel_one/approve", Who.STAFF, spoken=False),
    Look("outbox.listed", "/outbox", spoken=False),
    Look("outbox.shown", "{mail}", spoken=False),
    # pages that say no
    Look("", "/nothing-here", status=404),
    Look("", "/me/consents/con_nobodys", Who.SUBJECT, 404),
    Look("", "/sign-in/link/spent", status=410),
)

EXCUSED: dict[str, str] = {
    "start": "goes to the home page",
    "static": "files",
    "signals.gpc": "data",
    "journey.back_to_partner": "goes to the partner",
    "access_log.as_csv": "a file",
    "access_log.as_json": "a file",
    "certificates.file": "a file",
    "receipts.signed_file": "a file",
    "receipts.plain_file": "a file",
    "requests.certificate": "a file",
    "requests.copy": "a file",
    "dpo.home": "goes to the queue",
    "staff_door.add": "the page of security.add, in a visitor's session",
}
"""Endpoint -> why no browser looks at it."""
DATA_ROOMS = ("api_", "oauth", "authzen", "health")
"""Blueprints that answer with data, never with a page (their names begin so)."""

"""The words of e-mails: a text part, a plain HTML part, no picture, no tracker, no personal data (consent rules 4.7).

Leaves out sending: `Mail` behind the door queues it, `outbound` sends it.
"""

from __future__ import annotations

from flask import render_template
from flask_babel import force_locale, gettext

from app.http.doors import DoorUnit
from consent.policy import Controller
from consent.vocabulary import Locale

KINDS = ("sign-in", "passkey-added", "passkey-removed", "receipt")


def _subjects(brand: str) -> dict[str, str]:
    return {
        "sign-in": gettext("Your sign-in link for %(brand)s", brand=brand),
        "passkey-added": gettext("A passkey was added to your space at %(brand)s", brand=brand),
        "passkey-removed": gettext("A passkey was removed from your space at %(brand)s", brand=brand),
        "receipt": gettext("A receipt is waiting in your space at %(brand)s", brand=brand),
    }


def send_mail(unit: DoorUnit, kind: str, *, controller: Controller, to: str, locale: Locale, **values: object) -> None:
    """Queue one of `KINDS` in the person's language. `values` must name nobody: links, dates and references only."""
    brand = controller.brand_name
    with force_locale(locale.value):
        told = {"brand": brand, "mail_locale": locale.value, **values}
        unit.mail_queue.send(
            controller.id,
            to=to,
            subject=_subjects(brand)[kind],
            text=render_template(f"mail/{kind}.txt", **told),
            html=render_template(f"mail/{kind}.html", **told),
            kind=kind,
        )

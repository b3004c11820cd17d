"""Queueing a mail of ours from a door; what it says is written by `app.letters`, and names nobody.

Leaves out sending: `Mail` behind the door queues it, `outbound` sends it.
"""

from __future__ import annotations

from app import letters
from app.http.doors import DoorUnit
from consent.policy import Controller
from consent.vocabulary import Locale


def send_mail(unit: DoorUnit, kind: str, *, controller: Controller, to: str, locale: Locale, **values: object) -> None:
    """Queue the mail `kind` in the person's language. `values` must name nobody: links, dates and references only."""
    letter = letters.write(kind, controller, locale, **values)
    unit.mail_queue.send(
        controller.id,
        to=to,
        subject=letter.subject,
        text=letter.text,
        html=letter.html,
        kind=kind,
        locale=locale.value,
    )

"""The demonstration's outbox: what would have gone out by mail, for whoever runs the demonstration to read.

Registered only where the settings choose the local outbox, which production refuses (operations.md section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from flask import Blueprint, abort, render_template

from app.http.guard import anyone


class MailFacts(Protocol):
    """What a mail says."""

    @property
    def subject(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def locale(self) -> str:
        """The language it is written in; `und` when nobody said."""
        ...


class DeliveredFacts(Protocol):
    """A mail in the outbox."""

    @property
    def id(self) -> str: ...
    @property
    def at(self) -> datetime: ...
    @property
    def message(self) -> MailFacts: ...


class Outbox(Protocol):
    """The folder of mails."""

    def delivered(self) -> Sequence[DeliveredFacts]: ...
    def read(self, mail_id: str) -> DeliveredFacts | None: ...


def blueprint(outbox: Outbox) -> Blueprint:
    """Return the pages of the outbox."""
    page = Blueprint("outbox", __name__, url_prefix="/outbox")

    @page.get("")
    @anyone
    def listed() -> str:
        return render_template("pages/outbox.html", mails=outbox.delivered(), mail=None)

    @page.get("/<mail_id>")
    @anyone
    def shown(mail_id: str) -> str:
        mail = outbox.read(mail_id)
        if mail is None:
            abort(404)
        return render_template("pages/outbox.html", mails=(), mail=mail)

    return page

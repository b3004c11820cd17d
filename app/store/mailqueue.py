"""Mail queued in the transaction that causes it, sent by durable work afterwards; nothing readable rests here."""

from __future__ import annotations

import json
from collections.abc import Callable

from sqlalchemy.orm import Session

from app.store.rows.mail import QueuedMailRow
from consent.ports import Clock, Ids, Work
from consent.vocabulary import ControllerId

SEND = "mail.send"
"""The work that sends one queued mail; its reference is the mail's id."""
UNDETERMINED = "und"
"""BCP 47: nobody said in which language the words are."""
_ABOUT = "mail_about_"
SealMail = Callable[[ControllerId, str, bytes], bytes]
"""(controller, mail id, plaintext) -> sealed record."""


def about(mail: str) -> str | None:
    """Return the id of what a queued mail is about, where it was given one."""
    return mail.removeprefix(_ABOUT) if mail.startswith(_ABOUT) else None


class MailQueue:
    """The doors' `Mail` over the caller's session."""

    def __init__(self, session: Session, seal: SealMail, work: Work, clock: Clock, ids: Ids) -> None:
        self._session = session
        self._seal = seal
        self._work = work
        self._clock = clock
        self._ids = ids

    def send(
        self,
        controller: ControllerId,
        *,
        to: str,
        subject: str,
        text: str,
        html: str,
        kind: str,
        locale: str = UNDETERMINED,
        about: str | None = None,
    ) -> str:
        """Queue a mail and the work that sends it; returns the mail's id. `kind` names the template.

        `about`: the id of what has this one mail and no other, for `about` to tell whoever hears what became of it.
        """
        said = {"to": to, "subject": subject, "text": text, "html": html}
        mail = self.hold(controller, **said, kind=kind, locale=locale, about=about)
        self.release(mail)
        return mail

    def hold(
        self,
        controller: ControllerId,
        *,
        to: str,
        subject: str,
        text: str,
        html: str,
        kind: str,
        locale: str = UNDETERMINED,
        about: str | None = None,
    ) -> str:
        """Queue a mail that is not sent before `release`: its address may be known no longer by then."""
        mail = self._ids.new("mail") if about is None else f"{_ABOUT}{about}"
        said = {"to": to, "subject": subject, "text": text, "html": html, "locale": locale}
        plain = json.dumps(said, ensure_ascii=False).encode()
        row = QueuedMailRow(
            id=mail,
            controller=controller,
            kind=kind,
            sealed=self._seal(controller, mail, plain),
            queued_at=self._clock.now(),
        )
        self._session.add(row)
        self._session.flush()
        return mail

    def release(self, mail: str) -> None:
        """Have a queued mail sent; twice is once."""
        self._work.enqueue(SEND, mail)

    def waiting(self, mail: str) -> tuple[ControllerId, str, bytes] | None:
        """Return (controller, kind, sealed record), or None once it was handed over."""
        row = self._session.get(QueuedMailRow, mail)
        return (ControllerId(row.controller), row.kind, row.sealed) if row else None

    def sent(self, mail: str) -> None:
        """Remove a mail that was handed over, or never will be."""
        row = self._session.get(QueuedMailRow, mail)
        if row is not None:
            self._session.delete(row)
            self._session.flush()

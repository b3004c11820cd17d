"""One mail, and the port that every sender fits (SMTP, SendGrid, the demo's outbox).

No personal data in bodies (dsar rule 58): a mail says that something waits and links to it. That cannot be proved of
a text, but what can be checked is: the person's own address stands nowhere but in the envelope. Always a text part;
nothing is loaded from elsewhere, so opening the mail tells nobody anything (consent rules section 4, item 7).
Leaves out templates (`app.http.mails`) and queueing (`app.store.mailqueue`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Protocol

from app.outbound.errors import MailRefused

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})")
_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_LOADED = re.compile(
    r"<\s*(?:img|script|iframe|object|embed|link|video|audio|source|base|form)\b|\burl\s*\(|@import", re.I
)
_LONGEST_SUBJECT = 200


@dataclass(frozen=True, slots=True)
class Sender:
    """Who mails come from."""

    address: str
    name: str

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.address) or _CONTROL.search(self.name):
            raise MailRefused("the sender's address or name is malformed")


@dataclass(frozen=True, slots=True)
class Message:
    """One mail to one person. Raises MailRefused when it is malformed or carries what it must not."""

    key: str
    """Names this mail for good (the queued mail's id): sending the same key again is the same mail again."""
    to: str = field(repr=False)
    template: str
    locale: str
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(repr=False)

    def __post_init__(self) -> None:
        for fault, sentence in (
            (not _KEY.fullmatch(self.key), "the mail's key is malformed"),
            (not _ADDRESS.fullmatch(self.to) or ".." in self.to, "the address is malformed"),
            (not self.subject.strip() or len(self.subject) > _LONGEST_SUBJECT, "the subject is empty or too long"),
            (_CONTROL.search(self.subject), "the subject has a control character"),
            (not self.text.strip() or not self.html.strip(), "a mail has a text part and an HTML part"),
            (_LOADED.search(self.html), "the HTML part loads or runs something"),
            (self._names_the_person(), "the address stands in the subject or the body"),
        ):
            if fault:
                raise MailRefused(sentence)

    def _names_the_person(self) -> bool:
        said = f"{self.subject}\n{self.text}\n{self.html}".lower()
        return self.to.lower() in said


@dataclass(frozen=True, slots=True)
class Receipt:
    """A mail was taken over by the next hand (which is not: read, or even delivered)."""

    sender: str
    """`smtp`, `sendgrid` or `outbox`."""
    reference: str
    """What the next hand knows it by."""


class Mailer(Protocol):
    """Takes a mail over or raises."""

    def send(self, message: Message) -> Receipt:
        """Send. Raises MailRefused (never again), MailUnavailable (later)."""
        ...

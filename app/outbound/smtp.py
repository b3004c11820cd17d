"""Mail by SMTP submission (RFC 6409), over TLS: STARTTLS (RFC 3207) or from the first byte (RFC 8314).

One connection a mail: the durable worker sends few and must not hold one open for days. Leaves out queues and retries.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from enum import StrEnum

from app.outbound.errors import CredentialsUnusable, MailRefused, MailUnavailable, PlaintextRefused
from app.outbound.mail import Message, Receipt, Sender

SECONDS = 20.0
_OURS = frozenset({530, 534, 535, 538})
"""What the server holds against our account, not against the mail (RFC 4954 section 6)."""
_TOO_LARGE = 552


class SmtpSecurity(StrEnum):
    """How the link is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"
    """For a relay on this very host, outside production only."""


class SmtpMailer:
    """Sends through one submission server."""

    def __init__(
        self,
        host: str,
        port: int,
        sender: Sender,
        now: Callable[[], datetime],
        *,
        security: SmtpSecurity = SmtpSecurity.STARTTLS,
        username: str | None = None,
        password: str | None = None,
        context: ssl.SSLContext | None = None,
        production: bool = True,
    ) -> None:
        """`context` decides which certificates are believed; by default the system's.

        Raises PlaintextRefused (no TLS in production, or a password that would travel in clear) and
        CredentialsUnusable (not ASCII, or one without the other).
        """
        if security is SmtpSecurity.NONE and (production or password is not None):
            raise PlaintextRefused("mail in production, and every password, needs TLS")
        if not f"{username or ''}{password or ''}".isascii():
            raise CredentialsUnusable("the mail server's user name and password must be ASCII")
        if (username is None) is not (password is None):
            raise CredentialsUnusable("the mail server's user name and password go together")
        self._host, self._port = host, port
        self._sender = sender
        self._now = now
        self._security = security
        self._username, self._password = username, password
        self._context = context or ssl.create_default_context()

    def __repr__(self) -> str:
        return f"SmtpMailer({self._host!r}, {self._port})"

    def send(self, message: Message) -> Receipt:
        """Hand the mail to the server; the receipt's reference is its Message-ID."""
        mail = compose(message, self._sender, self._now())
        # The server's words are dropped on purpose (`from None`): they repeat the address.
        try:
            server = self._connected()
        except (smtplib.SMTPException, OSError) as fault:
            raise MailUnavailable(f"no session with the mail server ({type(fault).__name__})") from None
        try:
            server.send_message(mail, self._sender.address, [message.to])
        except smtplib.SMTPRecipientsRefused as refused:
            raise _judged(min((code for code, _ in refused.recipients.values()), default=0)) from None
        except smtplib.SMTPSenderRefused as refused:
            raise _judged_sender(refused.smtp_code) from None
        except smtplib.SMTPResponseException as refused:
            raise _judged(refused.smtp_code) from None
        except (smtplib.SMTPException, OSError) as fault:
            raise MailUnavailable(f"the mail server went away ({type(fault).__name__})") from None
        finally:
            _leave(server)
        return Receipt("smtp", str(mail["Message-ID"]))

    def _connected(self) -> smtplib.SMTP:
        if self._security is SmtpSecurity.TLS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=SECONDS, context=self._context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=SECONDS)
        try:
            self._introduce(server)
        except BaseException:
            server.close()
            raise
        return server

    def _introduce(self, server: smtplib.SMTP) -> None:
        if self._security is SmtpSecurity.STARTTLS:
            # Raises when the server does not offer it: never on in clear.
            server.starttls(context=self._context)
        if self._username is not None and self._password is not None:
            server.login(self._username, self._password)


def _leave(server: smtplib.SMTP) -> None:
    """End the session; a mail that was taken stays taken, whatever the server says to a good-bye."""
    with suppress(smtplib.SMTPException, OSError):
        server.quit()
    server.close()


def _judged(code: int) -> MailRefused | MailUnavailable:
    """4yz may pass later, 5yz never (RFC 5321 section 4.2.1), unless it is about our account."""
    if 500 <= code < 600 and code not in _OURS:
        return MailRefused(f"the mail server refused the mail for good ({code})")
    return MailUnavailable(f"the mail server does not take the mail now ({code})")


def _judged_sender(code: int) -> MailRefused | MailUnavailable:
    """MAIL FROM names our account; all that is said of the mail there is its size (RFC 1870 section 6.1)."""
    if code == _TOO_LARGE:
        return _judged(code)
    return MailUnavailable(f"the mail server does not take mail from this account ({code})")


def compose(message: Message, sender: Sender, at: datetime) -> EmailMessage:
    """Return the mail as multipart/alternative, text first (RFC 2046 section 5.1.4: the plainest comes first)."""
    user, _, domain = sender.address.rpartition("@")
    mail = EmailMessage(policy=SMTP)
    mail["From"] = Address(sender.name, user, domain)
    mail["To"] = message.to
    mail["Subject"] = message.subject
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = f"<{message.key}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no vacation notice comes back
    mail.set_content(message.text, subtype="plain", charset="utf-8", cte="quoted-printable")
    mail.add_alternative(message.html, subtype="html", charset="utf-8", cte="quoted-printable")
    mail["Content-Language"] = message.locale  # last: the call above takes earlier Content- headers into the first part
    return mail

"""Mail through SendGrid's v3 API, with everything that watches the reader switched off.

Click and open tracking would rewrite the sign-in links through a third party and tell it who reads what (GDPR arts
5(1)(c) and 25; consent rules section 4, item 7), so both are refused in every payload, whatever the account's default
is.
"""

from __future__ import annotations

import logging
from http.client import HTTPException
from urllib.parse import urlsplit

from python_http_client.exceptions import HTTPError
from sendgrid import SendGridAPIClient
from sendgrid.helpers.mail import (
    ClickTracking,
    Content,
    CustomArg,
    Email,
    Ganalytics,
    Header,
    Mail,
    OpenTracking,
    Personalization,
    Subject,
    SubscriptionTracking,
    To,
    TrackingSettings,
)

from app.outbound.errors import MailRefused, MailUnavailable, PlaintextRefused
from app.outbound.mail import Message, Receipt, Sender

SECONDS = 20
ACCEPTED = 202
_LATER = frozenset({401, 403, 408, 429})
"""Not the mail's fault: our key does not hold, or we are too fast. Everything else in 4xx is final."""


class SendGridMailer:
    """Sends through one SendGrid account; `host` chooses the region (`https://api.eu.sendgrid.com`)."""

    def __init__(
        self, key: str, sender: Sender, *, host: str = "https://api.sendgrid.com", production: bool = True
    ) -> None:
        """Raises PlaintextRefused for a host without TLS in production."""
        if production and urlsplit(host).scheme != "https":
            raise PlaintextRefused("the mail service is reached over TLS in production")
        self._sender = sender
        self._client = SendGridAPIClient(api_key=key, host=host).client
        self._client.timeout = SECONDS
        # The HTTP client writes whole requests, addresses included, to its debug log.
        logging.getLogger("python_http_client").setLevel(logging.WARNING)

    def __repr__(self) -> str:
        return "SendGridMailer()"

    def send(self, message: Message) -> Receipt:
        """Hand the mail over; the receipt's reference is SendGrid's message id."""
        # The service's words are dropped on purpose (`from None`): they may repeat the address.
        try:
            answer = self._client.mail.send.post(request_body=payload(message, self._sender))
        except HTTPError as refused:
            raise _judged(int(refused.status_code)) from None
        except (OSError, HTTPException) as fault:
            raise MailUnavailable(f"the mail service is out of reach ({type(fault).__name__})") from None
        if answer.status_code != ACCEPTED:
            raise MailUnavailable(f"the mail service answered {answer.status_code}, not {ACCEPTED}")
        return Receipt("sendgrid", answer.headers.get("X-Message-Id") or message.key)


def _judged(status: int) -> MailRefused | MailUnavailable:
    if 400 <= status < 500 and status not in _LATER:
        return MailRefused(f"the mail service refused the mail for good ({status})")
    return MailUnavailable(f"the mail service does not take the mail now ({status})")


def payload(message: Message, sender: Sender) -> object:
    """Return the v3 mail/send body: one person, text then HTML, nothing tracked."""
    mail = Mail()
    mail.from_email = Email(sender.address, sender.name)
    mail.subject = Subject(message.subject)
    person = Personalization()
    person.add_to(To(message.to))
    person.add_custom_arg(CustomArg("key", message.key))
    mail.add_personalization(person)
    mail.add_content(Content("text/plain", message.text))
    mail.add_content(Content("text/html", message.html))
    mail.add_header(Header("Content-Language", message.locale))
    mail.add_header(Header("Auto-Submitted", "auto-generated"))
    mail.tracking_settings = _untracked()
    return mail.get()


def _untracked() -> TrackingSettings:
    settings = TrackingSettings()
    settings.click_tracking = ClickTracking(enable=False, enable_text=False)
    settings.open_tracking = OpenTracking(enable=False)
    settings.subscription_tracking = SubscriptionTracking(enable=False)
    settings.ganalytics = Ganalytics(enable=False)
    return settings

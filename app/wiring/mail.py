"""Which mailer the settings name, and how a queued mail reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.outbound.errors import MailRefused, MailUnavailable, OutboundError
from app.outbound.mail import Mailer, Message, Sender
from app.outbound.outbox import LocalOutbox
from app.outbound.smtp import SmtpMailer
from app.settings import Settings
from app.store.mailqueue import UNDETERMINED
from app.wiring.founding import MailUnfit
from app.workflows.mail import HandedOver, HandOver
from consent.ports import Clock

FAREWELL: Final = "certificate"
"""The kind of mail that is the last an erased person gets."""


def mailer(settings: Settings, clock: Clock) -> Mailer:
    """Return the sender of the settings. Raises `MailUnfit` for one that cannot send."""
    try:
        return _chosen(settings, clock)
    except OutboundError as unfit:
        raise MailUnfit(f"REGARD_MAIL: {settings.mail} cannot send: {unfit}") from None


def _chosen(settings: Settings, clock: Clock) -> Mailer:
    sender = Sender(settings.mail_from, "Regard")
    if settings.mail == "outbox":
        return LocalOutbox(settings.data_dir / "outbox", clock.now)
    if settings.mail == "sendgrid":
        from app.outbound.sendgrid_v3 import SendGridMailer  # noqa: PLC0415 - a library only this setting needs

        host = settings.sendgrid_host or "https://api.sendgrid.com"
        return SendGridMailer(settings.sendgrid_key.reveal(), sender, host=host, production=settings.production)
    return SmtpMailer(
        settings.smtp_host,
        settings.smtp_port,
        sender,
        clock.now,
        username=settings.smtp_user or None,
        password=settings.smtp_password.reveal() or None,
        production=settings.production,
    )


def hand_over_to(chosen: Mailer) -> HandOver:
    """Return what gives one queued mail to the mailer and says what became of it."""

    def hand_over(mail: str, kind: str, said: Mapping[str, str]) -> HandedOver:
        try:
            # mail queued before languages were kept says none
            chosen.send(Message(key=mail, template=kind, **{"locale": UNDETERMINED, **said}))
        except MailRefused:
            return HandedOver.REFUSED
        except MailUnavailable:
            return HandedOver.LATER
        if kind == FAREWELL and isinstance(chosen, LocalOutbox):
            # the one mailer that keeps what it was handed: with the last mail, the address goes from it (dsar rule 53)
            chosen.forget(said["to"], last=mail)
        return HandedOver.SENT

    return hand_over

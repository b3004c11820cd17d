"""What can go wrong on the way out; each leaf has a stable code, and none carries an address or a text."""

from __future__ import annotations


class OutboundError(Exception):
    """The family."""

    code = "outbound"


class MailRefused(OutboundError):
    """This mail will never be taken: trying again is useless, a person has to look."""

    code = "mail.refused"


class MailUnavailable(OutboundError):
    """The mail service did not take it now (away, overloaded, or our credentials do not hold): try again later."""

    code = "mail.unavailable"


class PlaintextRefused(OutboundError):
    """Production sends nothing over a link that is not encrypted (operations.md section 2)."""

    code = "mail.plaintext"


class CredentialsUnusable(OutboundError):
    """A user name or password that the protocol's library cannot carry."""

    code = "mail.credentials"


class PdfRefused(OutboundError):
    """A document that cannot be rendered as it must be: no language, no title, or something from outside."""

    code = "pdf.refused"

"""What can go wrong on a component's side; each leaf has a stable `code`, and none names a person.

Everything here means "no": a component that catches one of these reads nothing (tokens.md section 6, fails closed).
"""

from __future__ import annotations


class SdkError(Exception):
    """The family."""

    code = "sdk_error"


class Malformed(SdkError):
    """A claim set, proof or answer does not have the agreed shape."""

    code = "malformed"


class BadProof(SdkError):
    """A DPoP proof (RFC 9449 section 4.3) that must not be accepted; `reason` is a short fixed phrase."""

    code = "bad_proof"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreachable(SdkError):
    """The authority did not answer, or answered 5xx or 429: try again later, and read nothing meanwhile."""

    code = "unreachable"


class Refused(SdkError):
    """The authority said no. `status` is the HTTP status, `error` its stable code, `fields` what did not fit."""

    code = "refused"

    def __init__(self, status: int, error: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(f"{status} {error}")
        self.fields = fields
        self.status = status
        self.error = error


class LeaseEnded(SdkError):
    """The key's lease is over: lease again, which asks again."""

    code = "lease_ended"


class JournalDamaged(SdkError):
    """The journal of disclosures holds a complete line that cannot be read."""

    code = "journal_damaged"

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


class BadLine(Malformed):
    """Line number `line` of a part, from 1, is no sealed record; 0 when the part is not made of whole lines."""

    def __init__(self, line: int) -> None:
        super().__init__(f"line {line} is no sealed record")
        self.line = line


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
    """The authority said no: HTTP `status`, stable code `error`, `fields` that did not fit, `reason` of a decision."""

    code = "refused"

    def __init__(self, status: int, error: str, fields: tuple[str, ...] = (), reason: str | None = None) -> None:
        super().__init__(f"{status} {error}" + (f" ({reason})" if reason else ""))
        self.fields = fields
        self.reason = reason
        self.status = status
        self.error = error


class TurnedDown(SdkError):
    """The person said no, or the request came to nothing; `error` is the code of RFC 6749 section 4.1.2.1."""

    code = "turned_down"

    def __init__(self, error: str) -> None:
        super().__init__(error)
        self.error = error


class NotTheAnswer(SdkError):
    """What came back to a partner's address does not answer its request: another `state` or issuer (RFC 9207)."""

    code = "not_the_answer"


class LeaseEnded(SdkError):
    """The key's lease is over: lease again, which asks again."""

    code = "lease_ended"


class RecordTooLarge(SdkError):
    """A record is too large to be handed over in a part of an upload."""

    code = "record_too_large"


class JournalDamaged(SdkError):
    """The journal of disclosures holds a complete line that cannot be read."""

    code = "journal_damaged"


class KeyFileUnfit(SdkError):
    """A key file is open to others, or holds no P-256 key."""

    code = "key_file_unfit"

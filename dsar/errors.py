"""What can go wrong with a request; one family, each leaf with a stable `code` (house.md).

Messages name ids and codes only: no contact data, no free text of a person.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date


class DsarError(Exception):
    """The root of the family; `code` is what APIs and pages switch on."""

    code = "dsar_error"


class CaseUnknown(DsarError):
    """No such case, task, message or package (or not this controller's)."""

    code = "case_unknown"


class CaseChanged(DsarError):
    """Somebody else wrote to the case meanwhile, or opened the same one: read again and retry."""

    code = "case_changed"


class MalformedIntake(DsarError):
    """The request as recorded cannot be: no right, a right twice, an unknown controller, a naive moment."""

    code = "malformed_intake"


class ReceivedInFuture(DsarError):
    """`received_at` lies after the present (dsar rule 1)."""

    code = "received_in_future"


class KindNotServed(DsarError):
    """Cases of this kind need standing proofs that are not built yet; refused rather than half served."""

    code = "kind_not_served"


class MoveRefused(DsarError):
    """The state table has no such move."""

    code = "move_refused"

    def __init__(self, state: str, move: str) -> None:
        super().__init__(f"a case in state {state} cannot {move}")
        self.state = state
        self.move = move


class ExtensionTooLate(DsarError):
    """The first month is over (GDPR art. 12(3); dsar rule 16)."""

    code = "extension_too_late"


class ExtensionUsed(DsarError):
    """An extension is given once (dsar rule 15)."""

    code = "extension_used"


class PauseTooLate(DsarError):
    """The question came too long after receipt to stop the clock; it may still be asked (dsar rule 19)."""

    code = "pause_too_late"


class NoDoubt(DsarError):
    """No doubt recorded, no question asked (GDPR art. 12(6); dsar rule 24)."""

    code = "no_doubt"


class DocumentNotAllowed(DsarError):
    """An identity document may not be asked for here (dsar rules 25, 28)."""

    code = "document_not_allowed"


class AboveNeed(DsarError):
    """A proof above the level the request needs was asked for without a written reason (dsar rule 26)."""

    code = "above_need"


class NotIdentified(DsarError):
    """The proofs do not reach the level this line needs (dsar rule 26)."""

    code = "not_identified"

    def __init__(self, reason: str, needed: int, has: int) -> None:
        super().__init__(f"identity level L{needed} needed, L{has} proved: {reason}")
        self.reason = reason
        self.needed = needed
        self.has = has


class GroundNotAllowed(DsarError):
    """This right knows no such ground, or no refusal at all (dsar rules 8, 57)."""

    code = "ground_not_allowed"


class OutcomeNotAllowed(DsarError):
    """This right cannot end this way, or the case's facts contradict the outcome."""

    code = "outcome_not_allowed"


class SecondPersonNeeded(DsarError):
    """Two different people have to agree (dsar rules 28, 57, 59)."""

    code = "second_person_needed"


class LateRefusal(DsarError):
    """Refusing after month one needs the DPO's override (dsar rule 18)."""

    code = "late_refusal"


class HumanNeeded(DsarError):
    """A robot cannot decide this line (dsar rule 46)."""

    code = "human_needed"


class AccessFirst(DsarError):
    """The erasure waits for the access package of the same case (dsar rules 3, 53)."""

    code = "access_first"


class PackageIncomplete(DsarError):
    """A holder is missing or failed, or the checklist has a hole (dsar rules 37, 40)."""

    code = "package_incomplete"

    def __init__(self, gaps: Iterable[str]) -> None:
        self.gaps = tuple(gaps)
        super().__init__("cannot be sealed: " + ", ".join(self.gaps))


class CopyGone(DsarError):
    """This copy cannot be downloaded: not answered yet, expired, revoked, or of another case (dsar rules 53, 58)."""

    code = "copy_gone"


class ErasurePartial(DsarError):
    """Not every holder has confirmed and been searched again (dsar rule 53)."""

    code = "erasure_partial"

    def __init__(self, waiting: Iterable[str]) -> None:
        self.waiting = tuple(waiting)
        super().__init__("the erasure waits for: " + ", ".join(self.waiting))


class NotAnswered(DsarError):
    """A case cannot end before every line has a dispatched reply (dsar rule 60)."""

    code = "not_answered"


class RecipientsPending(DsarError):
    """A recipient has not been told yet (GDPR art. 19; dsar rule 56)."""

    code = "recipients_pending"


class RetentionUnfounded(DsarError):
    """A retention without category, text or end date (dsar rules 48, 49)."""

    code = "retention_unfounded"

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


class TooEarly(DsarError):
    """The limit that allows this has not passed."""

    code = "too_early"

    def __init__(self, not_before: date) -> None:
        super().__init__(f"not before {not_before.isoformat()}")
        self.not_before = not_before

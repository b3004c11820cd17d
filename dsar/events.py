"""What happens to a case: frozen events, kept for ever in order; a case is their fold (`dsar.case`).

Versioned: `VERSION` names the shape; a stored event is read by the version it was written with. Events hold opaque ids,
codes and moments only (dsar rule 59): what a person or an agent wrote is a sealed note, named by its id.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from consent import plain
from consent.vocabulary import CategoryId, ComponentId, ControllerId, Locale, PartyId, SubjectRef
from dsar.clock import ExtensionReason, PauseCause
from dsar.proofs.shape import Proof
from dsar.vocabulary import (
    CaseId,
    CaseKind,
    Channel,
    DoubtCode,
    Ground,
    HolderStatus,
    LineId,
    MessageId,
    MessageKind,
    Method,
    NoteId,
    Outcome,
    PackageId,
    RecipientOutcome,
    Right,
    TaskId,
    TaskKind,
)

VERSION = 1


@dataclass(frozen=True, slots=True)
class AskedLine:
    """One right asked for in the message."""

    line: LineId
    right: Right


class Ending(StrEnum):
    """The final states of a case."""

    CLOSED = "closed"
    REFUSED = "refused"
    NO_DATA = "no_data"
    WITHDRAWN_BY_SUBJECT = "withdrawn_by_subject"
    CANNOT_IDENTIFY = "cannot_identify"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Every event has its moment and the opaque handle of who caused it."""

    at: datetime
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReceived(Event):
    """`at` is when it was recorded; the clock runs from `received_at` (dsar rule 1)."""

    case: CaseId
    controller: ControllerId
    subject: SubjectRef | None
    kind: CaseKind
    channel: Channel
    received_at: datetime
    locale: Locale
    lines: tuple[AskedLine, ...]
    note: NoteId | None
    contact_changed_at: datetime | None
    forwarded_by: PartyId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReminderLinked(Event):
    """The same was asked again while open: linked, no new clock (dsar rule 9)."""

    right: Right
    received_at: datetime
    channel: Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagePrepared(Event):
    """A message to the person waits to be sent."""

    message: MessageId
    kind: MessageKind
    lines: tuple[LineId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDispatched(Event):
    """A message left, with proof (dsar rule 60)."""

    message: MessageId
    channel: str
    proof: str
    """Opaque: a provider's message id, a registered-letter number, a portal posting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageBounced(Event):
    """A message did not arrive: what it answered is open again."""

    message: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(Event):
    """The reference and the due date were sent (dsar rule 4)."""

    message: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityAsked(Event):
    """With its doubt: code and sealed text (dsar rule 24)."""

    doubt: DoubtCode
    note: NoteId
    method: Method
    message: MessageId
    pausing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClarificationAsked(Event):
    """The request is very broad (recital 63; dsar rule 19)."""

    note: NoteId
    message: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityProved(Event):
    """One proof, as facts."""

    proof: Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityVerified(Event):
    """The proofs are enough for every line."""

    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Event):
    """The clock stands from dispatch of the question (dsar rule 19)."""

    cause: PauseCause
    message: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """The answer came, at `answered_at`."""

    answered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionAnnounced(Event):
    """Decided; effective only once its notice has gone out within month one (dsar rule 16)."""

    reason: ExtensionReason
    months: int
    message: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionEffective(Event):
    """The notice went out in time."""

    months: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionLapsed(Event):
    """The notice went out too late: the first month stands."""

    message: MessageId


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStarted(Event):
    """Every holder is asked (dsar rule 40)."""

    holders: tuple[ComponentId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HolderAnswered(Event):
    """One holder answered one task."""

    task: TaskId
    task_kind: TaskKind
    holder: ComponentId
    status: HolderStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchCompleted(Event):
    """No holder is missing or failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewStarted(Event):
    """For lines that need no search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageSealed(Event):
    """The package of a line exists, whole."""

    package: PackageId
    line: LineId
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageRevoked(Event):
    """Its links die (dsar rule 53)."""

    package: PackageId


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFetched(Event):
    """The person downloaded the package for the first time; an erasure that waited for that may begin (dsar rule 3)."""

    package: PackageId


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftToStaff(Event):
    """The case stopped going by itself: a person has to act. `reason` is a stable code."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LineDecided(Event):
    """The outcome of a line, its grounds, and who agreed."""

    line: LineId
    outcome: Outcome
    grounds: tuple[Ground, ...]
    categories: tuple[CategoryId, ...]
    approved_by: str | None
    evidence: NoteId | None
    late_refusal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(Event):
    """Every line is decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approved(Event):
    """The decisions may be carried out and sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Returned(Event):
    """The approver wants another look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """The case goes straight to its letter: taken back, unanswered, or not identifiable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureStarted(Event):
    """The matrix is drawn, packages are dead, holders and recipients have their tasks."""

    line: LineId


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationStarted(Event):
    """Every holder has confirmed the erasure and is searched again (dsar rule 53)."""

    line: LineId


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedOut(Event):
    """What a line asked for is done; `evidence` names e.g. the certificate."""

    line: LineId
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientNamed(Event):
    """An art. 19 notice is owed to a recipient (dsar rule 56)."""

    task: TaskId
    recipient: PartyId
    line: LineId
    due: date


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientAnswered(Event):
    """Where that notice stands."""

    task: TaskId
    outcome: RecipientOutcome
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched(Event):
    """Every line has a dispatched reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipientsNotified(Event):
    """No recipient is pending."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryReopened(Event):
    """A reply bounced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed(Event):
    """The end, and which one."""

    ending: Ending


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened(Event):
    """The person answered after all (dsar rule 20): `lines` are asked again, on the old clock."""

    lines: tuple[LineId, ...]


KINDS: Mapping[str, type[Event]] = {
    "case.received": CaseReceived,
    "case.reminded": ReminderLinked,
    "case.message_prepared": MessagePrepared,
    "case.message_dispatched": MessageDispatched,
    "case.message_bounced": MessageBounced,
    "case.acknowledged": Acknowledged,
    "case.identity_asked": IdentityAsked,
    "case.clarification_asked": ClarificationAsked,
    "case.identity_proved": IdentityProved,
    "case.identity_verified": IdentityVerified,
    "case.paused": Paused,
    "case.resumed": Resumed,
    "case.extension_announced": ExtensionAnnounced,
    "case.extended": ExtensionEffective,
    "case.extension_lapsed": ExtensionLapsed,
    "case.search_started": SearchStarted,
    "case.holder_answered": HolderAnswered,
    "case.search_completed": SearchCompleted,
    "case.review_started": ReviewStarted,
    "case.package_sealed": PackageSealed,
    "case.package_revoked": PackageRevoked,
    "case.copy_fetched": CopyFetched,
    "case.left_to_staff": LeftToStaff,
    "case.line_decided": LineDecided,
    "case.submitted": Submitted,
    "case.approved": Approved,
    "case.returned": Returned,
    "case.stopped": Stopped,
    "case.erasure_started": ErasureStarted,
    "case.verification_started": VerificationStarted,
    "case.carried_out": CarriedOut,
    "case.recipient_named": RecipientNamed,
    "case.recipient_answered": RecipientAnswered,
    "case.dispatched": Dispatched,
    "case.recipients_notified": RecipientsNotified,
    "case.delivery_reopened": DeliveryReopened,
    "case.closed": Closed,
    "case.reopened": Reopened,
}
"""Ledger kind -> event."""
_KIND_OF = {shape: kind for kind, shape in KINDS.items()}


def kind_of(event: Event) -> str:
    """Return the ledger kind of an event, `case.past_participle`."""
    return _KIND_OF[type(event)]


def encode(event: Event) -> dict[str, object]:
    """Return the event as JSON values."""
    return {name: plain.encode(getattr(event, name)) for name in type(event).__dataclass_fields__}


def decode(kind: str, version: int, payload: Mapping[str, object]) -> Event:
    """Return the event stored as `payload`. Raises ValueError for an unknown kind, version or shape."""
    if version != VERSION or kind not in KINDS:
        raise ValueError(f"no event {kind} of version {version}")
    return plain.decode(KINDS[kind], payload)

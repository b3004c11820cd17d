"""What happens to a consent: frozen, versioned events; a record is nothing but the fold of them (`record`).

Events name opaque identifiers, codes and digests only, never a name, an address or an account number. Each stored event
is linked to the one before by a hash (consent rule 56), so an edited history is found. Kinds follow the event states of
ISO/IEC TS 27560. Leaves out who may cause which event and when: that is `record`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar

from consent.errors import BrokenChainError, UnreadableEventError
from consent.plain import canonical, decode, encode
from consent.vocabulary import CategoryId, ConsentId, ControllerId, LegalBasis, Locale, PartyId, PurposeId, SubjectRef

Plain = dict[str, object]


class ActorKind(StrEnum):
    """Who caused an event, as part of the state (consent.md section 3: who ended it, through which channel)."""

    SUBJECT = "subject"
    """The data subject or another authoriser of the consent."""
    PARTY = "party"
    STAFF = "staff"
    HOLDER = "holder"
    """The institution where the data comes from."""
    SYSTEM = "system"


class Channel(StrEnum):
    """Through what the actor acted; withdrawal has a route without sign-in (consent rules 35, 47)."""

    PAGE = "page"
    SIGNED_LINK = "signed_link"
    API = "api"
    MAIL = "mail"
    PHONE = "phone"
    HOLDER = "holder"
    SCHEDULE = "schedule"
    CASE = "case"
    """A request on file, which knows through what it came."""


@dataclass(frozen=True, slots=True)
class Actor:
    """An actor: its kind and its opaque id."""

    kind: ActorKind
    ref: str


class AuthoriserRule(StrEnum):
    """How many of the authorisers have to agree."""

    ALL = "all"
    ANY = "any"
    N_OF_M = "n_of_m"


@dataclass(frozen=True, slots=True)
class Authorisers:
    """Who has to agree: one person, or several (joint account, guardians, company signatories)."""

    people: tuple[SubjectRef, ...]
    rule: AuthoriserRule = AuthoriserRule.ALL
    n: int | None = None
    """Only with `N_OF_M`."""

    @property
    def needed(self) -> int:
        """Return how many agreements make the consent active."""
        if self.rule is AuthoriserRule.ANY:
            return 1
        if self.rule is AuthoriserRule.N_OF_M and self.n is not None:
            return self.n
        return len(self.people)


class AccessPath(StrEnum):
    """How the data is reached at the institution (consent.md section 3)."""

    POA_LOGIN = "poa_login"
    POA_FEED = "poa_feed"
    OWN_CREDENTIALS = "own_credentials"


@dataclass(frozen=True, slots=True)
class ProfferedTerms:
    """A MyTerms agreement kept on both sides (consent rule 60); off unless the person proffers one."""

    agreement: str
    roster: str
    at: datetime
    accepted: bool
    digest: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked of the subject: immutable once requested; new terms are a new consent that supersedes."""

    controller: ControllerId
    subject: SubjectRef
    purpose: PurposeId
    basis: LegalBasis
    party: PartyId
    """The data user: who asks, and on whose account the data is read."""
    needed: frozenset[CategoryId]
    optional: frozenset[CategoryId]
    recipients: frozenset[PartyId]
    """Every processor, team and recipient named on the page, beside `party` (consent rule 15)."""
    authorisers: Authorisers
    notice_version: int
    longest_days: int
    """Ceiling on the period the person may choose (consent rule 13; a partner's period is a ceiling)."""
    history_from: date
    frequency_per_day: int
    """Unattended reads in 24 h, 0-4 (RTS art. 36(5)(b), consent rule 14)."""
    attended_only: bool
    data_life_days: int | None
    """How long a recipient may keep what it got; enforced by keys."""
    access_path: AccessPath | None
    institution: str | None
    connection: str | None
    mandate: str | None
    supersedes: ConsentId | None
    offer_until: datetime
    """An unanswered request lapses here: silence is never agreement."""
    proffered_terms: ProfferedTerms | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """The exact page a person saw (consent rule 58); digests are lower-case hex SHA-256."""

    notice_digest: str
    template_digest: str
    catalogue_digest: str
    processors_digest: str
    """Of the processor list as shown (consent.md section 3)."""
    policy_digest: str
    locale: Locale
    gpc: bool
    """`Sec-GPC: 1` was sent with the page's request (consent rule 59)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """How the agreement was proven (GDPR art. 7(1))."""

    level: int
    """Identity level 0-4 (dsar rules 1.3)."""
    step_up: str | None
    """Method of strong authentication, e.g. `passkey`; None when there was none."""
    step_up_at: datetime | None
    credential_digest: str | None
    gpc: bool


class SuspensionReason(StrEnum):
    """Why a consent rests; several may hold at once, and it resumes when the last one is lifted."""

    PAUSED_BY_SUBJECT = "paused_by_subject"
    SCA_DUE = "sca_due"
    MANDATE_ENDED = "mandate_ended"
    RESTRICTION = "restriction"
    """GDPR art. 18, dsar rule 51."""
    CONNECTION_ERROR = "connection_error"


class EndReason(StrEnum):
    """Why the controller ended or voided a consent."""

    SERVICE_ENDED = "service_ended"
    PARTY_ENDED = "party_ended"
    SUBJECT_ERASED = "subject_erased"
    NOTICE_FAULTY = "notice_faulty"
    IDENTITY_FAULTY = "identity_faulty"
    GIVEN_UNDER_PRESSURE = "given_under_pressure"


@dataclass(frozen=True, slots=True)
class Event:
    """What every event says: when, who, through what."""

    kind: ClassVar[str]
    schema: ClassVar[int] = 1
    at: datetime
    by: Actor
    channel: Channel


@dataclass(frozen=True, slots=True)
class Requested(Event):
    """A party (or the controller, or the subject) asks for this consent."""

    kind: ClassVar[str] = "consent.requested"
    terms: Terms


@dataclass(frozen=True, slots=True)
class PageShown(Event):
    """The question was put on a page."""

    kind: ClassVar[str] = "consent.shown"
    page: Shown


@dataclass(frozen=True, slots=True)
class Given(Event):
    """One authoriser agrees to these categories for this period."""

    kind: ClassVar[str] = "consent.given"
    authoriser: SubjectRef
    categories: frozenset[CategoryId]
    valid_until: datetime
    attended_only: bool
    institution: str | None
    access_path: AccessPath | None
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """An authoriser says no."""

    kind: ClassVar[str] = "consent.refused"


@dataclass(frozen=True, slots=True)
class Withdrawn(Event):
    """Agreement is taken back (GDPR art. 7(3)); of the whole consent, or of one authoriser's part."""

    kind: ClassVar[str] = "consent.withdrawn"
    authoriser: SubjectRef | None
    """Whose part ends; None ends the whole."""
    delete_data: bool
    """The choice of consent rule 45: delete what is no longer needed."""


@dataclass(frozen=True, slots=True)
class Replaced(Event):
    """A newer consent took its place (renewal; 27560 "re-confirmed")."""

    kind: ClassVar[str] = "consent.replaced"
    superseded_by: ConsentId


@dataclass(frozen=True, slots=True)
class Suspended(Event):
    """It rests, for this reason."""

    kind: ClassVar[str] = "consent.suspended"
    reason: SuspensionReason


@dataclass(frozen=True, slots=True)
class Resumed(Event):
    """This reason to rest is lifted."""

    kind: ClassVar[str] = "consent.resumed"
    reason: SuspensionReason


@dataclass(frozen=True, slots=True)
class Expired(Event):
    """Its period (or the offer's) has passed; silence ends, never renews (consent rule 48)."""

    kind: ClassVar[str] = "consent.expired"


@dataclass(frozen=True, slots=True)
class EndedByController(Event):
    """The controller ended it."""

    kind: ClassVar[str] = "consent.ended_by_controller"
    reason: EndReason


@dataclass(frozen=True, slots=True)
class EndedAtHolder(Event):
    """It was ended in the institution's own dashboard."""

    kind: ClassVar[str] = "consent.ended_at_holder"


@dataclass(frozen=True, slots=True)
class Invalidated(Event):
    """It turned out never to have been valid."""

    kind: ClassVar[str] = "consent.invalidated"
    reason: EndReason


@dataclass(frozen=True, slots=True)
class Narrowed(Event):
    """It covers less from now on, e.g. an account was unlinked; widening needs a new consent."""

    kind: ClassVar[str] = "consent.narrowed"
    categories: frozenset[CategoryId]
    """What remains at most."""


EVENTS: tuple[type[Event], ...] = (
    Requested,
    PageShown,
    Given,
    Refused,
    Withdrawn,
    Replaced,
    Suspended,
    Resumed,
    Expired,
    EndedByController,
    EndedAtHolder,
    Invalidated,
    Narrowed,
)
_BY_KIND: Mapping[tuple[object, object], type[Event]] = {(event.kind, event.schema): event for event in EVENTS}


def to_plain(event: Event) -> Plain:
    """Return the event for storage: `{"kind", "schema", "body"}`."""
    return {"kind": event.kind, "schema": event.schema, "body": encode(event)}


def from_plain(plain: Mapping[str, object]) -> Event:
    """Return the event. Raises UnreadableEventError for an unknown kind, version or shape."""
    shape = _BY_KIND.get((plain.get("kind"), plain.get("schema")))
    if shape is None or set(plain) != {"kind", "schema", "body"}:
        raise UnreadableEventError("unknown kind or schema version")
    try:
        return decode(shape, plain["body"])
    except (ValueError, TypeError) as fault:
        raise UnreadableEventError("the event does not have the shape of its schema version") from fault


FIRST = "0" * 64
"""What stands before the first event of every chain."""


def link(previous: str, consent: ConsentId, version: int, event: Event) -> str:
    """Return the digest that ties event number `version` (from 1) of `consent` to the one before (consent rule 56)."""
    tied = {"previous": previous, "consent": consent, "version": version, "event": to_plain(event)}
    return hashlib.sha256(canonical(tied)).hexdigest()


def chain_head(consent: ConsentId, events: Iterable[Event]) -> str:
    """Return the digest of the last of these events, given from the first on (consent rule 56)."""
    digest = FIRST
    for version, event in enumerate(events, start=1):
        digest = link(digest, consent, version, event)
    return digest


def verify(consent: ConsentId, entries: Iterable[tuple[int, str, Event]], *, head: str) -> tuple[Event, ...]:
    """Return the events of `(version, digest, event)` entries. Raises BrokenChainError where they do not follow."""
    previous, events = FIRST, list[Event]()
    for expected, (version, digest, event) in enumerate(entries, start=1):
        if version != expected or digest != link(previous, consent, version, event):
            raise BrokenChainError(expected)
        previous = digest
        events.append(event)
    if previous != head:
        raise BrokenChainError(len(events) + 1)
    return tuple(events)

"""What the doors need from the rest of the house, as small Protocols; `app.wiring` hands in what fits them.

Records are described by their attributes, so that the store's own dataclasses fit without importing this room.
Every repository works inside a unit: leaving it without `commit()` means nothing happened.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Protocol

from flask import current_app

from app.receipts import SealedReceipt
from app.sdk.claims import AggregationConsent
from app.settings import Secret
from consent.policy import Policy
from consent.ports import Clock, Ids, Json, Unit
from consent.vocabulary import CategoryId, ConsentId, ControllerId, Locale, PartyId, PurposeId, Shredded, SubjectRef
from dsar.ports import Desk, StoredRetention
from dsar.vocabulary import CaseId, LineId

PersonKind = Literal["visitor", "subject", "staff"]


class SessionFacts(Protocol):
    """One server-side session. `level` is the identity level 0-3 (dsar rules 1.3)."""

    @property
    def kind(self) -> PersonKind: ...
    @property
    def person(self) -> str: ...
    @property
    def controller(self) -> ControllerId: ...
    @property
    def level(self) -> int: ...
    @property
    def proven_at(self) -> datetime | None:
        """When a passkey was last asserted in this session."""
        ...

    @property
    def credential(self) -> str | None:
        """Digest of that passkey's id."""
        ...

    @property
    def seen_at(self) -> datetime: ...
    @property
    def enrolment(self) -> str | None:
        """Digest of the printed code typed in this session, that permits a first passkey."""
        ...


class Sessions(Protocol):
    """Sessions by the SHA-256 of their cookie; the cookie itself is stored nowhere."""

    def open(
        self,
        digest: str,
        *,
        kind: PersonKind,
        person: str,
        controller: ControllerId,
        level: int,
        proven_at: datetime | None,
        credential: str | None,
        now: datetime,
        idle: timedelta,
        longest: timedelta,
    ) -> None: ...
    def find(self, digest: str, now: datetime) -> SessionFacts | None:
        """Return the live session, or None when it ended, idled out or never was."""
        ...

    def touch(self, digest: str, now: datetime, idle: timedelta) -> None: ...
    def close(self, digest: str) -> None: ...
    def close_all(self, kind: PersonKind, person: str) -> int: ...
    def close_others(self, kind: PersonKind, person: str, digest: str) -> int: ...
    def put_challenge(self, digest: str, challenge: bytes, until: datetime) -> None: ...
    def pop_challenge(self, digest: str, now: datetime) -> bytes | None:
        """Return the challenge once; the second caller gets None."""
        ...

    def permit_enrolment(self, digest: str, code_digest: str) -> None: ...


class SignInFacts(Protocol):
    """What a redeemed sign-in opens."""

    @property
    def subject(self) -> SubjectRef | None:
        """None for an address nobody has: the row exists all the same, so that both look alike."""
        ...

    @property
    def controller(self) -> ControllerId: ...
    @property
    def onward(self) -> str | None:
        """Our own path to go to afterwards."""
        ...


class SignIns(Protocol):
    """Pending e-mail sign-ins: link digests and the ticket of the browser that asked."""

    def start(
        self,
        ref: str,
        *,
        subject: SubjectRef | None,
        controller: ControllerId,
        link_digest: str,
        ticket_digest: str,
        onward: str | None,
        now: datetime,
        expires_at: datetime,
    ) -> None:
        """Store it and cancel every earlier one of the same subject (consent rule 30)."""
        ...

    def peek(self, link_digest: str, now: datetime) -> bool:
        """Return whether the link would open; changes nothing (consent rule 29)."""
        ...

    def redeem_link(self, link_digest: str, now: datetime) -> SignInFacts | None:
        """Consume it; one of two racing callers gets it."""
        ...

    def pending_ref(self, ticket_digest: str, now: datetime) -> str | None:
        """Return the reference the code is derived from, counting one try; None after the fifth."""
        ...

    def redeem_ref(self, ref: str, now: datetime) -> SignInFacts | None: ...


class Counters(Protocol):
    """Guess counters that outlive a crash."""

    def hit(self, key: str, now: datetime, window: timedelta) -> int:
        """Count one try in the window that `now` falls in and return how many there are."""
        ...


class PasskeyFacts(Protocol):
    """A public key somebody enrolled."""

    @property
    def credential_id(self) -> str: ...
    @property
    def kind(self) -> Literal["subject", "staff"]: ...
    @property
    def person(self) -> str: ...
    @property
    def controller(self) -> ControllerId: ...
    @property
    def public_key(self) -> bytes: ...
    @property
    def sign_count(self) -> int: ...
    @property
    def added_at(self) -> datetime: ...
    @property
    def usable_from(self) -> datetime: ...
    @property
    def used_at(self) -> datetime | None: ...


class Passkeys(Protocol):
    """Public keys by credential id (base64url)."""

    def add(
        self,
        credential_id: str,
        *,
        kind: Literal["subject", "staff"],
        person: str,
        controller: ControllerId,
        public_key: bytes,
        sign_count: int,
        now: datetime,
        usable_from: datetime,
    ) -> None: ...
    def find(self, credential_id: str) -> PasskeyFacts | None: ...
    def of(self, kind: Literal["subject", "staff"], person: str) -> Sequence[PasskeyFacts]: ...
    def used(self, credential_id: str, sign_count: int, now: datetime) -> bool:
        """Move the counter forward; False when another assertion moved it at least as far meanwhile."""
        ...

    def remove(self, credential_id: str, kind: Literal["subject", "staff"], person: str) -> bool: ...


class EnrolmentFacts(Protocol):
    """For whom a printed code was issued."""

    @property
    def kind(self) -> Literal["subject", "staff"]: ...
    @property
    def person(self) -> str: ...
    @property
    def controller(self) -> ControllerId: ...
    @property
    def cooling(self) -> timedelta: ...


class Enrolments(Protocol):
    """Printed codes: the independent channel that permits a first passkey (consent.md section 6)."""

    def issue(
        self,
        digest: str,
        *,
        kind: Literal["subject", "staff"],
        person: str,
        controller: ControllerId,
        now: datetime,
        expires_at: datetime,
        cooling: timedelta,
    ) -> None: ...
    def find(self, digest: str, now: datetime) -> EnrolmentFacts | None: ...
    def redeem(self, digest: str, now: datetime) -> EnrolmentFacts | None: ...


class StaffFacts(Protocol):
    """A member of staff; roles are `guard.StaffRole` values."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def roles(self) -> frozenset[str]: ...
    @property
    def controllers(self) -> frozenset[ControllerId]: ...


class Staff(Protocol):
    """The firm's people."""

    def find(self, staff: str) -> StaffFacts | None: ...


class Mail(Protocol):
    """Sending mail: queued with the unit, sent after it commits. Bodies carry no personal data."""

    def send(
        self,
        controller: ControllerId,
        *,
        to: str,
        subject: str,
        text: str,
        html: str,
        kind: str,
        locale: str = ...,
    ) -> str:
        """`locale` is the language of the words, as BCP 47 has it."""
        ...


class JourneyFacts(Protocol):
    """One consent question put to one person."""

    @property
    def id(self) -> str: ...
    @property
    def controller(self) -> ControllerId: ...
    @property
    def subject(self) -> SubjectRef: ...
    @property
    def consent(self) -> ConsentId: ...
    @property
    def script(self) -> str:
        """The journey of the policy pack whose stages it has."""
        ...

    @property
    def progress(self) -> Mapping[str, object]: ...
    @property
    def onward(self) -> bool:
        """Whether a partner waits for the person to come back."""
        ...


class Journeys(Protocol):
    """Questions under way."""

    def begin(
        self,
        journey: str,
        *,
        controller: ControllerId,
        subject: SubjectRef,
        consent: ConsentId,
        script: str,
        progress: Mapping[str, object],
        onward: bool,
        now: datetime,
    ) -> None: ...
    def find(self, journey: str) -> JourneyFacts | None: ...
    def latest(self, controller: ControllerId, subject: SubjectRef, consent: ConsentId) -> str | None: ...
    def save(self, journey: str, progress: Mapping[str, object]) -> None: ...


class PendingFacts(Protocol):
    """A partner's request that waits for a person's answer."""

    @property
    def controller(self) -> str: ...
    @property
    def party(self) -> str: ...
    @property
    def proposal(self) -> AggregationConsent: ...


class Authorizations(Protocol):
    """Partners' requests by journey, each call a unit of its own. Raises `InvalidRequestUri` for one that is over."""

    def pending(self, journey: str) -> PendingFacts: ...
    def complete(self, journey: str, consent: ConsentId, subject: SubjectRef) -> str:
        """Return where to send the person, with a code."""
        ...

    def refuse(self, journey: str) -> str:
        """Return where to send the person, with the refusal."""
        ...


class SubjectFacts(Protocol):
    """What is on file of a person without opening their profile."""

    @property
    def locale(self) -> Locale: ...


class ContactPoints(Protocol):
    """Since when a person can be reached where, and in which language."""

    def get(self, ref: SubjectRef) -> SubjectFacts | None: ...

    def known_since(self, ref: SubjectRef, kind: str) -> datetime | None:
        """Return since when the contact point (`email`) is on file (dsar rule 27)."""
        ...


class CertificateLinkFacts(Protocol):
    """What the token of a certificate opens."""

    @property
    def controller(self) -> ControllerId: ...
    @property
    def case(self) -> CaseId: ...
    @property
    def erasure(self) -> str: ...


class CertificateLinks(Protocol):
    """Links to certificates by the SHA-256 of their token; the token itself is stored nowhere."""

    def find(self, digest: bytes) -> CertificateLinkFacts | None: ...


class LeafNumbers(Protocol):
    """Where ledger entries stand in the tree."""

    def of(self, entries: Sequence[str]) -> Mapping[str, int]:
        """Return entry id -> leaf number; those that still wait are left out."""
        ...

    def size(self) -> int: ...


class CandidateFacts(Protocol):
    """A table that asks to leave, as its DPO sees it: figures of groups, never a row (exports.md rule 7)."""

    @property
    def id(self) -> str: ...
    @property
    def controller(self) -> ControllerId: ...
    @property
    def profile(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def report(self) -> Mapping[str, object]: ...
    @property
    def planned_at(self) -> datetime: ...
    @property
    def approved_by(self) -> str | None: ...
    @property
    def approved_at(self) -> datetime | None: ...
    @property
    def cohort(self) -> str | None: ...


class ReleaseCandidates(Protocol):
    """What asks to be released (exports.md rule 6)."""

    def find(self, candidate: str) -> CandidateFacts | None: ...
    def of(self, controllers: Collection[ControllerId], *, limit: int = 50) -> Sequence[CandidateFacts]:
        """Return them newest first."""
        ...

    def approve(self, candidate: str, digest: str, by: str, at: datetime) -> bool:
        """Record the approval of exactly these files, once; False when it was given or the files are others."""
        ...


class Receipts(Protocol):
    """Receipts of one consent, newest first; each sealed."""

    def of_consent(self, controller: ControllerId, consent: ConsentId) -> Sequence[SealedReceipt]: ...
    def find(self, controller: ControllerId, consent: ConsentId, receipt: str) -> SealedReceipt | None: ...


class NoticeFacts(Protocol):
    """Something that was done about a consent."""

    @property
    def occasion(self) -> str: ...
    @property
    def at(self) -> datetime: ...


class Notices(Protocol):
    """What was done about consents, in order."""

    def of_consent(self, controller: ControllerId, consent: ConsentId) -> Sequence[NoticeFacts]: ...


class DoorUnit(Unit, Protocol):
    """One unit of work of the doors: everything in it commits together. The law's own unit is part of it."""

    @property
    def sessions(self) -> Sessions: ...
    @property
    def sign_ins(self) -> SignIns: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def passkeys(self) -> Passkeys: ...
    @property
    def enrolments(self) -> Enrolments: ...
    @property
    def staff(self) -> Staff: ...
    @property
    def journeys(self) -> Journeys: ...
    @property
    def mail_queue(self) -> Mail: ...
    @property
    def disclosures(self) -> Disclosures: ...
    @property
    def leaf_numbers(self) -> LeafNumbers: ...
    @property
    def release_candidates(self) -> ReleaseCandidates: ...
    @property
    def subjects(self) -> ContactPoints: ...
    @property
    def receipts(self) -> Receipts: ...
    @property
    def notices(self) -> Notices: ...
    @property
    def certificate_links(self) -> CertificateLinks: ...


class ProfileFacts(Protocol):
    """What the space shows of the person themself."""

    @property
    def name(self) -> str: ...
    @property
    def email(self) -> str: ...


class Subjects(Protocol):
    """Subjects, found by blind index, their profile opened with their key."""

    def find_by_email(self, controller: ControllerId, email: str) -> SubjectRef | None: ...
    def profile(self, subject: SubjectRef) -> ProfileFacts | None:
        """Return None once the subject's keys are destroyed."""
        ...


class DisclosureFacts(Protocol):
    """One look at a person's data (consent rule 51)."""

    @property
    def party(self) -> PartyId: ...
    @property
    def component(self) -> str | None: ...
    @property
    def actor_role(self) -> str | None: ...
    @property
    def categories(self) -> tuple[CategoryId, ...]: ...
    @property
    def records(self) -> int: ...
    @property
    def purpose(self) -> PurposeId: ...
    @property
    def consent(self) -> str | None: ...
    @property
    def attended(self) -> bool: ...
    @property
    def action(self) -> str: ...
    @property
    def at(self) -> datetime: ...


class Disclosures(Protocol):
    """Who looked, newest first."""

    def of_subject(self, subject: SubjectRef, *, without: Collection[CategoryId] = ()) -> Sequence[DisclosureFacts]: ...


class Copies(Protocol):
    """Finished copies of access and portability lines, sealed at rest under the subject's keys."""

    def read(self, controller: ControllerId, subject: SubjectRef, line: LineId) -> bytes:
        """Return the archive. Raises `NotHere` without one, `Erased` once the keys are destroyed (dsar rule 53).

        Whether it may be shown (expiry, revocation) is the caller's.
        """
        ...

    def destroy(self, line: LineId) -> None:
        """Remove the sealed bytes; nothing happens when they are gone already."""
        ...


@dataclass(frozen=True, slots=True)
class ClientActor:
    """An OAuth client behind a valid token."""

    client: str
    party: PartyId
    controller: ControllerId
    scopes: frozenset[str]
    consent: str | None


class ClientTokens(Protocol):
    """Who presents this request's token."""

    def present(self, headers: Mapping[str, str], method: str, url: str) -> ClientActor | None:
        """Return who it is, by a token that is valid now (DPoP proof included, RFC 9449); None for nobody.

        Whoever can say what is missing raises `ClientUnknown` instead, with the challenge to answer (RFC 6750).
        """
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Tries allowed, and how long things last (consent rules 30-31, dsar rule 30)."""

    window: timedelta = timedelta(minutes=15)
    per_address: int = 5
    per_ip: int = 60
    per_code: int = 10
    link: timedelta = timedelta(minutes=15)
    challenge: timedelta = timedelta(minutes=5)
    idle: timedelta = timedelta(minutes=30)
    longest: timedelta = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything the pages stand on."""

    policy: Policy
    controller: ControllerId
    """The firm that runs the deployment: whose name the pages carry when nothing says otherwise."""
    origin: str
    """`https://host[:port]`, without a slash; the WebAuthn origin and the base of links in mail."""
    key: Secret
    """Server key of forms, codes and counters; changing it ends pending forms and sign-ins."""
    clock: Clock
    ids: Ids
    entropy: Callable[[int], bytes]
    unit: Callable[[], DoorUnit]
    reading: Callable[[], DoorUnit]
    """A unit nobody writes in, so that looking does not queue behind the one writer of SQLite."""
    subjects: Subjects
    tokens: ClientTokens
    desk: Callable[[DoorUnit], Desk]
    """The desk of cases over a unit of these doors: what `dsar.usecases` take; commits with the unit."""
    copies: Copies
    certificates: Callable[[str], Sequence[Mapping[str, Json]]]
    """Erasure id -> its signed certificates, one a subject; none before the erasure is certified."""
    certificate_pdf: Callable[[Mapping[str, Json], Sequence[StoredRetention], Locale], bytes]
    """A certificate to read and print, with what is kept, in a language."""
    open_receipt: Callable[[SealedReceipt], str | Shredded]
    """A stored receipt -> its compact JWS."""
    authorizations: Authorizations | None = None
    """None where no authorization server is built in: then nothing is asked on a partner's behalf."""
    limits: Limits = field(default_factory=Limits)
    locale: Locale = Locale.EN
    """The language when neither the address nor the browser says one."""


def doors() -> Doors:
    """Return the doors of the running application."""
    found: Doors = current_app.extensions["regard.doors"]
    return found

"""What the JSON doors need from the house, as small Protocols; `app.wiring` hands in what fits them.

Nothing is decided here: the law is asked through `ApiUnit.judge`, on every lease and every evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from app.receipts import SealedReceipt
from app.vault.keys import Scope
from consent.decision import Deny, Permit, Question
from consent.policy import Policy
from consent.ports import Clock, Ids, Json, Unit
from consent.vocabulary import (
    CategoryId,
    ComponentId,
    ConsentId,
    ControllerId,
    PairwiseHandle,
    PartyId,
    PurposeId,
    Shredded,
    SubjectRef,
)
from dsar.ports import Desk


@dataclass(frozen=True, slots=True)
class Presented:
    """A token somebody presented to a holder: who reads, under which consent, and whether it stands right now."""

    client: ComponentId
    party: PartyId
    consent: ConsentId
    controller: ControllerId
    subject: SubjectRef
    purpose: PurposeId
    categories: frozenset[CategoryId]
    attended: bool
    expires_at: datetime
    stands: bool
    """The whole join of tokens.md section 1; False after any change of the consent since the token was issued."""


@dataclass(frozen=True, slots=True)
class Look:
    """One disclosure (consent rule 51). `id` makes writing it twice harmless; `records` is 0 where nobody counted."""

    id: str
    controller: ControllerId
    subject: SubjectRef
    party: PartyId
    component: ComponentId
    actor_role: str | None
    categories: tuple[CategoryId, ...]
    records: int
    purpose: PurposeId
    consent: ConsentId | None
    attended: bool
    action: str
    at: datetime


class ApiUnit(Protocol):
    """One unit of work: leaving it without `commit()` means nothing happened."""

    def presented(self, secret: str, holder: str) -> Presented | None:
        """Return the token `secret` if it was issued for the component `holder` and has not run out; else None."""
        ...

    def judge(self, question: Question) -> Permit | Deny: ...
    def named(self, handle: PairwiseHandle, party: PartyId) -> SubjectRef | None:
        """Return whom `party` calls `handle`; None for another party's handle and for a forgotten one alike."""
        ...

    def controller_of(self, subject: SubjectRef) -> ControllerId | None: ...
    def erased_at(self, subject: SubjectRef) -> datetime | None: ...
    def party_of(self, component: ComponentId) -> PartyId | None: ...
    def readers(self, consent: ConsentId, subject: SubjectRef) -> frozenset[PartyId]:
        """Return who is named in a consent of this subject; nobody when there is no such consent."""
        ...

    def write(self, look: Look) -> bool:
        """Write a disclosure; False when its id was written before."""
        ...

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str: ...
    def commit(self) -> None: ...


class Lease(Protocol):
    """A data key on loan; wipe `key` when done."""

    @property
    def key_id(self) -> bytes: ...
    @property
    def key(self) -> bytearray: ...
    @property
    def expires_at(self) -> datetime: ...
    @property
    def messages(self) -> int: ...


class Keys(Protocol):
    """The vault. Raises `app.vault.errors`."""

    def lease(self, scope: Scope, seconds: int, *, key_id: bytes | None = None) -> Lease: ...
    def seal(self, scope: Scope, record_id: str, plaintext: bytes, *, handle: str | None = None) -> bytes: ...
    def open(self, scope: Scope, record_id: str, record: bytes, *, handle: str | None = None) -> bytes: ...


class Ledger(Protocol):
    """The public face of the ledger. Raises `app.ledger.errors.PositionUnknown`."""

    def checkpoint(self) -> str: ...
    def checkpoint_of(self, size: int) -> str: ...
    def witnessed(self) -> str:
        """Return the newest checkpoint that a witness cosigned."""
        ...

    def cosign(self, size: int, line: str) -> str:
        """Take in a witness' signature line; return the checkpoint with it. Raises `WitnessRefused`."""
        ...

    def inclusion(self, position: int, size: int) -> list[bytes]: ...
    def consistency(self, old_size: int, size: int) -> list[bytes]: ...


class Receipts(Protocol):
    """Receipts of one consent, newest first; each sealed."""

    def of_consent(self, controller: ControllerId, consent: ConsentId) -> Sequence[SealedReceipt]: ...


class AgreementUnit(Protocol):
    """One unit of work on a party's consents: the law's own, and what the party calls people."""

    @property
    def law(self) -> Unit: ...
    @property
    def receipts(self) -> Receipts: ...
    def handle_of(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        """Return what `party` calls the subject; None before they met."""
        ...

    def handle(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None:
        """The same, made when there is none; None for an erased subject."""
        ...


class HolderUnit(Protocol):
    """One unit of work of the holder protocol: leaving it without `commit()` means nothing happened."""

    @property
    def desk(self) -> Desk: ...
    def seen(self, component: ComponentId, controller: ControllerId, at: datetime) -> None:
        """Note a sign of life."""
        ...

    def handle_of(self, subject: SubjectRef, party: PartyId) -> PairwiseHandle | None: ...
    def name(self, subject: SubjectRef, controller: ControllerId, party: PartyId) -> PairwiseHandle:
        """Return what `party` calls the subject; the first time it asks, that is made."""
        ...

    def let_go(self, subject: SubjectRef, party: PartyId) -> None:
        """Forget what `party` calls an erased subject, once its holders have nothing left to do or to keep."""
        ...

    def commit(self) -> None: ...


class PartFiles(Protocol):
    """Where the parts of uploads rest, sealed as they came, by the task's id."""

    def write_part(self, name: str, number: int, sealed: bytes) -> None:
        """Write a part, replacing it. Raises LookupError when the one before it is missing."""
        ...

    def read_part(self, name: str, number: int) -> bytes: ...
    def parts(self, name: str) -> int: ...
    def keep_parts(self, name: str, count: int) -> None:
        """Remove the parts behind the first `count`."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with an `Idempotency-Key`: keyed SHA-256 of the client and its key, and of everything it says."""

    name: bytes
    controller: ControllerId
    request: bytes


@dataclass(frozen=True, slots=True)
class Claimed:
    """The right to carry a request out."""

    name: bytes
    controller: ControllerId
    claim: str


@dataclass(frozen=True, slots=True)
class Answered:
    """It was carried out; what was answered."""

    answer: bytes = field(repr=False)


class Taken(StrEnum):
    """Why a name cannot be claimed."""

    IN_PROGRESS = "in_progress"
    OTHER_REQUEST = "other_request"


class KeyedRequests(Protocol):
    """Requests that clients named (api.md)."""

    def claim(self, asked: Asked) -> Claimed | Answered | Taken: ...
    def carrying(self, claimed: Claimed) -> AbstractContextManager[Callable[[bytes], bool]]:
        """Make every unit that is opened inside one; calling what this yields commits all of it with the answer.

        That returns False, and nothing happened, when the claim is somebody else's by then.
        """
        ...

    def release(self, claimed: Claimed) -> None:
        """Give back a claim that came to nothing; nothing happens when it was kept or taken over."""
        ...


@dataclass(frozen=True, slots=True)
class ApiServices:
    """Everything the JSON doors stand on."""

    policy: Policy
    clock: Clock
    ids: Ids
    writing: Callable[[], AbstractContextManager[ApiUnit]]
    reading: Callable[[], AbstractContextManager[ApiUnit]]
    """A unit nobody writes in."""
    keys: Keys
    ledger: Ledger
    fulfilling: Callable[[], AbstractContextManager[HolderUnit]]
    pulling: Callable[[], AbstractContextManager[HolderUnit]]
    """A unit nobody writes in."""
    parts: PartFiles
    amending: Callable[[], AbstractContextManager[AgreementUnit]]
    agreements: Callable[[], AbstractContextManager[AgreementUnit]]
    """A unit nobody writes in."""
    open_receipt: Callable[[SealedReceipt], str | Shredded]
    """A stored receipt -> its compact JWS."""
    keyed: KeyedRequests

"""What a proof of identity is, and what a method says of itself. Leaves out codes, links and images: only the facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dsar.vocabulary import Level, Method, Right


class Standing(StrEnum):
    """What a method proves."""

    CHANNEL = "channel"
    """Control of one contact point; two independent ones make L2."""
    CREDENTIAL = "credential"
    """Something enrolled with us."""
    DOCUMENT = "document"
    """Checked by people against the person."""
    MANDATE = "mandate"
    """Not who speaks, but for whom."""


class Lack(StrEnum):
    """Why proofs do not do."""

    NO_PROOF = "no_proof"
    LEVEL_TOO_LOW = "level_too_low"
    ENROLLED_AFTER_REQUEST = "enrolled_after_request"
    """Only what was known before the request proves anything (dsar rule 27)."""
    RECENT_CONTACT = "recent_contact"
    ONE_CHANNEL_ONLY = "one_channel_only"
    PROVED_LATER = "proved_later"
    """The proof lies after the moment it is judged at."""
    TWO_PEOPLE = "two_people"
    DOCUMENT_EXPIRED = "document_expired"
    MANDATE_MISSING = "mandate_missing"
    MANDATE_EXPIRED = "mandate_expired"
    MANDATE_WRONG_RIGHT = "mandate_wrong_right"


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof given, as facts only (dsar rules 29, 59)."""

    method: Method
    at: datetime
    instrument: str
    """Opaque handle of the contact point, passkey, letter or mandate; two proofs by the same one count once."""
    known_since: datetime | None = None
    """When the contact point or passkey came on file."""
    checked_by: tuple[str, ...] = ()
    """Handles of the agents who checked; a document needs two (dsar rule 28)."""
    rights: tuple[Right, ...] = ()
    """Mandates: the rights they name (dsar rule 33)."""
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What a proof is judged against."""

    right: Right
    received_at: datetime
    at: datetime
    recent_contact_days: int


@dataclass(frozen=True, slots=True)
class ProofMethod:
    """One line of the register."""

    method: Method
    standing: Standing
    level: Level
    """What one such proof, found sound, is worth alone."""
    form: str | None
    """The template that asks for it, or None where nobody can be asked yet."""
    fault: Callable[[Proof, Setting], Lack | None]
    """Why this proof does not count here."""


def known_before(proof: Proof, setting: Setting) -> Lack | None:
    """Refuse what came on file with or after the request (dsar rule 27), or is not proved yet."""
    if proof.at > setting.at:
        return Lack.PROVED_LATER
    if proof.known_since is None or proof.known_since >= setting.received_at:
        return Lack.ENROLLED_AFTER_REQUEST
    return None


def checked_by_two(proof: Proof, setting: Setting) -> Lack | None:
    """Refuse what two different people did not check (dsar rules 28, 59)."""
    if proof.at > setting.at:
        return Lack.PROVED_LATER
    if len(set(proof.checked_by)) < 2:
        return Lack.TWO_PEOPLE
    if proof.valid_until is not None and proof.valid_until <= proof.at:
        return Lack.DOCUMENT_EXPIRED
    return None

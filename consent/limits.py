"""Restrictions and objections as they are kept: what was asked, on which ground, since when and until when.

GDPR arts 18 and 21; dsar rules 8, 51, 52. Plain data and the law of who may change it; `limiting` acts on it and
`decision` meets the short form each record gives. Leaves out the letter a person gets (`dsar`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from consent.decision import Objection, Restriction
from consent.events import Actor, Channel
from consent.vocabulary import CategoryId, ControllerId, PurposeId, SubjectRef

LimitId = NewType("LimitId", str)
"""`lim_...`, of a restriction or of an objection."""


class RestrictionGround(StrEnum):
    """GDPR art. 18(1)(a)-(d)."""

    ACCURACY_CONTESTED = "accuracy_contested"
    UNLAWFUL_PROCESSING = "unlawful_processing"
    NEEDED_FOR_CLAIMS = "needed_for_claims"
    OBJECTION_WEIGHED = "objection_weighed"
    NOT_STATED = "not_stated"
    """Asked for without a word why: restricted at once, the ground is settled with the case (dsar rule 2)."""


class Exemption(StrEnum):
    """For what restricted data may be used all the same, beside consent and storage (GDPR art. 18(2))."""

    LEGAL_CLAIMS = "legal_claims"
    PROTECTION_OF_OTHERS = "protection_of_others"
    PUBLIC_INTEREST = "public_interest"


@dataclass(frozen=True, slots=True)
class Whose:
    """For whom a limit is asked, and what it comes from, e.g. the line of a case: an opaque id."""

    controller: ControllerId
    subject: SubjectRef
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What a restriction covers; None: all there is, what is still to come included."""

    categories: frozenset[CategoryId] | None = None
    purposes: frozenset[PurposeId] | None = None


ALL = Scope()


@dataclass(frozen=True, slots=True)
class Act:
    """Who does it, through what, when."""

    by: Actor
    channel: Channel
    at: datetime


@dataclass(frozen=True, slots=True)
class Told:
    """The message that told the subject beforehand: its opaque id and when it left."""

    message: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RestrictionRecord:
    """One restriction."""

    id: LimitId
    whose: Whose
    ground: RestrictionGround
    since: datetime
    scope: Scope = ALL
    exempt: frozenset[PurposeId] = frozenset()
    told: str | None = None
    """The message that announced its end (art. 18(3))."""
    lifted_at: datetime | None = None

    @property
    def limit(self) -> Restriction:
        """What the decision needs of it."""
        return Restriction(self.since, self.exempt, self.scope.categories, self.scope.purposes, self.lifted_at)


@dataclass(frozen=True, slots=True)
class ObjectionRecord:
    """One objection; without a purpose it is the one to direct marketing, which nobody can refuse (art. 21(3))."""

    id: LimitId
    whose: Whose
    purpose: PurposeId | None
    since: datetime
    evidence: str | None = None
    """Where the compelling grounds are written down, once it is refused (dsar rule 52)."""
    refused_at: datetime | None = None
    retracted_at: datetime | None = None

    @property
    def limit(self) -> Objection:
        """What the decision needs of it."""
        return Objection(self.purpose, self.since, self.refused_at is not None, self.retracted_at)

"""The names of keys: classes, scopes, selectors (vault.md section 1). Names only; no key bytes here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class KeyClass(StrEnum):
    """Keys with lives of their own, under roots of their own."""

    DATA = "data"
    AUDIT = "audit"
    """Ledger payloads; own retention, so not part of an ordinary erasure."""
    POOL = "pool"
    """Values held back for an export cohort."""
    INDEX = "index"
    """Blind indexes."""


SUBJECT_CLASSES = (KeyClass.AUDIT, KeyClass.DATA, KeyClass.POOL)
"""The classes in which each subject has a key, in the order in which partitions are locked."""
ERASED_CLASSES = (KeyClass.DATA, KeyClass.POOL)
"""What a subject's erasure takes unless it says otherwise."""


class Basis(StrEnum):
    """Whether the data lives on a consent or on something else; a withdrawal must not take the rest."""

    CONSENT = "consent"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Scope:
    """What one data key is for. `holder`: the party that stores; `life`: a day or month bucket, "" when unlimited."""

    controller: str
    subject: str
    holder: str
    category: str
    basis: Basis = Basis.OTHER
    life: str = ""
    key_class: KeyClass = KeyClass.DATA

    def same_place(self, other: Scope) -> bool:
        """Whether both name the same subject, holder, category and class; basis and life are the key's own."""
        mine = (self.controller, self.subject, self.holder, self.category, self.key_class)
        return mine == (other.controller, other.subject, other.holder, other.category, other.key_class)


@dataclass(frozen=True, slots=True)
class Selector:
    """Picks data keys of one subject; `None` means any. Categories are compared whole: the tree is the law's."""

    holder: str | None = None
    category: str | None = None
    basis: Basis | None = None
    life: str | None = None

    def takes(self, scope: Scope) -> bool:
        """Return whether `scope` is picked."""
        asked = (self.holder, self.category, self.basis, self.life)
        found = (scope.holder, scope.category, scope.basis, scope.life)
        return all(want is None or want == have for want, have in zip(asked, found, strict=True))


@dataclass(frozen=True, slots=True)
class Keep:
    """Data keys that outlive an erasure: which, until when, and why (a code; dsar rule 49: always an end date)."""

    selector: Selector
    until: date
    reason: str


@dataclass(frozen=True, slots=True)
class Target:
    """One subject to shred. Without `only`: whole, nothing new may be made. With it: those keys alone, others live on.

    `classes` are the key classes touched. `keep` spares keys of a whole shred.
    """

    controller: str
    subject: str
    only: tuple[Selector, ...] = ()
    keep: tuple[Keep, ...] = ()
    classes: tuple[KeyClass, ...] = ERASED_CLASSES

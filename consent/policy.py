"""The policy pack as data: categories, purposes, retention, notices, controllers (GDPR arts 5, 6, 13, 30).

`check(policy)` returns *all* problems, never only the first. Reading files is `app.policyfiles`' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from consent.parties import Party
from consent.vocabulary import CategoryId, ControllerId, LegalBasis, Locale, PurposeId, Text

KeyClass = Literal["data", "audit", "pool", "index"]


@dataclass(frozen=True, slots=True)
class Controller:
    """A firm that decides why data is processed (GDPR art. 4(7))."""

    id: ControllerId
    legal_name: str
    brand_name: str
    register_numbers: Mapping[str, str]
    """Register -> number, e.g. {"ORIAS": "...", "REGAFI": "..."}."""
    address: str
    country: str
    dpo_email: str
    authority: Text
    authority_url: str
    locales: tuple[Locale, ...]
    time_zone: str
    holiday_country: str
    holiday_subdivision: str | None
    capacity: Literal["controller", "processor"]
    """The deploying firm's own role towards this controller's subjects."""
    regions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A kind of data; shown to people in clusters (consent rule 10)."""

    id: CategoryId
    parent: CategoryId | None
    cluster: str
    names: Text
    special: bool
    sensitivity: int
    """1 contact-like, 2 personal, 3 financial or identity papers (drives the identity level, dsar rule 26)."""
    key_class: KeyClass


@dataclass(frozen=True, slots=True)
class Cluster:
    """The heading under which people see categories ("Your accounts")."""

    id: str
    names: Text


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why data is processed, with its legal basis (GDPR arts 5(1)(b), 6)."""

    id: PurposeId
    controller: ControllerId
    names: Text
    why: Text
    """The sentence a person reads for "why"."""
    consequence: Text
    """What stops when the person refuses or withdraws (consent rules 8, 45)."""
    basis: LegalBasis
    needed: frozenset[CategoryId]
    optional: frozenset[CategoryId]
    longest_days: int
    periods_days: tuple[int, ...]
    """The short list the person chooses from; 1 = one time (consent rule 13)."""
    history_days: int
    reads_per_day: int
    """Unattended reads in 24 h, at most 4 (RTS art. 36(5)(b))."""
    needs_sca: bool
    needs_mandate: bool
    notice_version: int
    sells_data: bool = False


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a category is kept for a purpose after its trigger, and on which text (GDPR art. 5(1)(e))."""

    category: CategoryId
    purpose: PurposeId
    days: int
    trigger: str
    legal_ref: str
    on_erasure: Literal["erase", "retain", "anonymise"]
    reason: Text


@dataclass(frozen=True, slots=True)
class Notice:
    """The immutable text a person was shown, one language of one version."""

    purpose: PurposeId
    version: int
    locale: Locale
    body: str
    digest: str
    """Lower-case hex SHA-256 of the UTF-8 body."""


@dataclass(frozen=True, slots=True)
class RightRule:
    """What the pack says of one data-subject right."""

    right: str
    article: str
    months: int
    level: int
    """Identity level 0-4 (dsar rules 1.3)."""
    names: Text


@dataclass(frozen=True, slots=True)
class Institution:
    """A bank, insurer or custodian and the ways its data is reached."""

    id: str
    name: str
    country: str
    paths: tuple[str, ...]
    sca_methods: tuple[str, ...]
    feed_formats: tuple[str, ...]
    reads_per_hour: int
    categories: frozenset[CategoryId]


@dataclass(frozen=True, slots=True)
class Role:
    """An internal team's role: which categories it may see once assigned to the file."""

    id: str
    names: Text
    categories: frozenset[CategoryId]


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole pack. `digest` = hex SHA-256 over every file of the pack, path by path in order."""

    version: str
    digest: str
    controllers: Mapping[ControllerId, Controller]
    clusters: Mapping[str, Cluster]
    categories: Mapping[CategoryId, Category]
    purposes: Mapping[PurposeId, Purpose]
    parties: Mapping[str, Party]
    retentions: tuple[Retention, ...]
    rights: Mapping[str, RightRule]
    roles: Mapping[str, Role]
    institutions: Mapping[str, Institution]
    notices: Mapping[tuple[PurposeId, int, Locale], Notice]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a pack: the file, the key in it, and the sentence that says how to mend it."""

    file: str
    key: str
    sentence: str

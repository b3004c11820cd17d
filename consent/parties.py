"""The processor list: by default, whoever is not on it has no access (GDPR arts 28, 30; rules P1-P5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from consent.vocabulary import Action, CategoryId, ControllerId, PartyId, PurposeId, Text


class PartyRole(StrEnum):
    """What a party is in law."""

    PROCESSOR = "processor"
    SUB_PROCESSOR = "sub_processor"
    JOINT_CONTROLLER = "joint_controller"
    RECIPIENT = "recipient"
    INTERNAL_TEAM = "internal_team"


ARTICLE_28_BOXES = ("a", "b", "c", "d", "e", "f", "g", "h")
"""GDPR art. 28(3)(a)-(h); each needs a reference before a processor is active (rule P2)."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a party may do: one purpose, one category, one action, with its written reason and its dates."""

    purpose: PurposeId
    category: CategoryId
    action: Action
    justification: Text
    start: date
    until: date | None


@dataclass(frozen=True, slots=True)
class Security:
    """What a party commits to, compared with the controller's baseline."""

    certification: str
    encryption_at_rest: bool
    encryption_in_transit: bool
    breach_notice_hours: int
    last_penetration_test: date | None


@dataclass(frozen=True, slots=True)
class Party:
    """One entry of the processor list, one version of it."""

    id: PartyId
    controller: ControllerId
    role: PartyRole
    legal_name: str
    brand_name: str
    register_numbers: Mapping[str, str]
    country: str
    contact: str
    dpo: str
    does: Text
    """One plain sentence: what this party does."""
    parent: PartyId | None
    """The processor a sub-processor works for (rule P4)."""
    contract_ref: str
    contract_start: date
    contract_end: date | None
    article_28: Mapping[str, str]
    """Box letter -> reference (rule P2). Empty for recipients and internal teams."""
    transfer_mechanism: str | None
    """Needed outside the EEA (GDPR ch. V)."""
    security: Security
    objection_until: date | None
    """A new sub-processor stays pending until this day has passed (rule P3)."""
    notice_url: str | None
    """Where a recipient's own rules are read (consent rule 16)."""
    grants: tuple[Grant, ...]
    suspended_since: date | None = None

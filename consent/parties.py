"""The processor list: by default, whoever is not on it has no access (GDPR arts 26, 28, 30, 44; rules P1-P5).

`active` says whether an entry is in force on a day, or the first reason why not; `grants_live` what it may do that day.
Every period is half-open: the first day counts, the day named as its end does not. Days are the controller's own, so
the caller turns a moment into a date. Leaves out consents, objections and restrictions: those are `consent.decision`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Literal

from consent.vocabulary import Action, CategoryId, ControllerId, PartyId, PurposeId, Text


class PartyRole(StrEnum):
    """What a party is in law."""

    PROCESSOR = "processor"
    SUB_PROCESSOR = "sub_processor"
    JOINT_CONTROLLER = "joint_controller"
    RECIPIENT = "recipient"
    INTERNAL_TEAM = "internal_team"


EEA = frozenset(
    country
    for row in (
        ("AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE"),
        ("IS", "IT", "LI", "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK"),
    )
    for country in row
)
"""Countries to which a transfer needs no mechanism of GDPR chapter V."""

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
    transfer_assessment: str | None = None
    """Reference of the transfer impact assessment; needed with a mechanism (GDPR art. 46)."""
    authorisation: Literal["general", "specific"] = "general"
    """How the controller authorises sub-processors: under `specific`, silence never counts (rule P3)."""
    authorised_on: date | None = None
    objected_on: date | None = None
    """When a controller objected; from then on the entry stays out (rule P3)."""
    joint_essence: Text | None = None
    """What people are told of the arrangement between joint controllers (GDPR art. 26(2); rule P6)."""


@dataclass(frozen=True, slots=True)
class SecurityException:
    """The DPO's signature under an entry below the baseline: why, and until when."""

    party: PartyId
    reason: str
    signed_by: str
    """The signer's function and the reference of the signed paper, never a person's contact data."""
    signed_on: date
    until: date


@dataclass(frozen=True, slots=True)
class Baseline:
    """The least a controller accepts of whoever touches its subjects' data (GDPR arts 28(1), 32)."""

    certifications: tuple[str, ...]
    """Any one of them will do."""
    encryption_at_rest: bool
    encryption_in_transit: bool
    breach_notice_hours: int
    """At most (rule B2)."""
    penetration_test_days: int
    """How old the last penetration test may be."""
    exceptions: tuple[SecurityException, ...] = ()


class Shortfall(StrEnum):
    """One way of being below a baseline."""

    CERTIFICATION = "certification"
    ENCRYPTION_AT_REST = "encryption_at_rest"
    ENCRYPTION_IN_TRANSIT = "encryption_in_transit"
    BREACH_NOTICE = "breach_notice"
    PENETRATION_TEST = "penetration_test"
    NO_BASELINE = "no_baseline"


class NotActiveReason(StrEnum):
    """Why an entry gives no access on a day; `active` names the first that applies, in this order."""

    NOT_LISTED = "not_listed"
    SUSPENDED = "suspended"
    CONTRACT_NOT_BEGUN = "contract_not_begun"
    CONTRACT_ENDED = "contract_ended"
    CONTRACT_GATE = "contract_gate"
    JOINT_ARRANGEMENT = "joint_arrangement"
    TRANSFER = "transfer"
    OBJECTED = "objected"
    NOT_AUTHORISED = "not_authorised"
    OBJECTION_WINDOW = "objection_window"
    BELOW_BASELINE = "below_baseline"
    PARENT_NOT_ACTIVE = "parent_not_active"


@dataclass(frozen=True, slots=True)
class Active:
    """The entry is in force; `exception` is the signature it stands on, if it is below the baseline."""

    exception: SecurityException | None = None


@dataclass(frozen=True, slots=True)
class NotActive:
    """The entry gives no access, and why."""

    reason: NotActiveReason


_BOUND_BY_ARTICLE_28 = frozenset({PartyRole.PROCESSOR, PartyRole.SUB_PROCESSOR})


def active(party: Party, on: date, baseline: Baseline | None, listed: Mapping[str, Party]) -> Active | NotActive:
    """Say whether `party` is in force on the day `on`.

    `listed` is the whole list, by id: a sub-processor stands only as long as everyone above it does (rule P4).
    Without a baseline nothing can be measured, so nothing is active.
    """
    exception = _exception(party, on, baseline)
    reason = _own_reason(party, on) or _security_reason(party, on, baseline, exception)
    reason = reason or _chain_reason(party, on, baseline, listed)
    return NotActive(reason) if reason else Active(exception)


def grants_live(party: Party, on: date) -> tuple[Grant, ...]:
    """Return the grants whose own dates and whose contract hold on the day `on` (rule P5).

    Says nothing of the party itself: ask `active` first.
    """
    if _contract_reason(party, on):
        return ()
    return tuple(grant for grant in party.grants if _within(on, grant.start, grant.until))


def shortfalls(party: Party, on: date, baseline: Baseline | None) -> tuple[Shortfall, ...]:
    """Return every way in which the party's commitments are below the baseline on the day `on`."""
    if baseline is None:
        return (Shortfall.NO_BASELINE,)
    has, oldest = party.security, on - timedelta(days=baseline.penetration_test_days)
    tested = has.last_penetration_test
    below = {
        Shortfall.CERTIFICATION: has.certification not in baseline.certifications,
        Shortfall.ENCRYPTION_AT_REST: baseline.encryption_at_rest and not has.encryption_at_rest,
        Shortfall.ENCRYPTION_IN_TRANSIT: baseline.encryption_in_transit and not has.encryption_in_transit,
        Shortfall.BREACH_NOTICE: has.breach_notice_hours > baseline.breach_notice_hours,
        Shortfall.PENETRATION_TEST: tested is None or not oldest <= tested <= on,
    }
    return tuple(name for name, short in below.items() if short)


def missing_boxes(party: Party) -> tuple[str, ...]:
    """Return the letters of GDPR art. 28(3) that have no reference yet; none for who is no processor (rule P2)."""
    if party.role not in _BOUND_BY_ARTICLE_28:
        return ()
    return tuple(box for box in ARTICLE_28_BOXES if not party.article_28.get(box, "").strip())


def uncovered_transfer(party: Party) -> bool:
    """Say whether the party sits outside the EEA without both a mechanism and an assessment (GDPR ch. V)."""
    return party.country not in EEA and not (party.transfer_mechanism and party.transfer_assessment)


def chain(party: Party, listed: Mapping[str, Party]) -> tuple[Party, ...]:
    """Return everyone above a sub-processor, nearest first; stops at a gap or at a circle (rule P4)."""
    above: list[Party] = []
    seen, parent = {party.id}, party.parent
    while parent is not None and parent in listed and parent not in seen:
        above.append(listed[parent])
        seen.add(parent)
        parent = listed[parent].parent
    return tuple(above)


def _within(on: date, start: date, until: date | None) -> bool:
    return start <= on and (until is None or on < until)


def _contract_reason(party: Party, on: date) -> NotActiveReason | None:
    if on < party.contract_start:
        return NotActiveReason.CONTRACT_NOT_BEGUN
    if not _within(on, party.contract_start, party.contract_end):
        return NotActiveReason.CONTRACT_ENDED
    return None


def _own_reason(party: Party, on: date) -> NotActiveReason | None:
    if party.suspended_since is not None and party.suspended_since <= on:
        return NotActiveReason.SUSPENDED
    return _contract_reason(party, on) or _footing_reason(party) or _window_reason(party, on)


def _footing_reason(party: Party) -> NotActiveReason | None:
    if missing_boxes(party):
        return NotActiveReason.CONTRACT_GATE
    if party.role is PartyRole.JOINT_CONTROLLER and not party.joint_essence:
        return NotActiveReason.JOINT_ARRANGEMENT
    return NotActiveReason.TRANSFER if uncovered_transfer(party) else None


def _window_reason(party: Party, on: date) -> NotActiveReason | None:
    if party.role is not PartyRole.SUB_PROCESSOR:
        return None
    if party.objected_on is not None and party.objected_on <= on:
        return NotActiveReason.OBJECTED
    if party.authorisation == "specific":
        authorised = party.authorised_on is not None and party.authorised_on <= on
        return None if authorised else NotActiveReason.NOT_AUTHORISED
    # Under a general authorisation a window nobody opened has not passed either (rule P3).
    passed = party.objection_until is not None and party.objection_until < on
    return None if passed else NotActiveReason.OBJECTION_WINDOW


def _exception(party: Party, on: date, baseline: Baseline | None) -> SecurityException | None:
    if baseline is None or not shortfalls(party, on, baseline):
        return None
    signed = (e for e in baseline.exceptions if e.party == party.id and _within(on, e.signed_on, e.until))
    return next(signed, None)


def _security_reason(
    party: Party, on: date, baseline: Baseline | None, exception: SecurityException | None
) -> NotActiveReason | None:
    short = shortfalls(party, on, baseline) and exception is None
    return NotActiveReason.BELOW_BASELINE if short else None


def _chain_reason(
    party: Party, on: date, baseline: Baseline | None, listed: Mapping[str, Party]
) -> NotActiveReason | None:
    if party.role is not PartyRole.SUB_PROCESSOR:
        return None
    above = chain(party, listed)
    rooted = bool(above) and above[-1].role is PartyRole.PROCESSOR
    stands = rooted and all(_stands(each, party, on, baseline) for each in above)
    return None if stands else NotActiveReason.PARENT_NOT_ACTIVE


def _stands(above: Party, party: Party, on: date, baseline: Baseline | None) -> bool:
    if above.controller != party.controller or _own_reason(above, on):
        return False
    return _security_reason(above, on, baseline, _exception(above, on, baseline)) is None

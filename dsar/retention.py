"""The erasure matrix: holder x category x purpose -> erase, retain, anonymise (GDPR 5(1)(e), 17(3); dsar rules 48-50).

Retention is per category and purpose, never per account; each has a text, a reason and an end, and schedules its own
erasure (rule 49). Anonymising counts as erasing only into a cohort that is open for it (rule 55). Pure: the pack's
retentions and the dates of the triggers are passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from consent.policy import Policy, Retention
from consent.vocabulary import CategoryId, ComponentId, LegalBasis, PurposeId, Text
from dsar.errors import RetentionUnfounded


@dataclass(frozen=True, slots=True)
class Holding:
    """A holder says that it has data of this category for this purpose."""

    holder: ComponentId
    category: CategoryId
    purpose: PurposeId


@dataclass(frozen=True, slots=True)
class Erase:
    """Destroyed now."""


@dataclass(frozen=True, slots=True)
class Retain:
    """Kept until (and not on) a day, on a legal text."""

    reason: Text
    legal_ref: str
    until: date


@dataclass(frozen=True, slots=True)
class Anonymise:
    """Goes into a sealed cohort, then destroyed."""

    cohort: str


Fate = Erase | Retain | Anonymise


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the matrix."""

    holding: Holding
    basis: LegalBasis
    fate: Fate


@dataclass(frozen=True, slots=True)
class DueErasure:
    """What a retention schedules: erase this on that day (dsar rule 49)."""

    holding: Holding
    on: date


def matrix(
    holdings: Iterable[Holding],
    policy: Policy,
    *,
    triggers: Mapping[str, date],
    cohorts: Mapping[CategoryId, str],
    on: date,
) -> tuple[Cell, ...]:
    """Return the fate of each holding on the day `on`.

    `triggers`: trigger name of the pack -> the day it happened, e.g. `relationship_end`; `cohorts`: category -> an
    open cohort. Raises RetentionUnfounded with *every* fault: unknown category or purpose, trigger without a date.
    """
    asked = tuple(dict.fromkeys(holdings))
    rules = {(rule.category, rule.purpose): rule for rule in policy.retentions}
    faults = _faults(asked, policy, rules, triggers)
    if faults:
        raise RetentionUnfounded(faults)
    return tuple(
        Cell(
            holding,
            policy.purposes[holding.purpose].basis,
            _fate(rules.get((holding.category, holding.purpose)), holding, triggers, cohorts, on),
        )
        for holding in asked
    )


def _faults(
    holdings: Sequence[Holding],
    policy: Policy,
    rules: Mapping[tuple[CategoryId, PurposeId], Retention],
    triggers: Mapping[str, date],
) -> tuple[str, ...]:
    unknown = [f"category {one.category}: unknown" for one in holdings if one.category not in policy.categories]
    unknown += [f"purpose {one.purpose}: unknown" for one in holdings if one.purpose not in policy.purposes]
    needed = [rules[key] for one in holdings if (key := (one.category, one.purpose)) in rules]
    kept = [rule for rule in needed if rule.on_erasure == "retain"]
    undated = [f"trigger {rule.trigger}: no date" for rule in kept if rule.trigger not in triggers]
    bare = [f"{rule.category}: a retention without a legal text" for rule in kept if not rule.legal_ref]
    return tuple(dict.fromkeys([*unknown, *undated, *bare]))


def _fate(
    rule: Retention | None,
    holding: Holding,
    triggers: Mapping[str, date],
    cohorts: Mapping[CategoryId, str],
    on: date,
) -> Fate:
    if rule is not None and rule.on_erasure == "retain":
        until = triggers[rule.trigger] + timedelta(days=rule.days)
        return Retain(rule.reason, rule.legal_ref, until) if on < until else Erase()  # dsar rule 50
    if rule is not None and rule.on_erasure == "anonymise" and holding.category in cohorts:
        return Anonymise(cohorts[holding.category])
    return Erase()


def retained(cells: Iterable[Cell]) -> Mapping[CategoryId, Retain]:
    """Return each category that outlives the erasure under some purpose, with its latest end (what keys survive)."""
    kept: dict[CategoryId, Retain] = {}
    for cell in cells:
        fate, category = cell.fate, cell.holding.category
        if isinstance(fate, Retain) and (category not in kept or kept[category].until < fate.until):
            kept[category] = fate
    return kept


def schedule(cells: Iterable[Cell]) -> tuple[DueErasure, ...]:
    """Return the erasures that the matrix's retentions schedule (dsar rule 49)."""
    return tuple(DueErasure(cell.holding, cell.fate.until) for cell in cells if isinstance(cell.fate, Retain))

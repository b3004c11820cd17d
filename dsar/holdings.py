"""From what holders say they have to the erasure matrix, and to the decision it makes (dsar rules 48-50, 57).

A holder reports categories; for which purposes it holds them follows from the processor list and from what the person
agreed to. An erasure ends the relation, so every period still open is counted from the day of the matrix: never
shorter than the text asks. Nothing here anonymises: no cohort is handed in yet (rule 55). Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import date

from consent.policy import Policy
from consent.vocabulary import CategoryId, ComponentId, ControllerId, LegalBasis, PartyId, PurposeId
from dsar.errors import RetentionUnfounded
from dsar.package import HolderAnswer
from dsar.retention import Cell, Holding, Retain, matrix, retained
from dsar.vocabulary import Ground, HolderStatus, Outcome

HELD = frozenset({HolderStatus.FOUND, HolderStatus.PARTIAL, HolderStatus.RETAINED, HolderStatus.EXCLUDED})
AUDIT_TRAIL = CategoryId("audit.trail")
"""What was agreed, asked and looked at: the category that makes a purpose one the house itself keeps records for."""
HOUSE_KEEPS = frozenset({AUDIT_TRAIL, CategoryId("identity.civil"), CategoryId("contact.details")})
"""What this service holds of a person in its own database."""
_AGREED = (LegalBasis.CONSENT, LegalBasis.CONTRACT)
_CITED: Mapping[str, Ground] = {
    "17(3)(a)": Ground.EXPRESSION,
    "17(3)(b)": Ground.LEGAL_OBLIGATION,
    "17(3)(c)": Ground.PUBLIC_HEALTH,
    "17(3)(d)": Ground.ARCHIVES,
    "17(3)(e)": Ground.LEGAL_CLAIMS,
}

Agreed = Collection[tuple[PurposeId, CategoryId]]
"""What the person ever agreed to."""


def holdings(
    answers: Iterable[HolderAnswer],
    policy: Policy,
    controller: ControllerId,
    *,
    party_of: Callable[[ComponentId], PartyId],
    house: ComponentId,
    agreed: Agreed,
) -> tuple[Holding, ...]:
    """Return one holding per holder, category and purpose. Raises RetentionUnfounded with every category without one.

    `house` names the holder that is this service itself.
    """
    found: list[Holding] = []
    bare: list[str] = []
    for answer in answers:
        for category in _categories(answer):
            if answer.holder == house:
                purposes = house_purposes(policy, controller, category)
            else:
                purposes = held_for(policy, controller, party_of(answer.holder), category, agreed)
            found += [Holding(answer.holder, category, purpose) for purpose in sorted(purposes)]
            bare += [] if purposes else [f"{answer.holder}, {category}: held for no purpose on the list"]
    if bare:
        raise RetentionUnfounded(bare)
    return tuple(found)


def _categories(answer: HolderAnswer) -> tuple[CategoryId, ...]:
    return tuple(dict.fromkeys(one.category for one in answer.categories if one.status in HELD))


def held_for(
    policy: Policy, controller: ControllerId, party: PartyId, category: CategoryId, agreed: Agreed
) -> frozenset[PurposeId]:
    """Return for which purposes a party holds a category of somebody who agreed to `agreed`.

    What rests on an agreement counts only for who agreed. When the list explains nothing the agreements do, and when
    those do not either, every purpose the party has a grant for.
    """
    listed = policy.parties.get(party)
    granted = frozenset(
        grant.purpose
        for grant in (listed.grants if listed is not None else ())
        if grant.category == category and _is_of(policy, controller, grant.purpose)
    )
    consented = frozenset(purpose for purpose, one in agreed if one == category and _is_of(policy, controller, purpose))
    bound = frozenset(one for one in granted if policy.purposes[one].basis not in _AGREED)
    return (granted & consented) | bound or consented or granted


def house_purposes(policy: Policy, controller: ControllerId, category: CategoryId) -> frozenset[PurposeId]:
    """Return for which purposes the house itself keeps a category: those that keep a record of what was done."""
    return frozenset(
        purpose.id
        for purpose in policy.purposes.values()
        if purpose.controller == controller
        and {AUDIT_TRAIL, category} <= purpose.needed | purpose.optional
        and purpose.basis not in _AGREED
    )


def _is_of(policy: Policy, controller: ControllerId, purpose: PurposeId) -> bool:
    return purpose in policy.purposes and policy.purposes[purpose].controller == controller


def drawn(held: Iterable[Holding], policy: Policy, on: date) -> tuple[Cell, ...]:
    """Return the matrix of an erasure carried out on the day `on`. Raises RetentionUnfounded."""
    triggers = {rule.trigger: on for rule in policy.retentions}
    return matrix(held, policy, triggers=triggers, cohorts={}, on=on)


def verdict(cells: Collection[Cell], policy: Policy) -> tuple[Outcome, tuple[Ground, ...], tuple[CategoryId, ...]]:
    """Return how an erasure with this matrix is decided: outcome, grounds, the categories they refuse (rules 48, 57).

    No cell at all: nobody holds anything (rule 5).
    """
    if not cells:
        return Outcome.NO_DATA, (), ()
    kept = retained(cells)
    if not kept:
        return Outcome.GRANTED, (), ()
    grounds = {ground_of(cell, policy) for cell in cells if isinstance(cell.fate, Retain)}
    return Outcome.PARTLY_GRANTED, tuple(sorted(grounds)), tuple(sorted(kept))


def ground_of(cell: Cell, policy: Policy) -> Ground:
    """Return the ground a retention stands on: the point of art. 17(3) its text cites, else the legal obligation."""
    reference = cell.fate.legal_ref if isinstance(cell.fate, Retain) else ""
    cited = [ground for point, ground in _CITED.items() if point in reference]
    basis = policy.purposes[cell.holding.purpose].basis
    return cited[0] if cited and basis is not LegalBasis.LEGAL_OBLIGATION else Ground.LEGAL_OBLIGATION


def portable(policy: Policy, agreed: Agreed) -> frozenset[CategoryId]:
    """Return what may be taken elsewhere: given or observed, on an agreement or a contract (GDPR art. 20; rule 44)."""
    return frozenset(
        category
        for purpose, category in agreed
        if policy.purposes[purpose].basis in _AGREED and policy.categories[category].origin != "inferred"
    )

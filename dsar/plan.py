"""The plan of a whole case: the steps of its lines as data, in an order that can be carried out.

Export before erase: every step of an erasure that destroys waits until what the same case gathers has been delivered
(dsar rules 3, 53). Leaves out effects: `app.workflows` binds each kind of step to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from graphlib import TopologicalSorter

from dsar.rights import RIGHTS
from dsar.rights.shape import PlanFacts, Step, StepKind
from dsar.vocabulary import LineId, Right

DESTROYING = frozenset({StepKind.REVOKE_PACKAGE, StepKind.SHRED_KEYS, StepKind.TELL_HOLDER})


def plan(lines: Mapping[LineId, Right], facts: Mapping[LineId, PlanFacts]) -> tuple[Step, ...]:
    """Return every step of the case, each after those it waits for."""
    drawn = [step for line, right in lines.items() for step in RIGHTS[right].plan(facts[line])]
    delivered = tuple(step.id for step in drawn if step.kind is StepKind.DELIVER)
    erasing = {line for line, right in lines.items() if right is Right.ERASURE}
    return _ordered([_behind(step, delivered, erasing) for step in drawn])


def _behind(step: Step, delivered: tuple[str, ...], erasing: set[LineId]) -> Step:
    if step.line in erasing and step.kind in DESTROYING:
        return replace(step, after=(*step.after, *delivered))
    return step


def _ordered(steps: Sequence[Step]) -> tuple[Step, ...]:
    by_id = {step.id: step for step in steps}
    return tuple(by_id[name] for name in TopologicalSorter({step.id: step.after for step in steps}).static_order())


def ready(steps: Sequence[Step], done: frozenset[str]) -> tuple[Step, ...]:
    """Return the steps that can be carried out now."""
    return tuple(step for step in steps if step.id not in done and done.issuperset(step.after))

"""Objection (GDPR arts 21(1), 18(1)(d); dsar rule 52): restricted while weighed; the burden is the controller's."""

from __future__ import annotations

from dsar.rights.shape import REFUSABLE, Extent, PlanFacts, RightLaw, Step, StepKind, step
from dsar.vocabulary import Ground, Right


def _plan(facts: PlanFacts) -> tuple[Step, ...]:
    stopped = step(facts, StepKind.STOP_READS)
    weighed = step(facts, StepKind.HUMAN_DECISION, (stopped,))
    return (stopped, weighed, step(facts, StepKind.SEND_REPLY, (weighed,)))


OBJECTION = RightLaw(
    Right.OBJECTION,
    ("GDPR 12", "GDPR 21(1)", "GDPR 18(1)(d)"),
    {
        Ground.COMPELLING_GROUNDS: Extent.WHOLE,
        Ground.LEGAL_CLAIMS: Extent.WHOLE,
        Ground.BASIS_NOT_OBJECTABLE: Extent.WHOLE,
        Ground.UNFOUNDED_OR_EXCESSIVE: Extent.WHOLE,
    },
    REFUSABLE,
    _plan,
    carries_out=True,
)

"""Review of an automated decision (GDPR arts 22, 15(1)(h); dsar rule 46): a human reviews it and answers."""

from __future__ import annotations

from dsar.rights.shape import COMMON, Extent, PlanFacts, RightLaw, Step, StepKind, step
from dsar.vocabulary import Ground, Outcome, Right


def _plan(facts: PlanFacts) -> tuple[Step, ...]:
    reviewed = step(facts, StepKind.HUMAN_DECISION)
    return (reviewed, step(facts, StepKind.SEND_REPLY, (reviewed,)))


AUTOMATED_DECISION = RightLaw(
    Right.AUTOMATED_DECISION,
    ("GDPR 12", "GDPR 22"),
    {Ground.NOT_SOLELY_AUTOMATED: Extent.WHOLE, Ground.NO_SIGNIFICANT_EFFECT: Extent.WHOLE},
    COMMON | {Outcome.REFUSED},
    _plan,
    human_only=True,
)

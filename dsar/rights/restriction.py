"""Restriction (GDPR arts 18, 19; dsar rule 51): storage only, from this moment on."""

from __future__ import annotations

from dsar.rights.shape import REFUSABLE, Extent, PlanFacts, RightLaw, Step, StepKind, step, steps
from dsar.vocabulary import Ground, Outcome, Right


def _plan(facts: PlanFacts) -> tuple[Step, ...]:
    stopped = step(facts, StepKind.STOP_READS)
    told = steps(facts, StepKind.TELL_RECIPIENT, facts.recipients, (stopped,))
    return (stopped, *told, step(facts, StepKind.SEND_REPLY, (stopped, *told)))


RESTRICTION = RightLaw(
    Right.RESTRICTION,
    ("GDPR 12", "GDPR 18", "GDPR 19"),
    {
        Ground.NO_RESTRICTION_GROUND: Extent.WHOLE,
        Ground.UNFOUNDED_OR_EXCESSIVE: Extent.WHOLE,
        Ground.ARTICLE_11: Extent.WHOLE,
    },
    REFUSABLE - {Outcome.PARTLY_GRANTED},
    _plan,
    carries_out=True,
)

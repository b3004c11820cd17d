"""Rectification (GDPR art. 16; dsar rule 47): no ground of its own; what is not proven gets a statement."""

from __future__ import annotations

from dsar.rights.shape import COMMON, Extent, PlanFacts, RightLaw, Step, StepKind, step, steps
from dsar.vocabulary import Ground, Outcome, Right


def _plan(facts: PlanFacts) -> tuple[Step, ...]:
    decided = step(facts, StepKind.HUMAN_DECISION)
    done = steps(facts, StepKind.TELL_HOLDER, facts.holders, (decided,))
    told = steps(facts, StepKind.TELL_RECIPIENT, facts.recipients, (decided, *done))  # GDPR art. 19
    return (decided, *done, *told, step(facts, StepKind.SEND_REPLY, (decided, *done, *told)))


RECTIFICATION = RightLaw(
    Right.RECTIFICATION,
    ("GDPR 12", "GDPR 16", "GDPR 19"),
    {
        Ground.UNFOUNDED_OR_EXCESSIVE: Extent.WHOLE,
        Ground.ARTICLE_11: Extent.WHOLE,
        Ground.NOT_PROVEN: Extent.WHOLE,
        Ground.NOT_IDENTIFIED: Extent.WHOLE,
    },
    (COMMON - {Outcome.GRANTED})
    | {Outcome.REFUSED, Outcome.CORRECTED, Outcome.COMPLETED, Outcome.STATEMENT_ADDED, Outcome.UNPROVEN},
    _plan,
    carries_out=True,
)

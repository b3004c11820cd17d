"""Objection to direct marketing (GDPR art. 21(2)-(3); dsar rule 8): cannot be refused."""

from __future__ import annotations

from dsar.rights.shape import COMMON, PlanFacts, RightLaw, Step, StepKind, step
from dsar.vocabulary import Outcome, Right


def _plan(facts: PlanFacts) -> tuple[Step, ...]:
    stopped = step(facts, StepKind.STOP_READS)
    listed = step(facts, StepKind.SUPPRESS_MARKETING, (stopped,))
    return (stopped, listed, step(facts, StepKind.SEND_REPLY, (listed,)))


MARKETING_OBJECTION = RightLaw(
    Right.MARKETING_OBJECTION,
    ("GDPR 12", "GDPR 21(2)", "GDPR 21(3)"),
    {},
    COMMON - {Outcome.CANNOT_IDENTIFY},  # L0: nobody has to be identified
    _plan,
    carries_out=True,
)

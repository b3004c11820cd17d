"""Withdrawal of consent (GDPR art. 7(3); dsar rule 7): at once, cannot be refused.

The withdrawal itself is `consent.usecases`; the line of a case only remembers that the person asked here.
"""

from __future__ import annotations

from dsar.rights.shape import COMMON, PlanFacts, RightLaw, Step, StepKind, step
from dsar.vocabulary import Outcome, Right


def _plan(facts: PlanFacts) -> tuple[Step, ...]:
    stopped = step(facts, StepKind.STOP_READS)
    return (stopped, step(facts, StepKind.SEND_REPLY, (stopped,)))


WITHDRAWAL = RightLaw(Right.WITHDRAWAL, ("GDPR 7(3)",), {}, COMMON - {Outcome.CANNOT_IDENTIFY}, _plan, carries_out=True)

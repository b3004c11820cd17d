"""Access (GDPR art. 15; dsar rules 37-43): ask every holder, assemble, seal, deliver, reply."""

from __future__ import annotations

from dsar.rights.shape import REFUSABLE, Extent, PlanFacts, RightLaw, Step, StepKind, step, steps
from dsar.vocabulary import Ground, Right


def gathered(facts: PlanFacts) -> tuple[Step, ...]:
    """Return the steps shared with portability: every holder asked (dsar rule 40), one package sealed, delivered."""
    asked = steps(facts, StepKind.ASK_HOLDER, facts.holders)
    assembled = step(facts, StepKind.ASSEMBLE, asked)
    sealed = step(facts, StepKind.SEAL_PACKAGE, (assembled,))
    delivered = step(facts, StepKind.DELIVER, (sealed,))
    return (*asked, assembled, sealed, delivered, step(facts, StepKind.SEND_REPLY, (delivered,)))


ACCESS = RightLaw(
    Right.ACCESS,
    ("GDPR 12", "GDPR 15"),
    {
        Ground.THIRD_PARTY_RIGHTS: Extent.PART,
        Ground.AML_CARVE_OUT: Extent.PART,
        Ground.UNFOUNDED_OR_EXCESSIVE: Extent.WHOLE,
        Ground.ARTICLE_11: Extent.WHOLE,
        Ground.ARTICLE_23_LAW: Extent.WHOLE,
        Ground.NOT_IDENTIFIED: Extent.WHOLE,
    },
    REFUSABLE,
    gathered,
    seals_package=True,
)

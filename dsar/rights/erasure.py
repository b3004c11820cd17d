"""Erasure (GDPR arts 17, 19; dsar rules 48-56): a matrix per category, then keys, holders, recipients, certificate."""

from __future__ import annotations

from dsar.rights.shape import REFUSABLE, Extent, PlanFacts, RightLaw, Step, StepKind, step, steps
from dsar.vocabulary import Ground, Right


def _plan(facts: PlanFacts) -> tuple[Step, ...]:
    asked = steps(facts, StepKind.ASK_HOLDER, facts.holders)
    matrix = step(facts, StepKind.DRAW_MATRIX, asked)
    revoked = steps(facts, StepKind.REVOKE_PACKAGE, facts.packages, (matrix,))  # dsar rule 53
    shredded = step(facts, StepKind.SHRED_KEYS, (matrix, *revoked))
    erased = steps(facts, StepKind.TELL_HOLDER, facts.holders, (shredded,))
    searched = steps(facts, StepKind.VERIFY_HOLDER, facts.holders, (shredded, *erased))
    told = steps(facts, StepKind.TELL_RECIPIENT, facts.recipients, (shredded,))  # dsar rule 56
    certified = step(facts, StepKind.CERTIFY, (shredded, *searched))
    reply = step(facts, StepKind.SEND_REPLY, (certified, *told))
    return (*asked, matrix, *revoked, shredded, *erased, *searched, *told, certified, reply)


ERASURE = RightLaw(
    Right.ERASURE,
    ("GDPR 12", "GDPR 17", "GDPR 19"),
    {
        Ground.EXPRESSION: Extent.PER_CATEGORY,
        Ground.LEGAL_OBLIGATION: Extent.PER_CATEGORY,
        Ground.PUBLIC_HEALTH: Extent.PER_CATEGORY,
        Ground.ARCHIVES: Extent.PER_CATEGORY,
        Ground.LEGAL_CLAIMS: Extent.PER_CATEGORY,
        Ground.NO_ERASURE_GROUND: Extent.WHOLE,
        Ground.UNFOUNDED_OR_EXCESSIVE: Extent.WHOLE,
        Ground.ARTICLE_11: Extent.WHOLE,
    },
    REFUSABLE,
    _plan,
    carries_out=True,
)

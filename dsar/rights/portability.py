"""Portability (GDPR art. 20; dsar rules 44, 45): what the subject provided, on consent or contract, by machine."""

from __future__ import annotations

from dsar.rights.access import gathered
from dsar.rights.shape import REFUSABLE, Extent, RightLaw
from dsar.vocabulary import Ground, Right

PORTABILITY = RightLaw(
    Right.PORTABILITY,
    ("GDPR 12", "GDPR 20"),
    {
        Ground.WRONG_BASIS: Extent.WHOLE,
        Ground.NOT_AUTOMATED: Extent.WHOLE,
        Ground.NOT_PROVIDED_BY_SUBJECT: Extent.WHOLE,
        Ground.PUBLIC_TASK: Extent.WHOLE,
        Ground.OTHERS_FREEDOMS: Extent.WHOLE,
        Ground.UNFOUNDED_OR_EXCESSIVE: Extent.WHOLE,
        Ground.ARTICLE_11: Extent.WHOLE,
    },
    REFUSABLE,
    gathered,
    seals_package=True,
)

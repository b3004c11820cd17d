"""The register of rights, one file each, and the refusal matrix they make together (dsar rules, section 1.2)."""

from __future__ import annotations

from collections.abc import Mapping

from dsar.rights.access import ACCESS
from dsar.rights.automated_decision import AUTOMATED_DECISION
from dsar.rights.erasure import ERASURE
from dsar.rights.marketing_objection import MARKETING_OBJECTION
from dsar.rights.objection import OBJECTION
from dsar.rights.portability import PORTABILITY
from dsar.rights.rectification import RECTIFICATION
from dsar.rights.restriction import RESTRICTION
from dsar.rights.shape import RightLaw
from dsar.rights.withdrawal import WITHDRAWAL
from dsar.vocabulary import Right

RIGHTS: Mapping[Right, RightLaw] = {
    Right.ACCESS: ACCESS,
    Right.RECTIFICATION: RECTIFICATION,
    Right.ERASURE: ERASURE,
    Right.RESTRICTION: RESTRICTION,
    Right.PORTABILITY: PORTABILITY,
    Right.OBJECTION: OBJECTION,
    Right.MARKETING_OBJECTION: MARKETING_OBJECTION,
    Right.WITHDRAWAL: WITHDRAWAL,
    Right.AUTOMATED_DECISION: AUTOMATED_DECISION,
}

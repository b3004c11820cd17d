"""A registered letter with identity check at hand-over, or the counter: L4, two people (dsar rules 58, 59)."""

from __future__ import annotations

from dsar.proofs.shape import ProofMethod, Standing, checked_by_two
from dsar.vocabulary import Level, Method

REGISTERED_LETTER = ProofMethod(Method.REGISTERED_LETTER, Standing.DOCUMENT, Level.L4, None, checked_by_two)

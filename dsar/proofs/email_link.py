"""A link sent to an e-mail address on file: L1, fine for low harm only (dsar rules, section 1.3)."""

from __future__ import annotations

from dsar.proofs.shape import ProofMethod, Standing, known_before
from dsar.vocabulary import Level, Method

EMAIL_LINK = ProofMethod(Method.EMAIL_LINK, Standing.CHANNEL, Level.L1, "sign-in", known_before)

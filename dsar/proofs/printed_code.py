"""A code handed over on paper at onboarding or posted to the address on file: one channel (dsar rule 27)."""

from __future__ import annotations

from dsar.proofs.shape import ProofMethod, Standing, known_before
from dsar.vocabulary import Level, Method

PRINTED_CODE = ProofMethod(Method.PRINTED_CODE, Standing.CHANNEL, Level.L1, "printed-code", known_before)

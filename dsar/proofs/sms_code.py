"""A code sent to a telephone number on file: one channel; with another one L2 (dsar rules 27, 30)."""

from __future__ import annotations

from dsar.proofs.shape import ProofMethod, Standing, known_before
from dsar.vocabulary import Level, Method

SMS_CODE = ProofMethod(Method.SMS_CODE, Standing.CHANNEL, Level.L1, None, known_before)

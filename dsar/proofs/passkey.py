"""A passkey enrolled before the request: L3 (dsar rules, section 1.3). One enrolled later proves nothing (rule 27)."""

from __future__ import annotations

from dsar.proofs.shape import ProofMethod, Standing, known_before
from dsar.vocabulary import Level, Method

PASSKEY = ProofMethod(Method.PASSKEY, Standing.CREDENTIAL, Level.L3, "passkey", known_before)

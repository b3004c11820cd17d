"""Staff call the number on file, by the script: one channel, and somebody has to have called (section 1.3)."""

from __future__ import annotations

from dsar.proofs.shape import Lack, Proof, ProofMethod, Setting, Standing, known_before
from dsar.vocabulary import Level, Method


def _fault(proof: Proof, setting: Setting) -> Lack | None:
    return known_before(proof, setting) or (None if proof.checked_by else Lack.NO_PROOF)


CALL_BACK = ProofMethod(Method.CALL_BACK, Standing.CHANNEL, Level.L1, None, _fault)

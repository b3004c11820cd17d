"""A representative's mandate: names the rights and its dates (CNIL délib. 2021-070; dsar rule 33).

Adds nothing to the level of the one who speaks; without it a representative has no standing.
"""

from __future__ import annotations

from dsar.proofs.shape import Lack, Proof, ProofMethod, Setting, Standing
from dsar.vocabulary import Level, Method


def _fault(proof: Proof, setting: Setting) -> Lack | None:
    if setting.right not in proof.rights:
        return Lack.MANDATE_WRONG_RIGHT
    begun = proof.valid_from is not None and proof.valid_from <= setting.at
    running = proof.valid_until is not None and setting.at < proof.valid_until
    return None if begun and running else Lack.MANDATE_EXPIRED


MANDATE = ProofMethod(Method.MANDATE, Standing.MANDATE, Level.L0, None, _fault)

"""A redacted identity document, the last resort (dsar rules 25, 28, 29).

Kept: "document checked", who, when, until when it was valid. The image is no part of a proof. When one may be asked for
at all is `dsar.identity.question_fault`.
"""

from __future__ import annotations

from dsar.proofs.shape import ProofMethod, Standing, checked_by_two
from dsar.vocabulary import Level, Method

ID_DOCUMENT = ProofMethod(Method.ID_DOCUMENT, Standing.DOCUMENT, Level.L4, None, checked_by_two)

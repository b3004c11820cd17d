"""The words of the field as types, so that a purpose is never passed where a party is meant.

Leaves out every behaviour: identifiers are opaque strings, made elsewhere (`ports.Ids`) and compared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

SubjectRef = NewType("SubjectRef", str)
"""Internal opaque handle of a subject, `sub_` + 26 base32 characters. Never shown to a party."""
PairwiseHandle = NewType("PairwiseHandle", str)
"""What a party calls the subject, `pw_...`: random, different for each party, its mapping dies with the keys."""
ControllerId = NewType("ControllerId", str)
PurposeId = NewType("PurposeId", str)
CategoryId = NewType("CategoryId", str)
PartyId = NewType("PartyId", str)
ComponentId = NewType("ComponentId", str)
"""The OAuth client id of a component."""
ConsentId = NewType("ConsentId", str)
"""`con_...`; also the reference number people see."""


class Locale(StrEnum):
    """The languages every text exists in (consent rule 24)."""

    FR = "fr"
    EN = "en"
    ES = "es"
    PT = "pt"


Text = Mapping[Locale, str]
"""One sentence in each of the four languages."""


class LegalBasis(StrEnum):
    """GDPR art. 6(1)(a)-(f)."""

    CONSENT = "consent"
    CONTRACT = "contract"
    LEGAL_OBLIGATION = "legal_obligation"
    VITAL_INTERESTS = "vital_interests"
    PUBLIC_TASK = "public_task"
    LEGITIMATE_INTERESTS = "legitimate_interests"


class Action(StrEnum):
    """What a grant allows. `read` unless the processor list says otherwise."""

    READ = "read"
    HOLD = "hold"
    """Store sealed under the subject's keys (holders)."""
    TRANSMIT = "transmit"
    USE_CREDENTIAL = "use_credential"


@dataclass(frozen=True, slots=True)
class Shredded:
    """Stands where a sealed value stood whose key was destroyed; every reader has to handle it."""

    key_id: str
    at: datetime | None = None

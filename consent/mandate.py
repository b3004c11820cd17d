"""A mandate: a signed instruction to act or to transmit on the subject's behalf; a record with an end of its own.

Consent rule 38: mandate, consent and service contract end separately. Consent rule 36: nothing reaches a bank or an
insurer before a signed live mandate covers that recipient and that document class, asked at send time. Leaves out the
document, its fee and its signature ceremony, and recipient *classes*: a mandate names its recipients.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from consent.vocabulary import CategoryId, ControllerId, PartyId, PurposeId, SubjectRef


class MandateGap(StrEnum):
    """Why a mandate does not do."""

    NOT_LIVE = "not_live"
    DOES_NOT_COVER = "does_not_cover"


@dataclass(frozen=True, slots=True)
class Mandate:
    """Who may act for whom, towards whom, with what, and until when."""

    id: str
    controller: ControllerId
    grantor: SubjectRef
    scope: frozenset[PurposeId]
    recipients: frozenset[PartyId]
    classes: frozenset[CategoryId]
    """Document and data classes that may go out."""
    start: datetime
    until: datetime
    signed_at: datetime
    document_digest: str
    ended_at: datetime | None = None

    def live(self, at: datetime) -> bool:
        """Return whether it is signed, begun, not run out and not ended at `at`."""
        ended = self.ended_at is not None and at >= self.ended_at
        return self.signed_at <= at and self.start <= at < self.until and not ended

    def gap(
        self,
        *,
        controller: ControllerId,
        grantor: SubjectRef,
        purpose: PurposeId,
        recipient: PartyId,
        classes: frozenset[CategoryId],
        at: datetime,
    ) -> MandateGap | None:
        """Return why it does not cover this sending at `at`, None when it does (consent rule 36)."""
        whose = (self.controller, self.grantor) == (controller, grantor)
        if not (whose and purpose in self.scope and recipient in self.recipients and classes <= self.classes):
            return MandateGap.DOES_NOT_COVER
        return None if self.live(at) else MandateGap.NOT_LIVE

"""What this service itself holds of a person, as records for their copy (GDPR art. 15; dsar rules 38-40).

Who they are, what they agreed to, who looked, what they asked for before. Codes come with their words (rule 39).
Members of staff are not named: only what was looked at, when and why (C-579/21). Leaves out reading and sealing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from app.outbound.uploads import Record, Upload
from app.profiles import Profile
from consent.policy import Policy
from consent.record import Consent
from consent.vocabulary import CategoryId, Locale, PartyId, PurposeId
from dsar.holdings import AUDIT_TRAIL
from dsar.ports import CaseSummary

CIVIL: Final = CategoryId("identity.civil")
CONTACT: Final = CategoryId("contact.details")
KIND: Final = "kind"
"""The field that says what a record of the audit trail is."""
AGREEMENT: Final = "agreement"
READING: Final = "reading"
REQUEST: Final = "request"


class Looked(Protocol):
    """A disclosure."""

    @property
    def party(self) -> PartyId: ...
    @property
    def purpose(self) -> PurposeId: ...
    @property
    def categories(self) -> Sequence[CategoryId]: ...
    @property
    def records(self) -> int: ...
    @property
    def action(self) -> str: ...
    @property
    def attended(self) -> bool: ...
    @property
    def at(self) -> datetime: ...


@dataclass(frozen=True, slots=True, repr=False)
class Own:
    """Everything the house has on one person; its `repr` shows nothing."""

    profile: Profile | None
    locale: Locale
    since: datetime
    consents: Sequence[Consent]
    looked: Sequence[Looked]
    cases: Sequence[CaseSummary]

    def __repr__(self) -> str:
        return "Own(hidden)"


Codes = Mapping[tuple[str, str], str]
"""(kind of record, code) -> the code in words."""


def own_records(own: Own, policy: Policy, codes: Codes, at: datetime) -> Upload:
    """Return the records by category, as they stand at `at`; none of a category means it is left out."""
    say = _Names(policy, own.locale, codes)
    trail = [_agreement(one, say, at) for one in own.consents]
    trail += [_reading(one, say) for one in own.looked]
    trail += [_request(one, say) for one in own.cases]
    who: list[Record] = [{"name": own.profile.name}] if own.profile is not None else []
    reach: list[Record] = []
    if own.profile is not None:
        reach = [{"email": own.profile.email, "language": own.locale.value, "since": own.since.isoformat()}]
    found: Mapping[CategoryId, Sequence[Record]] = {CIVIL: who, CONTACT: reach, AUDIT_TRAIL: trail}
    return {category: records for category, records in found.items() if records}


@dataclass(frozen=True, slots=True)
class _Names:
    """The pack's words in one language; what it no longer lists keeps its code."""

    policy: Policy
    locale: Locale
    codes: Codes

    def code(self, kind: str, code: str) -> str:
        return self.codes.get((kind, code), code)

    def purpose(self, purpose: PurposeId) -> str:
        known = self.policy.purposes.get(purpose)
        return known.names[self.locale] if known is not None else purpose

    def categories(self, categories: Sequence[CategoryId]) -> str:
        known = self.policy.categories
        return ", ".join(known[one].names[self.locale] if one in known else one for one in categories)

    def party(self, party: PartyId) -> str:
        known = self.policy.parties.get(party)
        return known.brand_name if known is not None else party

    def right(self, right: str) -> str:
        known = self.policy.rights.get(right)
        return known.names[self.locale] if known is not None else right


def _agreement(record: Consent, say: _Names, at: datetime) -> Record:
    asked = tuple(sorted(record.categories or record.terms.needed | record.terms.optional))
    return {
        KIND: AGREEMENT,
        "reference": record.id,
        "purpose": record.terms.purpose,
        "purpose_in_words": say.purpose(record.terms.purpose),
        "asked_by": say.party(record.terms.party),
        "state": record.state_at(at).value,
        "state_in_words": say.code(AGREEMENT, record.state_at(at).value),
        "asked_at": record.requested_at.isoformat(),
        "given_at": record.given_at.isoformat() if record.given_at else None,
        "valid_until": record.valid_until.isoformat() if record.valid_until else None,
        "ended_at": record.end.at.isoformat() if record.end else None,
        "categories": list(asked),
        "categories_in_words": say.categories(asked),
        "readers": [say.party(party) for party in sorted(record.readers)],
    }


def _reading(one: Looked, say: _Names) -> Record:
    return {
        KIND: READING,
        "at": one.at.isoformat(),
        "reader": say.party(one.party),
        "purpose": one.purpose,
        "purpose_in_words": say.purpose(one.purpose),
        "categories": list(one.categories),
        "categories_in_words": say.categories(one.categories),
        "records": one.records,
        "action": one.action,
        "action_in_words": say.code(READING, one.action),
        "attended": one.attended,
        "attended_in_words": say.code(READING, "attended" if one.attended else "unattended"),
    }


def _request(one: CaseSummary, say: _Names) -> Record:
    return {
        KIND: REQUEST,
        "reference": one.case,
        "rights": [right.value for right in one.rights],
        "rights_in_words": ", ".join(say.right(right.value) for right in one.rights),
        "state": one.state.value,
        "state_in_words": say.code(REQUEST, one.state.value),
        "received_at": one.received_at.isoformat(),
        "due": one.due_strict.isoformat(),
    }

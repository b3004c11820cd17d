"""`authorization_details` (RFC 9396): reading a list of one `aggregation_consent`, and granting no more than it covers.

One detail per request: a token points at one consent. Unknown fields and types are refused (tokens.md section 3).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import date

from app.sdk.claims import AggregationConsent
from app.sdk.errors import Malformed
from app.tokens.errors import InvalidAuthorizationDetails

LONGEST = 16 * 1024


def parse(text: str) -> AggregationConsent:
    """Read the parameter; raises `InvalidAuthorizationDetails`."""
    if len(text) > LONGEST:
        raise InvalidAuthorizationDetails("authorization_details too long")
    try:
        details = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidAuthorizationDetails("authorization_details is not JSON") from None
    if not isinstance(details, list) or len(details) != 1:
        raise InvalidAuthorizationDetails("exactly one authorization detail is needed")
    try:
        return AggregationConsent.from_json(details[0])
    except Malformed as fault:
        raise InvalidAuthorizationDetails(str(fault).replace('"', "'")) from None


def proposal(detail: AggregationConsent) -> AggregationConsent:
    """Check what a partner proposes to a person: a purpose and categories, and no consent yet, or a consent's id."""
    if detail.consent_id is None and not (detail.purpose and detail.categories):
        raise InvalidAuthorizationDetails("a proposal names its purpose and its categories")
    return detail


def named(detail: AggregationConsent) -> AggregationConsent:
    """Check what a component asks with its own credentials: one consent, by its id."""
    if detail.consent_id is None:
        raise InvalidAuthorizationDetails("consent_id is required")
    return detail


@dataclass(frozen=True, slots=True)
class Covered:
    """What a live consent covers; empty `accounts` means all, a day or number of None no limit of its own."""

    consent: str
    purpose: str
    categories: frozenset[str]
    accounts: frozenset[str] = frozenset()
    party: str | None = None
    """The data user the person agreed with."""
    access_path: str | None = None
    valid_from: date | None = None
    valid_until: date | None = None
    history_from: date | None = None
    reads_per_day: int | None = None


def granted(asked: AggregationConsent, covered: Covered) -> AggregationConsent:
    """Return the part of what was asked that the consent covers, to be echoed.

    Nothing asked in particular means all of it. Asking for nothing the consent covers, or for another purpose, party
    or way to the data, would be a widening, which needs a new consent: `InvalidAuthorizationDetails`.
    """
    for name in ("purpose", "party", "access_path"):
        if getattr(asked, name) not in (None, getattr(covered, name)):
            raise InvalidAuthorizationDetails(f"another {name} needs another consent")
    return replace(
        _in_time(asked, covered),
        consent_id=covered.consent,
        purpose=covered.purpose,
        categories=_within(asked.categories, covered.categories, "categories"),
        accounts=_within(asked.accounts, covered.accounts, "accounts"),
    )


def _in_time(asked: AggregationConsent, covered: Covered) -> AggregationConsent:
    """Days and reads as asked, no further than the consent goes; what was not asked for stays unsaid."""
    start, until = _latest(asked.period_from, covered.valid_from), _earliest(asked.period_until, covered.valid_until)
    if start is not None and until is not None and until < start:
        raise InvalidAuthorizationDetails("no day of this period is covered")
    return replace(
        asked,
        period_from=start,
        period_until=until,
        history_from=_latest(asked.history_from, covered.history_from),
        frequency_per_day=_fewest(asked.frequency_per_day, covered.reads_per_day),
    )


def _latest(asked: date | None, limit: date | None) -> date | None:
    return asked if asked is None or limit is None else max(asked, limit)


def _earliest(asked: date | None, limit: date | None) -> date | None:
    return asked if asked is None or limit is None else min(asked, limit)


def _fewest(asked: int | None, limit: int | None) -> int | None:
    return asked if asked is None or limit is None else min(asked, limit)


def _within(asked: frozenset[str], covered: frozenset[str], name: str) -> frozenset[str]:
    """Nothing asked means all; an empty cover covers everything for accounts, and nothing for categories."""
    if name == "accounts" and not covered:
        return asked
    kept = asked & covered if asked else covered
    if not kept:
        raise InvalidAuthorizationDetails(f"none of these {name} is covered")
    return kept

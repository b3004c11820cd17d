"""`authorization_details` (RFC 9396): reading a list of one `aggregation_consent`, and granting no more than it covers.

One detail per request: a token points at one consent. Unknown fields and types are refused (tokens.md section 3).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

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
    """What a live consent covers; empty `accounts` means all."""

    consent: str
    purpose: str
    categories: frozenset[str]
    accounts: frozenset[str] = frozenset()


def granted(asked: AggregationConsent, covered: Covered) -> AggregationConsent:
    """Return the part of what was asked that the consent covers, to be echoed.

    Nothing asked in particular means all of it. Asking for nothing the consent covers, or for another purpose, would
    be a widening, which needs a new consent: `InvalidAuthorizationDetails`.
    """
    if asked.purpose not in (None, covered.purpose):
        raise InvalidAuthorizationDetails("another purpose needs another consent")
    return replace(
        asked,
        consent_id=covered.consent,
        purpose=covered.purpose,
        categories=_within(asked.categories, covered.categories, "categories"),
        accounts=_within(asked.accounts, covered.accounts, "accounts"),
    )


def _within(asked: frozenset[str], covered: frozenset[str], name: str) -> frozenset[str]:
    """Nothing asked means all; an empty cover covers everything for accounts, and nothing for categories."""
    if name == "accounts" and not covered:
        return asked
    kept = asked & covered if asked else covered
    if not kept:
        raise InvalidAuthorizationDetails(f"none of these {name} is covered")
    return kept

"""`authorization_details` (RFC 9396): read strictly, narrowed and echoed, never widened (tokens.md section 3)."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.sdk.claims import AggregationConsent
from app.tokens.errors import InvalidAuthorizationDetails
from app.tokens.rfc9396 import Covered, granted, named, parse, proposal

COVERED = Covered(
    "con_1",
    "budget",
    frozenset({"a", "b"}),
    frozenset({"acc1"}),
    party="reader",
    access_path="feed",
    valid_from=date(2026, 3, 1),
    valid_until=date(2026, 9, 1),
    history_from=date(2025, 1, 1),
    reads_per_day=2,
)
words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
details = st.builds(
    AggregationConsent,
    purpose=st.none() | words,
    categories=st.frozensets(words, max_size=5),
    consent_id=st.none() | words,
    party=st.none() | words,
    accounts=st.frozensets(words, max_size=3),
    period_from=st.none() | st.dates(date(2026, 1, 1), date(2026, 6, 1)),
    period_until=st.none() | st.dates(date(2026, 6, 1), date(2027, 1, 1)),
    history_from=st.none() | st.dates(),
    frequency_per_day=st.none() | st.integers(1, 4),
    access_path=st.none() | words,
)


@given(details)
def test_what_is_written_is_read_back(detail: AggregationConsent) -> None:
    assert parse(json.dumps([detail.to_json()])) == detail


@given(details, st.booleans())
def test_what_is_granted_lies_within_the_consent(detail: AggregationConsent, fits: bool) -> None:
    """tokens.md section 3: granted is always a subset of the consent, in every member."""
    if fits:  # words that are not refused for being others, so that the days and numbers are reached
        some = frozenset({"a"}), frozenset({"acc1"})
        asked = {"purpose": None, "party": "reader", "access_path": "feed", "categories": some[0], "accounts": some[1]}
        detail = replace(detail, **asked)
    try:
        got = granted(detail, COVERED)
    except InvalidAuthorizationDetails:
        return
    assert got.party in (None, "reader")
    assert got.access_path in (None, "feed")
    assert got.period_from is None or got.period_from >= date(2026, 3, 1)
    assert got.period_until is None or got.period_until <= date(2026, 9, 1)
    assert got.history_from is None or got.history_from >= date(2025, 1, 1)
    assert got.frequency_per_day is None or got.frequency_per_day <= 2
    assert parse(json.dumps([got.to_json()])) == got
    assert got.categories
    assert got.categories <= COVERED.categories
    assert got.accounts <= COVERED.accounts
    assert got.accounts
    assert (got.consent_id, got.purpose) == ("con_1", "budget")


def test_narrowing_and_its_limits() -> None:
    assert granted(AggregationConsent(), COVERED).categories == COVERED.categories
    assert granted(AggregationConsent(categories=frozenset({"a", "z"})), COVERED).categories == {"a"}
    every = Covered("con_1", "budget", frozenset({"a"}))
    assert granted(AggregationConsent(accounts=frozenset({"acc9"})), every).accounts == {"acc9"}
    wide = AggregationConsent(
        history_from=date(1990, 1, 1), period_until=date(2099, 12, 31), frequency_per_day=4, party="reader"
    )
    got = granted(wide, COVERED)
    assert (got.history_from, got.period_until, got.frequency_per_day) == (date(2025, 1, 1), date(2026, 9, 1), 2)
    short = granted(AggregationConsent(history_from=date(2026, 1, 1), frequency_per_day=1), COVERED)
    assert (short.history_from, short.frequency_per_day) == (date(2026, 1, 1), 1)
    assert granted(AggregationConsent(), COVERED).history_from is None
    for asked in (
        AggregationConsent(categories=frozenset({"z"})),
        AggregationConsent(accounts=frozenset({"acc9"})),
        AggregationConsent(purpose="marketing"),
        AggregationConsent(party="another"),
        AggregationConsent(access_path="xyz"),
        AggregationConsent(period_from=date(2026, 10, 1), period_until=date(2027, 1, 1)),
        AggregationConsent(period_until=date(2026, 2, 1), period_from=date(2026, 1, 1)),
    ):
        with pytest.raises(InvalidAuthorizationDetails):
            granted(asked, COVERED)
    with pytest.raises(InvalidAuthorizationDetails):
        granted(AggregationConsent(), Covered("con_1", "budget", frozenset()))


def test_a_proposal_names_what_it_is_about_and_a_component_its_consent() -> None:
    for empty in (AggregationConsent(), AggregationConsent(purpose="budget")):
        with pytest.raises(InvalidAuthorizationDetails):
            proposal(empty)
    proposal(AggregationConsent(purpose="budget", categories=frozenset({"a"})))
    with pytest.raises(InvalidAuthorizationDetails):
        named(AggregationConsent(purpose="budget"))


GOOD = {"type": "aggregation_consent", "consent_id": "con_1"}


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "null",
        "{}",
        "[]",
        "[1]",
        "[" * 100_000,
        json.dumps([GOOD, GOOD]),
        json.dumps([{"consent_id": "con_1"}]),
        json.dumps([{**GOOD, "type": "payment_initiation"}]),
        json.dumps([{**GOOD, "unknown": None}]),
        json.dumps([{**GOOD, "actions": ["read", "write"]}]),
        json.dumps([{**GOOD, "actions": "read"}]),
        json.dumps([{**GOOD, "categories": ["a"] * 65}]),
        json.dumps([{**GOOD, "categories": [1]}]),
        json.dumps([{**GOOD, "consent_id": "x" * 129}]),
        json.dumps([{**GOOD, "consent_id": "a\nb"}]),
        json.dumps([{**GOOD, "consent_id": ""}]),
        json.dumps([{**GOOD, "frequency_per_day": 0}]),
        json.dumps([{**GOOD, "frequency_per_day": 5}]),
        json.dumps([{**GOOD, "frequency_per_day": True}]),
        json.dumps([{**GOOD, "history_from": "yesterday"}]),
        json.dumps([{**GOOD, "period": {"from": "2026-01-01", "to": "2026-02-01"}}]),
        json.dumps([{**GOOD, "period": {"from": "2026-02-01", "until": "2026-01-01"}}]),
        json.dumps([{**GOOD, "period": []}]),
    ],
)
def test_what_is_not_exactly_so_is_refused(wrong: str) -> None:
    parse(json.dumps([GOOD]))
    with pytest.raises(InvalidAuthorizationDetails):
        parse(wrong)

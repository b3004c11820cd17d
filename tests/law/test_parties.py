"""The gate of the processor list: contract, window, end, chain, baseline (rules P2-P5)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from consent.parties import (
    ARTICLE_28_BOXES,
    Active,
    Baseline,
    Grant,
    NotActive,
    NotActiveReason,
    Party,
    PartyRole,
    Security,
    SecurityException,
    Shortfall,
    active,
    chain,
    grants_live,
    shortfalls,
)
from consent.vocabulary import Action, CategoryId, ControllerId, Locale, PartyId, PurposeId

TODAY = date(2026, 11, 21)
TEXT = dict.fromkeys(Locale, "Words.")
BASELINE = Baseline(("ISO 27001",), True, True, 24, 400)
GRANT = Grant(PurposeId("overview"), CategoryId("accounts.balances"), Action.READ, TEXT, date(2026, 1, 1), None)
HOST = Party(
    id=PartyId("host"),
    controller=ControllerId("firm"),
    role=PartyRole.PROCESSOR,
    legal_name="Host SAS",
    brand_name="Host",
    register_numbers={},
    country="FR",
    contact="privacy@host.example",
    dpo="dpo@host.example",
    does=TEXT,
    parent=None,
    contract_ref="C-1",
    contract_start=date(2026, 1, 1),
    contract_end=None,
    article_28=dict.fromkeys(ARTICLE_28_BOXES, "C-1"),
    transfer_mechanism=None,
    security=Security("ISO 27001", True, True, 24, date(2026, 6, 1)),
    objection_until=None,
    notice_url=None,
    grants=(GRANT,),
)
SUB = replace(
    HOST, id=PartyId("sub"), role=PartyRole.SUB_PROCESSOR, parent=PartyId("host"), objection_until=date(2026, 3, 1)
)


def _standing(
    party: Party, *others: Party, on: date = TODAY, baseline: Baseline | None = BASELINE
) -> NotActiveReason | None:
    answer = active(party, on, baseline, {each.id: each for each in (party, *others)})
    return answer.reason if isinstance(answer, NotActive) else None


def test_a_complete_processor_is_active() -> None:
    assert active(HOST, TODAY, BASELINE, {HOST.id: HOST}) == Active()
    assert _standing(SUB, HOST) is None


@pytest.mark.parametrize("box", ARTICLE_28_BOXES)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_each_box_of_article_28_needs_a_reference(box: str, value: str | None) -> None:
    """Rule P2."""
    boxes = {key: ref for key, ref in HOST.article_28.items() if key != box}
    open_box = replace(HOST, article_28=boxes if value is None else boxes | {box: value})
    assert _standing(open_box) is NotActiveReason.CONTRACT_GATE


@pytest.mark.parametrize("role", [PartyRole.RECIPIENT, PartyRole.INTERNAL_TEAM])
def test_article_28_binds_processors_alone(role: PartyRole) -> None:
    assert _standing(replace(HOST, role=role, article_28={})) is None


def test_a_joint_controller_needs_its_arrangement() -> None:
    """Rule P6, GDPR art. 26."""
    joint = replace(HOST, role=PartyRole.JOINT_CONTROLLER, article_28={})
    assert _standing(joint) is NotActiveReason.JOINT_ARRANGEMENT
    assert _standing(replace(joint, joint_essence=TEXT)) is None


@pytest.mark.parametrize(
    ("on", "reason"),
    [
        (date(2025, 12, 31), NotActiveReason.CONTRACT_NOT_BEGUN),
        (date(2026, 7, 1), None),
        (date(2026, 8, 30), None),
        (date(2026, 8, 31), NotActiveReason.CONTRACT_ENDED),
        (date(2027, 8, 31), NotActiveReason.CONTRACT_ENDED),
    ],
)
def test_the_contract_opens_and_closes_on_its_days(on: date, reason: NotActiveReason | None) -> None:
    """Rule P5: the entry and its grants die on the day named as the end."""
    party = replace(
        HOST,
        contract_end=date(2026, 8, 31),
        security=replace(HOST.security, last_penetration_test=on),
        grants=(replace(GRANT, start=date(2020, 1, 1)),),
    )
    assert _standing(party, on=on) is reason
    assert bool(grants_live(party, on)) is (reason is None)


def test_a_grant_has_days_of_its_own() -> None:
    party = replace(HOST, grants=(replace(GRANT, start=date(2026, 2, 1), until=date(2026, 3, 1)),))
    days = [date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 28), date(2026, 3, 1)]
    assert [len(grants_live(party, day)) for day in days] == [0, 1, 1, 0]


def test_a_new_sub_processor_waits_until_the_window_has_passed() -> None:
    """Rule P3."""
    last = date(2026, 12, 20)
    pending = replace(SUB, objection_until=last)
    assert _standing(pending, HOST, on=last) is NotActiveReason.OBJECTION_WINDOW
    assert _standing(pending, HOST, on=last + timedelta(days=1)) is None
    assert _standing(replace(SUB, objection_until=None), HOST) is NotActiveReason.OBJECTION_WINDOW


def test_an_objection_keeps_a_sub_processor_out() -> None:
    """Rule P3."""
    objected = replace(SUB, objected_on=date(2026, 2, 20))
    assert _standing(objected, HOST) is NotActiveReason.OBJECTED


def test_under_specific_authorisation_silence_never_counts() -> None:
    """Rule P3."""
    silent = replace(SUB, authorisation="specific")
    assert _standing(silent, HOST) is NotActiveReason.NOT_AUTHORISED
    assert _standing(replace(silent, authorised_on=TODAY + timedelta(days=1)), HOST) is NotActiveReason.NOT_AUTHORISED
    assert _standing(replace(silent, authorised_on=TODAY, objection_until=None), HOST) is None


def test_a_sub_processor_falls_with_anyone_above_it() -> None:
    """Rule P4."""
    deeper = replace(SUB, id=PartyId("deeper"), parent=PartyId("sub"))
    assert _standing(deeper, SUB, HOST) is None
    fallen = [
        replace(HOST, suspended_since=TODAY),
        replace(HOST, contract_end=TODAY),
        replace(HOST, article_28={}),
        replace(HOST, security=replace(HOST.security, encryption_at_rest=False)),
        replace(HOST, controller=ControllerId("another")),
        replace(HOST, role=PartyRole.RECIPIENT),
    ]
    for host in fallen:
        assert _standing(deeper, SUB, host) is NotActiveReason.PARENT_NOT_ACTIVE
        assert _standing(SUB, host) is NotActiveReason.PARENT_NOT_ACTIVE
    assert _standing(deeper, replace(SUB, objected_on=TODAY), HOST) is NotActiveReason.PARENT_NOT_ACTIVE


def test_a_chain_with_a_gap_or_a_circle_stands_on_nothing() -> None:
    """Rule P4."""
    other = replace(SUB, id=PartyId("other"), parent=PartyId("sub"))
    looped = replace(SUB, parent=PartyId("other"))
    assert _standing(SUB) is NotActiveReason.PARENT_NOT_ACTIVE
    assert _standing(looped, other) is NotActiveReason.PARENT_NOT_ACTIVE
    assert _standing(replace(SUB, parent=SUB.id)) is NotActiveReason.PARENT_NOT_ACTIVE
    assert [each.id for each in chain(looped, {"sub": looped, "other": other})] == ["other"]


def test_suspension_begins_on_its_day_and_comes_first() -> None:
    assert _standing(replace(HOST, suspended_since=TODAY)) is NotActiveReason.SUSPENDED
    assert _standing(replace(HOST, suspended_since=TODAY + timedelta(days=1))) is None
    both = replace(HOST, suspended_since=TODAY, article_28={}, contract_end=TODAY)
    assert _standing(both) is NotActiveReason.SUSPENDED


@pytest.mark.parametrize(
    ("security", "short"),
    [
        (replace(HOST.security, certification="none"), Shortfall.CERTIFICATION),
        (replace(HOST.security, encryption_at_rest=False), Shortfall.ENCRYPTION_AT_REST),
        (replace(HOST.security, encryption_in_transit=False), Shortfall.ENCRYPTION_IN_TRANSIT),
        (replace(HOST.security, breach_notice_hours=25), Shortfall.BREACH_NOTICE),
        (replace(HOST.security, last_penetration_test=None), Shortfall.PENETRATION_TEST),
        (replace(HOST.security, last_penetration_test=TODAY - timedelta(days=401)), Shortfall.PENETRATION_TEST),
        (replace(HOST.security, last_penetration_test=TODAY + timedelta(days=1)), Shortfall.PENETRATION_TEST),
    ],
)
def test_below_the_baseline_nobody_is_active_without_a_signature(security: Security, short: Shortfall) -> None:
    party = replace(HOST, security=security)
    assert shortfalls(party, TODAY, BASELINE) == (short,)
    assert _standing(party) is NotActiveReason.BELOW_BASELINE


def test_a_signed_exception_carries_an_entry_until_its_last_day() -> None:
    party = replace(HOST, security=replace(HOST.security, breach_notice_hours=36))
    signed = SecurityException(party.id, "addresses only", "DPO, SEC-1", date(2026, 2, 1), date(2026, 12, 1))
    baseline = replace(BASELINE, exceptions=(signed,))
    assert active(party, TODAY, baseline, {party.id: party}) == Active(signed)
    for on in (date(2026, 12, 1), date(2027, 1, 1)):
        assert _standing(party, on=on, baseline=baseline) is NotActiveReason.BELOW_BASELINE
    early = replace(party, security=replace(party.security, last_penetration_test=date(2026, 1, 15)))
    assert _standing(early, on=date(2026, 1, 31), baseline=baseline) is NotActiveReason.BELOW_BASELINE
    another = replace(BASELINE, exceptions=(replace(signed, party=PartyId("somebody")),))
    assert _standing(party, baseline=another) is NotActiveReason.BELOW_BASELINE


def test_without_a_baseline_nobody_is_active() -> None:
    assert shortfalls(HOST, TODAY, None) == (Shortfall.NO_BASELINE,)
    assert _standing(HOST, baseline=None) is NotActiveReason.BELOW_BASELINE


def test_outside_the_eea_a_mechanism_and_its_assessment_are_needed() -> None:
    """GDPR chapter V."""
    abroad = replace(HOST, country="US")
    assert _standing(abroad) is NotActiveReason.TRANSFER
    assert _standing(replace(abroad, transfer_mechanism="SCC 2021/914")) is NotActiveReason.TRANSFER
    assert _standing(replace(abroad, transfer_mechanism="SCC 2021/914", transfer_assessment="TIA-4")) is None
    assert _standing(replace(HOST, country="NO")) is None

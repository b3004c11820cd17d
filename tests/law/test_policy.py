"""What `check` finds in a pack: everything, and nothing that is not there (consent rules 8-24, P2-P6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest

from app.policyfiles import load
from consent.parties import (
    Baseline,
    Grant,
    NotActive,
    NotActiveReason,
    SecurityException,
)
from consent.policy import (
    FigureName,
    FigureUnknown,
    Policy,
    Stage,
    StageKind,
    check,
    sentence_words,
)
from consent.vocabulary import Action, CategoryId, ControllerId, LegalBasis, Locale, PartyId, PurposeId

K = TypeVar("K")
V = TypeVar("V")
TODAY = date(2026, 11, 21)
LONG = "This sentence goes on and on " + "and on " * 20 + "until it ends."


@cache
def _shipped() -> Policy:
    return load(Path(__file__).resolve().parents[2] / "policies")


def _with(entries: Mapping[K, V], key: K, **changes: Any) -> dict[K, V]:
    return {**entries, key: replace(entries[key], **changes)}  # type: ignore[type-var]


def _purpose(name: str = "wealth_overview", **changes: Any) -> Policy:
    return replace(_shipped(), purposes=_with(_shipped().purposes, PurposeId(name), **changes))


def _party(name: str, **changes: Any) -> Policy:
    return replace(_shipped(), parties=_with(_shipped().parties, name, **changes))


def _category(name: str, **changes: Any) -> Policy:
    return replace(_shipped(), categories=_with(_shipped().categories, CategoryId(name), **changes))


def _controller(**changes: Any) -> Policy:
    return replace(_shipped(), controllers=_with(_shipped().controllers, ControllerId("ormelune"), **changes))


def _found(policy: Policy) -> set[tuple[str, str]]:
    return {(problem.file, problem.key) for problem in check(policy)}


def _grant(**changes: Any) -> Grant:
    return replace(_shipped().parties["patrivue"].grants[0], **changes)


def _granted(grant: Grant) -> Policy:
    return _party("patrivue", grants=(*_shipped().parties["patrivue"].grants, grant))


def _without(text: Mapping[Locale, str], locale: Locale) -> dict[Locale, str]:
    return {key: words for key, words in text.items() if key is not locale}


def test_the_shipped_pack_is_clean() -> None:
    assert check(_shipped()) == ()


def test_a_purpose_that_sells_data_is_refused() -> None:
    """consent.md section 1."""
    assert _found(_purpose(sells_data=True)) == {("purposes.toml", "purposes[wealth_overview].sells_data")}


@pytest.mark.parametrize("locale", Locale)
@pytest.mark.parametrize("blank", [True, False])
def test_a_grant_needs_its_justification_in_every_language(locale: Locale, blank: bool) -> None:
    """consent.md section 2: a grant without a justification is refused."""
    grant = _shipped().parties["nuage"].grants[0]
    text = {**grant.justification, locale: "  "} if blank else _without(grant.justification, locale)
    policy = _party("nuage", grants=(replace(grant, justification=text), *_shipped().parties["nuage"].grants[1:]))
    key = f"grants[{grant.purpose}.{grant.category}.{grant.action}].justification.{locale}"
    assert _found(policy) == {("parties/nuage.toml", key)}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"category": CategoryId("accounts.dreams")}, "grants[wealth_overview.accounts.dreams.read]"),
        ({"category": CategoryId("accounts")}, "grants[wealth_overview.accounts.read]"),
        ({"category": CategoryId("tax.notices")}, "grants[wealth_overview.tax.notices.read]"),
        ({"purpose": PurposeId("curiosity")}, "grants[curiosity.accounts.details.read]"),
        (
            {"purpose": PurposeId("client_reporting")},
            "grants[client_reporting.accounts.details.read]",
        ),
        ({}, "grants[wealth_overview.accounts.details.read]"),
        (
            {"action": Action.TRANSMIT, "until": date(2025, 1, 1)},
            "grants[wealth_overview.accounts.details.transmit].until",
        ),
        (
            {"action": Action.TRANSMIT, "justification": dict.fromkeys(Locale, LONG)},
            "grants[wealth_overview.accounts.details.transmit].justification.",
        ),
    ],
)
def test_a_grant_stays_within_what_exists(changes: dict[str, Any], key: str) -> None:
    """Unknown or heading category, unused category, unknown purpose, another controller's, twice, backwards, wordy."""
    found = _found(_granted(_grant(**changes)))
    assert found
    assert all(file == "parties/patrivue.toml" and found_key.startswith(key) for file, found_key in found)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"controller": ControllerId("nobody")}, "controller"),
        ({"needed": frozenset({CategoryId("accounts.dreams")})}, "needed[accounts.dreams]"),
        ({"reads_per_day": 5}, "reads_per_day"),
        ({"longest_days": 366}, "longest_days"),
        ({"periods_days": ()}, "periods_days"),
        ({"periods_days": (180, 1)}, "periods_days"),
        ({"periods_days": (400,)}, "periods_days"),
        ({"history_days": -1}, "history_days"),
        ({"why": dict.fromkeys(Locale, LONG)}, "why.fr"),
    ],
)
def test_a_purpose_keeps_the_limits_of_consent(changes: dict[str, Any], key: str) -> None:
    """Consent rules 11, 13, 14, 23."""
    assert ("purposes.toml", f"purposes[wealth_overview].{key}") in _found(_purpose(**changes))


def test_twelve_months_bind_consent_alone_and_no_figure_widens_them() -> None:
    """Consent rule 13."""
    assert check(_purpose(basis=LegalBasis.CONTRACT, longest_days=1000)) == ()
    name = FigureName.LONGEST_CONSENT_DAYS
    wider = replace(_purpose(longest_days=1000), figures=_with(_shipped().figures, name, values=(1000,)))
    assert _found(wider) == {("purposes.toml", "purposes[wealth_overview].longest_days")}
    tighter = replace(_shipped(), figures=_with(_shipped().figures, name, values=(180,)))
    assert ("purposes.toml", "purposes[wealth_overview].longest_days") in _found(tighter)


def test_a_category_is_needed_or_optional_not_both() -> None:
    both = _shipped().purposes[PurposeId("wealth_overview")].needed
    found = _found(_purpose(optional=both))
    assert found == {("purposes.toml", f"purposes[wealth_overview].optional[{category}]") for category in both} | {
        ("parties/" + party + ".toml", f"grants[wealth_overview.{grant.category}.{grant.action}]")
        for party, entry in _shipped().parties.items()
        for grant in entry.grants
        if grant.purpose == "wealth_overview" and grant.category not in both
    } | {
        ("retention.toml", f"wealth_overview.{row.category}")
        for row in _shipped().retentions
        if row.purpose == "wealth_overview" and row.category not in both
    }


def test_no_purpose_without_retention_recipient_and_notice() -> None:
    """Rule P6."""
    shipped = _shipped()
    rows = tuple(row for row in shipped.retentions if (row.purpose, row.category) != ("news_offers", "contact.details"))
    assert _found(replace(shipped, retentions=rows)) == {("retention.toml", "news_offers.contact.details")}
    unserved = tuple(grant for grant in shipped.parties["courrier"].grants if grant.purpose != "news_offers")
    assert _found(_party("courrier", grants=unserved)) == {("purposes.toml", "purposes[news_offers]")}
    silent = {key: notice for key, notice in shipped.notices.items() if key[0] != "news_offers"}
    assert _found(replace(shipped, notices=silent)) == {
        (f"notices/news_offers/v1.{locale}.md", "notice") for locale in Locale
    }


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"days": 0}, "security_audit.device.technical.days"),
        ({"legal_ref": " "}, "security_audit.device.technical"),
        ({"trigger": ""}, "security_audit.device.technical"),
        ({"reason": {}}, "security_audit.device.technical.reason.fr"),
        ({"category": CategoryId("audit.trail")}, "security_audit.audit.trail"),
        ({"purpose": PurposeId("curiosity")}, "curiosity.device.technical"),
    ],
)
def test_every_retention_has_an_end_and_a_text(changes: dict[str, Any], key: str) -> None:
    """Dsar rules 48, 49."""
    rows = tuple(
        replace(row, **changes) if row.category == "device.technical" else row for row in _shipped().retentions
    )
    assert ("retention.toml", key) in _found(replace(_shipped(), retentions=rows))


@pytest.mark.parametrize(
    ("party", "changes", "key"),
    [
        ("patrivue", {"notice_url": None}, "notice_url"),
        ("patrivue", {"brand_name": "Our partners"}, "brand_name"),
        ("patrivue", {"country": "France"}, "country"),
        ("patrivue", {"controller": ControllerId("nobody")}, "controller"),
        ("patrivue", {"article_28": {"a": "C-1"}}, "article_28"),
        ("patrivue", {"parent": PartyId("collecte")}, "parent"),
        ("patrivue", {"register_numbers": {"ORIAS": "123"}}, "register_numbers.ORIAS"),
        ("patrivue", {"does": {}}, "does.fr"),
        ("collecte", {"article_28": {"z": "C-1"}}, "article_28.z"),
        ("collecte", {"country": "US"}, "transfer_mechanism"),
        ("collecte", {"contract_end": date(2020, 1, 1)}, "contract_end"),
        ("courtalis", {"joint_essence": None}, "joint_essence"),
        ("connecteurs", {"parent": None}, "parent"),
        ("connecteurs", {"parent": PartyId("ghost")}, "parent"),
        ("connecteurs", {"parent": PartyId("connecteurs")}, "parent"),
        ("connecteurs", {"parent": PartyId("patrivue")}, "parent"),
        ("connecteurs", {"parent": PartyId("ormelune_pour_valombree")}, "parent"),
    ],
)
def test_an_entry_of_the_list_says_who_and_on_what_footing(party: str, changes: dict[str, Any], key: str) -> None:
    """Consent rules 15, 16; rules P2, P4, P6; GDPR chapter V."""
    assert (f"parties/{party}.toml", key) in _found(_party(party, **changes))


def test_nobody_passes_on_more_than_it_may_do_itself() -> None:
    """Rule P4."""
    sub = _shipped().parties["connecteurs"]
    wider = replace(sub.grants[0], action=Action.TRANSMIT)
    assert _found(_party("connecteurs", grants=(*sub.grants, wider))) == {
        ("parties/connecteurs.toml", f"grants[wealth_overview.{wider.category}.transmit]")
    }


def test_a_team_sees_at_most_what_its_role_says() -> None:
    """consent.md section 4."""
    shipped = _shipped()
    roles = _with(shipped.roles, "studies", categories=frozenset())
    assert _found(replace(shipped, roles=roles)) == {("parties/studies.toml", "grants[statistics.pool]")}
    nameless = {name: role for name, role in shipped.roles.items() if name != "studies"}
    assert _found(replace(shipped, roles=nameless)) == {("roles.toml", "roles[studies]")}


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"parent": CategoryId("nothing")}, "parent"),
        ({"parent": CategoryId("loans")}, "parent"),
        ({"cluster": "nothing"}, "cluster"),
        ({"sensitivity": 4}, "sensitivity"),
        ({"special": True}, "dpo_approval"),
        ({"names": {Locale.FR: "Soldes"}}, "names.pt"),
    ],
)
def test_a_category_has_its_place_and_its_names(changes: dict[str, Any], key: str) -> None:
    """Consent rule 10, dsar rule 23."""
    found = _found(_category("accounts.balances", **changes))
    assert ("categories.toml", f"categories[accounts.balances].{key}") in found


def test_a_special_category_passes_once_the_dpo_has_approved_it() -> None:
    """Dsar rule 23."""
    assert check(_category("accounts.balances", special=True, dpo_approval="DPO paper 7")) == ()


def _baseline(signed: SecurityException) -> Baseline:
    baseline = _shipped().controllers[ControllerId("ormelune")].baseline
    assert baseline is not None
    return replace(baseline, exceptions=(signed,))


SIGNED = SecurityException(PartyId("courrier"), "addresses only", "DPO", date(2025, 1, 1), date(2028, 1, 1))


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"baseline": None}, "security_baseline"),
        ({"regions": ()}, "regions"),
        ({"regions": ("Europe",)}, "regions"),
        ({"country": "fr"}, "country"),
        ({"locales": ()}, "locales"),
        ({"dpo_email": "the DPO"}, "dpo_email"),
        ({"register_numbers": {"REGAFI": "x"}}, "register_numbers.REGAFI"),
        ({"authority": {}}, "authority.en"),
    ],
)
def test_a_controller_says_who_answers_and_where_data_is(changes: dict[str, Any], key: str) -> None:
    assert ("controllers/ormelune.toml", key) in _found(_controller(**changes))


@pytest.mark.parametrize(
    "signed",
    [
        replace(SIGNED, party=PartyId("ghost")),
        replace(SIGNED, reason=" "),
        replace(SIGNED, signed_by=""),
        replace(SIGNED, until=date(2025, 1, 1)),
    ],
)
def test_an_exception_is_signed_reasoned_and_ends(signed: SecurityException) -> None:
    found = _found(_controller(baseline=_baseline(signed)))
    assert found == {("controllers/ormelune.toml", f"security_exceptions[{signed.party}]")}


def test_one_controller_is_the_operator_itself() -> None:
    assert _found(_controller(capacity="processor")) == {("controllers", "capacity")}


def test_every_figure_is_stated() -> None:
    """Every number tagged N or P lives in the pack (dsar rules, heading)."""
    shipped = _shipped()
    for name in FigureName:
        fewer = {key: figure for key, figure in shipped.figures.items() if key is not name}
        assert ("rights.toml", f"figures[{name}]") in _found(replace(shipped, figures=fewer))
    name = FigureName.PACKAGE_DAYS
    for values in ((), (0,), (-1,)):
        figures = _with(shipped.figures, name, values=values)
        assert _found(replace(shipped, figures=figures)) == {("rights.toml", f"figures[{name}].values")}


def test_a_figure_is_one_number_or_an_error() -> None:
    assert _shipped().figure(FigureName.NO_ANSWER_DAYS) == 30
    assert _shipped().figures[FigureName.RENEWAL_NOTICE_DAYS].values == (14, 3)
    with pytest.raises(FigureUnknown):
        _shipped().figure(FigureName.RENEWAL_NOTICE_DAYS)
    with pytest.raises(FigureUnknown):
        replace(_shipped(), figures={}).figure(FigureName.NO_ANSWER_DAYS)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"level": 5}, "level"),
        ({"level": 3, "level_sensitive": 2}, "level"),
        ({"months": 3}, "months"),
        ({"names": {}}, "names.es"),
    ],
)
def test_a_right_has_a_month_and_a_level(changes: dict[str, Any], key: str) -> None:
    """Dsar rules 11, 15, 26."""
    policy = replace(_shipped(), rights=_with(_shipped().rights, "access", **changes))
    assert ("rights.toml", f"rights[access].{key}") in _found(policy)


def test_marketing_objection_and_withdrawal_are_never_refused_and_come_at_once() -> None:
    """Dsar rules 7, 8 and 1.2."""
    for right in ("marketing_objection", "withdrawal"):
        rule = _shipped().rights[right]
        assert (rule.refusals, rule.months, rule.level) == ((), 0, 0)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"paths": ("screen_scraping",)}, "paths"),
        ({"sca_methods": ()}, "sca_methods"),
        ({"reads_per_hour": 0}, ""),
        ({"categories": frozenset({CategoryId("accounts")})}, "categories[accounts]"),
    ],
)
def test_an_institution_offers_known_paths(changes: dict[str, Any], key: str) -> None:
    policy = replace(_shipped(), institutions=_with(_shipped().institutions, "banque_armorel", **changes))
    expected = f"institutions[banque_armorel].{key}".removesuffix(".")
    assert _found(policy) == {("institutions.toml", expected)}


def test_a_journey_asks_checks_and_answers_in_that_order() -> None:
    """Consent rules 1, 25."""
    journey = _shipped().journeys["partner_request"]
    names = journey.stages[0].names
    for stages in (journey.stages[::-1], journey.stages[:-1], (*journey.stages, Stage(StageKind.CHECK, names))):
        journeys = _with(_shipped().journeys, "partner_request", stages=stages)
        assert _found(replace(_shipped(), journeys=journeys)) == {("journeys/partner_request.toml", "stages")}


def test_an_export_column_comes_from_what_its_purpose_uses() -> None:
    """exports.md rule 1."""
    profile = _shipped().exports["portfolio_statistics"]
    for category in ("tax.notices", "identity", "accounts.dreams"):
        sources = {**profile.sources, "age": CategoryId(category)}
        exports = {profile.id: replace(profile, sources=sources)}
        assert _found(replace(_shipped(), exports=exports)) == {("exports/portfolio_statistics.toml", "sources.age")}


def test_a_notice_is_its_own_words_and_short_ones() -> None:
    """Consent rule 23."""
    key = (PurposeId("statistics"), 1, Locale.EN)
    for changes in ({"body": LONG}, {"body": ""}, {"digest": "0" * 64}):
        policy = replace(_shipped(), notices=_with(_shipped().notices, key, **changes))
        assert {file for file, _ in _found(policy)} == {"notices/statistics/v1.en.md"}


def test_what_was_reported_and_left_out_is_not_reported_again() -> None:
    shipped = _shipped()
    purposes = {name: purpose for name, purpose in shipped.purposes.items() if name != "news_offers"}
    broken = replace(shipped, purposes=purposes)
    assert check(broken) != ()
    assert check(broken, frozenset({"purpose:news_offers"})) == ()
    assert check(broken, frozenset({"purpose:*"})) == ()
    assert check(broken, frozenset({"purpose:statistics"})) == check(broken)


def test_many_problems_are_all_listed_once_and_in_order() -> None:
    policy = replace(
        _purpose(sells_data=True, reads_per_day=9),
        parties=_with(_shipped().parties, "patrivue", notice_url=None, country="x"),
        categories=_with(_shipped().categories, CategoryId("accounts.balances"), sensitivity=0),
        rights=_with(_shipped().rights, "erasure", months=2),
    )
    problems = check(policy)
    assert [(each.file, each.key) for each in problems] == [
        ("categories.toml", "categories[accounts.balances].sensitivity"),
        ("parties/patrivue.toml", "country"),
        ("parties/patrivue.toml", "notice_url"),
        ("parties/patrivue.toml", "transfer_mechanism"),
        ("purposes.toml", "purposes[wealth_overview].reads_per_day"),
        ("purposes.toml", "purposes[wealth_overview].sells_data"),
        ("rights.toml", "rights[erasure].months"),
    ]
    assert all(each.sentence for each in problems)


def test_who_is_not_listed_is_not_active() -> None:
    """Rule P1."""
    assert _shipped().standing("somebody", TODAY) == NotActive(NotActiveReason.NOT_LISTED)
    assert replace(_shipped(), controllers={}).standing("patrivue", TODAY) == NotActive(NotActiveReason.NOT_LISTED)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", 0), ("One two.", 2), ("One two. Three four five six!", 3), ("No stop", 2), ("One.\n\nTwo three.", 1.5)],
)
def test_words_are_counted_by_sentence(text: str, words: float) -> None:
    """Consent rule 23."""
    assert sentence_words(text) == words

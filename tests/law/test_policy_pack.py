"""The shipped pack as people and partners meet it: who is in force, what is isolated, how it reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from app.policyfiles import load
from consent.parties import Active, PartyRole
from consent.policy import FigureName, Policy, sentence_words
from consent.vocabulary import Action, LegalBasis, Locale, Text
from dsar.rights import RIGHTS

TODAY = date(2026, 11, 21)

STIRRING = {
    Locale.FR: "recommandé|dommage|dépêchez|vite|urgent|malheureusement|profitez|gratuit|bravo|félicitations|attention",
    Locale.EN: "recommended|sorry|hurry|quickly|urgent|unfortunately|enjoy|free|great|congratulations|beware|miss out",
    Locale.ES: "recomendad[oa]|lástima|dese prisa|rápido|urgente|por desgracia|aproveche|gratis|enhorabuena|cuidado",
    Locale.PT: "recomendad[oa]|pena|apresse|depressa|urgente|infelizmente|aproveite|grátis|parabéns|cuidado",
}
"""Words that reward, shame or hurry (consent rule 21)."""


@pytest.fixture(scope="module")
def pack() -> Policy:
    return load(Path(__file__).resolve().parents[2] / "policies")


def _texts(pack: Policy) -> Iterator[Text]:
    """Every text of the pack that a person may read, save the notices."""
    for purpose in pack.purposes.values():
        yield from (purpose.names, purpose.why, purpose.consequence)
    for party in pack.parties.values():
        yield party.does
        yield from (grant.justification for grant in party.grants)
        if party.joint_essence:
            yield party.joint_essence
    yield from (row.reason for row in pack.retentions)
    for journey in pack.journeys.values():
        yield from (journey.names, *(stage.names for stage in journey.stages))
    for named in (pack.categories, pack.clusters, pack.rights, pack.roles):
        yield from (entry.names for entry in named.values())  # type: ignore[attr-defined]


def _read_by_people(pack: Policy) -> Iterator[tuple[Locale, str]]:
    for text in _texts(pack):
        yield from text.items()
    yield from ((notice.locale, notice.body) for notice in pack.notices.values())


def test_everyone_on_the_list_is_in_force(pack: Policy) -> None:
    standing = {name: pack.standing(name, TODAY) for name in pack.parties}
    assert {name for name, answer in standing.items() if not isinstance(answer, Active)} == set()
    excepted = {name for name, answer in standing.items() if isinstance(answer, Active) and answer.exception}
    assert excepted == {"courrier"}


def test_every_role_in_law_is_represented(pack: Policy) -> None:
    assert {party.role for party in pack.parties.values()} == set(PartyRole)
    assert sum(party.role is PartyRole.INTERNAL_TEAM for party in pack.parties.values()) >= 4


def test_the_demo_parties_may_do_what_the_demo_needs(pack: Policy) -> None:
    held = {(g.purpose, g.category) for g in pack.parties["collecte"].grants if g.action is Action.HOLD}
    overview = pack.purposes[next(name for name in pack.purposes if name == "wealth_overview")]
    assert {("wealth_overview", category) for category in overview.needed | overview.optional} <= held
    read = {grant.category for grant in pack.parties["patrivue"].grants}
    assert {"accounts.balances", "transactions.recent", "investments.positions"} <= read


def test_several_purposes_rest_on_consent_and_none_outlives_a_year(pack: Policy) -> None:
    """Consent rule 13."""
    asked = [purpose for purpose in pack.purposes.values() if purpose.basis is LegalBasis.CONSENT]
    assert len(asked) >= 4
    assert all(purpose.longest_days <= 365 and purpose.periods_days for purpose in asked)


def test_no_list_of_one_controller_reaches_the_purposes_of_the_other(pack: Policy) -> None:
    """consent.md section 1."""
    for party in pack.parties.values():
        assert {pack.purposes[grant.purpose].controller for grant in party.grants} <= {party.controller}


def test_anti_money_laundering_data_stays_in_its_purpose(pack: Policy) -> None:
    """Dsar rule 42."""
    tagged = {name for name, category in pack.categories.items() if category.aml_only}
    assert {"aml.file", "aml.operations"} <= tagged
    users = {p.id for p in pack.purposes.values() if (p.needed | p.optional) & tagged}
    assert users == {"aml_duties"}


def test_nothing_special_is_registered_and_no_health_data_passes(pack: Policy) -> None:
    """Consent rule 20, dsar rule 23."""
    assert not any(category.special for category in pack.categories.values())


@pytest.mark.parametrize("locale", Locale)
def test_the_words_are_plain_in_each_language(pack: Policy, locale: Locale) -> None:
    """Consent rule 23: sentences of at most 20 words, here each text and not only the average of all."""
    limit = pack.figure(FigureName.SENTENCE_WORDS)
    texts = [body for each, body in _read_by_people(pack) if each is locale]
    assert len(texts) > 200
    assert [body for body in texts if sentence_words(body) > limit] == []


@pytest.mark.parametrize("locale", Locale)
def test_the_words_neither_reward_shame_nor_hurry(pack: Policy, locale: Locale) -> None:
    """Consent rule 21."""
    stirring = re.compile(rf"\b({STIRRING[locale]})\b|!", re.IGNORECASE)
    assert [body for each, body in _read_by_people(pack) if each is locale and stirring.search(body)] == []


@pytest.mark.parametrize("locale", [Locale.FR, Locale.ES, Locale.PT])
def test_a_translation_is_not_the_english_text(pack: Policy, locale: Locale) -> None:
    """Consent rule 24."""
    same = [text[Locale.EN] for text in _texts(pack) if text[locale] == text[Locale.EN]]
    assert same == []


def test_french_keeps_its_accents_and_apostrophes(pack: Policy) -> None:
    french = " ".join(body for locale, body in _read_by_people(pack) if locale is Locale.FR)
    assert "'" not in french
    assert not re.search(r"\b(donnees|identite|credit|regions?|a tout moment)\b", french.replace("région", ""))


def test_figures_stand_where_the_rules_put_them(pack: Policy) -> None:
    """Dsar rules 4, 19, 20, 22, 29, 56, 58; consent rules 8, 43, 47, 50."""
    values = {name.value: figure.values for name, figure in pack.figures.items()}
    assert values["acknowledge_working_days"] == (1,)
    assert values["ask_within_working_days"] == (3,)
    assert values["no_answer_days"] == (30,)
    assert values["target_working_days"] == (10,)
    assert values["document_hours"] == (72,)
    assert values["recipient_working_days"] == (5,)
    assert values["package_days"] == (30,)
    assert values["ask_again_months"] == (6,)
    assert values["ended_visible_days"] == (730,)
    assert values["offline_withdrawal_working_days"] == (2,)
    assert values["reminder_days"] == (90,)


def test_the_refusal_matrix_is_the_one_of_the_law(pack: Policy) -> None:
    """Dsar rules 1.2."""
    assert {name: set(rule.refusals) for name, rule in pack.rights.items()} == {
        right.value: set(law.grounds) for right, law in RIGHTS.items()
    }


def test_the_identity_ladder_is_the_one_of_the_rules(pack: Policy) -> None:
    """Dsar rules 1.3."""
    ladder = {name: (rule.level, rule.level_sensitive) for name, rule in pack.rights.items()}
    assert ladder["restriction"] == (1, None)
    assert ladder["access"] == (2, 3)
    assert ladder["erasure"] == (2, None)
    assert ladder["portability"] == (3, 3)
    assert pack.rights["portability"].level_third_party == 4

"""The words of mails, in a language that is said (consent rules 24, 35, 50, 57; section 4, item 7)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from app import letters, policyfiles
from app.letters import TEMPLATES, UnknownLetter, write
from app.outbound.mail import Message
from consent.vocabulary import Locale

FIRM = policyfiles.load(Path(__file__).resolve().parents[2] / "policies").controllers["ormelune"]
AT = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)
"""Half past midnight of the next day in Paris."""
SAID = {
    "link": "https://regard.example/x",
    "stop": "https://regard.example/stop",
    "reference": "con_1",
    "at": AT,
    "until": AT,
    "party": "Patrivue",
    "purpose": "P & L <b>",
    "bank": "Banque",
    "code": "1234 5678",
}
OURS = (
    "receipt",
    "agreement-ended",
    "agreement-paused",
    "agreement-resumed",
    "agreement-changed",
    "reminder",
    "ends-soon",
)


@pytest.mark.parametrize("locale", list(Locale))
@pytest.mark.parametrize("kind", ["sign-in", "passkey-added", "passkey-removed", *OURS])
def test_every_mail_is_whole_in_every_language(kind: str, locale: Locale) -> None:
    letter = write(kind, FIRM, locale, **SAID)
    assert (letter.kind, letter.locale) == (kind, locale)
    assert f'<html lang="{locale.value}">' in letter.html
    for text in (letter.subject, letter.text, letter.html):
        assert "Ormelune" in text
        assert not re.search(r"%\(|\{\{|\{%|None", text), text
    assert not re.search(r"\n{4,}", letter.text), "no holes"
    sent = Message("mail_1", "ana@example.org", kind, locale.value, letter.subject, letter.text, letter.html)
    assert sent.locale == locale.value


@pytest.mark.parametrize("kind", OURS)
def test_languages_differ(kind: str) -> None:
    """Consent rule 24: an untranslated mail would silently be English."""
    assert len({write(kind, FIRM, locale, **SAID).text for locale in Locale}) == 4
    assert len({write(kind, FIRM, locale, **SAID).subject for locale in Locale}) == 4


def test_times_are_the_controllers_own() -> None:
    letter = write("agreement-ended", FIRM, Locale.FR, **SAID)
    assert "2 juillet 2026 à 00:30" in letter.text
    abroad = write("agreement-ended", replace(FIRM, time_zone="America/New_York"), Locale.FR, **SAID)
    assert "1er juillet 2026 à 18:30" in abroad.text


@pytest.mark.parametrize(
    ("day", "locale", "said"),
    [
        (date(2027, 1, 1), Locale.FR, "1er janvier 2027"),
        (date(2027, 1, 2), Locale.FR, "2 janvier 2027"),
        (date(2027, 1, 11), Locale.FR, "11 janvier 2027"),
        (date(2027, 1, 21), Locale.FR, "21 janvier 2027"),
        (date(2027, 1, 1), Locale.EN, "January 1, 2027"),
        (date(2027, 1, 1), Locale.ES, "1 de enero de 2027"),
        (date(2027, 1, 1), Locale.PT, "1 de janeiro de 2027"),
    ],
)
def test_a_date_is_written_as_the_language_writes_it(day: date, locale: Locale, said: str) -> None:
    """Consent rule 12: French alone has a first of the month."""
    assert letters.day(day, locale, UTC) == said


def test_values_are_escaped_where_they_have_to_be() -> None:
    letter = write("reminder", FIRM, Locale.EN, **SAID)
    assert "P & L <b>" in letter.text
    assert "P &amp; L &lt;b&gt;" in letter.html


def test_nothing_to_stop_is_not_offered() -> None:
    letter = write("receipt", FIRM, Locale.EN, **{**SAID, "stop": None})
    assert "stop" not in (letter.text + letter.html).lower()


def test_what_is_missing_is_an_error_and_not_a_gap() -> None:
    with pytest.raises(UndefinedError):
        write("reminder", FIRM, Locale.EN, link="https://regard.example/x")
    with pytest.raises(UnknownLetter):
        write("../pages/home", FIRM, Locale.EN)


def test_every_template_has_its_subject() -> None:
    """A template nobody can send, or a subject without words, is a fault."""
    named = letters._subjects(lambda text, **_: text, "x").keys()
    files = {path.stem for path in (TEMPLATES / "mail").glob("*.txt")}
    assert files == set(named)


def test_a_letter_shows_nothing_of_itself() -> None:
    assert "regard.example" not in repr(write("sign-in", FIRM, Locale.EN, **SAID))

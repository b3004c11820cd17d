"""Four languages, complete and plain; small assets; no deceptive pattern of EDPB 03/2022 in the words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from app.http.locale import CATALOGUES, compile_catalogues, day, moment
from consent.vocabulary import Locale
from tests.doors.pages_house import Town

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "templates/pages"
BANNED = {
    "en": (
        "recommend",
        "hurry",
        "only today",
        "sorry",
        "unfortunately",
        "later",
        "we value your privacy",
        "best choice",
    ),
    "fr": (
        "recommand",
        "dépêche",
        "aujourd’hui seulement",
        "désolé",
        "malheureusement",
        "(?<!au )plus tard",
        "meilleur choix",
    ),
    "es": ("recomend", "dese prisa", "solo hoy", "lo sentimos", "por desgracia", "más tarde", "mejor opción"),
    "pt": ("recomend", "despache", "só hoje", "lamentamos", "infelizmente", "mais tarde", "melhor opção"),
}


def _catalogue(locale: str) -> Catalog:
    with (CATALOGUES / locale / "LC_MESSAGES/messages.po").open("rb") as stream:
        return read_po(stream, locale=locale)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """What code and templates ask for, extracted as `babel.cfg` says."""
    out = tmp_path_factory.mktemp("pot") / "messages.pot"
    command = [sys.executable, "-m", "babel.messages.frontend", "-q", "extract", "-F", "babel.cfg", "-o", str(out), "."]
    subprocess.run(command, cwd=ROOT, check=True)
    with out.open("rb") as stream:
        return read_po(stream)


@pytest.mark.parametrize("locale", [locale.value for locale in Locale])
def test_no_text_is_missing_empty_fuzzy_or_left_over(asked: Catalog, locale: str) -> None:
    """Consent rule 24: an untranslated entry would silently show English."""
    catalogue = _catalogue(locale)
    wanted = {message.id for message in asked if message.id}
    held = {message.id for message in catalogue if message.id}
    assert wanted - held == set()
    assert held - wanted == set()
    for message in catalogue:
        strings = message.string if isinstance(message.string, tuple | list) else (message.string,)
        assert all(strings), message.id
        assert not (message.fuzzy and message.id), message.id


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("fr", "1er janvier 2027, 11 janvier 2027, 1er janvier 2027 à 12:00"),
        ("en", "January 1, 2027, January 11, 2027, January 1, 2027 at 12:00\u202fPM"),
        ("es", "1 de enero de 2027, 11 de enero de 2027, 1 de enero de 2027, 12:00"),
        ("pt", "1 de janeiro de 2027, 11 de janeiro de 2027, 1 de janeiro de 2027, às 12:00"),
    ],
)
def test_dates_are_written_as_the_language_writes_them(town: Town, locale: str, said: str) -> None:
    """Consent rule 12; the firm's time zone is an hour ahead of UTC in January."""
    noon = datetime(2027, 1, 1, 11, tzinfo=UTC)
    with town.app().test_request_context(f"/{locale}/"):
        assert f"{day(noon)}, {day(date(2027, 1, 11))}, {moment(noon)}" == said


@pytest.mark.parametrize("locale", [locale.value for locale in Locale])
def test_placeholders_survive_translation(locale: str) -> None:
    for message in _catalogue(locale):
        if not message.id:
            continue
        ids = message.id if isinstance(message.id, tuple | list) else (message.id,)
        strings = message.string if isinstance(message.string, tuple | list) else (message.string,)
        for text in strings:
            assert set(re.findall(r"%\(\w+\)s", text)) == set(re.findall(r"%\(\w+\)s", ids[-1])), message.id


@pytest.mark.parametrize("locale", ["fr", "es", "pt"])
def test_translations_are_not_english(locale: str) -> None:
    """Consent rule 24, EDPB "language discontinuity"; a few short words are the same in two languages."""
    same = {message.id for message in _catalogue(locale) if message.id and message.string == message.id}
    assert all(len(str(text)) < 20 for text in same), same
    assert len(same) <= 4, same


def test_english_says_its_keys() -> None:
    for message in _catalogue("en"):
        if isinstance(message.id, str) and message.id:
            assert message.string == message.id


@pytest.mark.parametrize("locale", [locale.value for locale in Locale])
def test_nothing_rewards_shames_or_hurries(locale: str) -> None:
    """Consent rule 21; EDPB "emotional steering"."""
    said = " ".join(
        str(message.string).lower()
        for message in _catalogue(locale)
        if message.id and "try again" not in str(message.id)
    )
    assert [word for word in BANNED[locale] if re.search(word, said)] == []


@pytest.mark.parametrize("locale", [locale.value for locale in Locale])
def test_sentences_are_short(locale: str) -> None:
    """Consent rule 23: at most 20 words a sentence on average, and none over 40."""
    texts = [message.string for message in _catalogue(locale) if message.id]
    plain = [text if isinstance(text, str) else text[-1] for text in texts]
    parts = [part for text in plain for part in re.split(r"[.!?:;](?: |$)", text) if part.strip()]
    lengths = [len(part.split()) for part in parts]
    assert sum(lengths) / len(lengths) < 12
    assert max(lengths) <= 40


def test_no_text_hides_inside_an_f_string() -> None:
    """Consent rules 5.5: the extractor does not see it on Python 3.11, and nobody is told."""
    hidden = []
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                calls = [each.func for each in ast.walk(node) if isinstance(each, ast.Call)]
                names = {getattr(call, "id", getattr(call, "attr", "")) for call in calls}
                hidden += [f"{path}:{node.lineno}"] if names & {"gettext", "ngettext", "lazy_gettext"} else []
    assert hidden == []


def test_assets_are_small_and_the_script_is_one() -> None:
    """Consent rules 4.1 and 4.2."""
    static = ROOT / "app/http/static"
    assert (static / "regard.css").stat().st_size <= 12_000
    assert (static / "passkey.js").stat().st_size <= 3_000
    assert [path.name for path in static.rglob("*.js")] == ["passkey.js"]


def test_templates_are_quiet() -> None:
    """Nothing inline (CSP), nothing from elsewhere, one h1 a page, every form with its token."""
    for path in PAGES.glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<style|\sstyle=|\son(?!ward)\w+=|javascript:", text), path.name
        assert not re.search(r'(?:src|href)="(?:https?:)?//', text), path.name
        scripts = re.findall(r"<script[^>]*>", text)
        assert all("filename='passkey.js'" in script for script in scripts), path.name
        for form in re.findall(r"<form(?![^>]*method=\"get\").*?</form>", text, re.DOTALL):
            assert "form_field()" in form, f"{path.name}: {form[:80]}"


def test_no_mail_shows_a_picture_or_loads_anything() -> None:
    """Consent rules 4.7."""
    for path in (ROOT / "templates/mail").glob("*.html"):
        text = path.read_text()
        assert not re.search(r"<img|<link|<script|<iframe|url\(|@import", text), path.name
        assert path.name == "base.html" or path.with_suffix(".txt").exists(), "always a text part"


def test_catalogues_are_compiled_once_and_again_when_words_change(tmp_path: Path) -> None:
    folder = tmp_path / "fr/LC_MESSAGES"
    folder.mkdir(parents=True)
    source = folder / "messages.po"
    source.write_text('msgid "Hello"\nmsgstr "Bonjour"\n')
    assert compile_catalogues(tmp_path) == (folder / "messages.mo",)
    assert compile_catalogues(tmp_path) == ()
    import os

    os.utime(folder / "messages.mo", (0, 0))
    assert compile_catalogues(tmp_path) == (folder / "messages.mo",)
    assert list(folder.iterdir()) != []
    assert not [path for path in folder.iterdir() if path.suffix not in {".po", ".mo"}], "no leftovers"

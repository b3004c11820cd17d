"""The words of e-mails: a text part, a plain HTML part, no picture, no tracker (consent rules section 4, item 7).

Rendered from `templates/mail/` in a language and a time zone that are said, not guessed from a request: durable work
writes mails too. Leaves out queueing (`app.store.mailqueue`) and sending (`app.outbound`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from babel import Locale as BabelLocale
from babel.dates import format_date, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.support import Translations
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from consent.policy import Controller
from consent.vocabulary import Locale

CATALOGUES: Final = Path(__file__).resolve().parent / "locale"
TEMPLATES: Final = Path(__file__).resolve().parents[1] / "templates"
Gettext = Callable[..., str]


class UnknownLetter(LookupError):
    """There is no mail of this kind; `SUBJECTS` names all there are."""

    code = "letter_unknown"


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail without its address."""

    kind: str
    locale: Locale
    subject: str = field(repr=False)
    text: str = field(repr=False)
    html: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Speech:
    """The catalogue of one language, for texts written outside of requests; its times are in `zone`."""

    locale: Locale
    zone: tzinfo

    def gettext(self, text: str, **values: object) -> str:
        """Return the text in this language."""
        return _filled(_words(self.locale))(text, **values)

    def ngettext(self, one: str, many: str, num: int, **values: object) -> str:
        """Return the form for `num`, which the text may name as `%(num)s`."""
        return str(_words(self.locale).ungettext(one, many, num)) % {"num": num, **values}

    def day(self, value: date | datetime) -> str:
        """Return a calendar date in words."""
        return day(value, self.locale, self.zone)

    def moment(self, value: datetime) -> str:
        """Return a date and time of day in words."""
        return moment(value, self.locale, self.zone)

    def country(self, code: str) -> str:
        """Return the name of a country from its ISO 3166 code."""
        return str(BabelLocale.parse(self.locale.value).territories.get(code, code))


def _subjects(gettext: Gettext, brand: str) -> Mapping[str, str]:
    return {
        "sign-in": gettext("Your sign-in link for %(brand)s", brand=brand),
        "passkey-added": gettext("A passkey was added to your space at %(brand)s", brand=brand),
        "passkey-removed": gettext("A passkey was removed from your space at %(brand)s", brand=brand),
        "receipt": gettext("A receipt is waiting in your space at %(brand)s", brand=brand),
        "agreement-ended": gettext("An agreement has ended at %(brand)s", brand=brand),
        "agreement-paused": gettext("An agreement is paused at %(brand)s", brand=brand),
        "agreement-resumed": gettext("A pause has ended at %(brand)s", brand=brand),
        "agreement-changed": gettext("An agreement has changed at %(brand)s", brand=brand),
        "reminder": gettext("What you agreed to at %(brand)s", brand=brand),
        "ends-soon": gettext("An agreement ends soon at %(brand)s", brand=brand),
        "case-received": gettext("We have received your request at %(brand)s", brand=brand),
        "case-message": gettext("A message about your request at %(brand)s", brand=brand),
        "case-answered": gettext("The answer to your request at %(brand)s is ready", brand=brand),
        "certificate": gettext("Your data has been erased at %(brand)s", brand=brand),
        "recipient-erasure": gettext("Request to erase data passed on by %(brand)s", brand=brand),
    }


def write(kind: str, controller: Controller, locale: Locale, **values: object) -> Letter:
    """Return the mail `kind` in the name of `controller`, its times in the controller's zone. Raises UnknownLetter.

    `values` must name nobody: links, dates, references, and words of the policy pack.
    """
    words, brand = _words(locale), controller.brand_name
    subject = _subjects(_filled(words), brand).get(kind)
    if subject is None:
        raise UnknownLetter(kind)
    room = _room(locale, controller.time_zone)
    told = {"brand": brand, "mail_locale": locale.value, **values}
    text, html = (room.get_template(f"mail/{kind}.{end}").render(told) for end in ("txt", "html"))
    return Letter(kind, locale, subject, text, html)


def _filled(words: Translations) -> Gettext:
    return lambda text, **values: words.ugettext(text) % values


@cache
def _words(locale: Locale) -> Translations:
    """Read the catalogue as released: no build step can leave old words behind."""
    with (CATALOGUES / locale.value / "LC_MESSAGES" / "messages.po").open("rb") as stream:
        catalogue = read_po(stream)
    compiled = BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    return Translations(compiled)


@cache
def _room(locale: Locale, zone: str) -> Environment:
    """Return the templates of a language; a value a template asks for and nobody gave is an error, not a gap."""
    room = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = _words(locale)
    room.install_gettext_callables(words.ugettext, words.ungettext, newstyle=True)  # type: ignore[attr-defined]  # the extension adds it
    here = ZoneInfo(zone)
    room.filters.update(day=lambda value: day(value, locale, here), moment=lambda value: moment(value, locale, here))
    return room


def day(value: date | datetime, locale: Locale, zone: tzinfo) -> str:
    """Return a calendar date in words, e.g. "20 mai 2027" (consent rule 12)."""
    local = value.astimezone(zone).date() if isinstance(value, datetime) else value
    return ordinal_first(str(format_date(local, "long", locale.value)), locale)


def ordinal_first(date_in_words: str, locale: Locale) -> str:
    """Return the date as French writes the first of a month, "1er mai 2027"; CLDR has "1 mai". Others as they are."""
    return f"1er{date_in_words[1:]}" if locale is Locale.FR and date_in_words.startswith("1 ") else date_in_words


def moment(value: datetime, locale: Locale, zone: tzinfo) -> str:
    """Return a date and time of day in words, joined as the language joins them."""
    time = format_time(value, "short", tzinfo=zone, locale=locale.value)
    return _filled(_words(locale))("%(date)s at %(time)s", date=day(value, locale, zone), time=time)

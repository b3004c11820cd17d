"""Four languages, one a page: the address says which (`/fr /en /es /pt`), never a cookie (consent rule 24).

Texts come from one gettext catalogue; data names come from the policy pack. Catalogues are compiled from their `.po`
when the application is made and the `.mo` is missing or older, so a forgotten build step cannot show stale words.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path

from babel import Locale as BabelLocale
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.units import format_unit
from flask import Blueprint, Flask, current_app, g, request
from flask_babel import Babel, format_date, format_time, gettext, to_user_timezone

from app.http.doors import doors
from app.letters import ordinal_first
from consent.policy import Controller
from consent.vocabulary import Locale, Text

CATALOGUES = Path(__file__).resolve().parents[1] / "locale"
PREFIX = "/<any(fr,en,es,pt):locale>"
NAMES: dict[Locale, str] = {
    Locale.FR: "Français",
    Locale.EN: "English",
    Locale.ES: "Español",
    Locale.PT: "Português",
}


def people(name: str) -> Blueprint:
    """Return a blueprint whose pages live under each of the four languages."""
    return Blueprint(name, f"app.http.pages.{name}", url_prefix=PREFIX)


def current_locale() -> Locale:
    """Return the language of this request: its address, else what the browser prefers, else the deployment's."""
    first = request.path.split("/", 2)[1]
    if first in {locale.value for locale in Locale}:
        return Locale(first)
    best = request.accept_languages.best_match([locale.value for locale in Locale])
    return Locale(best) if best else doors().locale


def told(text: Text) -> str:
    """Return a text of the policy pack in the language of this request."""
    return text[current_locale()]


def day(value: date | datetime) -> str:
    """Return a calendar date in words, e.g. "20 mai 2027" (consent rule 12)."""
    return ordinal_first(str(format_date(value, "long")), current_locale())


def moment(value: datetime) -> str:
    """Return a date and time in words, in the controller's time zone, joined as the language joins them."""
    return str(gettext("%(date)s at %(time)s", date=day(to_user_timezone(value)), time=clock(value)))


def clock(value: datetime) -> str:
    """Return a time of day in the controller's time zone, as the language writes it (14:30, 2:30 PM)."""
    return str(format_time(value, "short"))


def size(count: int) -> str:
    """Return a number of bytes in the unit people know, e.g. "1,2 MB" (SI units)."""
    for unit, limit in (("byte", 1_000), ("kilobyte", 1_000_000)):
        if count < limit:
            return _measured(count / (limit / 1_000), unit)
    return _measured(count / 1_000_000, "megabyte")


def _measured(value: float, unit: str) -> str:
    rounded = round(value, 1 if unit == "megabyte" else 0)
    return format_unit(rounded, f"digital-{unit}", length="short", locale=current_locale().value)


def country(code: str) -> str:
    """Return a country's name in the language of this request, from its ISO 3166 code."""
    return str(BabelLocale.parse(current_locale().value).territories.get(code, code))


def other_languages() -> Iterable[tuple[Locale, str, str]]:
    """Yield (language, its name, this page in it); answers live on the server, so none is lost."""
    address = g.get("regard_stands_on") or _own_address()
    _, first, rest = f"{address}/".split("/", 2)
    rest = rest.removesuffix("/") if first in NAMES else ""
    for locale, name in NAMES.items():
        yield locale, name, f"/{locale.value}/{rest}"


def stand_on(address: str) -> None:
    """Say on which page the form stands that is being answered: the other languages lead there, whatever is shown."""
    g.regard_stands_on = address


def _own_address() -> str:
    """Return where a look at this page leads; of one that can only be answered, to the nearest page above it."""
    path, ways = request.path, current_app.url_map.bind("")
    if request.method == "GET" and request.query_string:
        path = f"{path}?{request.query_string.decode()}"
    elif ways.allowed_methods(path):
        while path.count("/") > 1 and "GET" not in ways.allowed_methods(path):
            path = path.rpartition("/")[0]
    return path


def controller() -> Controller:
    """Return the controller whose name a page without a session carries."""
    of = doors()
    return of.policy.controllers[of.controller]


def install(app: Flask) -> None:
    """Make the application speak."""
    compile_catalogues(CATALOGUES)
    Babel(
        app,
        default_translation_directories=str(CATALOGUES),
        locale_selector=lambda: current_locale().value,
        timezone_selector=lambda: controller().time_zone,
    )
    app.url_value_preprocessor(_drop_locale)
    app.url_defaults(_keep_locale)
    app.jinja_env.globals.update(locale=current_locale, told=told, country=country, languages=other_languages)
    app.jinja_env.filters.update(day=day, moment=moment, clock=clock, size=size)


def _drop_locale(_endpoint: str | None, values: dict[str, object] | None) -> None:
    if values:
        values.pop("locale", None)  # read from the path instead, so that views need not carry it


def _keep_locale(endpoint: str, values: dict[str, object]) -> None:
    if current_app.url_map.is_endpoint_expecting(endpoint, "locale"):
        values.setdefault("locale", current_locale().value)


def compile_catalogues(folder: Path) -> tuple[Path, ...]:
    """Write every `.mo` that is missing or older than its `.po` and return those written."""
    written = []
    for source in sorted(folder.glob("*/LC_MESSAGES/messages.po")):
        target = source.with_suffix(".mo")
        if not target.exists() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
            _compile(source, target)
            written.append(target)
    return tuple(written)


def _compile(source: Path, target: Path) -> None:
    with source.open("rb") as stream:
        catalogue = read_po(stream)
    handle, name = tempfile.mkstemp(dir=target.parent)  # renamed into place: two processes may start at once
    with os.fdopen(handle, "wb") as stream:
        write_mo(stream, catalogue)
    Path(name).replace(target)

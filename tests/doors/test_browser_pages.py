"""Every page in a real Chromium: accessible in four languages, light, dark and forced colours, down to 320 px.

Consent rules 5.2, consent.md section 6. The pages are the lines of `looks.LOOKS`, and no GET rule is missing there.
"""

from __future__ import annotations

from pprint import pformat
from typing import Any

import pytest
from playwright.sync_api import Browser

from app.http.guard import guards
from tests.doors.browsing import DARK, FORCED, Eyes, window
from tests.doors.looks import DATA_ROOMS, EXCUSED, LOOKS, Look, Who
from tests.doors.street import Street

pytestmark = pytest.mark.browser
ONE, OTHER = pytest.mark.xdist_group("browser"), pytest.mark.xdist_group("browser-other")
"""Two workers share the languages, each with a street and a browser of its own."""
VIEWS = (
    pytest.param("fr", DARK, marks=ONE),
    pytest.param("en", FORCED, marks=OTHER),
    pytest.param("es", FORCED, marks=ONE),
    pytest.param("pt", DARK, marks=OTHER),
)
"""Each language whole in light, then its colours again in one other scheme."""


def test_every_page_of_the_url_map_is_looked_at_or_excused(application: Any) -> None:
    """The application as it is deployed: a new page without a line in the table fails here."""
    readable = {rule.endpoint for rule, method, _ in guards(application) if method == "GET"}
    pages = {name for name in readable if not name.startswith(DATA_ROOMS)}
    known = {look.endpoint for look in LOOKS if look.endpoint}
    assert pages - known - EXCUSED.keys() == set()
    assert known | EXCUSED.keys() <= pages, "the table names a page that is gone"
    assert known & EXCUSED.keys() == set()


@pytest.mark.parametrize(("locale", "scheme"), VIEWS)
def test_axe_finds_nothing_anywhere(browser: Browser, street: Street, locale: str, scheme: Any) -> None:
    """WCAG 2.2 AA on every page; nothing scrolls sideways, the console is silent (no CSP message)."""
    found: dict[str, list[str]] = {}
    for who in Who:
        with window(browser, street.origin, locale=locale, reduced_motion="reduce") as view:
            view.page.context.add_cookies(street.cookies_of(who))
            eyes = Eyes(view)
            for look in LOOKS:
                if look.who is who:
                    _note(found, look, locale, eyes.judge(street.address(look, locale), look, locale, scheme))
            said = [line for line in view.said if "Failed to load resource" not in line]
            _note(found, who, locale, said)
    assert not found, pformat(found, width=200)


def _note(found: dict[str, list[str]], what: Look | Who, locale: str, faults: list[str]) -> None:
    if faults:
        found[f"{locale} {what}"] = sorted(set(faults))

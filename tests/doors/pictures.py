"""Pictures of every page, to be looked at: `python -m tests.doors.pictures FOLDER [PART OF A NAME]`.

Each line of `looks.LOOKS` on a phone and on a desktop, light and dark; languages take turns.
"""

from __future__ import annotations

import re
import sys
import tempfile
from itertools import cycle
from pathlib import Path

from tests.doors.browsing import DARK, DESKTOP, LIGHT, PHONE, Eyes, chromium, window
from tests.doors.looks import LOOKS, Look, Who
from tests.doors.street import Street, street_in

LOCALES = ("fr", "en", "es", "pt")
VIEWS = ((PHONE, LIGHT, "phone-light"), (PHONE, DARK, "phone-dark"), (DESKTOP, LIGHT, "desk-light"))


def main(folder: Path, part: str = "") -> None:
    """Write the pictures; a name says the endpoint, the state, the person, the size and the language."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, street_in(Path(scratch)) as street, chromium() as browser:
        for who in Who:
            looks = [look for look in LOOKS if look.who is who and part in _name(look)]
            locales = cycle(LOCALES)
            with window(browser, street.origin, reduced_motion="reduce") as view:
                view.page.context.add_cookies(street.cookies_of(who))
                for look in looks:
                    _take(street, Eyes(view), look, next(locales), folder)


def _take(street: Street, eyes: Eyes, look: Look, locale: str, folder: Path) -> None:
    for size, scheme, name in VIEWS:
        eyes.page.set_viewport_size(size)
        eyes.page.emulate_media(**scheme)
        eyes.page.set_extra_http_headers({"Accept-Language": locale})
        eyes.open(street.address(look, locale), look)
        eyes.page.screenshot(path=folder / f"{_name(look)}.{name}.{locale}.png", full_page=True)


def _name(look: Look) -> str:
    state = re.sub(r"[^a-z]+", "-", f"{look.endpoint or 'no'} {look.path} {look.who} {'pressed' if look.press else ''}")
    return state.strip("-")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])

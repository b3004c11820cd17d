"""A DPO's way through the console in a real Chromium without scripts; how each page looks is `test_browser_pages`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from app.wiring import application
from dsar.vocabulary import Right
from tests.doors.browsing import DESKTOP, Server, window
from tests.doors.pages_house import Town, Visitor
from tests.doors.test_pages_dpo import FIRM, at_console, for_approval, hired, opened

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@dataclass
class Office:
    """A console with a late case and a DPO signed in."""

    town: Town
    origin: str
    cookies: list[Any]


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder: Path = tmp_path_factory.mktemp("office")
    with Server() as server:
        town = Town(folder / "house", origin=server.origin)
        app = application(town.house)
        app.extensions["regard.doors"] = town.doors
        server.show(app)
        opened(town, Right.ACCESS, Right.PORTABILITY, subject="sub_late")
        town.clock.forward(days=35)
        claire = Visitor(app)
        at_console(town, claire, hired(town, "dpo", "agent", controllers=(FIRM,)), server.origin)
        cookie = claire.client.get_cookie("regard_session")
        assert cookie is not None
        yield Office(town, server.origin, [{"name": "regard_session", "value": cookie.value, "url": server.origin}])
        town.house.close()


def test_a_dpo_finds_the_late_case_and_approves_without_scripts(office: Office, browser: Browser) -> None:
    """The whole way with scripts off; only the passkey itself needs them."""
    case = opened(office.town, subject="sub_ivo")
    for_approval(office.town, case)
    with window(browser, office.origin, viewport=DESKTOP, locale="en", java_script_enabled=False) as seen:
        seen.page.context.add_cookies(office.cookies)
        seen.go("/dpo/")
        expect(seen.page.get_by_text("overdue")).to_be_visible()
        seen.page.locator(f'a[href="/dpo/cases/{case}"]').click()
        seen.page.get_by_role("link", name="Look again and approve").click()
        seen.page.get_by_role("button", name="Approve").click()
        expect(seen.page.get_by_test_id("state")).to_have_text("being carried out")

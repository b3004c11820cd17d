"""What the tests of pages share: a town with real doors, a visitor, one Chromium a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.doors.browsing import chromium
from tests.doors.pages_house import Town, Visitor


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    built = Town(tmp_path / "house")
    yield built
    built.house.close()


@pytest.fixture
def visitor(town: Town) -> Visitor:
    return Visitor(town.app())


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium a run; take a fresh window of it (`browsing.window`) in each test."""
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def axe() -> Axe:
    """The accessibility rules."""
    return Axe()

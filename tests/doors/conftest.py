"""What the tests of pages share: a town with real doors, a visitor, one Chromium a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from playwright.sync_api import Browser

from app.settings import read_settings
from app.wiring import build, migrate
from app.wiring.application import application as whole
from tests.doors.browsing import chromium
from tests.doors.pages_house import ROOT, Town, Visitor
from tests.doors.street import Street, street_in


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    built = Town(tmp_path / "house")
    yield built
    built.house.close()


@pytest.fixture
def visitor(town: Town) -> Visitor:
    return Visitor(town.app())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium a module; take a fresh window of it (`browsing.window`) in each test.

    No longer than that: while it is open an event loop runs in this thread, and DBOS is not launched beside one.
    """
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def street(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """Something to see behind every door, built once a run: whoever changes it brings their own person."""
    with street_in(tmp_path_factory.mktemp("street")) as built:
        yield built


@pytest.fixture
def application(tmp_path: Path) -> Iterator[Flask]:
    """The application with every room, as it is deployed."""
    settings = read_settings({"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")})
    migrate(settings)
    house = build(settings)
    yield whole(house)
    house.close()

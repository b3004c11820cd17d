"""What the tests of pages share: a town with real doors, a visitor, one Chromium a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doors.pages_house import Town, Visitor


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    built = Town(tmp_path / "house")
    yield built
    built.house.close()


@pytest.fixture
def visitor(town: Town) -> Visitor:
    return Visitor(town.app())

"""docs/settings.md lists every setting with its default, and nothing else."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from app.settings import PREFIX, Secret, read_settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
ROW = re.compile(r"^\| `(REGARD_[A-Z0-9_]+)` \| (.+?) \| (.*)\|$", re.MULTILINE)


def _spelt(value: object) -> str:
    """How the page writes a default."""
    if isinstance(value, bool):
        return f"`{'yes' if value else 'no'}`"
    said = value.reveal() if isinstance(value, Secret) else "" if value is None else str(value)
    return f"`{said}`" if said else "empty"


def test_the_page_has_every_setting_with_its_default_and_nothing_else() -> None:
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    defaults = read_settings({})
    told = {f"{PREFIX}{field.name.upper()}": _spelt(getattr(defaults, field.name)) for field in fields(defaults)}
    assert {name: default for name, default, _ in rows} == told
    assert len(rows) == len(told), "each once"


def test_no_row_of_the_page_is_overlooked_by_this_test() -> None:
    tables = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(tables) == len(ROW.findall(PAGE.read_text(encoding="utf-8")))

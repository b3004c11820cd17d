"""The house rules a linter cannot see (house.md)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def _tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).exists()]


def test_lock_files_carry_hashes_and_no_addresses() -> None:
    locks = _tracked("requirements/*.txt")
    assert len(locks) == 2
    for lock in locks:
        words = lock.read_text()
        assert "://" not in words
        assert words.count("--hash=sha256:") > words.count("==")


def test_every_module_says_what_it_is() -> None:
    bare = [
        path
        for path in _tracked("app/*.py", "consent/*.py", "dsar/*.py")
        if not re.match(r'\s*(#.*\n)*"""', path.read_text())
    ]
    assert bare == []


def test_nothing_is_left_for_later_in_the_code() -> None:
    marks = re.compile(r"\b(TODO|FIXME)\b|raise NotImplementedError")
    found = [p for p in _tracked("app/*.py", "consent/*.py", "dsar/*.py") if marks.search(p.read_text())]
    assert found == []


def test_ignores_and_excepts_name_what_they_mean() -> None:
    loose = re.compile(r"except( Exception)?:|# type: ignore($|[^\[])|# noqa($|[^:])")
    found = [p for p in _tracked("app/*.py", "consent/*.py", "dsar/*.py") if loose.search(p.read_text())]
    assert found == []


def test_no_test_judges_by_the_clock_on_the_wall() -> None:
    """A slow machine is no fault; speed is measured in bench/, as a ratio against a floor of the same run."""
    spans = re.compile(r"perf_counter|process_time|thread_time|(monotonic|time\.time)(_ns)?\(\) - ")
    found = [path for path in _tracked("tests/*.py") if path != Path(__file__) and spans.search(path.read_text())]
    assert found == []


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_the_usual_files_are_there(name: str) -> None:
    assert len((ROOT / name).read_text()) > 200


TOGETHER = """
import os, pytest
pytestmark = pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(4))
def test_where(number):
    print(f"ran in {os.environ['PYTEST_XDIST_WORKER']}")
"""


def test_what_shares_a_costly_start_runs_in_one_process(tmp_path: Path) -> None:
    """Some pairs of pytest and xdist ignore the mark without a word: then every process starts a demo of its own."""
    (tmp_path / "test_where.py").write_text(TOGETHER)
    command = [sys.executable, "-m", "pytest", "-rP", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    told = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"^ran in gw\d$", told, re.MULTILINE)) == 4
    assert len(set(re.findall(r"^ran in (gw\d)$", told, re.MULTILINE))) == 1

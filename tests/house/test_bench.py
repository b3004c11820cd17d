"""The benchmarks run, at counts of seconds, so that they do not rot; what they measure is not judged here.

operations.md section 8: paired runs and ratios, results as JSON and a table, any wrong answer fails the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import __main__ as every
from bench import introspection, ledger, seal, table


def test_the_quick_benches_give_rows_and_a_file(tmp_path: Path) -> None:
    rows = [*seal.rows(rounds=1, messages=50, size=64), *ledger.rows(leaves=300, append=50, verify=50, rounds=5)]
    assert all(row.value > 0 for row in rows)
    assert {row.floor for row in rows if row.figure == "open a record"} == {"bare", "stored"}
    shown = table.printed(rows)
    assert "commit " in shown
    assert "ledger, inclusion proof" in shown
    read = json.loads(table.written(rows, tmp_path / "bench").read_text(encoding="utf-8"))
    assert len(read["rows"]) == len(rows)
    assert read["rows"][0]["ratio"] == pytest.approx(rows[0].ratio)


def test_a_missed_goal_is_said() -> None:
    missed = table.against("a thing", 40, "1/s", floor=("bare", 100), at_least=0.5)
    assert (missed.ratio, missed.met) == (0.4, False)
    assert "missed" in table.printed([missed])
    assert table.within("a time", 4, "s", most=5).met is True
    assert table.reaching("a rate", 4, "1/s", least=5).met is False


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SystemExit, match="no such benchmark: nonsense"):
        every.chosen(["nonsense"], None)


@pytest.mark.slow
def test_introspection_is_measured_on_every_side() -> None:
    """Every answer of every side was read and said `active: true`, or this raises."""
    rate = introspection.measure(requests=60, rounds=1, people=2)
    assert set(rate) == {"lane", "full", "bare Flask POST", "bare WSGI lookup", "bare WSGI, checked"}
    assert min(rate.values()) > 0


def test_what_serving_does_not_need_is_not_loaded_with_it() -> None:
    """operations.md section 1: 5 s on a later start."""
    heavy = ("weasyprint", "fontTools", "pikepdf", "alembic", "holidays", "sendgrid")
    code = f"import sys, app.wiring; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_way_in_to_serve_loads_no_house() -> None:
    heavy = ("app.wiring", "sqlalchemy", "flask")
    code = f"import sys, app.cli.entry; print([name for name in {heavy!r} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    ran = subprocess.run(
        [sys.executable, "-m", "app.cli.entry", "serve"],
        env={"REGARD_NONSENSE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("REGARD_NONSENSE: no such setting")

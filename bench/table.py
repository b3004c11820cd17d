"""One figure of a benchmark, beside its floor and its goal, and the table all of them are printed in.

A floor is what the same machine does in the same run with the bare library or framework; a figure without one is a time
or a size that stands by itself. A missed goal is said, never hidden, and does not fail a run; a wrong answer does.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """`ratio` is figure to floor; `goal` is said of the ratio where there is a floor, else of the figure."""

    figure: str
    value: float
    unit: str
    floor: str = ""
    floor_value: float | None = None
    goal: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.floor_value if self.floor_value else None


def against(
    figure: str, value: float, unit: str, *, floor: tuple[str, float], at_least: float = 0, note: str = ""
) -> Row:
    """A rate beside its floor; the goal is a share of the floor."""
    goal, met = (f">= {at_least:.0%}", value / floor[1] >= at_least) if at_least else ("", None)
    return Row(figure, value, unit, floor[0], floor[1], goal, met, note)


def within(figure: str, value: float, unit: str, *, most: float, note: str = "") -> Row:
    """A time or a size that should not be more than `most`."""
    return Row(figure, value, unit, goal=f"<= {most:g} {unit}", met=value <= most, note=note)


def reaching(figure: str, value: float, unit: str, *, least: float, note: str = "") -> Row:
    """A rate that should not be less than `least`."""
    return Row(figure, value, unit, goal=f">= {least:,.0f} {unit}", met=value >= least, note=note)


def commit() -> str:
    ran = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False, cwd=ROOT)
    return ran.stdout.strip() or "unknown"


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def printed(rows: Sequence[Row]) -> str:
    """The table, one line a figure."""
    head = ("figure", "value", "floor in the same run", "of it", "goal", "")
    lines = [head, *(_line(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    notes = [f"  {row.figure}: {row.note}" for row in rows if row.note]
    laid = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([laid[0], "-" * len(laid[0]), *laid[1:], "", f"commit {commit()}; {machine()}", *notes])


def _line(row: Row) -> tuple[str, ...]:
    floor = f"{row.floor}: {_number(row.floor_value)}" if row.floor_value is not None else ""
    ratio = f"{row.ratio:.0%}" if row.ratio is not None else ""
    verdict = "" if row.met is None else ("met" if row.met else "missed")
    return row.figure, f"{_number(row.value)} {row.unit}", floor, ratio, row.goal, verdict


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def written(rows: Iterable[Row], folder: Path) -> Path:
    """Write the run as JSON and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    at = datetime.now(UTC)
    run = {
        "at": at.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load": os.getloadavg(),
        "rows": [asdict(row) | {"ratio": row.ratio} for row in rows],
    }
    path = folder / f"{at:%Y%m%dT%H%M%SZ}-{run['commit']}.json"
    path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
    return path

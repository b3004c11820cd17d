"""Anonymised exports measured: time, memory, loss (exports.md, "Figures to reach").

    python -m bench.exports --data ../shared/data [--rows 30162 1000000] [--k 5] [--l 1]

The data is the public Adult extract and its hierarchies (see the README beside them): 9 columns, all quasi-identifiers.
More rows than it has are drawn from it, one value in ten replaced at random, so that rows differ. "end to end" is
from values to judged files: reading cells, partition, writing CSV and Parquet, the release gate with a live base.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import resource
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from app.exports.cells import read_cells
from app.exports.gate import Approval, Released, judge_release, prepare
from app.exports.profile import Profile
from app.exports.table import anonymise, loss
from bench.table import Row, within

LIVE_SHARE = 10
"""One live row for so many rows of the cohort."""


def columns_of(data: Path) -> tuple[list[str], list[list[str]], dict[str, list[list[str]]]]:
    with (data / "adult.csv").open(newline="") as file:
        header, *rows = csv.reader(file, delimiter=";")
    names = [name.replace("-", "_") for name in header]
    trees: dict[str, list[list[str]]] = {}
    with tarfile.open(data / "adult_hierarchies.tar.gz") as archive:
        for name, column in zip(names, header, strict=True):
            content = archive.extractfile(f"adult_hierarchy_{column}.csv")
            assert content is not None
            trees[name] = [
                # A spreadsheet formula sign at the start of a label is refused by the profile; one label has one.
                [label.replace(">", "over ").replace("<=", "up to ") for label in row]
                for row in csv.reader(content.read().decode().splitlines(), delimiter=";")
            ]
    return names, rows, trees


def profile_of(names: list[str], trees: dict[str, list[list[str]]], k: int, distinct: int) -> Profile:
    columns: list[dict[str, object]] = [
        {"name": name, "kind": "category", "why": "benchmark", "hierarchy": name}
        if name != "age"
        else {"name": name, "kind": "numeric", "why": "benchmark", "edges": list(range(2, len(trees["age"]) + 1))}
        for name in names
    ]
    if distinct > 1:
        next(c for c in columns if c["name"] == "occupation")["sensitive"] = {"l_distinct": distinct}
    plain = {"id": "adult", "schema_version": 1, "why": "benchmark", "k": k, "columns": columns}
    return Profile.from_plain(plain, trees)


def people(names: list[str], rows: list[list[str]], count: int, seed: int) -> list[tuple[str, dict[str, object]]]:
    draw = random.Random(seed)
    domains = [sorted({row[at] for row in rows}) for at in range(len(names))]
    made = []
    for number in range(count):
        row = rows[number] if count <= len(rows) else changed(draw, draw.choice(rows), domains)
        values: dict[str, object] = {
            name: int(value) if name == "age" else value.replace(">", "over ").replace("<=", "up to ")
            for name, value in zip(names, row, strict=True)
        }
        made.append((f"s{seed}_{number}", values))
    return made


def changed(draw: random.Random, row: list[str], domains: list[list[str]]) -> list[str]:
    return [draw.choice(domain) if draw.random() < 0.1 else value for value, domain in zip(row, domains, strict=True)]


@contextmanager
def timed(figures: dict[str, object], name: str) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    figures[name] = round(time.perf_counter() - begin, 3)


def measure(names: list[str], rows: list[list[str]], profile: Profile, count: int) -> dict[str, object]:
    shuffler = random.Random(1)
    cohort, live = people(names, rows, count, 1), people(names, rows, count // LIVE_SHARE, 2)
    figures: dict[str, object] = {"rows": count, "k": profile.k}
    with timed(figures, "read_seconds"):
        cells, base = read_cells(profile, cohort, shuffler), read_cells(profile, live, shuffler)
    with timed(figures, "anonymise_seconds"):
        table = anonymise(profile, cells)
    figures |= {"classes": table.classes, "loss": round(loss(table), 4), "suppressed": table.suppressed_rows}
    with timed(figures, "prepare_seconds"):
        candidate = prepare(profile, cells, "0" * 64)
    with timed(figures, "gate_seconds"):
        approval = Approval("bench", candidate.output.digest)
        verdict = judge_release(candidate, live=base, earlier=(), approval=approval)
    figures["released"] = isinstance(verdict, Released)
    parts = (figures[f"{part}_seconds"] for part in ("read", "prepare", "gate"))
    figures["end_to_end_seconds"] = round(sum(part for part in parts if isinstance(part, float)), 3)
    figures["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return figures


def rows_of(data: Path, count: int = 30_162) -> list[Row]:
    """The figures of this bench at the size of the public extract."""
    names, rows, trees = columns_of(data)
    measured: Any = measure(names, rows, profile_of(names, trees, 5, 1), count)
    if not measured["released"]:
        raise SystemExit("the gate refused the benchmark's table")
    note = f"{count:,} rows, 9 columns, k = 5, loss {measured['loss']}"
    return [within("export, end to end", measured["end_to_end_seconds"], "s", most=20, note=note)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of adult.csv and adult_hierarchies.tar.gz")
    parser.add_argument("--rows", type=int, nargs="+", default=[30162])
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--l", type=int, default=1, help="distinct l of occupation")
    asked = parser.parse_args()
    names, rows, trees = columns_of(asked.data)
    profile = profile_of(names, trees, asked.k, asked.l)
    for count in asked.rows:
        print(json.dumps(measure(names, rows, profile, count)), flush=True)


if __name__ == "__main__":
    main()

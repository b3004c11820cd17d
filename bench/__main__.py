"""Every benchmark at a size of minutes, one table, and the run as JSON under var/bench/ (operations.md section 8).

    python -m bench [NAME ...] [--data FOLDER] [--into FOLDER]

Names: introspection, start, seal, erasure, ledger, exports. `exports` needs `--data`, the folder of the public extract,
and is left out without it. Leaves with 1 when a bench fails, as it does when an answer is wrong; a missed goal is
printed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from bench import erasure, exports, introspection, ledger, seal, start
from bench.table import Row, printed, written


def chosen(names: list[str], data: Path | None) -> dict[str, Callable[[], list[Row]]]:
    """The benches asked for, each ready to run."""
    every: dict[str, Callable[[], list[Row]]] = {
        "seal": seal.rows,
        "erasure": erasure.rows,
        "ledger": ledger.rows,
        "introspection": introspection.rows,
        "start": start.rows,
    }
    if data is not None:
        every["exports"] = lambda: exports.rows_of(data)
    unknown = sorted(set(names) - {*every, "exports"})
    if unknown:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}")
    if data is None:
        print("exports is left out: say with --data where the public extract lies", file=sys.stderr)
    return {name: run for name, run in every.items() if not names or name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--data", type=Path, help="folder of adult.csv and adult_hierarchies.tar.gz")
    parser.add_argument("--into", type=Path, default=Path("var/bench"))
    asked = parser.parse_args()
    found: list[Row] = []
    for name, run in chosen(asked.names, asked.data).items():
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        found += run()
    print(printed(found))
    print(f"\nwritten to {written(found, asked.into)}")


if __name__ == "__main__":
    main()

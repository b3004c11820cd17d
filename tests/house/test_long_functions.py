"""Functions over 60 lines are few, and each has its reason in `docs/long-functions.md` (issue 2, house.md)."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST = 60
LINE = re.compile(r"^\| `(?P<name>[^`]+)` \| (?P<reason>.+) \|$", re.MULTILINE)


def _long() -> Iterator[str]:
    patterns = ("app/*.py", "consent/*.py", "dsar/*.py", "bench/*.py")
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.split():
        if (ROOT / name).exists():
            yield from (f"{name}::{function}" for function in long_functions((ROOT / name).read_text()))


def long_functions(source: str) -> list[str]:
    """The names of functions with more lines than that, whatever they are nested in."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node.name for node in nodes if (node.end_lineno or node.lineno) - node.lineno + 1 > MOST]


def test_every_long_function_has_its_reason_and_every_reason_its_function() -> None:
    told = {found["name"]: found["reason"] for found in LINE.finditer((ROOT / "docs/long-functions.md").read_text())}
    assert told.keys() == set(_long())
    assert all(len(reason.split()) >= 8 for reason in told.values())


def test_the_measure_finds_what_is_one_line_too_long() -> None:
    body = "    x = 1\n" * MOST
    assert long_functions(f"class A:\n  def fits(self):\n{body[10:]}  def long(self):\n{body}") == ["long"]

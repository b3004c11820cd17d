"""Which revision a database has, and which the program knows, without loading Alembic (`app.store.migrate` does).

A migration's file begins with the id of its revision. Leaves out whether the tables are what their revision says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sqlalchemy import Engine, inspect, text

Tree = Literal["records", "keys"]
FOLDER = Path(__file__).resolve().parents[2] / "migrations"
_TABLE = "alembic_version"
_PRESENT = text(f"SELECT version_num FROM {_TABLE}")  # noqa: S608 - a constant


def known(tree: Tree) -> tuple[str, ...]:
    """Return the revisions of a tree, the newest last."""
    return tuple(sorted(path.name.partition("_")[0] for path in (FOLDER / tree / "versions").glob("[0-9]*_*.py")))


def present(database: Engine) -> str | None:
    """Return the revision that a database has; nothing for one that no migration ever reached."""
    if not inspect(database).has_table(_TABLE):
        return None
    with database.connect().execution_options(regard_read=True) as connection:
        found = connection.execute(_PRESENT).scalar()
    return None if found is None else str(found)

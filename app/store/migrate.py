"""Bringing a database to the newest schema, with Alembic; one tree for each database (vault.md section 1).

The engine's own tables (DBOS: schema `dbos` on PostgreSQL, unprefixed on SQLite) are not ours and are left alone.
"""

from __future__ import annotations

from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy import Engine, MetaData

from app.store import tables
from app.store.revisions import FOLDER, Tree


def metadata(tree: Tree) -> MetaData:
    """Return every table of one database as the code knows it."""
    return tables.RECORDS if tree == "records" else tables.KEYS


def upgrade(engine: Engine, tree: Tree) -> None:
    """Bring the database to the newest revision of its tree; nothing to do is fine."""
    with engine.connect() as connection:
        command.upgrade(_config(tree, connection), "head")
        connection.commit()


def revise(engine: Engine, tree: Tree, message: str, revision: str) -> None:
    """Write a revision file for what the code has and the database lacks."""
    with engine.connect() as connection:
        command.revision(_config(tree, connection), message, autogenerate=True, rev_id=revision)


def run(context: EnvironmentContext | Any, tree: Tree) -> None:
    """Run the migrations on the connection of the configuration (called by each tree's `env.py`)."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata(tree),
        include_name=lambda name, kind, _parents: kind != "table" or name in metadata(tree).tables,
        render_item=_render,
        render_as_batch=False,
    )
    with context.begin_transaction():
        context.run_migrations()


def _render(kind: str, item: object, autogen: Any) -> str | Literal[False]:
    if kind == "type" and type(item).__name__ == "Instant":
        autogen.imports.add("from app.store.rows.base import Instant")
        return "Instant()"
    return False


def _config(tree: Tree, connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(FOLDER / tree))
    config.attributes["connection"] = connection
    return config

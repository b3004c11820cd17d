"""The migrations and the code describe the same tables, on both databases."""

from __future__ import annotations

import pkgutil

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

import app.store.rows
from app.store import tables
from app.store.engine import open_engine
from app.store.migrate import Tree, metadata, upgrade
from app.store.revisions import FOLDER, present
from app.store.revisions import known as revisions


def test_every_rows_module_is_named_among_the_tables() -> None:
    written = {module.name for module in pkgutil.iter_modules(app.store.rows.__path__)} - {"base"}
    assert {module.__name__.rpartition(".")[2] for module in tables.ROWS} == written


@pytest.mark.parametrize("tree", ["records", "keys"])
def test_a_migrated_database_has_the_tables_of_the_code(tree: Tree, records_url: str) -> None:
    engine = open_engine(records_url, keys=tree == "keys")
    assert present(engine) is None
    upgrade(engine, tree)
    upgrade(engine, tree)
    assert present(engine) == revisions(tree)[-1]
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda n, k, _: k != "table" or n in known}
        )
        known = set(metadata(tree).tables)
        assert compare_metadata(context, metadata(tree)) == []
        assert known <= set(inspect(connection).get_table_names())
    engine.dispose()


@pytest.mark.parametrize("tree", ["records", "keys"])
def test_the_names_of_the_files_are_what_alembic_reads_in_them(tree: Tree) -> None:
    scripts = ScriptDirectory(str(FOLDER / tree))
    assert revisions(tree) == tuple(reversed([each.revision for each in scripts.walk_revisions()]))

"""Alembic's entry for the records database; the connection is handed in by `app.store.migrate`."""

from alembic import context

from app.store.migrate import run

run(context, "records")

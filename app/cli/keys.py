"""`regard keys`: a copy of the key store, and whether sealed records still open, here or from a restored copy.

Shows nothing of what a record says and nothing of whose it is; the record is named by the file it came from.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path

import click

from app.cli.configured import FAULTY, MISUSED
from app.cli.opening import opened
from app.sdk.sealed import SealError
from app.vault.core import Vault
from app.vault.errors import VaultError
from app.wiring import House, restored_vault

FILE = click.Path(dir_okay=False, path_type=Path)
OPENS = "opens"


@click.group()
def keys() -> None:
    """The key store."""


@keys.command("backup")
@click.argument("file", type=FILE)
def backup(file: Path) -> None:
    """Copy the key store into FILE while it is in use. For drills: it never belongs in the general backup."""
    with opened() as house:
        url = house.keys.url
        if url.get_backend_name() != "sqlite" or url.database is None:
            click.echo("this key store is PostgreSQL: copy it with pg_dump, as its own role", err=True)
            sys.exit(MISUSED)
        with sqlite3.connect(url.database) as live, sqlite3.connect(file) as copy:
            live.backup(copy)
    click.echo(f"wrote {file}")


@keys.command("try")
@click.argument("records", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--store", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="a restored copy")
def try_records(records: Path, store: Path | None) -> None:
    """Say how many sealed records open, with today's key provider; nothing they say is shown.

    RECORDS has one JSON object a line: handle, category, record_id, sealed (base64). Leaves with 1 unless all open.
    """
    with opened() as house:
        vault = _vault(house, store)
        found = Counter(_tried(vault, line) for line in records.read_text(encoding="utf-8").splitlines() if line)
    click.echo(json.dumps(dict(sorted(found.items()))))
    sys.exit(0 if set(found) == {OPENS} else FAULTY)


def _vault(house: House, store: Path | None) -> Vault:
    return restored_vault(house.settings, f"sqlite:///{store.resolve()}") if store is not None else house.vault


def _tried(vault: Vault, line: str) -> str:
    """Return `opens`, or the code of the refusal."""
    try:
        said = json.loads(line)
        sealed = base64.b64decode(said["sealed"], validate=True)
        vault.trial(sealed, handle=said["handle"], category=said["category"], record_id=said["record_id"])
    except (VaultError, SealError) as refused:
        return refused.code
    except (KeyError, TypeError, ValueError):
        return "not_a_record"
    return OPENS

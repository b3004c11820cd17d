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
from app.cli.drill import drill
from app.cli.erasures import erasures
from app.cli.moving import move, status
from app.cli.opening import opened
from app.cli.rotation import rotate
from app.sdk.sealed import SealError
from app.vault.core import Vault
from app.vault.errors import VaultError
from app.wiring import restored_vault

FILE = click.Path(dir_okay=False, path_type=Path)
EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
OPENS = "opens"


@click.group()
def keys() -> None:
    """The key store."""


keys.add_command(drill)
keys.add_command(move)
keys.add_command(status)
keys.add_command(erasures)


keys.add_command(rotate)


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
@click.argument("records", nargs=-1, required=True, type=EXISTING)
@click.option("--store", type=EXISTING, help="a restored copy of the key store, to be tried as well")
def try_records(records: tuple[Path, ...], store: Path | None) -> None:
    """Say how many sealed records open, with today's key provider; nothing they say is shown.

    RECORDS have one JSON object a line: handle, category, record_id, sealed (base64). Prints JSON: how many of each
    file opened or were refused, `live` and, with --store, `restored`. Leaves with 1 unless all open.
    """
    with opened() as house:
        vaults = {"live": house.vault}
        if store is not None:
            vaults["restored"] = restored_vault(house.settings, f"sqlite:///{store.resolve()}")
        found = {name: {file.name: _counts(vault, file) for file in records} for name, vault in vaults.items()}
    click.echo(json.dumps(found))
    told = {code for files in found.values() for counts in files.values() for code in counts}
    sys.exit(0 if told == {OPENS} else FAULTY)


def _counts(vault: Vault, records: Path) -> dict[str, int]:
    lines = records.read_text(encoding="utf-8").splitlines()
    return dict(sorted(Counter(_tried(vault, line) for line in lines if line).items()))


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

"""`regard keys`: a copy of the key store, and whether sealed records still open, here or from a restored copy.

Shows nothing of what a record says and nothing of whose it is; the record is named by the file it came from.
"""

from __future__ import annotations

import base64
import json
import os
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import NoReturn

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
_TABLES = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('partitions', 'subject_keys')"


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
    """Copy the key store into FILE, a new one, while it is in use. For drills: never in the general backup."""
    with opened() as house:
        url = house.keys.url
        if url.get_backend_name() != "sqlite" or url.database is None:
            _misused("this key store is PostgreSQL: copy it with pg_dump, as its own role")
        _make_private(file)
        with closing(sqlite3.connect(url.database)) as live, closing(sqlite3.connect(file)) as copy:
            live.backup(copy)
    click.echo(f"wrote {file}")


def _make_private(file: Path) -> None:
    """Make the file, for its owner alone. What is there is never written over: it may be the key store itself."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        _misused(f"{file} exists already: name a file that does not, nothing is written over")
    except OSError as fault:
        _misused(f"{file} cannot be made: {fault.strerror}")


def _misused(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(MISUSED)


@keys.command("try")
@click.argument("records", nargs=-1, required=True, type=EXISTING)
@click.option("--store", type=EXISTING, help="a restored copy of the key store, to be tried as well")
def try_records(records: tuple[Path, ...], store: Path | None) -> None:
    """Say how many sealed records open, with today's key provider; nothing they say is shown.

    RECORDS have one JSON object a line: handle, category, record_id, sealed (base64). Prints JSON: how many of each
    file opened or were refused, `live` and, with --store, `restored`. Leaves with 1 unless all open.
    """
    if store is not None and not _is_key_store(store):
        _misused(f"{store} is no key store: no SQLite database with a key store's tables can be read there")
    with opened() as house:
        vaults = {"live": house.vault}
        if store is not None:
            vaults["restored"] = restored_vault(house.settings, f"sqlite:///{store.resolve()}")
        found = {name: {file.name: _counts(vault, file) for file in records} for name, vault in vaults.items()}
    click.echo(json.dumps(found))
    told = {code for files in found.values() for counts in files.values() for code in counts}
    sys.exit(0 if told == {OPENS} else FAULTY)


def _is_key_store(file: Path) -> bool:
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
        try:
            found: tuple[int] = database.execute(_TABLES).fetchone()
            return found == (2,)
        except sqlite3.DatabaseError:
            return False


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

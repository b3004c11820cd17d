"""Founding a deployment's own secrets, and refusing to open one that has lost them (vault.md sections 1, 6).

A lost root is total loss, and an empty keyring in its place would hide that until the first person cannot be read. So
`found` alone makes a keyring or a signing key, and only where nothing yet stands on one; `look` makes nothing. Both
refuse records and keys in one database, and a key store whose roots are with a provider that the settings do not name.
`look` also refuses a database that does not answer, and one whose schema is not this program's.
Leaves out whether each root still opens what it wrapped: asking a provider for all of them is not for every start.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from app.machine import SystemClock
from app.sdk.disk import sync_folder
from app.servicekeys import service_key
from app.settings import KeyProviderKind, Settings
from app.store.foundations import (
    has_certificates,
    has_checkpoints,
    has_records,
    is_laid,
    is_made,
    root_kinds,
    same_database,
)
from app.store.revisions import Tree, known, present
from app.vault.providers.file import FileKeyring

KEYRING = "keyring"
CERTIFICATE_KEY = "certificate.key"
LEDGER_KEY = "ledger.key"
FORMS_KEY = "forms.key"
NONCES_KEY = "nonces.key"
BEHIND = "the schema is behind: run `regard db upgrade` as the owner of both databases"
_RUNBOOK = "docs/runbooks/founding.md"


class UnfitDeployment(RuntimeError):
    """What keeps a deployment from being opened; the message is the sentence that mends it."""

    code: ClassVar[str] = "deployment_unfit"


class NotFounded(UnfitDeployment):
    """There is nothing to open yet."""

    code = "not_founded"


class RootsLost(UnfitDeployment):
    """The key store has wrapped keys, and the keyring with their roots is gone."""

    code = "roots_lost"


class SigningKeyLost(UnfitDeployment):
    """Something was signed with a key whose file is gone."""

    code = "signing_key_lost"


class OtherProvider(UnfitDeployment):
    """The key store's roots are with a provider that the settings do not name."""

    code = "other_key_provider"


class SameDatabase(UnfitDeployment):
    """Records and keys would be one database."""

    code = "one_database"


class SchemaBehind(UnfitDeployment):
    """The databases have an older schema, and the role that serves may not change it."""

    code = "schema_behind"


class SchemaAhead(UnfitDeployment):
    """A database has a newer schema than this program knows."""

    code = "schema_ahead"


class DataFolderUnfit(UnfitDeployment):
    """The data folder is not there and cannot be made."""

    code = "data_folder_unfit"


class DatabaseAway(UnfitDeployment):
    """A database does not answer, or will not let us in."""

    code = "database_unavailable"


class MailUnfit(UnfitDeployment):
    """No mail can be sent as the settings say."""

    code = "mail_unfit"


class ExtraMissing(UnfitDeployment):
    """The library of the key provider is not installed."""

    code = "extra_missing"

    def __init__(self, kind: KeyProviderKind) -> None:
        super().__init__(f"REGARD_KEY_PROVIDER: {kind.value} needs its library: pip install 'regard[{kind.value}]'")


class WorkerRunning(UnfitDeployment):
    """Another process carries out the durable work of this deployment."""

    code = "worker_running"


class ProviderRefused(UnfitDeployment):
    """The key provider does not answer, or refuses, and without it there is nothing to serve yet."""

    code = "key_provider_unavailable"


def refuse_one_database(records: Engine, keys: Engine) -> None:
    """Raise `SameDatabase` when both addresses lead to one database, however they are spelt."""
    if same_database(records, keys):
        raise SameDatabase("REGARD_KEYS_URL: leads to the database of the records; the key store needs one of its own")


def reach(name: str, database: Engine) -> None:
    """Raise `NotFounded` or `DatabaseAway` when there is no database at an address; none is made by asking."""
    if not is_made(database):
        raise NotFounded(
            f"{name}: there is no database yet: `regard db upgrade` makes it. Where there was one, bring it back first "
            "(docs/runbooks/restore.md)"
        )
    ask(name, database)


def ask(name: str, database: Engine) -> None:
    """Ask a database for nothing. Raises `DatabaseAway`."""
    try:
        database.connect().execution_options(regard_read=True).close()
    except SQLAlchemyError as fault:
        raise DatabaseAway(f"{name}: the database does not answer: {_first_line(fault)}") from None


def _first_line(fault: SQLAlchemyError) -> str:
    """What the driver says, without the statement and the address that the library adds."""
    said = str(getattr(fault, "orig", None) or type(fault).__name__)
    return (said.splitlines() or [type(fault).__name__])[0]


def look(settings: Settings, records: Engine, keys: Engine) -> None:
    """Raise what keeps this deployment from being opened; change nothing."""
    reach("REGARD_RECORDS_URL", records)
    reach("REGARD_KEYS_URL", keys)
    if not is_laid(keys):
        raise NotFounded("the key store has no tables yet: `regard db upgrade` makes them")
    refuse_one_database(records, keys)
    if not has_records(records):
        raise NotFounded("the records have no tables yet: `regard db upgrade` makes them")
    refuse_newer(records, keys)
    _refuse_older(records, keys)
    held = root_kinds(keys)
    _refuse_other_provider(settings, held)
    if _keeps_roots_here(settings) and not (settings.data_dir / KEYRING).exists():
        raise _keyring_gone(held) or NotFounded("there is no keyring yet: `regard db upgrade` makes it")


def refuse_newer(records: Engine, keys: Engine) -> None:
    """Raise `SchemaAhead` for a revision that this program does not know: it came after it."""
    for tree, database in _trees(records, keys):
        revision = present(database)
        if revision is not None and revision not in known(tree):
            raise SchemaAhead(
                f"the {tree} database has schema {revision}, newer than this program: use that of the upgrade"
            )


def _refuse_older(records: Engine, keys: Engine) -> None:
    for tree, database in _trees(records, keys):
        if present(database) != known(tree)[-1]:
            raise SchemaBehind(BEHIND)


def _trees(records: Engine, keys: Engine) -> tuple[tuple[Tree, Engine], ...]:
    return (("records", records), ("keys", keys))


def found(settings: Settings, records: Engine, keys: Engine) -> None:
    """Make the keyring and the service's own keys where a new deployment has none yet.

    Both databases have their tables. Raises `RootsLost`, `SigningKeyLost`, `OtherProvider`.
    """
    held = root_kinds(keys)
    _refuse_other_provider(settings, held)
    folder = settings.data_dir
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if _keeps_roots_here(settings):
            _make(folder / KEYRING, _new_keyring, lambda: _keyring_gone(held))
        for name, orphaned in (
            (CERTIFICATE_KEY, partial(_signing_key_gone, CERTIFICATE_KEY, has_certificates, keys)),
            (LEDGER_KEY, partial(_signing_key_gone, LEDGER_KEY, has_checkpoints, records)),
            (FORMS_KEY, lambda: None),
            (NONCES_KEY, lambda: None),
        ):
            _make(folder / name, _new_service_key, orphaned)


def _keeps_roots_here(settings: Settings) -> bool:
    return KeyProviderKind.FILE in (settings.key_provider, settings.key_provider_before)


def _refuse_other_provider(settings: Settings, held: frozenset[str]) -> None:
    strange = sorted(held - {settings.key_provider, settings.key_provider_before})
    if strange:
        raise OtherProvider(
            f"REGARD_KEY_PROVIDER: says {settings.key_provider}; the key store has roots with {', '.join(strange)}. "
            f"Set REGARD_KEY_PROVIDER_BEFORE={strange[0]} and run `regard keys move`, or name the provider it has"
        )


def _keyring_gone(held: frozenset[str]) -> RootsLost | None:
    if KeyProviderKind.FILE not in held:
        return None
    return RootsLost(
        "the keyring is missing and the key store has keys under its roots: restore the keyring from its replica; "
        f"without it nothing opens any more (see {_RUNBOOK})"
    )


def _signing_key_gone(name: str, in_use: Callable[[Engine], bool], database: Engine) -> SigningKeyLost | None:
    if not in_use(database):
        return None
    return SigningKeyLost(f"{name} is missing and has signed already: restore it from its replica (see {_RUNBOOK})")


def _make(path: Path, make: Callable[[Path], None], orphaned: Callable[[], UnfitDeployment | None]) -> None:
    """Make the file whole or not at all: a process that dies on the way leaves a draft, which nobody reads."""
    if path.exists():
        return
    refusal = orphaned()
    if refusal is not None:
        raise refusal
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    make(draft)
    draft.rename(path)
    sync_folder(path.parent)


def _new_keyring(path: Path) -> None:
    FileKeyring.create(path, clock=SystemClock(), random=os.urandom)


def _new_service_key(path: Path) -> None:
    service_key(path, os.urandom)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two processes that found at once take turns; the second finds everything made."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

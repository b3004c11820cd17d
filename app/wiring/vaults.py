"""The vault as the settings describe it: which key provider, which key store, what signs its certificates."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from sqlalchemy import Engine

from app.machine import SystemClock
from app.servicekeys import certificate_signer, service_key
from app.settings import Settings
from app.store.keystore import SqlKeyStore
from app.vault.core import Vault
from app.vault.ports import KeyProvider
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstones


def vault_over(settings: Settings, keys: Engine, clock: SystemClock, *, unnamed: Collection[str] = ()) -> Vault:
    """Return a vault on a key store, with the provider of the settings."""
    folder = settings.data_dir
    return Vault(
        SqlKeyStore(keys),
        key_provider(settings, clock),
        clock=clock,
        random=os.urandom,
        tombstones=Tombstones(folder / "tombstones"),
        sign=certificate_signer(service_key(folder / "certificate.key", os.urandom)),
        worker=settings.executor,
        unnamed=unnamed,
    )


def key_provider(settings: Settings, clock: SystemClock) -> KeyProvider:
    """Return where the root keys of this deployment live."""
    return _keyring(settings.data_dir / "keyring", clock)


def _keyring(path: Path, clock: SystemClock) -> FileKeyring:
    if path.exists():
        return FileKeyring(path, clock=clock, random=os.urandom)
    return FileKeyring.create(path, clock=clock, random=os.urandom)

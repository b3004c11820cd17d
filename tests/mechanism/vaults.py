"""A real vault for tests: the SQL key store, the file keyring, a tombstone file; only clock and signature are ours."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from app.store.keystore import SqlKeyStore
from app.vault.core import Vault
from app.vault.guarding import AT_ONCE, Terms
from app.vault.keys import Basis, KeyClass, Scope
from app.vault.ports import Json, KeyProvider
from app.vault.providers.file import FileKeyring
from app.vault.tombstones import Tombstones

CONTROLLER = "ctl_demo"


@dataclass
class SetClock:
    """A clock that stands until it is moved."""

    at: datetime = field(default_factory=lambda: datetime(2026, 3, 1, 12, 0, tzinfo=UTC))

    def now(self) -> datetime:
        return self.at

    def pass_(self, **span: float) -> None:
        self.at += timedelta(**span)


def digest_sign(document: bytes) -> Mapping[str, Json]:
    return {"alg": "test-sha256", "value": hashlib.sha256(document).hexdigest()}


def scope(subject: str, category: str = "accounts.balances", **more: object) -> Scope:
    named = {"holder": "bank", "basis": Basis.CONSENT, **more}
    return Scope(CONTROLLER, subject, category=category, **named)  # type: ignore[arg-type]


def keyring(folder: Path, clock: SetClock) -> FileKeyring:
    path = folder / "keyring"
    made = FileKeyring if path.exists() else FileKeyring.create
    return made(path, clock=clock, random=os.urandom)


def open_vault(
    engine: Engine,
    folder: Path,
    clock: SetClock,
    *,
    provider: KeyProvider | None = None,
    worker: str = "host:0",
    per_partition: int = 4_096,
    unnamed: Collection[str] = (),
    terms: Terms = AT_ONCE,
) -> Vault:
    return Vault(
        SqlKeyStore(engine),
        provider if provider is not None else keyring(folder, clock),
        clock=clock,
        random=os.urandom,
        tombstones=Tombstones(folder / "tombstones"),
        sign=digest_sign,
        worker=worker,
        per_partition=per_partition,
        unnamed=unnamed,
        terms=terms,
    )


__all__ = ["CONTROLLER", "KeyClass", "SetClock", "digest_sign", "keyring", "open_vault", "scope"]

"""Every table of both databases, named in one place; a rows module missing here fails the migration test."""

from __future__ import annotations

from types import ModuleType

from app.store.rows import (
    adoptions,
    cases,
    certificates,
    clients,
    consents,
    exports,
    holders,
    idempotency,
    journeys,
    keys,
    leaves,
    limits,
    mail,
    passkeys,
    receipts,
    restores,
    sessions,
    subjects,
    tokens,
)
from app.store.rows.base import KeysBase, RecordsBase

ROWS: tuple[ModuleType, ...] = (
    adoptions,
    cases,
    certificates,
    clients,
    consents,
    exports,
    holders,
    idempotency,
    journeys,
    keys,
    leaves,
    limits,
    mail,
    passkeys,
    receipts,
    restores,
    sessions,
    subjects,
    tokens,
)
RECORDS = RecordsBase.metadata
KEYS = KeysBase.metadata

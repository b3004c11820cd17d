"""Every table of both databases, named in one place; a rows module missing here fails the migration test."""

from __future__ import annotations

from types import ModuleType

from app.store.rows import subjects
from app.store.rows.base import KeysBase, RecordsBase

ROWS: tuple[ModuleType, ...] = (subjects,)
RECORDS = RecordsBase.metadata
KEYS = KeysBase.metadata

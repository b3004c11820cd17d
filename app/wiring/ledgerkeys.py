"""The ledger's own key: opened with the one it follows, and followed by a new one (ledger.md, checkpoints).

A ledger keeps its name, its tree and every checkpoint it signed. The new key is named in an entry that the present key
signs; then both sign each checkpoint until the operator lets the old one go, once every auditor and witness has the new
one. The new key is written whole beside the old before it takes its place, so that no moment is without one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Final

from app.ledger.checkpoint import NoteSigner
from app.sdk.disk import sync_folder
from app.sdk.notes import Algorithm, NoteError, Verifier
from app.servicekeys import ServiceKeyError, kept_service_key, service_key
from app.wiring.founding import LEDGER_KEY

LEDGER_NAME: Final = "regard.ledger"
_BEFORE: Final = f"{LEDGER_KEY}.before"
_NEXT: Final = f"{LEDGER_KEY}.next"
_LOST: Final = f"{LEDGER_KEY}.lost"
"""Public keys, which an operator says were this ledger's and are lost: its own checkpoints would else be refused."""


class LedgerKeyTurning(RuntimeError):
    """A rotation of the ledger key has begun and not ended, or there is none to end."""

    code: ClassVar[str] = "ledger_key_turning"


def ledger_signer(folder: Path) -> NoteSigner:
    """Return what signs checkpoints; raises `ServiceKeyMissing`, `ServiceKeyError`."""
    before = folder / _BEFORE
    old = kept_service_key(before) if before.exists() else None
    return NoteSigner(LEDGER_NAME, kept_service_key(folder / LEDGER_KEY), old, _lost(folder / _LOST))


def _lost(place: Path) -> tuple[Verifier, ...]:
    try:
        lost = tuple(map(Verifier.parse, place.read_text("utf-8").split())) if place.exists() else ()
    except (NoteError, UnicodeDecodeError) as fault:
        raise ServiceKeyError(f"{place.name} holds something else than verifier keys (name+id+base64)") from fault
    if any((each.name, each.algorithm) != (LEDGER_NAME, Algorithm.ED25519) for each in lost):
        raise ServiceKeyError(f"{place.name} holds a key that is not one of {LEDGER_NAME}")
    return lost


def coming_signer(folder: Path) -> NoteSigner:
    """Return the next key's signer; a command that died may have left the key, otherwise it is made.

    Raises `LedgerKeyTurning` when the change before has not ended.
    """
    if (folder / _BEFORE).exists():
        raise LedgerKeyTurning("the last change of the ledger key has not ended: `regard keys rotate ledger --finish`")
    return NoteSigner(LEDGER_NAME, service_key(folder / _NEXT, os.urandom))


def succeed(folder: Path) -> None:
    """Let the next key take its place; the present one signs along from now on."""
    os.link(folder / LEDGER_KEY, folder / _BEFORE)
    (folder / _NEXT).replace(folder / LEDGER_KEY)
    sync_folder(folder)


def finish(folder: Path) -> None:
    """Forget the key before the present one; raises `LedgerKeyTurning` when there is none."""
    before = folder / _BEFORE
    if not before.exists():
        raise LedgerKeyTurning("no change of the ledger key is under way")
    before.unlink()
    sync_folder(folder)

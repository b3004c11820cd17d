"""`regard keys move` on a real house: every root to the provider the settings name, with entries in the ledger.

The entries tell of a move, not of a person: where from, where to, how many partitions, when the old roots are beyond
recall. Both are written at least once, however often the command is killed. Leaves out restarting the service with both
providers before and with the new one alone afterwards, which is the operator's (docs/runbooks/moving-roots.md).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from app.machine import SystemClock
from app.store.keystore import SqlKeyStore
from app.vault.errors import PartitionBusy
from app.vault.keys import KeyClass
from app.vault.moving import JoinedProviders, Moves, OldRoot
from app.wiring.house import House
from app.wiring.vaults import key_provider
from consent.ports import Json

_ACTOR = "operator"
_PAUSE_SECONDS = 0.2


class MoveRefused(Exception):
    """What keeps roots from being moved; the message is the sentence that mends it."""

    code: ClassVar[str] = "move_refused"


class NowhereFrom(MoveRefused):
    """The settings do not say where roots are moved away from."""

    code = "nowhere_from"


class StillBusy(MoveRefused):
    """Erasures kept some partitions for longer than was waited."""

    code = "partitions_busy"


@dataclass(frozen=True, slots=True)
class Moved:
    """What one run did: partitions moved, old roots destroyed or left for a later run, and when they are gone."""

    moved: int
    destroyed: int
    kept: int
    irrevocable_at: datetime | None


Told = Callable[[int], None]
"""Is told how many partitions still wait."""


def move_roots(house: House, *, keep: bool, patience: float, told: Told) -> Moved:
    """Move every partition, then destroy the old roots unless `keep`; `patience`: seconds to wait for erasures.

    Raises `NowhereFrom`, `StillBusy`, and what `app.vault.moving.Moves` raises. Run again, it goes on.
    """
    moves = _moves(house)
    count = len(moves.progress().waiting)
    if count:
        _record(house, "key.move_begun", {"partitions": count})
    _move_all(moves, time.monotonic() + patience, told)
    if keep:
        return Moved(count, 0, len(moves.progress().moved), None)
    gone = moves.end_all(lambda roots: _record(house, "key.moved", _outcome(roots)))
    return Moved(count, len(gone), 0, _latest(gone))


def _moves(house: House) -> Moves:
    clock = SystemClock()
    provider = key_provider(house.settings, clock)
    if not isinstance(provider, JoinedProviders):
        raise NowhereFrom(
            "set REGARD_KEY_PROVIDER to where the roots shall be and REGARD_KEY_PROVIDER_BEFORE to where they are"
        )
    return Moves(SqlKeyStore(house.keys), provider, clock, os.urandom)


def _move_all(moves: Moves, ends: float, told: Told) -> None:
    """Move what waits; what an erasure has is asked for again, as long as patience lasts."""
    while waiting := moves.progress().waiting:
        if not _move_some(moves, waiting, told) and time.monotonic() > ends:
            count = len(waiting)
            are = "1 partition is" if count == 1 else f"{count} partitions are"
            raise StillBusy(f"{are} being re-wrapped by erasures; run the command again")


def _move_some(moves: Moves, waiting: Sequence[tuple[KeyClass, int]], told: Told) -> int:
    done = 0
    for place in waiting:
        with suppress(PartitionBusy):
            moves.move(*place)
            done += 1
            told(len(waiting) - done)
    if not done:
        time.sleep(_PAUSE_SECONDS)
    return done


def _outcome(roots: Sequence[OldRoot]) -> Mapping[str, Json]:
    latest = _latest(roots)
    until = None if latest is None else latest.isoformat(timespec="seconds")
    return {"roots": len(roots), "irrevocable_at": until, "assurance": list(dict.fromkeys(r.assurance for r in roots))}


def _latest(roots: Sequence[OldRoot]) -> datetime | None:
    return max((root.irrevocable_at for root in roots if root.irrevocable_at is not None), default=None)


def _record(house: House, kind: str, payload: Mapping[str, Json]) -> None:
    named = {"from": house.settings.key_provider_before, "to": house.settings.key_provider}
    with house.units.writing() as unit:
        unit.journal.record(kind, actor=_ACTOR, controller=house.controller, subject=None, payload={**named, **payload})
        unit.commit()

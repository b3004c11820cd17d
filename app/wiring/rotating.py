"""Keys that change by themselves: those of blind indexes, on a schedule (vault.md sections 1 and 2).

A step a minute, each of which may be killed and taken again: a new epoch when the newest is old enough; addresses put
under it, a batch at a time, while look-ups try every epoch; and once none is left under an older one, that key is
removed and its partition rotated, so that no copy of it confirms anything any more.
Leaves out rotations an operator asks for (`regard keys rotate`), which are the same work at once.
"""

from __future__ import annotations

from base64 import b32encode
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from typing import Final

from app.profiles import EMAIL, Profiles
from app.store.unit import Units
from app.vault.core import Vault
from app.vault.errors import ErasureUnknown, PartitionBusy, ProviderUnavailable, SurvivorUnverified
from app.vault.keys import KeyClass
from app.vault.ports import ErasureState
from consent.ports import Json
from consent.vocabulary import ControllerId

BATCH: Final = 200
SETTLED: Final = timedelta(hours=1)
"""How long a new epoch is in use before an older key goes: whoever began to store under the older one has ended."""
_KIND: Final = "key.rotated"
_ACTOR: Final = "regard"


class IndexSchedule:
    """The blind index of one controller's addresses, and how old its key may become."""

    def __init__(
        self, units: Units, vault: Vault, profiles: Profiles, controller: ControllerId, every: timedelta
    ) -> None:
        self._units = units
        self._vault = vault
        self._profiles = profiles
        self._controller = controller
        self._every = every

    def sweep(self) -> int:
        """Take the step that is due; return how many addresses were put under the newest key."""
        newest = self._vault.indexes.newest(self._controller, EMAIL)
        age = self._units.clock.now() - newest.created_at
        if age >= self._every:
            self.rekey()
            return 0
        moved = self._profiles.reindex(self._controller, BATCH)
        if moved == 0 and age >= SETTLED and newest.epoch > 1:
            self.retire(newest.epoch)
        return moved

    def rekey(self) -> int:
        """Begin a new epoch and return its number; the next steps put what is stored under it."""
        epoch = self._vault.indexes.rekey(self._controller, EMAIL)
        self._record("rekeyed", epoch)
        return epoch

    def retire(self, epoch: int) -> None:
        """Remove the keys before `epoch` and rotate their partition; a provider that is away is asked again later.

        Whoever ends the rotation, this or the sweep of erasures, it is one entry in the ledger.
        """
        erasures, rotation = self._vault.erasures, self._rotation(epoch)
        self._vault.indexes.retire(self._controller, EMAIL, before=epoch)
        if erasures.rotate(rotation, [(KeyClass.INDEX, 0)]) is not ErasureState.CERTIFIED:
            with suppress(PartitionBusy, ProviderUnavailable, SurvivorUnverified):
                erasures.drive(rotation)
        self._note_retired(epoch)

    def _rotation(self, epoch: int) -> str:
        return f"rot_index_{self._controller}_{epoch}"

    def _note_retired(self, newest: int) -> None:
        """Enter the rotations that ended and are not entered; one may have ended after a newer epoch began."""
        names = {_named(self._rotation(epoch)): epoch for epoch in range(2, newest + 1)}
        with self._units.reading() as unit:
            told = unit.journal.told(_KIND, list(names))
        for name, epoch in names.items():
            if name not in told and self._has_ended(self._rotation(epoch)):
                self._record_once(name, epoch - 1)

    def _has_ended(self, rotation: str) -> bool:
        try:
            return self._vault.erasures.state(rotation) is ErasureState.CERTIFIED
        except ErasureUnknown:
            return False  # a newer epoch began before anything was removed on this one's account

    def _record_once(self, rotation: str, epoch: int) -> None:
        payload = {**_payload("retired", epoch), "rotation": rotation}
        with self._units.writing() as unit:
            unit.journal.record_once(_KIND, rotation, actor=_ACTOR, controller=self._controller, payload=payload)
            unit.commit()

    def _record(self, what: str, epoch: int) -> None:
        payload = _payload(what, epoch)
        with self._units.writing() as unit:
            unit.journal.record(_KIND, actor=_ACTOR, controller=self._controller, subject=None, payload=payload)
            unit.commit()


def _payload(what: str, epoch: int) -> dict[str, Json]:
    return {"class": KeyClass.INDEX.value, "what": what, "epoch": epoch}


def _named(rotation: str) -> str:
    """Return the opaque id by which the ledger finds the entry of a rotation; its own name has no bound."""
    return "rot_" + b32encode(sha256(rotation.encode()).digest()[:20]).decode().lower()

"""Keys that change by themselves: those of blind indexes, on a schedule (vault.md sections 1 and 2).

A step a minute, each of which may be killed and taken again: a new epoch when the newest is old enough; addresses put
under it, a batch at a time, while look-ups try every epoch; and once none is left under an older one, that key is
removed and its partition rotated, so that no copy of it confirms anything any more.
Leaves out rotations an operator asks for (`regard keys rotate`), which are the same work at once.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Final

from app.profiles import EMAIL, Profiles
from app.store.unit import Units
from app.vault.core import Vault
from app.vault.errors import PartitionBusy, ProviderUnavailable, SurvivorUnverified
from app.vault.keys import KeyClass
from app.vault.ports import ErasureState
from consent.vocabulary import ControllerId

BATCH: Final = 200
SETTLED: Final = timedelta(hours=1)
"""How long a new epoch is in use before an older key goes: whoever began to store under the older one has ended."""
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
        """Remove the keys before `epoch` and rotate their partition; a provider that is away is asked again later."""
        rotation = f"rot_index_{self._controller}_{epoch}"
        erasures = self._vault.erasures
        self._vault.indexes.retire(self._controller, EMAIL, before=epoch)
        if erasures.rotate(rotation, [(KeyClass.INDEX, 0)]) is ErasureState.CERTIFIED:
            return
        with suppress(PartitionBusy, ProviderUnavailable, SurvivorUnverified):
            if erasures.drive(rotation) is ErasureState.CERTIFIED:
                self._record("retired", epoch - 1)

    def _record(self, what: str, epoch: int) -> None:
        with self._units.writing() as unit:
            unit.journal.record(
                "key.rotated",
                actor=_ACTOR,
                controller=self._controller,
                subject=None,
                payload={"class": KeyClass.INDEX.value, "what": what, "epoch": epoch},
            )
            unit.commit()

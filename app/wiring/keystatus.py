"""What an operator is told of the keys: where roots live, how they stand, which erasures have not ended.

Counts, kinds, states and ages; no id of a person, an erasure or a key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from app.machine import SystemClock
from app.store.keystore import SqlKeyStore
from app.vault.errors import VaultError
from app.vault.keys import KeyClass
from app.vault.moving import is_moving, kind_of
from app.vault.ports import Json, Partition
from app.wiring.house import House
from app.wiring.vaults import key_provider


def key_status(house: House) -> Mapping[str, Json]:
    """Return the status as plain data; raises `KeyStoreUnavailable`, `ProviderUnavailable`.

    `shut`: partitions whose epoch key does not open, and why; empty when all is well.
    """
    with SqlKeyStore(house.keys).reading() as tx:
        partitions = tx.partitions()
    shut = house.restoring.shut()
    return {
        "provider": house.settings.key_provider,
        "provider_before": house.settings.key_provider_before or None,
        "assurance": _assurances(house, partitions),
        "roots": dict(sorted(Counter(kind_of(each.root) for each in partitions).items())),
        "partitions": {each.value: _partitions(partitions, each) for each in KeyClass},
        "moving": sum(is_moving(each) for each in partitions),
        "shut": [{"class": one.key_class.value, "partition": one.number, "code": one.code} for one in shut],
        "erasures_pending": _pending(house),
        "erasures_held": len(house.vault.erasures.held()),
    }


def _partitions(partitions: Sequence[Partition], key_class: KeyClass) -> Json:
    generations = [each.generation for each in partitions if each.key_class is key_class]
    return {
        "count": len(generations),
        "oldest_generation": min(generations, default=None),
        "newest_generation": max(generations, default=None),
    }


def _assurances(house: House, partitions: Sequence[Partition]) -> Json:
    """What each provider in use says of one of its roots, as certificates would print it."""
    provider = key_provider(house.settings, SystemClock())
    one_each = {kind_of(each.root): each.root for each in partitions}
    told: dict[str, Json] = {}
    for kind, root in sorted(one_each.items()):
        try:
            told[kind] = provider.describe(root).assurance
        except VaultError as fault:
            told[kind] = fault.code
    return told


def _pending(house: House) -> Json:
    now = house.units.clock.now()
    return [
        {"state": state.value, "count": count, "oldest_seconds": max(0, int((now - oldest).total_seconds()))}
        for state, count, oldest in house.vault.erasures.unfinished()
    ]

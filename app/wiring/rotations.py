"""Rotations an operator asks for: roots with their epoch keys, the address index, signing keys, the ledger's key.

Each may be asked for again after it was killed, and goes on where it was; the service runs meanwhile. Each is an entry
in the ledger. Leaves out data keys, which are replaced by themselves when they are worn out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from app.store.restores import partitions
from app.tokens.signing import Rotation
from app.vault.erasure import Erasures
from app.vault.errors import PartitionBusy, ProviderUnavailable, SurvivorUnverified
from app.vault.keys import KeyClass
from app.vault.ports import Json, Partition
from app.wiring import ledgerkeys
from app.wiring.application import authorization_services
from app.wiring.house import House
from app.wiring.rotating import IndexSchedule

_WORKER: Final = "rotation"
"""Of the command: another than the service's own, which may be driving erasures at the same time."""
_ACTOR: Final = "operator"


@dataclass(frozen=True, slots=True)
class Turned:
    """What became of one partition: its generation before, and the state reached or the code of what held it up."""

    key_class: KeyClass
    partition: int
    generation: int
    state: str


def rotate_roots(house: House, classes: Collection[KeyClass]) -> Iterator[Turned]:
    """Give every partition of these classes a new root and epoch key, in turn; yield what became of each."""
    erasures = house.vault.erasures.under(_WORKER)
    wanted = [one for one in partitions(house.keys) if one.key_class in classes]
    _record(house, {"what": "roots", "classes": sorted(classes), "partitions": len(wanted)})
    for one in wanted:
        yield Turned(one.key_class, one.number, one.generation, _turn(erasures, one))


def _turn(erasures: Erasures, partition: Partition) -> str:
    # Named after the generation it ends: asked for again before that one has ended, it is the same rotation.
    rotation = f"rot_{partition.key_class}_{partition.number}_{partition.generation}"
    try:
        erasures.rotate(rotation, [(partition.key_class, partition.number)])
        return erasures.drive(rotation).value
    except (PartitionBusy, ProviderUnavailable, SurvivorUnverified) as held_up:
        return held_up.code


def rotate_index(house: House) -> int:
    """Begin a new epoch of the address index and return it; the minute sweep does the rest."""
    every = timedelta(days=house.settings.index_rekey_days)
    return IndexSchedule(house.units, house.vault, house.profiles, house.controller, every).rekey()


def rotate_signing(house: House, *, compromised: bool) -> Rotation:
    """Let the next signing key sign. Raises `TooSoon`; `compromised` goes ahead and disowns the present key at once."""
    services = authorization_services(house)
    with services.units() as unit:
        done = unit.signing_keys.rotate(services.clock.now(), compromised=compromised)
        unit.commit()
    _record(house, {"what": "signing", "kid": done.activated, "compromised": compromised})
    return done


def rotate_ledger(house: House) -> str:
    """Let a new key sign checkpoints along with the present one, and return its verifier text.

    The present key signs the entry that names it. A service that runs signs with the present one until it is started
    again. Raises `LedgerKeyTurning`.
    """
    folder = house.settings.data_dir
    coming = ledgerkeys.coming_signer(folder).verifier.text()
    _record(house, {"what": "ledger", "verifier": coming})
    house.ledger.integrate()
    ledgerkeys.succeed(folder)
    return coming


def finish_ledger(house: House) -> None:
    """Let the present key sign alone. Raises `LedgerKeyTurning`, also while the latest checkpoint lacks its signature.

    That one was signed by a service that has not been started since; it would go on with a key nobody is told of. One
    that has not signed since either finds its key gone from the latest checkpoint, and stops.
    """
    if not house.ledger.sign_alone():
        raise ledgerkeys.LedgerKeyTurning(
            "the latest checkpoint lacks the new key's signature: start the service again, wait for its next entry"
        )
    ledgerkeys.finish(house.settings.data_dir)
    _record(house, {"what": "ledger", "verifier": house.ledger.verifier_key, "alone": True})


def _record(house: House, payload: dict[str, Json]) -> None:
    with house.units.writing() as unit:
        unit.journal.record("key.rotated", actor=_ACTOR, controller=house.controller, subject=None, payload=payload)
        unit.commit()

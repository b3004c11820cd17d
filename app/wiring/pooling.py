"""The pool's keys that go: of values that no cohort took in time, with their rows (exports.md rule 4), and of cohorts.

The keys go first, so that a crash in between leaves rows that nobody can read and that the next sweep finds again.
Those of a sealed cohort go after it: where its command died in between, the next sweep asks in its place.
Whoever ends the shred of a sealed cohort, its command or a sweep, it is one entry in the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from app.store.exports import HeldBack
from app.store.unit import Units
from app.vault.core import Vault
from app.vault.errors import ErasureUnknown, PartitionBusy, ProviderUnavailable, SurvivorUnverified, UnknownSubject
from app.vault.keys import KeyClass, Target
from app.vault.ports import ErasureState
from consent.vocabulary import ControllerId

ERASURE: Final = "era_pool"
"""How the ids of these erasures begin: the next sweep finishes by it what one could not."""
MOST_AT_ONCE: Final = 500
"""Subjects in one sweep: what is left waits a minute."""
SHREDDED: Final = "pool.shredded"
_ACTOR: Final = "regard"


def expire_pool(units: Units, vault: Vault) -> int:
    """Delete held-back values whose deadline has passed, unexported; returns of how many subjects.

    The pool keys of sealed cohorts are seen to as well.
    """
    _shred_sealed(units, vault)
    with units.reading() as unit:
        over = unit.exports.overdue(units.clock.now(), limit=MOST_AT_ONCE)
    for controller in sorted({each.controller for each in over}):
        _expire(units, vault, controller, [each for each in over if each.controller == controller])
    _finish(vault)
    return len(over)


def shred_of(cohort: str) -> str:
    """Return the id of the erasure that destroys the pool keys of a sealed cohort's members."""
    return f"era_{cohort}"


def note_shredded(units: Units, controller: ControllerId, cohort: str, *, by: str) -> None:
    """Enter that a cohort's pool keys are destroyed, unless that is entered already."""
    erasure = shred_of(cohort)
    with units.writing() as unit:
        unit.journal.record_once(
            SHREDDED, erasure, actor=by, controller=controller, payload={"cohort": cohort, "erasure": erasure}
        )
        unit.commit()


def doom_cohort(units: Units, vault: Vault, controller: ControllerId, cohort: str) -> ErasureState:
    """Refuse the pool keys of a sealed cohort's members from now on; returns how far their destruction is."""
    with suppress(ErasureUnknown):
        return vault.erasures.state(shred_of(cohort))
    with units.reading() as unit:
        members = sorted(unit.exports.members(cohort))
    # a key store that was restored does not know the newest people: what was theirs opens with nothing any more
    known = vault.known(controller, members)
    targets = [Target(controller, each, classes=(KeyClass.POOL,)) for each in members if each in known]
    return vault.shred(shred_of(cohort), targets)


def _shred_sealed(units: Units, vault: Vault) -> None:
    """Have every sealed cohort's pool keys destroyed, also where its command died, and enter which are.

    Driving is the sweep of erasures' own.
    """
    with units.reading() as unit:
        sealed = unit.exports.sealed()
        told = unit.journal.told(SHREDDED, [shred_of(cohort) for cohort, _ in sealed])
    for cohort, controller in sealed:
        if shred_of(cohort) in told:
            continue
        if doom_cohort(units, vault, controller, cohort) is ErasureState.CERTIFIED:
            note_shredded(units, controller, cohort, by=_ACTOR)


def _expire(units: Units, vault: Vault, controller: ControllerId, over: Sequence[HeldBack]) -> None:
    erasures = _doom(units, vault, over)
    with units.writing() as unit:
        gone = unit.exports.remove_overdue(controller, [each.subject for each in over], units.clock.now())
        unit.journal.record(
            "pool.expired",
            actor=_ACTOR,
            controller=controller,
            subject=None,
            payload={"subjects": gone, "erasures": erasures},
        )
        unit.commit()


def _doom(units: Units, vault: Vault, over: Sequence[HeldBack]) -> list[str]:
    """Refuse the pool keys of these subjects from now on; returns the erasures that will destroy them."""
    targets = [Target(each.controller, each.subject, classes=(KeyClass.POOL,)) for each in over]
    try:
        return [_doomed(units, vault, targets)]
    except UnknownSubject:
        # a key store that was restored does not know the newest people: what was theirs opens with nothing any more
        done = []
        for target in targets:
            with suppress(UnknownSubject):
                done.append(_doomed(units, vault, [target]))
        return done


def _doomed(units: Units, vault: Vault, targets: Sequence[Target]) -> str:
    erasure = units.ids.new(ERASURE)
    vault.shred(erasure, targets)
    return erasure


def _finish(vault: Vault) -> None:
    """Destroy what was doomed, by this sweep or by one that could not; what is held up waits for the next."""
    for erasure in vault.erasures.pending():
        if erasure.startswith(f"{ERASURE}_"):
            with suppress(PartitionBusy, ProviderUnavailable, SurvivorUnverified):
                vault.erasures.drive(erasure)

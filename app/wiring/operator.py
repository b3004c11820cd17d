"""What an operator does that no door offers: reading a restored key store, sealing an approved cohort."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from app.exports.gate import Released
from app.exports.profile import Profile
from app.machine import SystemClock
from app.settings import Settings
from app.store.engine import open_engine
from app.store.exports import HeldBack, SealedCohort
from app.vault.core import Vault
from app.wiring.house import House, vault_over
from consent.vocabulary import SubjectRef

POOL_LIFE = timedelta(days=30)
"""How long values may wait for a cohort before they are deleted: the erasure deadline."""


def restored_vault(settings: Settings, keys_url: str) -> Vault:
    """Return a vault over another key store, a backup say, with today's provider."""
    return vault_over(settings, open_engine(keys_url, keys=True), SystemClock())


def hold_back(house: House, profile: Profile, held: Sequence[tuple[SubjectRef, bytes]]) -> None:
    """Put sealed values into the pool; each waits for a cohort until the deadline."""
    deadline = house.units.clock.now() + POOL_LIFE
    with house.units.writing() as unit:
        for subject, sealed in held:
            waiting = HeldBack(house.controller, subject, profile.id, profile.schema_version, sealed, deadline)
            unit.exports.add_to_pool(waiting)
        unit.commit()


def pool(house: House, profile: Profile) -> Sequence[tuple[SubjectRef, bytes]]:
    """Return what waits in the pool of a profile: subjects and sealed values."""
    with house.units.reading() as unit:
        waiting = unit.exports.open_pool(house.controller, profile.id, now=house.units.clock.now())
        return [(held.subject, held.sealed) for held in waiting]


def sealed_cohort(
    house: House, profile: Profile, released: Released, outline: dict[str, object], members: Sequence[SubjectRef]
) -> str:
    """Store a released table, empty its members' places in the pool, and record it; returns the ledger entry."""
    cohort = SealedCohort(
        id=house.units.ids.new("coh"),
        controller=house.controller,
        profile=profile.id,
        schema_version=profile.schema_version,
        subjects=len(members),
        output=released.output,
        outline=outline,
        approved_by=released.approved_by,
        released_at=house.units.clock.now(),
    )
    with house.units.writing() as unit:
        unit.exports.seal(cohort, members)
        entry = unit.journal.record(
            "export.released",
            actor=released.approved_by,
            controller=house.controller,
            subject=None,
            payload={"cohort": cohort.id, "digest": released.output.digest},
        )
        unit.commit()
    return entry

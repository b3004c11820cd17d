"""Adopting a policy pack: from then on it is the law of the house, and the ledger says since when (GDPR art. 5(2))."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from consent.policy import Policy
from consent.ports import Journal
from consent.vocabulary import ControllerId


class Adoptions(Protocol):
    """Which packs were adopted, newest known."""

    def latest(self) -> str | None:
        """Return the digest of the pack in force; None before the first."""
        ...

    def add(self, digest: str, version: str, entry: str, at: datetime) -> None: ...


class AdoptionUnit(Protocol):
    """A unit of work that knows adoptions."""

    @property
    def adoptions(self) -> Adoptions: ...
    @property
    def journal(self) -> Journal: ...
    def commit(self) -> None: ...


def adopt(unit: AdoptionUnit, policy: Policy, *, controller: ControllerId, by: str, at: datetime) -> str | None:
    """Put a pack in force and record its digest; returns the ledger entry, or None when it is in force already."""
    former = unit.adoptions.latest()
    if former == policy.digest:
        return None
    entry = unit.journal.record(
        "policy.adopted",
        actor=by,
        controller=controller,
        subject=None,
        payload={"digest": policy.digest, "version": policy.version, "replaces": former},
    )
    unit.adoptions.add(policy.digest, policy.version, entry, at)
    unit.commit()
    return entry

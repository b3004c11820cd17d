"""What an operator sees and does about erasures: what waits for what, drive it now, agree to what the guard holds.

Vault.md section 5. Says opaque erasure ids and dates, never whose they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from app.http.guard import StaffRole
from app.vault.erasure import Driven
from app.vault.guarding import check_approver, missing
from app.vault.ports import Erasure
from app.wiring.house import House
from app.wiring.operator import OPERATOR
from consent.vocabulary import ControllerId

AGREEING: Final = frozenset({StaffRole.DPO.value, StaffRole.SECOND_READER.value})
"""Roles of those who may agree to a held erasure."""


class ErasingError(Exception):
    """What keeps an erasure from being agreed to, beside what the vault itself says."""

    code: ClassVar[str] = "erasing_error"


class ApproverUnfit(ErasingError):
    """Who agrees is a present colleague, DPO or second reader, and serves the controller of the erasure."""

    code = "approver_unfit"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an erasure stands. `waits_for`: approval, cooling, leases, batch, window (old roots are kept), or None."""

    erasure: str
    state: str
    requested_at: datetime
    waits_for: str | None
    until: datetime | None
    approved_by: tuple[str, ...]
    approvals_missing: int

    def told(self) -> Mapping[str, object]:
        """Return it as plain data."""
        return {
            "erasure": self.erasure,
            "state": self.state,
            "requested_at": self.requested_at.isoformat(timespec="seconds"),
            "waits_for": self.waits_for,
            "until": None if self.until is None else self.until.isoformat(timespec="seconds"),
            "approved_by": list(self.approved_by),
            "approvals_missing": self.approvals_missing,
        }


def standing(house: House) -> Sequence[Standing]:
    """Return every erasure that has not ended, oldest first, then those whose old roots are kept for backups."""
    erasures = house.vault.erasures
    going = erasures.pending()
    kept = [_kept(erasures.journal(each)) for each in erasures.keeping() if each not in going]
    return [*(_pending(house, each) for each in going), *kept]


def _pending(house: House, erasure: str) -> Standing:
    found, wait = house.vault.erasures.journal(erasure), house.vault.erasures.waits(erasure)
    return _standing(found, None if wait is None else wait.reason.value, None if wait is None else wait.until)


def _kept(found: Erasure) -> Standing:
    return _standing(found, "window", max(site.kept_until for site in found.sites if site.kept_until is not None))


def _standing(found: Erasure, waits_for: str | None, until: datetime | None) -> Standing:
    by = tuple(each.by for each in found.approvals)
    return Standing(found.id, found.state.value, found.requested_at, waits_for, until, by, missing(found))


def drive_now(house: House) -> Driven:
    """Drive all that waits for nothing but the next batch; raises what stops all of them."""
    # the service beside it may be at work: another name, so that neither takes the other's work for its own
    worker = f"{house.settings.executor}/command/{os.getpid()}"
    return house.vault.erasures.under(worker).drive_all(now=True)


def approve(house: House, erasure: str, by: str) -> int:
    """Note that a colleague agrees to a held erasure, in the key store and the ledger; return how many more have to.

    Raises ApproverUnfit, and what `Erasures.approve` raises.
    """
    found = house.vault.erasures.journal(erasure)
    with house.units.writing() as unit:
        controllers = {ControllerId(each.controller) for each in found.targets}
        colleague = unit.staff.find(by)
        if colleague is None or not colleague.may_act(AGREEING, controllers):
            raise ApproverUnfit
        check_approver(found, by)
        unit.journal.record(
            "erasure.approved",
            actor=OPERATOR,
            controller=min(controllers, default=house.controller),
            subject=None,
            payload={"erasure": erasure, "by": by, "earlier": [each.by for each in found.approvals]},
        )
        # judged again there, and last: a word that the key store refuses leaves no entry
        left = house.vault.erasures.approve(erasure, by)
        unit.commit()
    return left

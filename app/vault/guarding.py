"""When the physical work of an erasure may begin, and who has to agree (vault.md section 5): pure decisions.

The logical part waits for none of this: a doomed key is neither lent nor opened from the moment the erasure is asked
for. What waits is what cannot be undone. Leaves out the steps themselves (`app.vault.erasure`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from app.vault.errors import ApprovedBefore, NotHeld, SelfApproval
from app.vault.ports import CLOCKS_DIFFER, REPLAYED, Erasure, ErasureState, Hold

PEOPLE: Final = 2
"""How many have to agree to what the guard holds."""
A_DAY: Final = timedelta(hours=24)
_NONE: Final = timedelta(0)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Terms:
    """What a deployment settled about its erasures; as it stands, everything happens at once and nobody is asked."""

    batch: timedelta = _NONE
    """Physical work begins at the multiples of this since the epoch; zero: at once."""
    cooling: timedelta = _NONE
    """How long the erasure of a whole person stays logical only."""
    window: timedelta = _NONE
    """How long the old root lives on after the commit, so that a backup of the key store still restores survivors."""
    provider_delay: timedelta = _NONE
    """How long after being told the key provider destroys a root for good."""
    guard: int | None = None
    """How many people may be erased within 24 hours before two colleagues have to agree; None: any number."""


AT_ONCE: Final = Terms()


class Reason(StrEnum):
    """What an erasure waits for before its next step."""

    APPROVAL = "approval"
    COOLING = "cooling"
    LEASES = "leases"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Wait:
    """Why an erasure stands still, and until when at the longest; None where that is up to people."""

    reason: Reason
    until: datetime | None


def wait_of(erasure: Erasure, leased_until: datetime | None, terms: Terms, now: datetime) -> Wait | None:
    """Return what an erasure waits for; None when its next step may be taken."""
    if erasure.state is ErasureState.REQUESTED:
        return _before_it_begins(erasure, leased_until, now)
    gathers = erasure.state is ErasureState.KEY_ROW_REMOVED and erasure.batch is None
    # A rotation erases nobody; what a restore brought back was promised to be gone: they take along who waits.
    at_once = not erasure.targets or erasure.id.endswith(REPLAYED)
    if gathers and erasure.changed_at is not None and not at_once:
        due = batch_after(erasure.changed_at, terms.batch)
        # What changed after now, changed before a clock was set back: nobody waits for that moment to come again.
        return Wait(Reason.BATCH, due) if now < due and erasure.changed_at <= now + CLOCKS_DIFFER else None
    return None


def _before_it_begins(erasure: Erasure, leased_until: datetime | None, now: datetime) -> Wait | None:
    if erasure.held_for is not None and erasure.approved_at is None:
        return Wait(Reason.APPROVAL, None)
    if erasure.not_before is not None and now < erasure.not_before:
        return Wait(Reason.COOLING, erasure.not_before)
    if not erasure.acknowledged and leased_until is not None and now < leased_until:
        return Wait(Reason.LEASES, leased_until)
    return None


def batch_after(since: datetime, interval: timedelta) -> datetime:
    """Return the first moment at or after `since` at which a batch begins; every process works out the same one."""
    if interval <= _NONE:
        return since
    gone = since - _EPOCH
    return since if gone % interval == _NONE else _EPOCH + (gone // interval + 1) * interval


def hold_of(before: Collection[tuple[str, str]], more: Collection[tuple[str, str]], terms: Terms) -> Hold | None:
    """Say whether an erasure of `more` people is held, `before` having been asked for within 24 hours.

    People are (controller, subject). An erasure that takes no whole person is never held.
    """
    if not more or terms.guard is None:
        return None
    return Hold.MASS_ERASURE if len({*before, *more}) > terms.guard else None


def check_approver(erasure: Erasure, by: str) -> None:
    """See that a colleague may agree to a held erasure. Raises NotHeld, SelfApproval, ApprovedBefore."""
    if erasure.held_for is None or erasure.approved_at is not None:
        raise NotHeld
    if by == erasure.requested_by:
        raise SelfApproval
    if any(each.by == by for each in erasure.approvals):
        raise ApprovedBefore


def missing(erasure: Erasure) -> int:
    """Return how many colleagues have yet to agree."""
    if erasure.held_for is None or erasure.approved_at is not None:
        return 0
    return max(0, PEOPLE - len(erasure.approvals))


def irrevocable(committed: datetime, terms: Terms) -> datetime:
    """Return the promise: after the window and the provider's own delay nothing brings the old root back."""
    return committed + terms.window + terms.provider_delay


def together(first: Erasure, others: Sequence[Erasure], most_sites: int) -> tuple[Erasure, ...]:
    """Return the erasures of one batch, `first` among them: as many as share `most_sites` partitions."""
    chosen, places = [first], set(first.places)
    for each in others:
        more = places.union(each.places)
        if len(more) <= max(most_sites, len(places)):
            chosen.append(each)
            places = more
    return tuple(chosen)

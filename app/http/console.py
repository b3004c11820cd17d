"""What the console shows of a case, gathered in one go: facts, codes and opaque ids, nothing a person is or wrote.

Dsar rules 21, 40, 49, 53, 56, 59. The law is `dsar.usecases`; here a member of staff becomes an actor, and a case they
do not serve does not exist. Leaves out the words (`deskwords`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from app.http.doors import DoorUnit, StaffFacts, doors
from app.http.errors import ChangedMeanwhile, NotHere
from app.http.guard import StaffRole
from consent.vocabulary import ControllerId
from dsar import clock, usecases
from dsar.case import Case, State
from dsar.clock import Deadlines
from dsar.errors import CaseUnknown
from dsar.events import PackageSealed
from dsar.ports import CaseSummary, Desk, HolderTask, RecipientTask, Recorded, StoredPackage, StoredRetention
from dsar.vocabulary import Actor, CaseId, RecipientOutcome, TaskId

SOON = 5
"""Days before the strict date from which a case stands out (dsar rule 21, J-5)."""
WAITING = frozenset({RecipientOutcome.PENDING, RecipientOutcome.SENT})
SETTLEMENTS: Mapping[str, tuple[RecipientOutcome, str | None]] = {
    "acked": (RecipientOutcome.ACKED, None),
    "sent": (RecipientOutcome.SENT, None),
    "ceased": (RecipientOutcome.IMPOSSIBLE, "ceased"),
    "unreachable": (RecipientOutcome.IMPOSSIBLE, "unreachable"),
    "effort": (RecipientOutcome.DISPROPORTIONATE, "effort"),
}
"""What staff can say of an art. 19 notice: answer of the form -> outcome and reason (dsar rule 56)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the queue; `days_left` until the strict date, negative once it has passed."""

    summary: CaseSummary
    days_left: int


@dataclass(frozen=True, slots=True)
class Step:
    """One event with its leaf in the ledger, None while the entry waits to be integrated."""

    recorded: Recorded
    leaf: int | None


@dataclass(frozen=True, slots=True)
class File:
    """A case as the console shows it."""

    case: Case
    summary: CaseSummary
    dates: Deadlines
    days_left: int
    steps: tuple[Step, ...]
    tree: int
    """Leaves in the tree, to ask for proofs of."""
    tasks: tuple[HolderTask, ...]
    copies: tuple[StoredPackage, ...]
    retentions: tuple[StoredRetention, ...]
    recipients: tuple[RecipientTask, ...]
    names: Mapping[str, str]
    """Staff id -> name, of colleagues who acted."""

    @property
    def waits_for_approval(self) -> bool:
        return self.case.state is State.APPROVAL

    @property
    def can_be_submitted(self) -> bool:
        return self.case.state is State.REVIEW and all(line.outcome for line in self.case.lines.values())


def actor(member: StaffFacts) -> Actor:
    """Return a member of staff as who acts."""
    return Actor(member.id, human=True, dpo=StaffRole.DPO in member.roles)


def own_case(desk: Desk, case: CaseId, member: StaffFacts) -> Case:
    """Return a case of one of the member's controllers. Raises NotHere for every other, existing or not."""
    try:
        found = desk.cases.get(case)
    except CaseUnknown as unknown:
        raise NotHere from unknown
    if found.controller not in member.controllers:
        raise NotHere
    return found


def waiting_recipient(desk: Desk, case: CaseId, task: TaskId) -> RecipientTask:
    """Return a notice of this case that is not settled. Raises NotHere, ChangedMeanwhile."""
    found = next((each for each in desk.cases.recipients(case) if each.id == task), None)
    if found is None:
        raise NotHere
    if found.outcome not in WAITING:
        raise ChangedMeanwhile
    return found


def row(summary: CaseSummary) -> Row:
    """Return a line of the queue."""
    return Row(summary, (summary.due_strict - today(summary.controller)).days)


def today(controller: ControllerId) -> date:
    """Return the local day of a controller (dsar rule 14)."""
    of = doors()
    return clock.local_day(of.clock.now(), of.policy.controllers[controller].time_zone)


def open_file(desk: Desk, unit: DoorUnit, case: CaseId, member: StaffFacts) -> File:
    """Gather everything the console shows of a case. Raises NotHere."""
    found = own_case(desk, case, member)
    history = usecases.timeline(desk, case)
    leaves = unit.leaf_numbers.of([each.entry for each in history])
    dates = usecases.dates_of(desk, found)
    return File(
        case=found,
        summary=desk.cases.summary(case),
        dates=dates,
        days_left=(dates.due_strict - today(found.controller)).days,
        steps=tuple(Step(each, leaves.get(each.entry)) for each in history),
        tree=unit.leaf_numbers.size(),
        tasks=tuple(desk.cases.tasks(case)),
        copies=_copies(desk, history),
        retentions=tuple(desk.cases.retentions(case)),
        recipients=tuple(desk.cases.recipients(case)),
        names=names(unit, (each.event.by for each in history)),
    )


def _copies(desk: Desk, history: Sequence[Recorded]) -> tuple[StoredPackage, ...]:
    sealed = (each.event.package for each in history if isinstance(each.event, PackageSealed))
    return tuple(desk.cases.package(package) for package in sealed)


def names(unit: DoorUnit, handles: Iterable[str | None]) -> dict[str, str]:
    """Return the names of the colleagues among these handles."""
    found = ((handle, unit.staff.find(handle)) for handle in sorted({each for each in handles if each}))
    return {handle: member.name for handle, member in found if member is not None}

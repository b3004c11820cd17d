"""The queue and the timeline (dsar rule 21)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from consent.vocabulary import ControllerId
from dsar.ports import CaseSummary, Desk, Recorded
from dsar.vocabulary import CaseId


def queue(
    desk: Desk,
    controllers: Collection[ControllerId],
    *,
    limit: int = 100,
    after: CaseId | None = None,
    ended: bool = False,
) -> Sequence[CaseSummary]:
    """Return the open cases (or the ended ones) of these controllers by strict due date (dsar rule 21)."""
    return desk.cases.queue(controllers, limit=limit, after=after, ended=ended)


def timeline(desk: Desk, case: CaseId) -> Sequence[Recorded]:
    """Return everything that happened to a case, each with its ledger entry."""
    return desk.cases.history(case)

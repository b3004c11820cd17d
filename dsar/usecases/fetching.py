"""Copies the person may download, and that they did (dsar rules 3, 53, 58)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

from consent.ports import Json
from dsar import clock, course, errors
from dsar import events as e
from dsar.case import Case, answered
from dsar.course import answered_at, given_copies
from dsar.ports import Desk, StoredPackage
from dsar.usecases.writing import controller_of, dates_of, write
from dsar.vocabulary import Actor, CaseId, LineId, MessageId, PackageId, Right


def ready_copies(desk: Desk, case_id: CaseId) -> Sequence[StoredPackage]:
    """Return the packages of a case that may be downloaded now: replied to, alive, not expired (dsar rule 58)."""
    case, now = desk.cases.get(case_id), desk.clock.now()
    stored = [desk.cases.package(package) for package, line in case.packages.items() if answered(case, line)]
    return [one for one in stored if one.revoked_at is None and now < one.expires_at]


def check_copies(desk: Desk, case: Case, lines: Collection[LineId]) -> None:
    """Raise PackageIncomplete unless every copy that these lines give can be downloaded (dsar rules 3, 53).

    Of a line that was replied to: unless it could when the reply left.
    """
    gone = [line for line in given_copies(case) if line in lines and not _was_alive(desk, case, line)]
    if gone:
        raise errors.PackageIncomplete(f"line {line}: no copy left" for line in gone)


def _was_alive(desk: Desk, case: Case, line: LineId) -> bool:
    sent = answered_at(case, line)
    sealed = [one.event for one in desk.cases.history(case.id) if isinstance(one.event, e.PackageSealed)]
    copies = [desk.cases.package(one.package) for one in sealed if one.line == line]
    if sent is None:
        return any(one.revoked_at is None and desk.clock.now() < one.expires_at for one in copies)
    return any(sent < min(one.expires_at, one.revoked_at or one.expires_at) for one in copies)


def record_fetch(desk: Desk, case_id: CaseId, package_id: PackageId, by: Actor) -> None:
    """Note a download, before the bytes leave (operations.md: no record, no action); the first one moves the case on.

    Each further one is a ledger entry only. Raises CopyGone: not replied to yet, expired, revoked, of another case.
    """
    if package_id not in {one.id for one in ready_copies(desk, case_id)}:
        raise errors.CopyGone(package_id)
    case = desk.cases.get(case_id)
    fetched = e.CopyFetched(at=desk.clock.now(), by=by.handle, package=package_id)
    if package_id in case.fetched:
        _journal_again(desk, case, fetched)
        return
    write(desk, case, fetched)


def _journal_again(desk: Desk, case: Case, event: e.CopyFetched) -> None:
    payload = cast("Mapping[str, Json]", {"case": case.id, "again": True, **e.encode(event)})
    desk.journal.record(
        e.kind_of(event), actor=event.by, controller=case.controller, subject=case.subject, payload=payload
    )


def copies_elsewhere(desk: Desk, case: Case) -> Sequence[datetime | None]:
    """Return, of each copy that other cases of the person owe while an erasure waits for it, when its reply left."""
    if case.subject is None or not any(line.right is Right.ERASURE for line in case.lines.values()):
        return ()
    known = [one.case for one in desk.cases.of_subject(case.controller, case.subject) if one.case != case.id]
    sent = [at for other in known for at in course.awaited_copies(desk.cases.get(other))]
    since = desk.clock.now() - timedelta(days=desk.practice.copy_wait_days)
    return [at for at in sent if at is None or at > since]


def erasure_begins(desk: Desk, case_id: CaseId) -> datetime | None:
    """Return when the erasure of a case begins even if its copy was not fetched; None when nothing waits for that."""
    return _begins(desk, desk.cases.get(case_id))


def erasure_begins_if_sent(desk: Desk, case_id: CaseId, message: MessageId) -> datetime | None:
    """Return the same as it will be once `message` has left: what that message may say of itself."""
    case, now = desk.cases.get(case_id), desk.clock.now()
    sent = replace(case.messages[message], dispatched_at=case.messages[message].dispatched_at or now)
    return _begins(desk, replace(case, messages={**case.messages, message: sent}))


def _begins(desk: Desk, case: Case) -> datetime | None:
    zone = controller_of(desk, case).time_zone
    due = clock.last_instant(dates_of(desk, case).due_strict, zone)
    return course.erasure_from(case, desk.practice, due=due, elsewhere=copies_elsewhere(desk, case))

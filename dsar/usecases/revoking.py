"""Destroying a copy: before its day, because the person asks, or because its time is over (dsar rules 58, 59)."""

from __future__ import annotations

from dsar import errors
from dsar import events as e
from dsar.case import answered
from dsar.ports import Desk, StoredPackage
from dsar.usecases.stopping import leave_to_staff
from dsar.usecases.writing import write
from dsar.vocabulary import SYSTEM, Actor, CaseId, PackageId

NEVER_FETCHABLE = "copy_expired"
"""Why a case waits for staff whose copy ran out before its reply left."""

PERSON_ERASED = "person_erased"
"""Why one does whose copy went with its person's erasure, before its reply left."""


def revoke_copy(desk: Desk, case_id: CaseId, package_id: PackageId, by: Actor) -> None:
    """Kill a copy for good; twice changes nothing. Raises CopyGone for one that is not of this case.

    The caller removes the sealed bytes once this is committed.
    """
    case, package = desk.cases.get(case_id), desk.cases.package(package_id)
    if package.case != case.id:
        raise errors.CopyGone(package_id)
    if package.revoked_at is not None:
        return
    now = desk.clock.now()
    desk.cases.revoke_package(package_id, now)
    write(desk, case, e.PackageRevoked(at=now, by=by.handle, package=package_id))


def lose_copy(desk: Desk, package: StoredPackage, by: Actor) -> None:
    """Kill a copy because its person is erased by another case; one that was not replied to yet is left to staff."""
    revoke_copy(desk, package.case, package.id, by)
    if not answered(desk.cases.get(package.case), package.line):
        leave_to_staff(desk, package.case, PERSON_ERASED)


def expire_copy(desk: Desk, package_id: PackageId) -> None:
    """Kill a copy whose time is over (dsar rule 59); before that, or twice, nothing changes.

    A case whose reply has not left yet is left to staff: the person never could open it. The caller removes the sealed
    bytes first, so that no crash leaves them behind without anybody looking for them.
    """
    package = desk.cases.package(package_id)
    if package.revoked_at is not None or desk.clock.now() < package.expires_at:
        return
    revoke_copy(desk, package.case, package_id, SYSTEM)
    if not answered(desk.cases.get(package.case), package.line):
        leave_to_staff(desk, package.case, NEVER_FETCHABLE)

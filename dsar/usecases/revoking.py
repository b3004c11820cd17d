"""Destroying a copy before its day, because the person asks (dsar rule 58)."""

from __future__ import annotations

from dsar import errors
from dsar import events as e
from dsar.ports import Desk
from dsar.usecases.writing import write
from dsar.vocabulary import Actor, CaseId, PackageId


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

"""What an operator does that no door offers: reading a restored key store, filling the pool of a cohort, bringing in
staff, handing out the printed codes that permit a first passkey (consent.md section 6)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import ClassVar

from app.exports.profile import Profile
from app.http import passkeys
from app.http.guard import StaffRole
from app.http.passkeys import Kind
from app.machine import SystemClock
from app.settings import Settings
from app.store.engine import open_engine
from app.store.exports import HeldBack
from app.store.passkeys import StoredStaff
from app.store.unit import RecordsUnit
from app.vault.core import Vault
from app.wiring.house import House
from app.wiring.vaults import vault_over
from consent.vocabulary import ControllerId, SubjectRef

OPERATOR = "operator"
"""Who acts at the command line."""
POOL_LIFE = timedelta(days=30)
"""How long values may wait for a cohort before they are deleted: the erasure deadline."""


class EnrolmentError(Exception):
    """What keeps somebody from being brought in."""

    code: ClassVar[str] = "enrolment_error"


class PersonUnknown(EnrolmentError):
    """No such subject, or no such colleague (any more)."""

    code = "person_unknown"


class StaffUnfit(EnrolmentError):
    """A colleague without a name, a role we know, or a controller of the pack; `faults` lists everything wrong."""

    code = "staff_unfit"

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(self.faults))


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


def issue_code(house: House, kind: Kind, person: str, cooling: timedelta = timedelta(0)) -> str:
    """Return a fresh printed code that permits one passkey, for a subject or a colleague; an earlier one ends.

    It is shown once and kept as a hash only. `cooling` is zero where the code is handed over when the relation begins,
    days where it replaces what was lost. Raises PersonUnknown.
    """
    with house.units.writing() as unit:
        code = _printed(house, unit, kind, person, cooling)
        unit.commit()
    return code


def add_staff(house: House, name: str, roles: Collection[str], controllers: Collection[str]) -> tuple[str, str]:
    """Bring in a colleague; returns their opaque id and the printed code of their first passkey. Raises StaffUnfit."""
    faults = _staff_faults(house, name, roles, controllers)
    if faults:
        raise StaffUnfit(faults)
    ident = house.units.ids.new("stf")
    with house.units.writing() as unit:
        served = frozenset(ControllerId(controller) for controller in controllers)
        unit.staff.add(StoredStaff(ident, name.strip(), frozenset(roles), served))
        unit.journal.record(
            "staff.added",
            actor=OPERATOR,
            controller=house.controller,
            subject=None,
            payload={"staff": ident, "roles": sorted(roles), "controllers": sorted(controllers)},
        )
        code = _printed(house, unit, "staff", ident, timedelta(0))
        unit.commit()
    return ident, code


def present_staff(house: House) -> Sequence[StoredStaff]:
    """Return the colleagues who have not left, by name."""
    with house.units.reading() as unit:
        return unit.staff.present()


def dismiss_staff(house: House, ident: str) -> None:
    """Close the console for a colleague at once, sessions and passkeys included. Raises PersonUnknown."""
    with house.units.writing() as unit:
        if unit.staff.find(ident) is None:
            raise PersonUnknown("no such colleague")
        unit.staff.leave(ident, house.units.clock.now())
        unit.sessions.close_all("staff", ident)
        for passkey in unit.passkeys.of("staff", ident):
            unit.passkeys.remove(passkey.credential_id, "staff", ident)
        unit.journal.record(
            "staff.dismissed", actor=OPERATOR, controller=house.controller, subject=None, payload={"staff": ident}
        )
        unit.commit()


def _staff_faults(house: House, name: str, roles: Collection[str], controllers: Collection[str]) -> list[str]:
    known = {role.value for role in StaffRole}
    faults = [] if name.strip() else ["a colleague has a name"]
    faults += [f"no role {role!r}; roles: {', '.join(sorted(known))}" for role in sorted(set(roles) - known)]
    strange = sorted(set(controllers) - house.policy.controllers.keys())
    faults += [f"the pack has no controller {each!r}" for each in strange]
    faults += [] if roles else ["a colleague has at least one role"]
    faults += [] if controllers else ["a colleague serves at least one controller"]
    return faults


def _printed(house: House, unit: RecordsUnit, kind: Kind, person: str, cooling: timedelta) -> str:
    controller = _controller_of(house, unit, kind, person)
    code = passkeys.issue_code(house.units, unit, kind=kind, person=person, controller=controller, cooling=cooling)
    unit.journal.record(
        "enrolment.permitted",
        actor=OPERATOR,
        controller=controller,
        subject=SubjectRef(person) if kind == "subject" else None,
        payload={"person": person, "cooling_seconds": int(cooling.total_seconds())},
    )
    return code


def _controller_of(house: House, unit: RecordsUnit, kind: Kind, person: str) -> ControllerId:
    """Return whose record the code is: the subject's controller; for colleagues the deployment's."""
    if kind == "staff":
        if unit.staff.find(person) is None:
            raise PersonUnknown("no such colleague")
        return house.controller
    found = unit.subjects.get(SubjectRef(person))
    if found is None or found.erased_at is not None:
        raise PersonUnknown("no such subject")
    return found.controller

"""Registering, suspending and resuming a client: what is on the processor list decides, and the ledger remembers.

A client belongs to a party on the processor list (tokens.md section 2); not on the list means no access (dsar rule P1).
"""

from __future__ import annotations

from typing import ClassVar

from app.profiles import HOUSE
from app.store.unit import RecordsUnit
from app.tokens.records import Client
from app.tokens.registration import Registration, RegistrationError, registered
from app.wiring.house import House

__all__ = ["ClientNotKnown", "clients_of", "register", "resume", "suspend"]


class ClientNotKnown(RegistrationError):
    """No such client here, or it is in that state already."""

    code: ClassVar[str] = "client_not_known"


def register(house: House, asked: Registration, *, by: str) -> Client:
    """Register a client of this house's controller. Raises `RegistrationRefused` with every fault."""
    with house.units.writing() as unit:
        outside = _outside(house, unit, asked)
        client = registered(asked, controller=house.controller, at=house.units.clock.now(), outside=outside)
        unit.clients.add(client)
        _record(house, unit, "client.registered", client, by)
        unit.commit()
    return client


def suspend(house: House, client: str, *, by: str) -> None:
    """Suspend a client: from now on it gets nothing and its tokens open nothing. Raises `ClientNotKnown`."""
    with house.units.writing() as unit:
        found = _own(house, unit, client)
        if not unit.clients.suspend(client, house.units.clock.now()):
            raise ClientNotKnown(f"the client {client!r} is suspended already")
        _record(house, unit, "client.suspended", found, by)
        unit.commit()


def resume(house: House, client: str, *, by: str) -> None:
    """End a suspension. Raises `ClientNotKnown`."""
    with house.units.writing() as unit:
        found = _own(house, unit, client)
        if not unit.clients.resume(client):
            raise ClientNotKnown(f"the client {client!r} is not suspended")
        _record(house, unit, "client.resumed", found, by)
        unit.commit()


def clients_of(house: House) -> list[Client]:
    """Return the clients of this house's controller, oldest first."""
    with house.units.reading() as unit:
        return unit.clients.of_controller(house.controller)


def _outside(house: House, unit: RecordsUnit, asked: Registration) -> list[str]:
    """What the registration cannot know: the list, and who is registered already."""
    own = sorted(party.id for party in house.policy.parties.values() if party.controller == house.controller)
    faults = []
    if asked.party not in own:
        faults.append(f"{asked.party!r} is not on {house.controller}'s processor list; there are: {', '.join(own)}")
    if asked.id == HOUSE:
        # tasks and keys of the house stand under this name: a client that had it would be handed them
        faults.append(f"{asked.id!r} is the house's own name")
    if unit.clients.find(asked.id) is not None:
        faults.append(f"there is a client {asked.id!r} already")
    if asked.resource is not None and unit.clients.of_resource(asked.resource) is not None:
        faults.append(f"the resource {asked.resource!r} is another client's")
    return faults


def _own(house: House, unit: RecordsUnit, client: str) -> Client:
    found = unit.clients.find(client)
    if found is None or found.controller != house.controller:
        raise ClientNotKnown(f"there is no client {client!r}")
    return found


def _record(house: House, unit: RecordsUnit, kind: str, client: Client, by: str) -> None:
    unit.journal.record(
        kind,
        actor=by,
        controller=house.controller,
        subject=None,
        payload={
            "client": client.id,
            "party": client.party,
            "kid": str(client.jwks["keys"][0]["kid"]),
            "scopes": sorted(client.scopes),
            "grants": sorted(client.grants),
            "resource": client.resource,
        },
    )

"""The register of clients in SQL (`app.tokens.records.Clients`)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, select, update

from app.sdk.scopes import Scope, join, parse
from app.store.rows.clients import ClientRow
from app.tokens.records import Client, GrantType

_TABLE = ClientRow.__table__


class SqlClients:
    """The register over one open connection; commits nothing itself."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, client: Client) -> None:
        """Insert a client; the database refuses a second one of the same id or resource."""
        self._connection.execute(
            insert(ClientRow).values(
                id=client.id,
                controller=client.controller,
                party=client.party,
                name=client.name,
                jwks=dict(client.jwks),
                scopes=join(client.scopes),
                grants=" ".join(sorted(client.grants)),
                redirect_uris=list(client.redirect_uris),
                resource=client.resource,
                country=client.country,
                honours=" ".join(sorted(client.honours)),
                created_at=client.created_at,
                suspended_at=client.suspended_at,
            )
        )

    def find(self, client: str) -> Client | None:
        """Return a client, suspended or not."""
        return self._one(ClientRow.id == client)

    def of_resource(self, resource: str) -> Client | None:
        """Return the component that is the audience `resource`."""
        return self._one(ClientRow.resource == resource)

    def of_party(self, party: str) -> list[Client]:
        """Return all clients of a party, oldest first."""
        found = self._connection.execute(select(_TABLE).where(ClientRow.party == party).order_by(ClientRow.created_at))
        return [client_of(row) for row in found]

    def of_controller(self, controller: str) -> list[Client]:
        """Return all clients of a controller, suspended or not, oldest first."""
        query = select(_TABLE).where(ClientRow.controller == controller).order_by(ClientRow.created_at, ClientRow.id)
        return [client_of(row) for row in self._connection.execute(query)]

    def holders(self, controller: str) -> list[Client]:
        """Return the registered holders of a controller, oldest first: components that fulfil cases (dsar rule 40).

        A suspended one still has what it has: it is asked, and the case waits for it in sight of staff.
        """
        own = (ClientRow.controller == controller, ClientRow.resource.is_not(None))
        found = self._connection.execute(select(_TABLE).where(*own).order_by(ClientRow.created_at, ClientRow.id))
        return [client for client in map(client_of, found) if Scope.CASES_FULFIL in client.scopes]

    def suspend(self, client: str, at: datetime) -> bool:
        """Suspend a client; False when it is unknown or suspended already."""
        done = self._connection.execute(
            update(ClientRow).where(ClientRow.id == client, ClientRow.suspended_at.is_(None)).values(suspended_at=at)
        )
        return done.rowcount == 1

    def resume(self, client: str) -> bool:
        """End a suspension; False when there was none."""
        done = self._connection.execute(
            update(ClientRow)
            .where(ClientRow.id == client, ClientRow.suspended_at.is_not(None))
            .values(suspended_at=None)
        )
        return done.rowcount == 1

    def _one(self, where: ColumnElement[bool]) -> Client | None:
        row = self._connection.execute(select(_TABLE).where(where)).one_or_none()
        return None if row is None else client_of(row)


def client_of(row: Any) -> Client:
    """Return the client of a row of `oauth_clients`, however it was fetched."""
    return Client(
        id=row.id,
        controller=row.controller,
        party=row.party,
        name=row.name,
        jwks=row.jwks,
        scopes=parse(row.scopes),
        grants=frozenset(GrantType(word) for word in row.grants.split()),
        redirect_uris=tuple(row.redirect_uris),
        resource=row.resource,
        country=row.country,
        honours=frozenset(row.honours.split()),
        created_at=row.created_at,
        suspended_at=row.suspended_at,
    )

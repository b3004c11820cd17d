"""Repository of holders' signs of life."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from app.store.rows.holders import HolderHeartbeatRow
from consent.vocabulary import ComponentId, ControllerId


class SqlHolders:
    """Heartbeats within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def seen(self, component: ComponentId, controller: ControllerId, at: datetime) -> None:
        """Note that a component is alive; of two at once the later moment may lose, which is no matter."""
        dialect: Any = postgresql if self._session.get_bind().dialect.name == "postgresql" else sqlite
        row = dialect.insert(HolderHeartbeatRow).values(component=component, controller=controller, seen_at=at)
        told = {"controller": controller, "seen_at": at}
        self._session.execute(row.on_conflict_do_update(index_elements=["component"], set_=told))

    def last_seen(self, controller: ControllerId) -> Mapping[ComponentId, datetime]:
        """Return when each component of a controller was last heard of; one never heard of is missing."""
        query = select(HolderHeartbeatRow).where(HolderHeartbeatRow.controller == controller)
        rows = self._session.scalars(query.execution_options(populate_existing=True))
        return {ComponentId(row.component): row.seen_at for row in rows}

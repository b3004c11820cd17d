"""Repository of policy adoptions."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.store.rows.adoptions import PolicyAdoptionRow


class SqlAdoptions:
    """`consent.adoption.Adoptions` within the caller's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def latest(self) -> str | None:
        """Return the digest of the pack in force; None before the first."""
        return self._session.scalars(select(PolicyAdoptionRow.digest).order_by(PolicyAdoptionRow.id.desc())).first()

    def add(self, digest: str, version: str, entry: str, at: datetime) -> None:
        """Record that a pack is in force from now on."""
        self._session.add(PolicyAdoptionRow(digest=digest, version=version, entry=entry, adopted_at=at))
        self._session.flush()

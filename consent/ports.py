"""What the law needs from outside, as small typed Protocols; `app.wiring` hands in what fits them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from consent.vocabulary import ControllerId, SubjectRef

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]


class Clock(Protocol):
    """The time, always timezone-aware UTC."""

    def now(self) -> datetime: ...


class Ids(Protocol):
    """Fresh unguessable identifiers: `new("con")` -> `con_` + 26 base32 characters (128 random bits and more)."""

    def new(self, prefix: str) -> str: ...


class Journal(Protocol):
    """The ledger as a writer sees it: the entry commits with the unit of work or not at all."""

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str:
        """Append an entry and return its id. `kind` is `noun.past_participle`, e.g. `consent.given`.

        The payload is sealed under the subject's audit key (or the controller's, without a subject); it may name
        opaque ids and codes, never contact data.
        """
        ...


class Work(Protocol):
    """Durable follow-up work: committed with the unit of work, carried out at least once afterwards."""

    def enqueue(self, kind: str, ref: str, *, due: datetime | None = None) -> None:
        """`kind` is a workflow's registered name, `ref` an opaque id: nothing else may travel in job tables."""
        ...

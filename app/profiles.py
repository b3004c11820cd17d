"""Who a subject is: profiles sealed under the subject's own key, found again by blind index (vault.md sections 2, 4).

Joins the vault and the subjects' repository; leaves out sign-in and everything a person does once known.
An address is normalised before it is indexed, so that the same mailbox is found however it was typed.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from app.vault.core import Vault
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import Scope
from consent.ports import Clock, Ids
from consent.vocabulary import ControllerId, Locale, SubjectRef

HOUSE = "regard"
"""The holder of what Regard itself stores about a subject."""
CATEGORY = "identity"
EMAIL = "email"
"""The field of the blind index."""


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """What is known of a person themself; its `repr` shows nothing."""

    name: str
    email: str

    def __repr__(self) -> str:
        return "Profile(hidden)"


class SubjectFacts(Protocol):
    """A subject as stored."""

    @property
    def controller(self) -> ControllerId: ...
    @property
    def profile(self) -> bytes | None: ...


class IndexedContact(Protocol):
    """A contact point under a blind index."""

    @property
    def subject(self) -> SubjectRef: ...
    @property
    def index(self) -> bytes: ...


class SubjectRows(Protocol):
    """What the repository of subjects offers here."""

    def enrol(
        self, ref: SubjectRef, controller: ControllerId, *, locale: Locale, profile: bytes, index: bytes, at: datetime
    ) -> None: ...
    def get(self, ref: SubjectRef) -> SubjectFacts | None: ...
    def find(self, controller: ControllerId, kind: str, indexes: Sequence[bytes]) -> SubjectRef | None: ...
    def contacts_below(
        self, controller: ControllerId, kind: str, index: bytes, limit: int
    ) -> Sequence[IndexedContact]: ...
    def reindex(self, ref: SubjectRef, before: bytes, index: bytes | None) -> None: ...


class SubjectUnit(Protocol):
    """A unit of work that knows subjects."""

    @property
    def subjects(self) -> SubjectRows: ...
    def commit(self) -> None: ...


class Profiles:
    """Enrol a person, find them by address, read who they are."""

    def __init__(
        self, vault: Vault, clock: Clock, ids: Ids, unit: Callable[[], AbstractContextManager[SubjectUnit]]
    ) -> None:
        self._vault = vault
        self._clock = clock
        self._ids = ids
        self._unit = unit

    def enrol(self, controller: ControllerId, profile: Profile, locale: Locale) -> SubjectRef:
        """Make a subject with keys and a sealed profile, findable by e-mail; returns the reference.

        An address that is already a subject's of this controller returns that subject, unchanged.
        """
        return self.enrol_all(controller, [(profile, locale)])[0]

    def enrol_all(self, controller: ControllerId, people: Sequence[tuple[Profile, Locale]]) -> list[SubjectRef]:
        """Make many subjects, all or none of those that are new; returns their references in the same order."""
        known = [self.find_by_email(controller, profile.email) for profile, _ in people]
        refs = [ref or SubjectRef(self._ids.new("sub")) for ref in known]
        new = [(ref, *who) for ref, before, who in zip(refs, known, people, strict=True) if before is None]
        self._vault.create_subjects(controller, [ref for ref, _, _ in new])
        sealed = [
            (
                ref,
                locale,
                self._vault.seal(_scope(controller, ref), ref, _plain(profile)),
                self._index(controller, profile),
            )
            for ref, profile, locale in new
        ]
        with self._unit() as unit:
            for ref, locale, profile, index in sealed:
                at = self._clock.now()
                unit.subjects.enrol(ref, controller, locale=locale, profile=profile, index=index, at=at)
            unit.commit()
        return refs

    def _index(self, controller: ControllerId, profile: Profile) -> bytes:
        blind = self._vault.indexes.blind(controller, EMAIL, normalised(profile.email))
        return _stored(blind.epoch, blind.digest)

    def find_by_email(self, controller: ControllerId, email: str) -> SubjectRef | None:
        """Return whose address it is, trying every epoch of the index key."""
        found = self._vault.indexes.blinds(controller, EMAIL, normalised(email))
        with self._unit() as unit:
            return unit.subjects.find(controller, EMAIL, [_stored(index.epoch, index.digest) for index in found])

    def reindex(self, controller: ControllerId, limit: int) -> int:
        """Put up to `limit` addresses of earlier epochs under the newest index key; return how many there were.

        Each is read from its person's sealed profile; where that does not open any more, nobody is to be found. An
        address that the newest key already finds somebody else by is left as it is: two people cannot share one.
        """
        newest = self._vault.indexes.newest(controller, EMAIL).epoch
        with self._unit() as unit:
            some = unit.subjects.contacts_below(controller, EMAIL, newest.to_bytes(4, "big"), limit)
            for contact in some:
                self._reindex(unit.subjects, controller, contact)
            unit.commit()
        return len(some)

    def _reindex(self, rows: SubjectRows, controller: ControllerId, contact: IndexedContact) -> None:
        stored = rows.get(contact.subject)
        profile = opened(self._vault, contact.subject, stored) if stored is not None else None
        index = self._index(controller, profile) if profile is not None else None
        if index is None or rows.find(controller, EMAIL, [index]) is None:
            rows.reindex(contact.subject, contact.index, index)

    def profile(self, subject: SubjectRef) -> Profile | None:
        """Return who it is; None once the subject's keys are destroyed, or for nobody."""
        with self._unit() as unit:
            stored = unit.subjects.get(subject)
        return opened(self._vault, subject, stored) if stored is not None else None


def opened(vault: Vault, subject: SubjectRef, stored: SubjectFacts) -> Profile | None:
    """Return who a stored subject is, for whoever has read the row already; None once the keys are destroyed."""
    if stored.profile is None:
        return None
    try:
        plain = vault.open(_scope(stored.controller, subject), subject, stored.profile)
    except (Erased, UnknownKey, UnknownSubject):
        return None
    said = json.loads(plain)
    return Profile(name=said["name"], email=said["email"])


def normalised(email: str) -> str:
    """Return the address as it is compared: NFKC, trimmed, lower case."""
    return unicodedata.normalize("NFKC", email).strip().casefold()


def _scope(controller: ControllerId, ref: SubjectRef) -> Scope:
    return Scope(controller, ref, HOUSE, CATEGORY)


def _plain(profile: Profile) -> bytes:
    return json.dumps({"name": profile.name, "email": profile.email}, ensure_ascii=False).encode()


def _stored(epoch: int, digest: str) -> bytes:
    return epoch.to_bytes(4, "big") + bytes.fromhex(digest)

"""Writing the mail of a sign-in that was asked for (consent rules 30, 31).

The door asks for this work whether or not the address is somebody's, and opens nobody's profile itself: a key provider
that is away delays the mail and tells whoever typed an address nothing. The reference is `sign-in/language`, from the
second attempt on with its number. A kill between writing the mail and noting that may write it twice, with the same
link and code. Leaves out sending (`app.workflows.mail`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from app import letters
from app.vault.errors import KeyStoreUnavailable, ProviderUnavailable
from app.workflows.cases import Waits
from app.workflows.consents import MailQueue, Profiles
from app.workflows.durable import Handler, Steps
from consent.policy import Policy
from consent.ports import Clock, Work
from consent.vocabulary import ControllerId, Locale, SubjectRef

WRITE: Final = "sign-in.write"
_WAITS: Final = Waits(longest=timedelta(minutes=2))
_WAITING: Final = "waiting"
_NOTHING: Final = "nothing to do"
_DONE: Final = "done"


class PendingFacts(Protocol):
    """A sign-in that still opens something."""

    @property
    def subject(self) -> SubjectRef | None: ...
    @property
    def controller(self) -> ControllerId: ...
    @property
    def expires_at(self) -> datetime: ...


class SignIns(Protocol):
    """Sign-ins asked for."""

    def pending(self, ref: str, now: datetime) -> PendingFacts | None: ...


class SignInUnit(Protocol):
    """A unit of work that knows sign-ins."""

    @property
    def sign_ins(self) -> SignIns: ...
    @property
    def mail_queue(self) -> MailQueue: ...
    @property
    def work(self) -> Work: ...
    def commit(self) -> None: ...


class Places(Protocol):
    """What a sign-in is opened with, neither of which is stored."""

    def sign_in(self, ref: str, locale: Locale) -> str: ...
    def sign_in_code(self, ref: str) -> str: ...


@dataclass(frozen=True, slots=True)
class SignInMail:
    """Writes to whoever a sign-in is for, while it lasts."""

    reading: Callable[[], AbstractContextManager[SignInUnit]]
    unit: Callable[[], AbstractContextManager[SignInUnit]]
    policy: Policy
    clock: Clock
    profiles: Profiles
    places: Places

    def handlers(self) -> dict[str, Handler]:
        """Return the work this room carries out, by kind."""
        return {WRITE: self.write}

    def write(self, ref: str, steps: Steps) -> None:
        """Write the mail of `ref`, or see to the next attempt; nothing once the sign-in is over."""
        if steps.run("write", lambda: self._tried(ref)) == _WAITING:
            steps.run("again", lambda: self._again(ref))

    def _tried(self, ref: str) -> str:
        name, locale, *_attempt = ref.split("/")
        with self.reading() as unit:
            found = unit.sign_ins.pending(name, self.clock.now())
        try:
            return self._write(name, Locale(locale), found) if found is not None else _NOTHING
        except (ProviderUnavailable, KeyStoreUnavailable):
            return _WAITING

    def _write(self, ref: str, locale: Locale, found: PendingFacts) -> str:
        """Only to the address on file, never to one just typed (dsar rule 27).

        The profile is read before the unit begins: profiles have a unit of their own, and SQLite has one writer.
        """
        profile = self.profiles.profile(found.subject) if found.subject is not None else None
        if profile is None:
            return _NOTHING
        letter = self._letter(ref, locale, found)
        said = {"subject": letter.subject, "text": letter.text, "html": letter.html}
        with self.unit() as unit:
            unit.mail_queue.send(
                found.controller, to=profile.email, **said, kind=letter.kind, locale=letter.locale.value
            )
            unit.commit()
        return _DONE

    def _letter(self, ref: str, locale: Locale, found: PendingFacts) -> letters.Letter:
        opens = {"link": self.places.sign_in(ref, locale), "code": self.places.sign_in_code(ref)}
        firm = self.policy.controllers[found.controller]
        return letters.write("sign-in", firm, locale, **opens, until=found.expires_at)

    def _again(self, ref: str) -> str:
        name, locale, *number = ref.split("/")
        attempt = int(number[0]) + 1 if number else 2
        with self.unit() as unit:
            due = self.clock.now() + _WAITS.before(attempt)
            unit.work.enqueue(WRITE, f"{name}/{locale}/{attempt}", due=due)
            unit.commit()
        return _WAITING

"""Sending a queued mail, at least once, trying again for two days (operations.md section 3, rule 7).

Each attempt is a workflow of its own, the next one enqueued with a delay; its reference is the mail's id and, from the
second attempt on, `/` and the attempt's number. A mail that can never be sent is dropped and the ledger says so.
No unit of work is open while the mail service is spoken to: on SQLite every other writer would wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from app.workflows.cases import unless_changed
from app.workflows.durable import Handler, Steps
from consent.ports import Clock, Journal, Work
from consent.vocabulary import ControllerId

SEND = "mail.send"
_ENDED = "ended before"
_WAITS = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 240, 480, 960, 960))


class HandedOver(StrEnum):
    """What the mail service did with a mail."""

    SENT = "sent"
    REFUSED = "refused"
    LATER = "later"


_ENTRIES: Mapping[HandedOver, str] = {
    HandedOver.SENT: "mail.sent",
    HandedOver.REFUSED: "mail.refused",
    HandedOver.LATER: "mail.given_up",
}
"""What the ledger says of a mail's end."""
HandOver = Callable[[str, str, Mapping[str, str]], HandedOver]
"""(mail id, kind, what it says) -> what became of it. The same id twice is one mail."""


class Queue(Protocol):
    """The queued mails of one unit."""

    def waiting(self, mail: str) -> tuple[ControllerId, str, bytes] | None: ...
    def sent(self, mail: str) -> None: ...


class MailUnit(Protocol):
    """A unit of work that knows queued mail."""

    @property
    def mail_queue(self) -> Queue: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def work(self) -> Work: ...
    def commit(self) -> None: ...


Told = Callable[[MailUnit, str], None]
"""Told of a mail, in the unit that notes what became of it."""


class Postman:
    """Takes queued mails to the mailer."""

    def __init__(
        self,
        reading: Callable[[], AbstractContextManager[MailUnit]],
        unit: Callable[[], AbstractContextManager[MailUnit]],
        open_mail: Callable[[ControllerId, str, bytes], bytes],
        hand_over: HandOver,
        *,
        clock: Clock,
        sent: Told,
        lost: Told,
    ) -> None:
        """`sent` hears of a mail that was handed over, `lost` of one that never will be: refused, or given up."""
        self._reading = reading
        self._unit = unit
        self._open = open_mail
        self._hand_over = hand_over
        self._clock = clock
        self._sent = sent
        self._lost = lost

    def handlers(self) -> dict[str, Handler]:
        """Return the work this room carries out, by kind."""
        return {SEND: self.send}

    def send(self, ref: str, steps: Steps) -> None:
        """Send the mail of `ref`, or see to the next attempt; noting what became of it again sends nothing again."""
        outcome = steps.run("send", lambda: self._attempt(_mail_of(ref)))
        if outcome != _ENDED:
            steps.run("note", lambda: unless_changed(lambda: self._note(ref, HandedOver(str(outcome)))))

    def _attempt(self, mail: str) -> str:
        with self._reading() as unit:
            found = unit.mail_queue.waiting(mail)
        if found is None:
            return _ENDED
        controller, kind, sealed = found
        return self._hand_over(mail, kind, json.loads(self._open(controller, mail, sealed))).value

    def _note(self, ref: str, outcome: HandedOver) -> str:
        mail, number = _mail_of(ref), _number_of(ref)
        with self._unit() as unit:
            found = unit.mail_queue.waiting(mail)
            if found is None:
                return _ENDED
            if outcome is HandedOver.LATER and number <= len(_WAITS):
                unit.work.enqueue(SEND, f"{mail}/{number + 1}", due=self._clock.now() + _WAITS[number - 1])
            else:
                self._end(unit, mail, found[0], outcome)
            unit.commit()
        return outcome.value

    def _end(self, unit: MailUnit, mail: str, controller: ControllerId, outcome: HandedOver) -> None:
        unit.mail_queue.sent(mail)
        told = self._sent if outcome is HandedOver.SENT else self._lost
        told(unit, mail)
        unit.journal.record(
            _ENTRIES[outcome], actor="regard", controller=controller, subject=None, payload={"mail": mail}
        )


def _mail_of(ref: str) -> str:
    return ref.partition("/")[0]


def _number_of(ref: str) -> int:
    return int(ref.partition("/")[2] or 1)

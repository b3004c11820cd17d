"""A mailbox on this machine, for the demo and for tests: mails are files a page can show.

It keeps addresses and sign-in links in clear, which is why production refuses to start with it (operations.md
section 4). Files appear whole or not at all; the same key twice is one mail.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from app.outbound.errors import MailUnavailable
from app.outbound.mail import Message, Receipt

FORGOTTEN = "erased@regard.invalid"
"""Stands where the address of an erased person stood (RFC 2606)."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A mail in the outbox."""

    id: str
    at: datetime
    message: Message


class LocalOutbox:
    """Writes mails into a folder and reads them back."""

    def __init__(self, folder: Path, now: Callable[[], datetime]) -> None:
        self._folder = folder
        self._now = now

    def send(self, message: Message) -> Receipt:
        """Write the mail; the receipt's reference is its id in the outbox."""
        found = hashlib.sha256(message.key.encode()).hexdigest()[:24]
        data = {"at": self._now().isoformat(), "message": asdict(message)}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._file(found).exists():
                self._write(self._file(found), json.dumps(data, ensure_ascii=False).encode())
        except OSError as fault:
            raise MailUnavailable(f"the outbox cannot be written ({type(fault).__name__})") from None
        return Receipt("outbox", found)

    def _file(self, found: str) -> Path:
        return self._folder / f"{found}.json"

    def _write(self, target: Path, data: bytes) -> None:
        handle, draft = tempfile.mkstemp(dir=self._folder, suffix=".draft")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(draft).replace(target)

    def delivered(self) -> list[Delivered]:
        """Return all mails, newest first."""
        found = [_read(file) for file in self._folder.glob("*.json")]
        return sorted(found, key=lambda mail: (mail.at, mail.id), reverse=True)

    def read(self, mail_id: str) -> Delivered | None:
        """Return one mail; None for an id that is not in the outbox."""
        known = {file.stem: file for file in self._folder.glob("*.json")}
        return _read(known[mail_id]) if mail_id in known else None

    def forget(self, address: str, *, last: str | None = None) -> int:
        """Remove every mail to an address and return how many: an erasure reaches this machine's outbox too.

        `last`: the key of the mail that tells them so; it stays, without the address.
        """
        gone = [mail for mail in self.delivered() if mail.message.to.lower() == address.lower()]
        for mail in gone:
            if mail.message.key == last:
                data = {"at": mail.at.isoformat(), "message": asdict(replace(mail.message, to=FORGOTTEN))}
                self._write(self._file(mail.id), json.dumps(data, ensure_ascii=False).encode())
            else:
                self._file(mail.id).unlink()
        return len(gone)


def _read(file: Path) -> Delivered:
    data = json.loads(file.read_bytes())
    return Delivered(file.stem, datetime.fromisoformat(data["at"]), Message(**data["message"]))

"""The reference holder: a small data store that uses nothing of the project but the SDK (tokens.md section 6).

It keeps other people's records sealed in an SQLite file of its own, under keys it borrows for a minute at a time from
the authority. Who reads or stores presents a token; the gate asks the authority what it is worth at that moment; each
read is put on record before its answer leaves; requests of persons are answered from the database as it lies. Without
the authority nothing opens. Leaves out paging, accounts as a filter, and the push side of the holder protocol.

    python -m app.demo.safe --issuer http://localhost:8000 --client-id safe --key safe.pem --data var/safe --port 8101

    PUT  /records/{handle}/{category}/{record_id}?purpose=    store a JSON value or a PDF
    POST /records/{handle}/{category}?purpose=                store many
    GET  /records/{handle}/{category}?purpose=                read all of one category

`{handle}` is this holder's own handle of the person, which nobody else knows; the word `subject` in its place stands
for whoever the presented token is about.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sqlite3
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from flask import Flask, Response, jsonify, request
from regard_sdk import Authority, Change, Deny, Disclosures, Found, Gate, Holder, Permit, SdkError, Sealer, Task
from regard_sdk.gate import refusal_headers
from regard_sdk.keyfile import read_key
from regard_sdk.sealed import SealError

from app.demo.serving import ComponentError, NotAsAgreed, answer_errors, problem, serve

OF_THE_TOKEN: Final = "subject"  # noqa: S105 - a word of a path, no secret
MOST_BYTES: Final = 16 * 1024 * 1024
MOST_RECORDS: Final = 1000
JSON, PDF = "application/json", "application/pdf"
_HANDLE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CATEGORY = re.compile(r"[a-z][a-z0-9_.]{0,63}")
_RECORD = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS records (
  handle TEXT NOT NULL, category TEXT NOT NULL, record_id TEXT NOT NULL,
  purpose TEXT NOT NULL, consent TEXT NOT NULL, media_type TEXT NOT NULL,
  sealed BLOB NOT NULL, stored_at TEXT NOT NULL, keep_until TEXT,
  PRIMARY KEY (handle, purpose, category, record_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS restricted (handle TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_log = logging.getLogger("safe")


class Restricted(ComponentError):
    """The person's data is stored and nothing else may be done with it (GDPR art. 18, dsar rule 51)."""

    code = "restricted"
    status = 403


class Unreadable(ComponentError):
    """A stored record does not open as what it is filed under."""

    code = "record_unreadable"
    status = 500


@dataclass(frozen=True, slots=True)
class Item:
    """One record in clear, on its way in or out: bytes of a JSON value or of a PDF."""

    id: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """One record as it lies."""

    record_id: str
    media_type: str
    sealed: bytes


class Shelf:
    """The safe's own SQLite file; it has seen sealed bytes only. A connection a call, so threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as db:
            db.executescript(_TABLES)

    def put(self, permit: Permit, category: str, rows: Sequence[Row], now: datetime) -> None:
        """Store records, each replacing the one of the same name, all or none."""
        filed = (permit.subject, category, permit.purpose, permit.consent, now.isoformat(), _keep_until(permit))
        with self._open() as db:
            db.executemany(
                "INSERT OR REPLACE INTO records"
                " (handle, category, purpose, consent, stored_at, keep_until, record_id, media_type, sealed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(*filed, row.record_id, row.media_type, row.sealed) for row in rows],
            )

    def of(self, handle: str, category: str, purpose: str) -> list[Row]:
        """Return the records of one category, by their names; what was stored for another purpose stays shut."""
        query = "SELECT record_id, media_type, sealed FROM records WHERE handle = ? AND category = ? AND purpose = ?"
        with self._open() as db:
            return [Row(*row) for row in db.execute(query + " ORDER BY record_id", (handle, category, purpose))]

    def all_of(self, handle: str) -> list[Found]:
        """Return every record of a person, as it lies."""
        query = "SELECT category, record_id, sealed FROM records WHERE handle = ? ORDER BY category, record_id"
        with self._open() as db:
            return [Found(*row) for row in db.execute(query, (handle,))]

    def erase(self, handle: str, category: str) -> int:
        """Remove a category of a person; return how many records went."""
        with self._open() as db:
            return db.execute("DELETE FROM records WHERE handle = ? AND category = ?", (handle, category)).rowcount

    def replace(self, handle: str, change: Change) -> int:
        """Put a corrected record, sealed by the authority, in the place of the old one."""
        place = (change.sealed, handle, change.category, change.record_id)
        query = "UPDATE records SET sealed = ? WHERE handle = ? AND category = ? AND record_id = ?"
        with self._open() as db:
            return db.execute(query, place).rowcount

    def restrict(self, handle: str, *, on: bool) -> int:
        """Set or lift a restriction; return how many records it touches."""
        change = (
            "INSERT OR IGNORE INTO restricted (handle) VALUES (?)" if on else "DELETE FROM restricted WHERE handle = ?"
        )
        with self._open() as db:
            db.execute(change, (handle,))
            (count,) = db.execute("SELECT count(*) FROM records WHERE handle = ?", (handle,)).fetchone()
        return int(count)

    def restricted(self, handle: str) -> bool:
        """Return whether a person's data is to be stored and nothing else."""
        with self._open() as db:
            return db.execute("SELECT 1 FROM restricted WHERE handle = ?", (handle,)).fetchone() is not None

    def sweep(self, now: datetime) -> int:
        """Remove what might be kept until now and no longer; return how many records went."""
        with self._open() as db:
            return db.execute("DELETE FROM records WHERE keep_until <= ?", (now.isoformat(),)).rowcount

    def count(self) -> int:
        """Return how many records there are."""
        with self._open() as db:
            (count,) = db.execute("SELECT count(*) FROM records").fetchone()
        return int(count)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=10)) as db, db:
            # erased bytes are overwritten: the holder is told to delete, although they would no longer open
            db.execute("PRAGMA secure_delete = ON")
            yield db


def _keep_until(permit: Permit) -> str | None:
    """How long the reader's agreement lets the data live, where it sets a day."""
    said = permit.obligations.get("keep_until")
    return datetime.fromisoformat(said).isoformat() if isinstance(said, str) else None


class Safe:
    """The holder: gate, keys, journal of reads and holder protocol over one shelf."""

    def __init__(self, authority: Authority, base: str, folder: Path, *, lease_seconds: int = 60) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.authority = authority
        self.shelf = Shelf(folder / "safe.sqlite")
        self.gate = Gate(authority, base)
        self.sealer = Sealer(authority, lease_seconds=lease_seconds)
        self.disclosures = Disclosures(authority, folder / "reads.journal")
        self.holder = Holder(
            authority,
            folder / "answers",
            find=lambda task: self.shelf.all_of(task.subject),
            erase=lambda task, category: self.shelf.erase(task.subject, category),
            rectify=lambda task, change: self.shelf.replace(task.subject, change),
            restrict=self._restrict,
        )
        self.read = threading.Event()
        """Set when there is a read to report."""

    def keep(self, permit: Permit, category: str, items: Iterable[Item]) -> int:
        """Seal records and store them; return how many. Raises `SdkError` when no key was lent."""
        rows = [
            Row(item.id, item.media_type, self.sealer.seal(permit, category, item.id, item.content)) for item in items
        ]
        self.shelf.put(permit, category, rows, self.authority.clock())
        return len(rows)

    def open(self, permit: Permit, category: str) -> list[Item]:
        """Open a category; the read is on record, on disk, before anything is returned (consent rule 51)."""
        if self.shelf.restricted(permit.subject):
            raise Restricted
        rows = self.shelf.of(permit.subject, category, permit.purpose)
        try:
            items = [
                Item(row.record_id, row.media_type, self.sealer.open(permit, category, row.record_id, row.sealed))
                for row in rows
            ]
        except SealError:
            raise Unreadable from None
        self.disclosures.record(permit, len(items), categories=frozenset({category}))
        self.read.set()
        return items

    def round(self) -> None:
        """Report reads, answer what persons asked, let go of what is over. What fails is tried in the next round."""
        for act in (self.disclosures.flush, self.holder.work, lambda: self.shelf.sweep(self.authority.clock())):
            try:
                act()
            except SdkError as fault:
                _log.warning("round: %s", fault.code)

    def close(self) -> None:
        """Wipe the keys and close the journal; what was not reported is reported next time."""
        self.sealer.evict()
        self.disclosures.close()

    def _restrict(self, task: Task) -> int:
        if task.restricted:
            self.sealer.evict()  # whatever is opened next needs a fresh lease, which is refused now
        return self.shelf.restrict(task.subject, on=task.restricted)


class Rounds(threading.Thread):
    """Makes rounds every so many seconds, and at once after a read."""

    def __init__(self, safe: Safe, every: float) -> None:
        super().__init__(name="rounds", daemon=True)
        self._safe = safe
        self._every = every
        self._over = threading.Event()

    def run(self) -> None:
        """Go on until `stop`."""
        while not self._over.is_set():
            self._safe.read.clear()
            try:
                self._safe.round()
            except (sqlite3.Error, OSError) as fault:
                _log.error("round: %s", type(fault).__name__)  # its message may quote a path
            self._safe.read.wait(self._every)

    def stop(self) -> None:
        """End after the round that is under way."""
        self._over.set()
        self._safe.read.set()
        self.join()


def create_app(safe: Safe) -> Flask:
    """Return the safe's doors."""
    app = Flask("safe")
    app.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    answer_errors(app)

    @app.put("/records/<handle>/<category>/<record_id>")
    def put(handle: str, category: str, record_id: str) -> Response:
        """Store one record."""
        verdict = _admit(safe, handle, category)
        if isinstance(verdict, Deny):
            return _refused(verdict)
        return jsonify(stored=safe.keep(verdict, category, [_single(record_id)]))

    @app.post("/records/<handle>/<category>")
    def post(handle: str, category: str) -> Response:
        """Store many records of one category, all or none."""
        verdict = _admit(safe, handle, category)
        if isinstance(verdict, Deny):
            return _refused(verdict)
        return jsonify(stored=safe.keep(verdict, category, _many(request.get_json(silent=True))))

    @app.get("/records/<handle>/<category>")
    def get(handle: str, category: str) -> Response:
        """Hand over one category."""
        verdict = _admit(safe, handle, category)
        if isinstance(verdict, Deny):
            return _refused(verdict)
        answer = jsonify(records=[_shown(item) for item in safe.open(verdict, category)])
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @app.get("/health")
    def health() -> Response:
        """Say that the safe is there."""
        return jsonify(status="ok", records=safe.shelf.count(), reads_to_report=safe.disclosures.pending())

    return app


def _admit(safe: Safe, handle: str, category: str) -> Permit | Deny:
    """Ask the gate. A token allows reading and nothing else; that we may hold is decided when a key is asked for."""
    purpose = request.args.get("purpose", "")
    if not purpose or not _HANDLE.fullmatch(handle) or not _CATEGORY.fullmatch(category):
        raise NotAsAgreed
    whose = None if handle == OF_THE_TOKEN else handle
    return safe.gate.check(request, purpose, [category], "read", whose)


def _refused(deny: Deny) -> Response:
    return problem(deny.status, deny.reason.value, headers=refusal_headers(deny))


def _single(record_id: str) -> Item:
    return _item(record_id, request.mimetype, request.get_data())


def _many(body: object) -> list[Item]:
    """Read `{"records": [{"record_id", "content"} or {"record_id", "document"}]}`; a document is base64 of a PDF."""
    listed = body.get("records") if isinstance(body, dict) and body.keys() == {"records"} else None
    if not isinstance(listed, list) or not 1 <= len(listed) <= MOST_RECORDS:
        raise NotAsAgreed
    return [_listed(one) for one in listed]


def _listed(one: object) -> Item:
    match one:
        case {"record_id": str(name), "content": content, **rest} if not rest:
            return _item(name, JSON, json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode())
        case {"record_id": str(name), "document": str(text), **rest} if not rest:
            return _item(name, PDF, _decoded(text))
    raise NotAsAgreed


def _decoded(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise NotAsAgreed from None


def _item(name: str, media_type: str, content: bytes) -> Item:
    """Only what it says it is: a JSON value or a PDF."""
    if not _RECORD.fullmatch(name) or media_type not in (JSON, PDF):
        raise NotAsAgreed
    if media_type == PDF and not content.startswith(b"%PDF-"):
        raise NotAsAgreed
    if media_type == JSON:
        try:
            json.loads(content)
        except (ValueError, RecursionError):
            raise NotAsAgreed from None
    return Item(name, media_type, content)


def _shown(item: Item) -> Mapping[str, Any]:
    body = (
        {"document": b64encode(item.content).decode()}
        if item.media_type == PDF
        else {"content": json.loads(item.content)}
    )
    return {"record_id": item.id, "media_type": item.media_type, **body}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the safe until it is told to stop."""
    said = _arguments(arguments)
    base = said.resource or f"http://127.0.0.1:{said.port}"
    authority = Authority(said.issuer, said.client_id, read_key(said.key), resource=base)
    safe = Safe(authority, base, said.data, lease_seconds=said.lease_seconds)
    rounds = Rounds(safe, said.every)
    rounds.start()

    def closing_down() -> None:
        rounds.stop()
        safe.close()

    print(f"the safe listens on {base}", flush=True)
    serve(create_app(safe), said.host, said.port, closing_down)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    reader = argparse.ArgumentParser(prog="python -m app.demo.safe", description="The reference data holder.")
    reader.add_argument("--issuer", required=True, help="address of the authority")
    reader.add_argument("--client-id", required=True)
    reader.add_argument("--key", required=True, type=Path, help="its registered key, a PEM file of mode 0600")
    reader.add_argument("--data", required=True, type=Path, help="a folder of its own")
    reader.add_argument("--host", default="127.0.0.1")
    reader.add_argument("--port", required=True, type=int)
    reader.add_argument("--resource", help="its registered address; http://127.0.0.1:PORT if not said")
    reader.add_argument("--lease-seconds", type=int, default=60, help="how long keys are borrowed, 1 to 60")
    reader.add_argument("--every", type=float, default=1.0, help="seconds between rounds: reports and tasks")
    return reader.parse_args(arguments)


if __name__ == "__main__":
    main()

"""What the reference collector finds at "the bank": the generated records of one person, as a file for a connection.

Written beforehand, by the demo or a test; the collector itself knows nothing of generated people.
"""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from app.demo.generator import Json, Record, Subject, records


def connection_of(subject: Subject) -> str:
    """Return the name of a person's connection."""
    return f"bank_{subject.number:04}"


def write_connection(folder: Path, subject: Subject) -> str:
    """Write all records of a person and return the name of the connection; the file is its owner's alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = connection_of(subject)
    file = folder / f"{name}.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps({"records": [_plain(record) for record in records(subject)]}, ensure_ascii=False))
    return name


def _plain(record: Record) -> dict[str, Json]:
    said: dict[str, Json] = {"category": record.category, "record_id": record.id}
    if isinstance(record.content, bytes):
        return {**said, "document": b64encode(record.content).decode()}
    return {**said, "content": record.content}

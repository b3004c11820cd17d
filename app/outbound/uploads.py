"""What holders send for a task: sealed bytes in, the records of a copy out (dsar rules 39, 40).

Nothing is opened when it comes in; it rests as it came. Leaves out the files of a copy (`app.outbound.package`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from app.vault.keys import Scope
from consent.vocabulary import CategoryId, ComponentId, ControllerId, SubjectRef
from dsar.errors import PackageIncomplete
from dsar.package import AML_REASON, HolderAnswer, shown_status
from dsar.vocabulary import HolderStatus, TaskId

UPLOADS: Final = "case.uploads"

Value = None | bool | int | float | str | Sequence["Value"] | Mapping[str, "Value"]
Record = Mapping[str, Value]
"""One thing a holder has: field name -> value."""
Upload = Mapping[CategoryId, Sequence[Record]]
"""What one holder uploads for one task."""


class UploadRefused(ValueError):
    """A holder's upload is not what it says; nothing of it was used."""

    code = "upload_refused"


class Vault(Protocol):
    """What seals and opens."""

    def seal(self, scope: Scope, record_id: str, plaintext: bytes) -> bytes: ...
    def open(self, scope: Scope, record_id: str, record: bytes) -> bytes: ...


class Files(Protocol):
    """Where sealed bytes rest."""

    def write(self, name: str, sealed: bytes) -> None: ...
    def read(self, name: str) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Whose:
    """The person a copy is about."""

    controller: ControllerId
    subject: SubjectRef


class Uploads:
    """What holders sent, sealed under the subject's key for the holder and the task."""

    def __init__(self, vault: Vault, files: Files) -> None:
        self._vault = vault
        self._files = files

    def take(self, task: TaskId, sealed: bytes) -> str:
        """Keep an upload; returns the lower-case hex SHA-256 of the sealed bytes, for the holder's answer."""
        self._files.write(task, sealed)
        return hashlib.sha256(sealed).hexdigest()

    def read(self, whose: Whose, task: TaskId, answer: HolderAnswer) -> Upload:
        """Open the upload an answer names. Raises UploadRefused: another digest, another shape, another count.

        Raises what the vault and the files raise.
        """
        sealed = self._files.read(task)
        if hashlib.sha256(sealed).hexdigest() != answer.digest:
            raise UploadRefused("not the upload the answer names")
        upload = _parsed(self._vault.open(upload_scope(whose, answer.holder), task, sealed))
        said = {one.category: one.count for one in answer.categories if one.status in _UPLOADED}
        if said != {category: len(records) for category, records in upload.items()}:
            raise UploadRefused("not the categories and counts the answer names")
        return upload


_UPLOADED = frozenset({HolderStatus.FOUND, HolderStatus.PARTIAL, HolderStatus.RETAINED})


def upload_scope(whose: Whose, holder: ComponentId) -> Scope:
    """Return under which key a holder seals an upload; the record's id is the task's."""
    return Scope(whose.controller, whose.subject, holder, UPLOADS)


def _parsed(plain: bytes) -> Upload:
    try:
        said = json.loads(plain)
    except ValueError:
        raise UploadRefused("not JSON") from None
    if not isinstance(said, dict) or not all(_is_records(records) for records in said.values()):
        raise UploadRefused("not category -> list of records")
    return {CategoryId(category): records for category, records in said.items()}


def _is_records(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def gather(uploads: Uploads, whose: Whose, answered: Mapping[TaskId, HolderAnswer]) -> Mapping[ComponentId, Upload]:
    """Return what every holder uploaded; one that found something and uploaded nothing makes it incomplete (rule 40).

    Raises PackageIncomplete, UploadRefused.
    """
    bare = [f"holder {one.holder}: no upload" for one in answered.values() if _owes(one) and one.digest is None]
    if bare:
        raise PackageIncomplete(bare)
    return {one.holder: uploads.read(whose, task, one) for task, one in answered.items() if one.digest is not None}


def _owes(answer: HolderAnswer) -> bool:
    results = [one for one in answer.categories if one.reason != AML_REASON]
    return shown_status(answer) in _UPLOADED and any(one.status in _UPLOADED and one.count for one in results)

"""What holders send for a task: sealed records in, the records of a copy out (dsar rules 39, 40, 42).

An upload is its parts (`app.sdk.parts`): records as they lie in the holder's database, sealed under the keys of the
party that runs it, named by that party's own handle of the person. Nothing is opened when it comes in; it rests as it
came, and dies with the subject's keys (rule 53). A record is a JSON object; any other plaintext is a document and
becomes a file of its own. Leaves out the files of a copy (`app.outbound.package`) and the door (`app.http.api.holder`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from app.sdk import parts
from app.sdk.errors import Malformed
from app.sdk.sealed import SealError
from app.vault.errors import UnknownKey
from app.vault.keys import Scope
from consent.vocabulary import CategoryId, ComponentId, ControllerId, SubjectRef
from dsar.errors import PackageIncomplete
from dsar.package import AML_REASON, HolderAnswer, shown_status
from dsar.vocabulary import HolderStatus, TaskId

_KINDS: Final = (
    (b"%PDF-", "application/pdf", "pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png", "png"),
    (b"\xff\xd8\xff", "image/jpeg", "jpg"),
    (b"II*\x00", "image/tiff", "tif"),
    (b"MM\x00*", "image/tiff", "tif"),
)
"""How a document begins, what it is, how its file ends."""


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A record that is no JSON object; `repr` shows nothing of it."""

    media_type: str
    ending: str
    content: bytes

    def __repr__(self) -> str:
        return "Document(hidden)"


Value = None | bool | int | float | str | Document | Sequence["Value"] | Mapping[str, "Value"]
Record = Mapping[str, Value]
"""One thing a holder has: field name -> value. A document is `{"record_id": ..., "file": Document}`."""
Upload = Mapping[CategoryId, Sequence[Record]]
"""What one holder uploads for one task."""
File = tuple[str, str, bytes]
"""A file of a copy: name, media type, content."""


class UploadRefused(ValueError):
    """A holder's upload is not what it says; nothing of it was used."""

    code = "upload_refused"


class Vault(Protocol):
    """What seals and opens."""

    def seal(self, scope: Scope, record_id: str, plaintext: bytes, *, handle: str | None = None) -> bytes: ...
    def open(self, scope: Scope, record_id: str, record: bytes, *, handle: str | None = None) -> bytes: ...
    def open_all(
        self, scope: Scope, records: Sequence[tuple[str, bytes]], *, handle: str | None = None
    ) -> list[bytes]: ...


class Files(Protocol):
    """Where sealed bytes rest."""

    def write(self, name: str, sealed: bytes) -> None: ...
    def read(self, name: str) -> bytes: ...
    def write_part(self, name: str, number: int, sealed: bytes) -> None: ...
    def read_part(self, name: str, number: int) -> bytes: ...
    def parts(self, name: str) -> int: ...
    def keep_parts(self, name: str, count: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Whose:
    """The person a copy is about."""

    controller: ControllerId
    subject: SubjectRef


@dataclass(frozen=True, slots=True)
class Named:
    """The party that runs a holder, under whose name its keys are kept, and what it calls the person.

    `handle` is None for the house, which calls them by their reference.
    """

    party: str
    handle: str | None


Naming = Callable[[Whose, ComponentId], Named]
"""Raises `LookupError` for a holder that is nobody's, or has no name for the person."""
_UPLOADED: Final = frozenset({HolderStatus.FOUND, HolderStatus.PARTIAL, HolderStatus.RETAINED})


class Uploads:
    """What holders sent, as it came; opened to make a copy of it."""

    def __init__(self, vault: Vault, files: Files, named: Naming) -> None:
        self._vault = vault
        self._files = files
        self._named = named

    def keep(self, whose: Whose, task: TaskId, holder: ComponentId, upload: Upload) -> str | None:
        """Seal and keep what the house itself has, as a holder would; return the digest for its answer.

        None when there is nothing: then no part is kept either.
        """
        named = self._named(whose, holder)
        sealed = [
            parts.Found(category, f"{task}.{number}", self._sealed(whose, named, category, f"{task}.{number}", record))
            for category, records in upload.items()
            for number, record in enumerate(records, start=1)
        ]
        digest, count = hashlib.sha256(), 0
        for count, part in enumerate(parts.cut(sealed), start=1):
            self._files.write_part(task, count, part)
            digest.update(part)
        self._files.keep_parts(task, count)
        return digest.hexdigest() if count else None

    def _sealed(self, whose: Whose, named: Named, category: str, record_id: str, record: Record) -> bytes:
        scope = Scope(whose.controller, whose.subject, named.party, category)
        plain = json.dumps(record, ensure_ascii=False).encode()
        return self._vault.seal(scope, record_id, plain, handle=named.handle)

    def read(self, whose: Whose, task: TaskId, answer: HolderAnswer) -> Upload:
        """Open the upload an answer names. Raises UploadRefused: another digest, shape, count, or a foreign record.

        Raises what the vault raises, `Erased` among it, and LookupError for a holder that has no name for the person.
        What is excluded for anti-money-laundering duties stays out, sent or not (dsar rule 42).
        """
        hidden = {one.category for one in answer.categories if one.reason == AML_REASON}
        found = {name: records for name, records in self._records(task, answer).items() if name not in hidden}
        held = [one for one in answer.categories if one.status in _UPLOADED and one.category not in hidden]
        said = {one.category: one.count for one in held if one.count}
        if said != {category: len(records) for category, records in found.items()}:
            raise UploadRefused("not the categories and counts the answer names")
        named = self._named(whose, answer.holder)
        return {category: self._opened(whose, named, category, records) for category, records in found.items()}

    def _records(self, task: TaskId, answer: HolderAnswer) -> Mapping[CategoryId, Sequence[parts.Found]]:
        digest = hashlib.sha256()
        found: dict[CategoryId, list[parts.Found]] = {}
        for part in self._parts(task):
            digest.update(part)
            for one in _lines(part):
                found.setdefault(CategoryId(one.category), []).append(one)
        if digest.hexdigest() != answer.digest:
            raise UploadRefused("not the upload the answer names")
        return found

    def _parts(self, task: TaskId) -> Iterator[bytes]:
        for number in range(1, self._files.parts(task) + 1):
            yield self._files.read_part(task, number)

    def _opened(
        self, whose: Whose, named: Named, category: CategoryId, records: Sequence[parts.Found]
    ) -> Sequence[Record]:
        scope = Scope(whose.controller, whose.subject, named.party, category)
        sealed = [(one.record_id, one.sealed) for one in records]
        try:
            plain = self._vault.open_all(scope, sealed, handle=named.handle)
        except (UnknownKey, SealError):
            # another person's, another party's or another category's record: the copy is of this person alone
            raise UploadRefused("a record is not this person's in this category") from None
        return [_record(one.record_id, opened) for one, opened in zip(records, plain, strict=True)]


def _lines(part: bytes) -> list[parts.Found]:
    try:
        return parts.read(part)
    except Malformed:
        raise UploadRefused("not sealed records, one a line") from None


def _record(record_id: str, plain: bytes) -> Record:
    """A JSON object is a record; everything else is a document (GDPR art. 15(3): a copy of it; dsar rule 39)."""
    try:
        said = json.loads(plain, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return {"record_id": record_id, "file": _document(plain)}
    if isinstance(said, dict):
        return said
    return {"record_id": record_id, "file": Document("application/json", "json", plain)}


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and the infinities are not JSON")


def _document(plain: bytes) -> Document:
    for beginning, media_type, ending in _KINDS:
        if plain.startswith(beginning):
            return Document(media_type, ending, plain)
    try:
        plain.decode()
    except UnicodeDecodeError:
        return Document("application/octet-stream", "bin", plain)
    return Document("text/plain", "txt", plain)


def with_files(data: Mapping[ComponentId, Upload]) -> tuple[Mapping[ComponentId, Upload], Sequence[File]]:
    """Return the data with every document replaced by the name of its file, and those files.

    Files are named by number and category: no holder can name a file outside the archive.
    """
    files: list[File] = []

    def placed(category: CategoryId, value: Value) -> Value:
        if not isinstance(value, Document):
            return value
        slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in category)
        name = f"documents/{len(files) + 1:04d}-{slug}.{value.ending}"
        files.append((name, value.media_type, value.content))
        return name

    told = {
        holder: {
            category: [{name: placed(category, value) for name, value in one.items()} for one in records]
            for category, records in data[holder].items()
        }
        for holder in sorted(data)
    }
    return told, files


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

"""Evidence bundles: what an auditor is handed, and the checking of it without the service (ledger.md).

A bundle holds ledger entries, one joint Merkle proof, the signed checkpoint they belong to and a signed list of what
was put in. The list is what lets the examiner *name* an edit, a removal, an insertion, a reordering or a truncation
instead of only seeing that some hash is off. The file has exactly one spelling (the canonical one), so no byte of it
can change unseen. An entry may carry its payload opened, whole or some fields of it (`payloads`). Leaves out opening
the sealed ones: that takes audit keys, and the proofs hold without them (GDPR art. 17 and the ledger do not fight: an
erased payload leaves its leaf valid). The format: docs/formats/ledger.md.
"""

from __future__ import annotations

import binascii
import gc
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from operator import itemgetter
from typing import Any

from .errors import SdkError
from .merkle import HASH_BYTES, ProofError, leaf_hash, root_of_some
from .notes import Checkpoint, Note, NoteError, Verifier, parse_checkpoint, parse_note, strict_base64
from .payloads import Field, PayloadError, fits

FORMAT = "regard-evidence/v1"
ENVELOPE_VERSION = 1
_SAFE_INTEGER = 2**53 - 1
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_LISTED = re.compile(r"(0|[1-9][0-9]{0,18}) ([A-Za-z0-9+/=]{44}) (sealed|bare|opened)")
_quoted = json.encoder.encode_basestring
_SPELLED = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
_BUNDLE_TYPES: Mapping[str, type] = {
    "checkpoint": str,
    "entries": list,
    "format": str,
    "key": str,
    "list": str,
    "proof": list,
}
_ENVELOPE_FIELDS = ("actor", "at", "controller", "digest", "id", "key", "kind", "seq", "v")
_ENVELOPE_TYPES = (str, str, str, str, str, str, str, int, int)
_taken = itemgetter(*_ENVELOPE_FIELDS)


class EvidenceError(SdkError):
    """Bytes that are not what they should be; `code` says what."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


def canonical(value: object) -> bytes:
    """Return the one spelling of a JSON value that is hashed: RFC 8785 held to strings, integers, booleans and null.

    Raises EvidenceError `evidence.not_canonical` for a float, an integer beyond 2**53, a key that is not ASCII text or
    text that UTF-8 cannot carry: there the standards' spellings part.
    """
    _check_plain(value)
    try:
        return _SPELLED.encode(value).encode()
    except UnicodeEncodeError as fault:
        raise EvidenceError("evidence.not_canonical", "text with half a surrogate pair") from fault


def _check_plain(value: object) -> None:
    if value is None or isinstance(value, (str, bool)):
        return
    if isinstance(value, int) and abs(value) <= _SAFE_INTEGER:
        return
    items: Iterable[object]
    if isinstance(value, dict) and all(map(_is_plain_key, value)):
        items = value.values()
    elif isinstance(value, (list, tuple)):
        items = value
    else:
        raise EvidenceError("evidence.not_canonical", f"a {type(value).__name__} has no canonical spelling here")
    for item in items:
        if type(item) is not str:  # most are: spares a call each on a bundle of a hundred thousand entries
            _check_plain(item)


def _is_plain_key(key: object) -> bool:
    return isinstance(key, str) and key.isascii()


def parse_canonical(data: bytes) -> Any:
    """Read canonical JSON and nothing else. Raises EvidenceError `evidence.json`, `evidence.not_canonical`."""
    try:
        value = json.loads(data)
        spelled = canonical(value)
    except (ValueError, RecursionError) as fault:
        raise EvidenceError("evidence.json", "not JSON in UTF-8") from fault
    if spelled != data:
        raise EvidenceError("evidence.not_canonical", "not in the canonical spelling")
    return value


def instant_text(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with six decimals, the only form envelopes carry."""
    if moment.tzinfo is None:
        raise EvidenceError("evidence.instant", "a moment without a time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@dataclass(frozen=True, slots=True)
class Envelope:
    """What one leaf says in clear: opaque handles, a kind, a moment, and the digest of the sealed payload."""

    sequence: int
    """Position in the tree, from 0; known when the entry is integrated, which is when the leaf is made."""
    id: str
    at: str
    kind: str
    actor: str
    controller: str
    key_id: str
    """Opaque id of the audit key the payload is sealed under."""
    digest: bytes
    """SHA-256 of the sealed payload: of ciphertext, never of personal data."""

    def data(self) -> dict[str, str | int]:
        return {
            "actor": self.actor,
            "at": self.at,
            "controller": self.controller,
            "digest": _base64(self.digest),
            "id": self.id,
            "key": self.key_id,
            "kind": self.kind,
            "seq": self.sequence,
            "v": ENVELOPE_VERSION,
        }

    def text(self) -> str:
        """Return what `canonical(self.data())` spells; by hand, because every leaf made and every leaf checked asks."""
        return (
            f'{{"actor":{_quoted(self.actor)},"at":{_quoted(self.at)},"controller":{_quoted(self.controller)},'
            f'"digest":"{_base64(self.digest)}","id":{_quoted(self.id)},"key":{_quoted(self.key_id)},'
            f'"kind":{_quoted(self.kind)},"seq":{self.sequence},"v":{ENVELOPE_VERSION}}}'
        )

    def leaf_hash(self) -> bytes:
        """Return SHA-256(0x00 || canonical envelope)."""
        return leaf_hash(self.text().encode())

    @classmethod
    def read(cls, data: object) -> Envelope:
        """Read an envelope's JSON. Raises EvidenceError `evidence.envelope`, `evidence.base64`.

        Base64 is read as such; that it is the one spelling is for the reader of the whole text to compare.
        """
        if not isinstance(data, dict) or len(data) != len(_ENVELOPE_FIELDS):
            raise EvidenceError("evidence.envelope", "an envelope has not its fields")
        try:
            values = _taken(data)
        except KeyError as fault:
            raise EvidenceError("evidence.envelope", "an envelope has not its fields") from fault
        if tuple(map(type, values)) != _ENVELOPE_TYPES:
            raise EvidenceError("evidence.envelope", "a field of an envelope has another type")
        actor, at, controller, coded, entry_id, key, kind, sequence, version = values
        if version != ENVELOPE_VERSION or sequence < 0 or not _INSTANT.fullmatch(at):
            raise EvidenceError("evidence.envelope", "an envelope's version, position or moment is not known")
        digest = _raw(coded)
        if len(digest) != HASH_BYTES:
            raise EvidenceError("evidence.envelope", "an envelope's digest is not 32 bytes")
        return cls(sequence, entry_id, at, kind, actor, controller, key, digest)


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _raw(text: object) -> bytes:
    """Decode base64 whose spelling is compared elsewhere: twice as fast, and there may be a hundred thousand."""
    if not isinstance(text, str):
        raise EvidenceError("evidence.base64", "base64 text is expected")
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as fault:
        raise EvidenceError("evidence.base64", "base64 text is expected") from fault


def _bytes_of(text: object) -> bytes:
    if not isinstance(text, str):
        raise EvidenceError("evidence.base64", "base64 text is expected")
    try:
        return strict_base64(text)
    except NoteError as fault:
        raise EvidenceError("evidence.base64", "base64 text is expected") from fault


@dataclass(frozen=True, slots=True)
class Entry:
    """An envelope with its sealed payload, or without where the payload is no longer kept; perhaps opened as well."""

    envelope: Envelope
    sealed: bytes | None
    opened: tuple[Field, ...] | None = None

    @property
    def form(self) -> Form:
        if self.sealed is None:
            return Form.BARE
        return Form.SEALED if self.opened is None else Form.OPENED


class Form(StrEnum):
    """In which form a bundle shows an entry's payload."""

    BARE = "bare"
    SEALED = "sealed"
    OPENED = "opened"


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the signed list."""

    sequence: int
    leaf: bytes
    form: Form


@dataclass(frozen=True, slots=True)
class Manifest:
    """The signed list: which entries the ledger put into this bundle, under which checkpoint, for which question."""

    checkpoint_digest: bytes
    selection: Mapping[str, Any]
    made_at: str
    lines: tuple[Listed, ...]

    def body(self) -> str:
        head = [
            FORMAT,
            _base64(self.checkpoint_digest),
            canonical(dict(self.selection)).decode(),
            self.made_at,
            str(len(self.lines)),
        ]
        lines = [f"{line.sequence} {_base64(line.leaf)} {line.form.value}" for line in self.lines]
        return "\n".join([*head, *lines]) + "\n"

    @classmethod
    def read(cls, body: str) -> Manifest:
        """Read a signed list's text. Raises EvidenceError `evidence.list`."""
        lines = body.split("\n")[:-1]
        if len(lines) < 5 or lines[0] != FORMAT or lines[4] != str(len(lines) - 5):
            raise EvidenceError("evidence.list", "the signed list's head does not fit it")
        selection = parse_canonical(lines[2].encode())
        if not isinstance(selection, dict) or not _INSTANT.fullmatch(lines[3]):
            raise EvidenceError("evidence.list", "the signed list's question or moment is malformed")
        return cls(_bytes_of(lines[1]), selection, lines[3], tuple(_listed(line) for line in lines[5:]))


def _listed(line: str) -> Listed:
    found = _LISTED.fullmatch(line)
    if not found:
        raise EvidenceError("evidence.list", "a line of the signed list is malformed")
    return Listed(int(found[1]), _bytes_of(found[2]), Form(found[3]))


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as it stands in its file; `checkpoint` and `manifest` are signed notes, `key` a verifier key."""

    key: str
    checkpoint: str
    manifest: str
    proof: tuple[bytes, ...]
    entries: tuple[Entry, ...]


def write_bundle(bundle: Bundle) -> bytes:
    """Write the file: canonical JSON and one line feed. Raises EvidenceError `evidence.not_canonical`."""
    try:
        entries = ",".join(map(_entry_text, bundle.entries))
        return (
            f'{{"checkpoint":{_quoted(bundle.checkpoint)},"entries":[{entries}],"format":{_quoted(FORMAT)},'
            f'"key":{_quoted(bundle.key)},"list":{_quoted(bundle.manifest)},'
            f'"proof":[{",".join(_quoted(_base64(item)) for item in bundle.proof)}]}}\n'
        ).encode()
    except UnicodeEncodeError as fault:
        raise EvidenceError("evidence.not_canonical", "text with half a surrogate pair") from fault


def _entry_text(entry: Entry) -> str:
    sealed = "null" if entry.sealed is None else f'"{_base64(entry.sealed)}"'
    opened = "" if entry.opened is None else f'"opened":{_SPELLED.encode([one.data() for one in entry.opened])},'
    return f'{{"envelope":{entry.envelope.text()},{opened}"sealed":{sealed}}}'


def read_bundle(data: bytes) -> Bundle:
    """Read a file's shape, checking no signature and no hash: `verify_bundle` does. Raises EvidenceError."""
    if not data.endswith(b"}\n"):
        raise EvidenceError("evidence.cut", "the file does not end as a bundle ends")
    try:
        bundle = _bundle(json.loads(data))
    except (ValueError, RecursionError) as fault:
        raise EvidenceError("evidence.json", "not JSON in UTF-8") from fault
    # One file, one spelling: what was read must be, byte for byte, what would be written.
    if write_bundle(bundle) != data:
        raise EvidenceError("evidence.not_canonical", "not in the canonical spelling")
    return bundle


def _bundle(value: object) -> Bundle:
    if not isinstance(value, dict) or {name: type(part) for name, part in value.items()} != _BUNDLE_TYPES:
        raise EvidenceError("evidence.format", f"not a {FORMAT} file")
    return Bundle(
        key=value["key"],
        checkpoint=value["checkpoint"],
        manifest=value["list"],
        proof=tuple(_bytes_of(item) for item in value["proof"]),
        entries=tuple(_entry(item) for item in value["entries"]),
    )


def _entry(item: object) -> Entry:
    if not isinstance(item, dict) or item.keys() - {"opened"} != {"envelope", "sealed"}:
        raise EvidenceError("evidence.entry", "an entry is not an envelope and a sealed payload")
    sealed = None if item["sealed"] is None else _raw(item["sealed"])
    return Entry(Envelope.read(item["envelope"]), sealed, _opened(item["opened"], sealed) if "opened" in item else None)


def _opened(data: object, sealed: bytes | None) -> tuple[Field, ...]:
    if not isinstance(data, list) or sealed is None:
        raise EvidenceError("evidence.entry", "an opened payload is a list of fields beside the sealed payload")
    try:
        return tuple(Field.read(item) for item in data)
    except PayloadError as fault:
        raise EvidenceError("evidence.entry", str(fault)) from fault


class Finding(StrEnum):
    """What can be wrong with a bundle."""

    MALFORMED = "malformed"
    WRONG_KEY = "wrong_key"
    CHECKPOINT_EDITED = "checkpoint_edited"
    LIST_EDITED = "list_edited"
    PROOF_EDITED = "proof_edited"
    EDITED = "edited"
    REMOVED = "removed"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: what, at which positions of the ledger, and a sentence."""

    finding: Finding
    sequences: tuple[int, ...]
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of an examination; of a bundle with faults, `entries` is shown but proves nothing."""

    faults: tuple[Fault, ...]
    authenticated: bool
    """True when the caller brought the public key; False when only the key inside the file could be used."""
    checkpoint: Checkpoint | None = None
    selection: Mapping[str, Any] = field(default_factory=dict)
    made_at: str = ""
    entries: tuple[Entry, ...] = ()
    witnesses: Mapping[str, int] = field(default_factory=dict)
    """Witness name -> Unix second of its cosignature, for the witness keys the caller brought."""

    @property
    def ok(self) -> bool:
        return not self.faults


def verify_bundle(data: bytes, public_key: str | None, *, witnesses: Sequence[str] = ()) -> Report:
    """Examine a bundle offline and name everything wrong with it.

    `public_key` and `witnesses` are verifier keys (`name+id+base64`). Without `public_key` the one inside the file is
    used, and the report says so: that finds damage, not forgery. Raises NoteError `note.key` for a key of the caller's
    that cannot be read; everything about the file itself is reported, never raised.
    """
    given = None if public_key is None else Verifier.parse(public_key)
    watching = [Verifier.parse(text) for text in witnesses]
    with _collector_at_rest():
        try:
            bundle = read_bundle(data)
        except EvidenceError as fault:
            finding = Finding.TRUNCATED if fault.code == "evidence.cut" else Finding.MALFORMED
            return Report((Fault(finding, (), str(fault)),), given is not None)
        return _Examination(bundle, given, watching).report()


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """A bundle has no cycles: searching its million objects for some again and again took a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Examination:
    """One bundle on the table; every step adds what it finds."""

    def __init__(self, bundle: Bundle, given: Verifier | None, witnesses: Sequence[Verifier]) -> None:
        self._bundle = bundle
        self._given = given
        self._watching = witnesses
        self._faults: list[Fault] = []
        self._seen: dict[str, int] = {}

    def report(self) -> Report:
        verifier = self._key()
        checkpoint = self._checkpoint(verifier) if verifier else None
        manifest = self._manifest(verifier) if verifier else None
        if manifest:
            self._entries(manifest)
        if manifest and checkpoint:
            self._tree(manifest, checkpoint)
        return Report(
            tuple(self._faults),
            self._given is not None,
            checkpoint,
            manifest.selection if manifest else {},
            manifest.made_at if manifest else "",
            self._bundle.entries,
            self._seen,
        )

    def _add(self, finding: Finding, sentence: str, sequences: Sequence[int] = ()) -> None:
        self._faults.append(Fault(finding, tuple(sequences), sentence))

    def _key(self) -> Verifier | None:
        try:
            inside = Verifier.parse(self._bundle.key)
        except NoteError as fault:
            self._add(Finding.WRONG_KEY, f"the key named in the file: {fault}")
            return self._given
        if self._given is None or inside == self._given:
            return inside
        self._add(Finding.WRONG_KEY, self._another())
        # what another key signed was not edited for that: what was, is found with the key that did sign
        return inside if _signs(inside, self._bundle.manifest) else self._given

    def _another(self) -> str:
        """Say how the key in the file and the caller's differ: both sign a checkpoint while one follows the other."""
        if self._given is not None and _signs(self._given, self._bundle.checkpoint):
            return (
                "the file names another key than the one given, which signed the checkpoint too: the ledger's key was "
                "changed, and the present one is needed"
            )
        return (
            "the file names another key than the one given: that of another ledger, "
            "or of this one before or after a change of its key"
        )

    def _signed(self, text: str, verifier: Verifier, finding: Finding) -> Note | None:
        try:
            note = parse_note(text)
            verifier.check(note)
        except NoteError as fault:
            self._add(finding, str(fault))
            return None
        return note

    def _checkpoint(self, verifier: Verifier) -> Checkpoint | None:
        note = self._signed(self._bundle.checkpoint, verifier, Finding.CHECKPOINT_EDITED)
        if note is None:
            return None
        try:
            checkpoint = parse_checkpoint(note)
            self._seen = {w.name: time for w in self._watching if (time := w.check(note)) is not None}
        except NoteError as fault:
            self._add(Finding.CHECKPOINT_EDITED, str(fault))
            return None
        if checkpoint.origin != verifier.name:
            self._add(Finding.CHECKPOINT_EDITED, "the checkpoint is of another ledger than its key")
        return checkpoint

    def _manifest(self, verifier: Verifier) -> Manifest | None:
        note = self._signed(self._bundle.manifest, verifier, Finding.LIST_EDITED)
        if note is None:
            return None
        try:
            manifest = Manifest.read(note.body)
        except EvidenceError as fault:
            self._add(Finding.LIST_EDITED, str(fault))
            return None
        if len(note.signatures) != 1:
            self._add(Finding.LIST_EDITED, "the list carries a signature that is not the ledger's")
        if manifest.checkpoint_digest != hashlib.sha256(self._bundle.checkpoint.encode()).digest():
            self._add(Finding.CHECKPOINT_EDITED, "the checkpoint is not the one this list was signed with")
        return manifest

    def _entries(self, manifest: Manifest) -> None:
        listed = {line.sequence: line for line in manifest.lines}
        present = [entry.envelope.sequence for entry in self._bundle.entries]
        self._inserted(listed, present)
        self._missing(listed, set(present))
        self._order(listed, present)
        for entry in self._bundle.entries:
            line = listed.get(entry.envelope.sequence)
            if line is not None and (sentence := _difference(entry, line)):
                self._add(Finding.EDITED, sentence, [line.sequence])

    def _inserted(self, listed: Mapping[int, Listed], present: Sequence[int]) -> None:
        strangers = sorted(set(present) - listed.keys())
        if strangers:
            self._add(Finding.INSERTED, f"not in the signed list: {_shown(strangers)}", strangers)
        twice = sorted(s for s, times in Counter(present).items() if times > 1)
        if twice:
            self._add(Finding.INSERTED, f"present more than once: {_shown(twice)}", twice)

    def _missing(self, listed: Mapping[int, Listed], present: set[int]) -> None:
        missing = sorted(listed.keys() - present)
        if not missing:
            return
        # What is gone from the end on, and only that, was cut off rather than taken out.
        if missing == sorted(listed)[-len(missing) :]:
            self._add(Finding.TRUNCATED, f"the end is missing: {_shown(missing)}", missing)
        else:
            self._add(Finding.REMOVED, f"listed, yet not here: {_shown(missing)}", missing)

    def _order(self, listed: Mapping[int, Listed], present: Sequence[int]) -> None:
        known = list(dict.fromkeys(s for s in present if s in listed))
        moved = [s for s, due in zip(known, sorted(known), strict=True) if s != due]
        if moved:
            self._add(Finding.REORDERED, f"out of order: {_shown(moved)}", moved)

    def _tree(self, manifest: Manifest, checkpoint: Checkpoint) -> None:
        positions = [line.sequence for line in manifest.lines]
        leaves = [line.leaf for line in manifest.lines]
        try:
            root = root_of_some(positions, leaves, checkpoint.size, self._bundle.proof)
        except ProofError as fault:
            self._add(Finding.PROOF_EDITED, str(fault))
            return
        if root != checkpoint.root:
            self._add(Finding.PROOF_EDITED, "the entries and the proof do not lead to the checkpoint's root")
        if manifest.selection.get("about") == "all" and len(positions) != checkpoint.size:
            self._add(Finding.INCOMPLETE, f"said to hold all {checkpoint.size} entries, holds {len(positions)}")


def _signs(verifier: Verifier, text: str) -> bool:
    try:
        verifier.check(parse_note(text))
    except NoteError:
        return False
    return True


def _difference(entry: Entry, line: Listed) -> str | None:
    where = f"entry {line.sequence}"
    if entry.envelope.leaf_hash() != line.leaf:
        return f"{where}: its text was changed"
    if entry.form is not line.form:
        return f"{where}: its payload was listed as {line.form.value} and is {entry.form.value}"
    if entry.sealed is not None and hashlib.sha256(entry.sealed).digest() != entry.envelope.digest:
        return f"{where}: its sealed payload was changed"
    if (
        entry.sealed is not None
        and entry.opened is not None
        and not opened_fits(entry.envelope, entry.sealed, entry.opened)
    ):
        return f"{where}: its opened payload is not the one that was recorded"
    return None


def opened_fits(envelope: Envelope, sealed: bytes, opened: Sequence[Field]) -> bool:
    """Tell whether an opened payload is what the entry commits to, and speaks of the same kind and controller."""
    said = {field.name: field.text for field in opened if field.text is not None}
    same = (("kind", envelope.kind), ("controller", envelope.controller))
    return fits(sealed, opened) and all(said.get(name, _quoted(value)) == _quoted(value) for name, value in same)


def _shown(sequences: Sequence[int]) -> str:
    shown = ", ".join(str(s) for s in sequences[:10])
    return f"entries {shown}" + (f" and {len(sequences) - 10} more" if len(sequences) > 10 else "")

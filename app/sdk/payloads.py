"""Payloads of ledger entries that can be shown field by field, with proof that this is what was recorded (ledger.md).

A leaf commits to the digest of `magic || commitment || sealed record`. The commitment binds each field of the payload
by an HMAC (RFC 2104) under a salt of the field's own, all drawn from the 32 random bytes sealed inside the payload: a
field is shown with its salt, the others stay digests. Whoever lacks the salt cannot test a guess, and the salt dies
with the audit key. Leaves out sealing and whose keys open what; the format is in docs/formats/ledger.md.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import SdkError
from .notes import NoteError, strict_base64

MAGIC = b"RGP\x01"
SALT_BYTES = 32
COMMITMENT_BYTES = 32
_CONTEXT = b"regard-payload/v1\n"
_HEAD = len(MAGIC) + COMMITMENT_BYTES
_SPELLED = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_OUTER = ("controller", "kind", "subject")
_INNER = "payload."
"""Before the names of the payload's own fields."""


class PayloadError(SdkError):
    """A payload that is not one, or not the one that was recorded; `code` says which."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@dataclass(frozen=True, slots=True, repr=False)
class Field:
    """One field of a payload: shown with salt and JSON text, or a digest alone. Its `repr` shows the name only."""

    name: str
    digest: bytes
    salt: bytes | None = None
    text: str | None = None

    def __repr__(self) -> str:
        return f"Field({self.name!r})"

    def mentions(self, ids: Iterable[str]) -> bool:
        """Tell whether one of the ids stands anywhere in what is shown."""
        return self.text is not None and any(each in self.text for each in ids)

    def hidden(self) -> Field:
        """Return the field without what it says."""
        return Field(self.name, self.digest)

    def value(self) -> Any:
        """Return what a shown field says. Raises PayloadError `payload.hidden`, `payload.json`."""
        if self.text is None:
            raise PayloadError("payload.hidden", "this field is not shown")
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            raise PayloadError("payload.json", "a shown field is not JSON") from None

    def data(self) -> list[str]:
        """Return [name, salt, text], or [name, digest] of a hidden field; bytes in base64."""
        if self.salt is None or self.text is None:
            return [self.name, _base64(self.digest)]
        return [self.name, _base64(self.salt), self.text]

    @classmethod
    def read(cls, data: object) -> Field:
        """Read one field. Raises PayloadError `payload.field`."""
        if not isinstance(data, list) or len(data) not in {2, 3} or not all(isinstance(part, str) for part in data):
            raise PayloadError("payload.field", "a field is a name and a digest, or a name, a salt and a text")
        try:
            secret = strict_base64(data[1])
        except NoteError as fault:
            raise PayloadError("payload.field", "a field's salt or digest is not base64") from fault
        if len(secret) != SALT_BYTES:
            raise PayloadError("payload.field", "a field's salt or digest is not 32 bytes")
        return cls(data[0], secret) if len(data) == 2 else _shown(data[0], secret, data[2])


def _shown(name: str, salt: bytes, text: str) -> Field:
    try:
        return Field(name, hmac.digest(salt, text.encode(), hashlib.sha256), salt, text)
    except UnicodeEncodeError:
        raise PayloadError("payload.field", "a field's text has half a surrogate pair") from None


def fields_of(plain: bytes) -> tuple[Field, ...]:
    """Return every field of a payload as it is sealed, all shown, by name. Raises PayloadError `payload.malformed`."""
    try:
        value = json.loads(plain)
        salt, inner = strict_base64(value["salt"]), value["payload"]
        members = {**{name: value[name] for name in _OUTER}, **{_INNER + name: inner[name] for name in inner}}
    except (ValueError, KeyError, TypeError, NoteError):
        raise PayloadError("payload.malformed", "not a payload of the ledger") from None
    if len(salt) != SALT_BYTES:
        raise PayloadError("payload.malformed", "a payload's salt is not 32 bytes")
    return tuple(_shown(name, _field_salt(salt, name), _SPELLED.encode(members[name])) for name in sorted(members))


def _field_salt(salt: bytes, name: str) -> bytes:
    return hmac.digest(salt, name.encode(), hashlib.sha256)


def commitment(fields: Iterable[Field]) -> bytes:
    """Return what a leaf commits to: SHA-256 over the names and digests in order, whether shown or hidden."""
    told = [[field.name, _base64(field.digest)] for field in fields]
    return hashlib.sha256(_CONTEXT + _SPELLED.encode(told).encode()).digest()


def bind(plain: bytes, record: bytes) -> bytes:
    """Return what an entry stores and its leaf commits to: magic, commitment to `plain`, sealed record."""
    return MAGIC + commitment(fields_of(plain)) + record


def split(blob: bytes) -> tuple[bytes, bytes]:
    """Return (commitment, sealed record) of what an entry stores. Raises PayloadError `payload.uncommitted`."""
    if not blob.startswith(MAGIC) or len(blob) <= _HEAD:
        raise PayloadError("payload.uncommitted", "this entry carries no commitment to its payload")
    return blob[len(MAGIC) : _HEAD], blob[_HEAD:]


def shown(blob: bytes, plain: bytes, hide: Collection[str] = (), without: Collection[str] = ()) -> tuple[Field, ...]:
    """Return the fields of an opened payload; those named in `hide`, or with one of the ids `without`, as digests.

    Raises PayloadError `payload.mismatch` when `plain` is not what the entry commits to.
    """
    fields = fields_of(plain)
    if commitment(fields) != split(blob)[0]:
        raise PayloadError("payload.mismatch", "what was opened is not what was recorded")
    return tuple(field.hidden() if field.name in hide or field.mentions(without) else field for field in fields)


def fits(blob: bytes, fields: Sequence[Field]) -> bool:
    """Tell whether opened fields are those an entry's stored payload commits to."""
    try:
        return commitment(fields) == split(blob)[0]
    except (PayloadError, UnicodeEncodeError):
        return False


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()

"""Signed notes and tree heads: C2SP signed-note, tlog-checkpoint and tlog-cosignature, read and checked.

A note is a text, an empty line, and signature lines. The ledger signs with Ed25519 (type 0x01); a witness cosigns
with a time (type 0x04). Leaves out signing, which only the ledger and its witnesses do, and every other algorithm.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import SdkError
from .merkle import HASH_BYTES

_SIGNATURE_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
KEY_ID_BYTES = 4
_PUBLIC_BYTES = 32
_TIME_BYTES = 8
_LAST_SECOND = 2**63 - 1


class NoteError(SdkError):
    """A note that is malformed or not signed as asked; `code` says which."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Algorithm(IntEnum):
    """The signature types of C2SP signed-note that are understood here."""

    ED25519 = 1
    COSIGNATURE = 4


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line: who claims to have signed, with which key, and the bytes."""

    name: str
    key_id: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """`body` ends with a line feed and is what is signed."""

    body: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: the log's name, how many leaves it has, and their root."""

    origin: str
    size: int
    root: bytes


def strict_base64(text: str) -> bytes:
    """Decode standard base64, refusing every spelling but the one an encoder writes. Raises NoteError `note.base64`."""
    try:
        value = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as fault:
        raise NoteError("note.base64", "not base64") from fault
    if binascii.b2a_base64(value, newline=False).decode() != text:
        raise NoteError("note.base64", "not the one spelling base64 has for these bytes")
    return value


def key_id(name: str, algorithm: Algorithm, public: bytes) -> bytes:
    """Return the 4-byte key id of C2SP signed-note: SHA-256(name || 0x0A || type || key), cut."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public).digest()[:KEY_ID_BYTES]


def verifier_text(name: str, algorithm: Algorithm, public: bytes) -> str:
    """Write a verifier key: `name+keyid+base64(type || key)`."""
    encoded = base64.b64encode(bytes([algorithm]) + public).decode()
    return f"{name}+{key_id(name, algorithm, public).hex()}+{encoded}"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key with the name it signs under."""

    name: str
    algorithm: Algorithm
    public: bytes

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Read a verifier key. Raises NoteError `note.key`."""
        try:
            name, hexed, encoded = text.split("+", 2)
            raw = strict_base64(encoded)
            found = cls(name, Algorithm(raw[0]), raw[1:])
        except (NoteError, ValueError, IndexError) as fault:
            raise NoteError("note.key", "not a verifier key (name+id+base64)") from fault
        if len(found.public) != _PUBLIC_BYTES or found.key_id.hex() != hexed or not name or re.search(r"\s", name):
            raise NoteError("note.key", "the verifier key's id does not belong to its name and key")
        return found

    @property
    def key_id(self) -> bytes:
        return key_id(self.name, self.algorithm, self.public)

    def text(self) -> str:
        return verifier_text(self.name, self.algorithm, self.public)

    def check(self, note: Note) -> int | None:
        """Check this key's signature on the note; return a witness' time in Unix seconds, None for the log's key.

        Raises NoteError: `note.unsigned` (no line of this key), `note.signature` (a line that does not verify).
        """
        mine = [s for s in note.signatures if s.name == self.name and s.key_id == self.key_id]
        if not mine:
            raise NoteError("note.unsigned", f"not signed by {self.name} with this key")
        times = [self._one(note.body, signature.value) for signature in mine]
        return times[0]

    def _one(self, body: str, value: bytes) -> int | None:
        time: int | None = None
        message = body.encode()
        if self.algorithm is Algorithm.COSIGNATURE:
            time, value = int.from_bytes(value[:_TIME_BYTES], "big"), value[_TIME_BYTES:]
            if time > _LAST_SECOND:
                raise NoteError("note.signature", f"the time of {self.name} is beyond the format's")
            message = cosigned_bytes(body, time)
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(value, message)
        except InvalidSignature as fault:
            raise NoteError("note.signature", f"the signature of {self.name} does not verify") from fault
        return time


def cosigned_bytes(body: str, time: int) -> bytes:
    """Return what a witness signs (C2SP tlog-cosignature, cosignature/v1)."""
    return f"cosignature/v1\ntime {time}\n{body}".encode()


def write_note(body: str, signatures: Sequence[Signature]) -> str:
    """Write body and signature lines as one text."""
    return f"{body}\n{''.join(map(signature_line, signatures))}"


def signature_line(signature: Signature) -> str:
    """Write one signature line, with its line feed."""
    return f"— {signature.name} {base64.b64encode(signature.key_id + signature.value).decode()}\n"


def parse_signature_line(line: str) -> Signature:
    """Read one signature line, with or without its line feed. Raises NoteError `note.malformed`, `note.base64`."""
    return _signature(line.removesuffix("\n"))


def parse_note(text: str) -> Note:
    """Read a signed note. Raises NoteError `note.malformed`, `note.base64`."""
    body, gap, tail = text.rpartition("\n\n")
    if not gap or not tail.endswith("\n") or _CONTROL.search(text):
        raise NoteError("note.malformed", "not a signed note")
    return Note(body + "\n", tuple(_signature(line) for line in tail[:-1].split("\n")))


def _signature(line: str) -> Signature:
    found = _SIGNATURE_LINE.fullmatch(line)
    raw = strict_base64(found[2]) if found else b""
    if not found or len(raw) <= KEY_ID_BYTES:
        raise NoteError("note.malformed", "a signature line is malformed")
    return Signature(found[1], raw[:KEY_ID_BYTES], raw[KEY_ID_BYTES:])


def checkpoint_body(checkpoint: Checkpoint) -> str:
    """Write the three lines of C2SP tlog-checkpoint; no extension lines are used."""
    return f"{checkpoint.origin}\n{checkpoint.size}\n{base64.b64encode(checkpoint.root).decode()}\n"


def parse_checkpoint(note: Note) -> Checkpoint:
    """Read the tree head in a note's body; extension lines are ignored. Raises NoteError `note.checkpoint`."""
    lines = note.body.split("\n")[:-1]
    if len(lines) < 3 or not all(lines) or not _SIZE.fullmatch(lines[1]):
        raise NoteError("note.checkpoint", "not a checkpoint: name, size and root are expected")
    root = strict_base64(lines[2])
    if len(root) != HASH_BYTES:
        raise NoteError("note.checkpoint", "the checkpoint's root is not 32 bytes")
    return Checkpoint(lines[0], int(lines[1]), root)

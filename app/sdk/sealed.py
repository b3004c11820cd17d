"""The sealed record: the one shape in which a person's data rests in anybody's database (vault.md section 2).

    magic 3 | version 1 | key id 16 | nonce 12 | commitment 32 | ciphertext and its 16-byte tag      = 80 bytes more

AES-256-GCM (NIST SP 800-38D). HKDF-SHA256 (RFC 5869) splits the data key into an encryption key and a commitment,
because GCM alone lets one record open under two keys. The commitment is kept whole (32 bytes): cut to 16 it would
fall to a birthday search, and the three-byte magic makes room for it.
No wrapped key is inside: destroying the key is enough.

Associated data = version, subject handle, category, key id, record id; each length-prefixed save the last.
Version 1 is one message of at most 1 MiB. Version 2, taken by itself above that, is a sequence of 1 MiB chunks under a
key derived from the nonce; each chunk's own nonce is its counter and a final flag, so none can be cut off, moved or
repeated (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015).

Leaves out where keys come from (leases), and files larger than memory (`streams`), which have the same shape.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC: Final = b"RGD"
WHOLE: Final = 1
CHUNKED: Final = 2
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 16
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 64
OVERHEAD_BYTES: Final = HEADER_BYTES + TAG_BYTES
CHUNK_BYTES: Final = 1 << 20
MESSAGES_PER_KEY: Final = 1 << 30
"""Above this a random 96-bit nonce is no longer rare enough to repeat (vault.md section 2)."""

_NONCE_AT: Final = 20
_COMMITMENT_AT: Final = 32


class SealError(Exception):
    """A record was not sealed or not opened; no plaintext left. `code` is stable."""

    code: ClassVar[str] = "seal_failed"


class NotSealed(SealError):
    """The bytes are not a sealed record, or are cut short."""

    code = "not_sealed"


class UnknownVersion(SealError):
    """A sealed record of a version this code does not read."""

    code = "unknown_version"


class WrongKey(SealError):
    """The record names another key."""

    code = "wrong_key"


class CommitmentMismatch(SealError):
    """The record names this key, but was sealed under other key bytes."""

    code = "commitment_mismatch"


class Altered(SealError):
    """The ciphertext was changed, or it belongs to another subject, category or record."""

    code = "altered"


class KeyWornOut(SealError):
    """The key has sealed as many messages as it may; lease another."""

    code = "key_worn_out"


class UnusableKey(SealError):
    """The key or its id has the wrong length."""

    code = "unusable_key"


def key_id_of(record: bytes) -> bytes:
    """Return the 16-byte id of the key that opens `record`; raises `NotSealed`, `UnknownVersion`."""
    if len(record) < OVERHEAD_BYTES:
        raise NotSealed
    return key_id_in(record)


def key_id_in(header: bytes) -> bytes:
    """Return the 16-byte id of the key, of a record's first 64 bytes; raises `NotSealed`, `UnknownVersion`."""
    if len(header) < HEADER_BYTES or bytes(header[:3]) != MAGIC:
        raise NotSealed
    if header[3] not in (WHOLE, CHUNKED):
        raise UnknownVersion
    return bytes(header[4:_NONCE_AT])


class Cipher:
    """One data key, made ready once and kept: a fresh one per call halves the throughput.

    `budget` is how many messages it may seal. Not shared between threads that need an exact count.
    """

    __slots__ = ("_commitment", "_decrypt", "_encrypt", "_heads", "_left", "_random", "_stream", "key_id")

    def __init__(
        self,
        key_id: bytes,
        key: bytes | bytearray,
        *,
        budget: int = MESSAGES_PER_KEY,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if len(key_id) != KEY_ID_BYTES or len(key) != KEY_BYTES:
            raise UnusableKey
        split = bytearray(_hkdf(bytes(key), b"regard sealed record 1" + key_id, length=96))
        self.key_id = bytes(key_id)
        aead = AESGCM(split[:32])
        self._encrypt, self._decrypt = aead.encrypt, aead.decrypt
        self._commitment = bytes(split[32:64])
        self._stream = bytearray(split[64:])
        split[:] = bytes(len(split))
        self._heads = {v: MAGIC + bytes([v]) + self.key_id for v in (WHOLE, CHUNKED)}
        self._left = min(budget, MESSAGES_PER_KEY)
        self._random = random

    def __repr__(self) -> str:
        return "Cipher(...)"

    @property
    def left(self) -> int:
        """How many messages may still be sealed."""
        return self._left

    def place(self, subject: str, category: str) -> Place:
        """Return the sealer of one subject's one category: `subject` is the handle the holder knows."""
        return Place(self, subject, category)

    def seal(self, plaintext: bytes, *, subject: str, category: str, record_id: str) -> bytes:
        """Return the sealed record of `plaintext`; raises `KeyWornOut`."""
        return self.place(subject, category).seal(plaintext, record_id)

    def open(self, record: bytes, *, subject: str, category: str, record_id: str) -> bytes:
        """Return the plaintext, or raise a `SealError`."""
        return self.place(subject, category).open(record, record_id)

    def wipe(self) -> None:
        """Forget the key as far as Python allows; sealing and opening end here."""
        self._stream[:] = bytes(len(self._stream))
        aead = AESGCM(os.urandom(KEY_BYTES))
        self._encrypt, self._decrypt = aead.encrypt, aead.decrypt
        self._left = 0

    def _spend(self, messages: int) -> None:
        if self._left < messages:
            raise KeyWornOut
        self._left -= messages

    def _refusal(self, header: bytes) -> SealError:
        try:
            named = key_id_in(header)
        except SealError as fault:
            return fault
        return WrongKey() if named != self.key_id else CommitmentMismatch()

    def _streaming(self, nonce: bytes) -> AESGCM:
        return AESGCM(_hkdf(bytes(self._stream), b"regard chunks 2", length=32, salt=nonce))


class Place:
    """Seals and opens one category of one subject under one `Cipher`."""

    __slots__ = ("_chunked", "_cipher", "_commitment", "_head", "_random", "_whole")

    def __init__(self, cipher: Cipher, subject: str, category: str) -> None:
        self._cipher = cipher
        self._head = cipher._heads[WHOLE]
        self._commitment = cipher._commitment
        self._random = cipher._random
        self._whole = _binding(WHOLE, subject, category, cipher.key_id)
        self._chunked = _binding(CHUNKED, subject, category, cipher.key_id)

    def seal(self, plaintext: bytes, record_id: str) -> bytes:
        """Return the sealed record of `plaintext`; raises `KeyWornOut`."""
        if len(plaintext) > CHUNK_BYTES:
            return self._seal_chunks(plaintext, record_id)
        cipher = self._cipher
        if cipher._left < 1:
            raise KeyWornOut
        cipher._left -= 1
        nonce = self._random(12)
        sealed = cipher._encrypt(nonce, plaintext, self._whole + record_id.encode())
        return b"".join((self._head, nonce, self._commitment, sealed))

    def open(self, record: bytes, record_id: str) -> bytes:
        """Return the plaintext; raises `SealError` and gives nothing back on any mismatch."""
        # The offsets are written out because looking up eight names costs a tenth of the whole call, and two slices are
        # compared because `startswith` takes twice as long. The commitment is no secret (every record shows it), so
        # comparing it need not take the same time whatever differs.
        if record[32:64] != self._commitment or record[:20] != self._head:
            return self._open_other(record, record_id)
        try:
            return self._cipher._decrypt(record[20:32], record[64:], self._whole + record_id.encode())
        except InvalidTag:
            raise Altered from None

    def begin(self, record_id: str) -> tuple[bytes, Chunks]:
        """Begin a record of chunks: return its 64-byte header and what seals the chunks. Raises `KeyWornOut`."""
        cipher = self._cipher
        cipher._spend(1)
        nonce = cipher._random(NONCE_BYTES)
        header = b"".join((cipher._heads[CHUNKED], nonce, cipher._commitment))
        return header, self._chunks_of(nonce, record_id)

    def resume(self, header: bytes, record_id: str) -> Chunks:
        """Return what opens the chunks of the record with this 64-byte header; raises a `SealError`."""
        committed = header[_COMMITMENT_AT:HEADER_BYTES] == self._commitment
        if not committed or header[:_NONCE_AT] != self._cipher._heads[CHUNKED]:
            raise self._cipher._refusal(header)
        return self._chunks_of(header[_NONCE_AT:_COMMITMENT_AT], record_id)

    def _chunks_of(self, nonce: bytes, record_id: str) -> Chunks:
        return Chunks(self._cipher._streaming(nonce), self._chunked + record_id.encode())

    def _open_other(self, record: bytes, record_id: str) -> bytes:
        if len(record) < OVERHEAD_BYTES:
            raise NotSealed
        chunks = self.resume(record[:HEADER_BYTES], record_id)
        return b"".join(chunks.open(part, last) for part, last in _cut(record, HEADER_BYTES, CHUNK_BYTES + TAG_BYTES))

    def _seal_chunks(self, plaintext: bytes, record_id: str) -> bytes:
        header, chunks = self.begin(record_id)
        return header + b"".join(chunks.seal(part, last) for part, last in _cut(plaintext, 0, CHUNK_BYTES))


class Chunks:
    """The chunks of one record, in their order; each nonce is an 11-byte counter and a byte that is 1 on the last.

    Every chunk but the last has `CHUNK_BYTES` of plaintext; an empty object is one empty chunk.
    """

    __slots__ = ("_aead", "_binding", "_count")

    def __init__(self, aead: AESGCM, binding: bytes) -> None:
        self._aead = aead
        self._binding = binding
        self._count = 0

    def seal(self, part: bytes, last: bool) -> bytes:  # noqa: FBT001 - where a chunk stands is as much its own as its bytes
        """Return the next chunk, sealed."""
        return self._aead.encrypt(self._nonce(last), part, self._binding)

    def open(self, part: bytes, last: bool) -> bytes:  # noqa: FBT001
        """Return the next chunk's plaintext; raises `Altered`, also when it is the last and not meant to be."""
        try:
            return self._aead.decrypt(self._nonce(last), part, self._binding)
        except InvalidTag:
            raise Altered from None

    def _nonce(self, last: bool) -> bytes:  # noqa: FBT001
        self._count += 1
        return (self._count - 1).to_bytes(11, "big") + bytes([last])


def _cut(whole: bytes, start: int, size: int) -> Iterator[tuple[bytes, bool]]:
    """Yield (piece, whether it is the last)."""
    for at in range(start, len(whole), size):
        yield whole[at : at + size], at + size >= len(whole)


def _binding(version: int, subject: str, category: str, key_id: bytes) -> bytes:
    named = b"".join(_prefixed(text.encode()) for text in (subject, category))
    return b"regard.sealed" + bytes([version]) + named + key_id


def _prefixed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def _hkdf(key: bytes, info: bytes, *, length: int, salt: bytes | None = None) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)

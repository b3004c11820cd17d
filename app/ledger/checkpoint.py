"""Signing tree heads and lists as Ed25519 notes, and taking in a witness' cosignature.

Formats: C2SP signed-note, tlog-checkpoint, tlog-cosignature. Leaves out where the private key lives: the caller hands
in its 32-byte seed.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.ledger.errors import WitnessRefused
from app.sdk.notes import (
    Algorithm,
    Checkpoint,
    NoteError,
    Signature,
    Verifier,
    checkpoint_body,
    key_id,
    parse_checkpoint,
    parse_note,
    write_note,
)


class NoteSigner:
    """The ledger's signing key; `name` is the ledger's origin, e.g. `regard.example/ledger`.

    `before` is the seed of the key it follows: while it is given, checkpoints carry its signature as well, so that
    whoever trusts that key sees which one follows. Lists are signed by the present key alone. `lost` are public keys
    of this ledger that sign no more, because nobody has them.
    """

    def __init__(self, name: str, seed: bytes, before: bytes | None = None, lost: Sequence[Verifier] = ()) -> None:
        self._before = None if before is None else NoteSigner(name, before)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._key.public_key().public_bytes_raw()
        self.verifier = Verifier.parse(Verifier(name, Algorithm.ED25519, public).text())
        self._lost = tuple(lost)

    @property
    def known(self) -> tuple[Verifier, ...]:
        """The public keys whose checkpoints are this ledger's own: the present one, the one before, lost ones."""
        before = () if self._before is None else (self._before.verifier,)
        return (self.verifier, *before, *self._lost)

    def __repr__(self) -> str:
        return f"NoteSigner({self.verifier.name!r})"

    def sign(self, body: str) -> str:
        """Return `body` (which ends with a line feed) as a signed note."""
        return write_note(body, [self._signature(body)])

    def checkpoint(self, size: int, root: bytes) -> str:
        """Return the signed checkpoint of a tree head."""
        body = checkpoint_body(Checkpoint(self.verifier.name, size, root))
        both = [self] if self._before is None else [self, self._before]
        return write_note(body, [each._signature(body) for each in both])

    def along(self, checkpoint: str) -> str:
        """Return a checkpoint of this ledger with this key's signature as well, before the others it has.

        Raises NoteError `note.other` for a text that is not a tree head as this ledger writes it.
        """
        note = parse_note(checkpoint)
        head = parse_checkpoint(note)
        if note.body != checkpoint_body(Checkpoint(self.verifier.name, head.size, head.root)):
            raise NoteError("note.other", "not a checkpoint as this ledger writes it")
        return write_note(note.body, [self._signature(note.body), *note.signatures])

    def _signature(self, body: str) -> Signature:
        return Signature(self.verifier.name, self.verifier.key_id, self._key.sign(body.encode()))


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint with one more signature, and when the witness gave it (Unix seconds)."""

    note: str
    time: int


def add_cosignature(checkpoint: str, line: Signature, witness: Verifier) -> Cosigned:
    """Add a witness' signature line to a checkpoint after checking it.

    Raises WitnessRefused when it does not verify or the witness has signed this checkpoint already.
    """
    note = parse_note(checkpoint)
    if witness.algorithm is not Algorithm.COSIGNATURE or any(s.key_id == line.key_id for s in note.signatures):
        raise WitnessRefused("not a witness' key, or the witness has already cosigned")
    cosigned = write_note(note.body, [*note.signatures, line])
    try:
        time = witness.check(parse_note(cosigned))
    except NoteError as fault:
        raise WitnessRefused(str(fault)) from fault
    return Cosigned(cosigned, time or 0)


def witness_id(name: str, public: bytes) -> bytes:
    """Return the key id of a witness' Ed25519 key."""
    return key_id(name, Algorithm.COSIGNATURE, public)


def line_start(verifier: Verifier) -> str:
    """Return what begins a key's line in a note, to search for: its line break, its name, 30 bits of its id."""
    return f"\n— {verifier.name} {base64.b64encode(verifier.key_id).decode()[:5]}"


def without_others(checkpoint: str, key: Verifier) -> str:
    """Return a checkpoint without the lines of other keys of `key`'s name; cosignatures stay."""
    note = parse_note(checkpoint)
    return write_note(note.body, [s for s in note.signatures if s.name != key.name or s.key_id == key.key_id])


def signed_by(checkpoint: str, verifiers: Sequence[Verifier]) -> list[str]:
    """Return the names among `verifiers` whose signature on the checkpoint holds. Raises NoteError for a false one."""
    note = parse_note(checkpoint)
    ids = {(s.name, s.key_id) for s in note.signatures}
    present = [v for v in verifiers if (v.name, v.key_id) in ids]
    for verifier in present:
        verifier.check(note)
    return [verifier.name for verifier in present]

"""Putting an evidence bundle together: the entries a question selects, one joint proof, the signed list (ledger.md).

Leaves out reading (port `Source`) and checking (`app.sdk.evidence.verify_bundle`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from app.ledger.checkpoint import NoteSigner
from app.ledger.errors import LedgerCorrupted
from app.ledger.tree import Nodes, joint_proof
from app.sdk.evidence import Bundle, Entry, Listed, Manifest, instant_text, opened_fits, write_bundle
from app.sdk.notes import parse_checkpoint, parse_note


class About(StrEnum):
    """What a bundle is asked about."""

    ALL = "all"
    PERIOD = "period"
    SUBJECT = "subject"
    CASE = "case"
    CONSENT = "consent"
    ERASURE = "erasure"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class Selection:
    """A question to the ledger. Every condition given must hold; `refs` are opaque ids, any of which may match."""

    about: About
    refs: tuple[str, ...] = ()
    """Subjects' handles for SUBJECT; for the others ids that stand in the payloads (`cas_...`, `con_...`)."""
    start: datetime | None = None
    """Included."""
    until: datetime | None = None
    """Excluded."""
    controller: str | None = None

    def __post_init__(self) -> None:
        if (self.about in {About.ALL, About.PERIOD}) == bool(self.refs):
            raise ValueError("a selection has references exactly when it is about something that has an id")
        if self.about is About.ALL and (self.start or self.until or self.controller):
            raise ValueError("all means all: no period and no controller")

    def data(self) -> dict[str, object]:
        return {
            "about": self.about.value,
            "controller": self.controller,
            "from": self.start and instant_text(self.start),
            "refs": list(self.refs),
            "until": self.until and instant_text(self.until),
        }


class Source(Nodes, Protocol):
    """What the builder reads: nodes, and entries in the order of their positions."""

    def select(self, selection: Selection, size: int) -> Sequence[Entry]:
        """Return the selected entries among the first `size`, ascending."""
        ...


def build_bundle(source: Source, selection: Selection, checkpoint: str, signer: NoteSigner, made_at: datetime) -> bytes:
    """Return the bundle's file. `checkpoint` is a signed note of the ledger over the tree that `source` holds.

    Raises LedgerCorrupted when a stored entry no longer hashes to its leaf: nothing false is ever signed.
    """
    size = parse_checkpoint(parse_note(checkpoint)).size
    entries = source.select(selection, size)
    positions = [entry.envelope.sequence for entry in entries]
    lines = _listed(source, entries)
    manifest = Manifest(hashlib.sha256(checkpoint.encode()).digest(), selection.data(), instant_text(made_at), lines)
    proof = joint_proof(source, positions, size)
    return write_bundle(
        Bundle(signer.verifier.text(), checkpoint, signer.sign(manifest.body()), tuple(proof), tuple(entries))
    )


def _listed(source: Nodes, entries: Sequence[Entry]) -> tuple[Listed, ...]:
    stored = source.fetch([(0, entry.envelope.sequence) for entry in entries])
    lines = [Listed(e.envelope.sequence, e.envelope.leaf_hash(), e.form) for e in entries]
    for line, entry in zip(lines, entries, strict=True):
        if stored.get((0, line.sequence)) != line.leaf or not payload_fits(entry):
            raise LedgerCorrupted(f"entry {line.sequence} is not what was integrated")
    return tuple(lines)


def payload_fits(entry: Entry) -> bool:
    """Tell whether the payload, sealed and opened where it is there so, is the one the envelope commits to."""
    if entry.sealed is None:
        return entry.opened is None
    if hashlib.sha256(entry.sealed).digest() != entry.envelope.digest:
        return False
    return entry.opened is None or opened_fits(entry.envelope, entry.sealed, entry.opened)

"""The ledger's storage: entries inserted in the caller's transaction, one integrator, proofs, bundles, audit.

`SqlJournal` writes an unsequenced entry where the state change is written: both commit or neither does (operations.md
section 6, no record, no action). `LeafStore` sequences entries in batches under the lock of one row, so that two
integrators take turns and can never fork the tree (ledger.md). Core throughout: these are hot paths.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Table,
    bindparam,
    exists,
    func,
    insert,
    inspect,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Session

from app.ledger.bundle import About, Selection, build_bundle, payload_fits
from app.ledger.checkpoint import NoteSigner, add_cosignature, line_start, signed_by, without_others
from app.ledger.errors import EntryRefused, LedgerCorrupted, LedgerForked, PositionUnknown
from app.ledger.tree import NodeId, consistency_proof, extend, inclusion_proof, right_edge, root
from app.sdk.evidence import Entry, Envelope, instant_text
from app.sdk.merkle import ProofError, root_of, verify_consistency
from app.sdk.notes import Checkpoint, NoteError, Signature, Verifier, parse_checkpoint, parse_note
from app.sdk.payloads import SALT_BYTES, Field, PayloadError, bind, shown, split
from app.store.rows.leaves import (
    LedgerCheckpointRow,
    LedgerEntryRow,
    LedgerNodeRow,
    LedgerReferenceRow,
    LedgerTreeRow,
)
from consent.ports import Clock, Ids, Json
from consent.vocabulary import ControllerId, SubjectRef

BATCH = 5_000
_FETCH = 500
"""Nodes asked for in one query: within every SQLite's limit of parameters."""
LOOKED_BACK = 200_000
"""Checkpoints searched for a cosignature: more than two days' even where one is signed every second."""
_KIND = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_OPAQUE_ID = re.compile(r"[a-z]{2,8}_[A-Za-z2-7]{26,40}")
_ERASURE_ID = re.compile(r"(era_(?:[a-z]{2,8}_)?[A-Za-z2-7]{26,40})(?::[0-9a-f]{64})?")
"""An erasure is named after what it erases, `era_line_...`; where its certificate is meant, a digest follows."""

Seal = Callable[[ControllerId, SubjectRef | None, str, bytes], tuple[str, bytes]]
"""(controller, subject, kind, plaintext) -> (opaque id of the audit key, sealed payload)."""
Randomness = Callable[[int], bytes]
Open = Callable[[str, str | None, str, bytes], bytes | None]
"""(controller, subject, kind, sealed record) -> plaintext; None where the audit key is destroyed."""


def _table(row: type) -> Table:
    table: object = inspect(row).local_table
    if not isinstance(table, Table):
        raise TypeError(f"{row.__name__} is not mapped to a table")
    return table


_entries = _table(LedgerEntryRow)
_references = _table(LedgerReferenceRow)
_nodes = _table(LedgerNodeRow)
_tree = _table(LedgerTreeRow)
_heads = _table(LedgerCheckpointRow)
_ENVELOPE_COLUMNS = (
    _entries.c.id,
    _entries.c.at,
    _entries.c.kind,
    _entries.c.actor,
    _entries.c.controller,
    _entries.c.key_id,
    _entries.c.digest,
)


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
_NODES_BY_KEY = select(_nodes.c.node, _nodes.c.hash).where(_nodes.c.node.in_(bindparam("keys", expanding=True)))


def node_key(node: NodeId) -> int:
    """Return the number a node is stored under."""
    level, index = node
    return level << 56 | index


class SqlJournal:
    """`consent.ports.Journal` over the caller's session: nothing is written before the caller commits."""

    def __init__(self, session: Session, seal: Seal, clock: Clock, ids: Ids, salt: Randomness) -> None:
        self._session = session
        self._seal = seal
        self._clock = clock
        self._ids = ids
        self._salt = salt

    def record(
        self,
        kind: str,
        *,
        actor: str,
        controller: ControllerId,
        subject: SubjectRef | None,
        payload: Mapping[str, Json],
    ) -> str:
        """Insert an unsequenced entry and return its id (`led_...`).

        Whatever the sealer or the database raises goes through: the caller's unit of work must then fail as a whole.
        Raises EntryRefused for a kind that is not `noun.past_participle` or a payload that is not JSON.
        """
        if not _KIND.fullmatch(kind):
            raise EntryRefused("a ledger kind is noun.past_participle")
        entry_id = self._ids.new("led")
        plain = payload_bytes(kind, controller, subject, payload, self._salt(SALT_BYTES))
        key_id, record = self._seal(controller, subject, kind, plain)
        sealed = bind(plain, record)
        row = {
            "id": entry_id,
            "at": self._clock.now(),
            "kind": kind,
            "actor": actor,
            "controller": controller,
            "subject": subject,
            "key_id": key_id,
            "digest": hashlib.sha256(sealed).digest(),
            "sealed": sealed,
        }
        self._session.execute(insert(_entries), row)
        if mentioned := mentioned_ids(payload):
            rows = [{"ref": ref, "entry": entry_id, "controller": controller} for ref in mentioned]
            self._session.execute(insert(_references), rows)
        return entry_id

    def record_once(
        self, kind: str, names: str, *, actor: str, controller: ControllerId, payload: Mapping[str, Json]
    ) -> str | None:
        """Record what happens once and may be found done by several; None when an entry of this kind names it already.

        `names` is an opaque id that stands in the payload. Of two at once one records, the other waits for its commit.
        Raises EntryRefused when the payload does not mention it, and as `record`.
        """
        if names not in mentioned_ids(payload):
            raise EntryRefused("an entry that is written once names in its payload what it is about")
        if self._session.connection().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
            self._session.execute(_ONE_AT_A_TIME, {"name": f"{kind} {names}"})
        if self.told(kind, [names]):
            return None
        return self.record(kind, actor=actor, controller=controller, subject=None, payload=payload)

    def told(self, kind: str, names: Sequence[str]) -> frozenset[str]:
        """Return which of these opaque ids entries of this kind mention, those that still wait included."""
        found: set[str] = set()
        for at in range(0, len(names), _FETCH):
            query = select(_references.c.ref).join(_entries, _entries.c.id == _references.c.entry)
            query = query.where(_references.c.ref.in_(names[at : at + _FETCH]), _entries.c.kind == kind)
            found.update(self._session.scalars(query))
        return frozenset(found)


class SqlLeafNumbers:
    """Where entries stand in the tree, read in the caller's session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, entries: Sequence[str]) -> dict[str, int]:
        """Return entry id -> leaf number; entries that still wait, and unknown ones, are left out."""
        found: dict[str, int] = {}
        for at in range(0, len(entries), _FETCH):
            query = select(_entries.c.id, _entries.c.position).where(
                _entries.c.id.in_(entries[at : at + _FETCH]), _entries.c.position.is_not(None)
            )
            found.update((row[0], int(row[1])) for row in self._session.execute(query))
        return found

    def size(self) -> int:
        """Return how many leaves the tree has: what an inclusion proof is asked for."""
        return int(self._session.scalar(select(func.max(_tree.c.size))) or 0)


def payload_bytes(
    kind: str, controller: ControllerId, subject: SubjectRef | None, payload: Mapping[str, Json], salt: bytes
) -> bytes:
    """Return the payload as it is sealed: sorted JSON with a 32-byte salt.

    Kind, controller and subject stand inside too, so that whoever opens it can tell that the row was not moved.
    """
    if len(salt) != SALT_BYTES:
        raise EntryRefused("the salt is 32 bytes")
    value = {
        "controller": controller,
        "kind": kind,
        "payload": payload,
        "salt": base64.b64encode(salt).decode(),
        "subject": subject,
    }
    try:
        return _SPELLED.encode(value).encode()
    except ValueError as fault:
        raise EntryRefused("the payload is not JSON") from fault


def _plain(value: object) -> object:
    """Take the mappings and sequences that `Json` allows and the json module does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    raise EntryRefused(f"a {type(value).__name__} is not JSON")


_SPELLED = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)


def mentioned_ids(payload: Mapping[str, Json]) -> list[str]:
    """Return the opaque ids (`xxx_` + base32) that stand anywhere in a payload, each once, in order."""
    return list(dict.fromkeys(found for item in _texts(payload) if (found := _id_in(item))))


def _id_in(item: str) -> str | None:
    if _OPAQUE_ID.fullmatch(item):
        return item
    erasure = _ERASURE_ID.fullmatch(item)
    return erasure[1] if erasure else None


def _texts(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _texts(item)


@dataclass(frozen=True, slots=True)
class Recorded:
    """An entry as read back; `position` is None until it is integrated."""

    id: str
    position: int | None
    at: Any
    kind: str
    actor: str
    controller: str
    subject: str | None
    key_id: str
    sealed: bytes | None


@dataclass(frozen=True, slots=True)
class Opening:
    """How the payloads of a bundle are shown: with which keys, and which fields stay digests."""

    open: Open
    hide: frozenset[str] = frozenset()
    """Names of fields."""
    without: frozenset[str] = frozenset()
    """Opaque ids: a field in which one stands stays a digest."""

    def fields(self, envelope: Envelope, sealed: bytes, subject: str | None) -> tuple[Field, ...] | None:
        """Return an entry's fields; None where the audit key is gone, or the entry is from before commitments.

        Raises LedgerCorrupted when what opens is not what was recorded.
        """
        try:
            _, record = split(sealed)
        except PayloadError:
            return None
        plain = self.open(envelope.controller, subject, envelope.kind, record)
        try:
            return None if plain is None else shown(sealed, plain, self.hide, self.without)
        except PayloadError as fault:
            raise LedgerCorrupted(f"entry {envelope.sequence}: {fault}") from fault


class _StoredNodes:
    """The port `Nodes` (and `Source`) on one open connection; `opening` opens what is to be shown."""

    def __init__(self, connection: Connection, opening: Opening | None = None) -> None:
        self._connection = connection
        self._opening = opening

    def fetch(self, wanted: Sequence[NodeId]) -> dict[NodeId, bytes]:
        found: dict[NodeId, bytes] = {}
        for start in range(0, len(wanted), _FETCH):
            keys = {node_key(node): node for node in wanted[start : start + _FETCH]}
            rows = self._connection.execute(_NODES_BY_KEY, {"keys": list(keys)})
            found.update((keys[key], bytes(value)) for key, value in rows)
        return found

    def select(self, selection: Selection, size: int) -> list[Entry]:
        query = select(_entries.c.position, *_ENVELOPE_COLUMNS, _entries.c.sealed, _entries.c.subject)
        query = _narrowed(query, selection).where(_entries.c.position < size).order_by(_entries.c.position)
        return [self._entry(_envelope(row[0], row[1:8]), *row[8:]) for row in self._connection.execute(query)]

    def _entry(self, envelope: Envelope, sealed: bytes | None, subject: str | None) -> Entry:
        if sealed is None or self._opening is None:
            return Entry(envelope, sealed)
        return Entry(envelope, sealed, self._opening.fields(envelope, sealed, subject))


def _narrowed(query: Select[Any], selection: Selection) -> Select[Any]:
    if selection.start is not None:
        query = query.where(_entries.c.at >= selection.start)
    if selection.until is not None:
        query = query.where(_entries.c.at < selection.until)
    if selection.controller is not None:
        query = query.where(_entries.c.controller == selection.controller)
    if selection.about is About.SUBJECT:
        return query.where(_entries.c.subject.in_(selection.refs))
    if selection.refs:
        mentions = (_references.c.entry == _entries.c.id) & _references.c.ref.in_(_names(selection))
        return query.where(exists().where(mentions))
    return query


def _names(selection: Selection) -> tuple[str, ...]:
    """An erasure's entries name it, or what it erases: `era_line_x` and `line_x`."""
    if selection.about is not About.ERASURE:
        return selection.refs
    inner = (ref.removeprefix("era_") for ref in selection.refs if ref.startswith("era_"))
    return (*selection.refs, *inner)


def _envelope(position: int, row: Sequence[Any]) -> Envelope:
    entry_id, at, kind, actor, controller, key_id, digest = row
    return Envelope(position, entry_id, instant_text(at), kind, actor, controller, key_id, bytes(digest))


class LeafStore:
    """The integrator and the readers of one ledger."""

    def __init__(self, engine: Engine, signer: NoteSigner, clock: Clock) -> None:
        self._engine = engine
        self._reader = engine.execution_options(regard_read=True)
        self._signer = signer
        self._clock = clock

    @property
    def verifier_key(self) -> str:
        """The public key an auditor brings (`name+id+base64`)."""
        return self._signer.verifier.text()

    # -- integrating -------------------------------------------------------------------------------------------------

    def integrate(self, *, batch: int = BATCH) -> int:
        """Sequence everything that waits, sign a checkpoint, and return how many leaves were added.

        Each batch is one transaction: entries, nodes, size and checkpoint commit together, or not at all.
        Raises LedgerCorrupted when the stored tree is not the one last signed.
        """
        added = 0
        while taken := self._batch(batch):
            added += taken
            if taken < batch:
                break
        return added

    def _batch(self, limit: int) -> int:
        with self._engine.begin() as connection:
            size = _locked_size(connection)
            edge = _StoredNodes(connection).fetch(right_edge(size))
            self._recognise(connection, size, edge)
            waiting = connection.execute(_waiting(limit)).all()
            if waiting:
                leaves = [_envelope(size + n, row[1:]).leaf_hash() for n, row in enumerate(waiting)]
                made = extend(size, edge, leaves)
                self._write(connection, size, [row[0] for row in waiting], made)
                self._sign(connection, size + len(waiting), {**edge, **made})
        return len(waiting)

    def _recognise(self, connection: Connection, size: int, edge: Mapping[NodeId, bytes]) -> None:
        """Go on only from the tree that was signed: a changed node or checkpoint would otherwise be signed over."""
        note = connection.execute(select(_heads.c.note).order_by(_heads.c.size.desc()).limit(1)).scalar()
        signed = self._signed(note) if note else None
        if (signed.size if signed else 0) != size or (signed and signed.root != _root(edge, size)):
            raise LedgerCorrupted(f"the stored tree of {size} is not the one last signed")

    def _signed(self, note: str) -> Checkpoint:
        """Read a checkpoint that the ledger signed; whoever writes to the database can store any other text."""
        try:
            if signed_by(note, self._signer.known):
                return _head(note)
        except NoteError as fault:
            raise LedgerCorrupted(f"a stored checkpoint is damaged: {fault}") from fault
        raise LedgerCorrupted("a stored checkpoint is signed by no key of this ledger")

    def _write(self, connection: Connection, size: int, arrivals: Sequence[int], made: Mapping[NodeId, bytes]) -> None:
        rows = [{"node": node_key(node), "hash": value} for node, value in made.items()]
        connection.execute(insert(_nodes), rows)
        numbered = [{"a": arrival, "p": size + n} for n, arrival in enumerate(arrivals)]
        query = update(_entries).where(_entries.c.arrival == bindparam("a"), _entries.c.position.is_(None))
        connection.execute(query.values(position=bindparam("p")), numbered)
        grown = update(_tree).where(_tree.c.id == 1, _tree.c.size == size).values(size=size + len(arrivals))
        if connection.execute(grown).rowcount != 1:
            raise LedgerForked("another integrator extended the tree")

    def _sign(self, connection: Connection, size: int, edge: Mapping[NodeId, bytes]) -> None:
        note = self._signer.checkpoint(size, _root(edge, size))
        connection.execute(insert(_heads), {"size": size, "at": self._clock.now(), "note": note})

    def sign_alone(self) -> bool:
        """Take other keys' signatures off the latest checkpoint; False where it lacks the present one's.

        A process that still signs with a key before stops there, and does not go on with it. Raises LedgerCorrupted.
        """
        own = self._signer.verifier
        with self._engine.begin() as connection:
            size = _locked_size(connection)
            query = select(_heads.c.note).where(_heads.c.size == size).with_for_update()
            note = connection.execute(query).scalar() or self._latest(connection)
            self._signed(note)
            if not signed_by(note, [own]):
                return False
            alone = without_others(note, own)
            connection.execute(update(_heads).where(_heads.c.size == size).values(note=alone))
        return True

    def cosign(self, size: int, line: Signature, witness: Verifier) -> str:
        """Add a witness' cosignature to a published checkpoint and return the note; its first one stands.

        Raises PositionUnknown without a checkpoint of that size, WitnessRefused.
        """
        with self._engine.begin() as connection:
            note = connection.execute(select(_heads.c.note).where(_heads.c.size == size).with_for_update()).scalar()
            if note is None:
                raise PositionUnknown(f"no checkpoint of size {size}")
            if witness.name in signed_by(note, [witness]):
                return str(note)
            cosigned = add_cosignature(note, line, witness).note
            connection.execute(update(_heads).where(_heads.c.size == size).values(note=cosigned))
        return cosigned

    # -- reading -----------------------------------------------------------------------------------------------------

    def checkpoint(self) -> str:
        """Return the latest signed checkpoint; of an empty ledger, a fresh one of size 0."""
        with self._reader.connect() as connection:
            return self._latest(connection)

    def checkpoint_of(self, size: int) -> str:
        """Return the checkpoint of a size, with the cosignatures it has. Raises PositionUnknown: none was signed."""
        with self._reader.connect() as connection:
            note = connection.execute(select(_heads.c.note).where(_heads.c.size == size)).scalar()
        if note is None:
            raise PositionUnknown(f"no checkpoint of size {size}")
        return str(note)

    def witnessed(self, witnesses: Sequence[Verifier]) -> str:
        """Return the newest checkpoint that one of the witnesses has cosigned, among the last `LOOKED_BACK`.

        Raises PositionUnknown without one.
        """
        if witnesses:
            last = select(_heads).order_by(_heads.c.size.desc()).limit(LOOKED_BACK).subquery()
            theirs = or_(*(last.c.note.contains(line_start(each), autoescape=True) for each in witnesses))
            cosigned = select(last.c.note).where(theirs).order_by(last.c.size.desc())
            with self._reader.connect() as connection, connection.execute(cosigned) as notes:
                for note in notes.scalars():
                    if signed_by(note, witnesses):
                        return str(note)
        raise PositionUnknown("no witness has cosigned a checkpoint yet")

    def _latest(self, connection: Connection) -> str:
        note = connection.execute(select(_heads.c.note).order_by(_heads.c.size.desc()).limit(1)).scalar()
        return note or self._signer.checkpoint(0, root_of([]))

    def waiting(self) -> int:
        """Return how many entries are not yet integrated (the integrator's lag)."""
        with self._reader.connect() as connection:
            query = select(func.count()).select_from(_entries).where(_entries.c.position.is_(None))
            return int(connection.execute(query).scalar_one())

    def inclusion(self, position: int, size: int) -> list[bytes]:
        """Return the inclusion proof of a leaf in the tree of `size`. Raises PositionUnknown."""
        with self._reader.connect() as connection:
            _known(connection, size)
            return inclusion_proof(_StoredNodes(connection), position, size)

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """Return the proof that the tree of `size` extends that of `old_size`. Raises PositionUnknown."""
        with self._reader.connect() as connection:
            _known(connection, size)
            return consistency_proof(_StoredNodes(connection), old_size, size)

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` leaves."""
        with self._reader.connect() as connection:
            _known(connection, size)
            return root(_StoredNodes(connection), size)

    def entry(self, position: int) -> Entry:
        """Return the entry at a position. Raises PositionUnknown."""
        with self._reader.connect() as connection:
            query = select(*_ENVELOPE_COLUMNS, _entries.c.sealed).where(_entries.c.position == position)
            row = connection.execute(query).one_or_none()
        if row is None:
            raise PositionUnknown(f"no entry at position {position}")
        return Entry(_envelope(position, row[:7]), row[7])

    def position(self, entry_id: str) -> int | None:
        """Return the leaf number of an entry, None while it waits. Raises PositionUnknown for no such entry."""
        with self._reader.connect() as connection:
            row = connection.execute(select(_entries.c.position).where(_entries.c.id == entry_id)).one_or_none()
        if row is None:
            raise PositionUnknown("no such entry")
        return None if row[0] is None else int(row[0])

    def recorded(self, selection: Selection, *, limit: int = 1_000) -> list[Recorded]:
        """Return selected entries in the order they were written, waiting ones included (a case's timeline)."""
        names = ("id", "position", "at", "kind", "actor", "controller", "subject", "key_id", "sealed")
        query = _narrowed(select(*(_entries.c[name] for name in names)), selection)
        with self._reader.connect() as connection:
            rows = connection.execute(query.order_by(_entries.c.arrival).limit(limit)).all()
        return [Recorded(*row) for row in rows]

    def bundle(self, selection: Selection, opening: Opening | None = None, checkpoint: str | None = None) -> bytes:
        """Return the evidence bundle that answers a question, under the latest checkpoint or the given one.

        Payloads stay sealed without an `opening`. Entries that still wait are not in it: call `integrate` first.
        Raises LedgerCorrupted; PositionUnknown for a checkpoint beyond the tree.
        """
        with self._reader.connect() as connection:
            head = self._own(connection, checkpoint or self._latest(connection))
            source = _StoredNodes(connection, opening)
            return build_bundle(source, selection, head, self._signer, self._clock.now())

    def _own(self, connection: Connection, note: str) -> str:
        """Return a checkpoint with the present key's line, which one from before a change of the key lacks.

        The list is signed by that key alone, and one key must verify both. It signs no tree that the one last signed
        does not begin with (RFC 9162 section 2.1.4).
        """
        last = self._signed(self._latest(connection))
        try:
            if signed_by(note, [self._signer.verifier]):
                return note
            head = _head(note)
            proof = consistency_proof(_StoredNodes(connection), head.size, last.size)
            verify_consistency(head.size, head.root, last.size, last.root, proof)
            return self._signer.along(note)
        except (NoteError, ProofError) as fault:
            raise LedgerCorrupted(f"not a checkpoint of this ledger: {fault}") from fault

    def forget_payloads(self, key_id: str) -> int:
        """Remove the sealed payloads of a destroyed audit key and return how many: their leaves and proofs stay."""
        with self._engine.begin() as connection:
            query = update(_entries).where(_entries.c.key_id == key_id, _entries.c.sealed.is_not(None))
            return connection.execute(query.values(sealed=None)).rowcount

    def audit(self) -> list[str]:
        """Recompute the whole tree from the entries and return a sentence for each thing that was tampered with.

        Raises LedgerCorrupted when the latest checkpoint is not one that the ledger signed.
        """
        with self._reader.connect() as connection:
            size = int(connection.execute(select(func.max(_tree.c.size))).scalar() or 0)
            found = _recomputed(connection, size)
            note = self._latest(connection)
        head = self._signed(note)
        if head.size != size or (not found.faults and head.root != root_of(found.leaves)):
            found.faults.append(f"the checkpoint of {head.size} is not of the {size} entries that are stored")
        return found.faults


@dataclass(frozen=True, slots=True)
class _Recomputation:
    leaves: list[bytes]
    faults: list[str]


def _recomputed(connection: Connection, size: int) -> _Recomputation:
    result = _Recomputation([], [])
    stored = dict(_leaf_rows(connection))
    query = select(_entries.c.position, *_ENVELOPE_COLUMNS, _entries.c.sealed)
    ordered = query.where(_entries.c.position.is_not(None)).order_by(_entries.c.position)
    seen = set()
    for row in connection.execute(ordered):
        entry = Entry(_envelope(row[0], row[1:8]), row[8])
        seen.add(row[0])
        leaf = entry.envelope.leaf_hash()
        result.leaves.append(leaf)
        if stored.get(row[0]) != leaf:
            result.faults.append(f"entry {row[0]} was changed")
        elif not payload_fits(entry):
            result.faults.append(f"the sealed payload of entry {row[0]} was changed")
    result.faults.extend(f"entry {gone} is missing" for gone in range(size) if gone not in seen)
    return result


def _leaf_rows(connection: Connection) -> Iterator[tuple[int, bytes]]:
    leaves = select(_nodes.c.node, _nodes.c.hash).where(_nodes.c.node < node_key((1, 0)))
    for index, value in connection.execute(leaves):
        yield index, bytes(value)


def _waiting(limit: int) -> Select[Any]:
    query = select(_entries.c.arrival, *_ENVELOPE_COLUMNS).where(_entries.c.position.is_(None))
    return query.order_by(_entries.c.arrival).limit(limit)


def _locked_size(connection: Connection) -> int:
    """Lock the one row and return the size; on SQLite the transaction itself (BEGIN IMMEDIATE) is the lock."""
    connection.execute(text("INSERT INTO ledger_tree (id, size) VALUES (1, 0) ON CONFLICT DO NOTHING"))
    return int(connection.execute(select(_tree.c.size).where(_tree.c.id == 1).with_for_update()).scalar_one())


def _known(connection: Connection, size: int) -> None:
    reached = int(connection.execute(select(func.max(_tree.c.size))).scalar() or 0)
    if not 0 <= size <= reached:
        raise PositionUnknown(f"the tree has {reached} leaves, not {size}")


def _head(note: str) -> Checkpoint:
    return parse_checkpoint(parse_note(note))


@dataclass(frozen=True, slots=True)
class _Held:
    """Nodes already in memory."""

    nodes: Mapping[NodeId, bytes]

    def fetch(self, wanted: Sequence[NodeId]) -> dict[NodeId, bytes]:
        return {node: self.nodes[node] for node in wanted if node in self.nodes}


def _root(edge: Mapping[NodeId, bytes], size: int) -> bytes:
    return root(_Held(edge), size)

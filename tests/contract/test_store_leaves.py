"""The ledger's storage on both databases: one transaction with the caller, no fork, nothing lost, tampering found."""

from __future__ import annotations

import dataclasses
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.ledger.bundle import About, Selection
from app.ledger.checkpoint import NoteSigner, signed_by, witness_id
from app.ledger.errors import EntryRefused, LedgerCorrupted, PositionUnknown
from app.sdk.evidence import verify_bundle
from app.sdk.merkle import verify_consistency, verify_inclusion
from app.sdk.notes import (
    Algorithm,
    Checkpoint,
    Signature,
    Verifier,
    checkpoint_body,
    cosigned_bytes,
    parse_checkpoint,
    parse_note,
    write_note,
)
from app.sdk.payloads import split
from app.sdk.witness import WitnessSigner
from app.store.leaves import LeafStore, Opening, SqlJournal, mentioned_ids, payload_bytes
from consent.ports import Journal
from consent.vocabulary import ControllerId, SubjectRef
from tests.waiting import PATIENCE

ATLAS, OTHER = ControllerId("atlas"), ControllerId("other")
ANNA, BRUNO = SubjectRef("sub_" + "a" * 26), SubjectRef("sub_" + "b" * 26)
CASE, CONSENT = "cas_" + "c" * 26, "con_" + "d" * 26
START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


class Hand:
    """A clock that moves a second at each look, ids that count, and audit keys in a dict."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = itertools.count()
        self.keys: dict[str, bytes] = {}

    def now(self) -> datetime:
        with self._lock:
            return START + timedelta(seconds=next(self._count), microseconds=7)

    def new(self, prefix: str) -> str:
        with self._lock:
            return f"{prefix}_{next(self._count):026d}"

    def seal(self, controller: ControllerId, subject: SubjectRef | None, kind: str, plain: bytes) -> tuple[str, bytes]:
        key_id = f"aud_{subject or controller}"
        with self._lock:
            key = self.keys.setdefault(key_id, AESGCM.generate_key(256))
            nonce = next(self._count).to_bytes(12, "big")
        return key_id, nonce + AESGCM(key).encrypt(nonce, plain, kind.encode())

    def open(self, key_id: str, kind: str, sealed: bytes) -> dict[str, object]:
        opened: dict[str, object] = json.loads(self._plain(key_id, kind, split(sealed)[1]))
        return opened

    def opening(self, _controller: str, subject: str | None, kind: str, record: bytes) -> bytes | None:
        key_id = f"aud_{subject or ATLAS}"
        return self._plain(key_id, kind, record) if key_id in self.keys else None

    def _plain(self, key_id: str, kind: str, record: bytes) -> bytes:
        return AESGCM(self.keys[key_id]).decrypt(record[:12], record[12:], kind.encode())

    def salt(self, size: int) -> bytes:
        with self._lock:
            return next(self._count).to_bytes(size, "big")

    def journal(self, session: Session) -> SqlJournal:
        return SqlJournal(session, self.seal, self, self, self.salt)


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def store(records_engine: Engine, hand: Hand) -> LeafStore:
    return LeafStore(records_engine, NoteSigner("regard.test/ledger", b"\x05" * 32), hand)


def write(engine: Engine, hand: Hand, count: int = 1, subject: SubjectRef | None = ANNA) -> list[str]:
    with Session(engine) as session, session.begin():
        journal: Journal = hand.journal(session)
        return [
            journal.record(
                "consent.given",
                actor="cmp_x",
                controller=ATLAS,
                subject=subject,
                payload={"consent": CONSENT, "n": n, "share": 0.5},
            )
            for n in range(count)
        ]


def verified(store: LeafStore, selection: Selection) -> list[str]:
    report = verify_bundle(store.bundle(selection), store.verifier_key)
    assert report.faults == ()
    return [entry.envelope.id for entry in report.entries]


def test_an_entry_waits_then_becomes_a_leaf(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    [entry_id] = write(records_engine, hand)
    assert (store.waiting(), store.position(entry_id)) == (1, None)
    assert parse_checkpoint(parse_note(store.checkpoint())).size == 0
    assert store.integrate() == 1
    assert store.integrate() == 0
    assert (store.waiting(), store.position(entry_id)) == (0, 0)
    entry = store.entry(0)
    assert (entry.envelope.kind, entry.envelope.actor, entry.envelope.controller) == ("consent.given", "cmp_x", ATLAS)
    head = parse_checkpoint(parse_note(store.checkpoint()))
    assert (head.size, head.root) == (1, entry.envelope.leaf_hash())


def once(hand: Hand, session: Session) -> str | None:
    return hand.journal(session).record_once(
        "pool.shredded", CASE, actor="a", controller=ATLAS, payload={"cohorts": [CASE]}
    )


def once_and_for_all(engine: Engine, hand: Hand) -> str | None:
    with Session(engine) as session, session.begin():
        return once(hand, session)


def test_what_several_find_done_is_one_entry(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """Whoever comes later, before and after it became a leaf; another kind about the same is another matter."""
    write(records_engine, hand)
    with Session(records_engine) as session, session.begin():
        hand.journal(session).record("case.received", actor="a", controller=ATLAS, subject=None, payload={"c": CASE})
    assert once_and_for_all(records_engine, hand) is not None
    assert once_and_for_all(records_engine, hand) is None
    store.integrate()
    assert once_and_for_all(records_engine, hand) is None
    with Session(records_engine) as session:
        assert hand.journal(session).told("pool.shredded", [CONSENT, CASE]) == {CASE}
        with pytest.raises(EntryRefused):
            hand.journal(session).record_once("pool.shredded", "unsaid", actor="a", controller=ATLAS, payload={})


def test_of_two_who_find_it_done_at_once_one_records(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    with ThreadPoolExecutor(1) as pool:
        with Session(records_engine) as session, session.begin():
            assert once(hand, session) is not None
            other = pool.submit(once_and_for_all, records_engine, hand)
            wait([other], timeout=0.3)  # long enough to record, did nothing hold it back
        assert other.result(PATIENCE) is None
    assert store.waiting() == 1


def test_one_that_comes_to_nothing_leaves_it_to_the_next(records_engine: Engine, hand: Hand) -> None:
    with Session(records_engine) as session:
        assert once(hand, session) is not None
        session.rollback()
    assert once_and_for_all(records_engine, hand) is not None


def test_rollback_leaves_nothing(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """No action, no record (operations.md section 6, read backwards)."""
    with Session(records_engine) as session:
        hand.journal(session).record("case.received", actor="a", controller=ATLAS, subject=ANNA, payload={"case": CASE})
        session.rollback()
    assert (store.waiting(), store.integrate()) == (0, 0)
    with records_engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM ledger_references")).scalar() == 0


def test_no_record_no_action(records_engine: Engine, hand: Hand) -> None:
    """A sealer that fails takes the caller's state change with it (operations.md section 6)."""

    def broken(*_: object) -> tuple[str, bytes]:
        raise ConnectionError("key provider away")

    def act() -> None:
        with Session(records_engine) as session, session.begin():
            session.execute(text("INSERT INTO ledger_tree (id, size) VALUES (7, 7)"))  # stands for a state change
            journal = SqlJournal(session, broken, hand, hand, hand.salt)
            journal.record("token.issued", actor="a", controller=ATLAS, subject=ANNA, payload={})

    with pytest.raises(ConnectionError):
        act()
    with records_engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM ledger_tree")).scalar() == 0


def test_positions_survive_odd_batches(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    heads = []
    for count in (1, 6, 13, 2):
        write(records_engine, hand, count)
        assert store.integrate(batch=5) == count
        heads.append(parse_checkpoint(parse_note(store.checkpoint())))
    for old in heads:
        proof = store.consistency(old.size, 22)
        verify_consistency(old.size, old.root, 22, heads[-1].root, proof)
    for position in range(22):
        leaf = store.entry(position).envelope.leaf_hash()
        verify_inclusion(leaf, position, 22, store.inclusion(position, 22), heads[-1].root)
    assert store.root(7) == heads[1].root
    assert store.audit() == []
    assert len(verified(store, Selection(About.ALL))) == 22


def test_what_lies_beyond_the_tree_is_refused(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    write(records_engine, hand, 3)
    store.integrate()
    for ask in (
        lambda: store.inclusion(3, 3),
        lambda: store.inclusion(0, 4),
        lambda: store.consistency(2, 4),
        lambda: store.consistency(3, 2),
        lambda: store.root(4),
        lambda: store.entry(3),
        lambda: store.position("led_unknown"),
    ):
        with pytest.raises(PositionUnknown):
            ask()


def test_many_writers_and_two_integrators(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """Every committed entry gets exactly one position, and the checkpoints never fork."""
    done = threading.Event()
    other = LeafStore(records_engine, NoteSigner("regard.test/ledger", b"\x05" * 32), hand)

    def integrate(own: LeafStore) -> int:
        total = 0
        while not done.is_set():
            total += own.integrate(batch=7)
        return total

    with ThreadPoolExecutor(8) as pool:
        integrators = [pool.submit(integrate, own) for own in (store, other)]
        writers = [pool.submit(lambda: [write(records_engine, hand, 3) for _ in range(10)]) for _ in range(6)]
        written = {e for writer in writers for ids in writer.result(timeout=PATIENCE) for e in ids}
        done.set()
        total = sum(integrator.result(timeout=PATIENCE) for integrator in integrators)
    total += store.integrate()
    assert total == len(written) == 180
    assert set(verified(store, Selection(About.ALL))) == written
    assert store.audit() == []
    with records_engine.connect() as connection:
        notes = connection.execute(text("SELECT note FROM ledger_checkpoints ORDER BY size")).scalars().all()
    heads = [parse_checkpoint(parse_note(note)) for note in notes]
    assert len(heads) > 2
    for old, new in itertools.pairwise(heads):
        verify_consistency(old.size, old.root, new.size, new.root, store.consistency(old.size, new.size))


def test_bundles_by_what_they_are_about(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    with Session(records_engine) as session, session.begin():
        record = hand.journal(session).record
        opened = record("case.received", actor=ANNA, controller=ATLAS, subject=ANNA, payload={"case": CASE})
        given = record(
            "consent.given", actor=ANNA, controller=ATLAS, subject=ANNA, payload={"about": [{"id": CONSENT}]}
        )
        both = record("case.moved", actor="stf_1", controller=ATLAS, subject=ANNA, payload={"c": CASE, "d": CONSENT})
        staff = record("staff.signed_in", actor="stf_1", controller=OTHER, subject=None, payload={})
        bruno = record("consent.given", actor=BRUNO, controller=ATLAS, subject=BRUNO, payload={"note": "con_short"})
    assert [e.id for e in store.recorded(Selection(About.CASE, (CASE,)))] == [opened, both]
    assert verified(store, Selection(About.CASE, (CASE,))) == []
    store.integrate()
    assert verified(store, Selection(About.CASE, (CASE,))) == [opened, both]
    assert verified(store, Selection(About.CONSENT, (CONSENT,))) == [given, both]
    assert verified(store, Selection(About.ERASURE, (CASE, CONSENT))) == [opened, given, both]
    assert verified(store, Selection(About.SUBJECT, (BRUNO,))) == [bruno]
    assert verified(store, Selection(About.SUBJECT, (ANNA, BRUNO))) == [opened, given, both, bruno]
    assert verified(store, Selection(About.PERIOD, controller=OTHER)) == [staff]
    assert verified(store, Selection(About.ALL)) == [opened, given, both, staff, bruno]
    at = store.recorded(Selection(About.CASE, (CASE,)))[1].at
    assert verified(store, Selection(About.PERIOD, start=at)) == [both, staff, bruno]
    assert verified(store, Selection(About.PERIOD, until=at)) == [opened, given]


def test_the_payload_is_salted_sealed_and_tied_to_its_row(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    write(records_engine, hand, 2)
    rows = store.recorded(Selection(About.SUBJECT, (ANNA,)))
    first, second = (hand.open(row.key_id, row.kind, row.sealed or b"") for row in rows)
    assert (first["subject"], first["controller"], first["kind"]) == (ANNA, ATLAS, "consent.given")
    assert first["payload"] == {"consent": CONSENT, "n": 0, "share": 0.5}
    assert first["salt"] != second["salt"]
    assert len(str(first["salt"])) == 44


def test_destroying_an_audit_key_leaves_every_proof_valid(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """Erasure (GDPR art. 17) takes the payload; the leaf, its digest and every proof stay (ledger.md)."""
    write(records_engine, hand, 3, ANNA)
    write(records_engine, hand, 2, BRUNO)
    store.integrate()
    checkpoint = store.checkpoint()
    del hand.keys[f"aud_{ANNA}"]
    assert len(verified(store, Selection(About.ALL))) == 5
    assert store.forget_payloads(f"aud_{ANNA}") == 3
    assert store.forget_payloads(f"aud_{ANNA}") == 0
    assert len(verified(store, Selection(About.ALL))) == 5
    assert store.entry(0).sealed is None
    assert store.entry(4).sealed is not None
    assert (store.audit(), store.checkpoint()) == ([], checkpoint)


def test_a_bundle_shows_what_opens_and_only_what_it_may(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """Anna's audit key is gone: hers stays sealed. Bruno's is shown but for one field, and proven (ledger.md)."""
    write(records_engine, hand, 1, ANNA)
    write(records_engine, hand, 1, BRUNO)
    store.integrate()
    del hand.keys[f"aud_{ANNA}"]
    bundle = store.bundle(Selection(About.ALL), Opening(hand.opening, frozenset({"payload.consent"})))
    report = verify_bundle(bundle, store.verifier_key)
    assert report.faults == ()
    anna, bruno = report.entries
    assert (anna.opened, anna.sealed is not None) == (None, True)
    said = {field.name: field.text for field in bruno.opened or ()}
    assert said == {
        "controller": '"atlas"',
        "kind": '"consent.given"',
        "payload.consent": None,
        "payload.n": "0",
        "payload.share": "0.5",
        "subject": f'"{BRUNO}"',
    }
    assert CONSENT.encode() not in bundle


def test_what_opens_to_something_else_is_never_signed(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """A key provider that lies, or a row that was moved: the opened text must be the recorded one."""
    write(records_engine, hand, 1)
    store.integrate()
    other = payload_bytes("consent.given", ATLAS, ANNA, {"consent": CONSENT, "n": 7}, bytes(32))
    for lie in (other, b"{}", b"no json"):
        with pytest.raises(LedgerCorrupted, match="entry 0"):
            store.bundle(Selection(About.ALL), Opening(lambda *_, lie=lie: lie))


def test_an_entry_from_before_commitments_stays_sealed(
    records_engine: Engine, hand: Hand, store: LeafStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.leaves.bind", lambda _plain, record: record)
    write(records_engine, hand, 1)
    store.integrate()
    report = verify_bundle(store.bundle(Selection(About.ALL), Opening(hand.opening)), store.verifier_key)
    assert (report.faults, report.entries[0].opened) == ((), None)


def test_an_erasure_is_found_by_its_own_name_and_by_what_it_erases(
    records_engine: Engine, hand: Hand, store: LeafStore
) -> None:
    line = "line_" + "e" * 26
    with Session(records_engine) as session, session.begin():
        record = hand.journal(session).record
        said = {"actor": "a", "controller": ATLAS, "subject": ANNA}
        begun = record("case.erasure_started", payload={"line": line}, **said)  # type: ignore[arg-type]
        done = record("case.carried_out", payload={"evidence": f"era_{line}:{'0' * 64}"}, **said)  # type: ignore[arg-type]
        record("case.carried_out", payload={"evidence": f"era_line_{'f' * 26}:{'0' * 64}"}, **said)  # type: ignore[arg-type]
    store.integrate()
    assert verified(store, Selection(About.ERASURE, (f"era_{line}",))) == [begun, done]
    assert verified(store, Selection(About.CASE, (f"era_{line}",))) == [done]


TAMPERING = {
    "an envelope": ("UPDATE ledger_entries SET kind = 'consent.refused' WHERE position = 2", "entry 2 was changed"),
    "a moment": (
        "UPDATE ledger_entries SET at = '2026-11-21 09:00:00.000000' WHERE position = 2",
        "entry 2 was changed",
    ),
    "a payload": (
        "UPDATE ledger_entries SET sealed = actor_bytes WHERE position = 2",
        "payload of entry 2 was changed",
    ),
    "a removal": ("DELETE FROM ledger_entries WHERE position = 4", "entry 4 is missing"),
    "a leaf": ("UPDATE ledger_nodes SET hash = other WHERE node = 3", "entry 3 was changed"),
    "a head": ("UPDATE ledger_tree SET size = 5", "the checkpoint of 6"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_found(records_engine: Engine, hand: Hand, store: LeafStore, what: str) -> None:
    write(records_engine, hand, 6)
    store.integrate()
    statement, sentence = TAMPERING[what]
    hexed = "decode('00', 'hex')" if records_engine.dialect.name == "postgresql" else "x'00'"
    statement = statement.replace("actor_bytes", hexed).replace("other", hexed)
    with records_engine.begin() as connection:
        if what == "a removal":
            connection.execute(text("DELETE FROM ledger_references"))
        connection.execute(text(statement))
    assert any(sentence in fault for fault in store.audit())
    if what == "a head":
        with pytest.raises(LedgerCorrupted):
            store.integrate()
    elif what == "a removal":
        assert not verify_bundle(store.bundle(Selection(About.ALL)), store.verifier_key).ok
    else:
        with pytest.raises(LedgerCorrupted):
            store.bundle(Selection(About.ALL))


def test_the_integrator_does_not_build_on_a_changed_tree(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    """It recomputes the root it signed last before it extends it, so a swapped node is never signed over."""
    write(records_engine, hand, 4)
    store.integrate()
    with records_engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE ledger_nodes SET hash = (SELECT digest FROM ledger_entries LIMIT 1)"
                " WHERE node = (2 * 72057594037927936)"
            )
        )
    write(records_engine, hand, 1)
    with pytest.raises(LedgerCorrupted):
        store.integrate()
    assert store.waiting() == 1


def rewrite(engine: Engine, store: LeafStore) -> str:
    """Change the one entry, its node and the latest checkpoint's body with SQL alone; return that body."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_entries SET actor = 'somebody_else'"))
    leaf = store.entry(0).envelope.leaf_hash()
    with engine.begin() as connection:
        connection.execute(text("UPDATE ledger_nodes SET hash = :leaf"), {"leaf": leaf})
    return checkpoint_body(Checkpoint("regard.test/ledger", 1, leaf))


@pytest.mark.parametrize("signer", ["who signed the true one", "a stranger", "a stranger of that name"])
def test_another_past_is_not_signed(records_engine: Engine, hand: Hand, store: LeafStore, signer: str) -> None:
    """Ledger.md, append-only: whoever may write to the database, and has no key, has nothing signed for it."""
    write(records_engine, hand, 1)
    store.integrate()
    true = parse_note(store.checkpoint()).signatures
    forged = rewrite(records_engine, store)
    strangers = {name: NoteSigner(name, b"\x06" * 32).sign(forged) for name in ("x.test/ledger", "regard.test/ledger")}
    stored = {
        "who signed the true one": write_note(forged, true),
        "a stranger": strangers["x.test/ledger"],
        "a stranger of that name": strangers["regard.test/ledger"],
    }[signer]
    with records_engine.begin() as connection:
        connection.execute(text("UPDATE ledger_checkpoints SET note = :note"), {"note": stored})
    write(records_engine, hand, 1)
    for act in (store.integrate, store.audit, store.sign_alone):
        with pytest.raises(LedgerCorrupted, match="a stored checkpoint is"):
            act()
    assert (store.waiting(), store.checkpoint()) == (1, stored)


@pytest.mark.parametrize("known", ["before", "lost"])
def test_a_key_goes_on_from_the_checkpoint_of_another(
    records_engine: Engine, hand: Hand, store: LeafStore, known: str
) -> None:
    """The one before it, which signs along, or one that is lost for good and told by the operator."""
    name, new = "regard.test/ledger", b"\x06" * 32
    write(records_engine, hand, 1)
    store.integrate()
    write(records_engine, hand, 1)
    with pytest.raises(LedgerCorrupted, match="by no key of this ledger"):
        LeafStore(records_engine, NoteSigner(name, new), hand).integrate()
    lost = [Verifier.parse(store.verifier_key)]
    signer = NoteSigner(name, new, b"\x05" * 32) if known == "before" else NoteSigner(name, new, lost=lost)
    assert LeafStore(records_engine, signer, hand).integrate() == 1


def test_no_bundle_makes_the_key_sign_what_is_not_of_the_tree(
    records_engine: Engine, hand: Hand, store: LeafStore
) -> None:
    """A checkpoint from before a change of the key is signed along where today's tree begins with its own."""
    write(records_engine, hand, 2)
    store.integrate()
    true = store.checkpoint()
    write(records_engine, hand, 1)
    store.integrate()
    present = LeafStore(records_engine, NoteSigner("regard.test/ledger", b"\x06" * 32, b"\x05" * 32), hand)
    for at in (true, None):
        report = verify_bundle(present.bundle(Selection(About.ALL), checkpoint=at), present.verifier_key)
        assert report.faults == ()
    before = NoteSigner("regard.test/ledger", b"\x05" * 32)
    head = parse_checkpoint(parse_note(true))
    for other in (
        before.checkpoint(2, bytes(32)),
        before.checkpoint(1, head.root),
        before.sign(checkpoint_body(dataclasses.replace(head, origin="other.test/ledger"))),
        before.sign(f"{checkpoint_body(head)}something more\n"),
        "x",
    ):
        with pytest.raises(LedgerCorrupted, match="not a checkpoint of this ledger"):
            present.bundle(Selection(About.ALL), checkpoint=other)
    with pytest.raises(PositionUnknown):
        present.bundle(Selection(About.ALL), checkpoint=before.checkpoint(4, bytes(32)))


def test_a_cosignature_is_kept(records_engine: Engine, hand: Hand, store: LeafStore) -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    witness = Verifier("witness.example", Algorithm.COSIGNATURE, private.public_key().public_bytes_raw())
    write(records_engine, hand, 2)
    store.integrate()
    body = parse_note(store.checkpoint()).body
    value = (77).to_bytes(8, "big") + private.sign(cosigned_bytes(body, 77))
    line = Signature(witness.name, witness_id(witness.name, witness.public), value)
    assert store.cosign(2, line, witness) == store.checkpoint()
    report = verify_bundle(store.bundle(Selection(About.ALL)), store.verifier_key, witnesses=[witness.text()])
    assert (report.faults, report.witnesses) == ((), {"witness.example": 77})
    with pytest.raises(PositionUnknown):
        store.cosign(3, line, witness)
    cosigned = store.checkpoint()
    assert store.cosign(2, line, witness) == cosigned, "the first one stands"
    write(records_engine, hand, 1)
    assert store.integrate() == 1
    assert store.checkpoint() != cosigned
    assert store.witnessed([witness]) == store.checkpoint_of(2) == cosigned
    stranger = Verifier("witness.example", Algorithm.COSIGNATURE, bytes(32))
    for ask in (lambda: store.witnessed([]), lambda: store.witnessed([stranger]), lambda: store.checkpoint_of(1)):
        with pytest.raises(PositionUnknown):
            ask()
    under = verify_bundle(store.bundle(Selection(About.ALL), checkpoint=cosigned), store.verifier_key)
    assert (under.faults, len(under.entries)) == ((), 2)


def test_only_what_a_witness_signed_is_read_in_search_of_it(
    records_engine: Engine, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The door is public: while two keys of the ledger sign, no other checkpoint costs a parsing and a check."""
    name, seed = "regard.test/ledger", b"\x05" * 32
    store = LeafStore(records_engine, NoteSigner(name, seed, b"\x06" * 32), hand)
    watching = [WitnessSigner(each, b"\x09" * 32) for each in ("w.example/a\\b%c", name, "xyz")]
    for _ in range(5):
        write(records_engine, hand, 1)
        store.integrate()
    read = []
    monkeypatch.setattr("app.store.leaves.signed_by", lambda note, keys: read.append(note) or signed_by(note, keys))
    verifiers = [witness.verifier for witness in watching]
    with pytest.raises(PositionUnknown):
        store.witnessed(verifiers)
    assert read == []
    for size, witness in enumerate(watching, start=1):
        cosigned = store.cosign(size, witness.sign(parse_note(store.checkpoint_of(size)).body, 7), witness.verifier)
        read.clear()
        assert store.witnessed(verifiers) == store.witnessed([witness.verifier]) == cosigned
        assert read == [cosigned] * 2


@pytest.mark.parametrize(
    ("kind", "payload"),
    [("given", {}), ("Consent.given", {}), ("consent.given", {"a": float("nan")}), ("consent.given", {"a": b"x"})],
)
def test_what_is_not_an_entry_is_refused(
    records_engine: Engine, hand: Hand, kind: str, payload: dict[str, object]
) -> None:
    with Session(records_engine) as session, pytest.raises(EntryRefused):
        hand.journal(session).record(kind, actor="a", controller=ATLAS, subject=None, payload=payload)  # type: ignore[arg-type]


def test_opaque_ids_are_found_wherever_they_stand() -> None:
    payload = {"a": CASE, "b": ["x", {"c": CONSENT}], "d": CASE, "e": "con_1", "f": f"see {CASE}", "g": 3}
    assert mentioned_ids(payload) == [CASE, CONSENT]


def test_the_salt_has_its_size() -> None:
    with pytest.raises(EntryRefused, match="32 bytes"):
        payload_bytes("a.b", ATLAS, None, {}, b"short")

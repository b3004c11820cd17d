"""Payloads shown field by field: what is shown is what was recorded, what is hidden stays hidden (ledger.md)."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import Any

import pytest

from app.ledger.bundle import About, Selection, build_bundle
from app.ledger.checkpoint import NoteSigner
from app.ledger.tree import extend, root
from app.sdk.evidence import Entry, Envelope, Finding, canonical, verify_bundle
from app.sdk.payloads import Field, PayloadError, bind, fields_of, fits, shown, split
from tests.mechanism.test_merkle import Memory

SIGNER = NoteSigner("regard.example/ledger", b"\x07" * 32)
KEY = SIGNER.verifier.text()
AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SALT = bytes(range(32))


def payload(kind: str = "case.carried_out", **fields: Any) -> bytes:
    value = {
        "controller": "atlas",
        "kind": kind,
        "payload": fields or {"line": "line_1", "share": 0.5, "names": ["é", "\u2028"]},
        "salt": b64encode(SALT).decode(),
        "subject": "sub_1",
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


RECORD = b"RGD\x01" + bytes(100)
BLOB = bind(payload(), RECORD)


def test_the_commitment_is_what_the_published_format_says() -> None:
    """docs/formats/ledger.md, spelled out with nothing but HMAC and SHA-256."""
    texts = {
        "controller": '"atlas"',
        "kind": '"case.carried_out"',
        "payload.line": '"line_1"',
        "payload.names": '["é","\u2028"]',
        "payload.share": "0.5",
        "subject": '"sub_1"',
    }
    pairs = []
    for name, text in texts.items():
        salt = hmac.new(SALT, name.encode(), hashlib.sha256).digest()
        digest = hmac.new(salt, text.encode(), hashlib.sha256).digest()
        pairs.append([name, b64encode(digest).decode()])
    spelled = json.dumps(pairs, separators=(",", ":"), ensure_ascii=False).encode()
    expected = hashlib.sha256(b"regard-payload/v1\n" + spelled).digest()
    assert b"RGP\x01" + expected + RECORD == BLOB
    assert split(BLOB) == (expected, RECORD)


def test_hiding_a_field_keeps_the_proof_and_tells_nothing() -> None:
    for hide in ((), ("subject",), ("payload.line", "subject"), tuple(f.name for f in fields_of(payload()))):
        fields = shown(BLOB, payload(), hide)
        assert fits(BLOB, fields)
        again = tuple(Field.read(json.loads(json.dumps(field.data()))) for field in fields)
        assert again == fields
        assert all((field.text is None) == (field.name in hide) for field in again)
        told = json.dumps([field.data() for field in fields])
        assert ("sub_1" in told) is ("subject" not in hide)
        # a salt of the payload, or of a hidden field, would let a guess be tested
        hidden_salts = [b64encode(f.salt or b"").decode() for f in fields_of(payload()) if f.name in hide]
        assert not any(salt in told for salt in [b64encode(SALT).decode(), *hidden_salts])


def test_an_id_is_hidden_wherever_it_stands() -> None:
    fields = {field.name: field for field in shown(BLOB, payload(), without=["line_1", "sub_1"])}
    assert {name for name, field in fields.items() if field.text is None} == {"payload.line", "subject"}
    assert fits(BLOB, tuple(fields.values()))


def test_a_field_says_its_value_and_its_repr_nothing() -> None:
    fields = {field.name: field for field in shown(BLOB, payload(), ("subject",))}
    assert (fields["payload.share"].value(), fields["payload.names"].value()) == (0.5, ["é", "\u2028"])
    with pytest.raises(PayloadError, match="not shown"):
        fields["subject"].value()
    assert "line_1" not in repr(fields["payload.line"])


@pytest.mark.parametrize(
    "other",
    [
        payload(line="line_2"),
        payload(kind="case.closed"),
        payload().replace(b"sub_1", b"sub_2"),
        payload().replace(b'"payload.', b'"').replace(b"0.5", b"0.50001"),
        payload().replace(b64encode(SALT), b64encode(bytes(32))),
    ],
)
def test_another_payload_does_not_pass_for_the_recorded_one(other: bytes) -> None:
    with pytest.raises(PayloadError) as refused:
        shown(BLOB, other)
    assert refused.value.code == "payload.mismatch"
    assert not fits(BLOB, fields_of(other))


@pytest.mark.parametrize(
    "plain",
    [b"", b"[]", b"{}", b"\xff", payload().replace(b"salt", b"sald"), payload().replace(b64encode(SALT), b"AA==")],
)
def test_what_is_no_payload_is_refused(plain: bytes) -> None:
    with pytest.raises(PayloadError) as refused:
        bind(plain, RECORD)
    assert refused.value.code == "payload.malformed"


def test_what_carries_no_commitment_cannot_be_shown() -> None:
    for blob in (RECORD, b"", b"RGP\x01", b"RGP\x01" + bytes(32), b"RGP\x02" + BLOB[4:]):
        with pytest.raises(PayloadError):
            split(blob)
        assert not fits(blob, fields_of(payload()))


@pytest.mark.parametrize(
    "data", [None, [], ["a"], ["a", "b", "c", "d"], ["a", 1], ["a", "!"], ["a", "AA=="], ["a", "AA==", "1"], {"a": 1}]
)
def test_what_is_no_field_is_refused(data: object) -> None:
    with pytest.raises(PayloadError):
        Field.read(data)


# -- in a bundle -------------------------------------------------------------------------------------------------------


class Ledger(Memory):
    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        for n, kind in enumerate(("case.received", "case.carried_out", "case.closed")):
            plain = payload(kind, line=f"line_{n}", n=n)
            blob = bind(plain, RECORD + bytes([n]))
            digest = hashlib.sha256(blob).digest()
            envelope = Envelope(n, f"led_{n}", "2026-11-21T09:00:00.000000Z", kind, "a", "atlas", "k", digest)
            self.entries.append(Entry(envelope, blob, shown(blob, plain, ("subject",)) if n != 2 else None))
        self.held = dict(extend(0, {}, [entry.envelope.leaf_hash() for entry in self.entries]))

    def select(self, selection: Selection, size: int) -> list[Entry]:
        return self.entries

    def bundle(self) -> bytes:
        return build_bundle(self, Selection(About.ALL), SIGNER.checkpoint(3, root(self, 3)), SIGNER, AT)


@pytest.fixture(scope="module")
def good() -> bytes:
    return Ledger().bundle()


def changed(data: bytes, at: int, opened: object) -> bytes:
    value = json.loads(data)
    if opened is None:
        value["entries"][at].pop("opened")
    else:
        value["entries"][at]["opened"] = opened
    return canonical(value) + b"\n"


def test_a_bundle_with_opened_payloads_holds(good: bytes) -> None:
    report = verify_bundle(good, KEY)
    assert report.faults == ()
    assert [entry.opened is not None for entry in report.entries] == [True, True, False]
    told = {field.name: field.value() for field in report.entries[1].opened or () if field.text is not None}
    assert told == {"controller": "atlas", "kind": "case.carried_out", "payload.line": "line_1", "payload.n": 1}


def test_every_change_of_an_opened_payload_is_named(good: bytes) -> None:
    opened = json.loads(good)["entries"][1]["opened"]
    other = json.loads(good)["entries"][0]["opened"]
    lies: list[Any] = [
        None,
        other,
        opened[1:],
        opened[::-1],
        [*opened, ["payload.more", b64encode(SALT).decode(), "1"]],
    ]
    for n, field in enumerate(opened):
        for part in range(len(field)):
            worse = [list(each) for each in opened]
            worse[n][part] = _other(field[part], is_text=part != 1)
            lies.append(worse)
    for lie in lies:
        report = verify_bundle(changed(good, 1, lie), KEY)
        assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.EDITED, (1,))], lie


def _other(text: str, *, is_text: bool) -> str:
    if is_text:
        return text + "x"
    raw = bytearray(b64decode(text))
    raw[0] ^= 1
    return b64encode(raw).decode()


def test_a_payload_cannot_be_opened_by_whoever_hands_the_bundle_on(good: bytes) -> None:
    opened = json.loads(good)["entries"][1]["opened"]
    report = verify_bundle(changed(good, 2, opened), KEY)
    assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.EDITED, (2,))]


@pytest.mark.parametrize("opened", [1, {}, [[1]], [["a"]], "x"])
def test_an_opened_payload_of_another_shape_is_malformed(good: bytes, opened: object) -> None:
    assert [f.finding for f in verify_bundle(changed(good, 1, opened), KEY).faults] == [Finding.MALFORMED]


def test_a_ledger_that_shows_the_payload_of_another_kind_is_found() -> None:
    """The signer cannot have recorded one thing and shown it as another."""
    lying = Ledger()
    plain = payload("case.refused", line="line_1")
    blob = bind(plain, RECORD)
    old = lying.entries[1].envelope
    digest = hashlib.sha256(blob).digest()
    envelope = Envelope(1, old.id, old.at, "case.carried_out", old.actor, old.controller, old.key_id, digest)
    lying.entries[1] = Entry(envelope, blob, shown(blob, plain))
    lying.held = dict(extend(0, {}, [entry.envelope.leaf_hash() for entry in lying.entries]))
    with pytest.raises(Exception, match="entry 1"):
        lying.bundle()


def test_random_bytes_of_an_opened_bundle(good: bytes) -> None:
    source = random.Random(7)
    for _ in range(400):
        at = source.randrange(len(good))
        bad = good[:at] + bytes([good[at] ^ (1 << source.randrange(8))]) + good[at + 1 :]
        assert not verify_bundle(bad, KEY).ok, at

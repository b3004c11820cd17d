"""Evidence bundles: a sound one holds, every mutation is found, and the kinds of tampering are named (ledger.md)."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from app.ledger.bundle import About, Selection, build_bundle
from app.ledger.checkpoint import NoteSigner, add_cosignature, witness_id
from app.ledger.errors import LedgerCorrupted
from app.ledger.tree import NodeId, extend, right_edge, root
from app.sdk.evidence import (
    Bundle,
    Entry,
    Envelope,
    EvidenceError,
    Finding,
    canonical,
    instant_text,
    parse_canonical,
    verify_bundle,
    write_bundle,
)
from app.sdk.notes import Algorithm, Signature, Verifier, cosigned_bytes, parse_note
from app.sdk.verify import main

SIGNER = NoteSigner("regard.example/ledger", b"\x07" * 32)
KEY = SIGNER.verifier.text()
START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
SIZE = 120


class Ledger:
    """A ledger in memory; each subject's payloads are sealed with AES-GCM under an audit key of the subject's own."""

    def __init__(self, size: int) -> None:
        self.source = random.Random(11)
        self.keys = {f"aud_{n}": self.source.randbytes(32) for n in range(5)}
        self.entries = [self._entry(n) for n in range(size)]
        self.held: dict[NodeId, bytes] = extend(0, {}, [e.envelope.leaf_hash() for e in self.entries])

    def _entry(self, sequence: int) -> Entry:
        key_id, nonce = f"aud_{sequence % 5}", self.source.randbytes(12)
        plain = json.dumps({"consent": f"con_{sequence}", "salt": self.source.randbytes(32).hex()}).encode()
        sealed = nonce + AESGCM(self.keys[key_id]).encrypt(nonce, plain, key_id.encode())
        at = instant_text(START + timedelta(seconds=sequence))
        kind = ("consent.given", "key.leased", "case.received", "key.shredded")[sequence % 4]
        return Entry(
            Envelope(sequence, f"led_{sequence}", at, kind, "cmp_a", "atlas", key_id, hashlib.sha256(sealed).digest()),
            sealed,
        )

    def open(self, entry: Entry) -> bytes:
        assert entry.sealed is not None
        key_id = entry.envelope.key_id
        return AESGCM(self.keys[key_id]).decrypt(entry.sealed[:12], entry.sealed[12:], key_id.encode())

    def fetch(self, wanted: Sequence[NodeId]) -> Mapping[NodeId, bytes]:
        return {node: self.held[node] for node in wanted if node in self.held}

    def select(self, selection: Selection, size: int) -> Sequence[Entry]:
        chosen = self.entries[:size]
        if selection.about is About.ALL:
            return chosen
        return [entry for entry in chosen if entry.envelope.key_id in selection.refs]

    def checkpoint(self, size: int) -> str:
        return SIGNER.checkpoint(size, root(self, size))

    def bundle(self, selection: Selection, size: int = SIZE) -> bytes:
        return build_bundle(self, selection, self.checkpoint(size), SIGNER, START + timedelta(days=1))


ALL = Selection(About.ALL)
CASE = Selection(About.CASE, ("aud_1", "aud_3"))


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return Ledger(SIZE)


def findings(data: bytes) -> set[Finding]:
    report = verify_bundle(data, KEY)
    assert not report.ok
    return {fault.finding for fault in report.faults}


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, SIZE])
@pytest.mark.parametrize("selection", [ALL, CASE])
def test_a_sound_bundle_holds(ledger: Ledger, size: int, selection: Selection) -> None:
    report = verify_bundle(ledger.bundle(selection, size), KEY)
    assert report.faults == ()
    assert report.ok
    assert report.authenticated
    assert report.checkpoint
    assert (report.checkpoint.size, report.checkpoint.root) == (size, root(ledger, size))
    assert list(report.entries) == list(ledger.select(selection, size))
    assert report.selection["about"] == selection.about.value


def test_without_a_key_the_report_says_so(ledger: Ledger) -> None:
    report = verify_bundle(ledger.bundle(CASE), None)
    assert report.ok
    assert not report.authenticated


def test_a_forger_with_his_own_key_is_found(ledger: Ledger) -> None:
    """A whole bundle signed anew holds within itself, and fails against the ledger's key."""
    forger = NoteSigner("regard.example/ledger", b"\x08" * 32)
    forged = build_bundle(ledger, CASE, forger.checkpoint(SIZE, root(ledger, SIZE)), forger, START)
    assert verify_bundle(forged, None).ok
    assert Finding.WRONG_KEY in findings(forged)


def test_a_key_from_before_a_rotation_is_said_to_be_another_and_nothing_to_be_edited(ledger: Ledger) -> None:
    """And what was really edited is found all the same, with whichever key signed."""
    both = NoteSigner("regard.example/ledger", b"\x08" * 32, b"\x07" * 32)
    sound = build_bundle(ledger, CASE, both.checkpoint(SIZE, root(ledger, SIZE)), both, START)
    (only,) = verify_bundle(sound, KEY).faults
    assert only.finding is Finding.WRONG_KEY
    assert "the ledger's key was changed, and the present one is needed" in only.sentence
    assert verify_bundle(sound, both.verifier.text()).ok
    alone = NoteSigner("regard.example/ledger", b"\x08" * 32)
    later = build_bundle(ledger, CASE, alone.checkpoint(SIZE, root(ledger, SIZE)), alone, START)
    (only,) = verify_bundle(later, KEY).faults
    assert only.finding is Finding.WRONG_KEY
    assert "before or after a change of its key" in only.sentence
    for entry in range(2):
        edited = changed(sound, entries=lambda entries, at=entry: entries[:at] + entries[at + 1 :])
        assert findings(edited) > {Finding.WRONG_KEY}
    listed = changed(sound, list=lambda note: note.replace("2026", "2027", 1))
    assert findings(listed) == {Finding.WRONG_KEY, Finding.LIST_EDITED}
    mine = changed(ledger.bundle(CASE), key=lambda _key: alone.verifier.text())
    assert findings(mine) == {Finding.WRONG_KEY}, "only the key it names was changed"


# -- named tampering -------------------------------------------------------------------------------------------------


def changed(data: bytes, **parts: Any) -> bytes:
    value = json.loads(data)
    for name, change in parts.items():
        value[name] = change(value[name])
    return canonical(value) + b"\n"


def test_an_edit_is_named(ledger: Ledger) -> None:
    def edit(entries: list[Any]) -> list[Any]:
        entries[4]["envelope"]["kind"] = "consent.refused"
        return entries

    report = verify_bundle(changed(ledger.bundle(ALL), entries=edit), KEY)
    assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.EDITED, (4,))]


def test_a_changed_payload_is_named(ledger: Ledger) -> None:
    def edit(entries: list[Any]) -> list[Any]:
        entries[6]["sealed"] = base64.b64encode(b"something else").decode()
        entries[7]["sealed"] = None
        return entries

    report = verify_bundle(changed(ledger.bundle(ALL), entries=edit), KEY)
    assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.EDITED, (6,)), (Finding.EDITED, (7,))]


def test_a_removal_is_named(ledger: Ledger) -> None:
    report = verify_bundle(changed(ledger.bundle(ALL), entries=lambda e: e[:9] + e[11:]), KEY)
    assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.REMOVED, (9, 10))]


def test_a_truncation_is_named(ledger: Ledger) -> None:
    report = verify_bundle(changed(ledger.bundle(ALL), entries=lambda e: e[:-3]), KEY)
    assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.TRUNCATED, (117, 118, 119))]
    assert findings(ledger.bundle(ALL)[:-500]) == {Finding.TRUNCATED}


def test_an_insertion_is_named(ledger: Ledger) -> None:
    stranger = json.loads(ledger.bundle(ALL))["entries"][7]
    report = verify_bundle(changed(ledger.bundle(CASE), entries=lambda e: [*e, stranger]), KEY)
    assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.INSERTED, (7,))]
    assert findings(changed(ledger.bundle(ALL), entries=lambda e: [e[0], *e])) == {Finding.INSERTED}


def test_a_reordering_is_named(ledger: Ledger) -> None:
    report = verify_bundle(changed(ledger.bundle(ALL), entries=lambda e: [e[1], e[0], *e[2:]]), KEY)
    assert [(f.finding, f.sequences) for f in report.faults] == [(Finding.REORDERED, (1, 0))]


def test_parts_of_two_bundles_do_not_mix(ledger: Ledger) -> None:
    case, everything = json.loads(ledger.bundle(CASE)), json.loads(ledger.bundle(ALL, 64))
    assert Finding.CHECKPOINT_EDITED in findings(
        changed(ledger.bundle(CASE), checkpoint=lambda _: everything["checkpoint"])
    )
    assert Finding.PROOF_EDITED in findings(changed(ledger.bundle(CASE), proof=lambda _: everything["proof"]))
    assert Finding.INSERTED in findings(changed(ledger.bundle(CASE), list=lambda _: everything["list"]))
    assert findings(changed(ledger.bundle(ALL), proof=lambda _: case["proof"])) == {Finding.PROOF_EDITED}


def test_a_ledger_that_signs_less_than_all_is_found() -> None:
    """Even the holder of the signing key cannot call a part the whole."""
    ledger = Ledger(40)
    del ledger.entries[33]
    assert findings(ledger.bundle(ALL, 40)) == {Finding.INCOMPLETE}


def test_a_second_signature_on_the_list_is_found(ledger: Ledger) -> None:
    """It would not break the first one; it is still an edit."""
    stranger = NoteSigner("stranger.example", b"\x08" * 32)

    def add(text: str) -> str:
        return text + stranger.sign(parse_note(text).body).rpartition("\n\n")[2]

    assert findings(changed(ledger.bundle(CASE), list=add)) == {Finding.LIST_EDITED}


# -- a thousand mutations ----------------------------------------------------------------------------------------------


def mutated(data: bytes, source: random.Random) -> bytes:
    """Change one thing: a byte anywhere, or one part of the structure."""
    choice = source.randrange(10)
    at = source.randrange(len(data))
    if choice == 0:
        return data[:at] + bytes([data[at] ^ (1 << source.randrange(8))]) + data[at + 1 :]
    if choice == 1:
        return data[:at] + data[at + 1 :]
    if choice == 2:
        return data[:at] + bytes([source.randrange(256)]) + data[at:]
    if choice == 3:
        return data[:at]
    if choice == 4:
        return data[:at] + bytes([source.choice(b'AB09+/ \n"}{,:')]) + data[at + 1 :]
    return canonical(_restructured(json.loads(data), choice, source)) + b"\n"


def _restructured(value: dict[str, Any], choice: int, source: random.Random) -> dict[str, Any]:
    entries = value["entries"]
    n = source.randrange(len(entries))
    if choice == 5:
        name = source.choice(["actor", "at", "controller", "digest", "id", "key", "kind", "seq", "v"])
        old = entries[n]["envelope"][name]
        entries[n]["envelope"][name] = old + source.randint(1, 5) if isinstance(old, int) else old[::-1] + "x"
    elif choice == 6:
        del entries[n : n + source.randint(1, 4)]
    elif choice == 7:
        entries.insert(source.randrange(len(entries)), entries[n])
    elif choice == 8:
        m = (n + source.randrange(1, len(entries))) % len(entries)
        entries[n], entries[m] = entries[m], entries[n]
    else:
        entries[n]["sealed"] = source.choice([None, base64.b64encode(source.randbytes(40)).decode()])
    return value


@pytest.mark.parametrize("selection", [ALL, CASE])
def test_a_thousand_mutations_are_all_found(ledger: Ledger, selection: Selection) -> None:
    good, source = ledger.bundle(selection), random.Random(2026)
    tried = 0
    while tried < 500:
        bad = mutated(good, source)
        if bad == good:
            continue
        tried += 1
        report = verify_bundle(bad, KEY)
        assert report.faults, bad[:200]
        assert all(fault.sentence for fault in report.faults)
        if b'"key"' in bad and verify_bundle(bad, None).ok:
            raise AssertionError("found only with the key at hand")


def test_every_single_byte_counts(ledger: Ledger) -> None:
    good = ledger.bundle(CASE, 9)
    for at in range(len(good)):
        assert not verify_bundle(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], KEY).ok, at


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"}\n", b"{}\n", b"[]\n", b"\xff}\n", b"[" * 100_000 + b"}\n", b'{"a":1.5}\n']
)
def test_nonsense_is_reported_not_raised(data: bytes) -> None:
    assert findings(data) <= {Finding.MALFORMED, Finding.TRUNCATED}


# -- erasure -----------------------------------------------------------------------------------------------------------


def test_destroying_an_audit_key_leaves_every_proof_valid() -> None:
    """GDPR art. 17 against art. 5(2): what is erased is the payload, what is proved is the leaf."""
    ledger = Ledger(40)
    before = ledger.bundle(ALL, 40)
    mine = [entry for entry in ledger.entries if entry.envelope.key_id == "aud_2"]
    assert b"con_2" in ledger.open(mine[0])
    ledger.keys["aud_2"] = bytes(32)
    for entry in mine:
        with pytest.raises(InvalidTag):
            ledger.open(entry)
    assert ledger.bundle(ALL, 40) == before
    assert verify_bundle(before, KEY).ok
    ledger.entries = [Entry(e.envelope, None) if e in mine else e for e in ledger.entries]
    bare = ledger.bundle(ALL, 40)
    assert verify_bundle(bare, KEY).ok
    assert all(entry.sealed is None for entry in verify_bundle(bare, KEY).entries if entry.envelope.key_id == "aud_2")


def test_nothing_false_is_signed(ledger: Ledger) -> None:
    tampered = Ledger(20)
    old = tampered.entries[3]
    tampered.entries[3] = Entry(
        Envelope(3, "led_3", old.envelope.at, "x.y", "a", "b", "c", old.envelope.digest), old.sealed
    )
    with pytest.raises(LedgerCorrupted, match="entry 3"):
        tampered.bundle(ALL, 20)
    tampered.entries[3] = Entry(old.envelope, b"another payload")
    with pytest.raises(LedgerCorrupted, match="entry 3"):
        tampered.bundle(ALL, 20)


# -- witnesses ---------------------------------------------------------------------------------------------------------


def test_a_witness_is_seen_when_its_key_is_brought(ledger: Ledger) -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    witness = Verifier("witness.example", Algorithm.COSIGNATURE, private.public_key().public_bytes_raw())
    checkpoint = ledger.checkpoint(SIZE)
    value = (99).to_bytes(8, "big") + private.sign(cosigned_bytes(parse_note(checkpoint).body, 99))
    line = Signature(witness.name, witness_id(witness.name, witness.public), value)
    cosigned = add_cosignature(checkpoint, line, witness).note
    data = build_bundle(ledger, CASE, cosigned, SIGNER, START)
    assert verify_bundle(data, KEY, witnesses=[witness.text()]).witnesses == {"witness.example": 99}
    assert verify_bundle(data, KEY).ok
    absent = verify_bundle(ledger.bundle(CASE), KEY, witnesses=[witness.text()])
    assert [fault.finding for fault in absent.faults] == [Finding.CHECKPOINT_EDITED]
    assert findings(data.replace(b"witness.example", b"witnesS.example")) == {Finding.CHECKPOINT_EDITED}


# -- canonical form ----------------------------------------------------------------------------------------------------


def test_the_canonical_spelling() -> None:
    """RFC 8785 section 3.2, for the values we allow."""
    value = {"b": [1, True, None, -5], "a": 'é€𝄞"\\\n\x01', "c": {"z": "", "y": {}}}
    expected = '{"a":"é€𝄞\\"\\\\\\n\\u0001","b":[1,true,null,-5],"c":{"y":{},"z":""}}'
    assert canonical(value).decode() == expected
    assert parse_canonical(expected.encode()) == value


def test_an_envelope_is_spelled_canonically() -> None:
    """The hand-made spelling of the hot path is the canonical one, whatever stands in the fields."""
    for awkward in ("plain", 'q"\\/', "é𝄞\u2028", "\x00\x1f\x7f\n\t"):
        envelope = Envelope(
            2**40, awkward, "2026-01-01T00:00:00.000000Z", awkward, awkward, awkward, awkward, bytes(32)
        )
        assert envelope.text().encode() == canonical(envelope.data())
        assert Envelope.read(json.loads(envelope.text())) == envelope


@pytest.mark.parametrize("value", [1.0, float("nan"), 2**53, {"é": 1}, {1: 2}, "\ud800", b"x", {1, 2}])
def test_what_has_no_single_spelling_is_refused(value: object) -> None:
    with pytest.raises(EvidenceError) as refused:
        canonical(value)
    assert refused.value.code == "evidence.not_canonical"


@pytest.mark.parametrize("data", [b'{"a": 1}', b'{"a":1,"a":1}', b'{"b":1,"a":1}', b'"\\u0041"', b"1.0", b"NaN", b"-0"])
def test_another_spelling_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_canonical(data)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command(ledger: Ledger, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, key = tmp_path / "good.json", tmp_path / "bad.json", tmp_path / "key"
    good.write_bytes(ledger.bundle(CASE))
    bad.write_bytes(changed(ledger.bundle(CASE), entries=lambda e: e[1:]))
    key.write_text(KEY + "\n")
    assert main([str(good), "--key", KEY]) == 0
    assert "everything holds" in capsys.readouterr().out
    assert main([str(good), "--key", str(key), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["size"] == SIZE
    assert main([str(good)]) == 0
    assert "WARNING" in capsys.readouterr().out
    assert main([str(bad), "--key", KEY]) == 1
    assert "FAULT removed: listed, yet not here: entries 1" in capsys.readouterr().out
    assert main([str(tmp_path / "none"), "--key", KEY]) == 2
    assert main([str(good), "--key", KEY[:-4] + "AAA="]) == 2
    capsys.readouterr()
    assert main([str(good), "--key", "ledger.kye"]) == 2
    assert "neither a verifier key nor a file that holds one: ledger.kye" in capsys.readouterr().err


def test_what_a_forger_wrote_cannot_hide_the_faults_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ledger.md: whoever examines a file sees each fault of it; ECMA-48 sequences could hide them."""
    forger = NoteSigner("regard.example/ledger", b"\x08" * 32)
    hidden, turned = "cmp_\x1b[8m\x9b2J\r\n", "led_\u202e0"
    envelope = Envelope(0, turned, instant_text(START), "consent.given", hidden, "atlas", "aud_0", b"\0" * 32)
    note = forger.checkpoint(1, envelope.leaf_hash())
    file = tmp_path / "forged.json"
    forged = Bundle(forger.verifier.text(), note, forger.sign("x\n"), (), (Entry(envelope, None),))
    file.write_bytes(write_bundle(forged))
    for words in ((), ("--json",)):
        assert main([str(file), "--key", KEY, *words]) == 1
        told = capsys.readouterr().out
        assert [each for each in told if not each.isprintable() and each != "\n"] == []
        assert "\\u202e0" in told
    assert main([str(file), "--key", KEY]) == 1
    assert "cmp_\\x1b[8m\\x9b2J\\r\\n" in capsys.readouterr().out
    assert main([str(tmp_path / "\x1b[8m"), "--key", KEY]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_the_command_runs_from_a_copy_of_the_sdk_alone(ledger: Ledger, tmp_path: Path) -> None:
    """As the wheel `regard_sdk`: nothing of the service can be reached from where it runs."""
    package, original = tmp_path / "regard_sdk", Path(__file__).parents[2] / "app" / "sdk"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("errors.py", "evidence.py", "merkle.py", "notes.py", "payloads.py", "printing.py", "verify.py"):
        (package / name).write_bytes((original / name).read_bytes())
    (tmp_path / "b.json").write_bytes(ledger.bundle(CASE))
    ran = subprocess.run(
        [sys.executable, "-m", "regard_sdk.verify", "b.json", "--key", KEY],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "everything holds" in ran.stdout


def test_right_edge_is_all_that_is_needed_to_go_on() -> None:
    assert right_edge(13) == [(3, 0), (2, 2), (0, 12)]

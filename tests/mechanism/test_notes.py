"""Signed notes, checkpoints and witness cosignatures (C2SP signed-note, tlog-checkpoint, tlog-cosignature)."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from app.ledger.checkpoint import NoteSigner, add_cosignature, signed_by, witness_id
from app.ledger.errors import WitnessRefused
from app.sdk.merkle import leaf_hash
from app.sdk.notes import (
    Algorithm,
    Checkpoint,
    NoteError,
    Signature,
    Verifier,
    cosigned_bytes,
    parse_checkpoint,
    parse_note,
)

# The example in the documentation of the format's first implementation.
PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
SIGNER = NoteSigner("regard.example/ledger", b"\x07" * 32)
WITNESS = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
WATCHER = Verifier("witness.example", Algorithm.COSIGNATURE, WITNESS.public_key().public_bytes_raw())


def cosignature(checkpoint: str, time: int = 1_790_000_000) -> Signature:
    value = WITNESS.sign(cosigned_bytes(parse_note(checkpoint).body, time))
    return Signature(WATCHER.name, witness_id(WATCHER.name, WATCHER.public), time.to_bytes(8, "big") + value)


def test_the_published_note_verifies() -> None:
    verifier = Verifier.parse(PUBLISHED_KEY)
    assert verifier.text() == PUBLISHED_KEY
    assert verifier.check(parse_note(PUBLISHED_NOTE)) is None
    with pytest.raises(NoteError) as refused:
        verifier.check(parse_note(PUBLISHED_NOTE.replace("answer", "Answer")))
    assert refused.value.code == "note.signature"


def test_a_checkpoint_goes_there_and_back() -> None:
    note = SIGNER.checkpoint(17, leaf_hash(b"x"))
    assert note.split("\n")[:2] == ["regard.example/ledger", "17"]
    SIGNER.verifier.check(parse_note(note))
    assert parse_checkpoint(parse_note(note)) == Checkpoint("regard.example/ledger", 17, leaf_hash(b"x"))
    assert Verifier.parse(SIGNER.verifier.text()) == SIGNER.verifier
    assert "0707" not in repr(SIGNER)


def test_another_key_of_the_same_name_is_not_the_signer() -> None:
    other = NoteSigner("regard.example/ledger", b"\x08" * 32)
    with pytest.raises(NoteError) as refused:
        other.verifier.check(parse_note(SIGNER.checkpoint(1, leaf_hash(b"x"))))
    assert refused.value.code == "note.unsigned"


def test_a_witness_cosigns() -> None:
    checkpoint = SIGNER.checkpoint(3, leaf_hash(b"x"))
    cosigned = add_cosignature(checkpoint, cosignature(checkpoint), WATCHER)
    assert cosigned.time == 1_790_000_000
    note = parse_note(cosigned.note)
    assert WATCHER.check(note) == 1_790_000_000
    assert SIGNER.verifier.check(note) is None
    assert signed_by(cosigned.note, [WATCHER, SIGNER.verifier]) == ["witness.example", "regard.example/ledger"]
    with pytest.raises(WitnessRefused):
        add_cosignature(cosigned.note, cosignature(checkpoint), WATCHER)


def test_a_cosignature_of_another_head_or_time_is_refused() -> None:
    checkpoint, other = SIGNER.checkpoint(3, leaf_hash(b"x")), SIGNER.checkpoint(4, leaf_hash(b"x"))
    with pytest.raises(WitnessRefused):
        add_cosignature(checkpoint, cosignature(other), WATCHER)
    moved = cosignature(checkpoint)
    moved = Signature(moved.name, moved.key_id, (1).to_bytes(8, "big") + moved.value[8:])
    with pytest.raises(WitnessRefused):
        add_cosignature(checkpoint, moved, WATCHER)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no signature\n",
        "body\n\nno dash\n",
        "body\n\n— name AAAA\n",
        "body\n\n— name !!!!\n",
        "body\n\n— na+me AAAAAAAAAAA=\n",
        "body\n\n— name AAAAAAAAAAB=\n",
        "body\n\n— name AAAAAAAAAAA=",
        "bo\x07dy\n\n— name AAAAAAAAAAA=\n",
        "bo\rdy\n\n— name AAAAAAAAAAA=\n",
    ],
)
def test_what_is_not_a_note_is_refused(text: str) -> None:
    with pytest.raises(NoteError):
        parse_note(text)


@pytest.mark.parametrize(
    "body",
    ["x\n", "x\n1\n", "x\n01\nAAAA\n", "x\n-1\nAAAA\n", "x\n1\nAAAA\n", "\n1\n" + "A" * 43 + "=\n"],
)
def test_what_is_not_a_checkpoint_is_refused(body: str) -> None:
    with pytest.raises(NoteError):
        parse_checkpoint(parse_note(SIGNER.sign(body)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000+AAAA",
        PUBLISHED_KEY.replace("c74f", "c74e"),
        PUBLISHED_KEY.replace("Peter", "Petra"),
        PUBLISHED_KEY.replace("+ARpc", "+CRpc"),
        PUBLISHED_KEY[:-1],
    ],
)
def test_what_is_not_a_key_is_refused(text: str) -> None:
    with pytest.raises(NoteError) as refused:
        Verifier.parse(text)
    assert refused.value.code == "note.key"

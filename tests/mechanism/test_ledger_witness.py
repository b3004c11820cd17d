"""A witness cosigns a ledger that only grew, and no other (C2SP tlog-cosignature; ledger.md)."""

from __future__ import annotations

import base64
import dataclasses
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from app.ledger.checkpoint import NoteSigner, add_cosignature
from app.ledger.tree import consistency_proof, root
from app.sdk.merkle import leaf_hash
from app.sdk.notes import NoteError, Verifier, parse_note, parse_signature_line, write_note
from app.sdk.witness import (
    COSIGNED,
    REFUSED,
    UNKNOWN_WITNESS,
    UNREACHABLE,
    Cosigned,
    HttpLedger,
    StateFile,
    Unreachable,
    WitnessError,
    WitnessSigner,
    cosign,
    main,
    read_seed,
)
from tests.mechanism.test_merkle import Memory

SIGNER = NoteSigner("regard.example/ledger", b"\x07" * 32)
WITNESS = WitnessSigner("witness.example/w1", b"\x09" * 32)
NOW = 1_790_000_000


class Ledger:
    """A ledger in memory; `rewritten` makes one that tells another story from some leaf on."""

    def __init__(self, size: int, *, rewritten: int | None = None, signer: NoteSigner = SIGNER) -> None:
        self.memory, self.size, self.signer = Memory(), size, signer
        told = (f"leaf {n}" if rewritten is None or n < rewritten else f"lie {n}" for n in range(size))
        self.memory.append([leaf_hash(each.encode()) for each in told])

    def checkpoint(self) -> str:
        return self.signer.checkpoint(self.size, root(self.memory, self.size))

    def consistency(self, old: int, new: int) -> list[bytes]:
        return consistency_proof(self.memory, old, new)


def state(path: Path) -> StateFile:
    return StateFile(path / "witness.json", SIGNER.verifier)


def asked(ledger: Ledger, path: Path) -> Cosigned:
    return cosign(ledger, SIGNER.verifier, WITNESS, state(path), NOW)


def test_a_growing_ledger_is_cosigned_each_time(tmp_path: Path) -> None:
    for size in (0, 1, 5, 5, 6, 64, 65, 200):
        made = asked(Ledger(size), tmp_path)
        note = Ledger(size).checkpoint()
        cosigned = add_cosignature(note, made.signature, WITNESS.verifier)
        assert (made.size, cosigned.time) == (size, NOW)
        assert WITNESS.verifier.check(parse_note(cosigned.note)) == NOW
        assert parse_signature_line(made.line()) == made.signature
        assert state(tmp_path).read().size == size


def refusal(ledger: Ledger, path: Path) -> WitnessError:
    before = state(path).read()
    with pytest.raises(WitnessError) as refused:
        asked(ledger, path)
    assert state(path).read() == before, "what was refused must not become what was seen"
    return refused.value


def test_a_shrunk_ledger_is_refused(tmp_path: Path) -> None:
    asked(Ledger(50), tmp_path)
    refused = refusal(Ledger(49), tmp_path)
    assert refused.code == "witness.shrunk"
    assert "has shrunk: 50 leaves were seen, now 49" in str(refused)


def test_no_proof_against_a_ledger_is_ever_replaced(tmp_path: Path) -> None:
    """Decision 0028: two contradicting notes, both signed, are the proof; an old checkpoint is none, nor takes one."""
    asked(Ledger(50), tmp_path)
    refused = [Ledger(60, rewritten=10), Ledger(60, rewritten=20), Ledger(49), Ledger(60, rewritten=10)]
    for each in refused:
        refusal(each, tmp_path)
    kept = {path.read_text() for path in tmp_path.glob("witness.json.contradiction.*")}
    assert kept == {each.checkpoint() for each in refused[:2]}
    (old,) = tmp_path.glob("witness.json.shrunk.*")
    assert old.read_text() == Ledger(49).checkpoint()
    assert "contradiction" not in str(refusal(Ledger(49), tmp_path))


@pytest.mark.parametrize(("size", "rewritten"), [(50, 49), (50, 0), (51, 49), (51, 0), (200, 31), (64, 5)])
def test_a_forked_ledger_is_refused_and_the_contradiction_kept(tmp_path: Path, size: int, rewritten: int) -> None:
    asked(Ledger(50), tmp_path)
    fork = Ledger(size, rewritten=rewritten)
    refused = refusal(fork, tmp_path)
    assert refused.code == "witness.forked"
    assert "has forked" in str(refused)
    # two notes, both signed by the ledger, that no one tree can have: that is the proof
    (place,) = tmp_path.glob("witness.json.contradiction.*")
    assert f"the signed contradiction is in {place.name}" in str(refused)
    kept = place.read_text()
    assert kept == fork.checkpoint()
    for note in (kept, state(tmp_path).read().note):
        SIGNER.verifier.check(parse_note(note))


def test_after_a_refusal_the_true_ledger_is_still_cosigned(tmp_path: Path) -> None:
    asked(Ledger(50), tmp_path)
    refusal(Ledger(60, rewritten=10), tmp_path)
    assert asked(Ledger(61), tmp_path).size == 61


def test_a_checkpoint_somebody_else_signed_is_refused(tmp_path: Path) -> None:
    other = NoteSigner("regard.example/ledger", b"\x08" * 32)
    assert refusal(Ledger(5, signer=other), tmp_path).code == "witness.unsigned"
    ledger = Ledger(5)
    ledger.checkpoint = lambda: "nonsense"  # type: ignore[method-assign]
    assert refusal(ledger, tmp_path).code == "witness.unsigned"
    lying = Ledger(5)
    stranger = NoteSigner("another.example/ledger", b"\x01" * 32).checkpoint(5, root(lying.memory, 5))
    body = parse_note(stranger).body
    lying.checkpoint = lambda: SIGNER.sign(body)  # type: ignore[method-assign]
    assert refusal(lying, tmp_path).code == "witness.other_ledger"


@pytest.mark.parametrize("proof", [[], [b"\x00" * 32], [b"\x00" * 32] * 64])
def test_a_proof_that_does_not_prove_is_refused(tmp_path: Path, proof: list[bytes]) -> None:
    asked(Ledger(50), tmp_path)
    ledger = Ledger(60)
    ledger.consistency = lambda _old, _new: proof  # type: ignore[method-assign]
    assert refusal(ledger, tmp_path).code == "witness.forked"


def test_a_damaged_or_foreign_state_is_refused_rather_than_forgotten(tmp_path: Path) -> None:
    """Starting anew would let the ledger show another past."""
    asked(Ledger(50), tmp_path)
    place = tmp_path / "witness.json"
    good = place.read_bytes()
    edited = good.replace(b"\\n50\\n", b"\\n40\\n"), good.replace(b"regard.example", b"regard.exampl3")
    assert good not in edited
    for bad in (b"", b"{}", good[:-5], *edited):
        place.write_bytes(bad)
        with pytest.raises(WitnessError):
            asked(Ledger(60), tmp_path)
    other = StateFile(place, NoteSigner("regard.example/ledger", b"\x08" * 32).verifier)
    place.write_bytes(good)
    with pytest.raises(WitnessError, match="another ledger"):
        other.read()


def test_a_ledgers_new_key_is_taken_up_where_both_signed(tmp_path: Path) -> None:
    fresh, old = NoteSigner("regard.example/ledger", b"\x08" * 32), SIGNER
    both = NoteSigner("regard.example/ledger", b"\x08" * 32, b"\x07" * 32)
    place = tmp_path / "witness.json"
    asked(Ledger(10), tmp_path)
    cosign(Ledger(12, signer=both), old.verifier, WITNESS, StateFile(place, old.verifier), NOW)
    cosign(Ledger(14, signer=fresh), fresh.verifier, WITNESS, StateFile(place, fresh.verifier), NOW)
    with pytest.raises(WitnessError, match="forked"):
        cosign(Ledger(15, rewritten=3, signer=fresh), fresh.verifier, WITNESS, StateFile(place, fresh.verifier), NOW)


@pytest.fixture
def turned(tmp_path: Path) -> StateFile:
    """What a witness comes with that saw ten leaves under the old key and was given the new one."""
    asked(Ledger(10), tmp_path)
    return StateFile(tmp_path / "witness.json", NoteSigner("regard.example/ledger", b"\x08" * 32).verifier)


def with_new_key(ledger: Ledger, turned: StateFile) -> Cosigned:
    return cosign(ledger, NoteSigner("regard.example/ledger", b"\x08" * 32).verifier, WITNESS, turned, NOW)


def test_a_witness_given_the_new_key_follows_while_both_sign(tmp_path: Path, turned: StateFile) -> None:
    fresh = NoteSigner("regard.example/ledger", b"\x08" * 32)
    both = NoteSigner("regard.example/ledger", b"\x08" * 32, b"\x07" * 32)
    before = (tmp_path / "witness.json").read_bytes()
    with pytest.raises(WitnessError, match="forked"):
        with_new_key(Ledger(12, rewritten=3, signer=both), turned)
    assert (tmp_path / "witness.json").read_bytes() == before, "what forks hands no key over"
    assert with_new_key(Ledger(12, signer=both), turned).size == 12
    assert turned.read().size == 12
    assert with_new_key(Ledger(14, signer=fresh), turned).size == 14
    with pytest.raises(WitnessError, match="another key of it"):
        asked(Ledger(15), tmp_path)  # the old key alone counts for nothing any more


def forged_line(good: str) -> str:
    """The checkpoint with its last signature, the old key's, spoilt in its last byte."""
    *head, last = parse_note(good).signatures
    spoilt = dataclasses.replace(last, value=last.value[:-1] + bytes([last.value[-1] ^ 1]))
    return write_note(parse_note(good).body, [*head, spoilt])


def test_no_other_checkpoint_hands_a_key_over(tmp_path: Path, turned: StateFile) -> None:
    """The new key alone, the old one alone, a false signature of the old one, another ledger: the state stays."""
    both = Ledger(12, signer=NoteSigner("regard.example/ledger", b"\x08" * 32, b"\x07" * 32))
    forged = Ledger(12)
    forged.checkpoint = lambda: forged_line(both.checkpoint())  # type: ignore[method-assign]
    before = (tmp_path / "witness.json").read_bytes()
    for ledger in (Ledger(12, signer=NoteSigner("regard.example/ledger", b"\x08" * 32)), forged):
        with pytest.raises(WitnessError, match="have the new one confirmed by the ledger's operator") as refused:
            with_new_key(ledger, turned)
        assert refused.value.code == "witness.state"
        assert "witness.json" in str(refused.value)
    with pytest.raises(WitnessError, match="ask again when the ledger has grown, or with the key before"):
        with_new_key(Ledger(12), turned)
    other = NoteSigner("another.example/ledger", b"\x08" * 32)
    with pytest.raises(WitnessError, match=r"about another ledger, regard\.example/ledger"):
        cosign(
            Ledger(12, signer=other), other.verifier, WITNESS, StateFile(tmp_path / "witness.json", other.verifier), NOW
        )
    assert (tmp_path / "witness.json").read_bytes() == before


def test_two_runs_on_one_state_take_turns(tmp_path: Path) -> None:
    """C2SP tlog-witness: comparing and remembering are one act, or a slower run would roll the faster one back."""
    made: list[int] = []
    runs = [
        threading.Thread(target=lambda size=size: made.append(asked(Ledger(size), tmp_path).size)) for size in (7, 7, 7)
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert (made, state(tmp_path).read().size) == ([7, 7, 7], 7)


def test_what_is_seen_is_on_disk_before_the_cosignature_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        asked(Ledger(5), tmp_path)
    monkeypatch.undo()
    assert state(tmp_path).read().size == 0


def test_a_time_beyond_the_format_is_refused() -> None:
    note = parse_note(Ledger(3).checkpoint())
    late = WITNESS.sign(note.body, 2**63)
    with pytest.raises(NoteError, match="beyond"):
        WITNESS.verifier.check(parse_note(write_note(note.body, [*note.signatures, late])))


def test_the_published_example_parses() -> None:
    """The checkpoint printed in C2SP tlog-cosignature; its keys are not published, its form is."""
    text = (
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "— example.com/behind-the-sofa "
        "Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
        "— witness.example.com/w1 "
        "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n"
    )
    log, witness = parse_note(text).signatures
    assert (log.name, len(log.value)) == ("example.com/behind-the-sofa", 64)
    assert (witness.name, len(witness.value), int.from_bytes(witness.value[:8], "big")) == (
        "witness.example.com/w1",
        72,
        1679315147,
    )


# -- as a command, over HTTP -------------------------------------------------------------------------------------------


class Served:
    """A ledger behind a real HTTP server."""

    def __init__(self) -> None:
        self.ledger = Ledger(10)
        self.handed: list[bytes] = []
        self.answer = (b"", 200)
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = urlsplit(self.path)
                if asked.path == "/ledger/checkpoint":
                    self._answer(served.ledger.checkpoint().encode())
                    return
                old, new = (int(parse_qs(asked.query)[name][0]) for name in ("old", "new"))
                hashes = [base64.b64encode(each).decode() for each in served.ledger.consistency(old, new)]
                self._answer(httpx.Response(200, json={"old": old, "new": new, "hashes": hashes}).content)

            def do_POST(self) -> None:
                served.handed.append(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(*served.answer)

            def _answer(self, body: bytes, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_the_command_from_the_key_to_the_cosignature(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ["--name", "witness.example/w1", "--key", str(tmp_path / "w.key")]
    assert main([*own, "--new-key"]) == COSIGNED
    printed = capsys.readouterr().out.strip()
    verifier = Verifier.parse(printed)
    assert stat.S_IMODE((tmp_path / "w.key").stat().st_mode) == 0o600
    assert main([*own, "--new-key"]) == UNREACHABLE, "a key is never replaced"
    (tmp_path / "ledger.vkey").write_text(SIGNER.verifier.text() + "\n")
    look = [served.address, *own, "--ledger-key", str(tmp_path / "ledger.vkey"), "--state", str(tmp_path / "s.json")]
    capsys.readouterr()
    assert main([*look, "--submit"]) == COSIGNED
    size, line = capsys.readouterr().out.split("\n", 1)
    assert size == "10 leaves"
    assert verifier.check(parse_note(served.ledger.checkpoint() + line)) is not None
    assert httpx.Response(200, content=served.handed[0]).json() == {"size": 10, "line": line}
    served.ledger = Ledger(20)
    assert main(look) == COSIGNED
    served.ledger = Ledger(30, rewritten=15)
    assert main(look) == REFUSED
    assert "the ledger has forked" in capsys.readouterr().err
    served.ledger = Ledger(3)
    assert main(look) == REFUSED
    assert "the ledger has shrunk: 20 leaves were seen, now 3" in capsys.readouterr().err


def test_the_command_says_what_it_cannot_reach_or_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], served: Served
) -> None:
    key = tmp_path / "w.key"
    own = ["--name", "witness.example/w1", "--key", str(key), "--ledger-key", SIGNER.verifier.text()]
    assert main([served.address, *own]) == UNREACHABLE
    main([*own, "--new-key"])
    assert main(["http://127.0.0.1:9", *own, "--state", str(tmp_path / "s.json")]) == UNREACHABLE
    assert "cannot reach http://127.0.0.1:9: Connection refused" in capsys.readouterr().err
    key.chmod(0o644)
    assert main([served.address, *own]) == REFUSED
    assert "chmod 600" in capsys.readouterr().err
    key.chmod(0o600)
    key.write_text("AAAA")
    with pytest.raises(WitnessError, match="not one"):
        read_seed(key)


def test_the_command_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str], served: Served) -> None:
    key, nowhere = tmp_path / "w.key", tmp_path / "nowhere"
    own, ledger = ["--name", "witness.example/w1"], ["--ledger-key", SIGNER.verifier.text()]
    main([*own, "--key", str(key), "--new-key"])
    asked = [served.address, *own, "--key", str(key)]
    for words, sentence in (
        (asked, "--ledger-key is missing: the ledger's verifier key"),
        ([*asked, "--ledger-key", str(nowhere)], f"{nowhere}: No such file"),
        ([*asked, "--ledger-key", "a+b+c"], "--ledger-key a+b+c: not a verifier key"),
        ([served.address, *own, "--key", str(nowhere), *ledger], f"{nowhere}: No such file"),
        ([*asked, *ledger, "--state", str(nowhere / "s.json")], f"{nowhere / 's.json.lock'}: No such file"),
        ([*own, "--key", str(key), "--new-key"], f"{key}: File exists"),
        (["regard.example", *asked[1:], *ledger, "--state", str(tmp_path / "s.json")], "cannot reach"),
    ):
        capsys.readouterr()
        assert main(words) == UNREACHABLE
        told = capsys.readouterr().err
        assert sentence in told
        assert "Errno" not in told


def test_a_ledger_that_refuses_is_told_in_its_words() -> None:
    unknown = httpx.Response(422, json={"detail": UNKNOWN_WITNESS, "code": "ledger.witness_refused"})
    again = httpx.Response(422, json={"detail": "the witness has already cosigned"})
    made = Cosigned(3, WITNESS.sign(parse_note(Ledger(3).checkpoint()).body, NOW))
    for answer, sentence in (
        (unknown, "does not know your witness key; its operator has to add it to REGARD_LEDGER_WITNESSES"),
        (again, "the witness has already cosigned"),
        (httpx.Response(502, content=b"x"), "HTTP 502"),
    ):
        transport = httpx.MockTransport(lambda _request, answer=answer: answer)
        ledger = HttpLedger("http://ledger.example", transport=transport)
        with pytest.raises(Unreachable, match=r"ledger\.example/ledger/cosignatures") as refused:
            ledger.submit(made)
        assert sentence in str(refused.value)
        ledger.close()


def test_what_a_ledger_answers_cannot_write_to_the_terminal(
    served: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ledger that lies to its witness could paint over what the command says (ECMA-48)."""
    own = ["--name", "witness.example/w1", "--key", str(tmp_path / "w.key")]
    main([*own, "--new-key"])
    served.answer = (b'{"detail": "refused\\u001b[2K\\u009b8m\\r2 leaves"}', 422)
    asked = [served.address, *own, "--ledger-key", SIGNER.verifier.text(), "--state", str(tmp_path / "s.json")]
    capsys.readouterr()
    assert main([*asked, "--submit"]) == UNREACHABLE
    told = capsys.readouterr().err
    assert told.endswith("/ledger/cosignatures: refused\\x1b[2K\\x9b8m\\r2 leaves\n")
    assert told.removesuffix("\n").isprintable()


def test_an_answer_that_is_no_proof_is_refused() -> None:
    for content in (b"x", b"[]", b'{"hashes": [1]}', b'{"hashes": ["!"]}'):
        transport = httpx.MockTransport(lambda _request, content=content: httpx.Response(200, content=content))
        ledger = HttpLedger("http://ledger.example", transport=transport)
        with pytest.raises(WitnessError, match="no consistency proof"):
            ledger.consistency(1, 2)
        ledger.close()


def test_it_runs_as_a_module_of_the_wheel(tmp_path: Path) -> None:
    package, original = tmp_path / "regard_sdk", Path(__file__).parents[2] / "app" / "sdk"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in ("errors.py", "merkle.py", "notes.py", "printing.py", "witness.py"):
        (package / name).write_bytes((original / name).read_bytes())
    words = [sys.executable, "-m", "regard_sdk.witness", "--name", "w.example", "--key", "w.key", "--new-key"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert Verifier.parse(ran.stdout.strip()).name == "w.example"


def test_nothing_of_the_key_is_shown() -> None:
    assert repr(WITNESS) == "WitnessSigner('witness.example/w1')"

"""`python -m regard_sdk.witness URL`: watch a ledger from outside and cosign its checkpoints (C2SP tlog-cosignature).

A witness remembers the largest tree it saw and signs a larger one only with a proof that it begins with what was seen
(RFC 9162 section 2.1.4): a ledger that shows different trees to different people finds no witness for the second. The
state is a file of its own, written before the cosignature is given out, under a lock. A new key of the ledger is
followed where a checkpoint bears its signature and that of the key before, never otherwise. Leaves out the protocol in
which a log calls its witnesses (C2SP tlog-witness): here the witness comes and asks.

Exit codes: 0 cosigned, 1 refused (the ledger shrank, forked, or is not signed), 2 something cannot be read or reached.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .errors import SdkError
from .merkle import EMPTY_ROOT, ProofError, verify_consistency
from .notes import (
    Algorithm,
    Checkpoint,
    Note,
    NoteError,
    Signature,
    Verifier,
    cosigned_bytes,
    key_id,
    parse_checkpoint,
    parse_note,
    signature_line,
    strict_base64,
)
from .printing import printable

COSIGNED, REFUSED, UNREACHABLE = 0, 1, 2
SEED_BYTES = 32
UNKNOWN_WITNESS = "not the key of a witness of this ledger"
"""How a ledger answers the cosignature of a witness that its settings do not name."""
_UNKNOWN_WITNESS = (
    "this ledger does not know your witness key; its operator has to add it to REGARD_LEDGER_WITNESSES "
    "(without URL this command prints it)"
)
_MOST_HASHES = 63
_PATIENCE = 20.0


class WitnessError(SdkError):
    """Why no cosignature is given; `code` says which."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Unreachable(SdkError):
    """Something that the witness needs cannot be read or reached; the sentence names it."""


class WitnessSigner:
    """A witness' Ed25519 key; `name` is a schema-less URL that says who it is, e.g. `witness.example/w1`."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        public = self._key.public_key().public_bytes_raw()
        self.verifier = Verifier.parse(Verifier(name, Algorithm.COSIGNATURE, public).text())

    def __repr__(self) -> str:
        return f"WitnessSigner({self.verifier.name!r})"

    def sign(self, body: str, second: int) -> Signature:
        """Return the cosignature of a checkpoint's body at a Unix second."""
        value = second.to_bytes(8, "big") + self._key.sign(cosigned_bytes(body, second))
        own = self.verifier
        return Signature(own.name, key_id(own.name, Algorithm.COSIGNATURE, own.public), value)


@dataclass(frozen=True, slots=True)
class Seen:
    """The largest tree a witness has cosigned, with the note as it came; size 0 before the first."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    note: str = ""


class Ledger(Protocol):
    """The ledger as a witness sees it."""

    def checkpoint(self) -> str: ...
    def consistency(self, old: int, new: int) -> list[bytes]: ...


def examine(text: str, ledger_key: Verifier, seen: Seen, prove: Callable[[int, int], Sequence[bytes]]) -> Note:
    """Return the note when its tree may be cosigned after `seen`; `prove(old, new)` fetches a consistency proof.

    Raises WitnessError `witness.unsigned`, `witness.other_ledger`, `witness.shrunk`, `witness.forked`.
    """
    note, head = _read(text, ledger_key)
    if head.size < seen.size:
        raise WitnessError("witness.shrunk", f"the ledger has shrunk: {seen.size} leaves were seen, now {head.size}")
    if head.size == seen.size and head.root != seen.root:
        raise WitnessError("witness.forked", f"the ledger has forked: another root for the same {head.size} leaves")
    _consistent(seen, head, prove(seen.size, head.size) if 0 < seen.size < head.size else ())
    return note


def _read(text: str, ledger_key: Verifier) -> tuple[Note, Checkpoint]:
    try:
        note = parse_note(text)
        ledger_key.check(note)
        head = parse_checkpoint(note)
    except NoteError as fault:
        raise WitnessError("witness.unsigned", f"not a checkpoint that the ledger signed: {fault}") from fault
    if head.origin != ledger_key.name:
        raise WitnessError("witness.other_ledger", "the checkpoint is of another ledger than its key")
    return note, head


def _consistent(seen: Seen, head: Checkpoint, proof: Sequence[bytes]) -> None:
    if len(proof) > _MOST_HASHES:
        raise WitnessError("witness.forked", "a consistency proof is never that long")
    try:
        verify_consistency(seen.size, seen.root, head.size, head.root, proof)
    except ProofError as fault:
        raise WitnessError(
            "witness.forked",
            f"the ledger has forked: its {head.size} leaves do not begin with the {seen.size} that were seen ({fault})",
        ) from fault


_NOT_FOLLOWED = (
    "the state file {} is about another ledger or another key of it: a new key is followed only while the ledger's "
    "checkpoint bears the signatures of both. If the key was changed and the old one let go, have the new one "
    "confirmed by the ledger's operator, keep this file as the proof of what was seen, and begin a new one with --state"
)


_NOT_YET = (
    "the ledger's checkpoint bears the signature of the key in the state file, and not yet that of another key of it, "
    "the one given: ask again when the ledger has grown, or with the key before"
)


def _signed_by(text: object, key: Verifier) -> bool:
    """Tell whether a text is a checkpoint of that key's ledger, with that key's signature."""
    try:
        _read(str(text), key)
    except WitnessError:
        return False
    return True


def _former(key: object) -> Verifier:
    try:
        return Verifier.parse(str(key))
    except NoteError as fault:
        raise WitnessError("witness.state", "the state file is damaged: restore it, do not start anew") from fault


class StateFile:
    """What a witness saw, in a file: replaced whole, on disk before anything is given out."""

    def __init__(self, path: Path, ledger_key: Verifier) -> None:
        self._path = path
        self._key = ledger_key

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other witnesses with this file waiting: checking and remembering are one act (C2SP tlog-witness)."""
        with self._path.with_name(self._path.name + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, shown: str = "") -> Seen:
        """Return what was seen; of a file that is not there, nothing yet. Raises WitnessError `witness.state`.

        A ledger's new key is taken up from a checkpoint that both keys signed, the old one and the one that follows it:
        the one remembered, or `shown`, which the ledger shows now.
        """
        try:
            told = json.loads(self._path.read_bytes())
            key, note = told["ledger"], told["checkpoint"]
        except FileNotFoundError:
            return Seen()
        except (ValueError, KeyError, TypeError) as fault:
            raise WitnessError("witness.state", "the state file is damaged: restore it, do not start anew") from fault
        _, head = _read(note, self._key if key == self._key.text() else self._remembered(key, note, shown))
        return Seen(head.size, head.root, note)

    def _remembered(self, key: object, note: object, shown: str) -> Verifier:
        """Return the key to read the remembered checkpoint with, which was written under another than the given one."""
        if _signed_by(note, self._key):
            return self._key
        before = _former(key)
        if before.name != self._key.name:
            raise WitnessError("witness.state", f"the state file {self._path} is about another ledger, {before.name}")
        if not _signed_by(shown, before):
            raise WitnessError("witness.state", _NOT_FOLLOWED.format(self._path))
        if not _signed_by(shown, self._key):
            raise WitnessError("witness.state", _NOT_YET)
        return before

    def write(self, note: str) -> None:
        """Remember a checkpoint."""
        _replace(self._path, json.dumps({"checkpoint": note, "ledger": self._key.text()}).encode())

    def keep(self, note: str, word: str) -> Path:
        """Keep a signed checkpoint that was refused in a file of its own, and return where; none is ever replaced."""
        head = parse_checkpoint(parse_note(note))
        place = self._path.with_name(f"{self._path.name}.{word}.{head.size}.{head.root.hex()}")
        if not place.exists():
            _replace(place, note.encode())
        return place


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A cosignature: for which tree, and the note's signature line."""

    size: int
    signature: Signature

    def line(self) -> str:
        return signature_line(self.signature)


_KEPT = {
    "witness.forked": ("contradiction", "the signed contradiction"),
    "witness.shrunk": ("shrunk", "the signed checkpoint"),
}
"""Refused checkpoints that are kept, under which word. An old one alone contradicts nothing: both trees can be true."""


def cosign(ledger: Ledger, ledger_key: Verifier, signer: WitnessSigner, state: StateFile, second: int) -> Cosigned:
    """Look at the ledger, compare with what was seen, remember, and cosign at a Unix second.

    Raises WitnessError; a signed checkpoint that is refused is kept beside the state file (`_KEPT`).
    """
    with state.locked():
        text = ledger.checkpoint()
        seen = state.read(text)
        try:
            note = examine(text, ledger_key, seen, ledger.consistency)
        except WitnessError as refused:
            if refused.code not in _KEPT:
                raise
            word, what = _KEPT[refused.code]
            raise WitnessError(refused.code, f"{refused}; {what} is in {state.keep(text, word).name}") from refused
        size = parse_checkpoint(note).size
        state.write(text)
        return Cosigned(size, signer.sign(note.body, second))


class HttpLedger:
    """A ledger's public face over HTTP."""

    def __init__(self, address: str, *, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=address.rstrip("/"), timeout=_PATIENCE, transport=transport)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def checkpoint(self) -> str:
        """Fetch the latest checkpoint. Raises Unreachable."""
        return self._asked("GET", "/ledger/checkpoint").text

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Fetch a proof. Raises Unreachable, and WitnessError `witness.proof` for an answer that is none."""
        answer = self._asked("GET", "/ledger/proof/consistency", params={"old": old, "new": new})
        try:
            return [strict_base64(each) for each in answer.json()["hashes"]]
        except (ValueError, KeyError, TypeError, NoteError) as fault:
            raise WitnessError("witness.proof", "the ledger's answer is no consistency proof") from fault

    def submit(self, cosigned: Cosigned) -> str:
        """Hand a cosignature to the ledger and return the cosigned checkpoint. Raises Unreachable."""
        body: dict[str, Any] = {"size": cosigned.size, "line": cosigned.line()}
        return self._asked("POST", "/ledger/cosignatures", json=body).text

    def _asked(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as fault:
            why = re.sub(r"^\[Errno -?\d+\] ", "", str(fault))
            raise Unreachable(f"cannot reach {self._http.base_url}: {why}") from fault
        if not answer.is_success:
            raise Unreachable(f"{answer.url}: {_answered(answer)}")
        return answer


def _answered(answer: httpx.Response) -> str:
    """Say what an answer that is none says: its sentence where it has one."""
    try:
        told = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        told = f"HTTP {answer.status_code} {answer.reason_phrase}"
    return _UNKNOWN_WITNESS if told.startswith(UNKNOWN_WITNESS) else told


def read_seed(path: Path) -> bytes:
    """Read a witness' key file. Raises WitnessError `witness.key` when others may read it or it is not 32 bytes."""
    if path.stat().st_mode & 0o077:
        raise WitnessError("witness.key", "others may read the key file: take their rights away (chmod 600)")
    try:
        seed = base64.b64decode(path.read_bytes().strip(), validate=True)
    except ValueError as fault:
        raise WitnessError("witness.key", "the key file is not one") from fault
    if len(seed) != SEED_BYTES:
        raise WitnessError("witness.key", "the key file is not one")
    return seed


def write_seed(path: Path) -> None:
    """Make a key in a new file of mode 0600. Raises FileExistsError: no key is ever replaced."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(base64.b64encode(os.urandom(SEED_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks, print the cosignature or the key, return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        if asked.new_key:
            write_seed(asked.key)
        signer = WitnessSigner(asked.name, read_seed(asked.key))
        if asked.new_key or asked.url is None:
            print(signer.verifier.text())
            return COSIGNED
        return _cosign(asked, signer)
    except WitnessError as refused:
        print(printable(f"not cosigned: {refused}"), file=sys.stderr)
        return REFUSED
    except OSError as fault:
        print(f"cannot witness: {fault.filename or 'a file'}: {fault.strerror or fault}", file=sys.stderr)
    except (Unreachable, httpx.InvalidURL, NoteError, UnicodeDecodeError) as fault:
        print(printable(f"cannot witness: {fault}"), file=sys.stderr)
    return UNREACHABLE


def _cosign(asked: argparse.Namespace, signer: WitnessSigner) -> int:
    ledger_key = _ledger_key(asked.ledger_key)
    ledger = HttpLedger(asked.url)
    try:
        made = cosign(ledger, ledger_key, signer, StateFile(asked.state, ledger_key), int(time.time()))
        print(f"{made.size} leaves\n{made.line()}", end="")
        if asked.submit:
            ledger.submit(made)
    finally:
        ledger.close()
    return COSIGNED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="regard-witness", description="Watch a ledger and cosign its checkpoint. Without URL: print the key."
    )
    parser.add_argument("url", nargs="?", help="where the service answers, e.g. https://regard.example")
    parser.add_argument("--name", required=True, help="who the witness is, e.g. witness.example/w1")
    parser.add_argument("--key", required=True, type=Path, help="the file with the witness' private key")
    parser.add_argument("--new-key", action="store_true", help="make that file, and print the public key")
    parser.add_argument("--ledger-key", default="", help="the ledger's verifier key, or a file that holds it")
    parser.add_argument("--state", type=Path, default=Path("witness.json"), help="the file with what was seen")
    parser.add_argument("--submit", action="store_true", help="hand the cosignature to the ledger")
    return parser


def _ledger_key(text: str) -> Verifier:
    """Take the ledger's key as it is, or read it from the file of that name."""
    if not text:
        raise Unreachable("--ledger-key is missing: the ledger's verifier key, or a file that holds it")
    try:
        return Verifier.parse(text if text.count("+") >= 2 else Path(text).read_text("utf-8").strip())
    except (NoteError, UnicodeDecodeError) as fault:
        raise Unreachable(f"--ledger-key {text}: not a verifier key (name+id+base64)") from fault


if __name__ == "__main__":
    sys.exit(main())

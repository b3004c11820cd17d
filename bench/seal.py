"""Seal and open against the bare library, in the same run, as a ratio (vault.md section 7, operations.md section 8).

    python -m bench.seal [--rounds 7] [--messages 20000] [--bytes 1024]

Two floors: `bare` is handed nonce, ciphertext and associated data as separate ready-made bytes; `stored` does what
anybody has to who keeps nonce and ciphertext together and binds each record's id. All sides have the same key length,
plaintext and length of associated data; rounds alternate so that a busy machine slows all. Prints a table, then JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from bench.table import Row, against, within


def sealed_module():  # type: ignore[no-untyped-def]
    """The SDK as an outsider has it, else from this tree."""
    try:
        return importlib.import_module("regard_sdk.sealed")
    except ModuleNotFoundError:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        return importlib.import_module("app.sdk.sealed")


def commit() -> str:
    run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


def timed(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


class Sides:
    """The same messages, sealed and opened in three ways."""

    def __init__(self, messages: int, size: int) -> None:
        self.sealed = sealed_module()
        self.plaintext = os.urandom(size)
        cipher = self.sealed.Cipher(os.urandom(16), os.urandom(32))
        self.place = cipher.place("pw_" + "a" * 26, "accounts.balances")
        self.bare = AESGCM(os.urandom(32))
        self.ids = [f"rec_{number:026d}" for number in range(messages)]
        self.binding = self.place._whole
        self.bindings = [self.binding + each.encode() for each in self.ids]
        self.parts: list[tuple[bytes, bytes]] = []
        self.joined: list[bytes] = []
        self.records: list[bytes] = []

    def bare_seal(self) -> None:
        encrypt, plaintext, parts = self.bare.encrypt, self.plaintext, []
        for binding in self.bindings:
            nonce = os.urandom(12)
            parts.append((nonce, encrypt(nonce, plaintext, binding)))
        self.parts = parts

    def stored_seal(self) -> None:
        encrypt, plaintext, binding, joined = self.bare.encrypt, self.plaintext, self.binding, []
        for each in self.ids:
            nonce = os.urandom(12)
            joined.append(nonce + encrypt(nonce, plaintext, binding + each.encode()))
        self.joined = joined

    def ours_seal(self) -> None:
        seal, plaintext = self.place.seal, self.plaintext
        self.records = [seal(plaintext, each) for each in self.ids]

    def bare_open(self) -> None:
        decrypt = self.bare.decrypt
        for (nonce, ciphertext), binding in zip(self.parts, self.bindings, strict=True):
            decrypt(nonce, ciphertext, binding)

    def stored_open(self) -> None:
        decrypt, binding = self.bare.decrypt, self.binding
        for record, each in zip(self.joined, self.ids, strict=True):
            decrypt(record[:12], record[12:], binding + each.encode())

    def ours_open(self) -> None:
        opened = self.place.open
        for record, each in zip(self.records, self.ids, strict=True):
            opened(record, each)


def measure(rounds: int, messages: int, size: int) -> dict[str, object]:
    sides = Sides(messages, size)
    names = [f"{side}_{verb}" for verb in ("seal", "open") for side in ("bare", "stored", "ours")]
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            times[name].append(timed(getattr(sides, name)))
    if sides.place.open(sides.records[-1], sides.ids[-1]) != sides.plaintext:
        raise SystemExit("what was opened is not what was sealed")
    middle = {name: statistics.median(each) for name, each in times.items()}
    floors = [name for name in names if not name.startswith("ours")]
    ratios = {f"{name}_ratio": round(middle[name] / middle["ours_" + name[-4:]], 3) for name in floors}
    return {
        "bench": "seal",
        "commit": commit(),
        "machine": f"{platform.machine()} python {platform.python_version()}",
        "module": sides.sealed.__name__,
        "message_bytes": size,
        "overhead_bytes": len(sides.records[0]) - size,
        "per_second": {name: round(messages / spent) for name, spent in middle.items()},
        **ratios,
        "goal": {"bare_open_ratio": 0.8, "overhead_bytes": 80},
    }


def rows(rounds: int = 5, messages: int = 10_000, size: int = 1024) -> list[Row]:
    """The figures of this bench."""
    measured: Any = measure(rounds, messages, size)
    rate = measured["per_second"]
    note = (
        "the bare library is handed ready-made nonce, ciphertext and associated data; whoever keeps them in one record "
        "has to cut it (two copies) and bind the record's id, which alone costs a quarter (see stored); ours also "
        "compares key id and commitment"
    )
    return [
        against(
            "open a record", rate["ours_open"], "1/CPU s", floor=("bare", rate["bare_open"]), at_least=0.8, note=note
        ),
        against("open a record", rate["ours_open"], "1/CPU s", floor=("stored", rate["stored_open"])),
        against("seal a record", rate["ours_seal"], "1/CPU s", floor=("bare", rate["bare_seal"])),
        against("seal a record", rate["ours_seal"], "1/CPU s", floor=("stored", rate["stored_seal"])),
        within("bytes added to a record", measured["overhead_bytes"], "bytes", most=80),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=1024)
    given = parser.parse_args()
    result = measure(given.rounds, given.messages, given.bytes)
    for name, rate in result["per_second"].items():
        print(f"{name:<10} {rate:>10,} /s")
    for floor in ("bare", "stored"):
        print(f"of {floor}: open {result[f'{floor}_open_ratio']:.0%}, seal {result[f'{floor}_seal_ratio']:.0%}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()

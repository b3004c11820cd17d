"""The ledger against its figures (ledger.md): append and integrate, proofs over a large tree, offline verification.

Figures to reach: 10,000 leaves/s integrated in batch; inclusion and consistency proofs over 1,000,000 leaves within
1 ms of CPU; verifying 100,000 leaves within 2 s. This one calls the ledger itself, because no door does only that;
the bare cost of hashing and inserting as many rows is measured in the same run, so that a slow disk is seen as one.

    python -m bench.ledger --database sqlite:////tmp/b.sqlite --leaves 1000000 --append 50000 --verify 100000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert
from sqlalchemy.orm import Session

from app.ledger.bundle import About, Selection, build_bundle
from app.ledger.checkpoint import NoteSigner
from app.ledger.tree import NodeId, consistency_proof, extend, inclusion_proof, right_edge, root
from app.sdk.evidence import Entry, Envelope, verify_bundle
from app.sdk.merkle import leaf_hash, verify_consistency, verify_inclusion
from app.store.engine import open_engine
from app.store.leaves import LeafStore, SqlJournal, node_key
from app.store.rows.base import RecordsBase
from app.store.rows.leaves import LedgerCheckpointRow, LedgerNodeRow, LedgerTreeRow
from bench.table import Row, reaching, within
from consent.vocabulary import ControllerId, SubjectRef

SIGNER = NoteSigner("regard.bench/ledger", b"\x07" * 32)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Fixed:
    """A clock that stands still and ids that count."""

    def __init__(self) -> None:
        self.count = 0

    def now(self) -> datetime:
        return NOW

    def new(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}_{self.count:026d}"


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def append_and_integrate(engine: Engine, count: int) -> dict[str, float]:
    fixed = Fixed()
    store = LeafStore(engine, SIGNER, fixed)

    def seal(_c: ControllerId, _s: SubjectRef | None, _k: str, plain: bytes) -> tuple[str, bytes]:
        return "aud_1", plain  # sealing is the vault's figure, not this one's

    def write() -> None:
        for start in range(0, count, 1_000):
            with Session(engine) as session, session.begin():
                journal = SqlJournal(session, seal, fixed, fixed, os.urandom)
                for _ in range(min(1_000, count - start)):
                    journal.record(
                        "key.leased", actor="cmp_1", controller=ControllerId("atlas"), subject=None, payload={"n": 1}
                    )

    wall, _ = timed(write)
    integrated, cpu = timed(store.integrate)
    if store.waiting() or verify_bundle(store.bundle(Selection(About.ALL)), store.verifier_key).faults:
        sys.exit("the integrated ledger does not verify")
    return {
        "written_per_second": count / wall,
        "integrated_per_second": count / integrated,
        "integrate_cpu_seconds": cpu,
    }


def grow(engine: Engine, size: int) -> None:
    """Fill the nodes of a tree of `size` leaves, and sign it."""
    edge: dict[NodeId, bytes] = {}
    for start in range(0, size, 20_000):
        leaves = [leaf_hash(n.to_bytes(8, "big")) for n in range(start, min(size, start + 20_000))]
        made = extend(start, edge, leaves)
        known = {**edge, **made}
        edge = {node: known[node] for node in right_edge(start + len(leaves))}
        rows = [{"node": node_key(node), "hash": value} for node, value in made.items()]
        with engine.begin() as connection:
            connection.execute(insert(LedgerNodeRow), rows)
    with engine.begin() as connection:
        connection.execute(insert(LedgerTreeRow), {"id": 1, "size": size})
        note = SIGNER.checkpoint(size, root(Held(edge), size))
        connection.execute(insert(LedgerCheckpointRow), {"size": size, "at": NOW, "note": note})


class Held:
    """Nodes in memory."""

    def __init__(self, nodes: Mapping[NodeId, bytes]) -> None:
        self.nodes = nodes

    def fetch(self, wanted: Sequence[NodeId]) -> dict[NodeId, bytes]:
        return {node: self.nodes[node] for node in wanted if node in self.nodes}


def proofs(engine: Engine, size: int, rounds: int) -> dict[str, float]:
    store, source, top = LeafStore(engine, SIGNER, Fixed()), random.Random(1), None
    top = store.root(size)
    positions = [source.randrange(size) for _ in range(rounds)]
    olds = [source.randrange(1, size) for _ in range(rounds)]
    roots = {old: store.root(old) for old in olds}
    paths: dict[int, list[bytes]] = {}
    links: dict[int, list[bytes]] = {}
    _, inclusion = timed(lambda: paths.update((p, store.inclusion(p, size)) for p in positions))
    _, consistency = timed(lambda: links.update((old, store.consistency(old, size)) for old in olds))
    for position, path in paths.items():
        verify_inclusion(leaf_hash(position.to_bytes(8, "big")), position, size, path, top)
    for old, link in links.items():
        verify_consistency(old, roots[old], size, top, link)
    in_memory = fold_only(size, rounds)
    return {
        "tree": size,
        "inclusion_cpu_ms_with_database": inclusion / rounds * 1_000,
        "consistency_cpu_ms_with_database": consistency / rounds * 1_000,
        **in_memory,
    }


def fold_only(size: int, rounds: int) -> dict[str, float]:
    """The proof's own cost: planning and hashing, the nodes at hand."""

    class Any32(Held):
        def fetch(self, wanted: Sequence[NodeId]) -> dict[NodeId, bytes]:
            return dict.fromkeys(wanted, b"\x01" * 32)

    nodes, source = Any32({}), random.Random(2)
    positions = [source.randrange(1, size) for _ in range(rounds)]
    _, inclusion = timed(lambda: [inclusion_proof(nodes, p, size) for p in positions])
    _, consistency = timed(lambda: [consistency_proof(nodes, p, size) for p in positions])
    return {
        "inclusion_cpu_ms_alone": inclusion / rounds * 1_000,
        "consistency_cpu_ms_alone": consistency / rounds * 1_000,
    }


def verification(count: int, *, payloads: bool) -> dict[str, float]:
    sealed = [n.to_bytes(8, "big") * 32 for n in range(count)]
    entries = [
        Entry(
            Envelope(
                n,
                f"led_{n:026d}",
                "2026-01-01T00:00:00.000000Z",
                "key.leased",
                "cmp_1",
                "atlas",
                "aud_1",
                hashlib.sha256(s).digest(),
            ),
            s if payloads else None,
        )
        for n, s in enumerate(sealed)
    ]
    nodes = extend(0, {}, [entry.envelope.leaf_hash() for entry in entries])

    class Source(Held):
        def select(self, selection: Selection, size: int) -> Sequence[Entry]:
            return entries[:size]

    source = Source(nodes)
    note = SIGNER.checkpoint(count, root(source, count))
    data = build_bundle(source, Selection(About.ALL), note, SIGNER, NOW)
    reports: list[Any] = []
    wall, cpu = timed(lambda: reports.append(verify_bundle(data, SIGNER.verifier.text())))
    bare, _ = timed(lambda: [hashlib.sha256(s).digest() for s in sealed for _ in range(3)])
    if reports[0].faults:
        sys.exit("the bundle does not verify")
    return {
        "leaves": count,
        "bytes": len(data),
        "verify_seconds": wall,
        "verify_cpu_seconds": cpu,
        "bare_hashing_seconds": bare,
    }


def commit() -> str:
    ran = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "unknown"


def rows(leaves: int = 100_000, append: int = 5_000, verify: int = 20_000, rounds: int = 300) -> list[Row]:
    """The figures of this bench, at a size of seconds; the goals are those of the full size."""
    with tempfile.TemporaryDirectory(prefix="regard-bench-") as folder:
        first = open_engine(f"sqlite:///{Path(folder) / 'append.sqlite'}")
        second = open_engine(f"sqlite:///{Path(folder) / 'tree.sqlite'}")
        for engine in (first, second):
            RecordsBase.metadata.create_all(engine)
        written = append_and_integrate(first, append)
        grow(second, leaves)
        proved = proofs(second, leaves, rounds)
        verified = verification(verify, payloads=False)
        first.dispose()
        second.dispose()
    rate = verify / verified["verify_cpu_seconds"]
    size = f"over {leaves:,} leaves"
    return [
        reaching("ledger, integrated", written["integrated_per_second"], "leaves / s", least=10_000),
        within("ledger, inclusion proof", proved["inclusion_cpu_ms_with_database"], "ms CPU", most=1, note=size),
        within("ledger, consistency proof", proved["consistency_cpu_ms_with_database"], "ms CPU", most=1, note=size),
        reaching("ledger, verified offline", rate, "leaves / CPU s", least=50_000),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", help="URL of an empty database; by default a temporary SQLite file")
    parser.add_argument("--second-database", help="URL of another empty one, for the large tree")
    parser.add_argument("--leaves", type=int, default=1_000_000, help="leaves of the tree proofs are made over")
    parser.add_argument("--append", type=int, default=50_000, help="entries written and integrated")
    parser.add_argument("--verify", type=int, default=100_000, help="entries of the verified bundle")
    parser.add_argument("--rounds", type=int, default=2_000, help="proofs of each kind")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        first = open_engine(asked.database or f"sqlite:///{Path(folder) / 'append.sqlite'}")
        second = open_engine(asked.second_database or f"sqlite:///{Path(folder) / 'tree.sqlite'}")
        for engine in (first, second):
            RecordsBase.metadata.create_all(engine)
        grow(second, asked.leaves)
        result = {
            "commit": commit(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "database": first.dialect.name,
            "append": append_and_integrate(first, asked.append),
            "proofs": proofs(second, asked.leaves, asked.rounds),
            "verification": verification(asked.verify, payloads=False),
            "verification_with_payloads": verification(asked.verify, payloads=True),
        }
        for engine in (first, second):
            engine.dispose()
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

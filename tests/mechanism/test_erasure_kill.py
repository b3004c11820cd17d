"""Kill -9 at every step of an erasure, resume: the same end as without (vault.md sections 5 and 8).

Each case: a real process is killed by SIGKILL before the step is journalled, between journal line and commit, or after
the commit; then this process takes the work up under the same worker name, as a restarted one does.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.vault.errors import Erased
from app.vault.keys import Keep, KeyClass, Scope, Selector, Target
from app.vault.tombstones import Tombstones
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope

STATES = [
    "caches_evicted",
    "key_row_removed",
    "rewrapped",
    "verified",
    "committed",
    "old_root_destroyed",
    "scanned",
    "certified",
]
POINTS = [(moment, state) for state in STATES for moment in ("before", "inside", "after")] + [("checkpoint", "any")]
SUBJECTS = [f"sub_{n}" for n in range(6)]
TARGETS = [
    Target(CONTROLLER, "sub_0"),
    Target(CONTROLLER, "sub_1", keep=(Keep(Selector(category="loans"), date(2031, 1, 1), "law"),)),
    Target(CONTROLLER, "sub_5", only=(Selector(category="loans"),)),
]
GONE = {
    ("sub_0", "accounts.balances"),
    ("sub_0", "loans"),
    ("sub_1", "accounts.balances"),
    ("sub_5", "loans"),
}


@pytest.fixture(scope="module")
def killer() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.mechanism.erasure_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def run(killer: subprocess.Popen[str], **case: str) -> int:
    assert killer.stdin is not None
    assert killer.stdout is not None
    killer.stdin.write(json.dumps(case) + "\n")
    killer.stdin.flush()
    return int(killer.stdout.readline())


def begin(engine: Engine, folder: Path) -> dict[Scope, bytes]:
    vault = open_vault(engine, folder, SetClock(), per_partition=4)
    vault.create_subjects(CONTROLLER, SUBJECTS)
    places = [scope(subject, category) for subject in SUBJECTS for category in ("accounts.balances", "loans")]
    places += [scope(subject, "ledger", key_class=KeyClass.AUDIT) for subject in SUBJECTS]
    records = {place: vault.seal(place, "r", place.subject.encode()) for place in places}
    vault.shred("era_1", TARGETS)
    return records


def summary(engine: Engine, folder: Path, records: dict[Scope, bytes]) -> dict[str, Any]:
    """The end state without the random parts; also checks every record and the certificates."""
    vault = open_vault(engine, folder, SetClock(), per_partition=4)
    opened = set()
    for place, record in records.items():
        if (place.subject, place.category) in GONE:
            with pytest.raises(Erased):
                vault.open(place, "r", record)
        else:
            assert vault.open(place, "r", record) == place.subject.encode()
            opened.add((place.subject, place.category))
    journal = vault.erasures.journal("era_1")
    assert {each["subject"] for each in journal.certificates} == {"sub_0", "sub_1", "sub_5"}
    return {
        "opened": sorted(opened),
        "state": journal.state.value,
        "sites": [
            (s.key_class, s.partition, s.old_generation, s.new_generation, s.keys_before, s.keys_after, s.root_state)
            for s in journal.sites
        ],
        "targets": [(t.subject, t.key_class, len(t.destroyed), len(t.retained)) for t in journal.targets],
        "traces": journal.scan.hits if journal.scan else None,
        "stones": len(Tombstones(folder / "tombstones").read()),
        "rows": counts(engine),
        "claims": claims(engine),
        "live_roots": live_roots(folder),
    }


def counts(engine: Engine) -> dict[str, int]:
    tables = ("subject_keys", "data_keys", "destroyed_keys", "erased_subjects", "partitions", "erasure_probes")
    with engine.connect() as connection:
        return {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables}


def claims(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        claimed = connection.execute(text("SELECT claimed_by FROM partitions WHERE claimed_by IS NOT NULL"))
        staged = connection.execute(text("SELECT key_class FROM subject_keys WHERE staged IS NOT NULL"))
        return [*claimed.scalars(), *staged.scalars()]


def live_roots(folder: Path) -> int:
    content = (folder / "keyring").read_bytes()
    return sum(content[at] == 1 for at in range(128, len(content), 128))


EXPECTED_ROWS = {
    # Six subjects in three classes; sub_0 lost its data and pool keys, sub_1 its pool key.
    "subject_keys": 15,
    # Twelve data and six audit keys, less the four that were shredded.
    "data_keys": 14,
    "destroyed_keys": 4,
    "erased_subjects": 4,
    "partitions": 6,
    "erasure_probes": 0,
}


def check(found: dict[str, Any]) -> None:
    assert found["state"] == "certified"
    assert found["rows"] == EXPECTED_ROWS
    assert found["claims"] == []
    assert found["live_roots"] == 6, "one root for each partition, none forgotten"
    assert [site[2:4] for site in found["sites"]] == [(1, 2)] * 2
    assert all(site[6] == "destroyed" for site in found["sites"])
    assert found["stones"] == 5, "the pool of sub_5 lost nothing"
    assert found["traces"] == 0
    assert found["targets"] == [
        ("sub_0", "data", 2, 0),
        ("sub_0", "pool", 0, 0),
        ("sub_1", "data", 1, 1),
        ("sub_1", "pool", 0, 0),
        ("sub_5", "data", 1, 0),
        ("sub_5", "pool", 0, 0),
    ]


def test_without_a_kill(killer: subprocess.Popen[str], keys_engine: Engine, laid_keys_url: str, tmp_path: Path) -> None:
    records = begin(keys_engine, tmp_path)
    assert run(killer, url=laid_keys_url, folder=str(tmp_path), moment="never", state="") == 0
    check(summary(keys_engine, tmp_path, records))


@pytest.mark.parametrize("point", POINTS, ids="-".join)
def test_killed_and_resumed(
    killer: subprocess.Popen[str], keys_engine: Engine, laid_keys_url: str, tmp_path: Path, point: tuple[str, str]
) -> None:
    moment, state = point
    records = begin(keys_engine, tmp_path)
    assert run(killer, url=laid_keys_url, folder=str(tmp_path), moment=moment, state=state) == -signal.SIGKILL
    resumed = open_vault(keys_engine, tmp_path, SetClock(), per_partition=4)
    for place, record in records.items():
        if (place.subject, place.category) in GONE:
            with pytest.raises(Erased):
                resumed.open(place, "r", record)
        else:
            assert resumed.open(place, "r", record) == place.subject.encode(), "nobody waits for the resumption"
    assert resumed.erasures.drive("era_1") == "certified"
    check(summary(keys_engine, tmp_path, records))


def test_killed_again_and_again(
    killer: subprocess.Popen[str], keys_engine: Engine, laid_keys_url: str, tmp_path: Path
) -> None:
    """The same erasure killed at every point in turn."""
    records = begin(keys_engine, tmp_path)
    for moment, state in POINTS[:-1]:
        assert run(killer, url=laid_keys_url, folder=str(tmp_path), moment=moment, state=state) == -signal.SIGKILL
    assert run(killer, url=laid_keys_url, folder=str(tmp_path), moment="never", state="") == 0
    check(summary(keys_engine, tmp_path, records))

"""The journal of disclosures: on disk first, reported at least once, nothing lost (consent.md section 5)."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from app.sdk import disclosures as module
from app.sdk.disclosures import Disclosures, Report
from app.sdk.errors import JournalDamaged, Refused, Unreachable
from tests.mechanism.sdk_house import outage
from tests.mechanism.test_sdk_sealer import Setting

FIELDS = {"id", "at", "handle", "categories", "records", "purpose", "consent", "attended", "reader", "action"}


@pytest.fixture
def at(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "reads"


def test_a_journal_is_named_in_words_too(at: Setting, journal: Path) -> None:
    kept = Disclosures(at.authority, str(journal))
    kept.record(at.permit(), 1)
    assert journal.stat().st_size
    assert kept.flush() == Report(1, 0)
    kept.close()


def test_reads_are_reported_once_with_who_and_what(at: Setting, journal: Path) -> None:
    permit = at.permit()
    kept = Disclosures(at.authority, journal)
    read = kept.record(permit, 12)
    part = kept.record(permit, 1, categories=frozenset({"accounts.balances"}))
    assert kept.pending() == 2
    assert kept.flush() == Report(2, 0)
    assert (kept.pending(), kept.flush()) == (0, Report(0, 0))
    line = at.doors.disclosures[read]
    assert line["handle"] == permit.subject
    assert line.keys() == FIELDS
    assert (line["records"], line["purpose"], line["consent"], line["attended"]) == (12, "budget", "con_one", False)
    assert line["at"] == at.house.clock.now().isoformat()
    assert at.doors.disclosures[part]["categories"] == ["accounts.balances"]


def test_an_outage_loses_nothing_and_a_lost_answer_repeats_the_same_ids(at: Setting, journal: Path) -> None:
    permit = at.permit()
    kept = Disclosures(at.authority, journal)
    ids = {kept.record(permit, n) for n in range(5)}
    with outage(at.doors), pytest.raises(Unreachable):
        kept.flush()
    assert kept.pending() == 5
    ids.add(kept.record(permit, 5))
    at.doors.lose_answers = 1
    with pytest.raises(Unreachable):
        kept.flush()
    assert kept.pending() == 6
    assert kept.flush().accepted == 6
    assert at.doors.disclosures.keys() == ids


def test_many_reads_go_out_in_batches(at: Setting, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 3)
    permit = at.permit()
    kept = Disclosures(at.authority, journal)
    ids = {kept.record(permit, n) for n in range(10)}
    assert kept.flush() == Report(10, 0)
    assert at.doors.disclosures.keys() == ids


def test_a_refused_read_is_kept_aside_and_the_others_pass(at: Setting, journal: Path) -> None:
    permit = at.permit()
    kept = Disclosures(at.authority, journal)
    at.doors.refuse.add("odd")
    wrong = kept.record(replace(permit, purpose="odd"), 1)
    right = kept.record(permit, 1)
    assert kept.flush() == Report(1, 1)
    assert at.doors.disclosures.keys() == {right}
    aside = journal.with_name("reads.refused").read_text().splitlines()
    assert [json.loads(line)["id"] for line in aside] == [wrong]


def test_a_refused_batch_stays(at: Setting, journal: Path) -> None:
    kept = Disclosures(at.authority, journal)
    kept.record(at.permit(), 1)
    at.house.facts.suspended_parties.add("vault-firm")
    with pytest.raises(Refused):
        kept.flush()
    assert kept.pending() == 1


def test_a_new_process_sends_what_the_old_one_left(at: Setting, journal: Path) -> None:
    permit = at.permit()
    old = Disclosures(at.authority, journal)
    ids = {old.record(permit, 1), old.record(permit, 2)}
    with outage(at.doors), pytest.raises(Unreachable):
        old.flush()  # set aside for sending, then cut off
    ids.add(old.record(permit, 3))
    old.close()
    new = Disclosures(at.authority, journal)
    assert new.flush() == Report(3, 0)
    assert at.doors.disclosures.keys() == ids


def test_a_torn_line_of_a_crash_is_dropped_and_a_damaged_one_is_named(at: Setting, journal: Path) -> None:
    kept = Disclosures(at.authority, journal)
    read = kept.record(at.permit(), 1)
    kept.close()
    with journal.open("ab") as file:
        file.write(b'{"id":"dis_torn","rec')
    kept = Disclosures(at.authority, journal)
    other = kept.record(at.permit(), 1)
    assert kept.flush() == Report(2, 0)
    assert at.doors.disclosures.keys() == {read, other}
    kept.close()
    journal.write_bytes(b"not json\n")
    kept = Disclosures(at.authority, journal)
    with pytest.raises(JournalDamaged):
        kept.flush()


def test_one_process_at_a_time_and_for_its_owner_s_eyes(at: Setting, journal: Path) -> None:
    kept = Disclosures(at.authority, journal)
    assert stat.S_IMODE(journal.stat().st_mode) == 0o600
    with pytest.raises(BlockingIOError):
        Disclosures(at.authority, journal)
    kept.close()
    Disclosures(at.authority, journal).close()


_RECORDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from app.sdk.disclosures import Disclosures
from app.sdk.gate import Permit
kept = Disclosures(SimpleNamespace(clock=lambda: datetime.now(UTC)), Path(sys.argv[1]))
permit = Permit("t", "c", "p", "pw", "budget", frozenset({"a"}), frozenset(), "con", 1, False, {})
while True:
    print(kept.record(permit, 1), flush=True)
"""


def test_a_read_on_record_survives_kill_9(at: Setting, journal: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", _RECORDER, str(journal)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline().strip()
    time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    told = {first, *(line.strip() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n"))}
    child.stdout.close()
    child.wait()
    kept = Disclosures(at.authority, journal)
    kept.flush()
    assert told <= at.doors.disclosures.keys()
    assert len(at.doors.disclosures) - len(told) <= 1  # on disk, killed before it could say so

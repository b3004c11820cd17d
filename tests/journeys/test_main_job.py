"""The demonstration as a newcomer starts it, run whole; then what is left of the erased person, byte by byte.

Shows 1, 2 and 4 of the main job: nine steps with evidence, a script that imports nothing of the project, no file with
the erased person's plaintext or wrapped keys.
"""

from __future__ import annotations

import ast
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.demo.generator import Standing, Subject, make_subjects
from app.demo.stage import SEED
from app.sdk.evidence import verify_bundle
from tests.cluster import free_port

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = (ROOT / "tests/journeys/main_job.py", ROOT / "tests/journeys/outsider.py")
OUTSIDE = ("bank", "handouts.json", "keys-backup.sqlite")
"""What is not the service's: the bank's own files, what was handed out on paper, somebody's copy of the key store."""
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo")]


class Told:
    """One run of the demonstration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "demo"
        self.began = datetime.now(UTC).date()
        self.text = ""
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REGARD_")},
            "REGARD_DATA_DIR": str(folder),
            "REGARD_ISSUER": f"http://localhost:{_three_free_ports()}",
        }

    def run(self, *words: str) -> str:
        command = [sys.executable, "-m", "app.cli.entry", "demo", "--once", *words]
        done = subprocess.run(
            command, env=self._environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=900
        )
        logs = "".join(f"\n{log.name}: {log.read_text()[-2000:]}" for log in self.folder.glob("*.log"))
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}\n{logs}"
        return done.stdout

    @property
    def certificate(self) -> dict[str, object]:
        said: dict[str, object] = json.loads((self.folder / "certificate.json").read_text())
        return said

    @property
    def erased(self) -> Subject:
        """Who the outsider played: the first person who is present."""
        return next(each for each in make_subjects(SEED, self.began) if each.standing is Standing.PRESENT)

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Every file the service, the holder and the component have, logs and write-ahead files among them."""
        for file in sorted(self.folder.rglob("*")):
            place = file.relative_to(self.folder)
            if file.is_file() and place.parts[0] not in OUTSIDE:
                yield str(place), file.read_bytes()


def _three_free_ports() -> int:
    """Return a free port whose two followers are free: the holder and the component listen there."""
    for _ in range(50):
        port = free_port()
        try:
            for each in (port + 1, port + 2):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port
    raise RuntimeError("no three ports in a row are free")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    run = Told(tmp_path_factory.mktemp("demo"))
    run.text = run.run()
    return run


def test_the_nine_steps_are_told_with_evidence(told: Told) -> None:
    text = told.text
    assert re.findall(r"^(\d)\. ", text, re.MULTILINE) == [str(number) for number in range(1, 10)]
    for evidence in (
        "ES256 verifies with the published key",
        "every one sealed",
        "who looked",
        "refused, HTTP 401 token_inactive",
        "refused, HTTP 403 access_refused: consent_withdrawn",
        "digests match",
        "keys destroyed",
        "root_destroyed",
        "approved by stf_",
        "sound:",
        "outsider's check         keys destroyed, era_line_",
    ):
        assert evidence in text, evidence
    assert "http://localhost" in text.split("Open", 1)[1], "addresses to open"


def test_the_script_imports_nothing_of_the_project() -> None:
    for file in SCRIPT:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            ours = [name for name in names if name.split(".")[0] in ("app", "consent", "dsar")]
            assert not ours, f"{file.name} imports {ours}"


def test_no_file_has_what_the_erased_person_said(told: Told) -> None:
    """Byte scan: name, addresses, accounts, in either database, write-ahead file, log, mail or sealed folder."""
    person = told.erased
    plain = [f"{person.given_name} {person.family_name}", person.email, person.phone, person.street]
    plain += [account.iban for account in person.accounts]
    found = [(place, words) for place, raw in told.files() for words in plain if words.encode() in raw]
    assert not found


def test_the_scan_would_find_somebody_who_is_still_there(told: Told) -> None:
    """The neighbour's address lies in the demonstration's outbox: a scan that finds nothing there is no scan."""
    people = make_subjects(SEED, told.began)
    neighbour = [each for each in people if each.standing is Standing.PRESENT][1]
    assert any(neighbour.email.encode() in raw for _, raw in told.files())


def test_no_file_has_the_erased_persons_wrapped_keys(told: Told) -> None:
    """The audit keys have a retention of their own (vault.md section 1); every other wrapped key is gone."""
    subject = told.certificate["subject"]
    with sqlite3.connect(told.folder / "keys-backup.sqlite") as copy:
        wrapped = [
            row[0]
            for table in ("subject_keys", "data_keys")
            for row in copy.execute(
                f"SELECT wrapped FROM {table} WHERE subject = ? AND key_class != 'audit'", (subject,)
            )
        ]
    assert len(wrapped) > 4
    found = [place for place, raw in told.files() for each in wrapped if each in raw]
    assert not found


def test_the_evidence_verifies_with_the_key_alone(told: Told) -> None:
    key = (told.folder / "ledger.vkey").read_text().strip()
    report = verify_bundle((told.folder / "evidence.json").read_bytes(), key)
    assert report.ok
    assert report.authenticated


def test_a_later_start_serves_what_is_there(told: Told) -> None:
    again = told.run()
    assert "evidence still sound" in again
    assert "The main job ran before" in again
    assert re.findall(r"^(\d)\. ", again, re.MULTILINE) == [str(number) for number in range(1, 10)]

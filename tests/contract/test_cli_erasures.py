"""`regard keys erasures`: what waits for what, `--now`, and two colleagues who agree to what the guard holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from app.machine import SystemClock
from app.profiles import Profile
from app.settings import Settings, read_settings
from app.vault.certificate import DESTROYED, REMOVED, canonical
from app.vault.keys import Scope, Target
from app.wiring import add_staff, build, dismiss_staff
from consent.vocabulary import Locale
from tests.databases import found_deployment
from tests.mechanism.vaults import SetClock

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    said = {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(ROOT / "policies"),
        "REGARD_ERASURE_GUARD_SUBJECTS": "1",
        "REGARD_KEY_BACKUP_WINDOW": "24",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    read = read_settings(said)
    found_deployment(read)
    return read


def run(*words: str) -> Result:
    return CliRunner().invoke(main, ["keys", "erasures", *words])


def told(*words: str) -> dict[str, object]:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads(done.stdout)
    return found


def ask(settings: Settings) -> dict[str, str]:
    """Two people erased where one a day is allowed; the colleagues who may and may not agree."""
    house = build(settings)
    for name in ("ana", "ben"):
        subject = house.profiles.enrol(house.controller, Profile(name, f"{name}@example.org"), Locale.EN)
        house.vault.seal(Scope(house.controller, subject, "bank", "accounts.balances"), "r", b"1")
        house.vault.shred(f"era_{name}", [Target(house.controller, subject)], by=None)
    who = {
        name: add_staff(house, name, [role], [house.controller])[0]
        for name, role in {"one": "dpo", "two": "second_reader", "left": "dpo", "agent": "agent"}.items()
    }
    dismiss_staff(house, who["left"])
    house.close()
    return who


def test_nothing_to_tell_is_told(settings: Settings) -> None:
    assert run().stdout == "no erasure is under way\n"
    assert told()["erasures"] == []


def test_what_waits_is_told_and_driven_now(settings: Settings) -> None:
    ask(settings)
    assert [each["waits_for"] for each in told()["erasures"]] == [None, "approval"]  # type: ignore[attr-defined]
    driven = told("--now")
    assert driven["ended"] == ["era_ana"]
    held, kept = driven["erasures"]  # type: ignore[misc]
    assert (held["erasure"], held["state"], held["approvals_missing"]) == ("era_ben", "requested", 2)
    assert (kept["erasure"], kept["state"], kept["waits_for"]) == ("era_ana", "certified", "window")
    words = run().stdout
    assert "era_ben  requested" in words
    assert "2 more to agree" in words
    assert "waits for window until" in words
    status = json.loads(CliRunner().invoke(main, ["status"]).stdout)
    assert (status["erasures_pending"], status["erasures_held"]) == (1, 1)


def test_a_certificate_is_written_as_it_was_signed(settings: Settings, tmp_path: Path) -> None:
    ask(settings)
    file = tmp_path / "certificate.json"
    early = run("show", "era_ben", "--to", str(file))
    assert (early.exit_code, early.stderr) == (1, "nothing written: era_ben has no certificate; it is requested\n")
    told("--now")
    assert run("show", "era_ana", "--to", str(file)).stdout == f"wrote {file}\n"
    (certificate,) = json.loads(run("show", "era_ana").stdout)["certificates"]
    assert file.read_bytes() == canonical(certificate)
    file.unlink()
    assert run("show", "era_ana", "--to", str(file), "--subject", certificate["subject"]).exit_code == 0
    for words, code in (
        (("era_ana", "--to", str(tmp_path / "nowhere" / "c.json")), 2),
        (("era_ana", "--subject", certificate["subject"]), 2),
        (("era_nobody", "--to", str(file)), 2),
    ):
        refused = run("show", *words)
        assert (refused.exit_code, refused.exception.__class__) == (code, SystemExit)


def test_of_several_people_erased_at_once_one_is_named(settings: Settings, tmp_path: Path) -> None:
    house = build(replace(settings, erasure_guard_subjects=9))
    people = [house.profiles.enrol(house.controller, Profile(n, f"{n}@example.org"), Locale.EN) for n in ("a", "b")]
    for subject in people:
        house.vault.seal(Scope(house.controller, subject, "bank", "accounts.balances"), "r", b"1")
    house.vault.shred("era_both", [Target(house.controller, each) for each in people], by=None)
    house.close()
    told("--now")
    file = tmp_path / "certificate.json"
    unclear = run("show", "era_both", "--to", str(file))
    assert (unclear.exit_code, file.exists()) == (2, False)
    assert f"2 certificates fit; say --subject, one of {', '.join(sorted(people))}" in unclear.stderr
    for subject in people:
        assert run("show", "era_both", "--to", str(file), "--subject", subject).exit_code == 0
        assert json.loads(file.read_bytes())["subject"] == subject


def test_without_now_it_waits_for_the_quarter(settings: Settings) -> None:
    ask(settings)
    house = build(settings)
    house.vault.erasures.drive("era_ana")
    house.close()
    (first, _) = told()["erasures"]  # type: ignore[misc]
    assert first["state"] in ("key_row_removed", "certified"), "certified when a quarter began just then"
    if first["state"] == "key_row_removed":
        assert first["waits_for"] == "batch"
        assert first["until"]


def test_the_sweep_ends_windows_and_says_so_in_the_ledger(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(settings)
    told("--now")
    clock = SetClock(SystemClock().now() + timedelta(hours=23))
    monkeypatch.setattr("app.wiring.house.SystemClock", lambda: clock)
    house = build(settings)
    sweep = house.casework.sweeps()["erasures"]
    assert sweep() == 0
    clock.pass_(hours=2)
    assert sweep() == 1
    assert sweep() == 0
    with house.units.reading() as unit:
        kinds = unit.session.connection().exec_driver_sql("SELECT kind FROM ledger_entries").scalars().all()
    house.close()
    assert kinds.count("erasure.completed") == 1
    shown = json.loads(run("show", "era_ana").stdout)
    (certificate,), (completion,) = shown["certificates"], shown["completions"]
    assert (certificate["statement"], completion["statement"]) == (REMOVED, DESTROYED)
    assert completion["certificate"] == hashlib.sha256(canonical(certificate)).hexdigest()
    assert run("show", "era_nobody").exit_code == 2


def test_two_colleagues_agree(settings: Settings) -> None:
    who = ask(settings)
    for name in ("left", "agent"):
        refused = run("approve", "era_ben", "--by", who[name])
        assert refused.exit_code == 2
        assert refused.stderr.startswith("approver_unfit: ")
    assert run("approve", "era_nobody", "--by", who["one"]).exit_code == 2
    assert "1 more to agree" in run("approve", "era_ben", "--by", who["one"]).stdout
    again = run("approve", "era_ben", "--by", who["one"])
    assert again.exit_code == 1
    assert again.stderr.startswith("approved_before: ")
    assert told("--now")["ended"] == ["era_ana"]
    assert "it goes on" in run("approve", "era_ben", "--by", who["two"]).stdout
    assert told("--now")["ended"] == ["era_ben"]
    assert run("approve", "era_ben", "--by", who["two"]).stderr.startswith("erasure_not_held: ")
    house = build(settings)
    with house.units.reading() as unit:
        kinds = unit.session.connection().exec_driver_sql("SELECT kind FROM ledger_entries").scalars().all()
    house.close()
    assert kinds.count("erasure.approved") == 2, "a word that was refused leaves no entry"

"""`regard keys`: a copy of the key store taken before an erasure opens nothing of the erased (vault.md section 5)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from app.cli.main import main
from app.profiles import Profile
from app.settings import read_settings
from app.vault.keys import Scope, Target
from app.vault.ports import ErasureState
from app.wiring import House, build, migrate
from consent.vocabulary import Locale, SubjectRef

ROOT = Path(__file__).resolve().parents[2]
CATEGORY = "accounts.balances"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    said = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
    said["REGARD_ERASURE_BATCH_MINUTES"] = "0"
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    migrate(read_settings(said))
    return said


def _sealed(house: House, ref: SubjectRef) -> str:
    scope = Scope(house.controller, ref, "collecte", CATEGORY)
    sealed = house.vault.seal(scope, "r1", b"4,210.00 EUR", handle=f"pw_{ref}")
    line = {"handle": f"pw_{ref}", "category": CATEGORY, "record_id": "r1"}
    return json.dumps({**line, "sealed": base64.b64encode(sealed).decode()})


def _erase(house: House, ref: SubjectRef) -> None:
    state = house.vault.shred("era_1", [Target(house.controller, ref)])
    while state is not ErasureState.CERTIFIED:
        state = house.vault.erasures.advance("era_1")


def _tried(*words: str) -> tuple[int, Any]:
    done = CliRunner().invoke(main, ["keys", "try", *words])
    return done.exit_code, json.loads(done.stdout)


def test_a_restored_copy_opens_the_survivor_alone(environment: dict[str, str], tmp_path: Path) -> None:
    records, one, copy = tmp_path / "records.ndjson", tmp_path / "one.ndjson", tmp_path / "copy.sqlite"
    house = build(read_settings(environment))
    ana, ben = (
        house.profiles.enrol(house.controller, Profile(name, f"{name}@example.org"), Locale.EN)
        for name in ("ana", "ben")
    )
    lines = [_sealed(house, ana), _sealed(house, ben)]
    records.write_text("\n".join(lines) + "\n")
    one.write_text(lines[1] + "\n")
    assert CliRunner().invoke(main, ["keys", "backup", str(copy)]).exit_code == 0
    both, opens = (
        (str(records), str(one), "--store", str(copy)),
        {"records.ndjson": {"opens": 2}, "one.ndjson": {"opens": 1}},
    )
    assert _tried(*both) == (0, {"live": opens, "restored": opens})
    _erase(house, ana)
    house.close()
    code, found = _tried(*both)
    assert code == 1
    assert found["live"] == {"records.ndjson": {"erased": 1, "opens": 1}, "one.ndjson": {"opens": 1}}
    dead = {"records.ndjson": {"root_destroyed": 2}, "one.ndjson": {"root_destroyed": 1}}
    assert found["restored"] == dead, "a whole partition's copies are dead: its root is destroyed in the provider"
    assert _tried(str(one)) == (0, {"live": {"one.ndjson": {"opens": 1}}}), "the survivor opens from the live store"


def test_a_backup_is_a_new_file_for_its_owner_alone(environment: dict[str, str], tmp_path: Path) -> None:
    folder = Path(environment["REGARD_DATA_DIR"])
    before = {name: (folder / name).read_bytes() for name in ("keyring", "keys.sqlite", "ledger.key")}
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for target in (*(folder / name for name in before), tmp_path / "link"):
        done = CliRunner().invoke(main, ["keys", "backup", str(target)])
        assert (done.exit_code, "exists already" in done.stderr) == (2, True)
    assert {name: (folder / name).read_bytes() for name in before} == before
    done = CliRunner().invoke(main, ["keys", "backup", str(tmp_path / "nowhere" / "copy")])
    assert (done.exit_code, "cannot be made: No such file" in done.stderr) == (2, True)
    copy = tmp_path / "copy.sqlite"
    assert CliRunner().invoke(main, ["keys", "backup", str(copy)]).exit_code == 0
    assert copy.stat().st_mode & 0o777 == 0o600


def test_what_is_no_key_store_is_said(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not a database, though long enough to have a header" * 3)
    (tmp_path / "empty").touch()
    records = Path(environment["REGARD_DATA_DIR"]) / "records.sqlite"
    for store in (tmp_path / "text", tmp_path / "empty", records):
        done = CliRunner().invoke(main, ["keys", "try", str(tmp_path / "text"), "--store", str(store)])
        assert (done.exit_code, "is no key store" in done.stderr, done.stdout) == (2, True, "")
    assert (tmp_path / "empty").read_bytes() == b""


def test_what_is_no_record_is_said_and_nothing_is_shown(environment: dict[str, str], tmp_path: Path) -> None:
    records = tmp_path / "records.ndjson"
    records.write_text(
        '{"handle": "pw_1"}\nnot json\n'
        + json.dumps({"handle": "a", "category": "b", "record_id": "c", "sealed": "AAAA"})
        + "\n"
    )
    assert _tried(str(records)) == (1, {"live": {"records.ndjson": {"not_a_record": 2, "not_sealed": 1}}})

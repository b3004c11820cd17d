"""`regard keys drill`: holds with a sound key provider, and says so when a backup would bring somebody back."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli.main import main
from app.machine import SystemClock
from app.profiles import Profile
from app.settings import read_settings
from app.vault.apart import FIRST, ApartProvider
from app.vault.errors import UnknownRoot
from app.vault.keys import KeyClass
from app.vault.ports import RootDescription, RootName, RootState
from app.vault.providers.file import FileKeyring
from app.vault.wrapping import fresh
from app.wiring import build, drilling
from app.wiring.drilling import Drill
from consent.vocabulary import Locale
from tests.databases import found_deployment

ROOT = Path(__file__).resolve().parents[2]
SLOT = 128
ACTIVE = 1


def revive(live: Path, old: Path) -> int:
    """Put every root of an old copy that was destroyed since back into its slot, as a restored disk would."""
    now, then = bytearray(live.read_bytes()), old.read_bytes()
    at = [each for each in range(SLOT, len(then), SLOT) if then[each] == ACTIVE and now[each] != ACTIVE]
    for each in at:
        now[each : each + SLOT] = then[each : each + SLOT]
    live.write_bytes(bytes(now))
    return len(at)


class LyingKeyring(FileKeyring):
    """Says that it destroyed a root, and keeps it."""

    def destroy(self, root: str) -> None:
        self.told = root

    def describe(self, root: str) -> RootDescription:
        return replace(super().describe(root), state=RootState.DESTROYED, irrevocable_at=SystemClock().now())


@pytest.fixture
def scene(tmp_path: Path) -> tuple[Path, Path]:
    """A keyring, and an empty folder for a drill."""
    (tmp_path / "drill").mkdir()
    FileKeyring.create(tmp_path / "keyring", clock=SystemClock(), random=os.urandom)
    return tmp_path / "keyring", tmp_path / "drill"


def opened(path: Path, kind: type[FileKeyring] = FileKeyring) -> FileKeyring:
    return kind(path, clock=SystemClock(), random=os.urandom)


def failed(one: Drill) -> set[str]:
    return {check.name for check in one.report(cleared=0, window=0, seconds=0).checks if not check.ok}


def test_a_sound_deployment_holds_and_a_keyring_put_back_does_not(scene: tuple[Path, Path]) -> None:
    keyring, folder = scene
    one = Drill(folder, opened(keyring), people=6)
    one.prepare()
    old = keyring.with_name("old")
    shutil.copy(keyring, old)
    one.erase()
    one.examine()
    assert failed(one) == set()
    assert revive(keyring, old) > 0
    one.examine()
    one.clear()
    shut = {"restored_keys_erased_shut", "restored_keys_partial_shut", "restored_keys_refused"}
    assert failed(one) == {"old_roots_gone", *shut}


def test_a_provider_that_keeps_what_it_should_destroy_is_found_out(scene: tuple[Path, Path]) -> None:
    keyring, folder = scene
    one = Drill(folder, opened(keyring, LyingKeyring), people=3)
    one.prepare()
    one.erase()
    one.examine()
    one.clear()
    assert failed(one) == {
        "erasure_certified",
        "restored_keys_erased_shut",
        "restored_keys_partial_shut",
        "restored_keys_refused",
    }


def test_without_an_erasure_hardly_anything_holds(scene: tuple[Path, Path]) -> None:
    """No check passes by itself: those left say that nobody else was harmed, or are about what was restored."""
    keyring, folder = scene
    one = Drill(folder, opened(keyring), people=3)
    one.prepare()
    one.examine()
    one.clear()
    assert failed(one) >= {
        "live_erased_shut",
        "live_partial",
        "old_roots_gone",
        "restored_keys_erased_shut",
        "restored_keys_partial_shut",
        "restored_keys_refused",
        "restored_records_replayed",
    }


def test_a_backup_that_holds_nothing_proves_nothing(scene: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def empty(database: Path, file: Path) -> None:
        copied(database, file)
        with sqlite3.connect(file) as copy:
            copy.execute("DELETE FROM data_keys" if "keys" in file.name else "DELETE FROM contact_points")
        copy.close()

    copied = drilling._copy
    monkeypatch.setattr(drilling, "_copy", empty)
    keyring, folder = scene
    one = Drill(folder, opened(keyring), people=3)
    one.prepare()
    assert failed(one) == {"backup_complete"}
    one.clear()


def test_a_drill_knows_no_root_but_its_own(scene: tuple[Path, Path]) -> None:
    """Whatever it is handed: the deployment's roots are neither opened nor destroyed by it."""
    live = opened(scene[0])
    theirs = live.create_root(RootName(KeyClass.DATA, 0, 1))
    apart = ApartProvider(live, os.urandom)
    for refused in (apart.destroy, apart.describe, lambda root: apart.unwrap(root, bytes(60), b"n")):
        with pytest.raises(UnknownRoot):
            refused(theirs)
    own = apart.create_root(RootName(KeyClass.DATA, 0, 1))
    assert own != theirs
    with pytest.raises(UnknownRoot):
        apart.create_root(RootName(KeyClass.DATA, FIRST, 1))
    wrapped = live.wrap(theirs, fresh(os.urandom), b"n")
    assert apart.clear() == 1
    assert live.describe(theirs).state is RootState.ACTIVE
    assert len(live.unwrap(theirs, wrapped, b"n")) == 32


def test_the_command_reports_and_leaves_the_deployment_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    found_deployment(read_settings(said))
    house = build(read_settings(said))
    ref = house.profiles.enrol(house.controller, Profile("Ana", "ana@example.org"), Locale.EN)
    house.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "var").glob("*.sqlite")}
    keyring = (tmp_path / "var" / "keyring").read_bytes()
    done = CliRunner().invoke(main, ["keys", "drill", "--people", "3", "--json"])
    report = json.loads(done.stdout)
    assert (done.exit_code, report["ok"], report["provider"]) == (0, True, "file")
    assert all(check["ok"] for check in report["checks"])
    assert len(report["checks"]) == 13
    assert "overwritten in place" in report["assurance"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "var").glob("*.sqlite")} == before
    after = (tmp_path / "var" / "keyring").read_bytes()
    states = [after[at] for at in range(SLOT, len(after), SLOT)]
    live = [at for at in range(SLOT, len(keyring), SLOT) if keyring[at] == ACTIVE]
    assert [after[at : at + SLOT] for at in live] == [keyring[at : at + SLOT] for at in live]
    assert states.count(ACTIVE) == len(live), "the drill's own roots are destroyed"
    house = build(read_settings(said))
    assert house.profiles.profile(ref) is not None
    house.close()


def test_the_command_fails_when_a_check_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    found_deployment(read_settings(said))
    monkeypatch.setattr(drilling, "key_provider", lambda read, _clock: opened(read.data_dir / "keyring", LyingKeyring))
    done = CliRunner().invoke(main, ["keys", "drill", "--people", "3"])
    assert done.exit_code == 1
    assert "FAILS  erasure_certified: it ended as root_still_alive" in done.stdout
    assert "FAILS  restored_keys_erased_shut: 2 records of the erased open from the backup" in done.stdout
    assert "NOT PROVEN" in done.stdout

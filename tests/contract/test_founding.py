"""Founding and opening: only `migrate` makes keys; a lost one is told, never replaced unseen (vault.md section 6)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, inspect

from app.cli.main import main
from app.machine import SystemClock
from app.servicekeys import ServiceKeyMissing
from app.settings import KeyProviderKind, Secret, Settings, read_settings
from app.store.engine import open_engine
from app.store.foundations import same_database
from app.vault.keys import Scope, Target
from app.wiring import application, build, migrate
from app.wiring.founding import (
    NotFounded,
    OtherProvider,
    RootsLost,
    SameDatabase,
    SigningKeyLost,
    UnfitDeployment,
    found,
)
from app.wiring.vaults import key_provider
from tests.contract import pkcs11_provider
from tests.databases import found_deployment, postgres_database

ROOT = Path(__file__).resolve().parents[2]
MADE = ("certificate.key", "forms.key", "keyring", "ledger.key", "nonces.key")


@pytest.fixture
def said(tmp_path: Path) -> dict[str, str]:
    paths = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
    return {**paths, "REGARD_ERASURE_BATCH_MINUTES": "0"}


@pytest.fixture
def settings(said: dict[str, str]) -> Settings:
    return read_settings(said)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in ("", ".key")}


def in_use(settings: Settings) -> None:
    """Somebody has keys, the ledger has a checkpoint, an erasure is certified."""
    house = build(settings)
    for subject in ("sub_a", "sub_b"):
        house.vault.create_subject(house.controller, subject)
    with house.units.writing() as unit:
        unit.journal.record("test.kept", actor="test", controller=house.controller, subject=None, payload={})
        unit.commit()
    house.ledger.integrate()
    house.vault.shred("era_1", [Target(house.controller, "sub_a")])
    assert house.vault.erasures.drive("era_1") == "certified"
    house.close()


def test_looking_makes_nothing(said: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    """A command in the wrong folder must not leave a keyring there that passes for the deployment's."""
    for words in (["status"], ["ledger", "key"], ["keys", "backup", str(tmp_path / "copy")]):
        done = CliRunner(env=said).invoke(main, words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("not_founded: ")
        assert "regard db upgrade" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_migrating_founds_once(settings: Settings) -> None:
    migrate(settings)
    first = contents(settings.data_dir)
    assert tuple(first) == MADE
    assert all((settings.data_dir / name).stat().st_mode & 0o777 == 0o600 for name in MADE)
    migrate(settings)
    assert contents(settings.data_dir) == first
    build(settings).close()


def opened(settings: Settings) -> None:
    application(build(settings))


def test_nothing_that_is_founded_is_anybody_elses_to_read(said: dict[str, str], settings: Settings) -> None:
    before = os.umask(0o022)
    try:
        done = CliRunner(env=said).invoke(main, ["db", "upgrade"])
    finally:
        os.umask(before)
    assert done.exit_code == 0, done.stderr
    modes = {path.name: path.stat().st_mode & 0o077 for path in settings.data_dir.iterdir()}
    assert modes["keys.sqlite"] == 0
    assert set(modes.values()) == {0}


@pytest.mark.parametrize("name", MADE)
def test_opening_needs_every_one_of_them(settings: Settings, name: str) -> None:
    found_deployment(settings)
    (settings.data_dir / name).unlink()
    with pytest.raises((NotFounded, ServiceKeyMissing), match=name.removesuffix(".key")):
        opened(settings)
    assert not (settings.data_dir / name).exists()


def test_a_lost_keyring_is_not_replaced_by_an_empty_one(said: dict[str, str], settings: Settings) -> None:
    found_deployment(settings)
    in_use(settings)
    keyring = settings.data_dir / "keyring"
    kept = keyring.read_bytes()
    keyring.unlink()
    for start in (build, migrate_lightly):
        with pytest.raises(RootsLost, match="restore the keyring from its replica"):
            start(settings)
        assert not keyring.exists()
    done = CliRunner(env=said).invoke(main, ["keys", "try", str(ROOT / "README.md")])
    assert (done.exit_code, done.stderr.split(":")[0]) == (1, "roots_lost")
    keyring.write_bytes(kept)
    keyring.chmod(0o600)
    house = build(settings)
    assert house.vault.erased_at(house.controller, "sub_a") is not None
    house.vault.dek_for(Scope(house.controller, "sub_b", "holder", "accounts.balances"))
    house.close()


def migrate_lightly(settings: Settings) -> None:
    records, keys = open_engine(settings.records_url.reveal()), open_engine(settings.keys_url.reveal(), keys=True)
    try:
        found(settings, records, keys)
    finally:
        records.dispose()
        keys.dispose()


def test_a_keyring_that_nothing_stands_on_is_made_again(settings: Settings) -> None:
    found_deployment(settings)
    (settings.data_dir / "keyring").unlink()
    found_deployment(settings)
    build(settings).close()


@pytest.mark.parametrize("name", ["ledger.key", "certificate.key"])
def test_a_lost_signing_key_is_not_replaced_once_it_has_signed(settings: Settings, name: str) -> None:
    found_deployment(settings)
    in_use(settings)
    (settings.data_dir / name).unlink()
    with pytest.raises(SigningKeyLost, match=name):
        found_deployment(settings)
    assert not (settings.data_dir / name).exists()


def test_keys_of_passing_things_are_made_again(settings: Settings) -> None:
    """Forms and nonces live for minutes: losing their key costs a form that is sent again."""
    found_deployment(settings)
    in_use(settings)
    for name in ("forms.key", "nonces.key"):
        (settings.data_dir / name).unlink()
    found_deployment(settings)
    assert tuple(contents(settings.data_dir)) == (*MADE[:4], "nonces.key", "tombstones")


def test_many_found_at_once_and_one_set_is_made(settings: Settings) -> None:
    with ThreadPoolExecutor(6) as pool:
        found_deployment(settings)
        for name in MADE:
            (settings.data_dir / name).unlink()
        seen = list(pool.map(lambda _: migrate_lightly(settings) or contents(settings.data_dir), range(6)))
    assert all(each == seen[0] for each in seen)
    build(settings).close()


def test_a_founding_that_died_half_way_is_done_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in a draft was never anybody's key."""
    found_deployment(settings)
    for name in MADE:
        (settings.data_dir / name).unlink()
    real = os.fsync

    def die(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        found_deployment(settings)
    monkeypatch.setattr(os, "fsync", real)
    assert not set(MADE) & set(contents(settings.data_dir))
    with pytest.raises(NotFounded):
        build(settings)
    found_deployment(settings)
    build(settings).close()
    assert [path.name for path in settings.data_dir.glob(".*.new")] == []


def test_roots_with_another_provider_are_told(said: dict[str, str], settings: Settings) -> None:
    found_deployment(settings)
    in_use(settings)
    other = {"REGARD_OPENBAO_URL": "http://127.0.0.1:1", "REGARD_OPENBAO_TOKEN": "t", "REGARD_KEY_PROVIDER": "openbao"}
    elsewhere = read_settings({**said, **other})
    for start in (build, migrate_lightly):
        with pytest.raises(OtherProvider, match=r"REGARD_KEY_PROVIDER_BEFORE=file and run `regard keys move`"):
            start(elsewhere)


# Which provider

LIBRARIES = {"aws": "boto3", "gcp": "google.cloud.kms_v1", "openbao": "hvac", "pkcs11": "pkcs11"}
NEEDED = {
    "file": {},
    "aws": {"REGARD_AWS_REGION": "eu-west-3"},
    "gcp": {"REGARD_GCP_KEY_RING": "projects/firm/locations/europe-west9/keyRings/regard"},
    "openbao": {"REGARD_OPENBAO_URL": "http://127.0.0.1:1", "REGARD_OPENBAO_TOKEN": "t"},
    "pkcs11": {
        "REGARD_PKCS11_MODULE": str(pkcs11_provider.MODULE),
        "REGARD_PKCS11_PIN": pkcs11_provider.PIN,
    },
}


@pytest.mark.parametrize("kind", list(KeyProviderKind))
def test_every_provider_of_the_settings_is_there(said: dict[str, str], kind: str, tmp_path: Path) -> None:
    token = {"REGARD_PKCS11_TOKEN": pkcs11_provider.use_token(tmp_path)}
    settings = read_settings({**said, **NEEDED[kind], **token, "REGARD_KEY_PROVIDER": kind})
    found_deployment(settings)
    assert key_provider(settings, SystemClock()).kind == kind


WITHOUT = """
import json, sys
from app.machine import SystemClock
from app.settings import read_settings
from app.wiring.founding import ExtraMissing
from app.wiring.vaults import key_provider
libraries, asked = json.loads(sys.argv[1]), json.loads(sys.argv[2])
print([name for name in libraries.values() if name in sys.modules])
sys.modules.update(dict.fromkeys(libraries.values()))
for kind in libraries:
    try:
        key_provider(read_settings({**asked[kind], "REGARD_KEY_PROVIDER": kind}), SystemClock())
    except ExtraMissing as missing:
        print(kind, str(missing).split("pip install ")[1])
"""
"""In a process of its own: what a test before it has loaded would be found."""


def test_libraries_are_loaded_on_demand_and_a_missing_one_is_told_with_its_extra() -> None:
    asked = {**NEEDED, "pkcs11": {**NEEDED["pkcs11"], "REGARD_PKCS11_TOKEN": "t"}}
    command = [sys.executable, "-c", WITHOUT, json.dumps(LIBRARIES), json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines() == ["[]", *(f"{kind} 'regard[{kind}]'" for kind in LIBRARIES)]


# Records and keys are two databases


def spelt(folder: Path) -> dict[str, Callable[[], str]]:
    """Other ways to write the address of `records.sqlite`."""

    def link() -> str:
        (folder / "link.sqlite").symlink_to("records.sqlite")
        return f"sqlite:///{folder}/link.sqlite"

    def hard() -> str:
        (folder / "hard.sqlite").hardlink_to(folder / "records.sqlite")
        return f"sqlite:///{folder}/hard.sqlite"

    return {
        "link": link,
        "hard link": hard,
        "dots": lambda: f"sqlite:///{folder}/../{folder.name}/./records.sqlite",
        "uri": lambda: f"sqlite:///file:{folder}/records.sqlite?uri=true",
        "driver": lambda: f"sqlite+pysqlite:///{folder}/records.sqlite",
    }


@pytest.mark.parametrize("how", ["link", "hard link", "dots", "uri", "driver"])
def test_one_sqlite_file_is_refused_however_it_is_spelt(tmp_path: Path, how: str, said: dict[str, str]) -> None:
    folder = tmp_path / "place"
    folder.mkdir()
    (folder / "records.sqlite").touch()
    urls = {"REGARD_RECORDS_URL": f"sqlite:///{folder}/records.sqlite", "REGARD_KEYS_URL": spelt(folder)[how]()}
    with pytest.raises(SameDatabase, match="REGARD_KEYS_URL"):
        migrate(read_settings({**said, **urls}))
    assert inspect(open_engine(urls["REGARD_RECORDS_URL"])).get_table_names() == []


@pytest.fixture
def one(request: pytest.FixtureRequest) -> Iterator[str]:
    with postgres_database() as url:
        yield url


def test_one_postgresql_database_is_refused_however_it_is_spelt(one: str, settings: Settings) -> None:
    for other in (
        one.replace("127.0.0.1", "localhost"),
        f"{one}?options=-csearch_path%3Dkeys",
        f"{one}?sslmode=prefer",
    ):
        assert other != one
        with pytest.raises(SameDatabase, match="REGARD_KEYS_URL"):
            migrate(replace(settings, records_url=Secret(one), keys_url=Secret(other)))
    assert inspect(open_engine(one)).get_table_names() == []


def test_two_databases_are_two(records_engine: Engine, keys_engine: Engine) -> None:
    assert not same_database(records_engine, keys_engine)
    assert same_database(records_engine, open_engine(records_engine.url.render_as_string(hide_password=False)))


def test_a_file_and_a_server_are_two(one: str, tmp_path: Path) -> None:
    assert not same_database(open_engine(one), open_engine(f"sqlite:///{tmp_path}/keys.sqlite", keys=True))


def test_every_refusal_has_a_code_of_its_own() -> None:
    codes = [each.code for each in (UnfitDeployment, *UnfitDeployment.__subclasses__())]
    assert len(codes) == len(set(codes)) == 16


def test_a_port_that_somebody_listens_on_is_not_shared(said: dict[str, str]) -> None:
    """Two authorities under one address would answer in turns; nothing is founded either."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as other:
        port = other.getsockname()[1]
        asked = CliRunner().invoke(main, ["serve"], env=said | {"REGARD_ISSUER": f"http://localhost:{port}"})
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert asked.stderr.startswith(f"port_taken: nothing can listen on port {port} of 127.0.0.1 (")
    assert not Path(said["REGARD_DATA_DIR"]).exists()


def test_a_data_folder_that_cannot_be_made_is_named(said: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        asked = CliRunner().invoke(main, ["db", "upgrade"], env=said | {"REGARD_DATA_DIR": str(folder)})
        assert asked.exit_code == 1
        assert asked.stderr.startswith(f"data_folder_unfit: REGARD_DATA_DIR: {folder} cannot be made: ")

"""`regard keys rotate` (issue: rotation of every kind): what was sealed still opens, what was signed still verifies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from app.cli.main import main
from app.ledger.bundle import About, Selection
from app.ledger.checkpoint import signed_by
from app.ledger.errors import LedgerCorrupted
from app.profiles import EMAIL, Profile
from app.sdk.evidence import verify_bundle
from app.sdk.notes import Verifier
from app.sdk.witness import WitnessSigner
from app.servicekeys import ServiceKeyError
from app.settings import read_settings
from app.store.restores import partitions
from app.store.rows.tokens import SigningKeyRow
from app.vault.keys import Scope
from app.wiring import House, application, build
from app.wiring.application import authorization_services
from app.wiring.ledgerkeys import coming_signer, ledger_signer
from consent.vocabulary import Locale
from tests.contract import case_house as town


@pytest.fixture
def house(
    laid_records_url: str, laid_keys_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    said = {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(town.ROOT / "policies"),
        "REGARD_RECORDS_URL": laid_records_url,
        "REGARD_KEYS_URL": laid_keys_url,
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    yield built
    built.close()


def rotate(*words: str) -> Result:
    return CliRunner().invoke(main, ["keys", "rotate", *words])


def generations(house: House) -> dict[str, int]:
    return {f"{one.key_class}/{one.number}": one.generation for one in partitions(house.keys)}


def test_roots_of_one_class_or_of_all(house: House) -> None:
    subject = house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    place = Scope(house.controller, subject, "collecte", "accounts.balances")
    record = house.vault.seal(place, "r1", b"x")
    before = generations(house)
    done = rotate("roots", "--class", "data")
    assert (done.exit_code, done.output) == (0, "data/0: generation 1 ended\n")
    assert generations(house) == {**before, "data/0": 2}
    assert rotate("roots").exit_code == 0
    assert generations(house) == {name: number + 1 + (name == "data/0") for name, number in before.items()}
    assert house.vault.open(place, "r1", record) == b"x"
    assert house.profiles.find_by_email(house.controller, "ana@example.org") == subject


def test_what_is_held_up_is_told_and_goes_on(house: House) -> None:
    house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    with house.keys.begin() as connection:
        connection.exec_driver_sql("UPDATE partitions SET claimed_by = 'era_other' WHERE key_class = 'data'")
    done = rotate("roots", "--class", "data")
    assert (done.exit_code, done.output) == (1, "data/0: not ended: partition_busy; ask again\n")
    with house.keys.begin() as connection:
        connection.exec_driver_sql("UPDATE partitions SET claimed_by = NULL")
    assert rotate("roots", "--class", "data").output == "data/0: generation 1 ended\n"


def test_the_index_begins_an_epoch(house: House) -> None:
    house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    done = rotate("index")
    assert (done.exit_code, done.output.partition(" began")[0]) == (0, "epoch 2")
    assert house.vault.indexes.newest(house.controller, EMAIL).epoch == 2


def test_signing_keys_wait_until_the_next_one_is_known(house: House) -> None:
    """Whoever caches the key set must have seen the next key before it signs; what the old one signed still holds."""
    application(house)
    done = rotate("signing")
    assert (done.exit_code, "ask again" in done.output) == (1, True)
    with house.records.begin() as connection:
        long_ago = house.units.clock.now() - timedelta(hours=1)
        connection.execute(update(SigningKeyRow).values(since=long_ago))
    services = authorization_services(house)
    with services.units() as unit:
        signed = unit.signing_keys.sign({"sub": "x"}, typ="test")
        before = {key["kid"] for key in unit.signing_keys.jwks()["keys"]}
    done = rotate("signing")
    assert done.exit_code == 0, done.output
    with services.units() as unit:
        after = unit.signing_keys.jwks()["keys"]
        assert before < {key["kid"] for key in after}
        assert unit.signing_keys.sign({"sub": "x"}, typ="test").split(".")[0] != signed.split(".")[0]


def test_a_compromised_signing_key_is_disowned_at_once(house: House) -> None:
    application(house)
    services = authorization_services(house)
    with services.units() as unit:
        before = [key["kid"] for key in unit.signing_keys.jwks()["keys"]]
    assert rotate("signing", "--compromised", "--yes").exit_code == 0
    with services.units() as unit:
        assert len({*before} - {key["kid"] for key in unit.signing_keys.jwks()["keys"]}) == 1


def test_a_ledger_key_is_followed_by_another(house: House, tmp_path: Path) -> None:
    """Who trusts the old key finds the new one in an entry that it signed, and both on each checkpoint to the end."""
    folder = house.settings.data_dir
    old = house.ledger.verifier_key
    done = rotate("ledger")
    assert done.exit_code == 0, done.output
    new = done.stdout.strip()
    assert done.stderr == "start the service again, and give this line to auditors and witnesses\n"
    assert new != old
    with build(house.settings).records.connect() as connection:
        heads = [note for (note,) in connection.exec_driver_sql("select note from ledger_checkpoints order by size")]
    assert signed_by(heads[-1], [Verifier.parse(old)]) != []
    assert rotate("ledger").exit_code == 1
    early = rotate("ledger", "--finish", "--yes")
    assert (early.exit_code, "start the service again" in early.output) == (1, True)

    again = build(house.settings)
    assert again.ledger.verifier_key == new
    again.profiles.enrol(again.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    rotate("index")
    again.ledger.integrate()
    both = [Verifier.parse(old), Verifier.parse(new)]
    assert len(signed_by(again.ledger.checkpoint(), both)) == 2
    report = verify_bundle(again.ledger.bundle(Selection(About.ALL)), new)
    assert report.ok, report.faults
    again.close()

    assert rotate("ledger", "--finish", "--yes").exit_code == 0
    assert rotate("ledger", "--finish", "--yes").exit_code == 1
    last = build(house.settings)
    last.ledger.integrate()
    assert [key.text() for key in both if signed_by(last.ledger.checkpoint(), [key])] == [new]
    assert sorted(path.name for path in folder.glob("ledger.key*")) == ["ledger.key"]
    last.close()


@pytest.mark.parametrize("said", ["", "n\n"], ids=["silence", "no"])
def test_no_key_goes_for_good_unasked(house: House, said: str) -> None:
    """operations.md section 5: nothing destructive without `--yes` or a typed confirmation."""
    application(house)
    rotate("ledger")
    before, files = published(house), keys_in(house)
    for words in (("signing", "--compromised"), ("ledger", "--finish")):
        done = CliRunner().invoke(main, ["keys", "rotate", *words], input=said)
        assert (done.exit_code, "[y/N]" in done.output) == (1, True)
    assert (published(house), keys_in(house)) == (before, files)
    with closing(build(house.settings)) as again:
        assert move_on(again) > 0
    for words in (("signing", "--compromised"), ("ledger", "--finish")):
        assert CliRunner().invoke(main, ["keys", "rotate", *words], input="y\n").exit_code == 0
    assert published(house) != before
    assert keys_in(house) != files


def published(house: House) -> list[str]:
    with authorization_services(house).units() as unit:
        return [key["kid"] for key in unit.signing_keys.jwks()["keys"]]


def keys_in(house: House) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in house.settings.data_dir.glob("ledger.key*")}


def move_on(house: House) -> int:
    rotate("index")
    return house.ledger.integrate()


def test_a_service_that_was_not_started_again_stops_when_its_key_goes(house: House) -> None:
    """It would go on with a key nobody is told of, from which the new one alone could not go on (rotation.md)."""
    rotate("ledger")
    with closing(build(house.settings)) as early:
        assert move_on(early) == 1
    assert rotate("ledger", "--finish", "--yes").exit_code == 0
    with pytest.raises(LedgerCorrupted):
        house.ledger.integrate()
    with closing(build(house.settings)) as late:
        assert late.ledger.integrate() == 1
        assert verify_bundle(late.ledger.bundle(Selection(About.ALL)), late.ledger.verifier_key).ok


def test_a_ledger_key_that_is_lost_for_good_is_named_by_the_operator(house: House) -> None:
    """founding.md: only then does the service go on from what the lost key signed."""
    folder, lost = house.settings.data_dir, house.ledger.verifier_key
    rotate("index")
    house.ledger.integrate()
    (folder / "ledger.key").write_bytes(b"\x01" * 32)
    told = folder / "ledger.key.lost"
    for wrong in ("no key", WitnessSigner("regard.ledger", b"\x09" * 32).verifier.text()):
        told.write_text(wrong)
        with pytest.raises(ServiceKeyError, match=r"ledger\.key\.lost holds"):
            ledger_signer(folder)
    told.unlink()
    rotate("index")
    with closing(build(house.settings)) as shut, pytest.raises(LedgerCorrupted):
        shut.ledger.integrate()
    told.write_text(f"{lost}\n")
    with closing(build(house.settings)) as anew:
        assert anew.ledger.integrate() == 1
    told.unlink()
    with closing(build(house.settings)) as later:
        assert move_on(later) == 1


def test_a_change_of_the_ledger_key_that_died_goes_on_with_the_same_key(house: House) -> None:
    waiting = coming_signer(house.settings.data_dir).verifier.text()
    assert rotate("ledger").stdout.strip() == waiting


def test_each_rotation_is_in_the_ledger(house: House) -> None:
    house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    rotate("roots")
    rotate("index")
    with house.records.connect() as connection:
        kinds = [kind for (kind,) in connection.exec_driver_sql("select kind from ledger_entries")]
    assert kinds.count("key.rotated") == 2


def test_a_fault_of_the_settings_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REGARD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("REGARD_INDEX_REKEY_DAYS", "0")
    done = rotate("index")
    assert (done.exit_code, "REGARD_INDEX_REKEY_DAYS" in done.output) == (2, True)
    with pytest.raises(ValueError, match="INDEX_REKEY_DAYS"):
        read_settings({"REGARD_INDEX_REKEY_DAYS": "0"})

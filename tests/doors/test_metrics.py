"""The measures (operations.md section 7): right, readable by the operator's scraper alone, and about nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.http.metering import blueprint
from app.metrics import Metrics
from app.profiles import Profile
from app.settings import Secret
from app.vault.errors import (
    KeyDamaged,
    KeyringDamaged,
    ProviderUnavailable,
    RootDestroyed,
    UnknownRoot,
    VaultError,
)
from app.vault.keys import Target
from app.vault.ports import RootName
from app.vault.watched import WatchedProvider
from app.wiring import House, application
from app.wiring.metering import readings
from consent.vocabulary import Locale
from tests.contract import case_house as town

TOKEN = "a-scraper's-token"


@pytest.fixture
def house(laid_records_url: str, laid_keys_url: str, tmp_path: Path) -> Iterator[House]:
    built = town.open_house(tmp_path, laid_records_url, laid_keys_url, fresh=True)
    built.work.migrate()
    built = replace(built, settings=replace(built.settings, metrics_token=Secret(TOKEN)))
    yield built
    built.close()


@pytest.fixture
def client(house: House) -> FlaskClient:
    return application(house).test_client()


def scraped(client: FlaskClient) -> dict[str, float]:
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_requests_are_counted_by_their_pattern(client: FlaskClient) -> None:
    client.get("/en/processors")
    client.get("/en/processors/patrivue")
    client.get("/en/nobody-knows-this-page")
    found = scraped(client)
    assert found['regard_requests_total{method="GET",route="/<any(fr,en,es,pt):locale>/processors",status="200"}'] == 1
    assert found['regard_requests_total{method="ANY",route="none",status="404"}'] == 1
    assert not any("patrivue" in name or "nobody-knows" in name for name in found)


@pytest.mark.parametrize(
    "said", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"bearer {TOKEN}", f"Basic {TOKEN}", "é"]
)
def test_whoever_has_no_token_finds_nothing(client: FlaskClient, said: str | None) -> None:
    headers = {} if said is None else {"Authorization": said}
    assert client.get("/metrics", headers=headers).status_code == 404


def test_without_the_setting_there_is_no_door(house: House) -> None:
    closed = replace(house, settings=replace(house.settings, metrics_token=Secret("")))
    answer = application(closed).test_client().get("/metrics", headers={"Authorization": "Bearer "})
    assert answer.status_code == 404
    with pytest.raises(ValueError, match="token"):
        blueprint(house.metrics, "")


def test_erasures_by_state_and_age(house: House, client: FlaskClient) -> None:
    subject = house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    assert scraped(client)['regard_erasures{state="requested"}'] == 0
    house.vault.shred("era_1", [Target(house.controller, subject)])
    found = scraped(client)
    assert found['regard_erasures{state="requested"}'] == 1
    assert 0 <= found["regard_erasures_oldest_seconds"] < 600
    house.vault.erasures.drive("era_1")
    assert scraped(client)['regard_erasures{state="requested"}'] == 0


def test_calls_to_the_key_provider_and_what_they_end_with(house: House, client: FlaskClient) -> None:
    house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    house.vault.epochs.forget()
    (house.settings.data_dir / "keyring").rename(house.settings.data_dir / "away")
    with pytest.raises(ProviderUnavailable):
        house.profiles.find_by_email(house.controller, "ana@example.org")
    found = scraped(client)
    assert found['regard_key_provider_seconds_count{call="wrap"}'] >= 1
    assert found['regard_key_provider_faults_total{call="unwrap",code="key_provider_unavailable"}'] == 1
    assert found["regard_blind_look_ups"] >= 1


def test_cases_by_the_days_left(house: House, client: FlaskClient) -> None:
    town.ask(house, rows=1)
    found = scraped(client)
    counted = {name: value for name, value in found.items() if name.startswith("regard_cases{") and value}
    assert counted == {
        'regard_cases{clock="effective",days_left="15+"}': 1,
        'regard_cases{clock="strict",days_left="15+"}': 1,
    }


def test_nothing_names_anybody(house: House, client: FlaskClient) -> None:
    subject = house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    client.get(f"/en/agreements/{subject}")
    text = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).text
    assert not any(word in text for word in (subject, "Ana", "ana@", house.controller))
    assert re.search(r"^regard_ledger_waiting ", text, re.MULTILINE)


def test_work_that_failed_is_counted(house: House, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.work, "failed", lambda: 3)
    assert scraped(client)["regard_work_failed"] == 3


def test_every_gauge_is_read_when_it_is_asked_for(house: House) -> None:
    names = {one.name for one in readings(house)}
    assert {
        "erasures",
        "erasures_held",
        "ledger_waiting",
        "ledger_sound",
        "cases",
        "mail_waiting",
        "work_failed",
    } <= names


class Slow:
    """A provider that takes its time and then fails."""

    kind = "slow"

    def __init__(self) -> None:
        self.now = 0.0

    def create_root(self, name: RootName) -> str:
        self.now += 2.5
        raise ProviderUnavailable


def test_a_watched_provider_changes_nothing_of_what_happens() -> None:
    slow, seen = Slow(), []
    watched = WatchedProvider(slow, lambda *told: seen.append(told), lambda: slow.now)  # type: ignore[arg-type]
    with pytest.raises(ProviderUnavailable):
        watched.create_root(None)  # type: ignore[arg-type]
    assert (watched.kind, seen) == (
        "slow",
        [("create_root", 2.5, "key_provider_unavailable")],
    )


class Answering:
    """A provider that ends each call with what it was given."""

    kind = "answering"

    def __init__(self, ends: VaultError) -> None:
        self.ends = ends

    def unwrap(self, root: str, wrapped: bytes, name: bytes) -> bytearray:
        raise self.ends


@pytest.mark.parametrize(
    ("ends", "counted"),
    [
        (RootDestroyed(), None),
        (UnknownRoot(), "unknown_root"),
        (KeyDamaged(), "key_damaged"),
        (KeyringDamaged(), "keyring_damaged"),
        (ProviderUnavailable(), "key_provider_unavailable"),
    ],
    ids=lambda each: getattr(each, "code", ""),
)
def test_that_a_root_is_destroyed_is_an_answer_and_no_fault(ends: VaultError, counted: str | None) -> None:
    seen: list[str | None] = []
    watched = WatchedProvider(Answering(ends), lambda _call, _seconds, code: seen.append(code))  # type: ignore[arg-type]
    with pytest.raises(type(ends)):
        watched.unwrap("r", b"", b"")
    assert seen == [counted]


def test_a_decision_is_counted_with_its_reason() -> None:
    metrics = Metrics()
    metrics.decided("deny", "consent_withdrawn")
    assert b'regard_decisions_total{answer="deny",reason="consent_withdrawn"} 1.0' in metrics.exposition()

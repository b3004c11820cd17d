"""What Google Cloud KMS promises beyond the common contract: two-fold destruction, checksums, outages (0023)."""

from __future__ import annotations

import base64
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import DefaultCredentialsError
from google.cloud import kms_v1
from sqlalchemy import Engine

from app.vault.errors import KeyDamaged, ProviderUnavailable, RootDestroyed, UnknownRoot, VaultError
from app.vault.keys import KeyClass
from app.vault.ports import RootName, RootState
from app.vault.providers import settling
from app.vault.providers.gcp import GcpKms, crc32c
from tests.contract.cloud_story import CloudStory, Lost, assert_any_call_may_fail, on_sqlite
from tests.contract.gcp_provider import CloudKms, Refusal, castagnoli, cloud, failing, gcp_kms, slow

FIRST, SECOND = RootName(KeyClass.DATA, 3, 1), RootName(KeyClass.DATA, 3, 2)
WINDOW = timedelta(days=30)


@pytest.fixture
def world(tmp_path: Path) -> CloudKms:
    return cloud(tmp_path)


@pytest.fixture
def kms(tmp_path: Path, world: CloudKms) -> GcpKms:
    return gcp_kms(tmp_path, deadline=0)


# The wire


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
    ],
)
def test_crc32c_published_vectors(data: bytes, expected: int) -> None:
    """RFC 3720 appendix B.4, and the usual check value."""
    assert crc32c(data) == castagnoli(data) == expected


def test_each_use_names_the_version_and_what_it_wraps(kms: GcpKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(32), b"n")
    key = world.keys[root.removeprefix("gcp:")]
    world.do("POST", f"{key.name}/cryptoKeyVersions", {}, {})
    assert kms.unwrap(root, kms.wrap(root, bytearray(32), b"n"), b"n") == kms.unwrap(root, wrapped, b"n")
    sent = [body for name, body in world.asked if name in ("encrypt", "decrypt")]
    assert len(sent) == 4
    for body in sent:
        assert base64.b64decode(body["additionalAuthenticatedData"]).endswith(root.encode() + b"\x00\x00\x00\x01n")
        assert body["additionalAuthenticatedDataCrc32c"]
        assert body.get("plaintextCrc32c") or body.get("ciphertextCrc32c")


@pytest.mark.parametrize("hardware", [False, True])
def test_what_a_root_is_made_of(tmp_path: Path, world: CloudKms, *, hardware: bool) -> None:
    """And an HSM takes its time to make one."""
    world.generating = 3
    kms = gcp_kms(tmp_path, hardware=hardware, destroy_window=timedelta(days=2))
    root = kms.create_root(FIRST)
    key = world.keys[root.removeprefix("gcp:")]
    assert key.window == timedelta(days=2)
    assert key.labels == {"regard-root": "data-3-1"}
    assert kms.describe(root).evidence["protection_level"] == ("HSM" if hardware else "SOFTWARE")
    kms.destroy(root)
    assert kms.describe(root).irrevocable_at == world.clock.now() + timedelta(days=2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key_ring": "projects/p/locations/l"},
        {"key_ring": "projects/p/locations/l/keyRings/r/cryptoKeys/k"},
        {"destroy_window": timedelta(hours=23)},
        {"destroy_window": timedelta(days=121)},
    ],
)
def test_settings_that_the_service_does_not_take(world: CloudKms, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="key_ring"):
        GcpKms(**{"key_ring": world.ring, **wrong})


# Making


def test_the_loser_of_a_race_takes_the_winners_key(tmp_path: Path, kms: GcpKms, world: CloudKms) -> None:
    other, won = gcp_kms(tmp_path), []

    def overtaken(operation: str) -> None:
        if operation == "create" and not won:
            won.append("")
            won[0] = other.create_root(FIRST)

    world.fault = overtaken
    assert [kms.create_root(FIRST)] == won
    assert world.used("create") == 2
    assert len(world.keys) == 1


def test_many_at_once_get_one_root(kms: GcpKms, world: CloudKms) -> None:
    with ThreadPoolExecutor(8) as pool:
        roots = set(pool.map(lambda _: kms.create_root(FIRST), range(16)))
    assert len(roots) == len(world.keys) == 1


def test_a_ring_that_is_not_there(world: CloudKms, kms: GcpKms, tmp_path: Path) -> None:
    world.ring = world.ring[:-1]
    with pytest.raises(ProviderUnavailable, match="NOT_FOUND"):
        kms.create_root(FIRST)


# Destroying


@pytest.mark.parametrize("policy", [False, True])
def test_the_label_comes_first_and_the_date_is_read_back(kms: GcpKms, world: CloudKms, *, policy: bool) -> None:
    world.disable_first = policy
    root = kms.create_root(FIRST)
    world.asked.clear()
    kms.destroy(root)
    order = [name for name, _ in world.asked if name in ("update", "updateVersion", "destroy", "encrypt")]
    assert order == ["update", "updateVersion", "destroy", "encrypt"]
    assert world.keys[root.removeprefix("gcp:")].labels == {"regard-root": "data-3-1", "regard-destroyed": "asked"}
    told = kms.describe(root)
    assert (told.state, told.irrevocable_at) == (RootState.SCHEDULED, world.clock.now() + WINDOW)
    assert told.assurance == "C: unusable now, irrevocable on 2026-03-31"
    assert told.evidence["read_back"] == "DESTROY_SCHEDULED"


def test_after_its_date_a_root_is_gone_and_its_name_spent(tmp_path: Path, kms: GcpKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    wrapped, date = kms.wrap(root, bytearray(32), b"n"), world.clock.now() + WINDOW
    kms.destroy(root)
    world.clock.pass_(days=30, seconds=-1)
    assert kms.describe(root).state is RootState.SCHEDULED
    world.clock.pass_(days=3)
    for seen in (kms, gcp_kms(tmp_path)):
        told = seen.describe(root)
        assert (told.state, told.irrevocable_at) == (RootState.DESTROYED, date)
        assert told.assurance == "C: irrevocable since 2026-03-31"
        with pytest.raises(RootDestroyed):
            seen.unwrap(root, wrapped, b"n")
        with pytest.raises(RootDestroyed):
            seen.create_root(FIRST)
        seen.destroy(root)


@pytest.mark.parametrize("operation", ["get", "update", "updateVersion", "destroy"])
def test_destroying_goes_on_where_it_stopped(kms: GcpKms, world: CloudKms, operation: str) -> None:
    root = kms.create_root(FIRST)
    with failing(world, "PERMISSION_DENIED", operation), pytest.raises(ProviderUnavailable):
        kms.destroy(root)
    assert kms.describe(root).state is RootState.ACTIVE
    world.clock.pass_(hours=5)
    kms.destroy(root)
    assert kms.describe(root).irrevocable_at == world.clock.now() + WINDOW


def test_somebody_else_destroys_it_meanwhile(tmp_path: Path, kms: GcpKms, world: CloudKms) -> None:
    root, met = kms.create_root(FIRST), []

    def overtaken(operation: str) -> None:
        if operation == "updateVersion" and not met:
            met.append(operation)
            gcp_kms(tmp_path).destroy(root)

    world.fault = overtaken
    kms.destroy(root)
    assert kms.describe(root).state is RootState.SCHEDULED
    assert world.used("destroy") == 1


def test_destroyed_means_that_using_it_was_tried(kms: GcpKms, world: CloudKms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google shuts a version within a minute, in bad cases hours: until then no certificate says "unusable now"."""
    root = kms.create_root(FIRST)
    world.stale = 3
    kms.destroy(root)
    assert world.stale == 0
    monkeypatch.setattr(settling, "sleep", lambda _seconds: None)
    world.stale = 100
    with pytest.raises(ProviderUnavailable, match="does not show yet"):
        kms.destroy(root)


def test_a_restored_version_is_noticed(kms: GcpKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(32), b"n")
    kms.destroy(root)
    world.restore(root)
    assert kms.describe(root).state is RootState.ACTIVE
    assert kms.describe(root).irrevocable_at is None
    with pytest.raises(RootDestroyed):
        kms.unwrap(root, wrapped, b"n")
    world.enable(root)
    assert kms.describe(root).state is RootState.ACTIVE
    assert kms.unwrap(root, wrapped, b"n") == bytes(32)
    world.clock.pass_(days=2)
    kms.destroy(root)
    assert kms.describe(root).irrevocable_at == world.clock.now() + WINDOW


@pytest.mark.parametrize("scheduled", [False, True])
def test_what_somebody_else_took_is_an_outage(kms: GcpKms, world: CloudKms, *, scheduled: bool) -> None:
    """Not RootDestroyed: a vault would take the survivors of this partition for lost, and drop them."""
    root = kms.create_root(FIRST)
    wrapped, version = kms.wrap(root, bytearray(32), b"n"), world.version(root).name
    world.do("PATCH", version, {"updateMask": "state"}, {"state": "DISABLED"})
    if scheduled:
        world.do("POST", f"{version}:destroy", {}, {})
    for work in (
        lambda: kms.unwrap(root, wrapped, b"n"),
        lambda: kms.wrap(root, bytearray(32), b"n"),
        lambda: kms.create_root(FIRST),
    ):
        with pytest.raises(ProviderUnavailable, match="not by an erasure"):
            work()
    if scheduled:
        world.restore(root)
    world.enable(root)
    assert kms.unwrap(root, wrapped, b"n") == bytes(32)


def test_a_root_that_somebody_else_destroyed_is_lost(kms: GcpKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    wrapped, version = kms.wrap(root, bytearray(32), b"n"), world.version(root).name
    world.do("PATCH", version, {"updateMask": "state"}, {"state": "DISABLED"})
    world.do("POST", f"{version}:destroy", {}, {})
    world.clock.pass_(days=31)
    with pytest.raises(UnknownRoot):
        kms.unwrap(root, wrapped, b"n")
    assert kms.describe(root).state is RootState.DESTROYED


# Outages and lies

WORKS: dict[str, Callable[[GcpKms, str, bytes], object]] = {
    "create_root": lambda kms, root, wrapped: kms.create_root(SECOND),
    "wrap": lambda kms, root, wrapped: kms.wrap(root, bytearray(32), b"n"),
    "unwrap": lambda kms, root, wrapped: kms.unwrap(root, wrapped, b"n"),
    "destroy": lambda kms, root, wrapped: kms.destroy(root),
    "describe": lambda kms, root, wrapped: kms.describe(root),
}
TEMPORARY = ["PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"]


@pytest.mark.parametrize("work", WORKS)
def test_every_outage_is_one_error(kms: GcpKms, world: CloudKms, work: str) -> None:
    root, key = kms.create_root(FIRST), bytearray(os.urandom(32))
    wrapped = kms.wrap(root, key, b"n")
    for status in TEMPORARY:
        with failing(world, status), pytest.raises(ProviderUnavailable, match=status) as caught:
            WORKS[work](kms, root, wrapped)
        assert caught.value.code == "key_provider_unavailable"
    with failing(world, "UNAUTHENTICATED"), pytest.raises(ProviderUnavailable):
        WORKS[work](kms, root, wrapped)
    assert kms.unwrap(root, wrapped, b"n") == key


@pytest.mark.parametrize("when", ["refused", "answer lost"])
def test_any_call_may_fail(kms: GcpKms, world: CloudKms, when: str) -> None:
    """Nothing is asked twice that must not be, nothing is left half done."""

    def at() -> Lost:
        lost = Lost()

        def fault(operation: str) -> None:
            if when == "refused" and lost.now():
                raise Refusal("UNAVAILABLE")

        def after(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
            if when == "answer lost" and lost.now():
                raise ConnectionAbortedError
            return answer

        world.fault, world.after = fault, after
        return lost

    assert_any_call_may_fail(kms, world.clock, WINDOW, at)
    assert {key.versions[0].state for key in world.keys.values()} == {"DESTROY_SCHEDULED"}


@pytest.mark.parametrize("work", WORKS)
def test_no_answer_in_time(tmp_path: Path, kms: GcpKms, world: CloudKms, work: str) -> None:
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(32), b"n")
    hasty = gcp_kms(tmp_path, deadline=0, patience=0.5)
    with slow(world, 1.0), pytest.raises(ProviderUnavailable, match="Timeout"):
        WORKS[work](hasty, root, wrapped)


def test_a_short_outage_is_tried_again(tmp_path: Path, world: CloudKms) -> None:
    kms = gcp_kms(tmp_path)
    root = kms.create_root(FIRST)
    world.asked.clear()
    with failing(world, "UNAVAILABLE", times=2):
        assert kms.describe(root).state is RootState.ACTIVE
    assert world.used("getVersion") == 3


def test_trying_again_ends(tmp_path: Path, world: CloudKms) -> None:
    root = gcp_kms(tmp_path).create_root(FIRST)
    with failing(world, "UNAVAILABLE"), pytest.raises(ProviderUnavailable, match="UNAVAILABLE"):
        gcp_kms(tmp_path, deadline=0.5).describe(root)


def test_nobody_there(world: CloudKms) -> None:
    kms = GcpKms(world.ring, endpoint="http://127.0.0.1:9", credentials=AnonymousCredentials(), deadline=0)
    with pytest.raises(ProviderUnavailable, match="ConnectionError"):
        kms.create_root(FIRST)


def test_no_credentials(tmp_path: Path, world: CloudKms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(ProviderUnavailable, match=DefaultCredentialsError.__name__):
        GcpKms(world.ring).create_root(FIRST)


def test_constructing_asks_nobody(world: CloudKms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Process start looks for no credentials: the client is made at first use."""

    def made(**_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(kms_v1, "KeyManagementServiceClient", made)
    kms = GcpKms(world.ring)
    with pytest.raises(AssertionError):
        kms.create_root(FIRST)


def told_key(key: bytes) -> dict[str, str]:
    return {"plaintext": base64.b64encode(key).decode(), "plaintextCrc32c": str(castagnoli(key))}


LIES: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]], type[VaultError]]] = {
    "another key": ("decrypt", lambda told: told | told_key(os.urandom(32)), KeyDamaged),
    "a short key": ("decrypt", lambda told: told | told_key(bytes(31)), KeyDamaged),
    "a changed key": ("decrypt", lambda told: told | {"plaintextCrc32c": "1"}, ProviderUnavailable),
    "no checksum": ("decrypt", lambda told: {"plaintext": told["plaintext"]}, ProviderUnavailable),
    "nothing": ("decrypt", lambda told: {}, ProviderUnavailable),
    "not base64": ("decrypt", lambda told: told | {"plaintext": "a"}, ProviderUnavailable),
    "a changed blob": ("encrypt", lambda told: told | {"ciphertextCrc32c": "1"}, ProviderUnavailable),
    "unverified": ("encrypt", lambda told: told | {"verifiedPlaintextCrc32c": False}, ProviderUnavailable),
    "unbound": (
        "encrypt",
        lambda told: told | {"verifiedAdditionalAuthenticatedDataCrc32c": False},
        ProviderUnavailable,
    ),
    "another version": ("encrypt", lambda told: told | {"name": told["name"] + "1"}, ProviderUnavailable),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_service_is_found_out(kms: GcpKms, world: CloudKms, lie: str) -> None:
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(os.urandom(32)), b"n")
    about, change, error = LIES[lie]
    world.after = lambda operation, told: change(told) if operation == about else told
    with pytest.raises(error):
        kms.unwrap(root, kms.wrap(root, bytearray(32), b"n") if about == "encrypt" else wrapped, b"n")


def test_what_changed_on_the_way_there_is_not_taken_for_damage(kms: GcpKms, world: CloudKms) -> None:
    """KeyDamaged would be for ever; a wrong checksum is worth another try."""
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(32), b"n")

    def refuse(operation: str) -> None:
        message = "The checksum in field ciphertext_crc32c did not match the data in field ciphertext."
        raise Refusal("INVALID_ARGUMENT", message)

    world.fault = refuse
    with pytest.raises(ProviderUnavailable):
        kms.unwrap(root, wrapped, b"n")


def test_a_blob_under_another_mark_does_not_open(kms: GcpKms) -> None:
    root = kms.create_root(FIRST)
    one, two = (kms.wrap(root, bytearray(os.urandom(32)), b"n") for _ in range(2))
    for mixed in (one[:32] + two[32:], b"", one[:32], bytes(7_000), one[:33]):
        with pytest.raises(KeyDamaged):
            kms.unwrap(root, mixed, b"n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("europe-west9", "us-east1"),
        ("keyRings/regard", "keyRings/other"),
        ("data-3-1", "data-3-1/cryptoKeyVersions/1"),
        ("data-3-1", "nothing-3-1"),
        ("data-3-1", "data-3-99"),
        ("gcp:", "aws:"),
    ],
)
def test_references_to_elsewhere(kms: GcpKms, old: str, new: str) -> None:
    root = kms.create_root(FIRST)
    for work in (kms.describe, kms.destroy, lambda it: kms.wrap(it, bytearray(32), b"n")):
        with pytest.raises(UnknownRoot):
            work(root.replace(old, new))


# Secrets

LOGGERS = (
    "google",
    "google.cloud.kms_v1.services.key_management_service.transports.rest",
    "google.auth.transport.requests",
)


@pytest.fixture
def everything_logged() -> Iterator[list[str]]:
    """All that any logger writes once somebody has turned everything up, as text."""
    said: list[str] = []
    handler = logging.Handler(level=0)
    handler.emit = lambda record: said.append(f"{record.getMessage()} {record.__dict__}")  # type: ignore[method-assign]
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in LOGGERS)]
    before = [(each, each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.setLevel(1)
        each.propagate = True
    loggers[0].addHandler(handler)
    yield said
    loggers[0].removeHandler(handler)
    for each, level, propagate in before:
        each.setLevel(level)
        each.propagate = propagate


def forms(key: bytes) -> list[str]:
    return [base64.b64encode(key).decode(), key.hex(), repr(key)[2:-1]]


def test_no_key_in_logs(kms: GcpKms, everything_logged: list[str]) -> None:
    root, key = kms.create_root(FIRST), os.urandom(32)
    wrapped = kms.wrap(root, bytearray(key), b"n")
    kms.unwrap(root, wrapped, b"n")
    said = "\n".join(everything_logged)
    assert said
    assert not [form for form in forms(key) if form in said]
    # Without what shuts it off, the key would be there: this test can fail.
    loggers = [logging.getLogger(name) for name in LOGGERS]
    filters = [list(each.filters) for each in loggers]
    try:
        for each in loggers:
            each.filters.clear()
        kms.wrap(root, bytearray(key), b"n")
    finally:
        for each, kept in zip(loggers, filters, strict=True):
            each.filters[:] = kept
    assert [form for form in forms(key) if form in "\n".join(everything_logged)]


def test_no_key_in_errors(kms: GcpKms, world: CloudKms) -> None:
    root, key = kms.create_root(FIRST), os.urandom(32)
    with failing(world, "PERMISSION_DENIED"), pytest.raises(ProviderUnavailable) as caught:
        kms.wrap(root, bytearray(key), b"n")
    assert caught.value.__cause__ is None
    told = f"{caught.value!r} {caught.getrepr(showlocals=False)} {kms!r}"
    assert not [form for form in forms(key) if form in told]


def test_one_client_serves_many_threads(kms: GcpKms) -> None:
    root = kms.create_root(FIRST)
    keys = [bytearray(os.urandom(32)) for _ in range(24)]
    with ThreadPoolExecutor(8) as pool:
        wrapped = list(pool.map(lambda key: kms.wrap(root, key, b"n"), keys))
        assert list(pool.map(lambda each: kms.unwrap(root, each, b"n"), wrapped)) == keys


# Whole erasures


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], GcpKms]:
    return lambda: gcp_kms(tmp_path, deadline=0)


@pytest.fixture
def story(tmp_path: Path, world: CloudKms, make: Callable[[], GcpKms]) -> Iterator[CloudStory]:
    with on_sqlite(tmp_path, world.clock, make) as story:
        yield story


def test_an_erasure_is_certified_from_scheduled(
    keys_engine: Engine, tmp_path: Path, world: CloudKms, make: Callable[[], GcpKms]
) -> None:
    story = CloudStory(keys_engine, tmp_path, world.clock, make)
    story.ask()
    story.assert_steps()
    story.assert_certified(WINDOW)


def test_an_erasure_waits_for_a_slow_provider(tmp_path: Path, world: CloudKms) -> None:
    def make() -> GcpKms:
        return gcp_kms(tmp_path, deadline=0, patience=0.5)

    def trouble() -> AbstractContextManager[None]:
        return slow(world, 1.0)

    with on_sqlite(tmp_path, world.clock, make) as story:
        story.assert_waits_and_resumes(trouble)
        story.assert_certified(WINDOW)


@pytest.mark.parametrize("operation", ["update", "updateVersion", "destroy"])
def test_an_erasure_destroys_later(story: CloudStory, world: CloudKms, operation: str) -> None:
    story.assert_survives_trouble_in_destroying(lambda: failing(world, "UNAVAILABLE", operation))
    story.assert_certified(WINDOW)


def test_an_erasure_does_not_certify_a_key_that_came_back(story: CloudStory, world: CloudKms) -> None:
    restored: list[str] = []

    def restore(operation: str) -> None:
        going = [key.versions[0] for key in world.keys.values() if key.versions[0].state == "DESTROY_SCHEDULED"]
        if operation == "decrypt" and going and not restored:
            going[0].state, going[0].destroy = "ENABLED", None
            restored.append(going[0].name)

    world.fault = restore
    story.assert_still_alive()
    assert len(restored) == 1
    story.assert_certified(WINDOW)

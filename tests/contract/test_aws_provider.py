"""What AWS KMS promises beyond the common contract: two-fold deletion, its marks, its outages (decision 0023)."""

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

import boto3
import pytest
from moto import mock_aws
from sqlalchemy import Engine

from app.vault.errors import KeyDamaged, ProviderUnavailable, RootDestroyed, UnknownRoot, VaultError
from app.vault.keys import KeyClass
from app.vault.ports import RootName, RootState
from app.vault.providers import settling
from app.vault.providers.aws import AwsKms
from tests.contract.aws_provider import PASSING, REGION, SESSION, CloudKms, Refusal, aws_kms, cloud, failing, slow
from tests.contract.cloud_story import CloudStory, Lost, assert_any_call_may_fail, on_sqlite
from tests.mechanism.vaults import SetClock

FIRST, SECOND = RootName(KeyClass.DATA, 3, 1), RootName(KeyClass.DATA, 3, 2)
WINDOW = timedelta(days=7)


@pytest.fixture
def world(tmp_path: Path) -> CloudKms:
    return cloud(tmp_path)


@pytest.fixture
def kms(tmp_path: Path, world: CloudKms) -> AwsKms:
    return aws_kms(tmp_path, attempts=1)


def enabled(world: CloudKms) -> list[str]:
    return [key.id for key in world.keys.values() if key.state == "Enabled" and "regard:root" in key.tags]


# The wire


def test_the_wire_shape_is_that_of_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calls against an independent reading of the API, whose keys work on while they are pending deletion."""
    monkeypatch.setattr(settling, "sleep", lambda _seconds: None)
    clock = SetClock()
    with mock_aws():
        kms = AwsKms(REGION, clock=clock)
        root, other = kms.create_root(FIRST), kms.create_root(SECOND)
        assert kms.create_root(FIRST) == root != other
        key = bytearray(os.urandom(32))
        wrapped = kms.wrap(root, key, b"n")
        assert AwsKms(REGION, clock=clock).unwrap(root, wrapped, b"n") == key
        for damaged in ((root, wrapped, b"other"), (other, wrapped, b"n")):
            with pytest.raises(KeyDamaged):
                kms.unwrap(*damaged)
        with pytest.raises(ProviderUnavailable, match="does not show yet"):
            kms.destroy(root)
        assert kms.describe(root).state is RootState.SCHEDULED
        assert kms.describe(other).state is RootState.ACTIVE
        with pytest.raises(RootDestroyed):
            kms.create_root(FIRST)


def test_each_use_names_the_key_and_what_it_wraps(kms: AwsKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    kms.unwrap(root, kms.wrap(root, bytearray(32), b"n"), b"n")
    for operation in ("Encrypt", "Decrypt"):
        (asked,) = [body for name, body in world.asked if name == operation]
        assert asked["KeyId"] == world.key(root).arn
        assert asked["EncryptionContext"]["regard:root"] == "data/3/1"
        assert set(asked["EncryptionContext"]) == {"regard:root", "regard:key"}


def test_settings_that_the_service_does_not_take(kms: AwsKms, world: CloudKms) -> None:
    for wrong in ({"waiting_days": 6}, {"waiting_days": 31}, {"prefix": "aws/x"}, {"prefix": ""}, {"prefix": "a b"}):
        with pytest.raises(ValueError, match="waiting_days"):
            AwsKms(REGION, clock=world.clock, **wrong)


def test_prefixes_keep_deployments_apart(tmp_path: Path, kms: AwsKms) -> None:
    assert kms.create_root(FIRST) != aws_kms(tmp_path, prefix="regard-staging").create_root(FIRST)


# Making


def test_the_loser_of_a_race_deletes_its_own_key(tmp_path: Path, kms: AwsKms, world: CloudKms) -> None:
    other, won = aws_kms(tmp_path), []

    def overtaken(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        if operation == "CreateKey" and not won:
            won.append("")
            won[0] = other.create_root(FIRST)
        return answer

    world.after = overtaken
    assert [kms.create_root(FIRST)] == won
    assert enabled(world) == [world.key(won[0]).id]
    assert {key.state for key in world.keys.values()} == {"Enabled", "PendingDeletion"}


def test_many_at_once_get_one_root(kms: AwsKms, world: CloudKms) -> None:
    with ThreadPoolExecutor(8) as pool:
        roots = set(pool.map(lambda _: kms.create_root(FIRST), range(16)))
    assert len(roots) == len(enabled(world)) == 1


def test_a_lost_answer_does_not_lose_the_key(tmp_path: Path, world: CloudKms) -> None:
    """The alias was made and the answer lost: the second attempt is told that it exists, and it is ours."""
    lost = []

    def lose(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        if operation == "CreateAlias" and not lost:
            lost.append(operation)
            raise ConnectionAbortedError
        return answer

    world.after = lose
    root = aws_kms(tmp_path).create_root(FIRST)
    assert enabled(world) == [world.key(root).id]
    assert world.used("CreateAlias") == 2
    assert world.used("ScheduleKeyDeletion") == 0


def test_what_is_new_is_not_there_at_once(kms: AwsKms, world: CloudKms) -> None:
    """KMS is consistent in the end; nobody is shown UnknownRoot for it."""
    world.lag = 2
    root = kms.create_root(FIRST)
    assert kms.unwrap(root, kms.wrap(root, bytearray(32), b"n"), b"n") == bytes(32)
    assert len(enabled(world)) == 1


# Destroying


def test_the_mark_comes_first_and_carries_the_date(kms: AwsKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    world.asked.clear()
    kms.destroy(root)
    order = [name for name, _ in world.asked if name in ("TagResource", "DisableKey", "ScheduleKeyDeletion")]
    assert order == ["TagResource", "DisableKey", "ScheduleKeyDeletion"]
    told = kms.describe(root)
    assert (told.state, told.irrevocable_at) == (RootState.SCHEDULED, world.clock.now() + WINDOW)
    assert told.assurance == "C: unusable now, irrevocable on 2026-03-08"
    assert told.evidence["read_back"] == "PendingDeletion"


@pytest.mark.parametrize("days", [7, 30])
def test_after_its_date_a_root_is_gone_and_its_name_spent(tmp_path: Path, world: CloudKms, days: int) -> None:
    kms = aws_kms(tmp_path, waiting_days=days)
    root = kms.create_root(FIRST)
    wrapped, date = kms.wrap(root, bytearray(32), b"n"), world.clock.now() + timedelta(days=days)
    kms.destroy(root)
    world.clock.pass_(days=days, seconds=-1)
    assert kms.describe(root).state is RootState.SCHEDULED
    world.clock.pass_(days=3)
    for seen in (kms, aws_kms(tmp_path)):
        told = seen.describe(root)
        assert (told.state, told.irrevocable_at) == (RootState.DESTROYED, date)
        assert told.assurance == f"C: irrevocable since {date:%Y-%m-%d}"
        with pytest.raises(RootDestroyed):
            seen.unwrap(root, wrapped, b"n")
        with pytest.raises(RootDestroyed):
            seen.create_root(FIRST)
        seen.destroy(root)
    assert "alias/regard/data-3-1" not in world.aliases
    assert kms.create_root(SECOND) != root


def test_the_date_is_that_of_the_key_not_of_the_request(kms: AwsKms, world: CloudKms) -> None:
    """AWS may take up to a day longer than asked; a certificate must not promise too much."""
    root, world.late = kms.create_root(FIRST), timedelta(hours=20)
    kms.destroy(root)
    end = world.clock.now() + WINDOW + world.late
    assert kms.describe(root).irrevocable_at == end
    world.clock.pass_(days=9)
    assert kms.describe(root).irrevocable_at == end


def test_many_destroy_at_once(kms: AwsKms, world: CloudKms) -> None:
    """All need the marker, which is not there yet: one is made, and has every mark."""
    roots = [kms.create_root(RootName(KeyClass.DATA, number, 1)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(kms.destroy, roots))
    living = [key for key in world.keys.values() if "regard:marker" in key.tags and key.state == "Enabled"]
    assert [len(key.tags) for key in living] == [1 + 8]
    world.clock.pass_(days=8)
    assert {kms.describe(root).state for root in roots} == {RootState.DESTROYED}


def test_without_its_marker_nothing_is_destroyed(kms: AwsKms, world: CloudKms) -> None:
    """Somebody has taken the marker away: better to wait than to destroy what could not be told from lost."""
    kms.destroy(kms.create_root(FIRST))
    (marker,) = [key for key in world.keys.values() if "regard:marker" in key.tags]
    world.do("ScheduleKeyDeletion", {"KeyId": marker.id})
    root = kms.create_root(SECOND)
    with pytest.raises(ProviderUnavailable, match="tag_resource"):
        kms.destroy(root)
    assert kms.describe(root).state is RootState.ACTIVE
    assert kms.unwrap(root, kms.wrap(root, bytearray(32), b"n"), b"n") == bytes(32)
    world.do("CancelKeyDeletion", {"KeyId": marker.id})
    kms.destroy(root)
    assert kms.describe(root).state is RootState.SCHEDULED


@pytest.mark.parametrize("operation", ["CreateKey", "CreateAlias", "TagResource", "DisableKey", "ScheduleKeyDeletion"])
def test_destroying_goes_on_where_it_stopped(kms: AwsKms, world: CloudKms, operation: str) -> None:
    root = kms.create_root(FIRST)
    with failing(world, "AccessDeniedException", operation), pytest.raises(ProviderUnavailable):
        kms.destroy(root)
    assert kms.describe(root).state is RootState.ACTIVE
    world.clock.pass_(hours=5)
    kms.destroy(root)
    assert kms.describe(root).irrevocable_at == world.clock.now() + WINDOW
    world.clock.pass_(days=8)
    assert kms.describe(root).irrevocable_at == world.clock.now() - timedelta(days=1)


def test_destroyed_means_that_using_it_was_tried(kms: AwsKms, world: CloudKms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that is not everywhere yet does not make a certificate say "unusable now"."""
    root = kms.create_root(FIRST)
    world.stale = 3
    kms.destroy(root)
    assert world.stale == 0
    monkeypatch.setattr(settling, "sleep", lambda _seconds: None)
    world.stale = 100
    with pytest.raises(ProviderUnavailable, match="does not show yet"):
        kms.destroy(root)


def test_destroying_is_never_undone_by_an_earlier_generation(kms: AwsKms, world: CloudKms) -> None:
    """Old roots may be destroyed late (a window for backups): the mark does not go back."""
    first, second = kms.create_root(FIRST), kms.create_root(SECOND)
    kms.destroy(second)
    world.clock.pass_(days=1)
    kms.destroy(first)
    world.clock.pass_(days=10)
    assert kms.describe(second).irrevocable_at == world.clock.now() - timedelta(days=4)
    assert kms.describe(first).state is RootState.DESTROYED
    for name in (FIRST, SECOND):
        with pytest.raises(RootDestroyed):
            kms.create_root(name)


def test_a_marker_serves_forty_partitions(kms: AwsKms, world: CloudKms) -> None:
    """And lists longer than a page are read to the end."""
    world.page = 1
    names = [RootName(KeyClass.DATA, number, 1) for number in (0, 1, 39, 40, 41)]
    roots = [kms.create_root(name) for name in names]
    for root in roots:
        kms.destroy(root)
    markers = [key for key in world.keys.values() if "regard:marker" in key.tags]
    assert sorted(len(key.tags) for key in markers) == [1 + 2, 1 + 3]
    world.clock.pass_(days=7)
    assert {kms.describe(root).state for root in roots} == {RootState.DESTROYED}


def test_a_cancelled_deletion_is_noticed(kms: AwsKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(32), b"n")
    kms.destroy(root)
    world.do("CancelKeyDeletion", {"KeyId": world.key(root).arn})
    assert kms.describe(root).state is RootState.ACTIVE
    assert kms.describe(root).irrevocable_at is None
    with pytest.raises(RootDestroyed):
        kms.unwrap(root, wrapped, b"n")
    world.do("EnableKey", {"KeyId": world.key(root).arn})
    assert kms.describe(root).state is RootState.ACTIVE
    assert kms.unwrap(root, wrapped, b"n") == bytes(32)
    world.clock.pass_(days=2)
    kms.destroy(root)
    assert kms.describe(root).irrevocable_at == world.clock.now() + WINDOW


@pytest.mark.parametrize("deed", ["DisableKey", "ScheduleKeyDeletion"])
def test_what_somebody_else_took_is_an_outage(kms: AwsKms, world: CloudKms, deed: str) -> None:
    """Not RootDestroyed: a vault would take the survivors of this partition for lost, and drop them."""
    kms.destroy(kms.create_root(FIRST))
    root = kms.create_root(SECOND)
    wrapped, arn = kms.wrap(root, bytearray(32), b"n"), world.key(root).arn
    world.do(deed, {"KeyId": arn})
    for work in (
        lambda: kms.unwrap(root, wrapped, b"n"),
        lambda: kms.wrap(root, bytearray(32), b"n"),
        lambda: kms.create_root(SECOND),
    ):
        with pytest.raises(ProviderUnavailable, match="not by an erasure"):
            work()
    if deed == "ScheduleKeyDeletion":
        world.do("CancelKeyDeletion", {"KeyId": arn})
    world.do("EnableKey", {"KeyId": arn})
    assert kms.unwrap(root, wrapped, b"n") == bytes(32)


def test_a_root_that_vanished_unmarked_is_lost_not_destroyed(kms: AwsKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    world.do("ScheduleKeyDeletion", {"KeyId": world.key(root).arn, "PendingWindowInDays": 7})
    world.clock.pass_(days=8)
    for work in (kms.describe, kms.destroy, lambda it: kms.unwrap(it, bytes(200), b"")):
        with pytest.raises(UnknownRoot):
            work(root)


def test_a_mark_that_somebody_rewrote_proves_nothing(kms: AwsKms, world: CloudKms) -> None:
    root = kms.create_root(FIRST)
    kms.destroy(root)
    (marker,) = [key for key in world.keys.values() if "regard:marker" in key.tags]
    world.clock.pass_(days=8)
    for wrong in ("", "soon", "1 2026-13-01T00:00:00+00:00", "one 2026-03-08T12:00:00+00:00"):
        marker.tags["regard:partition-3"] = wrong
        with pytest.raises(ProviderUnavailable):
            kms.describe(root)
    del marker.tags["regard:partition-3"]
    with pytest.raises(UnknownRoot):
        kms.describe(root)


# Outages and lies

WORKS: dict[str, Callable[[AwsKms, str, bytes], object]] = {
    "create_root": lambda kms, root, wrapped: kms.create_root(SECOND),
    "wrap": lambda kms, root, wrapped: kms.wrap(root, bytearray(32), b"n"),
    "unwrap": lambda kms, root, wrapped: kms.unwrap(root, wrapped, b"n"),
    "destroy": lambda kms, root, wrapped: kms.destroy(root),
    "describe": lambda kms, root, wrapped: kms.describe(root),
}
TEMPORARY = [
    *PASSING,
    "AccessDeniedException",
    "KeyUnavailableException",
    "LimitExceededException",
    "ExpiredTokenException",
]


@pytest.mark.parametrize("work", WORKS)
def test_every_outage_is_one_error(kms: AwsKms, world: CloudKms, work: str) -> None:
    root = kms.create_root(FIRST)
    key = bytearray(os.urandom(32))
    wrapped = kms.wrap(root, key, b"n")
    for code in TEMPORARY:
        with failing(world, code), pytest.raises(ProviderUnavailable, match=code) as caught:
            WORKS[work](kms, root, wrapped)
        assert caught.value.code == "key_provider_unavailable"
    assert kms.unwrap(root, wrapped, b"n") == key


@pytest.mark.parametrize(("when", "wasteful"), [("refused", "CreateAlias"), ("answer lost", "CreateKey")])
def test_any_call_may_fail(kms: AwsKms, world: CloudKms, when: str, wasteful: str) -> None:
    """Nothing is left half done; a failure between a key and its alias leaves one that nothing was ever sealed with."""
    failed: list[str] = []

    def at() -> Lost:
        lost = Lost()

        def fault(operation: str) -> None:
            if when == "refused" and lost.now():
                failed.append(operation)
                raise Refusal("ThrottlingException")

        def after(operation: str, answer: dict[str, Any]) -> dict[str, Any]:
            if when == "answer lost" and lost.now():
                failed.append(operation)
                raise ConnectionAbortedError
            return answer

        world.fault, world.after = fault, after
        return lost

    assert_any_call_may_fail(kms, world.clock, WINDOW, at)
    assert set(failed) >= {"CreateKey", "CreateAlias", "TagResource", "DisableKey", "ScheduleKeyDeletion", "Encrypt"}
    named = set(world.aliases.values())
    assert not [key for key in enabled(world) if key in named]
    assert len(enabled(world)) == failed.count(wasteful)


@pytest.mark.parametrize("work", WORKS)
def test_no_answer_in_time(tmp_path: Path, kms: AwsKms, world: CloudKms, work: str) -> None:
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(32), b"n")
    hasty = aws_kms(tmp_path, attempts=1, patience=0.5)
    hasty.describe(root)
    with slow(world, 1.0), pytest.raises(ProviderUnavailable, match="Timeout"):
        WORKS[work](hasty, root, wrapped)


def test_a_short_outage_is_tried_again(tmp_path: Path, world: CloudKms) -> None:
    kms = aws_kms(tmp_path)
    root = kms.create_root(FIRST)
    world.asked.clear()
    with failing(world, "ThrottlingException", times=1):
        assert kms.describe(root).state is RootState.ACTIVE
    assert world.used("DescribeKey") == 2


def test_nobody_there(world: CloudKms) -> None:
    kms = AwsKms(REGION, clock=world.clock, endpoint="http://127.0.0.1:9/", session=SESSION, attempts=1, patience=0.5)
    with pytest.raises(ProviderUnavailable, match="EndpointConnectionError"):
        kms.create_root(FIRST)


def test_no_credentials(tmp_path: Path, world: CloudKms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(ProviderUnavailable, match="NoCredentialsError"):
        AwsKms(REGION, clock=world.clock, endpoint="http://127.0.0.1:9/").create_root(FIRST)


def test_constructing_asks_nobody(world: CloudKms) -> None:
    """Process start does not wait for a client: it is made at first use."""

    class NoSession:
        def client(self, *_: object, **__: object) -> None:
            raise AssertionError

    kms = AwsKms(REGION, clock=world.clock, session=NoSession())
    with pytest.raises(AssertionError):
        kms.create_root(FIRST)


LIES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], type[VaultError]]] = {
    "another key": (lambda told: told | {"Plaintext": base64.b64encode(os.urandom(32)).decode()}, KeyDamaged),
    "a short key": (lambda told: told | {"Plaintext": base64.b64encode(bytes(31)).decode()}, KeyDamaged),
    "no key": (lambda told: {"KeyId": told["KeyId"]}, ProviderUnavailable),
    "not base64": (lambda told: told | {"Plaintext": "ä"}, ProviderUnavailable),
    "another root": (lambda told: told | {"KeyId": told["KeyId"][:-1] + "x"}, ProviderUnavailable),
    "nothing": (lambda told: {}, ProviderUnavailable),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_service_is_found_out(kms: AwsKms, world: CloudKms, lie: str) -> None:
    root = kms.create_root(FIRST)
    wrapped = kms.wrap(root, bytearray(os.urandom(32)), b"n")
    change, error = LIES[lie]
    world.after = lambda operation, told: change(told) if operation == "Decrypt" else told
    with pytest.raises(error):
        kms.unwrap(root, wrapped, b"n")


def test_a_blob_under_another_mark_does_not_open(kms: AwsKms) -> None:
    root = kms.create_root(FIRST)
    one, two = (kms.wrap(root, bytearray(os.urandom(32)), b"n") for _ in range(2))
    for mixed in (one[:32] + two[32:], b"", one[:32], bytes(7_000), one[:32] + bytes(6_145)):
        with pytest.raises(KeyDamaged):
            kms.unwrap(root, mixed, b"n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (REGION, "us-east-1"),
        ("111122223333", "999999999999"),
        ("data/3/1", "data/3/1/1"),
        ("data/3/1", "nothing/3/1"),
        ("key/", "alias/"),
        (":kms:", ":s3:"),
        ("aws:data", "gcp:data"),
    ],
)
def test_references_to_elsewhere(kms: AwsKms, old: str, new: str) -> None:
    """Another region's root is not taken for a destroyed one."""
    root = kms.create_root(FIRST)
    kms.destroy(kms.create_root(RootName(KeyClass.DATA, 4, 1)))
    for work in (kms.describe, kms.destroy, lambda it: kms.wrap(it, bytearray(32), b"n")):
        with pytest.raises(UnknownRoot):
            work(root.replace(old, new))


# Secrets


@pytest.fixture
def everything_logged() -> Iterator[list[str]]:
    """All that any logger writes once somebody has turned everything up, as text."""
    said: list[str] = []
    handler = logging.Handler(level=0)
    handler.emit = lambda record: said.append(f"{record.getMessage()} {record.__dict__}")  # type: ignore[method-assign]
    root = logging.getLogger()
    level, before = root.level, list(root.handlers)
    root.addHandler(handler)
    root.setLevel(0)
    boto3.set_stream_logger("")
    yield said
    root.setLevel(level)
    root.handlers[:] = before


def forms(key: bytes) -> list[str]:
    return [base64.b64encode(key).decode(), key.hex(), repr(key)[2:-1]]


def test_no_key_in_logs(kms: AwsKms, everything_logged: list[str]) -> None:
    root, key = kms.create_root(FIRST), os.urandom(32)
    wrapped = kms.wrap(root, bytearray(key), b"n")
    kms.unwrap(root, wrapped, b"n")
    said = "\n".join(everything_logged)
    assert said
    assert not [form for form in forms(key) if form in said]
    # Without what shuts it off, the key would be there: this test can fail.
    loggers = [logging.getLogger(f"botocore.{name}") for name in ("endpoint", "parsers")]
    filters = [list(each.filters) for each in loggers]
    try:
        for each in loggers:
            each.filters.clear()
        kms.unwrap(root, wrapped, b"n")
    finally:
        for each, kept in zip(loggers, filters, strict=True):
            each.filters[:] = kept
    assert [form for form in forms(key) if form in "\n".join(everything_logged)]


def test_no_key_in_errors(kms: AwsKms, world: CloudKms) -> None:
    root, key = kms.create_root(FIRST), os.urandom(32)
    with failing(world, "AccessDeniedException"), pytest.raises(ProviderUnavailable) as caught:
        kms.wrap(root, bytearray(key), b"n")
    assert caught.value.__cause__ is None
    told = f"{caught.value!r} {caught.getrepr(showlocals=False)} {kms!r}"
    assert not [form for form in forms(key) if form in told]


def test_one_client_serves_many_threads(kms: AwsKms) -> None:
    root = kms.create_root(FIRST)
    keys = [bytearray(os.urandom(32)) for _ in range(24)]
    with ThreadPoolExecutor(8) as pool:
        wrapped = list(pool.map(lambda key: kms.wrap(root, key, b"n"), keys))
        assert list(pool.map(lambda each: kms.unwrap(root, each, b"n"), wrapped)) == keys


# Whole erasures


@pytest.fixture
def make(tmp_path: Path) -> Callable[[], AwsKms]:
    return lambda: aws_kms(tmp_path, attempts=1, patience=2.0)


@pytest.fixture
def story(tmp_path: Path, world: CloudKms, make: Callable[[], AwsKms]) -> Iterator[CloudStory]:
    with on_sqlite(tmp_path, world.clock, make) as story:
        yield story


def test_an_erasure_is_certified_from_scheduled(
    keys_engine: Engine, tmp_path: Path, world: CloudKms, make: Callable[[], AwsKms]
) -> None:
    story = CloudStory(keys_engine, tmp_path, world.clock, make)
    story.ask()
    story.assert_steps()
    story.assert_certified(WINDOW)


def test_an_erasure_waits_for_a_slow_provider(tmp_path: Path, world: CloudKms) -> None:
    def make() -> AwsKms:
        return aws_kms(tmp_path, attempts=1, patience=0.5)

    def trouble() -> AbstractContextManager[None]:
        return slow(world, 1.0)

    with on_sqlite(tmp_path, world.clock, make) as story:
        story.assert_waits_and_resumes(trouble)
        story.assert_certified(WINDOW)


@pytest.mark.parametrize("operation", ["TagResource", "DisableKey", "ScheduleKeyDeletion"])
def test_an_erasure_destroys_later(story: CloudStory, world: CloudKms, operation: str) -> None:
    story.assert_survives_trouble_in_destroying(lambda: failing(world, "ThrottlingException", operation))
    story.assert_certified(WINDOW)


def test_an_erasure_does_not_certify_a_key_that_came_back(story: CloudStory, world: CloudKms) -> None:
    cancelled: list[str] = []

    def cancel(operation: str) -> None:
        pending = [key for key in world.keys.values() if key.state == "PendingDeletion"]
        if operation == "Decrypt" and pending and not cancelled:
            pending[0].state, pending[0].deletion = "Enabled", None
            cancelled.append(pending[0].id)

    world.fault = cancel
    story.assert_still_alive()
    assert len(cancelled) == 1
    story.assert_certified(WINDOW)

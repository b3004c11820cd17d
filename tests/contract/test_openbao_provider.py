"""The OpenBao provider's own promises, against a real server; the contract of all is in `test_key_providers.py`."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sqlite3
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event

import pytest
from sqlalchemy import Engine

from app.store.engine import open_engine
from app.vault.core import Vault
from app.vault.errors import (
    Erased,
    KeyDamaged,
    ProviderUnavailable,
    RootDestroyed,
    RootExposed,
    SurvivorUnverified,
    UnknownRoot,
    VaultError,
)
from app.vault.keys import KeyClass, Target
from app.vault.ports import KeyProvider, RootName, RootState
from app.vault.providers.openbao import ASSURANCE, OpenBaoTransit
from tests.contract.openbao_provider import (
    Asked,
    Between,
    Reply,
    Server,
    opened,
    server,
    server_on_disk,
)
from tests.databases import sqlite_database
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope
from tests.waiting import PATIENCE

NAME, OTHER = RootName(KeyClass.DATA, 0, 1), RootName(KeyClass.DATA, 0, 2)
KEY_NAME = "regard-data-0-1"
POLICY = Path(__file__).parents[2] / "docs" / "runbooks" / "openbao-policy.hcl"
Forward = Callable[[], Reply]


@pytest.fixture
def mount() -> str:
    return server().mount(f"m{secrets.token_hex(8)}")


@pytest.fixture
def provider(mount: str) -> OpenBaoTransit:
    return opened(server(), mount)


@pytest.fixture
def between() -> Iterator[Between]:
    made = Between(server())
    yield made
    made.close()


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Engine]:
    """A key store on SQLite, for what does not depend on the key store."""
    engine = open_engine(sqlite_database(tmp_path / "keys.sqlite", "keys"), keys=True)
    yield engine
    engine.dispose()


def works(provider: KeyProvider, root: str, wrapped: bytes) -> list[Callable[[], object]]:
    """Each thing that can be asked of a provider."""
    return [
        lambda: provider.create_root(NAME),
        lambda: provider.wrap(root, bytearray(32), b"n"),
        lambda: provider.unwrap(root, wrapped, b"n"),
        lambda: provider.destroy(root),
        lambda: provider.describe(root),
    ]


def spill(error: BaseException | None) -> str:
    """All that a careless log would show: the chain of causes, and every local variable outside this file."""
    told = ""
    while error is not None:
        frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
        told += f"{error!r} {error} {vars(error)}"
        told += "".join(str(frame.locals) for frame in frames if frame.filename != __file__)
        error = error.__cause__ or error.__context__
    return told


# What a root is


def test_encrypting_makes_no_key(mount: str, provider: OpenBaoTransit) -> None:
    """Even for a token that may do everything: a lost root must not come back as another one."""
    with pytest.raises(UnknownRoot):
        provider.wrap("openbao:regard-data-7-7", bytearray(32), b"n")
    assert server().http.request("LIST", f"/v1/{mount}/keys").status_code == 404


@pytest.mark.parametrize(
    "root",
    ["openbao:", "openbao:regard-data-0-1/../x", "openbao:regard-law-0-1", "openbao:regard-data-0-1\n", KEY_NAME],
)
def test_a_reference_reaches_no_other_path(provider: OpenBaoTransit, root: str) -> None:
    provider.create_root(NAME)
    for work in works(provider, root, bytes(108))[1:]:
        with pytest.raises(UnknownRoot):
            work()


@pytest.mark.parametrize("flaw", [{"exportable": True}, {"allow_plaintext_backup": True}, {"derived": True}])
def test_a_root_that_others_may_hold_is_not_used(mount: str, provider: OpenBaoTransit, flaw: dict[str, bool]) -> None:
    server().api("POST", f"{mount}/keys/{KEY_NAME}", {"type": "aes256-gcm96", **flaw})
    with pytest.raises(RootExposed):
        provider.create_root(NAME)


def test_a_root_made_afterwards_exportable_is_told(mount: str, provider: OpenBaoTransit) -> None:
    root = provider.create_root(NAME)
    assert provider.describe(root).evidence["exportable"] is False
    server().api("POST", f"{mount}/keys/{KEY_NAME}/config", {"exportable": True})
    assert provider.describe(root).evidence["exportable"] is True
    with pytest.raises(RootExposed):
        provider.create_root(NAME)


def test_a_key_of_another_kind_is_no_root(mount: str, provider: OpenBaoTransit) -> None:
    server().api("POST", f"{mount}/keys/{KEY_NAME}", {"type": "ed25519"})
    with pytest.raises(ProviderUnavailable):
        provider.create_root(NAME)


def test_rotation_on_the_server_changes_nothing(mount: str, provider: OpenBaoTransit) -> None:
    """An operator who rotates keys as one should does no harm, and what is wrapped then goes with the root too."""
    root = provider.create_root(NAME)
    before = provider.wrap(root, bytearray(b"a" * 32), b"n")
    server().api("POST", f"{mount}/keys/{KEY_NAME}/rotate")
    after = provider.wrap(root, bytearray(b"b" * 32), b"n")
    assert (provider.unwrap(root, before, b"n"), provider.unwrap(root, after, b"n")) == (b"a" * 32, b"b" * 32)
    assert provider.create_root(NAME) == root
    assert provider.describe(root).state is RootState.ACTIVE
    provider.destroy(root)
    for wrapped in (before, after):
        with pytest.raises(RootDestroyed):
            provider.unwrap(root, wrapped, b"n")


def test_racers_get_one_root(mount: str) -> None:
    def race(number: int) -> tuple[str, bytes]:
        racer = opened(server(), mount)
        root = racer.create_root(NAME)
        return root, racer.wrap(root, bytearray([number]) * 32, b"n")

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(race, range(8)))
    assert len({root for root, _ in found}) == 1
    shared = opened(server(), mount)
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda each: shared.unwrap(*each, b"n"), found))
    assert keys == [bytes([number]) * 32 for number in range(8)]


# Destroying


def test_a_lower_bound_alone_is_no_destruction(mount: str, provider: OpenBaoTransit) -> None:
    """Vault.md section 4: `min_decryption_version` is reversible. The server's own storage shows it."""
    root = provider.create_root(NAME)
    wrapped = provider.wrap(root, bytearray(b"k" * 32), b"n")
    (key,) = server().roots_in(mount)
    api = server().api
    api("POST", f"{mount}/keys/{KEY_NAME}/rotate")
    api("POST", f"{mount}/keys/{KEY_NAME}/config", {"min_decryption_version": 2})
    assert key in server().roots_in(mount)
    told = provider.describe(root)
    assert (told.state, told.irrevocable_at, told.evidence["read_back"]) == (RootState.ACTIVE, None, "locked")
    for work in works(provider, root, wrapped)[:3]:
        with pytest.raises(ProviderUnavailable):
            work()
    api("POST", f"{mount}/keys/{KEY_NAME}/config", {"min_decryption_version": 1})
    assert provider.unwrap(root, wrapped, b"n") == b"k" * 32

    provider.destroy(root)
    assert key not in server().roots_in(mount)
    for undo in ({"min_decryption_version": 1}, {"min_encryption_version": 1}):
        assert server().http.post(f"/v1/{mount}/keys/{KEY_NAME}/config", json=undo).status_code == 400
    lower = {"min_available_version": 1}
    assert server().http.post(f"/v1/{mount}/keys/{KEY_NAME}/trim", json=lower).status_code == 400
    assert provider.describe(root).state is RootState.DESTROYED


def test_soft_deletion_is_no_destruction(mount: str, provider: OpenBaoTransit) -> None:
    root = provider.create_root(NAME)
    wrapped = provider.wrap(root, bytearray(32), b"n")
    kept = server().roots_in(mount)
    server().api("DELETE", f"{mount}/keys/{KEY_NAME}/soft-delete")
    assert server().roots_in(mount) == kept != set()
    assert provider.describe(root).state is RootState.ACTIVE
    for work in works(provider, root, wrapped)[:4]:
        with pytest.raises(ProviderUnavailable):
            work()
    server().api("POST", f"{mount}/keys/{KEY_NAME}/soft-delete-restore")
    assert provider.unwrap(root, wrapped, b"n") == bytes(32)


def test_when_it_became_irrevocable_is_the_servers_word(mount: str, provider: OpenBaoTransit) -> None:
    """And it does not move: neither by asking again, nor when somebody rotates what is left."""
    root = provider.create_root(NAME)
    before = int(time.time())
    provider.destroy(root)
    after = time.time()
    at = provider.describe(root).irrevocable_at
    assert at is not None
    assert before <= at.timestamp() <= after
    time.sleep(1.1)
    server().api("POST", f"{mount}/keys/{KEY_NAME}/rotate")
    before_that = provider.describe(root).evidence
    provider.destroy(root)
    assert provider.describe(root).irrevocable_at == at
    assert provider.describe(root).evidence == before_that, "destroying twice is destroying once"


def test_destroying_broken_off_anywhere_is_finished_later(mount: str, between: Between) -> None:
    """The connection breaks at each request, before or after the server did it; what is told is what is so."""
    direct, cut = opened(server(), mount), opened(server(), mount, url=between.url)
    between.seen.clear()
    direct.create_root(RootName(KeyClass.POOL, 0, 1))
    cut.destroy("openbao:regard-pool-0-1")
    requests, ends = len(between.seen), set()
    assert [asked.work for asked in between.seen].count("trim") == 1
    for number in range(requests):
        for done in (False, True):
            root = direct.create_root(RootName(KeyClass.DATA, number, int(done)))
            known = server().roots_in(mount)
            wrapped = direct.wrap(root, bytearray(32), b"n")
            between.hook = broken_at(number, done=done)
            with pytest.raises(ProviderUnavailable):
                cut.destroy(root)
            ends.add(standing(direct, root, wrapped))
            between.hook = broken_at(requests + 9, done=False)
            cut.destroy(root)
            told = direct.describe(root)
            assert (told.state, told.irrevocable_at is None) == (RootState.DESTROYED, False)
            assert len(known & server().roots_in(mount)) == len(known) - 1
            with pytest.raises(RootDestroyed):
                direct.unwrap(root, wrapped, b"n")
    assert ends == {"open", "takes no more", "locked", "destroyed"}


def broken_at(number: int, *, done: bool) -> Callable[[Asked, Forward], Reply | None]:
    left = [number]

    def hook(asked: Asked, forward: Forward) -> Reply | None:
        left[0] -= 1
        if left[0] != -1:
            return forward()
        if done:
            forward()
        return None

    return hook


def standing(provider: OpenBaoTransit, root: str, wrapped: bytes) -> str:
    """How a root stands, by what it does; what `describe` says has to agree."""
    told = provider.describe(root).state
    try:
        provider.wrap(root, bytearray(32), b"n")
    except RootDestroyed:
        shut = True
    else:
        shut = False
    try:
        provider.unwrap(root, wrapped, b"n")
    except RootDestroyed:
        assert (told, shut) == (RootState.DESTROYED, True)
        return "destroyed"
    except ProviderUnavailable:
        assert (told, shut) == (RootState.ACTIVE, True)
        return "locked"
    assert told is RootState.ACTIVE
    return "takes no more" if shut else "open"


# Faults


def unavailable(provider: OpenBaoTransit, root: str, wrapped: bytes, *hidden: str) -> None:
    for work in works(provider, root, wrapped):
        with pytest.raises(ProviderUnavailable) as caught:
            work()
        assert not [secret for secret in hidden if secret in spill(caught.value)]


def test_nobody_listens(mount: str, provider: OpenBaoTransit, between: Between) -> None:
    root = provider.create_root(NAME)
    between.close()
    gone = opened(server(), mount, url=between.url)
    unavailable(gone, root, bytes(108), server().token, b64encode(bytes(32)).decode())


def test_a_server_that_does_not_answer_in_time(mount: str, provider: OpenBaoTransit, between: Between) -> None:
    root = provider.create_root(NAME)

    given_up, waited_for = Event(), list[Asked]()

    def never(asked: Asked, forward: Forward) -> Reply:
        if not given_up.wait(PATIENCE):
            waited_for.append(asked)
        return Reply(200, b"{}")

    between.hook = never
    try:
        unavailable(opened(server(), mount, url=between.url, timeout=0.1), root, bytes(108), server().token)
    finally:
        given_up.set()
    assert not waited_for


def test_a_sealed_server(mount: str, provider: OpenBaoTransit) -> None:
    root = provider.create_root(NAME)
    wrapped = provider.wrap(root, bytearray(32), b"n")
    server().seal()
    try:
        unavailable(provider, root, wrapped, server().token)
    finally:
        server().unseal()
    assert provider.unwrap(root, wrapped, b"n") == bytes(32)


@pytest.mark.parametrize(
    "token", ["s.wrong-token", "s.with\nnewline", "s.with space", "s.\u00e9t\u00e9", "s.\u20ac", ""]
)
def test_a_token_that_is_refused_or_none(mount: str, provider: OpenBaoTransit, token: str) -> None:
    root = provider.create_root(NAME)
    wrapped = provider.wrap(root, bytearray(32), b"n")
    hidden = [each for each in (token, b64encode(bytes(32)).decode()) if each]
    unavailable(opened(server(), mount, token=token), root, wrapped, *hidden)


STRANGE = {
    "page": Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"}),
    "list": Reply(200, b"[]"),
    "empty": Reply(200, b"{}"),
    "nothing": Reply(204, b""),
    "null": Reply(200, b'{"data": null}'),
    "deep": Reply(200, b"[" * 100_000),
    "not base64": Reply(200, b'{"data": {"ciphertext": "vault:v1:%", "plaintext": "%", "keys": {"1": "x"}}}'),
    "short": Reply(
        200, b'{"data": {"ciphertext": "vault:v1:AAAA", "plaintext": 7, "keys": [], "type": "aes256-gcm96"}}'
    ),
    "other version": Reply(200, b'{"data": {"ciphertext": "vault:v2:AAAA", "plaintext": null}}'),
    "not json": Reply(404, b"not here"),
    "no such mount": Reply(404, b'{"errors": ["no handler for route"]}'),
    **{str(status): Reply(status, b'{"errors": ["s.secret"]}') for status in (400, 403, 405, 429, 500, 502, 503, 504)},
    "moved": Reply(307, b"", {"Location": "/elsewhere"}),
}


@pytest.mark.parametrize("case", STRANGE)
def test_an_answer_that_does_not_help(mount: str, provider: OpenBaoTransit, between: Between, case: str) -> None:
    root = provider.create_root(NAME)
    wrapped = provider.wrap(root, bytearray(32), b"n")
    between.hook = lambda asked, forward: STRANGE[case]
    unavailable(opened(server(), mount, url=between.url), root, wrapped, server().token, "s.secret")
    assert all("elsewhere" not in asked.path for asked in between.seen), "a redirect was followed, token and all"
    assert provider.unwrap(root, wrapped, b"n") == bytes(32), "nothing was destroyed meanwhile"


def test_a_mount_that_is_not_there(provider: OpenBaoTransit) -> None:
    """A fault of the settings, not a lost root."""
    root = provider.create_root(NAME)
    unavailable(opened(server(), "elsewhere"), root, bytes(108))


def test_the_token_is_read_anew(mount: str, provider: OpenBaoTransit) -> None:
    """A server's agent writes a new one now and then."""
    root, tokens = provider.create_root(NAME), ["s.old"]
    asking = opened(server(), mount, token=lambda: tokens[-1])
    with pytest.raises(ProviderUnavailable):
        asking.describe(root)
    tokens.append(server().token)
    assert asking.describe(root).state is RootState.ACTIVE


def test_logs_hold_no_token_and_no_key(provider: OpenBaoTransit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = bytearray(os.urandom(32))
    root = provider.create_root(NAME)
    assert provider.unwrap(root, provider.wrap(root, key, b"n"), b"n") == key
    provider.destroy(root)
    assert "regard-data-0-1" in caplog.text, "the HTTP library does say which address it asks"
    for hidden in (server().token, b64encode(key).decode(), key.hex()):
        assert hidden not in caplog.text
        assert hidden not in repr(provider)


def test_tls_is_checked(mount: str, provider: OpenBaoTransit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The given authority is trusted, for the host it names; what the environment says counts for nothing."""
    root = provider.create_root(NAME)
    trusting = opened(server(), mount, url=server().tls_url, ca=server().ca)
    assert trusting.describe(root).state is RootState.ACTIVE
    elsewhere = server().tls_url.replace("127.0.0.1", "localhost")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "VAULT_CACERT"):
        monkeypatch.setenv(name, str(server().ca))
    refused = [
        opened(server(), mount, url=server().tls_url),
        opened(server(), mount, url=elsewhere, ca=server().ca),
        opened(server(), mount, url=server().tls_url, ca=server().folder / "none.pem"),
    ]
    for each in refused:
        with pytest.raises(ProviderUnavailable):
            each.describe(root)


def test_no_proxy_out_of_the_environment(
    mount: str, provider: OpenBaoTransit, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, between.url)
    monkeypatch.setenv("VAULT_TOKEN", "s.other")
    assert provider.describe(provider.create_root(NAME)).state is RootState.ACTIVE
    assert between.seen == []


# The least privilege


def test_the_policy_is_enough_and_no_more() -> None:
    """`docs/runbooks/openbao-policy.hcl`, word for word."""
    server().mount("transit")
    other = server().mount("transit-of-others")
    held = server().limited_token(POLICY.read_text())
    limited = opened(server(), "transit", token=held)
    name = RootName(KeyClass.DATA, int.from_bytes(os.urandom(3), "big"), 1)
    root = limited.create_root(name)
    wrapped = limited.wrap(root, bytearray(b"k" * 32), b"n")
    assert limited.unwrap(root, wrapped, b"n") == b"k" * 32
    with pytest.raises(KeyDamaged):
        limited.unwrap(root, wrapped, b"m")
    with pytest.raises(UnknownRoot):
        limited.wrap("openbao:regard-index-1-1", bytearray(32), b"n")
    for method, path, body in forbidden(root.removeprefix("openbao:"), other):
        answer = server().http.request(method, f"/v1/{path}", json=body, headers={"X-Vault-Token": held})
        assert answer.status_code == 403, (method, path, answer.text)
    limited.destroy(root)
    assert limited.describe(root).state is RootState.DESTROYED
    with pytest.raises(RootDestroyed):
        limited.unwrap(root, wrapped, b"n")
    with pytest.raises(ProviderUnavailable):
        opened(server(), other, token=held).create_root(name)


def forbidden(key: str, other: str) -> list[tuple[str, str, dict[str, object] | None]]:
    return [
        ("POST", "transit/keys/another", {"type": "aes256-gcm96", "exportable": True}),
        ("POST", "transit/keys/another", {"type": "aes256-gcm96", "allow_plaintext_backup": True}),
        ("POST", "transit/keys/another", {"type": "ed25519"}),
        ("POST", "transit/encrypt/another", {"plaintext": "AAAA"}),
        ("POST", f"transit/keys/{key}/config", {"exportable": True}),
        ("POST", f"transit/keys/{key}/config", {"deletion_allowed": True}),
        ("DELETE", f"transit/keys/{key}", None),
        ("DELETE", f"transit/keys/{key}/soft-delete", None),
        ("GET", f"transit/export/encryption-key/{key}", None),
        ("GET", f"transit/backup/{key}", None),
        ("POST", f"transit/restore/{key}", {"backup": "AAAA", "force": True}),
        ("LIST", "transit/keys", None),
        ("GET", f"{other}/keys/{key}", None),
        ("POST", f"{other}/encrypt/{key}", {"plaintext": "AAAA"}),
        ("GET", "sys/raw/core/keyring", None),
        ("GET", "sys/storage/raft/snapshot", None),
    ]


# A server that lies


def test_another_key_than_was_given_is_found_at_once(mount: str, provider: OpenBaoTransit, between: Between) -> None:
    """The proof of what was wrapped is kept on our side, where the server cannot write."""
    root = provider.create_root(NAME)
    wrapped = provider.wrap(root, bytearray(b"k" * 32), b"n")
    lied_to = opened(server(), mount, url=between.url)
    for wrong in (os.urandom(32), bytes(32), b"k" * 31, b"k" * 33, b""):
        said = json.dumps({"data": {"plaintext": b64encode(wrong).decode()}}).encode()
        between.hook = lambda asked, forward, said=said: Reply(200, said)  # type: ignore[misc]
        with pytest.raises(KeyDamaged):
            lied_to.unwrap(root, wrapped, b"n")
    assert provider.unwrap(root, wrapped, b"n") == b"k" * 32
    for at in (0, 16, 47, 48, 107):
        damaged = bytearray(wrapped)
        damaged[at] ^= 1
        with pytest.raises(KeyDamaged) as caught:
            provider.unwrap(root, bytes(damaged), b"n")
        assert b64encode(b"k" * 32).decode() not in spill(caught.value)


class Swapping:
    """While `on`, what opens under one root is answered with what last opened under another."""

    def __init__(self) -> None:
        self.on = False
        self.said: dict[str, Reply] = {}
        self.lies = 0

    def __call__(self, asked: Asked, forward: Forward) -> Reply:
        real = forward()
        if asked.work != "decrypt" or real.status != 200:
            return real
        others = [reply for path, reply in self.said.items() if path != asked.path]
        self.said[asked.path] = real
        if not (self.on and others):
            return real
        self.lies += 1
        return others[-1]


class Story:
    """A vault over a provider, some people, a record of each."""

    PEOPLE = ("sub_gone", "sub_kept", "sub_other")

    def __init__(self, engine: Engine, folder: Path, provider: KeyProvider) -> None:
        self.folder, self.provider = folder, provider
        self.vault = open_vault(engine, folder, SetClock(), provider=provider)
        self.vault.create_subjects(CONTROLLER, self.PEOPLE)
        self.records = {person: self.vault.seal(scope(person), "r", person.encode()) for person in self.PEOPLE}

    def ask(self) -> None:
        self.vault.shred("era_1", [Target(CONTROLLER, "sub_gone")])

    def opens(self, person: str, vault: Vault | None = None) -> bool:
        return (vault or self.vault).open(scope(person), "r", self.records[person]) == person.encode()

    def survivors_open(self) -> bool:
        """Asked of the server, not out of memory."""
        self.vault.epochs.forget()
        return all(self.opens(person) for person in self.PEOPLE[1:])

    def drive_to(self, state: str) -> None:
        while self.vault.erasures.state("era_1") != state:
            self.vault.erasures.advance("era_1")

    def assert_ended(self) -> None:
        assert self.vault.erasures.state("era_1") == "certified"
        with pytest.raises(Erased):
            self.opens("sub_gone")
        assert self.survivors_open()


@pytest.mark.parametrize("state", ["caches_evicted", "key_row_removed", "rewrapped", "verified"])
def test_a_server_that_swaps_answers_loses_nobody(
    keys: Engine, tmp_path: Path, mount: str, between: Between, state: str
) -> None:
    """Whenever it begins: refused before anything is destroyed, everybody still there; it ends when it is honest."""
    swapping = Swapping()
    between.hook = swapping
    story = Story(keys, tmp_path, opened(server(), mount, url=between.url))
    story.ask()
    story.drive_to(state)
    swapping.on = True
    story.vault.epochs.forget()
    with pytest.raises((KeyDamaged, SurvivorUnverified)):
        story.drive_to("committed")
    assert swapping.lies
    assert story.vault.erasures.state("era_1") in ("caches_evicted", "key_row_removed", "rewrapped", "verified")
    assert story.vault.erasures.certificates("era_1") == ()
    swapping.on = False
    assert story.survivors_open()
    story.vault.erasures.drive("era_1")
    story.assert_ended()


def test_a_lie_at_verification_is_called_so(keys: Engine, tmp_path: Path, mount: str, between: Between) -> None:
    swapping = Swapping()
    between.hook = swapping
    story = Story(keys, tmp_path, opened(server(), mount, url=between.url))
    story.ask()
    story.drive_to("rewrapped")
    swapping.on = True
    with pytest.raises(SurvivorUnverified):
        story.vault.erasures.advance("era_1")
    assert story.vault.erasures.state("era_1") == "key_row_removed"


def test_nobody_is_made_under_a_key_that_the_server_swapped(
    keys: Engine, tmp_path: Path, mount: str, between: Between
) -> None:
    """Otherwise they would be lost as soon as it is honest again."""
    swapping = Swapping()
    between.hook = swapping
    vault = open_vault(keys, tmp_path, SetClock(), provider=opened(server(), mount, url=between.url), per_partition=1)
    vault.create_subject(CONTROLLER, "sub_first")
    swapping.on = True
    with pytest.raises(KeyDamaged):
        vault.create_subject(CONTROLLER, "sub_second")
    swapping.on = False
    vault.epochs.forget()
    vault.create_subject(CONTROLLER, "sub_second")
    record = vault.seal(scope("sub_second"), "r", b"x")
    vault.epochs.forget()
    assert vault.open(scope("sub_second"), "r", record) == b"x"


def test_a_server_that_only_says_it_destroyed(keys: Engine, tmp_path: Path, mount: str, between: Between) -> None:
    """Never certified: the state is read back, and goes on when the server does as told."""
    story = Story(keys, tmp_path, opened(server(), mount, url=between.url))
    story.ask()
    between.hook = lambda asked, forward: Reply(204, b"") if asked.work == "trim" else forward()
    with pytest.raises(VaultError):
        story.vault.erasures.drive("era_1")
    assert story.vault.erasures.state("era_1") == "committed"
    assert story.vault.erasures.certificates("era_1") == ()
    between.hook = lambda asked, forward: forward()
    story.vault.erasures.drive("era_1")
    story.assert_ended()


@pytest.mark.parametrize("work", ["rotate", "config", "trim"])
def test_an_erasure_whose_destroying_was_broken_off_goes_on(
    keys: Engine, tmp_path: Path, mount: str, between: Between, work: str
) -> None:
    """The server did it, and the connection went before it could say so."""
    story = Story(keys, tmp_path, opened(server(), mount, url=between.url))
    story.ask()
    story.drive_to("committed")

    def hang_up(asked: Asked, forward: Forward) -> Reply | None:
        reply = forward()
        return None if asked.work == work else reply

    between.hook = hang_up
    with pytest.raises(ProviderUnavailable):
        story.vault.erasures.drive("era_1")
    assert story.vault.erasures.state("era_1") == "committed"
    between.hook = lambda asked, forward: forward()
    story.vault.erasures.drive("era_1")
    story.assert_ended()


# The whole erasure


def test_an_erasure_from_end_to_end(keys_engine: Engine, tmp_path: Path, mount: str, provider: OpenBaoTransit) -> None:
    story = Story(keys_engine, tmp_path, provider)
    before = server().roots_in(mount)
    began = datetime.now(UTC).replace(microsecond=0)
    story.ask()
    assert story.vault.erasures.drive("era_1") == "certified"
    story.assert_ended()
    (certificate,) = story.vault.erasures.certificates("era_1")
    site = next(each for each in certificate["partitions"] if each["class"] == "data")
    assert site["old_root"]["state"] == "destroyed"
    assert site["old_root"]["assurance"] == ASSURANCE
    assert site["old_root"]["evidence"]["read_back"] == "destroyed"
    assert site["old_root"]["evidence"]["min_available_version"] == 2
    assert began <= datetime.fromisoformat(certificate["irrevocable_at"]) <= datetime.now(UTC)
    assert server().token not in json.dumps(certificate)
    assert len(before - server().roots_in(mount)) == 1, "one root went, every other is there"


def test_a_restored_key_store_opens_nothing_of_the_erased(
    keys: Engine, tmp_path: Path, provider: OpenBaoTransit
) -> None:
    """A backup from before and today's server; the survivors open from the live store."""
    story = Story(keys, tmp_path, provider)
    with sqlite3.connect(tmp_path / "keys.sqlite") as source, sqlite3.connect(tmp_path / "backup.sqlite") as backup:
        source.backup(backup)
    story.ask()
    story.vault.erasures.drive("era_1")
    story.assert_ended()
    (tmp_path / "elsewhere").mkdir()
    restored = open_engine(f"sqlite:///{tmp_path / 'backup.sqlite'}", keys=True)
    vault = open_vault(restored, tmp_path / "elsewhere", SetClock(), provider=provider)
    with pytest.raises(RootDestroyed):
        story.opens("sub_gone", vault)
    restored.dispose()


# On disk: a server that is stopped, and what its storage remembers


@pytest.fixture(scope="module")
def disk() -> Iterator[Server]:
    with server_on_disk() as made:
        yield made


@pytest.mark.parametrize("state", ["key_row_removed", "committed"])
def test_the_server_is_stopped_in_the_middle(keys: Engine, tmp_path: Path, disk: Server, state: str) -> None:
    """Vault.md section 6: the erasure waits and goes on; what is in memory opens meanwhile, the erased does not."""
    story = Story(keys, tmp_path, opened(disk, disk.mount(f"m{secrets.token_hex(8)}")))
    story.ask()
    story.drive_to(state)
    disk.stop()
    try:
        for _ in range(2):
            with pytest.raises(ProviderUnavailable):
                story.vault.erasures.drive("era_1")
        assert story.vault.erasures.state("era_1") == state
        assert all(story.opens(person) for person in story.PEOPLE[1:])
        with pytest.raises(Erased):
            story.opens("sub_gone")
        story.vault.epochs.forget()
        with pytest.raises(ProviderUnavailable):
            story.opens("sub_kept")
    finally:
        disk.start()
    story.vault.erasures.drive("era_1")
    story.assert_ended()


def test_what_the_storage_remembers(disk: Server) -> None:
    """Why the assurance is B and no better: the server forgets, its log and its snapshots do not.

    The server's own store has neither the key nor the old enciphered entry; the log of the storage has that entry
    still, and a snapshot from before, restored, opens what was wrapped.
    """
    mount = disk.mount(f"m{secrets.token_hex(8)}")
    provider = opened(disk, mount)
    root = provider.create_root(NAME)
    wrapped = provider.wrap(root, bytearray(b"k" * 32), b"n")
    (key,) = disk.roots_in(mount)
    entry = enciphered(disk, mount)
    snapshot = disk.http.get("/v1/sys/storage/raft/snapshot").raise_for_status().content

    provider.destroy(root)
    assert key not in disk.roots_in(mount)
    disk.stop()
    found = {file.name: file.read_bytes().count(entry) for file in disk.disk.rglob("*.db")}
    disk.start()
    assert found == {"vault.db": 0, "raft.db": 1}
    with pytest.raises(RootDestroyed):
        provider.unwrap(root, wrapped, b"n")
    assert "(its own log, a snapshot, a backup)" in provider.describe(root).assurance

    disk.http.post("/v1/sys/storage/raft/snapshot", content=snapshot).raise_for_status()
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        with suppress(ProviderUnavailable, RootDestroyed):
            assert provider.unwrap(root, wrapped, b"n") == b"k" * 32
            break
        time.sleep(0.1)
    else:
        pytest.fail("the snapshot did not bring the root back")


def enciphered(disk: Server, mount: str) -> bytes:
    """The first bytes of the entry that holds the key, as the storage has it: nonce and ciphertext."""
    where = disk.api("GET", f"sys/mounts/{mount}")["uuid"]
    path = f"logical/{where}/policy/{KEY_NAME}".encode()
    _, _, after = (disk.disk / "vault.db").read_bytes().partition(path)
    assert after[:5] == b"\x00\x00\x00\x01\x02", "term of the barrier's key, version of its format"
    return after[5:60]

"""One contract for every key provider (vault.md section 4); a new provider adds its line to PROVIDERS."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from app.vault.errors import (
    DurabilityLost,
    KeyDamaged,
    KeyringDamaged,
    KeyringExposed,
    ProviderUnavailable,
    RootDestroyed,
    UnknownRoot,
)
from app.vault.keys import KeyClass
from app.vault.ports import KeyProvider, RootName, RootState
from app.vault.providers.file import FileKeyring
from tests.contract import aws_provider, gcp_provider, openbao_provider, pkcs11_provider
from tests.mechanism.vaults import SetClock
from tests.waiting import PATIENCE

Make = Callable[[Path], KeyProvider]
NAME, OTHER = RootName(KeyClass.DATA, 0, 1), RootName(KeyClass.DATA, 0, 2)
CLOCK = SetClock()


def file_keyring(folder: Path) -> FileKeyring:
    path = folder / "keyring"
    made = FileKeyring if path.exists() else FileKeyring.create
    return made(path, clock=CLOCK, random=os.urandom)


PROVIDERS: dict[str, Make] = {
    "aws": aws_provider.aws_kms,
    "file": file_keyring,
    "gcp": gcp_provider.gcp_kms,
    "openbao": openbao_provider.transit,
    "pkcs11": pkcs11_provider.open_token,
}


@pytest.fixture(params=sorted(PROVIDERS))
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], KeyProvider]:
    """Open the provider on the same place, again and again."""
    return lambda: PROVIDERS[request.param](tmp_path)


@pytest.fixture
def provider(make: Callable[[], KeyProvider]) -> KeyProvider:
    return make()


def test_wrap_and_unwrap(provider: KeyProvider) -> None:
    root = provider.create_root(NAME)
    key = bytearray(os.urandom(32))
    wrapped = provider.wrap(root, key, b"name")
    assert bytes(key) not in wrapped
    assert provider.unwrap(root, wrapped, b"name") == key
    assert provider.wrap(root, key, b"name") != wrapped


def test_a_root_is_found_by_its_name(make: Callable[[], KeyProvider]) -> None:
    """Asking twice, in two processes' worth of objects, gives one root; other names give others."""
    first = make()
    root = first.create_root(NAME)
    wrapped = first.wrap(root, bytearray(32), b"n")
    second = make()
    assert second.create_root(NAME) == root
    assert second.unwrap(root, wrapped, b"n") == bytes(32)
    names = [OTHER, RootName(KeyClass.DATA, 1, 1), RootName(KeyClass.POOL, 0, 1)]
    assert len({root, *(second.create_root(name) for name in names)}) == 4


@pytest.mark.parametrize("what", ["name", "root", "byte", "length"])
def test_what_was_wrapped_otherwise_does_not_open(provider: KeyProvider, what: str) -> None:
    root, other = provider.create_root(NAME), provider.create_root(OTHER)
    wrapped = provider.wrap(root, bytearray(32), b"name")
    cases = {
        "name": (root, wrapped, b"other"),
        "root": (other, wrapped, b"name"),
        "byte": (root, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"name"),
        "length": (root, wrapped[:-1], b"name"),
    }
    with pytest.raises(KeyDamaged):
        provider.unwrap(*cases[what])


def test_destroyed_is_destroyed(make: Callable[[], KeyProvider]) -> None:
    provider = make()
    root, other = provider.create_root(NAME), provider.create_root(OTHER)
    wrapped, kept = (provider.wrap(each, bytearray(32), b"n") for each in (root, other))
    assert provider.describe(root).state is RootState.ACTIVE
    assert provider.describe(root).irrevocable_at is None
    for _ in range(2):
        provider.destroy(root)
        for seen in (provider, make()):
            told = seen.describe(root)
            assert told.state in (RootState.DESTROYED, RootState.SCHEDULED)
            assert isinstance(told.irrevocable_at, datetime)
            assert told.assurance[:2] in ("A:", "B:", "C:", "D:")
            assert told.evidence
            with pytest.raises(RootDestroyed):
                seen.unwrap(root, wrapped, b"n")
            with pytest.raises(RootDestroyed):
                seen.wrap(root, bytearray(32), b"n")
            assert seen.unwrap(other, kept, b"n") == bytes(32)
    with pytest.raises(RootDestroyed):
        provider.create_root(NAME)


@pytest.mark.parametrize(
    "root", ["", "nonsense", "file:999999:00", "file:0:" + "0" * 32, "file:-1:00", "file:\u00b2:00"]
)
def test_unknown_roots(provider: KeyProvider, root: str) -> None:
    provider.create_root(NAME)
    for work in (
        lambda: provider.destroy(root),
        lambda: provider.describe(root),
        lambda: provider.wrap(root, bytearray(32), b""),
        lambda: provider.unwrap(root, bytes(60), b""),
    ):
        with pytest.raises(UnknownRoot):
            work()


# The file keyring's own promises


def key_of(path: Path, root: str) -> bytes:
    at = 128 + int(root.split(":")[1]) * 128
    return path.read_bytes()[at + 49 : at + 81]


def test_keyring_is_overwritten_in_place(tmp_path: Path) -> None:
    """Assurance A: same file, same size, the key's bytes nowhere in it."""
    keyring, path = file_keyring(tmp_path), tmp_path / "keyring"
    root, other = keyring.create_root(NAME), keyring.create_root(OTHER)
    key, kept = key_of(path, root), key_of(path, other)
    before = path.stat()
    assert key in path.read_bytes()
    keyring.destroy(root)
    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert key not in path.read_bytes()
    assert kept in path.read_bytes()
    assert keyring.create_root(RootName(KeyClass.POOL, 9, 9)) != root


def test_keyring_is_overwritten_with_noise_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the two overwrites is made durable before the next; a crash between them is finished later."""
    keyring, path = file_keyring(tmp_path), tmp_path / "keyring"
    root = keyring.create_root(NAME)
    key, seen, real = key_of(path, root), [], os.fsync

    def watch(handle: int) -> None:
        real(handle)
        seen.append(key_of(path, root))
        if len(seen) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", watch)
    with pytest.raises(KeyboardInterrupt):
        keyring.destroy(root)
    again = file_keyring(tmp_path)
    assert again.describe(root).state is RootState.ACTIVE
    with pytest.raises(RootDestroyed):
        again.unwrap(root, bytes(60), b"")
    again.destroy(root)
    assert again.describe(root).state is RootState.DESTROYED
    assert seen[0] not in (key, bytes(32))
    assert seen[-1] == bytes(32)


def test_keyring_grows(tmp_path: Path) -> None:
    keyring = file_keyring(tmp_path)
    roots = {keyring.create_root(RootName(KeyClass.DATA, number, 1)) for number in range(300)}
    assert len(roots) == 300
    assert file_keyring(tmp_path).create_root(RootName(KeyClass.DATA, 7, 1)) in roots


def test_keyring_is_private(tmp_path: Path) -> None:
    keyring, path = file_keyring(tmp_path), tmp_path / "keyring"
    root = keyring.create_root(NAME)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(KeyringExposed):
        keyring.describe(root)
    with pytest.raises(KeyringExposed):
        file_keyring(tmp_path)
    path.chmod(0o600)
    link = tmp_path / "link"
    link.symlink_to(path)
    with pytest.raises(KeyringExposed):
        FileKeyring(link, clock=CLOCK, random=os.urandom)


def test_keyring_is_never_made_anew(tmp_path: Path) -> None:
    """A lost keyring is total loss; an empty one in its place would hide that."""
    keyring = file_keyring(tmp_path)
    with pytest.raises(FileExistsError):
        FileKeyring.create(tmp_path / "keyring", clock=CLOCK, random=os.urandom)
    (tmp_path / "keyring").unlink()
    with pytest.raises(ProviderUnavailable):
        keyring.create_root(NAME)
    with pytest.raises(ProviderUnavailable):
        FileKeyring(tmp_path / "keyring", clock=CLOCK, random=os.urandom)
    assert not (tmp_path / "keyring").exists()


@pytest.mark.parametrize("at", [0, 5, 128, 128 + 20, 128 + 60, 128 + 85, 128 + 100, 128 + 40 * 128 + 3])
def test_damage_is_found(tmp_path: Path, at: int) -> None:
    keyring, path = file_keyring(tmp_path), tmp_path / "keyring"
    root = keyring.create_root(NAME)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x40
    path.write_bytes(content)
    with pytest.raises(KeyringDamaged):
        file_keyring(tmp_path)
    if at < 256:
        with pytest.raises(KeyringDamaged):
            keyring.unwrap(root, bytes(60), b"")


def test_truncation_is_found(tmp_path: Path) -> None:
    file_keyring(tmp_path).create_root(NAME)
    path = tmp_path / "keyring"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(KeyringDamaged):
        file_keyring(tmp_path)


def test_after_a_failed_fsync_the_keyring_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operations.md section 6: stop, do not retry."""
    keyring = file_keyring(tmp_path)
    root = keyring.create_root(NAME)

    def no_sync(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", no_sync)
    with pytest.raises(DurabilityLost):
        keyring.destroy(root)
    monkeypatch.undo()
    with pytest.raises(DurabilityLost):
        keyring.destroy(root)
    with pytest.raises(DurabilityLost):
        keyring.describe(root)


RACER = """
import os, sys
from pathlib import Path
from datetime import UTC, datetime
from app.vault.keys import KeyClass
from app.vault.ports import RootName
from app.vault.providers.file import FileKeyring
class Clock:
    def now(self): return datetime.now(UTC)
keyring = FileKeyring(Path(sys.argv[1]), clock=Clock(), random=os.urandom)
print(*[keyring.create_root(RootName(KeyClass.DATA, number, 1)) for number in range(40)])
"""


def test_processes_share_a_keyring(tmp_path: Path) -> None:
    file_keyring(tmp_path)
    command = [sys.executable, "-c", RACER, str(tmp_path / "keyring")]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = {racer.communicate(timeout=PATIENCE)[0] for racer in racers}
    assert all(racer.returncode == 0 for racer in racers)
    assert len(answers) == 1
    assert len(set(answers.pop().split())) == 40

"""The PKCS#11 provider's own promises, on a real SoftHSM token: two processes, forks, lost sessions, a restored copy.

What every provider promises is in test_key_providers.py. No hardware is here, but that software is not called so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pkcs11
import pytest
from pkcs11 import Attribute, ObjectClass
from sqlalchemy import Engine

from app.store.engine import open_engine
from app.store.rows.base import KeysBase
from app.vault.errors import (
    Erased,
    KeyDamaged,
    NotHardware,
    ProviderUnavailable,
    RootDestroyed,
    UnknownRoot,
)
from app.vault.keys import KeyClass, Scope, Target
from app.vault.ports import RootName, RootState
from app.vault.providers import pkcs11 as provider_module
from app.vault.providers import pkcs11session
from app.vault.providers.pkcs11 import KEPT_STONES, SOFTWARE, Pkcs11Tokens
from tests.contract.pkcs11_provider import MODULE, PIN, label_of, open_token, token_folder, use_token
from tests.mechanism.vaults import CONTROLLER, SetClock, open_vault, scope
from tests.waiting import PATIENCE

NAME = RootName(KeyClass.DATA, 0, 1)
PROVE = bool(os.environ.get("REGARD_TEST_PROVE"))
ROUNDS = 200 if PROVE else 12

PRELUDE = f"""
import os, sys, time
from datetime import UTC, datetime
from pathlib import Path
from app.vault.errors import RootDestroyed, UnknownRoot
from app.vault.keys import KeyClass
from app.vault.ports import RootName
from app.vault.providers.pkcs11 import Pkcs11Tokens
class Clock:
    def now(self): return datetime.now(UTC)
module, label = Path({str(MODULE)!r}), sys.argv[1]
tokens = Pkcs11Tokens(module, label, {PIN!r}, hardware=False, clock=Clock(), random=os.urandom)
def root(number): return tokens.create_root(RootName(KeyClass.DATA, number, 1))
"""


def elsewhere(folder: Path, work: str, *arguments: str) -> subprocess.Popen[str]:
    """Start another process on the same token."""
    command = [sys.executable, "-c", PRELUDE + work, use_token(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def told(process: subprocess.Popen[str]) -> str:
    answer, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return answer.strip()


def another_session(folder: Path, pin: str | None = PIN) -> pkcs11.Session:
    """A session of the test's own, as any other PKCS#11 program would have."""
    token = pkcs11.lib(str(MODULE)).get_token(token_label=label_of(folder))
    return token.open(rw=True, user_pin=pin) if pin else token.open(rw=True)


def objects(folder: Path, kind: ObjectClass) -> list[pkcs11.Object]:
    """What the token holds now; a login is the process's, so the provider's own is used."""
    return list(another_session(folder, None).get_objects({Attribute.CLASS: kind, Attribute.TOKEN: True}))


# The keys


def test_a_root_is_made_in_the_token_and_cannot_leave_it(tmp_path: Path) -> None:
    open_token(tmp_path).create_root(NAME)
    (key,) = objects(tmp_path, ObjectClass.SECRET_KEY)
    assert isinstance(key, pkcs11.SecretKey)
    assert (key.key_type, key.key_length, key.label) == (pkcs11.KeyType.AES, 256, "regard data/0/1")
    for attribute in (Attribute.SENSITIVE, Attribute.NEVER_EXTRACTABLE, Attribute.ALWAYS_SENSITIVE, Attribute.LOCAL):
        assert key[attribute] is True
    for attribute in (
        Attribute.EXTRACTABLE,
        Attribute.COPYABLE,
        Attribute.MODIFIABLE,
        Attribute.WRAP,
        Attribute.DERIVE,
    ):
        assert key[attribute] is False
    with pytest.raises(pkcs11.AttributeSensitive):
        key[Attribute.VALUE]
    with pytest.raises(pkcs11.PKCS11Error):
        key.copy({Attribute.LABEL: "a copy that would outlive it"})


def test_nothing_private_shows_without_the_pin(tmp_path: Path) -> None:
    """Neither a key nor a tombstone: nobody without the PIN can take one away."""
    tokens = open_token(tmp_path)
    tokens.destroy(tokens.create_root(NAME))
    tokens.create_root(RootName(KeyClass.DATA, 0, 2))
    assert len(objects(tmp_path, ObjectClass.SECRET_KEY)) == len(objects(tmp_path, ObjectClass.DATA)) == 1
    pkcs11.lib(str(MODULE)).reinitialize()
    assert objects(tmp_path, ObjectClass.SECRET_KEY) == objects(tmp_path, ObjectClass.DATA) == []


# Two processes


def test_racing_processes_make_one_root(tmp_path: Path) -> None:
    """Whatever any of them wrapped opens for all of them, and destroying ends it for all."""
    tokens = open_token(tmp_path)
    work = f"""
begin = float(os.environ["REGARD_TEST_BEGIN"])
time.sleep(max(0, begin - time.time()))
for number in range({ROUNDS}):
    print(root(number), tokens.wrap(root(number), bytearray([number] * 32), b"n").hex())
"""
    os.environ["REGARD_TEST_BEGIN"] = str(time.time() + 2)
    racers = [elsewhere(tmp_path, work) for _ in range(2)]
    answers = [[line.split() for line in told(racer).splitlines()] for racer in racers]
    for number in range(ROUNDS):
        refs, wrapped = zip(*(answer[number] for answer in answers), strict=True)
        assert set(refs) == {tokens.create_root(RootName(KeyClass.DATA, number, 1))}
        for each in wrapped:
            assert tokens.unwrap(refs[0], bytes.fromhex(each), b"n") == bytes([number] * 32)
        tokens.destroy(refs[0])
        with pytest.raises(RootDestroyed):
            tokens.unwrap(refs[0], bytes.fromhex(wrapped[0]), b"n")
    assert objects(tmp_path, ObjectClass.SECRET_KEY) == []


TANGLED = """
import random
choose, kept = random.Random(int(sys.argv[2])), {}
for _ in range(int(sys.argv[3])):
    number = choose.randrange(8)
    name, ref, what = RootName(KeyClass.DATA, number, 1), f"pkcs11:data/{number}/1", choose.random()
    try:
        if what < 0.3:
            wrapped = tokens.wrap(tokens.create_root(name), bytearray([number] * 32), b"n")
            kept.setdefault(number, []).append(wrapped)
            print("wrapped", number, wrapped.hex())
        elif what < 0.97 and number in kept:
            begun = time.time()
            assert tokens.unwrap(ref, choose.choice(kept[number]), b"n") == bytes([number] * 32)
            print("opened", number, begun)
        elif what >= 0.97:
            tokens.destroy(ref)
            assert tokens.describe(ref).state == "destroyed"
            print("destroyed", number, time.time())
    except (RootDestroyed, UnknownRoot):
        pass
"""


def test_processes_in_a_tangle(tmp_path: Path) -> None:
    """They make, use and destroy the same roots: nothing living is lost, nothing opens once any was told it is gone."""
    tokens, steps = open_token(tmp_path), 4_000 if PROVE else 150
    racers = [elsewhere(tmp_path, TANGLED, f"{seed}", f"{steps}") for seed in range(3)]
    lines = [line.split() for racer in racers for line in told(racer).splitlines()]
    gone: dict[str, float] = {}
    for _, number, at in (line for line in lines if line[0] == "destroyed"):
        gone[number] = min(float(at), gone.get(number, float(at)))
    assert gone
    assert all(float(at) <= gone.get(number, float(at)) for what, number, at in lines if what == "opened")
    for _, number, wrapped in (line for line in lines if line[0] == "wrapped"):
        ref = f"pkcs11:data/{number}/1"
        if number in gone:
            with pytest.raises(RootDestroyed):
                tokens.unwrap(ref, bytes.fromhex(wrapped), b"n")
        else:
            assert tokens.unwrap(ref, bytes.fromhex(wrapped), b"n") == bytes([int(number)] * 32)
    living = {key.label for key in objects(tmp_path, ObjectClass.SECRET_KEY)}
    assert living.isdisjoint(f"regard data/{number}/1" for number in gone)


def while_generating(monkeypatch: pytest.MonkeyPatch, event: Callable[[], None]) -> None:
    """Let something happen after this process has looked for the name and before it generates its key."""
    real = provider_module.generate

    def generate(session: pkcs11.Session, label: str, key_id: bytes, *, lasting: bool) -> pkcs11.SecretKey:
        event()
        return real(session, label, key_id, lasting=lasting)

    monkeypatch.setattr(provider_module, "generate", generate)


def test_a_root_made_twice_at_once_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = open_token(tmp_path)
    theirs: list[str] = []
    work = 'print(root(0), tokens.wrap(root(0), bytearray(b"their key".ljust(32)), b"n").hex())'
    while_generating(monkeypatch, lambda: theirs.extend(told(elsewhere(tmp_path, work)).split()))
    root = tokens.create_root(NAME)
    ours = tokens.wrap(root, bytearray(b"our key".ljust(32)), b"n")
    assert len(objects(tmp_path, ObjectClass.SECRET_KEY)) == 2, "the race really happened"
    assert theirs[0] == root
    assert tokens.unwrap(root, ours, b"n") == b"our key".ljust(32)
    assert tokens.unwrap(root, bytes.fromhex(theirs[1]), b"n") == b"their key".ljust(32)
    with pytest.raises(KeyDamaged):
        tokens.unwrap(root, ours, b"other")
    tokens.destroy(root)
    assert objects(tmp_path, ObjectClass.SECRET_KEY) == []
    assert tokens.describe(root).state is RootState.DESTROYED


def test_a_name_buried_meanwhile_stays_buried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = open_token(tmp_path)
    while_generating(monkeypatch, lambda: print(told(elsewhere(tmp_path, "tokens.destroy(root(0))"))))
    with pytest.raises(RootDestroyed):
        tokens.create_root(NAME)
    assert objects(tmp_path, ObjectClass.SECRET_KEY) == []
    assert tokens.describe("pkcs11:data/0/1").state is RootState.DESTROYED


def test_what_another_process_destroyed_is_destroyed_here(tmp_path: Path) -> None:
    """The module keeps copies of objects in memory: they must not outlive the root."""
    tokens = open_token(tmp_path)
    root = tokens.create_root(NAME)
    wrapped = tokens.wrap(root, bytearray(32), b"n")
    assert tokens.unwrap(root, wrapped, b"n") == bytes(32)
    told(elsewhere(tmp_path, "tokens.destroy(root(0))"))
    with pytest.raises(RootDestroyed):
        tokens.unwrap(root, wrapped, b"n")
    with pytest.raises(RootDestroyed):
        tokens.wrap(root, bytearray(32), b"n")


# Destroying


def test_killed_between_tombstone_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once, told as alive while it is, and finished later; the certificate's time is when it really went."""
    clock = SetClock()
    tokens = open_token(tmp_path, clock=clock)
    root = tokens.create_root(NAME)
    real = provider_module._bury

    def killed(*told: object) -> None:
        real(*told)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(provider_module, "_bury", killed)
    with pytest.raises(KeyboardInterrupt):
        tokens.destroy(root)
    monkeypatch.undo()
    again = open_token(tmp_path, clock=clock)
    assert again.describe(root).state is RootState.ACTIVE
    assert again.describe(root).irrevocable_at is None
    for refused in (lambda: again.wrap(root, bytearray(32), b""), lambda: again.create_root(NAME)):
        with pytest.raises(RootDestroyed):
            refused()
    clock.pass_(hours=1)
    again.destroy(root)
    assert again.describe(root).state is RootState.DESTROYED
    assert again.describe(root).irrevocable_at == clock.now()


def test_the_time_of_destruction_is_kept(tmp_path: Path) -> None:
    clock = SetClock()
    tokens = open_token(tmp_path, clock=clock)
    root, at = tokens.create_root(NAME), clock.now()
    tokens.destroy(root)
    clock.pass_(days=1)
    tokens.destroy(root)
    said = open_token(tmp_path, clock=clock).describe(root)
    assert said.irrevocable_at == at
    assert said.assurance == SOFTWARE
    assert said.evidence["root"] == root
    assert said.evidence["read_back"] == "destroyed"
    assert said.evidence["token_model"] == "SoftHSM v2"


def test_tombstones_fold(tmp_path: Path) -> None:
    """A partition is re-wrapped for years: few objects stay, every old name stays refused, and no other one is."""
    clock = SetClock()
    tokens = open_token(tmp_path, clock=clock)
    generations = 3 * KEPT_STONES
    kept = tokens.create_root(RootName(KeyClass.DATA, 0, generations + 1))
    other = tokens.create_root(RootName(KeyClass.DATA, 1, 1))
    times = {}
    for generation in range(5, generations):
        clock.pass_(minutes=15)
        root = tokens.create_root(RootName(KeyClass.DATA, 0, generation))
        tokens.destroy(root)
        times[generation] = clock.now()
    assert len(objects(tmp_path, ObjectClass.DATA)) < 2 * KEPT_STONES
    again = open_token(tmp_path, clock=clock)
    for generation, at in times.items():
        said = again.describe(f"pkcs11:data/0/{generation}")
        assert said.state is RootState.DESTROYED
        assert said.irrevocable_at is not None
        assert at <= said.irrevocable_at <= clock.now()
        with pytest.raises(RootDestroyed):
            again.create_root(RootName(KeyClass.DATA, 0, generation))
    assert said.irrevocable_at == at, "the newest keep their own time"
    for living in (kept, other):
        assert again.describe(living).state is RootState.ACTIVE
    for unborn in ("pkcs11:data/0/4", f"pkcs11:data/0/{generations}", "pkcs11:data/1/7", "pkcs11:pool/0/7"):
        with pytest.raises(UnknownRoot):
            again.describe(unborn)


def test_a_gap_is_not_folded_over(tmp_path: Path) -> None:
    """An old root that a key backup still needs lives on among destroyed ones; a name never used stays free."""
    tokens = open_token(tmp_path)
    kept = tokens.create_root(RootName(KeyClass.DATA, 0, 3))
    wrapped = tokens.wrap(kept, bytearray(32), b"n")
    for generation in range(1, 3 * KEPT_STONES + 6):
        if generation not in (3, 5):
            tokens.destroy(tokens.create_root(RootName(KeyClass.DATA, 0, generation)))
    assert len(objects(tmp_path, ObjectClass.DATA)) < 2 * KEPT_STONES
    assert tokens.unwrap(kept, wrapped, b"n") == bytes(32)
    with pytest.raises(UnknownRoot):
        tokens.describe("pkcs11:data/0/5")
    assert tokens.describe(tokens.create_root(RootName(KeyClass.DATA, 0, 5))).state is RootState.ACTIVE
    for root in (kept, "pkcs11:data/0/5"):
        tokens.destroy(root)
        assert tokens.describe(root).state is RootState.DESTROYED


def test_a_restored_token_directory_revives_keys(tmp_path: Path) -> None:
    """Why this is assurance B and says so: the sentence on the certificate is true."""
    tokens = open_token(tmp_path)
    root = tokens.create_root(NAME)
    wrapped = tokens.wrap(root, bytearray(b"brought back".ljust(32)), b"n")
    shutil.copytree(token_folder(tmp_path), tmp_path / "backup")
    tokens.destroy(root)
    look = f'print(tokens.describe({root!r}).state, tokens.unwrap({root!r}, bytes.fromhex("{wrapped.hex()}"), b"n"))'
    assert elsewhere(tmp_path, look).wait(timeout=PATIENCE) != 0
    shutil.rmtree(token_folder(tmp_path))
    shutil.copytree(tmp_path / "backup", token_folder(tmp_path))
    revived = told(elsewhere(tmp_path, look))
    assert revived.startswith("active")
    assert "brought back" in revived
    assert "restored copy" in SOFTWARE


# Away, lost, refused


def test_lost_sessions_come_back(tmp_path: Path) -> None:
    """The module was finalised behind the provider's back, as a removed and returned token does."""
    tokens = open_token(tmp_path)
    root = tokens.create_root(NAME)
    wrapped = tokens.wrap(root, bytearray(32), b"n")
    for work in (
        lambda: tokens.unwrap(root, wrapped, b"n"),
        lambda: tokens.create_root(NAME),
        lambda: tokens.describe(root),
        lambda: tokens.destroy(root),
    ):
        pkcs11.lib(str(MODULE)).reinitialize()
        work()
    assert tokens.describe(root).state is RootState.DESTROYED


def test_a_lost_login_is_not_an_unknown_root(tmp_path: Path) -> None:
    """Logged out, a token shows no private object at all: that must not read as a root that never was."""
    root, dead = (open_token(tmp_path).create_root(RootName(KeyClass.DATA, 0, number)) for number in (1, 2))
    open_token(tmp_path).destroy(dead)
    works: list[Callable[[Pkcs11Tokens], bool]] = [
        lambda tokens: tokens.describe(root).state is RootState.ACTIVE,
        lambda tokens: tokens.describe(dead).state is RootState.DESTROYED,
        lambda tokens: tokens.unwrap(root, tokens.wrap(root, bytearray(32), b"n"), b"n") == bytes(32),
        lambda tokens: tokens.create_root(NAME) == root,
    ]
    for work in works:
        pkcs11.lib(str(MODULE)).reinitialize()
        session = another_session(tmp_path)
        tokens = open_token(tmp_path)
        assert len(objects(tmp_path, ObjectClass.SECRET_KEY)) == 1
        session.close()  # A login is the whole process's: this ends the provider's too.
        assert objects(tmp_path, ObjectClass.SECRET_KEY) == []
        assert work(tokens)
    pkcs11.lib(str(MODULE)).reinitialize()
    session = another_session(tmp_path)
    tokens = open_token(tmp_path)
    session.close()
    with pytest.raises(RootDestroyed):
        tokens.create_root(RootName(KeyClass.DATA, 0, 2))


FORKED = """
import threading
session = tokens._token  # SoftHSM bears with an inherited session, others do not: look that the child made its own.
first = root(0)
wrapped = tokens.wrap(first, bytearray(range(32)), b"n")
stop = threading.Event()
def busy():
    while not stop.is_set():
        tokens.unwrap(first, wrapped, b"n")
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
children = []
for number in range(1, 5):
    child = os.fork()
    if not child:
        inherited = session._module.age
        good = tokens.unwrap(first, wrapped, b"n") == bytes(range(32)) and session._module.age > inherited
        good = good and root(number) != first
        os._exit(0 if good else 1)
    children.append(child)
ends = [os.waitpid(child, 0)[1] for child in children]
stop.set()
for thread in threads: thread.join()
print(ends, tokens.unwrap(first, wrapped, b"n") == bytes(range(32)), len({root(n) for n in range(5)}))
"""


def test_a_fork_keeps_both_sides_working(tmp_path: Path) -> None:
    """A server that loads the application and then forks, its threads at work meanwhile."""
    assert told(elsewhere(tmp_path, FORKED)) == "[0, 0, 0, 0] True 5"


def test_threads_share_a_token(tmp_path: Path) -> None:
    tokens = open_token(tmp_path)

    def work(number: int) -> bool:
        root = tokens.create_root(RootName(KeyClass.DATA, number % 4, 1))
        key = bytearray([number] * 32)
        return tokens.unwrap(root, tokens.wrap(root, key, b"n"), b"n") == key

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(80)))
    assert len(objects(tmp_path, ObjectClass.SECRET_KEY)) == 4


def test_nobody_waits_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call hangs in the module; the others are told so."""
    tokens = open_token(tmp_path)
    entered, leave = threading.Event(), threading.Event()

    def hang(*_arguments: object) -> None:
        entered.set()
        leave.wait(PATIENCE)

    monkeypatch.setattr(pkcs11session, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(provider_module, "_make", hang)
    with ThreadPoolExecutor(1) as pool:
        hung = pool.submit(tokens.create_root, NAME)
        entered.wait(PATIENCE)
        with pytest.raises(ProviderUnavailable, match="busy"):
            tokens.describe("pkcs11:data/0/1")
        leave.set()
        hung.result(PATIENCE)
    with pytest.raises(UnknownRoot):
        tokens.describe("pkcs11:data/0/1")


def test_a_token_that_is_away(tmp_path: Path) -> None:
    """Its directory is not mounted: unavailable, never unknown; and it works again when it is back."""
    tokens = open_token(tmp_path)
    root = tokens.create_root(NAME)
    wrapped = tokens.wrap(root, bytearray(32), b"n")
    token_folder(tmp_path).rename(tmp_path / "away")
    for work in (
        lambda: tokens.unwrap(root, wrapped, b"n"),
        lambda: tokens.describe(root),
        lambda: tokens.create_root(NAME),
        lambda: tokens.create_root(RootName(KeyClass.DATA, 0, 2)),
        lambda: tokens.destroy(root),
        lambda: open_token(tmp_path),
    ):
        with pytest.raises(ProviderUnavailable):
            work()
    (tmp_path / "away").rename(token_folder(tmp_path))
    assert tokens.unwrap(root, wrapped, b"n") == bytes(32)


def test_a_device_fault_is_not_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SoftHSM has one word for both; what does not open is only damaged if the key still opens something."""
    tokens = open_token(tmp_path)
    root = tokens.create_root(NAME)
    wrapped = tokens.wrap(root, bytearray(32), b"n")
    with pytest.raises(KeyDamaged):
        tokens.unwrap(root, wrapped[:-1] + bytes([wrapped[-1] ^ 1]), b"n")

    def broken(*_arguments: object) -> bytearray:
        raise pkcs11.GeneralError

    monkeypatch.setattr(provider_module, "_open", broken)
    with pytest.raises(ProviderUnavailable):
        tokens.unwrap(root, wrapped, b"n")
    monkeypatch.undo()
    assert tokens.unwrap(root, wrapped, b"n") == bytes(32)


def opening(tmp_path: Path, **other: object) -> Pkcs11Tokens:
    told = {"module": MODULE, "token": label_of(tmp_path), "pin": PIN, "hardware": False, **other}
    return Pkcs11Tokens(**told, clock=SetClock(), random=os.urandom)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "other", [{"module": Path("/nowhere/module.so")}, {"module": Path("/dev/null")}, {"token": "no such token"}]
)
def test_what_cannot_be_opened_is_said(tmp_path: Path, other: dict[str, object]) -> None:
    use_token(tmp_path)
    with pytest.raises(ProviderUnavailable) as caught:
        opening(tmp_path, **other)
    assert str(caught.value)
    assert opening(tmp_path).kind == "pkcs11", "and the module is still of use to others"


def test_two_tokens_of_one_label_are_refused(tmp_path: Path) -> None:
    """Which of them held the keys would be a matter of luck."""
    open_token(tmp_path)
    tool = ["softhsm2-util", "--init-token", "--free", "--label", label_of(tmp_path), "--so-pin", "13579", "--pin", PIN]
    subprocess.run(tool, check=True, capture_output=True, timeout=PATIENCE)
    assert elsewhere(tmp_path, "").wait(timeout=PATIENCE) != 0
    pkcs11.lib(str(MODULE)).reinitialize()
    with pytest.raises(ProviderUnavailable, match="More than 1 token"):
        open_token(tmp_path)


def test_software_is_not_called_hardware(tmp_path: Path) -> None:
    """The certificate would promise what a copied directory breaks."""
    with pytest.raises(NotHardware):
        open_token(tmp_path, hardware=True)


def test_the_pin_shows_nowhere(tmp_path: Path) -> None:
    wrong = "wrong-pin-90210"
    use_token(tmp_path)
    with pytest.raises(ProviderUnavailable, match="PinIncorrect") as caught:
        open_token(tmp_path, pin=wrong)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert wrong not in shown
    tokens = open_token(tmp_path)
    assert PIN not in repr(tokens)
    assert PIN not in str(vars(type(tokens)))


def test_a_refused_pin_is_tried_once(tmp_path: Path) -> None:
    """A few wrong tries lock a hardware token for good; a service that retries would do that in a second."""
    tokens = open_token(tmp_path)
    root = tokens.create_root(NAME)
    session = another_session(tmp_path, None)
    session.set_pin(PIN, "another pin")
    pkcs11.lib(str(MODULE)).reinitialize()
    with pytest.raises(ProviderUnavailable, match="PinIncorrect"):
        tokens.describe(root)
    for _ in range(3):
        with pytest.raises(ProviderUnavailable, match="before a restart"):
            tokens.describe(root)
    assert open_token(tmp_path, pin="another pin").describe(root).state is RootState.ACTIVE


# A whole erasure


def backup_of(engine: Engine, path: Path) -> Engine:
    """Every row of the key store in another one, as a dump restored elsewhere."""
    restored = open_engine(f"sqlite:///{path}", keys=True)
    KeysBase.metadata.create_all(restored)
    with engine.connect() as source, restored.begin() as target:
        for table in KeysBase.metadata.sorted_tables:
            rows = [dict(row) for row in source.execute(table.select()).mappings()]
            if rows:
                target.execute(table.insert(), rows)
    return restored


def test_an_erasure_on_a_token(keys_engine: Engine, tmp_path: Path) -> None:
    """Sealed, erased, certified: the erased is gone from today's store and from a backup, everybody else is there."""
    clock = SetClock()
    tokens = open_token(tmp_path, clock=clock)
    vault = open_vault(keys_engine, tmp_path, clock, provider=tokens)
    subjects = [f"sub_{number}" for number in range(6)]
    gone, places = "sub_2", [scope(each, kind) for each in subjects for kind in ("accounts.balances", "loans")]
    vault.create_subjects(CONTROLLER, subjects)
    records: dict[Scope, bytes] = {place: vault.seal(place, "r", place.subject.encode()) for place in places}
    backup = backup_of(keys_engine, tmp_path / "backup.sqlite")
    before = open_vault(backup, tmp_path, clock, provider=open_token(tmp_path, clock=clock))
    assert all(before.open(place, "r", records[place]) == place.subject.encode() for place in places)

    clock.pass_(minutes=1)
    vault.shred("era_1", [Target(CONTROLLER, gone)])
    assert vault.erasures.drive("era_1") == "certified"

    after = open_vault(keys_engine, tmp_path, clock, provider=open_token(tmp_path, clock=clock))
    old = open_vault(backup, tmp_path, clock, provider=open_token(tmp_path, clock=clock))
    for place in places:
        if place.subject == gone:
            with pytest.raises(Erased):
                after.open(place, "r", records[place])
        else:
            assert after.open(place, "r", records[place]) == place.subject.encode()
        with pytest.raises(RootDestroyed):
            old.open(place, "r", records[place])
    backup.dispose()

    (certificate,) = vault.erasures.certificates("era_1")
    sites = [site for site in vault.erasures.journal("era_1").sites if site.old_root is not None]
    assert sites
    for site in sites:
        assert site.assurance == SOFTWARE
        assert site.irrevocable_at == clock.now()
        assert site.evidence["read_back"] == "destroyed"
        assert tokens.describe(str(site.old_root)).state is RootState.DESTROYED
        assert tokens.describe(str(site.new_root)).state is RootState.ACTIVE
    assert SOFTWARE in str(certificate)

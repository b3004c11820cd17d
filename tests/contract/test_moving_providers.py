"""Moving roots between real key providers: everything opens afterwards, the old roots are gone, nobody is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from app.cli.main import main
from app.profiles import Profile
from app.settings import Settings, read_settings
from app.store.engine import open_engine
from app.store.foundations import has_certificates, root_kinds
from app.store.keystore import SqlKeyStore
from app.vault.core import Vault
from app.vault.errors import (
    Erased,
    NotMovedYet,
    PartitionBusy,
    RootDestroyed,
    RootStillAlive,
    SurvivorUnverified,
    UnknownRoot,
)
from app.vault.keys import KeyClass, Scope, Target
from app.vault.moving import JoinedProviders, Moves, OldRoot
from app.vault.ports import KeyProvider, RootDescription, RootName, RootState
from app.vault.providers.file import FileKeyring
from app.wiring import build
from consent.vocabulary import Locale
from tests.contract import openbao_provider, pkcs11_provider
from tests.contract.moving_worker import POINTS
from tests.databases import found_deployment
from tests.mechanism.vaults import CONTROLLER, SetClock, keyring, open_vault, scope

ROOT = Path(__file__).resolve().parents[2]
SUBJECTS = [f"sub_{n}" for n in range(6)]
PARTITIONS = (1, 2) if os.environ.get("REGARD_TEST_PROVE") == "1" else (1,)
"""At which passage of a point a mover is killed."""
MAKERS: dict[str, Callable[[Path], KeyProvider]] = {
    "file": lambda folder: keyring(folder, SetClock()),
    "openbao": openbao_provider.transit,
    "pkcs11": pkcs11_provider.open_token,
}


@dataclass
class Story:
    """Subjects in several partitions of every class, each with records; and a way to look with any provider."""

    engine: Engine
    folder: Path
    before: KeyProvider
    present: KeyProvider
    records: dict[Scope, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        vault = self.vault(self.before)
        vault.create_subjects(CONTROLLER, SUBJECTS)
        for subject in SUBJECTS:
            self.seal(vault, subject)
        self.blind = vault.indexes.blind(CONTROLLER, "email", "ana@example.org")

    def seal(self, vault: Vault, subject: str) -> None:
        places = [scope(subject), scope(subject, "ledger", key_class=KeyClass.AUDIT)]
        places += [scope(subject, "values", key_class=KeyClass.POOL)]
        self.records |= {place: vault.seal(place, "r", place.subject.encode()) for place in places}

    def vault(self, provider: KeyProvider, engine: Engine | None = None) -> Vault:
        return open_vault(engine or self.engine, self.folder, SetClock(), provider=provider, per_partition=4)

    def joined(self) -> JoinedProviders:
        return JoinedProviders(self.present, self.before)

    def moves(self) -> Moves:
        return Moves(SqlKeyStore(self.engine), self.joined(), SetClock(), os.urandom)

    def move_all(self) -> tuple[OldRoot, ...]:
        moves = self.moves()
        for place in moves.progress().waiting:
            moves.move(*place)
        return moves.end_all(lambda _roots: None)

    def all_open(self, provider: KeyProvider, but: tuple[str, ...] = ()) -> bool:
        """Every record and the blind index, with a vault that has nothing in memory yet."""
        vault = self.vault(provider)
        living = {place: record for place, record in self.records.items() if place.subject not in but}
        assert all(vault.open(place, "r", record) == place.subject.encode() for place, record in living.items())
        return vault.indexes.blinds(CONTROLLER, "email", "ana@example.org")[0] == self.blind

    def rows(self) -> list[tuple[str, int, int, str, str | None]]:
        with self.engine.connect() as connection:
            asked = "SELECT key_class, number, generation, root, claimed_by FROM partitions ORDER BY key_class, number"
            return [tuple(row) for row in connection.execute(text(asked))]


def begin(engine: Engine, folder: Path, before: str = "file", present: str = "openbao") -> Story:
    for name in (before, present):
        (folder / name).mkdir()
    return Story(engine, folder, MAKERS[before](folder / before), MAKERS[present](folder / present))


@pytest.fixture
def story(keys_engine: Engine, tmp_path: Path) -> Story:
    return begin(keys_engine, tmp_path)


@pytest.mark.parametrize(("before", "present"), [("file", "openbao"), ("openbao", "pkcs11"), ("pkcs11", "file")])
def test_everything_opens_under_the_new_provider_alone(
    keys_engine: Engine, tmp_path: Path, before: str, present: str
) -> None:
    story = begin(keys_engine, tmp_path, before, present)
    old = story.rows()
    copy = tmp_path / "copy.sqlite"
    if keys_engine.dialect.name == "sqlite":
        keys_engine.dispose()
        shutil.copyfile(str(keys_engine.url.database), copy)
    gone = story.move_all()
    assert len(gone) == len(old) == 7
    assert all(root.irrevocable_at is not None for root in gone)
    assert [(row[0], row[1], row[2], row[3].split(":")[0], row[4]) for row in story.rows()] == [
        (key_class, number, generation + 1, present, None) for key_class, number, generation, *_ in old
    ]
    assert story.all_open(story.present)
    for *_, root, _ in old:
        assert story.before.describe(root).state is RootState.DESTROYED
    if copy.exists():
        backup = story.vault(story.joined(), open_engine(f"sqlite:///{copy}", keys=True))
        for place, record in story.records.items():
            with pytest.raises(RootDestroyed):
                backup.open(place, "r", record)
    assert story.move_all() == (), "there is nothing left to do"


def test_nothing_is_destroyed_before_all_have_moved(story: Story) -> None:
    moves = story.moves()
    first, *rest = moves.progress().waiting
    moves.move(*first)
    with pytest.raises(NotMovedYet):
        moves.end_all(lambda _roots: None)
    assert story.all_open(story.joined())
    assert moves.progress().moved == (first,)
    for place in rest:
        moves.move(*place)
        moves.move(*place)
    assert not any(story.before.describe(root).state is not RootState.ACTIVE for root in _roots_of(story))
    moves.end_all(lambda _roots: None)
    assert story.all_open(story.present)


def _roots_of(story: Story) -> list[str]:
    """The old provider's roots of the generations before the present ones."""
    names = [RootName(KeyClass(row[0]), row[1], row[2] - 1) for row in story.rows()]
    return [story.before.create_root(name) for name in names]


def test_partitions_made_meanwhile_begin_with_the_new_provider(story: Story) -> None:
    vault = story.vault(story.joined())
    vault.create_subjects(CONTROLLER, [f"late_{n}" for n in range(6)])
    story.seal(vault, "late_5")
    assert "openbao" in {row[3].split(":")[0] for row in story.rows()}
    story.move_all()
    assert story.all_open(story.present)


def test_erasures_and_moves_exclude_each_other(story: Story) -> None:
    vault, moves = story.vault(story.joined()), story.moves()
    vault.shred("era_1", [Target(CONTROLLER, "sub_0")])
    while vault.erasures.state("era_1") != "rewrapped":
        vault.erasures.advance("era_1")
    with pytest.raises(PartitionBusy):
        moves.move(KeyClass.DATA, 0)
    assert vault.erasures.drive("era_1") == "certified"
    vault.shred("era_2", [Target(CONTROLLER, "sub_4")])
    for place in moves.progress().waiting:
        moves.move(*place)
    with pytest.raises(PartitionBusy):
        _drive_on(vault)
    with pytest.raises(Erased):
        vault.open(scope("sub_4"), "r", story.records[scope("sub_4")])
    moves.end_all(lambda _roots: None)
    assert vault.erasures.drive("era_2") == "certified"
    assert story.all_open(story.present, but=("sub_0", "sub_4"))
    site = next(each for each in vault.erasures.journal("era_2").sites if each.key_class is KeyClass.DATA)
    assert site.evidence["provider"] == "openbao"


def _drive_on(vault: Vault) -> None:
    """One step after the other until one is refused; drive() waits for none of its own."""
    for _ in range(9):
        vault.erasures.advance("era_2")


def test_the_way_back_is_open_half_way(story: Story) -> None:
    """The new provider turns out wrong: with the settings the other way round everything is back under the old one."""
    moves = story.moves()
    one, two, three, *_ = moves.progress().waiting
    moves.move(*one)
    moves.move(*two)
    moves._claim(*three)  # killed before it moved
    story.before, story.present = story.present, story.before
    back = story.move_all()
    assert len(back) == 2
    assert {row[3].split(":")[0] for row in story.rows()} == {"file"}
    assert {row[4] for row in story.rows()} == {None}
    assert story.all_open(story.present)
    alive = [row[3] for row in story.rows()]
    assert sum(1 for root in alive if story.present.describe(root).state is RootState.ACTIVE) == 7
    with pytest.raises(RootDestroyed):
        story.present.create_root(RootName(*one, 1))


class Lying:
    """The real provider, but for one answer."""

    def __init__(self, real: KeyProvider, **lies: Callable[..., Any]) -> None:
        self._real, self._lies = real, lies

    def __getattr__(self, name: str) -> Any:
        return partial(self._lies[name], self._real) if name in self._lies else getattr(self._real, name)


def test_a_provider_that_answers_with_another_key_changes_nothing(story: Story) -> None:
    answers = iter(range(99))

    def unwrap(real: KeyProvider, root: str, wrapped: bytes, name: bytes) -> bytearray:
        key = real.unwrap(root, wrapped, name)
        return bytearray(os.urandom(32)) if next(answers) % 2 else key

    before, honest = story.rows(), story.present
    story.present = Lying(honest, unwrap=unwrap)
    with pytest.raises(SurvivorUnverified):
        story.moves().move(KeyClass.DATA, 0)
    assert [row[:4] for row in story.rows()] == [row[:4] for row in before]
    story.present = honest
    story.move_all()
    assert story.all_open(honest)


def test_a_root_that_lives_on_is_told_and_done_again(story: Story) -> None:
    honest = story.before
    alive = RootDescription(RootState.ACTIVE, None, "A: as it says", {})
    story.before = Lying(honest, describe=lambda _real, _root: alive)
    with pytest.raises(RootStillAlive):
        story.move_all()
    assert all(row[4] for row in story.rows()), "no erasure may promise anything before the old roots are gone"
    story.before = honest
    told = story.move_all()
    assert {root.assurance for root in told} == {"A: overwritten in place on this host"}
    assert story.all_open(story.present)


def test_a_root_that_is_said_to_be_gone_and_opens_is_not_believed(story: Story) -> None:
    honest = story.before
    said = RootDescription(RootState.DESTROYED, SetClock().now(), "A: as it says", {})
    story.before = Lying(honest, describe=lambda _real, _root: said, destroy=lambda _real, _root: None)
    with pytest.raises(RootStillAlive):
        story.move_all()
    story.before = honest
    story.move_all()
    assert story.all_open(story.present)


def test_no_later_certificate_promises_more_than_an_old_root_allows(story: Story) -> None:
    """Away from a provider that keeps what it was told to destroy: a backup from before lives as long as it does."""
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    waits = RootDescription(RootState.SCHEDULED, until, "C: unusable now", {"provider": "old"})
    story.before = Lying(story.before, describe=lambda _real, _root: waits)
    assert {root.irrevocable_at for root in story.move_all()} == {until}
    vault = story.vault(story.present)
    vault.shred("era_1", [Target(CONTROLLER, "sub_0")])
    assert vault.erasures.drive("era_1") == "certified"
    (certificate,) = vault.erasures.certificates("era_1")
    assert certificate["irrevocable_at"] == until.isoformat(timespec="seconds")


def test_a_start_without_the_old_provider_is_refused_while_its_roots_live(story: Story) -> None:
    moves = story.moves()
    for place in moves.progress().waiting:
        moves.move(*place)
    assert root_kinds(story.engine) == {"file", "openbao"}
    moves.end_all(lambda _roots: None)
    assert root_kinds(story.engine) == {"openbao"}
    assert not has_certificates(story.engine)


def test_a_provider_put_in_the_place_of_the_old_one_is_not_believed(story: Story) -> None:
    moves = story.moves()
    for place in moves.progress().waiting:
        moves.move(*place)
    (story.folder / "elsewhere").mkdir()
    story.before = keyring(story.folder / "elsewhere", SetClock())
    with pytest.raises(UnknownRoot):
        story.moves().end_all(lambda _roots: None)
    assert all(row[4] for row in story.rows())


def test_people_come_and_go_while_it_moves(story: Story) -> None:
    """Another process seals, opens, makes subjects and erases; nothing fails and nobody is lost."""
    stop, faults = Event(), []

    def serve() -> None:
        vault, number = story.vault(story.joined()), 0
        try:
            while not stop.is_set() or number < 3:
                number += 1
                vault.create_subject(CONTROLLER, f"new_{number}")
                story.seal(vault, f"new_{number}")
                for place in (scope("sub_1"), scope("sub_5")):
                    assert vault.open(place, "r", story.records[place])
                assert vault.lease(scope("sub_2")).key
                assert vault.indexes.blind(CONTROLLER, "email", "ana@example.org") == story.blind
        except BaseException as fault:
            faults.append(fault)
            raise

    server = Thread(target=serve)
    server.start()
    story.vault(story.joined()).shred("era_1", [Target(CONTROLLER, "sub_0")])
    story.move_all()
    stop.set()
    server.join()
    assert faults == []
    assert story.vault(story.joined()).erasures.drive("era_1") == "certified"
    assert story.all_open(story.present, but=("sub_0",))


# Kill -9, and again


@pytest.fixture(scope="module")
def killer() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.contract.moving_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


def run(killer: subprocess.Popen[str], story: Story, point: str, at: int) -> int:
    assert killer.stdin is not None
    assert killer.stdout is not None
    server = openbao_provider.server()
    mount = server.mount("t" + openbao_provider.sha256(str(story.folder / "openbao").encode()).hexdigest()[:16])
    case = {"point": point, "at": at, "bao": server.url, "token": server.token, "mount": mount}
    case |= {"url": story.engine.url.render_as_string(hide_password=False)}
    case |= {"keyring": str(story.folder / "file" / "keyring")}
    killer.stdin.write(json.dumps(case) + "\n")
    killer.stdin.flush()
    return int(killer.stdout.readline())


def test_killed_at_every_point_in_turn_it_ends_the_same(killer: subprocess.Popen[str], story: Story) -> None:
    """The same move killed by SIGKILL at each point in turn; before the last claim ends, twice."""
    for point in (*POINTS, "told"):
        for at in PARTITIONS if point != "told" else PARTITIONS[:1]:
            assert run(killer, story, point, at) == -signal.SIGKILL, point
            assert story.all_open(story.joined()), "nobody waits for the resumption"
    assert run(killer, story, "never", 0) == 0
    assert {row[3].split(":")[0] for row in story.rows()} == {"openbao"}
    assert {row[4] for row in story.rows()} == {None}
    content = (story.folder / "file" / "keyring").read_bytes()
    assert not any(content[at] == 1 for at in range(128, len(content), 128)), "no old root is left alive"
    assert story.all_open(story.present)


# The operator's commands


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    server = openbao_provider.server()
    mount = server.mount("t" + openbao_provider.sha256(str(tmp_path).encode()).hexdigest()[:16])
    return {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(ROOT / "policies"),
        "REGARD_OPENBAO_URL": server.url,
        "REGARD_OPENBAO_TOKEN": server.token,
        "REGARD_OPENBAO_MOUNT": mount,
    }


def asked(said: dict[str, str], *words: str) -> tuple[int, str, str]:
    done = CliRunner(env={**said}).invoke(main, ["keys", *words])
    return done.exit_code, done.stdout, done.stderr


def ledger(settings: Settings) -> list[str]:
    engine = open_engine(settings.records_url.reveal())
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT kind FROM ledger_entries WHERE kind LIKE 'key.mov%'")).scalars())


def test_an_operator_moves_a_deployment(said: dict[str, str]) -> None:
    settings = read_settings(said)
    found_deployment(settings)
    house = build(settings)
    ana = house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.PT)
    house.close()
    both = {**said, "REGARD_KEY_PROVIDER": "openbao", "REGARD_KEY_PROVIDER_BEFORE": "file"}
    alone = {**said, "REGARD_KEY_PROVIDER": "openbao"}

    code, _, told = asked(said, "move", "--yes")
    assert (code, told.split(":")[0]) == (2, "nowhere_from")
    code, _, told = asked(alone, "status")
    assert (code, told.split(":")[0]) == (1, "other_key_provider")

    code, out, _ = asked(both, "move", "--keep-old-roots")
    first = json.loads(out)
    assert (code, first["destroyed"], first["kept"]) == (0, 0, first["moved"])
    assert first["moved"] == json.loads(asked(both, "status")[1])["moving"] > 3
    code, out, _ = asked(both, "move", "--yes")
    assert (code, json.loads(out)["destroyed"]) == (0, first["moved"])
    assert json.loads(out)["irrevocable_at"] is not None
    assert ledger(settings) == ["key.move_begun", "key.moved"]

    (settings.data_dir / "keyring").unlink()
    code, out, _ = asked(alone, "status")
    shown = json.loads(out)
    assert (code, shown["provider"], shown["roots"], shown["moving"]) == (0, "openbao", {"openbao": first["moved"]}, 0)
    assert (shown["shut"], shown["erasures_pending"]) == ([], [])
    assert shown["assurance"]["openbao"].startswith("B:")
    assert ana not in out
    house = build(read_settings(alone))
    assert house.profiles.profile(ana) == Profile("Ana Exemplo", "ana@example.org")
    house.close()
    code, _, told = asked(said, "status")
    assert (code, told.split(":")[0]) == (1, "other_key_provider")


def test_nothing_is_destroyed_without_a_yes(said: dict[str, str]) -> None:
    found_deployment(read_settings(said))
    both = {**said, "REGARD_KEY_PROVIDER": "openbao", "REGARD_KEY_PROVIDER_BEFORE": "file"}
    done = CliRunner(env=both).invoke(main, ["keys", "move"], input="n\n")
    assert done.exit_code == 1
    assert ledger(read_settings(said)) == []


def test_status_tells_of_a_partition_that_does_not_open(said: dict[str, str]) -> None:
    settings = read_settings(said)
    found_deployment(settings)
    house = build(settings)
    house.vault.create_subject(house.controller, "sub_1")
    house.vault.shred("era_1", [Target(house.controller, "sub_1")])
    house.close()
    file = settings.data_dir / "keyring"
    other = FileKeyring.create(settings.data_dir / "other", clock=SetClock(), random=os.urandom)
    assert other.create_root(RootName(KeyClass.DATA, 0, 1))
    (settings.data_dir / "other").rename(file)
    code, out, _ = asked(said, "status")
    shown = json.loads(out)
    assert code == 1
    assert {one["code"] for one in shown["shut"]} == {"unknown_root"}
    assert shown["erasures_pending"][0]["state"] == "requested"

"""The tombstone file: durable before anything is destroyed, and it notices when it was touched (dsar rule 54)."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from app.vault.errors import DurabilityLost, TombstonesDamaged, TombstonesLost
from app.vault.keys import KeyClass
from app.vault.tombstones import START, Mark, Tombstone, Tombstones


def stone(number: int) -> Tombstone:
    return Tombstone(
        f"era_{number}", "2026-03-01T12:00:00+00:00", "ctl", f"sub_{number}", KeyClass.DATA, True, "ab", ("cd",)
    )


def edited(path: Path, content: bytes) -> None:
    """Somebody else's change, in place; a second later, because file times of older kernels tick slowly."""
    before = path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=(before, before + 10**9))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tombstones"


def test_none_yet(path: Path) -> None:
    assert Tombstones(path).read() == ()


def test_append_and_read_back(path: Path) -> None:
    stones = Tombstones(path)
    stones.append([stone(1), stone(2)])
    stones.append([stone(2), stone(3)])
    assert Tombstones(path).read() == (stone(1), stone(2), stone(3))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_half_written_line_is_dropped_and_overwritten(path: Path) -> None:
    stones = Tombstones(path)
    stones.append([stone(1)])
    whole = path.read_bytes()
    stones.append([stone(2)])
    path.write_bytes(path.read_bytes()[:-20])
    assert stones.read() == (stone(1),)
    stones.append([stone(3)])
    assert stones.read() == (stone(1), stone(3))
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("damage", ["edit", "remove", "swap", "garbage"])
def test_damage_in_the_middle_is_seen(path: Path, damage: str) -> None:
    stones = Tombstones(path)
    stones.append([stone(1), stone(2), stone(3)])
    lines = path.read_bytes().splitlines(keepends=True)
    broken = {
        "edit": [lines[0].replace(b"sub_1", b"sub_9"), *lines[1:]],
        "remove": lines[1:],
        "swap": [lines[1], lines[0], lines[2]],
        "garbage": [lines[0], b"not json\n", *lines[1:]],
    }[damage]
    edited(path, b"".join(broken))
    with pytest.raises(TombstonesDamaged):
        stones.read()
    with pytest.raises(TombstonesDamaged):
        stones.append([stone(4)])


def test_a_disk_that_fails_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sync(_handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", no_sync)
    stones = Tombstones(path)
    with pytest.raises(DurabilityLost):
        stones.append([stone(1)])
    monkeypatch.undo()
    with pytest.raises(DurabilityLost):
        stones.append([stone(1)])


# Appending to a long log


def hashes(path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many checksums and digests the second append takes on a log of so many stones."""
    stones, taken = Tombstones(path), 0
    stones.append([stone(number) for number in range(count)])

    def counted(content: bytes) -> Any:
        nonlocal taken
        taken += 1
        return sha256(content)

    with monkeypatch.context() as patched:
        patched.setattr("app.vault.tombstones.sha256", counted)
        stones.append([stone(count), stone(0)])
    assert Tombstones(path).read()[-1] == stone(count), "and the one that is there already is not added"
    return taken


def test_an_append_costs_the_same_whatever_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vault.md section 7: an erasure has a second, after years too; all of the log is read where its reader serves."""
    few, many = (hashes(path.with_name(f"log_{count}"), count, monkeypatch) for count in (2, 2_000))
    assert few == many <= 4


def test_two_processes_take_turns(path: Path) -> None:
    ours, theirs = Tombstones(path), Tombstones(path)
    for number in range(0, 12, 3):
        ours.append([stone(number), stone(number + 1)])
        theirs.append([stone(number + 1), stone(number + 2)])
    assert ours.read() == tuple(stone(number) for number in range(12)), "each knows what the other added"
    ours.verify(START)


def test_processes_that_append_at_once_lose_and_double_nothing(path: Path) -> None:
    logs = [Tombstones(path) for _ in range(3)]

    def add(number: int) -> None:
        logs[number % 3].append([stone(number // 2), stone(number // 2 + 1)])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(add, range(60)))
    Tombstones(path).verify(START)
    found = [each.erasure for each in Tombstones(path).read()]
    assert sorted(found) == sorted(f"era_{number}" for number in range(31))


def test_what_was_put_in_the_logs_place_is_gone_on_from(path: Path) -> None:
    """An older copy of it, or another log: chained to the line that is there, and what it lacks is added again."""
    stones, other = Tombstones(path), path.with_name("other")
    stones.append([stone(1)])
    old = path.read_bytes()
    stones.append([stone(2)])
    edited(path, old)
    stones.append([stone(2), stone(3)])
    assert stones.read() == (stone(1), stone(2), stone(3))
    Tombstones(other).append([stone(7), stone(8), stone(9)])
    assert other.stat().st_size == path.stat().st_size
    other.replace(path)
    stones.append([stone(3)])
    assert stones.read() == (stone(7), stone(8), stone(9), stone(3))
    path.unlink()
    stones.append([stone(4)])
    assert stones.read() == (stone(4),)


def test_what_a_killed_process_left_is_dropped_by_another(path: Path) -> None:
    stones = Tombstones(path)
    stones.append([stone(1)])
    whole = path.read_bytes()
    Tombstones(path).append([stone(2)])
    for torn in (len(whole) + 1, path.stat().st_size - 1):
        edited(path, path.read_bytes()[:torn])
        stones.append([stone(3)])
        assert stones.read() == (stone(1), stone(3))
        path.write_bytes(whole)
        Tombstones(path).append([stone(2)])


def test_an_append_that_failed_leaves_nothing_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ended it: what was not written is not taken for written by the next one."""
    stones = Tombstones(path)
    stones.append([stone(1)])

    def killed(_handle: int, _lines: bytes, _at: int) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", killed)
        with pytest.raises(KeyboardInterrupt):
            stones.append([stone(2)])
    stones.append([stone(2), stone(3)])
    assert stones.read() == (stone(1), stone(2), stone(3))


# Marks


def test_what_was_added_after_a_mark(path: Path) -> None:
    stones = Tombstones(path)
    stones.found(os.urandom)
    named = path.read_bytes()
    stones.found(os.urandom)
    assert path.read_bytes() == named, "a log is named once"
    assert stones.since(START)[0] == ()
    stones.append([stone(1), stone(2)])
    found, mark = stones.since(START)
    assert (found, mark.lines, mark.upto) == ((stone(1), stone(2)), 3, path.stat().st_size)
    assert stones.since(mark) == ((), mark)
    stones.append([stone(2), stone(3)])
    assert stones.since(mark)[0] == (stone(3),)
    some, half = stones.since(START, most=2)
    assert some == (stone(1),)
    assert stones.since(half)[0] == (stone(2), stone(3))
    assert stones.read() == (stone(1), stone(2), stone(3))


def test_what_lies_before_a_mark_is_not_read_for_what_comes_after(path: Path) -> None:
    stones = Tombstones(path)
    stones.append([stone(1), stone(2)])
    mark = stones.since(START)[1]
    stones.append([stone(3)])
    content = path.read_bytes()
    path.write_bytes(b"x" * 20 + content[20:])
    assert stones.since(mark)[0] == (stone(3),)
    with pytest.raises(TombstonesDamaged):
        stones.since(START)


def test_a_log_that_does_not_go_through_the_mark_is_lost(path: Path) -> None:
    stones, others = Tombstones(path), Tombstones(path.with_name("other"))
    for each in (stones, others):
        each.found(os.urandom)
    old = path.read_bytes()
    for each in (stones, others):
        each.append([stone(1)])
    mark, whole = stones.since(START)[1], path.read_bytes()
    with pytest.raises(TombstonesLost):
        others.since(mark)
    for wrong in (b"", old, whole[:-1], whole[:-5] + whole[-4:]):
        path.write_bytes(wrong)
        with pytest.raises(TombstonesLost):
            stones.since(mark)
    path.unlink()
    for any_mark in (mark, START):
        with pytest.raises(TombstonesLost):
            stones.since(any_mark)


def test_what_follows_the_mark_must_be_chained_to_it(path: Path) -> None:
    stones = Tombstones(path)
    stones.append([stone(1)])
    mark = stones.since(START)[1]
    other = Tombstones(path.with_name("other"))
    other.append([stone(2)])
    path.write_bytes(path.read_bytes() + path.with_name("other").read_bytes())
    with pytest.raises(TombstonesDamaged):
        stones.since(mark)


def test_any_byte_that_changed_before_a_mark_is_seen(path: Path) -> None:
    """Whatever happened to the medium: a start reads all of the log, not only what is new."""
    stones = Tombstones(path)
    stones.found(os.urandom)
    stones.append([stone(1), stone(2)])
    mark = stones.since(START)[1]
    stones.append([stone(3)])
    whole = path.read_bytes()
    stones.verify(START, mark)
    for at in range(len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(TombstonesDamaged):
            stones.verify(mark)


def test_a_log_is_verified_to_reach_every_mark(path: Path) -> None:
    stones = Tombstones(path)
    with pytest.raises(TombstonesLost):
        stones.verify(START)
    stones.found(os.urandom)
    named = stones.since(START)[1]
    stones.append([stone(1), stone(2)])
    end, whole = stones.since(START)[1], path.read_bytes()
    path.write_bytes(whole + whole[-90:-1])
    stones.verify(START, named, end)  # a half-written line was never acknowledged
    for short in (whole[:-1], whole[: named.upto], b""):
        path.write_bytes(short)
        with pytest.raises(TombstonesLost):
            stones.verify(named, end)
    path.write_bytes(whole)
    with pytest.raises(TombstonesLost):
        stones.verify(named, Mark(end.upto, end.lines, named.check))
    with pytest.raises(TombstonesLost):
        stones.verify(Mark(named.upto - 3, named.lines, named.check))

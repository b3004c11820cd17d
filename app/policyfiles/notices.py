"""Released notices never change (consent.md section 1; consent rule 58): `notices.lock` holds the digest of each.

A line is `<hex SHA-256>  <path under notices/>`, in order of release. `release` only ever adds lines.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from consent.policy import Notice, Problem
from consent.vocabulary import Locale, PurposeId

LOCK = "notices.lock"
NOTICE = re.compile(r"notices/(?P<purpose>[a-z][a-z0-9_]*)/v(?P<version>[1-9]\d*)\.(?P<locale>fr|en|es|pt)\.md")
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64})  (?P<path>\S+)")


@dataclass(frozen=True, slots=True)
class Lock:
    """What has been released: path in the pack -> digest; and the lines that cannot be read."""

    digests: Mapping[str, str]
    problems: tuple[Problem, ...]


def read_lock(content: bytes) -> Lock:
    """Return the lock file's lines; a broken or contradicting one is a problem."""
    digests: dict[str, str] = {}
    problems = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        found = _LINE.fullmatch(line)
        path = f"notices/{found['path']}" if found else ""
        if found is None or not NOTICE.fullmatch(path):
            problems.append(Problem(LOCK, f"line {number}", "a line is a digest, two spaces and a notice's path"))
        elif digests.setdefault(path, found["digest"]) != found["digest"]:
            problems.append(Problem(LOCK, f"line {number}", f"{path} was released with another digest above"))
    return Lock(digests, tuple(problems))


def broken(lock: Lock, files: Mapping[str, bytes]) -> Iterator[Problem]:
    """Yield each released notice that is gone or no longer says what it said."""
    yield from lock.problems
    for path, digest in lock.digests.items():
        if path not in files:
            yield Problem(path, "notice", "this notice was released and cannot go; put it back")
        elif hashlib.sha256(files[path]).hexdigest() != digest:
            yield Problem(path, "notice", "this notice was released and cannot change; write a new version")


def unreleased(
    lock: Lock, notices: Mapping[tuple[PurposeId, int, Locale], Notice], shown: Mapping[str, int]
) -> Iterator[Problem]:
    """Yield each notice that a purpose shows (`shown`: purpose -> version) without having been released."""
    for notice in notices.values():
        path = f"notices/{notice.purpose}/v{notice.version}.{notice.locale}.md"
        if shown.get(notice.purpose) == notice.version and path not in lock.digests:
            yield Problem(path, "notice", "release this notice (policy lock) before a purpose shows it")


def read_notice(path: str, content: bytes) -> Notice | Problem:
    """Return the notice at `path`, or what is wrong with it."""
    found = NOTICE.fullmatch(path)
    if found is None:
        return Problem(path, "path", "a notice is notices/<purpose>/v<N>.<fr|en|es|pt>.md")
    try:
        body = content.decode("utf-8")
    except UnicodeDecodeError:
        return Problem(path, "notice", "save it as UTF-8")
    digest = hashlib.sha256(content).hexdigest()
    return Notice(PurposeId(found["purpose"]), int(found["version"]), Locale(found["locale"]), body, digest)


def released(lock: Lock, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the paths of notices that are in the pack and not yet in its lock, in order."""
    return tuple(path for path in sorted(files) if NOTICE.fullmatch(path) and path not in lock.digests)


def longer(content: bytes, files: Mapping[str, bytes], paths: tuple[str, ...]) -> bytes:
    """Return the lock file with a line for each of `paths` after what it already says, byte for byte."""
    before = content if not content or content.endswith(b"\n") else content + b"\n"
    lines = (f"{hashlib.sha256(files[path]).hexdigest()}  {path.removeprefix('notices/')}\n" for path in paths)
    return before + "".join(lines).encode()

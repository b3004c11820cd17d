"""The policy pack on disk: TOML, CSV and notices to one `consent.policy.Policy`, or every fault at once.

Three steps (consent.md section 1): read (standard library), shape (marshmallow, unknown keys refused), meaning
(`consent.policy.check`). An entry that fails its shape is left out and remembered, so that what refers to it is not
reported a second time. Leaves out adopting a pack: that is a use case, and goes to the ledger.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marshmallow import Schema, ValidationError

from app.exports.errors import ProfileFaults
from app.exports.profile import Profile
from app.policyfiles import notices, shapes
from consent.parties import Party
from consent.policy import Controller, ExportProfile, Journey, Notice, Policy, Problem, Retention, check
from consent.vocabulary import Locale, PurposeId

_FIXED = ("pack.toml", "categories.toml", "purposes.toml", "retention.toml", "rights.toml", "roles.toml")
REQUIRED = (*_FIXED, "institutions.toml", notices.LOCK)
_NAMED = re.compile(r"(controllers|parties|journeys|exports)/[a-z][a-z0-9_]*\.toml|generalisation/[a-z][a-z0-9_]*\.csv")
_KINDS = {
    "categories.toml": ("category", "cluster"),
    "purposes.toml": ("purpose",),
    "retention.toml": ("retention",),
    "rights.toml": ("right", "figure"),
    "roles.toml": ("role",),
    "institutions.toml": ("institution",),
}


class PolicyFaults(Exception):
    """The pack cannot be used; `problems` lists everything wrong with it, by file and key."""

    code = "policy_faults"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{each.file}: {each.key}: {each.sentence}" for each in self.problems))


def load(path: Path) -> Policy:
    """Return the pack in the folder `path`. Raises PolicyFaults with every problem of every file."""
    files = read_files(path)
    reader = _Reader(files)
    policy = reader.policy()
    problems = {*reader.problems, *check(policy, frozenset(reader.faulty))}
    if problems:
        raise PolicyFaults(sorted(problems, key=lambda problem: (problem.file, problem.key, problem.sentence)))
    return policy


def lock(path: Path) -> tuple[str, ...]:
    """Release every new notice of the pack and return their paths; a released line never changes.

    Raises PolicyFaults, and writes nothing, when a released notice was changed or removed, or a new one is not text.
    """
    files = read_files(path)
    content = files.get(notices.LOCK, b"")
    known = notices.read_lock(content)
    new = notices.released(known, files)
    read = [notices.read_notice(each, files[each]) for each in new]
    problems = [*notices.broken(known, files), *(each for each in read if isinstance(each, Problem))]
    empty = [each for each in read if isinstance(each, Notice) and not each.body.strip()]
    problems += [Problem(f"notices/{each.purpose}", f"v{each.version}.{each.locale}", "empty") for each in empty]
    if problems:
        raise PolicyFaults(problems)
    if new:
        _replace(path / notices.LOCK, notices.longer(content, files, new))
    return new


def digest(files: Mapping[str, bytes]) -> str:
    """Return the pack's hex SHA-256: path, length and bytes of every file, in order of path."""
    running = hashlib.sha256()
    for path in sorted(files):
        running.update(f"{path}\0{len(files[path])}\0".encode())
        running.update(files[path])
    return running.hexdigest()


def read_files(path: Path) -> dict[str, bytes]:
    """Return every file of the folder by its path inside it; what begins with a dot is not part of a pack."""
    if not path.is_dir():
        raise PolicyFaults([Problem(path.name, "folder", "there is no such folder")])
    inside = (file for file in sorted(path.rglob("*")) if file.is_file())
    named = {file.relative_to(path).as_posix(): file for file in inside}
    return {name: file.read_bytes() for name, file in named.items() if not re.search(r"(^|/)\.", name)}


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    with fresh.open("rb") as written:
        os.fsync(written.fileno())
    fresh.replace(path)


class _Reader:
    """Reads one pack and gathers faults; an entry that cannot be built is left out and named in `faulty`."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.problems: list[Problem] = list(_strangers(files))
        self.faulty: set[str] = set()
        self._files = files

    def policy(self) -> Policy:
        """Return as much of the pack as can be built."""
        categories = self._tables("categories.toml", clusters=shapes.ClusterShape, categories=shapes.CategoryShape)
        rights = self._tables("rights.toml", rights=shapes.RightShape, figures=shapes.FigureShape)
        purposes = self._by_id(self._tables("purposes.toml", purposes=shapes.PurposeShape)["purposes"], "purposes.toml")
        hierarchies = self._hierarchies()
        return Policy(
            version=str(self._table("pack.toml", shapes.PackShape(), {}).get("version", "")),
            digest=digest(self._files),
            controllers=self._folder("controllers", shapes.ControllerShape(), Controller),
            clusters=self._by_id(categories["clusters"], "categories.toml"),
            categories=self._by_id(categories["categories"], "categories.toml"),
            purposes=purposes,
            parties=self._folder("parties", shapes.PartyShape(), Party),
            retentions=self._retentions(),
            rights=self._by_id(rights["rights"], "rights.toml", "right"),
            roles=self._by_id(self._tables("roles.toml", roles=shapes.RoleShape)["roles"], "roles.toml"),
            institutions=self._by_id(
                self._tables("institutions.toml", institutions=shapes.InstitutionShape)["institutions"],
                "institutions.toml",
            ),
            notices=self._notices({each.id: each.notice_version for each in purposes.values()}),
            figures=self._by_id(rights["figures"], "rights.toml"),
            journeys=self._folder("journeys", shapes.JourneyShape(), Journey),
            exports=self._exports(hierarchies),
            hierarchies=hierarchies,
        )

    def _say(self, file: str, key: str, sentence: str) -> None:
        self.problems.append(Problem(file, key, sentence))

    def _toml(self, file: str) -> dict[str, Any] | None:
        """Return the file's tables, or None when there are none to be had (a missing file is reported already)."""
        if file not in self._files:
            return None
        try:
            return tomllib.loads(self._files[file].decode("utf-8"))
        except UnicodeDecodeError:
            self._say(file, "file", "save it as UTF-8")
        except tomllib.TOMLDecodeError as fault:
            self._say(file, "file", f"this is not TOML: {fault}")
        return None

    def _shaped(self, file: str, prefix: str, schema: Schema, raw: Any) -> Any | None:
        try:
            return schema.load(raw)
        except ValidationError as fault:
            for key, sentence in _flat(fault.messages, prefix):
                self._say(file, key, sentence)
        return None

    def _table(self, file: str, schema: Schema, otherwise: Any) -> Any:
        raw = self._toml(file)
        built = None if raw is None else self._shaped(file, "", schema, raw)
        return otherwise if built is None else built

    def _tables(self, file: str, **schemas: type[Schema]) -> dict[str, list[Any]]:
        """Return the entries of each list of tables in `file`; nothing else may stand in it."""
        raw = self._toml(file)
        if raw is None:
            self.faulty |= {f"{kind}:*" for kind in _KINDS[file]}
            return {name: [] for name in schemas}
        for key in sorted(raw.keys() - schemas.keys()):
            self._say(file, key, "unknown key")
        return {name: self._entries(file, name, schema(), raw.get(name)) for name, schema in schemas.items()}

    def _entries(self, file: str, name: str, schema: Schema, raw: Any) -> list[Any]:
        if not isinstance(raw, list) or not raw:
            self._say(file, name, f"at least one [[{name}]] is wanted")
            self.faulty.add(f"{_singular(name)}:*")
            return []
        return [
            built for at, entry in enumerate(raw) if (built := self._entry(file, name, schema, at, entry)) is not None
        ]

    def _entry(self, file: str, name: str, schema: Schema, at: int, raw: Any) -> Any | None:
        called = next(
            (raw[key] for key in ("id", "right") if isinstance(raw, dict) and isinstance(raw.get(key), str)), None
        )
        built = self._shaped(file, f"{name}[{at if called is None else called}]", schema, raw)
        if built is None:
            self.faulty.add(f"{_singular(name)}:{called or '*'}")
        return built

    def _by_id(self, entries: Sequence[Any], file: str, key: str = "id") -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for entry in entries:
            name = getattr(entry, key)
            if name in found:
                self._say(file, str(name), "this id appears twice")
            found[name] = entry
        return found

    def _folder(self, folder: str, schema: Schema, kind: type) -> dict[Any, Any]:
        """Return the one entry of each file of a folder by its id, which is also the file's name."""
        found = {}
        names = [name for name in self._files if name.startswith(f"{folder}/") and _NAMED.fullmatch(name)]
        if not names:
            self._say(folder, "folder", "at least one file is wanted")
            self.faulty.add(f"{kind.__name__.lower()}:*")
        for file in names:
            stem = Path(file).stem
            built = self._table(file, schema, None)
            if built is None:
                self.faulty.add(f"{kind.__name__.lower()}:{stem}")
            elif built.id != stem:
                self._say(file, "id", f"the file is called {stem}, so is its entry")
                self.faulty |= {f"{kind.__name__.lower()}:{stem}", f"{kind.__name__.lower()}:{built.id}"}
            else:
                found[built.id] = built
        return found

    def _retentions(self) -> tuple[Retention, ...]:
        rows = self._tables("retention.toml", retentions=shapes.RetentionShape)["retentions"]
        return tuple(retention for row in rows for retention in row)

    def _notices(self, shown: Mapping[str, int]) -> dict[tuple[PurposeId, int, Locale], Notice]:
        found = {}
        for file in self._files:
            if notices.NOTICE.fullmatch(file):
                read = notices.read_notice(file, self._files[file])
                if isinstance(read, Problem):
                    self.problems.append(read)
                    self.faulty.add("notice:*")
                else:
                    found[read.purpose, read.version, read.locale] = read
        if notices.LOCK in self._files:
            lock = notices.read_lock(self._files[notices.LOCK])
            self.problems += [*notices.broken(lock, self._files), *notices.unreleased(lock, found, shown)]
        return found

    def _hierarchies(self) -> dict[str, tuple[tuple[str, ...], ...]]:
        found = {}
        for file in self._files:
            if file.startswith("generalisation/") and _NAMED.fullmatch(file):
                try:
                    lines = self._files[file].decode("utf-8").splitlines()
                    found[Path(file).stem] = tuple(tuple(row) for row in csv.reader(lines, strict=True))
                except (UnicodeDecodeError, csv.Error) as fault:
                    self._say(file, "file", f"this is not CSV in UTF-8: {fault}")
        return found

    def _exports(self, hierarchies: Mapping[str, tuple[tuple[str, ...], ...]]) -> dict[str, ExportProfile]:
        found = {}
        for file in self._files:
            if file.startswith("exports/") and _NAMED.fullmatch(file):
                built = self._export(file, hierarchies)
                if built is not None:
                    found[built.id] = built
        return found

    def _export(self, file: str, hierarchies: Mapping[str, tuple[tuple[str, ...], ...]]) -> ExportProfile | None:
        raw = self._toml(file)
        if raw is None:
            return None
        own = {key: raw.pop(key) for key in ("purpose", "sources") if key in raw}
        shaped = self._shaped(file, "", shapes.ExportShape(), own)
        faults = _profile_faults(raw, hierarchies)
        for fault in faults:
            key, _, sentence = fault.partition(": ")
            self._say(file, key, sentence)
        if raw.get("id") != Path(file).stem and not faults:
            self._say(file, "id", f"the file is called {Path(file).stem}, so is its entry")
        return None if shaped is None or faults else ExportProfile(id=raw["id"], plain=raw, **shaped)


def _profile_faults(
    raw: Mapping[str, object], hierarchies: Mapping[str, tuple[tuple[str, ...], ...]]
) -> tuple[str, ...]:
    try:
        Profile.from_plain(raw, hierarchies)
    except ProfileFaults as fault:
        return fault.faults
    return ()


def _strangers(files: Mapping[str, bytes]) -> Iterator[Problem]:
    """What a pack lacks, and what does not belong in one: a misspelt file would otherwise be silently ignored."""
    for file in REQUIRED:
        if file not in files:
            yield Problem(file, "file", "this file is missing")
    for file in files:
        if file not in REQUIRED and not _NAMED.fullmatch(file) and not notices.NOTICE.fullmatch(file):
            yield Problem(file, "file", "a pack has no such file; mend its name or take it out")


def _singular(name: str) -> str:
    return {"categories": "category"}.get(name, name.removesuffix("s"))


def _flat(messages: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield (key path, sentence) for each leaf of marshmallow's nested messages."""
    if isinstance(messages, Mapping):
        for key, value in messages.items():
            step = f"[{key}]" if isinstance(key, int) else f".{key}"
            yield from _flat(value, prefix if key == "_schema" else (prefix + step).removeprefix("."))
    elif isinstance(messages, list):
        for message in messages:
            yield from _flat(message, prefix)
    else:
        yield prefix or "file", str(messages).rstrip(".")

"""The pull side of the holder protocol: a holder answers every task from four callbacks (dsar.md section 4).

Records travel as they lie: sealed. The holder needs no key to answer, and what it sends can only be opened by the
authority. An answer is on disk before it is sent, and what an erasure found is on disk before the first record goes, so
that a task taken up again after a crash is answered the same. A task that is refused holds up no other. Leaves out the
push side and message signatures: the calls are made with the component's own DPoP-bound token.
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from . import parts
from .client import Authority, path_segment
from .disk import sync_folder
from .errors import Malformed, Refused, SdkError, Unreachable
from .parts import Found
from .scopes import Scope

_ANSWER_REFUSED: Final = frozenset({"upload_differs", "body_invalid"})
"""The authority's words for an answer that will not do: it lacks the records, or does not take what is said."""
_OF_THE_CALLER: Final = frozenset({401, 403})
"""Refusals that meet every task alike."""
_NAMED: Final = 128


class Kind(StrEnum):
    """What a holder is asked to do."""

    SEARCH = "search"
    ERASE = "erase"
    VERIFY = "verify"
    """Search again after an erasure; only what is retained may be there (dsar rule 53)."""
    RECTIFY = "rectify"
    RESTRICT = "restrict"


class Fate(StrEnum):
    """What becomes of one category under one purpose (dsar rule 48)."""

    ERASE = "erase"
    RETAIN = "retain"
    ANONYMISE = "anonymise"


class Status(StrEnum):
    """What a holder says of one subject, and of each category (dsar rule 40)."""

    FOUND = "found"
    NONE = "none"
    RETAINED = "retained"
    PARTIAL = "partial"
    ERASED = "erased"
    ANONYMISED = "anonymised"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Instruction:
    """What to do with one category under one purpose."""

    category: str
    purpose: str
    fate: Fate
    until: str | None = None
    """Only with retain: kept until, and not on, this day (YYYY-MM-DD)."""
    legal_ref: str | None = None
    cohort: str | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A corrected record, sealed by the authority (dsar rule 45)."""

    category: str
    record_id: str
    sealed: bytes


@dataclass(frozen=True, slots=True)
class Task:
    """One task; `subject` is this holder's own handle of the person."""

    id: str
    kind: Kind
    subject: str
    instructions: tuple[Instruction, ...] = ()
    changes: tuple[Change, ...] = ()
    restricted: bool = True
    """With restrict: on or off."""


Find = Callable[[Task], Iterable[Found]]
"""All records of `task.subject`, every category; asked before an erasure too."""
Erase = Callable[[Task, str], int]
"""Remove all records of the subject in one category, return how many went; doing it twice is harmless."""
Rectify = Callable[[Task, Change], int]
"""Replace a record, return 1, or 0 when there is no such record."""
Restrict = Callable[[Task], int]
"""Set or lift the restriction (GDPR art. 18), return how many records it touches."""


class Holder:
    """Answers tasks for one component. `answers` is a directory of its own, where given answers rest."""

    def __init__(
        self,
        authority: Authority,
        answers: str | os.PathLike[str],
        *,
        find: Find,
        erase: Erase,
        rectify: Rectify,
        restrict: Restrict,
    ) -> None:
        self._authority = authority
        self._answers = Path(answers)
        self._find, self._erase, self._rectify, self._restrict = find, erase, rectify, restrict
        self._answers.mkdir(mode=0o700, parents=True, exist_ok=True)

    def work(self) -> int:
        """Say that this holder is alive, take what is to be done, do it; return how many tasks were answered.

        Raises `Unreachable` or `Refused` when the authority cannot be spoken to; every task then comes again. A
        callback that fails answers `error` for its task: the case goes on being incomplete, in everybody's sight. So
        does a task that is refused by itself; the first such `Refused` is raised when the others are done.
        """
        self._authority.call("POST", "/api/v1/holder/heartbeat", Scope.CASES_FULFIL, {})
        waiting = self._authority.call("GET", "/api/v1/holder/tasks", Scope.CASES_FULFIL)
        tasks = [_task(item) for item in _listed(waiting)]
        refusals = [refusal for task in tasks if (refusal := self._refusal(task)) is not None]
        if refusals:
            raise refusals[0]
        return len(tasks)

    def _refusal(self, task: Task) -> Refused | None:
        """Answer a task; one that is refused by itself is answered `error`, with the authority's own code."""
        try:
            self.answer(task)
        except Refused as refusal:
            if not 400 <= refusal.status < 500 or refusal.status in _OF_THE_CALLER:
                raise
            with suppress(Refused):  # the task is gone, or somebody else answered it: the first refusal says why
                self._send(task, _failed(refusal.error))
            return refusal
        return None

    def answer(self, task: Task) -> None:
        """Do one task and send its answer; a task answered before is answered the same, and done no second time."""
        place = self._place(task)
        kept = _read(place)
        answer = kept if kept is not None else self._done(task)
        if kept is None and _lasting(task, answer):
            _write(place, answer)
        try:
            self._send(task, answer)
        except Refused as refusal:
            if refusal.error in _ANSWER_REFUSED:
                place.unlink(missing_ok=True)  # the next time it is made, and records are sent, anew
            raise

    def _send(self, task: Task, answer: Mapping[str, Any]) -> None:
        """What does not last is said anew each time: the authority asks last for what was tried last."""
        path = f"/api/v1/holder/tasks/{path_segment(task.id)}/result"
        key = _answer_key(task, answer) if _lasting(task, answer) else None
        self._authority.call("POST", path, Scope.CASES_FULFIL, answer, idempotency_key=key)

    def _done(self, task: Task) -> dict[str, Any]:
        try:
            return _DOING[task.kind](self, task)
        except (Unreachable, Refused):
            raise
        except Exception as fault:  # noqa: BLE001 - whatever a component's own callback raises is its answer: error
            code = fault.code if isinstance(fault, SdkError) else "callback_failed"
            return _failed(code)

    def _search(self, task: Task) -> dict[str, Any]:
        counts, digest = self._send_parts(task, self._find(task))
        results = [_result(category, Status.FOUND, count) for category, count in sorted(counts.items())]
        return _answer(Status.FOUND if results else Status.NONE, results, digest)

    def _erasure(self, task: Task) -> dict[str, Any]:
        """Categories with a reason to stay, stay whole; those for a cohort are handed over first, then removed.

        What is taken up again hands over nothing and counts nothing anew: some of it may be gone already.
        """
        retained = _kept_whole(task)
        gone = {one.category for one in task.instructions} - retained.keys()
        pooled = {one.category for one in task.instructions if one.fate is Fate.ANONYMISE} & gone
        begun = _read(self._place(task, "begun")) or self._begin(task, pooled)
        counts: dict[str, int] = begun["counts"]
        results = [self._erased(task, name, counts.get(name, 0), pooled=name in pooled) for name in sorted(gone)]
        results += _retained(counts, retained)
        return _answer(_overall(results), results, begun["digest"])

    def _begin(self, task: Task, pooled: Collection[str]) -> dict[str, Any]:
        """Hand over what goes to a cohort, then note what there is; nothing is removed before that is on disk.

        It stays there: an answer that is refused later is made from it again.
        """
        counts: dict[str, int] = {}
        found = _counting(self._find(task), counts)
        _, digest = self._send_parts(task, (one for one in found if one.category in pooled))
        begun = {"counts": counts, "digest": digest}
        _write(self._place(task, "begun"), begun)
        return begun

    def _erased(self, task: Task, category: str, noted: int, *, pooled: bool) -> dict[str, Any]:
        """Remove a category of which `noted` records were there; what was handed over is counted as it was then."""
        count = max(noted, self._erase(task, category))
        if pooled and noted:
            return _result(category, Status.ANONYMISED, noted)
        return _result(category, Status.ERASED if count else Status.NONE, count)

    def _verification(self, task: Task) -> dict[str, Any]:
        retained, counts = _kept_whole(task), _counts(self._find(task))
        left = {category: count for category, count in counts.items() if category not in retained}
        results = [_result(category, Status.FOUND, count) for category, count in sorted(left.items())]
        results += _retained(counts, retained)
        return _answer(Status.FOUND if left else _overall(results), results)

    def _rectification(self, task: Task) -> dict[str, Any]:
        done: dict[str, int] = {}
        missing = False
        for change in task.changes:
            count = self._rectify(task, change)
            done[change.category] = done.get(change.category, 0) + count
            missing = missing or count == 0
        results = [_result(name, Status.FOUND if n else Status.NONE, n) for name, n in sorted(done.items())]
        if missing:
            return {**_answer(Status.PARTIAL, results), "reason": "record_not_found"}
        return _answer(Status.FOUND, results)

    def _restriction(self, task: Task) -> dict[str, Any]:
        return _answer(Status.FOUND if self._restrict(task) else Status.NONE, [])

    def _send_parts(self, task: Task, found: Iterable[Found]) -> tuple[dict[str, int], str | None]:
        """Upload records in numbered parts; return the counts by category and the digest over all parts."""
        counts: dict[str, int] = {}
        digest = hashlib.sha256()
        for number, part in enumerate(parts.cut(_counting(found, counts)), start=1):
            path = f"/api/v1/holder/tasks/{path_segment(task.id)}/parts/{number}"
            self._authority.send("PUT", path, Scope.CASES_FULFIL, part, parts.MEDIA_TYPE)
            digest.update(part)
        return counts, digest.hexdigest() if counts else None

    def _place(self, task: Task, kind: str = "json") -> Path:
        """The file's name is a digest: a task's id comes from outside."""
        return self._answers / f"{hashlib.sha256(task.id.encode()).hexdigest()}.{kind}"


_DOING: Mapping[Kind, Callable[[Holder, Task], dict[str, Any]]] = {
    Kind.SEARCH: Holder._search,
    Kind.ERASE: Holder._erasure,
    Kind.VERIFY: Holder._verification,
    Kind.RECTIFY: Holder._rectification,
    Kind.RESTRICT: Holder._restriction,
}


def _lasting(task: Task, answer: Mapping[str, Any]) -> bool:
    """Say whether an answer stays the same when asked again: an error, and what an erasure left, are looked at anew."""
    leftover = task.kind is Kind.VERIFY and answer["status"] == Status.FOUND
    return answer["status"] != Status.ERROR and not leftover


def _read(place: Path) -> dict[str, Any] | None:
    try:
        said: dict[str, Any] = json.loads(place.read_bytes())
    except FileNotFoundError:
        return None
    return said


def _write(place: Path, said: Mapping[str, Any]) -> None:
    """Write a file that is there as a whole, on disk, or not at all."""
    draft = place.with_suffix(".draft")
    with draft.open("wb") as file:
        file.write(json.dumps(said).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.rename(place)
    sync_folder(place.parent)


def _kept_whole(task: Task) -> dict[str, Instruction]:
    return {one.category: one for one in task.instructions if one.fate is Fate.RETAIN}


def _counting(found: Iterable[Found], counts: dict[str, int]) -> Iterable[Found]:
    """Let records through and count them by category."""
    for one in found:
        counts[one.category] = counts.get(one.category, 0) + 1
        yield one


def _counts(found: Iterable[Found]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in found:
        counts[one.category] = counts.get(one.category, 0) + 1
    return counts


def _retained(counts: Mapping[str, int], retained: Mapping[str, Instruction]) -> list[dict[str, Any]]:
    return [
        {
            **_result(category, Status.RETAINED, count),
            "purpose": retained[category].purpose,
            "reason": retained[category].legal_ref or "retention",
            "until": retained[category].until,
        }
        for category, count in sorted(counts.items())
        if category in retained
    ]


def _overall(results: Iterable[Mapping[str, Any]]) -> Status:
    seen = {result["status"] for result in results}
    for status in (Status.RETAINED, Status.ANONYMISED, Status.ERASED):
        if status in seen:
            return status
    return Status.NONE


def _result(category: str, status: Status, count: int) -> dict[str, Any]:
    return {"category": category, "status": status.value, "count": count}


def _failed(code: str) -> dict[str, Any]:
    return {"status": Status.ERROR, "reason": code, "categories": []}


def _answer(status: Status, results: list[dict[str, Any]], digest: str | None = None) -> dict[str, Any]:
    answer: dict[str, Any] = {"status": status.value, "categories": results}
    return answer if digest is None else {**answer, "digest": digest}


def _answer_key(task: Task, answer: Mapping[str, Any]) -> str:
    """The same answer has the same key; a different one, after an error, another."""
    said = json.dumps([task.id, answer], sort_keys=True).encode()
    return hashlib.sha256(said).hexdigest()


def _listed(answer: Any) -> list[Any]:
    tasks = answer.get("tasks") if isinstance(answer, dict) else None
    if not isinstance(tasks, list):
        raise Malformed("the list of tasks has another shape")
    return tasks


def _task(item: Any) -> Task:
    """Read one task; an unknown kind or fate is `Malformed`, never skipped."""
    try:
        return Task(
            id=_name(item["id"]),
            kind=Kind(item["kind"]),
            subject=_name(item["subject"]),
            instructions=tuple(_instruction(one) for one in item.get("instructions", ())),
            changes=tuple(_change(one) for one in item.get("changes", ())),
            restricted=item.get("restricted", True) is True,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise Malformed("a task has another shape") from None


def _instruction(item: Mapping[str, Any]) -> Instruction:
    return Instruction(
        category=_name(item["category"]),
        purpose=_name(item["purpose"]),
        fate=Fate(item["fate"]),
        until=item.get("until"),
        legal_ref=item.get("legal_ref"),
        cohort=item.get("cohort"),
    )


def _change(item: Mapping[str, Any]) -> Change:
    return Change(_name(item["category"]), _name(item["record_id"]), b64decode(item["sealed"], validate=True))


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= _NAMED:
        raise Malformed("a name in a task is missing or too long")
    return value

"""The holder protocol, pull side: a component says it is alive, takes its tasks, uploads, answers (dsar.md section 4).

Dsar rules 39, 40, 42, 48, 53. The person is named by the handle of the component's party; records come sealed as they
lie in the holder's database and are not opened here. A task is the component's own or it does not exist. An answer that
is repeated changes nothing; another one after a good one is refused. Leaves out the push side and message signatures:
calls carry the component's DPoP-bound token.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from flask import request
from flask_smorest import Blueprint
from marshmallow import fields, validate
from werkzeug.exceptions import UnsupportedMediaType

from app.http.api.idempotency import once_per_key
from app.http.api.schemas import Body, JsonBlueprint, mimetype, refusals
from app.http.api.services import ApiServices, HolderUnit, PartFiles
from app.http.doors import ClientActor
from app.http.errors import (
    BodyInvalid,
    NotHere,
    PartOutOfOrder,
    TaskAnswered,
    Unavailable,
    UploadDiffers,
    UploadNotExpected,
)
from app.http.guard import client, current_client
from app.sdk import parts
from app.sdk.errors import BadLine
from app.sdk.scopes import Scope
from consent.policy import Policy
from consent.vocabulary import CategoryId, ComponentId, PurposeId
from dsar import usecases
from dsar.errors import CaseChanged, CaseUnknown
from dsar.package import AML_REASON, CategoryResult, HolderAnswer
from dsar.ports import HolderTask, Instruction
from dsar.vocabulary import FateKind, HolderStatus, TaskId, TaskKind

MOST_TASKS: Final = 100
_ID: Final = re.compile(r"[a-z]+_[a-z0-9]{1,58}")
_PRINTED: Final = r"^[^\x00-\x1f\x7f\ud800-\udfff]{1,400}\Z"
"""Text that every store and every file of a copy can hold."""
_MOST_RESULTS: Final = 500
_TRIES: Final = 5
"""Holders of one case answer at the same moment; the later one is written anew over the earlier."""
_HELD: Final = frozenset({HolderStatus.FOUND, HolderStatus.PARTIAL, HolderStatus.RETAINED})
_DID: Final = _HELD | {HolderStatus.ERASED, HolderStatus.ANONYMISED}
_ALWAYS: Final = frozenset({HolderStatus.NONE, HolderStatus.RETAINED, HolderStatus.PARTIAL, HolderStatus.ERROR})
_SAYS: Mapping[TaskKind, frozenset[HolderStatus]] = {
    TaskKind.SEARCH: _ALWAYS | {HolderStatus.FOUND, HolderStatus.EXCLUDED},
    TaskKind.ERASE: _ALWAYS | {HolderStatus.ERASED, HolderStatus.ANONYMISED},
    TaskKind.VERIFY: _ALWAYS | {HolderStatus.FOUND},
}
"""What a holder can say to each kind of task."""
_WHY: Final = frozenset({HolderStatus.PARTIAL, HolderStatus.EXCLUDED, HolderStatus.ERROR})
"""What is said with a reason, of the whole and of a category; of a category also what is retained."""


class HeartbeatSchema(Body):
    """Nothing: that it comes is what it says."""


class TasksQuery(Body):
    """How many tasks at once."""

    limit = fields.Integer(load_default=MOST_TASKS, validate=validate.Range(1, MOST_TASKS))


class InstructionSchema(Body):
    """What becomes of one category under one purpose."""

    category = fields.String(required=True)
    purpose = fields.String(required=True)
    fate = fields.Enum(FateKind, by_value=True, required=True)
    until = fields.Date()
    legal_ref = fields.String()
    cohort = fields.String()


class TaskSchema(Body):
    """One task; `subject` is what the component's party calls the person."""

    id = fields.String(required=True)
    kind = fields.Enum(TaskKind, by_value=True, required=True)
    subject = fields.String(required=True)
    instructions = fields.List(fields.Nested(InstructionSchema), required=True)


class TasksSchema(Body):
    """What waits for this component, oldest first, behind it what failed, longest ago first; what is answered goes."""

    tasks = fields.List(fields.Nested(TaskSchema), required=True)


class ResultSchema(Body):
    """What the holder has, or did, in one category."""

    category = fields.String(required=True, validate=validate.Length(1, 64))
    status = fields.Enum(HolderStatus, by_value=True, required=True)
    count = fields.Integer(strict=True, required=True, validate=validate.Range(0, 1_000_000_000))
    reason = fields.String(load_default=None, validate=validate.Regexp(_PRINTED))
    purpose = fields.String(load_default=None, validate=validate.Length(1, 64))
    until = fields.Date(load_default=None)


class AnswerSchema(Body):
    """One answer to one task; `digest` is the hex SHA-256 over the parts that were sent, in order."""

    status = fields.Enum(HolderStatus, by_value=True, required=True)
    categories = fields.List(fields.Nested(ResultSchema), required=True, validate=validate.Length(0, _MOST_RESULTS))
    reason = fields.String(load_default=None, validate=validate.Regexp(_PRINTED))
    digest = fields.String(load_default=None, validate=validate.Regexp(r"^[0-9a-f]{64}\Z"))


def holder(services: ApiServices) -> Blueprint:
    """Return the doors of the holder protocol."""
    room = JsonBlueprint("api_holder", __name__, url_prefix="/api/v1/holder", description="The holder protocol")

    @room.route("/heartbeat", methods=["POST"])
    @client(Scope.CASES_FULFIL)
    @once_per_key(room, services)
    @room.arguments(HeartbeatSchema)
    @room.response(204)
    @refusals(room, 400, 401, 403, 413, 415, 422)
    def heartbeat(_body: Mapping[str, Any]) -> None:
        """Say that this component is alive."""
        actor = current_client()
        with services.fulfilling() as unit:
            unit.seen(ComponentId(actor.client), actor.controller, services.clock.now())
            unit.commit()

    @room.route("/tasks", methods=["GET"])
    @client(Scope.CASES_FULFIL)
    @room.arguments(TasksQuery, location="query")
    @room.response(200, TasksSchema)
    @refusals(room, 401, 403, 422)
    def tasks(query: Mapping[str, Any]) -> Any:
        """Take what is to be done."""
        actor = current_client()
        with services.pulling() as unit:
            found = _waiting(unit, actor, query["limit"])
            named = {task.subject: unit.handle_of(task.subject, actor.party) for task in found}
        if None in named.values():
            with services.fulfilling() as unit:
                named = {subject: unit.name(subject, actor.controller, actor.party) for subject in named}
                unit.commit()
        return {"tasks": [_shown(task, str(named[task.subject])) for task in found]}

    @room.route("/tasks/<task>/parts/<int:number>", methods=["PUT"])
    @client(Scope.CASES_FULFIL)
    @room.response(204)
    @refusals(room, 401, 403, 404, 409, 413, 415, 422)
    def part(task: str, number: int) -> None:
        """Upload one part: sealed records, one a line; sent again while the task is open, it is replaced."""
        request.max_content_length = parts.MOST_BYTES
        with services.pulling() as unit:
            own = _own(unit, current_client(), task)
        _expecting(own)
        if mimetype() != parts.MEDIA_TYPE:
            raise UnsupportedMediaType
        raw = request.get_data(cache=False)
        _check_part(services.policy, raw)
        _write(services.parts, own.id, number, raw)

    @room.route("/tasks/<task>/result", methods=["POST"])
    @client(Scope.CASES_FULFIL)
    @once_per_key(room, services)
    @room.arguments(AnswerSchema)
    @room.response(204)
    @refusals(room, 400, 401, 403, 404, 409, 413, 415, 422, 503)
    def result(body: Mapping[str, Any], task: str) -> None:
        """Answer a task; the same answer twice is one."""
        actor = current_client()
        for _ in range(_TRIES):
            try:
                return _record(services, actor, task, body)
            except CaseChanged:
                continue
        raise Unavailable(retry_after=1)

    return room


def _waiting(unit: HolderUnit, actor: ClientActor, limit: int) -> list[HolderTask]:
    found = unit.desk.cases.open_tasks(ComponentId(actor.client), limit=limit)
    return [task for task in found if task.controller == actor.controller]


def _own(unit: HolderUnit, actor: ClientActor, task: str) -> HolderTask:
    """Raises NotHere for another component's task and for none alike."""
    if not _ID.fullmatch(task):
        raise NotHere
    try:
        found = unit.desk.cases.task(TaskId(task))
    except CaseUnknown:
        raise NotHere from None
    if (found.holder, found.controller) != (actor.client, actor.controller):
        raise NotHere
    return found


def _shown(task: HolderTask, handle: str) -> dict[str, Any]:
    return {
        "id": task.id,
        "kind": task.kind,
        "subject": handle,
        "instructions": [_told(one) for one in task.instructions],
    }


def _told(one: Instruction) -> dict[str, Any]:
    optional = {"until": one.until, "legal_ref": one.legal_ref, "cohort": one.cohort}
    told = {name: value for name, value in optional.items() if value is not None}
    return {"category": one.category, "purpose": one.purpose, "fate": one.fate, **told}


# --- parts


def _handed_over(task: HolderTask) -> frozenset[CategoryId] | None:
    """Return which categories a task wants the records of; None for all of them."""
    if task.kind is TaskKind.SEARCH:
        return None
    pooled = (one.category for one in task.instructions if one.fate is FateKind.ANONYMISE)
    return frozenset(pooled) if task.kind is TaskKind.ERASE else frozenset()


def _expecting(task: HolderTask) -> None:
    if _handed_over(task) == frozenset():
        raise UploadNotExpected
    if task.answered_at is not None:
        raise TaskAnswered


def _check_part(policy: Policy, raw: bytes) -> None:
    try:
        found = parts.read(raw)
    except BadLine as fault:
        raise BodyInvalid(f"lines.{fault.line}") from None
    strange = [number for number, one in enumerate(found, start=1) if one.category not in policy.categories]
    if strange:
        raise BodyInvalid(*(f"lines.{number}.category" for number in strange[:20]))


def _write(files: PartFiles, task: TaskId, number: int, raw: bytes) -> None:
    if not 1 <= number <= parts.MOST_PARTS:
        raise PartOutOfOrder
    try:
        files.write_part(task, number, raw)
    except LookupError:
        raise PartOutOfOrder from None


# --- answers


def _record(services: ApiServices, actor: ClientActor, task: str, body: Mapping[str, Any]) -> None:
    """Raises NotHere, BodyInvalid, UploadDiffers, MoveRefused; CaseChanged when somebody else wrote the case."""
    with services.pulling() as unit:
        own = _own(unit, actor, task)
    answer = _answer(services, actor, body)
    faults = list(_faults(services.policy, own, answer))
    if faults:
        raise BodyInvalid(*faults)
    kept = _kept(services, actor, own, answer)
    with services.fulfilling() as unit:
        _same(unit, actor, own)
        if kept is not None:
            services.parts.keep_parts(own.id, kept)
        usecases.record_answer(unit.desk, own.id, answer)
        unit.let_go(own.subject, actor.party)
        unit.commit()


def _same(unit: HolderUnit, actor: ClientActor, seen: HolderTask) -> None:
    """Raises CaseChanged when a task is no longer as it was seen."""
    if _own(unit, actor, seen.id) != seen:
        raise CaseChanged


def _answer(services: ApiServices, actor: ClientActor, body: Mapping[str, Any]) -> HolderAnswer:
    return HolderAnswer(
        holder=ComponentId(actor.client),
        status=body["status"],
        answered_at=services.clock.now(),
        categories=tuple(_category(one) for one in body["categories"]),
        reason=body["reason"],
        digest=body["digest"],
    )


def _category(said: Mapping[str, Any]) -> CategoryResult:
    return CategoryResult(
        category=CategoryId(said["category"]),
        status=said["status"],
        count=said["count"],
        reason=said["reason"],
        purpose=PurposeId(said["purpose"]) if said["purpose"] else None,
        until=said["until"],
    )


def _faults(policy: Policy, task: HolderTask, answer: HolderAnswer) -> Iterator[str]:
    """Yield the place of everything that does not fit the task, the pack or the rest of the answer."""
    did = any(one.count and one.status in _DID for one in answer.categories)
    if answer.status not in _SAYS[task.kind] or (answer.status is HolderStatus.NONE and did):
        yield "status"
    if answer.status in _WHY and answer.reason is None:
        yield "reason"
    if answer.status in _DID - _WHY and not answer.categories:
        yield "categories"
    owes, unasked = any(_sent(task, answer).values()), _handed_over(task) == frozenset()
    if (answer.digest is None and owes) or (answer.digest is not None and unasked):
        yield "digest"
    seen = Counter(one.category for one in answer.categories)
    for place, one in enumerate(answer.categories):
        known = one.category in policy.categories and seen[one.category] == 1
        yield from (f"categories.{place}.{name}" for name in _result_faults(policy, task, one, known=known))


def _result_faults(policy: Policy, task: HolderTask, one: CategoryResult, *, known: bool) -> Iterator[str]:
    if not known:
        yield "category"
    if one.status not in _SAYS[task.kind]:
        yield "status"
    if one.status in _WHY | {HolderStatus.RETAINED} and one.reason is None:
        yield "reason"
    if one.purpose is not None and one.purpose not in policy.purposes:
        yield "purpose"


def _sent(task: HolderTask, answer: HolderAnswer) -> Counter[str]:
    """Return how many records of each category the answer says were uploaded; what is excluded was not (rule 42)."""
    wanted = _handed_over(task)
    sent = _HELD if wanted is None else frozenset({HolderStatus.ANONYMISED})
    return Counter(
        {
            str(one.category): one.count
            for one in answer.categories
            if one.status in sent and one.reason != AML_REASON and (wanted is None or one.category in wanted)
        }
    )


def _kept(services: ApiServices, actor: ClientActor, task: HolderTask, answer: HolderAnswer) -> int | None:
    """Hold the upload against the answer and return how many parts stay, None for all; those behind are of an earlier
    attempt. With no unit open: a large one takes long to read through. Raises UploadDiffers, CaseChanged."""
    if task.answered_at is not None or answer.status is HolderStatus.ERROR:
        return None  # after an error the next attempt replaces what there is
    try:
        return _length(services.parts, task, answer)
    except (UploadDiffers, LookupError):
        with services.pulling() as unit:
            _same(unit, actor, task)  # another answer came first, and its upload is used up
        raise UploadDiffers from None


def _length(files: PartFiles, task: HolderTask, answer: HolderAnswer) -> int:
    """Return how many parts, from the first, are the upload the answer names: 0 without a digest."""
    if answer.digest is None:
        return 0
    digest = hashlib.sha256()
    counts: Counter[str] = Counter()
    for number in range(1, files.parts(task.id) + 1):
        raw = files.read_part(task.id, number)
        digest.update(raw)
        counts.update(one.category for one in parts.read(raw))
        if digest.hexdigest() == answer.digest:
            if counts != _sent(task, answer):
                break
            return number
    raise UploadDiffers

"""The decision over HTTP: OpenID AuthZEN Authorization API 1.0, Access Evaluation and Access Evaluations.

How AuthZEN's words map to ours; what is not named here is ignored, as the specification asks:

- `subject`: `type` is `component`, `id` the OAuth client id of the asking component
- `action`: `name` is `read`, `hold`, `transmit` or `use_credential`
- `resource`: `type` is `category`, `id` the category; `properties.handle` what the *caller's* party calls the person
- `context`: `purpose`; optionally `consent`, to name one, and `recipient`, to whom the data would be sent

Presence is what this service saw, never what a caller says: every question is an unattended one. A caller may ask about
its own party's components, and about others' only where it may itself hold the same data for that purpose; so the door
is no oracle about agreements with others. `context.reason` is the one reason of a Deny; a Permit carries obligations.

Leaves out the three searches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import fields
from werkzeug.exceptions import BadRequest

from app.http.api.schemas import Body, JsonBlueprint, mimetype, read_json, refusals
from app.http.api.services import ApiServices, ApiUnit
from app.http.characters import strange_places
from app.http.doors import ClientActor
from app.http.guard import client, current_client
from app.sdk.scopes import Scope
from consent.decision import Deny, Obligations, Permit, Question
from consent.reasons import Reason
from consent.vocabulary import (
    Action,
    CategoryId,
    ComponentId,
    ConsentId,
    PairwiseHandle,
    PartyId,
    PurposeId,
    SubjectRef,
)

MOST = 100
"""Evaluations in one request."""
_LONGEST_WORD = 512
_NOBODY = SubjectRef("")


class Semantic(StrEnum):
    """How far a batch is evaluated (AuthZEN 1.0, `options.evaluations_semantic`)."""

    EXECUTE_ALL = "execute_all"
    DENY_ON_FIRST_DENY = "deny_on_first_deny"
    PERMIT_ON_FIRST_PERMIT = "permit_on_first_permit"


class Refusal(StrEnum):
    """Why the door itself says no, before the law is asked."""

    REQUEST_INVALID = "request_invalid"
    ASKER_NOT_YOURS = "asker_not_yours"


class EntitySchema(Body):
    """A subject, an action or a resource, in AuthZEN's words."""

    type = fields.String()
    id = fields.String()
    name = fields.String()
    properties = fields.Dict()


class EvaluationAsk(Body):
    """One question; see the table at the head of this module."""

    subject = fields.Nested(EntitySchema, required=True)
    action = fields.Nested(EntitySchema, required=True)
    resource = fields.Nested(EntitySchema, required=True)
    context = fields.Dict()


class EvaluationItem(Body):
    """One of several questions: what it says otherwise than the top."""

    subject = fields.Nested(EntitySchema)
    action = fields.Nested(EntitySchema)
    resource = fields.Nested(EntitySchema)
    context = fields.Dict()


class EvaluationsAsk(EvaluationItem):
    """Several questions; what is said at the top holds for each item that does not say otherwise."""

    evaluations = fields.List(fields.Nested(EvaluationItem))
    options = fields.Dict()


class DecisionSchema(Body):
    """Yes or no; `context.reason` says why not, `context.obligations` on which conditions."""

    decision = fields.Boolean(required=True)
    context = fields.Dict()


class DecisionsSchema(Body):
    """The answers, in the order of the questions."""

    evaluations = fields.List(fields.Nested(DecisionSchema), required=True)


class _Broken(Exception):
    """A question that cannot be read."""


@dataclass(frozen=True, slots=True)
class _Asked:
    component: str
    action: str
    category: str
    handle: str
    purpose: str
    consent: str | None
    recipient: str | None


def decisions(services: ApiServices) -> Blueprint:
    """Return the AuthZEN doors."""
    room = JsonBlueprint("api_decisions", __name__, url_prefix="/access/v1", description="AuthZEN 1.0 decisions")
    room.after_request(_echo)

    @room.route("/evaluation", methods=["POST"])
    @client(Scope.DECISIONS_EVALUATE)
    @room.doc(requestBody=_documented("Evaluation", EvaluationAsk))
    @room.response(200, DecisionSchema)
    @refusals(room, 400, 401, 403, 413)
    def evaluation() -> Any:
        """Answer one question: may this component do this with this person's data now?"""
        with services.reading() as unit:
            return _single(unit, current_client(), _body(), services.clock.now())

    @room.route("/evaluations", methods=["POST"])
    @client(Scope.DECISIONS_EVALUATE)
    @room.doc(requestBody=_documented("Evaluations", EvaluationsAsk))
    @room.response(200, DecisionsSchema)
    @refusals(room, 400, 401, 403, 413)
    def evaluations() -> Any:
        """Answer several questions; without `evaluations` it is one."""
        body, actor, now = _body(), current_client(), services.clock.now()
        items, semantic = _items(body), _semantic(body)
        with services.reading() as unit:
            if not items:
                return _plain(_single(unit, actor, body, now))
            return {"evaluations": list(_until(semantic, _answers(unit, actor, body, items, now)))}

    return room


def _documented(name: str, schema: type[Body]) -> Mapping[str, Any]:
    return {"required": True, "description": name, "content": {"application/json": {"schema": schema}}}


def _plain(body: Mapping[str, Any]) -> Response:
    return Response(json.dumps(body), mimetype="application/json")


def _echo(response: Response) -> Response:
    """`X-Request-ID` comes back as it was sent (AuthZEN 1.0, transport)."""
    said = request.headers.get("X-Request-ID", "")
    if said and len(said) <= 200 and said.isprintable() and said.isascii():
        response.headers["X-Request-ID"] = said
    return response


def _body() -> Mapping[str, Any]:
    """Return the body. Here another content type is 400, not 415 (AuthZEN 1.0)."""
    if mimetype() != "application/json":
        raise BadRequest
    found = read_json(request.get_data(cache=True))
    if not isinstance(found, Mapping) or any(strange_places(found)):
        raise BadRequest
    return found


def _items(body: Mapping[str, Any]) -> Sequence[Any]:
    items = body.get("evaluations", [])
    if not isinstance(items, list) or len(items) > MOST:
        raise BadRequest
    return items


def _semantic(body: Mapping[str, Any]) -> Semantic:
    options = body.get("options", {})
    if not isinstance(options, Mapping):
        raise BadRequest
    try:
        return Semantic(options.get("evaluations_semantic", Semantic.EXECUTE_ALL))
    except ValueError:
        raise BadRequest from None


def _single(unit: ApiUnit, actor: ClientActor, body: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    try:
        asked = _read(body)
    except _Broken:
        raise BadRequest from None
    return _answer(unit, actor, asked, now)


def _answers(
    unit: ApiUnit, actor: ClientActor, body: Mapping[str, Any], items: Sequence[Any], now: datetime
) -> Iterator[dict[str, Any]]:
    """A broken item in a valid batch is a no, not an error of the batch."""
    for item in items:
        try:
            asked = _read(_merged(body, item))
        except _Broken:
            yield _no(Refusal.REQUEST_INVALID)
        else:
            yield _answer(unit, actor, asked, now)


def _until(semantic: Semantic, answers: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    stop = {Semantic.DENY_ON_FIRST_DENY: False, Semantic.PERMIT_ON_FIRST_PERMIT: True}.get(semantic)
    for answer in answers:
        yield answer
        if answer["decision"] is stop:
            return


def _merged(body: Mapping[str, Any], item: Any) -> Mapping[str, Any]:
    if not isinstance(item, Mapping):
        raise _Broken
    return {**{name: body[name] for name in ("subject", "action", "resource", "context") if name in body}, **item}


def _read(body: Mapping[str, Any]) -> _Asked:
    subject, action, resource = _part(body, "subject"), _part(body, "action"), _part(body, "resource")
    if not isinstance(body.get("context", {}), Mapping) or not isinstance(resource.get("properties", {}), Mapping):
        raise _Broken
    context, properties = body.get("context", {}), resource.get("properties", {})
    if _word(subject, "type") != "component" or _word(resource, "type") != "category":
        raise _Broken
    return _Asked(
        component=_word(subject, "id"),
        action=_word(action, "name"),
        category=_word(resource, "id"),
        handle=_word(properties, "handle"),
        purpose=_word(context, "purpose"),
        consent=_word(context, "consent") if "consent" in context else None,
        recipient=_word(context, "recipient") if "recipient" in context else None,
    )


def _part(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = body.get(name)
    if not isinstance(part, Mapping):
        raise _Broken
    return part


def _word(part: Mapping[str, Any], name: str) -> str:
    word = part.get(name)
    if not isinstance(word, str) or not 1 <= len(word) <= _LONGEST_WORD:
        raise _Broken
    return word


def _answer(unit: ApiUnit, actor: ClientActor, asked: _Asked, now: datetime) -> dict[str, Any]:
    question = _question(unit, actor, asked, now)
    if question is None:
        return _no(Refusal.REQUEST_INVALID)
    if question.party != actor.party and not _holds(unit, actor, question):
        return _no(Refusal.ASKER_NOT_YOURS)
    verdict = unit.judge(question)
    return _no(verdict.reason) if isinstance(verdict, Deny) else _yes(verdict)


def _question(unit: ApiUnit, actor: ClientActor, asked: _Asked, now: datetime) -> Question | None:
    """None for an action there is none of; an unknown component, person or category is the judge's to refuse."""
    if asked.action not in set(Action):
        return None
    component = ComponentId(asked.component)
    return Question(
        party=unit.party_of(component) or PartyId(""),
        component=component,
        purpose=PurposeId(asked.purpose),
        categories=frozenset({CategoryId(asked.category)}),
        action=Action(asked.action),
        subject=unit.named(PairwiseHandle(asked.handle), actor.party) or _NOBODY,
        attended=False,
        at=now,
        consent=ConsentId(asked.consent) if asked.consent else None,
        recipient=PartyId(asked.recipient) if asked.recipient else None,
    )


def _holds(unit: ApiUnit, actor: ClientActor, question: Question) -> bool:
    """Whether the caller may itself hold the same data of the same person for the same purpose."""
    own = replace(question, party=actor.party, component=ComponentId(actor.client), action=Action.HOLD, recipient=None)
    return isinstance(unit.judge(own), Permit)


def _no(reason: Reason | Refusal) -> dict[str, Any]:
    return {"decision": False, "context": {"reason": reason.value}}


def _yes(permit: Permit) -> dict[str, Any]:
    context: dict[str, Any] = {"obligations": _bound(permit.obligations)}
    if permit.consent is not None:
        context["consent"] = {"id": permit.consent, "version": permit.version}
    return {"decision": True, "context": context}


def _bound(obligations: Obligations) -> dict[str, Any]:
    until, history = obligations.keep_until, obligations.history_from
    return {
        "keep": obligations.keep.value,
        "keep_until": until.isoformat() if until else None,
        "where": list(obligations.where),
        "mask": sorted(obligations.mask),
        "history_from": history.isoformat() if history else None,
        "reads_per_hour": obligations.reads_per_hour,
    }

"""Reads that components report: in batches, idempotent by the reporter's ids, under its own handles (consent rule 51).

What does not have the shape refuses the whole batch (422). A read that cannot be true is refused alone and named in the
answer, so that one person's erasure does not hold up a component's journal for ever. Ids are kept apart by party:
nobody can take, or find out, another one's. Leaves out staff looks, which Regard writes itself.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from flask_smorest import Blueprint
from marshmallow import Schema, fields, validate

from app.http.api.schemas import Flag, JsonBlueprint, refusals
from app.http.api.services import ApiServices, ApiUnit, Look
from app.http.doors import ClientActor
from app.http.errors import HandleUnknown
from app.http.guard import client, current_client
from app.sdk.scopes import Scope
from consent.policy import Policy
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

MOST = 500
AHEAD = timedelta(seconds=60)
"""How far a reporter's clock may run ahead."""


class Refusal(StrEnum):
    """Why one read of a batch is not written."""

    HANDLE_UNKNOWN = "handle_unknown"
    PURPOSE_UNKNOWN = "purpose_unknown"
    CATEGORY_UNKNOWN = "category_unknown"
    IN_THE_FUTURE = "in_the_future"
    CONSENT_UNKNOWN = "consent_unknown"
    PARTY_NOT_YOURS = "party_not_yours"
    COMPONENT_NOT_OF_PARTY = "component_not_of_party"


def _word() -> fields.String:
    return fields.String(required=True, validate=validate.Length(1, 64))


class ReadSchema(Schema):
    """One read: whose (`subject`, the reporter's own handle), what, how much, why, when, and by whom if not itself."""

    id = _word()
    subject = _word()
    party = fields.String(load_default=None, validate=validate.Length(1, 64))
    component = fields.String(load_default=None, validate=validate.Length(1, 64))
    categories = fields.List(fields.String(), required=True, validate=validate.Length(1, 50))
    records = fields.Integer(strict=True, required=True, validate=validate.Range(0, 1_000_000_000))
    purpose = _word()
    consent = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, 64))
    attended = Flag(required=True)
    action = fields.Enum(Action, by_value=True, load_default=Action.READ)
    at = fields.AwareDateTime(required=True, format="iso")


class BatchSchema(Schema):
    """At most 500 reads."""

    disclosures = fields.List(fields.Nested(ReadSchema), required=True, validate=validate.Length(0, MOST))


class RefusedSchema(Schema):
    """One read that was not written, and why."""

    id = fields.String(required=True)
    code = fields.String(required=True)


class WrittenSchema(Schema):
    """`written` were new, `known` had been written before, `accepted` is both; the rest is in `refused`."""

    written = fields.Integer(required=True)
    known = fields.Integer(required=True)
    accepted = fields.Integer(required=True)
    refused = fields.List(fields.Nested(RefusedSchema), required=True)


def disclosures(services: ApiServices) -> Blueprint:
    """Return the door for reported reads."""
    room = JsonBlueprint("api_disclosures", __name__, url_prefix="/api/v1", description="Who looked")

    @room.route("/disclosures", methods=["POST"])
    @client(Scope.DISCLOSURES_WRITE)
    @room.arguments(BatchSchema)
    @room.response(200, WrittenSchema)
    @refusals(room, 400, 401, 403, 413, 415, 422)
    def report(body: Mapping[str, Any]) -> Any:
        """Write a batch of reads into the logs of the people they are about."""
        actor, now, items = current_client(), services.clock.now(), body["disclosures"]
        with services.writing() as unit:
            judged = [(item, _fault(services.policy, unit, actor, item, now)) for item in items]
            looks = [_look(unit, actor, item) for item, fault in judged if fault is None]
            new = [look for look in looks if unit.write(look)]
            _record(unit, actor, new)
            unit.commit()
        refused = [{"id": item["id"], "code": fault} for item, fault in judged if fault is not None]
        return {"written": len(new), "known": len(looks) - len(new), "accepted": len(looks), "refused": refused}

    return room


def _fault(policy: Policy, unit: ApiUnit, actor: ClientActor, item: Mapping[str, Any], now: datetime) -> Refusal | None:
    """Return why a read is not written; None when nothing stands against it."""
    subject = unit.named(PairwiseHandle(item["subject"]), actor.party)
    if subject is None or unit.controller_of(subject) != actor.controller:
        return Refusal.HANDLE_UNKNOWN  # another party's, a forgotten one and a made-up one look alike
    purpose = policy.purposes.get(item["purpose"])
    if purpose is None or purpose.controller != actor.controller:
        return Refusal.PURPOSE_UNKNOWN
    if not policy.categories.keys() >= set(item["categories"]):
        return Refusal.CATEGORY_UNKNOWN
    if item["at"] > now + AHEAD:
        return Refusal.IN_THE_FUTURE
    return _reader_fault(unit, actor, item, subject)


def _reader_fault(unit: ApiUnit, actor: ClientActor, item: Mapping[str, Any], subject: SubjectRef) -> Refusal | None:
    """A party reports its own reads; a holder also those of whoever is named beside it in the same consent."""
    readers = unit.readers(ConsentId(item["consent"]), subject) if item["consent"] else frozenset[PartyId]()
    if item["consent"] and actor.party not in readers:
        return Refusal.CONSENT_UNKNOWN
    party, component = item["party"] or actor.party, item["component"] or actor.client
    if party != actor.party and party not in readers:
        return Refusal.PARTY_NOT_YOURS
    return None if unit.party_of(ComponentId(component)) == party else Refusal.COMPONENT_NOT_OF_PARTY


def _look(unit: ApiUnit, actor: ClientActor, item: Mapping[str, Any]) -> Look:
    subject = unit.named(PairwiseHandle(item["subject"]), actor.party)
    if subject is None:
        raise HandleUnknown
    return Look(
        id=_own_id(actor, item["id"]),
        controller=actor.controller,
        subject=subject,
        party=PartyId(item["party"] or actor.party),
        component=ComponentId(item["component"] or actor.client),
        actor_role=None,
        categories=tuple(CategoryId(name) for name in sorted(set(item["categories"]))),
        records=item["records"],
        purpose=PurposeId(item["purpose"]),
        consent=ConsentId(item["consent"]) if item["consent"] else None,
        attended=item["attended"],
        action=item["action"].value,
        at=item["at"],
    )


def _own_id(actor: ClientActor, said: str) -> str:
    return hashlib.sha256(f"{actor.controller}\0{actor.party}\0{said}".encode()).hexdigest()


def _record(unit: ApiUnit, actor: ClientActor, looks: Sequence[Look]) -> None:
    """One ledger entry for each person in the batch: the digest of their reads (ledger.md: disclosure, batched)."""
    by_subject: dict[SubjectRef, list[Look]] = defaultdict(list)
    for look in looks:
        by_subject[look.subject].append(look)
    for subject, own in by_subject.items():
        digest = hashlib.sha256("\n".join(sorted(map(_line, own))).encode()).hexdigest()
        unit.record(
            "disclosure.reported",
            actor=actor.client,
            controller=actor.controller,
            subject=subject,
            payload={"party": actor.party, "count": len(own), "digest": digest},
        )


def _line(look: Look) -> str:
    return " ".join((look.id, look.purpose, look.action, str(look.records), look.at.isoformat(), *look.categories))

"""Reads that components report: in batches, idempotent by the reporter's ids, under its own handles (consent rule 51).

All or nothing: one fault refuses the batch and names every place, so that a reporter can set those aside (one person's
erasure must not hold up a journal for ever) and send the rest. Ids are kept apart by party: nobody can take, or find
out, another one's. A holder names the component it read for, which stands in the person's log as the one who looked.
Leaves out staff looks, which Regard writes itself.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from flask_smorest import Blueprint
from marshmallow import fields, validate

from app.http.api.idempotency import once_per_key
from app.http.api.schemas import Body, Flag, JsonBlueprint, refusals
from app.http.api.services import ApiServices, ApiUnit, Look
from app.http.doors import ClientActor
from app.http.errors import BodyInvalid
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


def _word() -> fields.String:
    return fields.String(required=True, validate=validate.Length(1, 64))


class ReadSchema(Body):
    """One read: whose (the reporter's own handle), what, how much, why, when; `reader` where it was for another."""

    id = _word()
    handle = _word()
    categories = fields.List(fields.String(), required=True, validate=validate.Length(1, 50))
    records = fields.Integer(strict=True, required=True, validate=validate.Range(0, 1_000_000_000))
    purpose = _word()
    consent = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, 64))
    attended = Flag(required=True)
    reader = fields.String(load_default=None, allow_none=True, validate=validate.Length(1, 64))
    action = fields.Enum(Action, by_value=True, load_default=Action.READ)
    at = fields.AwareDateTime(required=True, format="iso")


class BatchSchema(Body):
    """At most 500 reads."""

    disclosures = fields.List(fields.Nested(ReadSchema), required=True, validate=validate.Length(1, MOST))


class WrittenSchema(Body):
    """How many were new, and how many had been written before."""

    written = fields.Integer(required=True)
    known = fields.Integer(required=True)


def disclosures(services: ApiServices) -> Blueprint:
    """Return the door for reported reads."""
    room = JsonBlueprint("api_disclosures", __name__, url_prefix="/api/v1", description="Who looked")

    @room.route("/disclosures", methods=["POST"])
    @client(Scope.DISCLOSURES_WRITE)
    @once_per_key(room, services)
    @room.arguments(BatchSchema)
    @room.response(200, WrittenSchema)
    @refusals(room, 400, 401, 403, 413, 415, 422)
    def report(body: Mapping[str, Any]) -> Any:
        """Write a batch of reads into the logs of the people they are about."""
        actor, now = current_client(), services.clock.now()
        with services.writing() as unit:
            looks = _looks(services.policy, unit, actor, body["disclosures"], now)
            new = [look for look in looks if unit.write(look)]
            _record(unit, actor, new)
            unit.commit()
        return {"written": len(new), "known": len(looks) - len(new)}

    return room


def _looks(
    policy: Policy, unit: ApiUnit, actor: ClientActor, items: Sequence[Mapping[str, Any]], now: datetime
) -> list[Look]:
    """Raises BodyInvalid with the place of every fault, `disclosures.<place>.<field>`."""
    handles = {item["handle"] for item in items}
    subjects = {handle: _subject(unit, actor, handle) for handle in handles}
    faults = [
        f"disclosures.{place}.{name}"
        for place, item in enumerate(items)
        for name in _faults(policy, unit, actor, item, subjects[item["handle"]], now=now)
    ]
    if faults:
        raise BodyInvalid(*faults)
    return [_look(unit, actor, item, subjects[item["handle"]]) for item in items]


def _subject(unit: ApiUnit, actor: ClientActor, handle: str) -> SubjectRef | None:
    """None for another party's handle, a forgotten one and a made-up one alike."""
    found = unit.named(PairwiseHandle(handle), actor.party)
    return found if found is not None and unit.controller_of(found) == actor.controller else None


def _faults(
    policy: Policy,
    unit: ApiUnit,
    actor: ClientActor,
    item: Mapping[str, Any],
    subject: SubjectRef | None,
    *,
    now: datetime,
) -> Iterator[str]:
    if subject is None:
        yield "handle"
    else:
        yield from _not_named(policy, unit, actor, item, subject)
    purpose = policy.purposes.get(item["purpose"])
    if purpose is None or purpose.controller != actor.controller:
        yield "purpose"
    if not policy.categories.keys() >= set(item["categories"]):
        yield "categories"
    if item["at"] > now + AHEAD:
        yield "at"


def _not_named(
    policy: Policy, unit: ApiUnit, actor: ClientActor, item: Mapping[str, Any], subject: SubjectRef
) -> Iterator[str]:
    """Reporter and reader are both named in the agreement (consent rule 15); a read for others rests on one."""
    reader = _reader(unit, actor, item)
    known = policy.parties.get(reader or "")
    if reader is None or known is None or known.controller != actor.controller:
        yield "reader"
        return
    if item["consent"] is None:
        if reader != actor.party:
            yield "consent"
    elif not {actor.party, reader} <= unit.readers(ConsentId(item["consent"]), subject):
        yield "consent"


def _reader(unit: ApiUnit, actor: ClientActor, item: Mapping[str, Any]) -> PartyId | None:
    """Return the party of who looked: the reporter, or the component it read for; None for an unknown one."""
    return actor.party if item["reader"] is None else unit.party_of(ComponentId(item["reader"]))


def _look(unit: ApiUnit, actor: ClientActor, item: Mapping[str, Any], subject: SubjectRef | None) -> Look:
    reader = _reader(unit, actor, item)
    if subject is None or reader is None:
        raise BodyInvalid("handle" if subject is None else "reader")
    return Look(
        id=_own_id(actor, item["id"]),
        controller=actor.controller,
        subject=subject,
        party=reader,
        component=ComponentId(item["reader"] or actor.client),
        actor_role=None,
        categories=tuple(CategoryId(name) for name in sorted(set(item["categories"]))),
        records=item["records"],
        purpose=PurposeId(item["purpose"]),
        consent=ConsentId(item["consent"]) if item["consent"] else None,
        attended=item["attended"],
        action=item["action"].value,
        at=item["at"].astimezone(UTC),
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

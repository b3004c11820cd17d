"""A party's own consents: their state, their receipts, a withdrawal it passes on (consent rules 35, 47, 57; api.md).

Own means: the list and the receipts are those the party asked for; one consent may also be read, and its withdrawal
passed on, by everyone named in it (consent rule 15). To all others none exists. A person is named by the party's own
handle only. Withdrawing is repeatable: saying stop twice changes nothing and is no error, with or without an
`Idempotency-Key`. Leaves out proposing a consent here (`/oauth/par` does it) and the receipt as PDF.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flask import Response, request, url_for
from flask_smorest import Blueprint
from marshmallow import fields, validate
from werkzeug.exceptions import NotAcceptable, PreconditionFailed

from app.http.api.idempotency import once_per_key
from app.http.api.schemas import Body, JsonBlueprint, refusals
from app.http.api.services import ApiServices
from app.http.doors import ClientActor
from app.http.errors import NotHere
from app.http.guard import client, current_client
from app.receipts import SealedReceipt, said_in
from app.sdk.scopes import Scope
from app.vault.errors import Erased, UnknownKey
from consent import usecases
from consent.errors import NoSuchConsentError
from consent.events import Actor, ActorKind, Channel
from consent.record import Consent, State
from consent.vocabulary import ConsentId, PairwiseHandle, Shredded, SubjectRef

LONGEST_PAGE = 100
SIGNED = "application/jose"
"""A compact JWS (RFC 7515 section 9.2.1)."""
_ID = re.compile(r"[A-Za-z0-9_]{1,64}")
_PASSED_ON = (Channel.API, Channel.PAGE, Channel.MAIL, Channel.PHONE)
"""How a person can have told a party; a signed link and a holder's dashboard are not a party's to claim."""


class EndSchema(Body):
    """How it ended: when, by whom (a kind, nobody's name), through what."""

    at = fields.DateTime(required=True)
    by = fields.String(required=True)
    channel = fields.String(required=True)


class ConsentSchema(Body):
    """One consent as it stands now. `sub` is what this party calls the person; null once they are erased."""

    id = fields.String(required=True)
    version = fields.Integer(required=True)
    state = fields.String(required=True)
    sub = fields.String(required=True, allow_none=True)
    party = fields.String(required=True)
    purpose = fields.String(required=True)
    basis = fields.String(required=True)
    categories = fields.List(fields.String(), required=True)
    needed = fields.List(fields.String(), required=True)
    optional = fields.List(fields.String(), required=True)
    recipients = fields.List(fields.String(), required=True)
    requested_at = fields.DateTime(required=True)
    given_at = fields.DateTime(required=True, allow_none=True)
    valid_until = fields.DateTime(required=True, allow_none=True)
    history_from = fields.Date(required=True)
    frequency_per_day = fields.Integer(required=True)
    attended_only = fields.Boolean(required=True)
    institution = fields.String(required=True, allow_none=True)
    suspended_for = fields.List(fields.String(), required=True)
    supersedes = fields.String(required=True, allow_none=True)
    superseded_by = fields.String(required=True, allow_none=True)
    ended = fields.Nested(EndSchema, required=True, allow_none=True)


class ConsentsSchema(Body):
    """One page, by id; `next` is the `after` of the following page."""

    consents = fields.List(fields.Nested(ConsentSchema), required=True)
    next = fields.String(required=True, allow_none=True)


class ReceiptSchema(Body):
    """A receipt: the signed compact JWS, and what it says."""

    id = fields.String(required=True)
    version = fields.Integer(required=True)
    made_at = fields.DateTime(required=True)
    jws = fields.String(required=True)
    receipt = fields.Dict(required=True)


class PageSchema(Body):
    """Keyset paging."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, LONGEST_PAGE))
    after = fields.String(load_default=None, validate=validate.Regexp(_ID.pattern + r"\Z"))


class WithdrawalSchema(Body):
    """How the person told the party."""

    channel = fields.Enum(
        Channel,
        by_value=True,
        load_default=Channel.API,
        validate=validate.OneOf(_PASSED_ON),
        metadata={"enum": [channel.value for channel in _PASSED_ON]},
    )


def consents(services: ApiServices) -> Blueprint:
    """Return the doors of consents."""
    room = JsonBlueprint("api_consents", __name__, url_prefix="/api/v1", description="A party's own consents")

    @room.route("/consents")
    @client(Scope.CONSENTS_READ)
    @room.arguments(PageSchema, location="query")
    @room.response(200, ConsentsSchema)
    @refusals(room, 401, 403, 422)
    def listed(page: Mapping[str, Any]) -> Response:
        """List the consents this party asked for, by id."""
        actor, limit = current_client(), page["limit"]
        after = ConsentId(page["after"]) if page["after"] else None
        with services.agreements() as unit:
            found = unit.law.consents.of_party(actor.controller, actor.party, limit=limit + 1, after=after)
        taken = found[:limit]
        following = taken[-1].id if len(found) > limit else None
        handles = _handles(services, actor, [record.terms.subject for record in taken])
        shown = [_shown(services, record, handles) for record in taken]
        response = _json(ConsentsSchema().dump({"consents": shown, "next": following}))
        if following is not None:
            address = url_for("api_consents.listed", limit=limit, after=following)
            response.headers["Link"] = f'<{address}>; rel="next"'  # RFC 8288
        return response

    @room.route("/consents/<consent>")
    @client(Scope.CONSENTS_READ)
    @room.response(200, ConsentSchema)
    @refusals(room, 401, 403, 404)
    def shown(consent: str) -> Response:
        """Show one consent that names this party, with its version as an entity tag."""
        actor = current_client()
        record = _found(services, actor, consent)
        response = _one(services, actor, record)
        response.make_conditional(request)
        return response

    @room.route("/consents/<consent>/receipt")
    @client(Scope.CONSENTS_READ)
    @room.response(200, ReceiptSchema)
    @room.alt_response(200, schema={"type": "string"}, content_type=SIGNED, success=True)
    @refusals(room, 401, 403, 404, 406, 410)
    def receipt(consent: str) -> Response:
        """Hand over the newest receipt of a consent this party asked for, as JSON or as the signed file alone."""
        kind = _kind()
        stored, signed = _receipt(services, current_client(), consent)
        response = _json(_described(stored, signed)) if kind != SIGNED else Response(signed, content_type=SIGNED)
        response.vary.add("Accept")
        return response

    @room.route("/consents/<consent>/withdraw", methods=["POST"])
    @client(Scope.CONSENTS_WITHDRAW)
    @once_per_key(room, services)
    @room.arguments(WithdrawalSchema)
    @room.response(200, ConsentSchema)
    @refusals(room, 400, 401, 403, 404, 412, 413, 415, 422)
    def withdraw(body: Mapping[str, Any], consent: str) -> Response:
        """Pass on that the person stops (GDPR art. 7(3)). With `If-Match`, only if it is still as the party read it."""
        actor = current_client()
        _found(services, actor, consent)
        return _one(services, actor, _withdrawn(services, actor, ConsentId(consent), body["channel"]))

    return room


def _kind() -> str:
    """Return what the caller takes: JSON when it says nothing. Raises NotAcceptable."""
    accepted = request.accept_mimetypes
    kind = accepted.best_match(["application/json", SIGNED]) if accepted else "application/json"
    if kind is None:
        raise NotAcceptable
    return kind


def _withdrawn(services: ApiServices, actor: ClientActor, consent: ConsentId, channel: Channel) -> Consent:
    """Raises PreconditionFailed, with the consent locked, when it is not what the party read."""
    now = services.clock.now()
    with services.amending() as unit:
        record = unit.law.consents.lock(actor.controller, consent)
        if record is None:
            raise NoSuchConsentError("no such consent")
        if request.if_match and not request.if_match.contains(_tag(services, record)):
            raise PreconditionFailed
        return usecases.withdraw(
            unit.law,
            controller=actor.controller,
            consent=consent,
            by=Actor(ActorKind.PARTY, actor.party),
            channel=channel,
            at=now,
        )


def _found(services: ApiServices, actor: ClientActor, consent: str) -> Consent:
    """Raises NoSuchConsentError for another party's, another controller's and a made-up one alike."""
    if not _ID.fullmatch(consent):
        raise NoSuchConsentError("no such consent")
    with services.agreements() as unit:
        record, _ = usecases.read(
            unit.law,
            controller=actor.controller,
            consent=ConsentId(consent),
            by=Actor(ActorKind.PARTY, actor.party),
        )
    return record


def _receipt(services: ApiServices, actor: ClientActor, consent: str) -> tuple[SealedReceipt, str]:
    """Raises NoSuchConsentError for one somebody else asked for: the receipt holds that party's name of the person.

    Raises NotHere before the first receipt was made, Erased or UnknownKey once its key is destroyed.
    """
    record = _found(services, actor, consent)
    if record.terms.party != actor.party:
        raise NoSuchConsentError("no such consent")
    with services.agreements() as unit:
        stored = next(iter(unit.receipts.of_consent(actor.controller, record.id)), None)
    if stored is None:
        raise NotHere
    signed = services.open_receipt(stored)
    if isinstance(signed, Shredded):
        raise Erased(signed.at) if signed.at is not None else UnknownKey
    return stored, signed


def _described(stored: SealedReceipt, signed: str) -> Any:
    said = {"id": stored.id, "version": stored.version, "made_at": stored.made_at, "jws": signed}
    return ReceiptSchema().dump({**said, "receipt": said_in(signed)})


def _one(services: ApiServices, actor: ClientActor, record: Consent) -> Response:
    handles = _handles(services, actor, [record.terms.subject])
    response = _json(ConsentSchema().dump(_shown(services, record, handles)))
    response.set_etag(_tag(services, record))
    return response


def _tag(services: ApiServices, record: Consent) -> str:
    """The version, and the state, which time alone can change."""
    return f"{record.version}.{record.state_at(services.clock.now()).value}"


def _handles(
    services: ApiServices, actor: ClientActor, subjects: Sequence[SubjectRef]
) -> Mapping[SubjectRef, PairwiseHandle | None]:
    """Return what the party calls each person. Only a first meeting writes."""
    with services.agreements() as unit:
        known = {subject: unit.handle_of(subject, actor.party) for subject in subjects}
    if all(known.values()):
        return known
    with services.amending() as unit:
        made = {subject: unit.handle(subject, actor.party) for subject in known}
        unit.law.commit()
    return made


def _shown(
    services: ApiServices, record: Consent, handles: Mapping[SubjectRef, PairwiseHandle | None]
) -> dict[str, Any]:
    terms, now = record.terms, services.clock.now()
    return {
        "id": record.id,
        "version": record.version,
        "state": record.state_at(now).value,
        "sub": handles[terms.subject],
        "party": terms.party,
        "purpose": terms.purpose,
        "basis": terms.basis.value,
        "categories": sorted(record.categories),
        "needed": sorted(terms.needed),
        "optional": sorted(terms.optional),
        "recipients": sorted(terms.recipients),
        "requested_at": record.requested_at,
        "given_at": record.given_at,
        "valid_until": record.valid_until,
        "history_from": terms.history_from,
        "frequency_per_day": terms.frequency_per_day,
        "attended_only": record.attended_only,
        "institution": record.institution,
        "suspended_for": sorted(reason.value for reason in record.suspensions),
        "supersedes": terms.supersedes,
        "superseded_by": record.superseded_by,
        "ended": _ended(record, now),
    }


def _ended(record: Consent, now: datetime) -> dict[str, Any] | None:
    """What has run out says so before any sweep has written it down."""
    if record.end is not None:
        return {"at": record.end.at, "by": record.end.by.kind.value, "channel": record.end.channel.value}
    if record.state_at(now) is State.EXPIRED:
        return {"at": record.due_at, "by": ActorKind.SYSTEM.value, "channel": Channel.SCHEDULE.value}
    return None


def _json(body: Any) -> Response:
    return Response(json.dumps(body, ensure_ascii=False), mimetype="application/json")

"""Leases, and sealing in the service: `decide` is asked on both sides every time (vault.md section 3).

The holder comes with its own token and with the one that was presented to it. The presented token has to stand, its
party may read the category, and the holder's own party may hold it; only then does the vault hear of it. Disclosure and
ledger entry are committed before a key or a plaintext leaves; a refusal is in the ledger before it is answered. Whoever
cannot show a good token learns nothing about any subject: unknown and erased look alike. Leaves out life buckets: keys
are not yet split by how long data may live.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from flask import Response, jsonify
from flask_smorest import Blueprint
from marshmallow import fields, validate

from app.http.api.idempotency import never_by_key
from app.http.api.schemas import Body, Bytes, JsonBlueprint, base64url, refusals
from app.http.api.services import ApiServices, ApiUnit, Lease, Look, Presented
from app.http.doors import ClientActor
from app.http.errors import AccessRefused, HandleUnknown, PresentedTokenRefused
from app.http.guard import client, current_client
from app.sdk.scopes import Scope as Permission
from app.sdk.sealed import SealError
from app.vault.errors import Erased, NotLeasable, UnknownKey, UnknownSubject
from app.vault.keys import Basis, Scope
from consent.decision import Deny, Permit, Question
from consent.policy import Policy
from consent.reasons import Reason
from consent.vocabulary import Action, CategoryId, ComponentId, PairwiseHandle

LONGEST_LEASE = 60
"""Seconds."""
NO = (PresentedTokenRefused, AccessRefused, HandleUnknown, Erased, UnknownKey, UnknownSubject, NotLeasable, SealError)
"""What is a refusal; a provider that is down, or a fault of ours, is none."""
T = TypeVar("T")


class AskSchema(Body):
    """What every use of a key says: the token that was presented, which data, and what the holder calls the person."""

    presented_token = fields.String(required=True, validate=validate.Length(1, 512))
    category = fields.String(required=True, validate=validate.Length(1, 64))
    handle = fields.String(required=True, validate=validate.Length(1, 64))
    purpose = fields.String(load_default=None, validate=validate.Length(1, 64))


class LeaseAsk(AskSchema):
    """A lease: for how long, and which key if a sealed record names one."""

    seconds = fields.Integer(strict=True, load_default=LONGEST_LEASE, validate=validate.Range(1, LONGEST_LEASE))
    key_id = Bytes(length=16, load_default=None)


class SealAsk(AskSchema):
    """Bytes to seal under a record's name."""

    record_id = fields.String(required=True, validate=validate.Length(1, 200))
    plaintext = Bytes(required=True)


class OpenAsk(AskSchema):
    """A sealed record to open."""

    record_id = fields.String(required=True, validate=validate.Length(1, 200))
    sealed = Bytes(required=True)


class LeaseSchema(Body):
    """A data key on loan; `messages` is how many it may seal."""

    key_id = fields.String(required=True)
    key = fields.String(required=True)
    expires_at = fields.DateTime(required=True)
    expires_in = fields.Integer(required=True, metadata={"description": "Seconds: holds whatever the clocks say."})
    messages = fields.Integer(required=True)
    handle = fields.String(required=True)


class SealedSchema(Body):
    """A sealed record, base64url."""

    sealed = fields.String(required=True)


class OpenedSchema(Body):
    """A plaintext, base64url."""

    plaintext = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class Use:
    """One permitted use of a key."""

    actor: ClientActor
    presented: Presented
    category: CategoryId
    handle: PairwiseHandle
    basis: Basis
    at: datetime

    def scope(self) -> Scope:
        """Return where the data rests: with the holder."""
        return Scope(
            self.presented.controller, self.presented.subject, self.actor.party, self.category, basis=self.basis
        )

    def seconds(self, asked: int) -> int:
        """Return how long the lease may last: never beyond the token it was given on."""
        left = int((self.presented.expires_at - self.at).total_seconds())
        if left < 1:
            raise PresentedTokenRefused
        return min(asked, left, LONGEST_LEASE)


def keys(services: ApiServices) -> Blueprint:
    """Return the doors to keys."""
    room = JsonBlueprint("api_keys", __name__, url_prefix="/api/v1/keys", description="Key leases, sealing, opening")
    errors = (400, 401, 403, 404, 410, 413, 415, 422, 503)

    @room.route("/lease", methods=["POST"])
    @client(Permission.KEYS_LEASE)
    @never_by_key
    @room.arguments(LeaseAsk)
    @room.response(200, LeaseSchema)
    @refusals(room, *errors)
    def lease(body: Mapping[str, Any]) -> Response:
        """Lend the data key of one subject and category for at most 60 seconds."""

        def lent(use: Use) -> Lease:
            return services.keys.lease(use.scope(), use.seconds(body["seconds"]), key_id=body["key_id"])

        found = _use(services, body, "key.leased", Action.READ, lent)
        try:
            return _private(
                key_id=base64url(found.key_id),
                key=base64url(bytes(found.key)),
                expires_at=found.expires_at.isoformat(),
                expires_in=int((found.expires_at - services.clock.now()).total_seconds()),
                messages=found.messages,
                handle=body["handle"],
            )
        finally:
            found.key[:] = bytes(len(found.key))

    @room.route("/seal", methods=["POST"])
    @client(Permission.KEYS_LEASE)
    @never_by_key
    @room.arguments(SealAsk)
    @room.response(200, SealedSchema)
    @refusals(room, *errors)
    def seal(body: Mapping[str, Any]) -> Response:
        """Seal bytes in the service, for components that must never hold keys."""

        def sealed(use: Use) -> bytes:
            return services.keys.seal(use.scope(), body["record_id"], body["plaintext"], handle=use.handle)

        return _private(sealed=base64url(_use(services, body, "record.sealed", Action.HOLD, sealed)))

    @room.route("/open", methods=["POST"])
    @client(Permission.KEYS_LEASE)
    @never_by_key
    @room.arguments(OpenAsk)
    @room.response(200, OpenedSchema)
    @refusals(room, *errors)
    def open_(body: Mapping[str, Any]) -> Response:
        """Open a sealed record in the service."""

        def opened(use: Use) -> bytes:
            return services.keys.open(use.scope(), body["record_id"], body["sealed"], handle=use.handle)

        return _private(plaintext=base64url(_use(services, body, "record.opened", Action.READ, opened)))

    return room


def _private(**body: Any) -> Response:
    response = jsonify(body)
    response.headers["Cache-Control"] = "no-store"
    return response


def _use(services: ApiServices, body: Mapping[str, Any], kind: str, action: Action, act: Callable[[Use], T]) -> T:
    """Decide, act, write down, commit; what `act` returns leaves only after the commit. A no is written down too."""
    actor = current_client()
    with services.writing() as unit:
        try:
            use = _permitted(unit, actor, body, services.clock.now())
            done = act(use)
        except NO as refusal:
            _write_refusal(services.policy, unit, actor, body, asked=kind, refusal=refusal)
            unit.commit()
            raise
        _write_down(services, unit, use, kind, action)
        unit.commit()
    return done


def _permitted(unit: ApiUnit, actor: ClientActor, body: Mapping[str, Any], at: datetime) -> Use:
    """Raises PresentedTokenRefused, AccessRefused with the reason, Erased, or HandleUnknown."""
    presented = unit.presented(body["presented_token"], actor.client)
    if presented is None or presented.controller != actor.controller:
        raise PresentedTokenRefused
    category = CategoryId(body["category"])
    _inside(presented, body["purpose"], category)
    verdict = _both(unit, actor, presented, category, at)
    # The judge has said yes; a consent that changed since the token was issued still ends the token (tokens.md, 1).
    if not presented.stands:
        raise PresentedTokenRefused
    handle = PairwiseHandle(body["handle"])
    if unit.named(handle, actor.party) != presented.subject:
        raise HandleUnknown
    basis = Basis.CONSENT if verdict.consent is not None else Basis.OTHER
    return Use(actor, presented, category, handle, basis, at)


def _inside(presented: Presented, purpose: str | None, category: CategoryId) -> None:
    if purpose not in (None, presented.purpose):
        raise AccessRefused(Reason.CONSENT_FOR_ANOTHER_PURPOSE)
    if category not in presented.categories:
        raise AccessRefused(Reason.CATEGORY_NOT_CONSENTED)


def _both(unit: ApiUnit, actor: ClientActor, presented: Presented, category: CategoryId, at: datetime) -> Permit:
    """The holder may hold, and the reader may read. Returns the reader's Permit."""
    read = Question(
        party=presented.party,
        component=presented.client,
        purpose=presented.purpose,
        categories=frozenset({category}),
        action=Action.READ,
        subject=presented.subject,
        attended=presented.attended,
        at=at,
        consent=presented.consent,
    )
    hold = replace(read, party=actor.party, component=ComponentId(actor.client), action=Action.HOLD)
    verdicts = unit.judge(hold), unit.judge(read)
    denials = [verdict for verdict in verdicts if isinstance(verdict, Deny)]
    for denial in denials:
        if denial.reason is not Reason.SUBJECT_ERASED:
            raise AccessRefused(denial.reason)
    if denials:
        _say_erased(unit, presented)
    permit = verdicts[1]
    if not isinstance(permit, Permit):
        raise AccessRefused(Reason.NO_CONSENT)
    return permit


def _say_erased(unit: ApiUnit, presented: Presented) -> None:
    """Whoever gets here was entitled but for the erasure: nothing that stands before it in the order was found."""
    at = unit.erased_at(presented.subject)
    if at is None:
        raise AccessRefused(Reason.SUBJECT_ERASED)
    raise Erased(at)


def _write_refusal(
    policy: Policy, unit: ApiUnit, actor: ClientActor, body: Mapping[str, Any], *, asked: str, refusal: Exception
) -> None:
    """One ledger entry, on the person's pages if the token says who it was about (ledger.md; dsar rule P1).

    Of what the caller said only words of the pack are repeated: whatever else it is, it may be about somebody.
    """
    presented = unit.presented(body["presented_token"], actor.client)
    known = presented if presented is not None and presented.controller == actor.controller else None
    unit.record(
        "key.refused",
        actor=actor.client,
        controller=actor.controller,
        subject=known.subject if known is not None else None,
        payload={
            "asked": asked,
            "reason": str(getattr(refusal, "reason", getattr(refusal, "code", "refused"))),
            "holder": actor.party,
            "party": known.party if known is not None else None,
            "component": known.client if known is not None else None,
            "consent": known.consent if known is not None else None,
            "purpose": known.purpose if known is not None else None,
            "category": body["category"] if body["category"] in policy.categories else None,
        },
    )


def _write_down(services: ApiServices, unit: ApiUnit, use: Use, kind: str, action: Action) -> None:
    """One disclosure, in the reader's name, and one ledger entry (consent.md section 5; ledger.md)."""
    reader = use.presented
    look = Look(
        id=services.ids.new("dis"),
        controller=reader.controller,
        subject=reader.subject,
        party=reader.party,
        component=reader.client,
        actor_role=None,
        categories=(use.category,),
        records=0,
        purpose=reader.purpose,
        consent=reader.consent,
        attended=reader.attended,
        action=action.value,
        at=use.at,
    )
    unit.write(look)
    unit.record(
        kind,
        actor=use.actor.client,
        controller=reader.controller,
        subject=reader.subject,
        payload={
            "disclosure": look.id,
            "holder": use.actor.party,
            "party": reader.party,
            "component": reader.client,
            "consent": reader.consent,
            "purpose": reader.purpose,
            "category": use.category,
        },
    )

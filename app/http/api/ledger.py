"""The ledger's public face: checkpoint and proofs, for anyone (ledger.md; C2SP tlog-checkpoint; RFC 9162 section 2.1).

Hashes only: no entry leaves through here. A proof never changes and may be kept by any cache. Each address may ask so
often a minute, counted in this process alone: what is protected is its own time. Leaves out bundles, and proofs
by leaf hash: whoever has a leaf has its number.
"""

from __future__ import annotations

import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from flask import Response, request
from flask_smorest import Blueprint
from marshmallow import ValidationError, fields, validate, validates_schema

from app.http.api.schemas import Body, JsonBlueprint, refusals
from app.http.api.services import ApiServices, Ledger
from app.http.errors import TooManyTries
from app.http.guard import anyone, by_protocol
from app.http.visitor import visitor
from consent.ports import Clock

_MOST = 1 << 53
"""Largest whole number every JSON reader keeps exact."""
READS, SEARCHES, WRITES = 600, 60, 30
"""How often a minute one address may ask for hashes, search a cosigned checkpoint, hand in cosignatures."""
_ADDRESSES = 10_000
IMMUTABLE = {"Cache-Control": "public, max-age=31536000, immutable"}
_FOREVER = {"Cache-Control": {"schema": {"type": "string"}, "description": "A proof never changes."}}


class Throttle:
    """Counts what each address asks in the current minute; forgets all with the next one, so that it stays small."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = -1
        self._counts: Counter[tuple[str, int]] = Counter()

    def count(self, address: str | None, most: int) -> None:
        """Count one more. Raises TooManyTries beyond `most`, or when too many addresses ask at once."""
        now = int(self._clock.now().timestamp())
        with self._lock:
            if self._minute != now // 60:
                self._minute = now // 60
                self._counts.clear()
            who = (address or "", most)
            full = len(self._counts) >= _ADDRESSES and who not in self._counts
            if full or self._counts[who] >= most:
                raise TooManyTries(60 - now % 60)
            self._counts[who] += 1


def _number() -> fields.Integer:
    return fields.Integer(required=True, validate=validate.Range(0, _MOST))


class CheckpointQuery(Body):
    """Which checkpoint; the latest when nothing is said."""

    size = fields.Integer(load_default=None, validate=validate.Range(0, _MOST))
    witnessed = fields.Boolean(load_default=False)

    @validates_schema
    def _one_of_them(self, data: Mapping[str, Any], **_more: Any) -> None:
        if data["witnessed"] and data["size"] is not None:
            raise ValidationError({"witnessed": ["not together with a size"]})


class CosignatureSchema(Body):
    """A note's signature line by a witness, and the size of the checkpoint it cosigns."""

    size = fields.Integer(required=True, strict=True, validate=validate.Range(0, _MOST))
    line = fields.String(required=True, validate=validate.Length(1, 1_000))


class InclusionQuery(Body):
    """Which leaf, in the tree of which size."""

    leaf = _number()
    size = _number()


class ConsistencyQuery(Body):
    """From which size to which."""

    old = _number()
    new = _number()


class InclusionSchema(Body):
    """An audit path, from the leaf upward; hashes in base64 (RFC 4648 section 4)."""

    leaf = fields.Integer(required=True)
    size = fields.Integer(required=True)
    hashes = fields.List(fields.String(), required=True)


class ConsistencySchema(Body):
    """A proof that the newer tree extends the older one."""

    old = fields.Integer(required=True)
    new = fields.Integer(required=True)
    hashes = fields.List(fields.String(), required=True)


def ledger(services: ApiServices) -> Blueprint:
    """Return the ledger's doors."""
    room = JsonBlueprint("api_ledger", __name__, url_prefix="/ledger", description="The ledger's checkpoint and proofs")

    throttle = Throttle(services.clock)

    @room.route("/checkpoint")
    @anyone
    @room.arguments(CheckpointQuery, location="query")
    @room.response(200, {"type": "string"}, content_type="text/plain")
    @refusals(room, 404, 422, 429)
    def checkpoint(query: Mapping[str, Any]) -> Response:
        """Return the latest signed checkpoint, that of a size, or the newest that a witness has cosigned."""
        throttle.count(visitor(), SEARCHES if query["witnessed"] else READS)
        return _note(_asked(services.ledger, query))

    @room.route("/cosignatures", methods=["POST"])
    @by_protocol("the witness' signature in the body (C2SP tlog-cosignature)")
    @room.arguments(CosignatureSchema)
    @room.response(200, {"type": "string"}, content_type="text/plain")
    @refusals(room, 404, 415, 422, 429)
    def cosignature(body: Mapping[str, Any]) -> Response:
        """Take in a witness' cosignature of a checkpoint; return the checkpoint with it."""
        throttle.count(visitor(), WRITES)
        response = Response(services.ledger.cosign(body["size"], body["line"]), mimetype="text/plain")
        response.headers["Cache-Control"] = "no-store"
        return response

    @room.route("/proof/inclusion")
    @anyone
    @room.arguments(InclusionQuery, location="query")
    @room.response(200, InclusionSchema, headers=_FOREVER)
    @refusals(room, 404, 422, 429)
    def inclusion(query: Mapping[str, Any]) -> Any:
        """Prove that a leaf is in the tree of a size."""
        throttle.count(visitor(), READS)
        found = services.ledger.inclusion(query["leaf"], query["size"])
        return {**query, "hashes": _texts(found)}, IMMUTABLE

    @room.route("/proof/consistency")
    @anyone
    @room.arguments(ConsistencyQuery, location="query")
    @room.response(200, ConsistencySchema, headers=_FOREVER)
    @refusals(room, 404, 422, 429)
    def consistency(query: Mapping[str, Any]) -> Any:
        """Prove that the tree only grew."""
        throttle.count(visitor(), READS)
        found = services.ledger.consistency(query["old"], query["new"])
        return {**query, "hashes": _texts(found)}, IMMUTABLE

    return room


def _asked(ledger: Ledger, query: Mapping[str, Any]) -> str:
    if query["witnessed"]:
        return ledger.witnessed()
    return ledger.checkpoint() if query["size"] is None else ledger.checkpoint_of(query["size"])


def _note(text: str) -> Response:
    """A checkpoint may gain cosignatures, so that it is asked for again; unchanged, it does not travel again."""
    response = Response(text, mimetype="text/plain")
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag()
    return cast("Response", response.make_conditional(request.environ))


def _texts(hashes: list[bytes]) -> list[str]:
    return [b64encode(each).decode("ascii") for each in hashes]

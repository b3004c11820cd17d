"""The ledger's public face: checkpoint and proofs, for anyone (ledger.md; C2SP tlog-checkpoint; RFC 9162 section 2.1).

Hashes only: no entry leaves through here. Leaves out evidence bundles.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from flask import Response
from flask_smorest import Blueprint
from marshmallow import Schema, fields, validate

from app.http.api.schemas import JsonBlueprint, refusals
from app.http.api.services import ApiServices
from app.http.guard import anyone

_MOST = 1 << 53
"""Largest whole number every JSON reader keeps exact."""


def _number() -> fields.Integer:
    return fields.Integer(required=True, validate=validate.Range(0, _MOST))


class InclusionQuery(Schema):
    """Which leaf, in the tree of which size."""

    leaf = _number()
    size = _number()


class ConsistencyQuery(Schema):
    """From which size to which."""

    old = _number()
    new = _number()


class InclusionSchema(Schema):
    """An audit path, from the leaf upward; hashes in base64 (RFC 4648 section 4)."""

    leaf = fields.Integer(required=True)
    size = fields.Integer(required=True)
    hashes = fields.List(fields.String(), required=True)


class ConsistencySchema(Schema):
    """A proof that the newer tree extends the older one."""

    old = fields.Integer(required=True)
    new = fields.Integer(required=True)
    hashes = fields.List(fields.String(), required=True)


def ledger(services: ApiServices) -> Blueprint:
    """Return the ledger's doors."""
    room = JsonBlueprint("api_ledger", __name__, url_prefix="/ledger", description="The ledger's checkpoint and proofs")

    @room.route("/checkpoint")
    @anyone
    @room.response(200, {"type": "string"}, content_type="text/plain")
    def checkpoint() -> Response:
        """Return the latest signed checkpoint."""
        response = Response(services.ledger.checkpoint(), mimetype="text/plain")
        response.headers["Cache-Control"] = "no-cache"
        return response

    @room.route("/proof/inclusion")
    @anyone
    @room.arguments(InclusionQuery, location="query")
    @room.response(200, InclusionSchema)
    @refusals(room, 404, 422)
    def inclusion(query: Mapping[str, Any]) -> Any:
        """Prove that a leaf is in the tree of a size."""
        found = services.ledger.inclusion(query["leaf"], query["size"])
        return {**query, "hashes": _texts(found)}

    @room.route("/proof/consistency")
    @anyone
    @room.arguments(ConsistencyQuery, location="query")
    @room.response(200, ConsistencySchema)
    @refusals(room, 404, 422)
    def consistency(query: Mapping[str, Any]) -> Any:
        """Prove that the tree only grew."""
        found = services.ledger.consistency(query["old"], query["new"])
        return {**query, "hashes": _texts(found)}

    return room


def _texts(hashes: list[bytes]) -> list[str]:
    return [b64encode(each).decode("ascii") for each in hashes]

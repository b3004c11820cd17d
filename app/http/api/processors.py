"""The processor list as JSON, for anyone: whoever is not on it has no access (dsar rules P1-P5, consent rule 52).

What is said is the list the decision reads. Names of people, mail addresses and contract texts stay out (api.md).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from flask import Response, request, url_for
from flask_smorest import Blueprint
from marshmallow import fields, validate

from app.http.api.schemas import Body, JsonBlueprint, refusals
from app.http.api.services import ApiServices
from app.http.errors import NotHere
from app.http.guard import anyone
from app.http.locale import current_locale
from consent.decision import local_day
from consent.parties import Grant, NotActive, Party, grants_live
from consent.vocabulary import Locale

LONGEST_PAGE = 100


class GrantSchema(Body):
    """What a party may do with one category, why, and whether that holds today."""

    purpose = fields.String(required=True)
    category = fields.String(required=True)
    action = fields.String(required=True)
    justification = fields.String(required=True)
    start = fields.Date(required=True)
    until = fields.Date(required=True, allow_none=True)
    live = fields.Boolean(required=True)


class ProcessorSchema(Body):
    """One entry of the processor list as it stands today."""

    id = fields.String(required=True)
    controller = fields.String(required=True)
    role = fields.String(required=True)
    legal_name = fields.String(required=True)
    brand_name = fields.String(required=True)
    register_numbers = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    country = fields.String(required=True)
    does = fields.String(required=True)
    parent = fields.String(required=True, allow_none=True)
    transfer_mechanism = fields.String(required=True, allow_none=True)
    notice_url = fields.String(required=True, allow_none=True)
    in_force = fields.Boolean(required=True)
    reason = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Why the entry gives no access today; null if it does."},
    )
    grants = fields.List(fields.Nested(GrantSchema), required=True)


class ProcessorsSchema(Body):
    """One page of the list, by id; `next` is the `after` of the following page."""

    processors = fields.List(fields.Nested(ProcessorSchema), required=True)
    next = fields.String(required=True, allow_none=True)


class PageSchema(Body):
    """Keyset paging."""

    limit = fields.Integer(load_default=50, validate=validate.Range(1, LONGEST_PAGE))
    after = fields.String(load_default="", validate=validate.Length(max=64))


def processors(services: ApiServices) -> Blueprint:
    """Return the doors of the list."""
    room = JsonBlueprint("api_processors", __name__, url_prefix="/api/v1", description="The processor list")

    @room.route("/processors")
    @anyone
    @room.arguments(PageSchema, location="query")
    @room.response(200, ProcessorsSchema)
    @refusals(room, 422)
    def listed(page: Mapping[str, Any]) -> Any:
        """List the parties by id, with their grants in the reader's language and whether they are in force today."""
        left = sorted(party for party in services.policy.parties if party > page["after"])
        taken, rest = left[: page["limit"]], left[page["limit"] :]
        following = taken[-1] if rest else None
        body = {"processors": [_entry(services, services.policy.parties[party]) for party in taken], "next": following}
        return _tagged(services, ProcessorsSchema().dump(body), _link(following, page["limit"]))

    @room.route("/processors/<party>")
    @anyone
    @room.response(200, ProcessorSchema)
    @refusals(room, 404)
    def shown(party: str) -> Any:
        """Show one party."""
        entry = services.policy.parties.get(party)
        if entry is None:
            raise NotHere
        return _tagged(services, ProcessorSchema().dump(_entry(services, entry)), None)

    return room


def _entry(services: ApiServices, party: Party) -> dict[str, Any]:
    today, locale = _today(services, party), current_locale()
    standing = services.policy.standing(party.id, today)
    live = () if isinstance(standing, NotActive) else grants_live(party, today)
    return {
        "id": party.id,
        "controller": party.controller,
        "role": party.role.value,
        "legal_name": party.legal_name,
        "brand_name": party.brand_name,
        "register_numbers": dict(party.register_numbers),
        "country": party.country,
        "does": party.does[locale],
        "parent": party.parent,
        "transfer_mechanism": party.transfer_mechanism,
        "notice_url": party.notice_url,
        "in_force": not isinstance(standing, NotActive),
        "reason": standing.reason.value if isinstance(standing, NotActive) else None,
        "grants": _grants(party, live, locale),
    }


def _grants(party: Party, live: tuple[Grant, ...], locale: Locale) -> list[dict[str, Any]]:
    ordered = sorted(party.grants, key=lambda grant: (grant.purpose, grant.category, grant.action))
    return [
        {
            "purpose": grant.purpose,
            "category": grant.category,
            "action": grant.action.value,
            "justification": grant.justification[locale],
            "start": grant.start,
            "until": grant.until,
            "live": grant in live,
        }
        for grant in ordered
    ]


def _today(services: ApiServices, party: Party) -> date:
    """The controller's own day: contracts and grants run by the day."""
    return local_day(services.policy, party.controller, services.clock.now())


def _days(services: ApiServices) -> str:
    """The day it is for each controller, in their order."""
    policy, now = services.policy, services.clock.now()
    return ".".join(local_day(policy, controller, now).isoformat() for controller in policy.controllers)


def _tagged(services: ApiServices, body: Any, link: str | None) -> Response:
    """Answer with an ETag: the pack's digest, and the language and the days that change what is said of it."""
    response = Response(json.dumps(body, ensure_ascii=False), mimetype="application/json")
    locale = current_locale().value
    response.set_etag(f"{services.policy.digest}.{locale}.{_days(services)}")
    response.headers["Content-Language"] = locale
    response.vary.add("Accept-Language")
    response.headers["Cache-Control"] = "public, max-age=0, must-revalidate"
    if link is not None:
        response.headers["Link"] = link
    response.make_conditional(request)
    return response


def _link(after: str | None, limit: int) -> str | None:
    """RFC 8288."""
    if after is None:
        return None
    return f'<{url_for("api_processors.listed", limit=limit, after=after)}>; rel="next"'

"""The SDK against the real authorization server, and an authority's API doors for leases, disclosures and tasks.

The doors are the smallest that keep the contract of the wire; who calls is checked by the server's own code.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
from flask import Response, g, jsonify, request

from app.http.errors import ClientUnknown
from app.http.oauth import standing
from app.sdk.client import Authority
from app.sdk.dpop import b64url
from tests.doors.oauth_house import HOLDER, ISSUER, Component, House


class Doors:
    """Leases under a fixed key for each (subject, category); disclosures and answers kept as they came."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.keys: dict[tuple[str, str], tuple[bytes, bytes]] = {}
        self.leases = 0
        self.disclosures: dict[str, dict[str, Any]] = {}
        self.refuse: set[str] = set()
        self.tasks: list[dict[str, Any]] = []
        self.answers: list[tuple[str, dict[str, Any]]] = []
        self.parts: dict[tuple[str, int], bytes] = {}
        self.down = False
        self.lose_answers = 0
        web = house.web.application
        web.before_request(self._fail)
        web.after_request(self._lose)
        web.add_url_rule("/api/v1/keys/lease", view_func=self.lease, methods=["POST"])
        web.add_url_rule("/api/v1/disclosures", view_func=self.report, methods=["POST"])
        web.add_url_rule("/api/v1/holder/heartbeat", view_func=self.heartbeat, methods=["POST"])
        web.add_url_rule("/api/v1/holder/tasks", view_func=self.waiting)
        web.add_url_rule("/api/v1/holder/tasks/<task>/result", view_func=self.result, methods=["POST"])
        web.add_url_rule("/api/v1/holder/tasks/<task>/parts/<int:part>", view_func=self.part, methods=["PUT"])

    def _fail(self) -> Response | None:
        if self.down:
            return Response("down", 503)
        if request.path.startswith("/api/"):
            try:
                g.actor = self.house.presented.present(request.headers, request.method, request.base_url)
            except ClientUnknown:
                return Response('{"code":"token_invalid"}', 401)
        return None

    def _lose(self, response: Response) -> Response:
        """Act, then fail to answer: what a cut connection looks like to the caller."""
        if self.lose_answers and request.method == "POST" and request.path.startswith("/api/"):
            self.lose_answers -= 1
            return Response("lost", 502)
        return response

    def lease(self) -> Any:
        body = request.get_json()
        assert body.keys() - {"key_id"} == {"presented_token", "handle", "category", "seconds"}
        with self.house.unit() as unit:
            found = standing(self.house.services, unit, body["presented_token"], HOLDER, self.house.holder.record.party)
        if found is None or found.token.detail is None or body["category"] not in found.token.detail.categories:
            return jsonify(code="presented_token_refused"), 403
        self.leases += 1
        place = (body["handle"], body["category"])
        key_id, key = self.keys.setdefault(place, (os.urandom(16), os.urandom(32)))
        if "key_id" in body and urlsafe_b64decode(body["key_id"] + "==") != key_id:
            return jsonify(code="erased"), 410
        ends = self.house.clock.now() + timedelta(seconds=body["seconds"])
        return jsonify(key_id=b64url(key_id), key=b64url(key), expires_at=ends.isoformat(), messages=1000)

    def report(self) -> Any:
        batch = request.get_json()["disclosures"]
        faults = [f"disclosures.{place}.purpose" for place, line in enumerate(batch) if line["purpose"] in self.refuse]
        if faults:
            return jsonify(code="body_invalid", fields=faults), 422
        known = len(self.disclosures)
        self.disclosures.update({line["id"]: line for line in batch})
        return jsonify(written=len(self.disclosures) - known, known=0)

    def heartbeat(self) -> Any:
        return Response(status=204)

    def waiting(self) -> Any:
        return jsonify(tasks=self.tasks)

    def result(self, task: str) -> Any:
        self.answers.append((task, request.get_json()))
        return Response(status=204)

    def part(self, task: str, part: int) -> Any:
        self.parts[task, part] = request.get_data()
        return Response(status=204)


class Wire:
    """A requester's view of one HTTP request, as `Gate.check` reads it."""

    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        made = httpx.Request(method, url, headers=headers)
        self.method, self.url, self.headers = made.method, made.url, made.headers


def authority(house: House, who: Component, *, resource: str | None = None) -> Authority:
    """The authority as one component sees it, over WSGI."""
    http = httpx.Client(transport=httpx.WSGITransport(app=house.web.application))
    return Authority(ISSUER, who.record.id, who.key, resource=resource, http=http, clock=house.clock.now)


@contextmanager
def outage(doors: Doors) -> Iterator[None]:
    doors.down = True
    yield
    doors.down = False

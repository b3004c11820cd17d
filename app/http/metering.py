"""The door to the measures (operations.md section 7): for a scraper that knows the operator's token.

A bearer token of its own, because a proxy makes every caller look local; without the setting there is no door.
"""

from __future__ import annotations

import hmac

from flask import Blueprint, Flask, Response, request

from app.http.errors import NotHere
from app.http.guard import anyone
from app.metrics import CONTENT_TYPE, Metrics


def blueprint(metrics: Metrics, token: str) -> Blueprint:
    """Return the door. Raises ValueError for an empty token: that would be no door but a hole."""
    if not token:
        raise ValueError("the door to the measures needs a token")
    room = Blueprint("metrics", __name__)

    @room.get("/metrics")
    @anyone
    def measured() -> Response:
        """Tell what is measured; whoever has another token, or none, finds nothing here."""
        said = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(said, f"Bearer {token}".encode()):
            raise NotHere
        return Response(metrics.exposition(), content_type=CONTENT_TYPE, headers={"Cache-Control": "no-store"})

    return room


def count_requests(app: Flask, metrics: Metrics) -> None:
    """Count every answer by the pattern of its route; what fits no route is one word."""

    @app.after_request
    def count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule is not None else "none"
        metrics.answered(route, request.method if request.url_rule is not None else "ANY", response.status_code)
        return response

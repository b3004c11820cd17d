"""Is it alive, is it ready (operations.md section 7). Says what is wrong by name, nothing about anyone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Blueprint, Response, jsonify

from app.http.guard import anyone

Check = Callable[[], bool]


def blueprint(checks: Mapping[str, Check]) -> Blueprint:
    """Return the doors of health; `checks` are what must hold before this process should get requests."""
    page = Blueprint("health", __name__, url_prefix="/health")

    @page.get("/live")
    @anyone
    def live() -> Response:
        return jsonify(alive=True)

    @page.get("/ready")
    @anyone
    def ready() -> Response:
        found = {name: check() for name, check in checks.items()}
        answer = jsonify(ready=all(found.values()), checks=found)
        answer.status_code = 200 if all(found.values()) else 503
        return answer

    return page

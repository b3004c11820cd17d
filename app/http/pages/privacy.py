"""What this service itself does with data (GDPR art. 13), and whom to complain to (consent rule 55)."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, render_template

from app.http.chrome import firm
from app.http.doors import doors
from app.http.guard import anyone
from app.http.locale import people

page = people("privacy")
signals = Blueprint("signals", __name__)
GPC_SINCE = "2026-01-01"


@page.get("/privacy")
@anyone
def shown() -> str:
    """Show it."""
    purposes = [purpose for purpose in doors().policy.purposes.values() if purpose.controller == firm().id]
    return render_template("pages/privacy.html", purposes=purposes)


@signals.get("/.well-known/gpc.json")
@anyone
def gpc() -> Response:
    """Say that the browser's "do not sell or share" is honoured (consent rule 59)."""
    return jsonify(gpc=True, lastUpdate=GPC_SINCE)

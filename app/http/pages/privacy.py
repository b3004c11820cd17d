"""What this service itself does with data (GDPR art. 13), and whom to complain to (consent rule 55)."""

from __future__ import annotations

from flask import render_template

from app.http.chrome import firm
from app.http.doors import doors
from app.http.guard import anyone
from app.http.locale import people

page = people("privacy")


@page.get("/privacy")
@anyone
def shown() -> str:
    """Show it."""
    purposes = [purpose for purpose in doors().policy.purposes.values() if purpose.controller == firm().id]
    return render_template("pages/privacy.html", purposes=purposes)

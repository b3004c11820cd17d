"""The home page: what this place is for, in four sentences, and where to go."""

from __future__ import annotations

from flask import render_template

from app.http.guard import anyone
from app.http.locale import people

page = people("home")


@page.get("/")
@anyone
def shown() -> str:
    """Show it."""
    return render_template("pages/home.html")

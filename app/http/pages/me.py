"""The home of a person's own space: what they can do here, and how well they are signed in (consent rule 40)."""

from __future__ import annotations

from flask import render_template

from app.http.doors import doors
from app.http.errors import NotSignedIn
from app.http.guard import Level, current_subject, subject
from app.http.locale import people
from app.http.sessions import current

page = people("me")


@page.get("/me")
@subject()
def home() -> str:
    """Greet the person and show the rooms of the space."""
    session = current()
    if session is None:
        raise NotSignedIn
    profile = doors().subjects.profile(current_subject())
    # At level 1 names stay masked: whoever holds the mailbox learns nothing here (consent.md section 6).
    name = profile.name if profile is not None and session.level >= Level.PASSKEY else None
    return render_template("pages/me.html", name=name, level=session.level)

"""How a member of staff gets a first passkey: the printed code an administrator issued (dsar.md).

The code opens no session of staff: it permits one passkey, with which they then sign in like anyone.
"""

from __future__ import annotations

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.http import passkeys
from app.http.chrome import firm
from app.http.doors import Doors, EnrolmentFacts, doors
from app.http.errors import CodeWrong, NotSignedIn
from app.http.guard import anyone
from app.http.locale import people
from app.http.sessions import current, open_session, session_digest
from app.http.signin import count_try
from app.http.visitor import visitor

page = people("staff_door")


@page.get("/staff/enrol")
@anyone
def ask() -> str:
    """Ask for the printed code."""
    return render_template("pages/staff-enrol.html")


@page.post("/staff/enrol")
@anyone
def code() -> Response | tuple[str, int]:
    """Take the code into a visitor's session; one that does not fit leads back to the form, which says so."""
    of = doors()
    count_try("staff-enrol-ip", visitor(), of.limits.per_code)
    typed = request.form.get("code", "")
    try:
        _permit(of, typed)
    except CodeWrong:
        return render_template("pages/staff-enrol.html", error=True, typed=typed), 422
    return redirect(url_for(".add"), 303)


@page.get("/staff/enrol/passkey")
@anyone
def add() -> str:
    """Show the button that creates the passkey."""
    of, digest = doors(), session_digest()
    enrolment = _enrolment()
    if digest is None:
        raise NotSignedIn
    with of.unit() as unit:
        options = passkeys.creation_options(
            of, unit, digest, kind="staff", person=enrolment.person, label=firm().brand_name
        )
        unit.commit()
    return render_template("pages/passkey-add.html", options=options, action=url_for(".create"))


@page.post("/staff/enrol/passkey")
@anyone
def create() -> Response:
    """Store the passkey; signing in is the next step."""
    of, session, digest = doors(), current(), session_digest()
    if session is None or digest is None or session.enrolment is None:
        raise NotSignedIn
    challenge = passkeys.take_challenge(of, digest)
    with of.unit() as unit:
        used = unit.enrolments.redeem(session.enrolment, of.clock.now())
        if used is None or used.kind != "staff":
            raise CodeWrong
        passkeys.enrol(
            of,
            unit,
            kind="staff",
            person=used.person,
            controller=used.controller,
            cooling=used.cooling,
            challenge=challenge,
            answer=request.form.get("credential", ""),
        )
        unit.commit()
    return redirect(url_for("signin.passkey"), 303)


def _permit(of: Doors, typed: str) -> None:
    """Open a visitor's session that may enrol. Raises CodeWrong, and then the browser keeps the session it has."""
    with of.unit() as unit:
        permission = passkeys.permission(of, unit, typed, kind="staff", person=None)
        digest = open_session(unit, kind="visitor", person="", controller=of.controller, level=0)
        unit.sessions.permit_enrolment(digest, permission)
        unit.commit()


def _enrolment() -> EnrolmentFacts:
    session = current()
    if session is None or session.enrolment is None:
        raise NotSignedIn
    with doors().reading() as unit:
        found = unit.enrolments.find(session.enrolment, doors().clock.now())
    if found is None or found.kind != "staff":
        raise CodeWrong
    return found

"""Signing in and out: ask, sent, confirm, code, passkey, step-up (consent rules 29-33)."""

from __future__ import annotations

import re

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.http import passkeys, signin
from app.http.asking import controller_of
from app.http.chrome import speak_for
from app.http.doors import PasskeyFacts, PersonKind, doors
from app.http.errors import CodeWrong, LinkSpent, NotSignedIn, PasskeyRefused
from app.http.guard import anyone
from app.http.locale import current_locale, people, stand_on
from app.http.onward import own_path
from app.http.sessions import close_session, current, open_session, session_digest, set_cookie
from app.http.sessions import digest as digest_of
from app.http.visitor import visitor
from consent.vocabulary import ControllerId

page = people("signin")
_LONGEST_EMAIL = 254
_QUESTION = re.compile(r"/(?:fr|en|es|pt)/consent/(\w+)")


@page.get("/sign-in")
@anyone
def ask() -> str:
    """Ask for the address."""
    onward = own_path(request.args.get("next"))
    _speak_for_asked(request.args.get("at"), onward)
    return render_template("pages/sign-in.html", onward=onward)


@page.post("/sign-in")
@anyone
def send() -> Response | tuple[str, int]:
    """Answer the same for every address (consent rule 31)."""
    email = request.form.get("email", "").strip()
    onward = own_path(request.form.get("next"))
    controller = _speak_for_asked(request.form.get("at"), onward)
    stand_on(url_for(".ask", next=onward, at=_other_than_own(controller)))
    if "@" not in email or len(email) > _LONGEST_EMAIL:
        return render_template("pages/sign-in.html", onward=onward, error=True), 422
    signin.ask(signin.Asked(email, controller, onward))
    return redirect(url_for(".sent", next=onward, at=_other_than_own(controller)), 303)


def _other_than_own(controller: ControllerId) -> ControllerId | None:
    """Return the firm, where an address has to name it: the deployment's own is meant by one that names none."""
    return controller if controller != doors().controller else None


def _speak_for_asked(asked: str | None, onward: str | None) -> ControllerId:
    """Sign in at the firm the waiting question is for, else the one asked for, else the deployment's."""
    of = doors()
    waiting = _QUESTION.match(onward or "")
    asked = (controller_of(waiting.group(1)) if waiting else None) or asked
    controller = ControllerId(asked) if asked and asked in of.policy.controllers else of.controller
    speak_for(controller)
    return controller


@page.get("/sign-in/sent")
@anyone
def sent() -> str:
    """Say what to do next; the code can be pasted here (consent rule 30)."""
    onward = own_path(request.args.get("next"))
    return _sent(onward, _speak_for_asked(request.args.get("at"), onward))


def _sent(onward: str | None, controller: ControllerId, *, error: bool = False) -> str:
    """What was asked for stays in the address: a new link leads to the same question."""
    stand_on(url_for(".sent", next=onward, at=_other_than_own(controller)))
    again = url_for(".ask", next=onward, at=_other_than_own(controller))
    return render_template("pages/sign-in-sent.html", minutes=_minutes(), onward=onward, again=again, error=error)


@page.post("/sign-in/code")
@anyone
def code() -> Response | tuple[str, int]:
    """Open by the code."""
    onward = own_path(request.form.get("next"))
    controller = _speak_for_asked(request.form.get("at"), onward)
    stand_on(url_for(".sent", next=onward, at=_other_than_own(controller)))
    try:
        found = signin.open_by_code(request.form.get("code", ""))
    except CodeWrong:
        return _sent(onward, controller, error=True), 422
    return redirect(found.onward or url_for("me.home"), 303)


@page.get("/sign-in/link/<token>")
@anyone
def confirm(token: str) -> str:
    """Show a button; nothing is consumed by looking (consent rule 29)."""
    if not signin.link_is_open(token):
        raise LinkSpent
    return render_template("pages/sign-in-confirm.html", minutes=_minutes())


@page.post("/sign-in/link/<token>")
@anyone
def consume(token: str) -> Response:
    """Open by the link."""
    found = signin.open_by_link(token)
    return redirect(found.onward or url_for("me.home"), 303)


@page.get("/sign-in/passkey")
@anyone
def passkey() -> str:
    """Show the passkey button to somebody who is not signed in: subjects, and staff, whose only way in it is."""
    of = doors()
    with of.unit() as unit:
        digest = session_digest()
        if digest is None:
            digest = open_session(unit, kind="visitor", person="", controller=of.controller, level=0)
        options = passkeys.request_options(of, unit, digest)
        unit.commit()
    return render_template(
        "pages/passkey-sign-in.html", options=options, onward=own_path(request.args.get("next")), step_up=False
    )


@page.get("/me/step-up")
@anyone
def step_up() -> str | Response:
    """Ask the signed-in person for their own passkey (consent rule 33)."""
    of, session, digest = doors(), current(), session_digest()
    if session is None or digest is None or session.kind == "visitor":
        raise NotSignedIn
    with of.unit() as unit:
        own = tuple(unit.passkeys.of(session.kind, session.person))
        options = passkeys.request_options(of, unit, digest, own) if own else ""
        unit.commit()
    return render_template(
        "pages/passkey-sign-in.html", options=options, onward=own_path(request.args.get("next")), step_up=True
    )


@page.post("/sign-in/passkey")
@anyone
def assert_passkey() -> Response:
    """Verify the assertion and open a session of level 3."""
    of, digest, session = doors(), session_digest(), current()
    if digest is None or session is None:
        raise NotSignedIn
    stand_on(url_for(".passkey", next=own_path(request.form.get("next"))))
    signin.count_try("passkey-ip", visitor(), of.limits.per_ip)
    challenge = passkeys.take_challenge(of, digest)
    with of.unit() as unit:
        found = passkeys.recognise(of, unit, challenge=challenge, answer=request.form.get("credential", ""))
        _refuse_stranger(session.kind, session.person, found)
        open_session(
            unit,
            kind=found.kind,
            person=found.person,
            controller=found.controller,
            level=passkeys.LEVEL_BY_PASSKEY,
            proven_at=of.clock.now(),
            credential=digest_of(found.credential_id),
        )
        unit.commit()
    home = "/dpo/" if found.kind == "staff" else url_for("me.home")
    return redirect(own_path(request.form.get("next")) or home, 303)


def _refuse_stranger(kind: PersonKind, person: str, found: PasskeyFacts) -> None:
    """In a session that is somebody's, only that person's passkey raises the level."""
    if kind != "visitor" and (kind, person) != (found.kind, found.person):
        raise PasskeyRefused


@page.post("/sign-out")
@anyone
def leave() -> Response:
    """End the session."""
    with doors().unit() as unit:
        close_session(unit)
        unit.commit()
    set_cookie("regard_visit", None)
    return redirect(f"/{current_locale().value}/", 303)


def _minutes() -> int:
    return int(doors().limits.link.total_seconds() // 60)

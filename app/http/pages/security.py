"""A subject's passkeys: add by printed code or by an older passkey, see, remove (consent rule 33).

A stolen mailbox opens level 1 and nothing here: adding needs the printed code or a passkey, removing needs a passkey.
"""

from __future__ import annotations

from datetime import timedelta

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.http import passkeys
from app.http.chrome import firm
from app.http.doors import Doors, DoorUnit, ProfileFacts, SessionFacts, doors
from app.http.errors import CodeWrong, NotHere, NotSignedIn, StepUpNeeded
from app.http.guard import Level, current_subject, subject
from app.http.locale import current_locale, people
from app.http.mails import send_mail
from app.http.sessions import current, session_digest
from app.http.signin import count_try
from consent.vocabulary import Locale, SubjectRef

page = people("security")
FRESH = timedelta(minutes=10)


@page.get("/me/security")
@subject()
def shown() -> str:
    """List the passkeys and offer to add one."""
    session, _ = _session()
    return _own_passkeys(session)


@page.post("/me/security/code")
@subject()
def code() -> Response | tuple[str, int]:
    """Take the printed code, which permits one passkey here; one that does not fit leads back to its field."""
    of, (session, digest), typed = doors(), _session(), request.form.get("code", "")
    count_try("enrol", session.person, of.limits.per_code)
    try:
        with of.unit() as unit:
            passkeys.permit(of, unit, digest, typed, kind="subject", person=session.person)
            unit.commit()
    except CodeWrong:
        return _own_passkeys(session, error=True, typed=typed), 422
    return redirect(url_for(".add"), 303)


@page.get("/me/security/add")
@subject()
def add() -> str:
    """Show the button that creates the passkey."""
    of, (session, digest) = doors(), _session()
    _permitted(session)
    with of.unit() as unit:
        options = passkeys.creation_options(
            of, unit, digest, kind="subject", person=session.person, label=firm().brand_name
        )
        unit.commit()
    return render_template("pages/passkey-add.html", options=options, action=url_for(".create"))


@page.post("/me/security/add")
@subject()
def create() -> Response:
    """Store the passkey and tell the person by mail."""
    of, (session, digest) = doors(), _session()
    challenge, profile = passkeys.take_challenge(of, digest), of.subjects.profile(current_subject())
    with of.unit() as unit:
        cooling = _use_permission(of, unit, session)
        passkeys.enrol(
            of,
            unit,
            kind="subject",
            person=session.person,
            controller=session.controller,
            cooling=cooling,
            challenge=challenge,
            answer=request.form.get("credential", ""),
        )
        _tell(of, unit, "passkey-added", session.person, profile)
        unit.commit()
    return redirect(url_for(".shown"), 303)


@page.post("/me/security/remove")
@subject(level=Level.PASSKEY, fresh=FRESH)
def remove() -> Response:
    """Remove one passkey, end every other session, and tell the person by mail.

    Whoever has the passkey may be signed in with it, and could add another one from there.
    """
    of, (session, digest) = doors(), _session()
    credential, profile = request.form.get("passkey", ""), of.subjects.profile(current_subject())
    with of.unit() as unit:
        if not unit.passkeys.remove(credential, "subject", session.person):
            raise NotHere
        unit.sessions.close_others("subject", session.person, digest)
        passkeys.record(
            unit,
            "passkey.removed",
            kind="subject",
            person=session.person,
            controller=session.controller,
            credential=credential,
        )
        _tell(of, unit, "passkey-removed", session.person, profile)
        unit.commit()
    return redirect(url_for(".shown"), 303)


def _own_passkeys(session: SessionFacts, **of_code: object) -> str:
    with doors().reading() as unit:
        own = list(unit.passkeys.of("subject", session.person))
    return render_template("pages/security.html", passkeys=own, strong=session.level >= Level.PASSKEY, **of_code)


def _session() -> tuple[SessionFacts, str]:
    session, digest = current(), session_digest()
    if session is None or digest is None:
        raise NotSignedIn
    return session, digest


def _permitted(session: SessionFacts) -> None:
    if session.enrolment is None and not _proven_lately(session):
        raise StepUpNeeded(Level.PASSKEY)


def _proven_lately(session: SessionFacts) -> bool:
    proven = session.proven_at
    return session.level >= Level.PASSKEY and proven is not None and doors().clock.now() - proven <= FRESH


def _use_permission(of: Doors, unit: DoorUnit, session: SessionFacts) -> timedelta:
    """Use the printed code up, if that is what permits it, and return how long the passkey has to cool."""
    _permitted(session)
    if session.enrolment is None:
        return timedelta(0)
    used = unit.enrolments.redeem(session.enrolment, of.clock.now())
    if used is None or used.person != session.person:
        raise CodeWrong
    return used.cooling


def _tell(of: Doors, unit: DoorUnit, kind: str, person: str, profile: ProfileFacts | None) -> None:
    if profile is None:
        return
    locale = _language(unit, person)
    send_mail(
        unit,
        kind,
        to=profile.email,
        locale=locale,
        controller=firm(),
        link=of.origin + url_for(".shown", locale=locale.value),
        at=of.clock.now(),
    )


def _language(unit: DoorUnit, person: str) -> Locale:
    """Return the language on file: whoever is at the page may not be whom the warning is for (consent rule 24)."""
    known = unit.subjects.get(SubjectRef(person))
    return known.locale if known is not None else current_locale()

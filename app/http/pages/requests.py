"""A person's requests: ask, follow, take back, open the copy (GDPR arts 12, 15-22; dsar rules 1-9, 26, 42, 53, 57-60).

A session opened by e-mail shows states and dates; what people wrote, and every copy, needs a passkey (consent.md
section 6). Leaves out deciding and sending, which are staff's and the durable work's.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.http import cases, casewords, facts
from app.http.doors import doors
from app.http.erasures import Certificate, served, view_of
from app.http.errors import NotHere
from app.http.guard import Level, current_controller, current_subject, subject
from app.http.locale import people, stand_on
from consent.vocabulary import Shredded
from dsar import events as e
from dsar.case import Case, answered
from dsar.ports import Desk, Recorded
from dsar.usecases import Opened, dates_of, record_fetch, timeline, withdraw_request
from dsar.usecases.fetching import erasure_begins
from dsar.usecases.revoking import revoke_copy
from dsar.vocabulary import REQUIRED_PARTS, MessageId, NoteId, Right

page = people("requests")


@page.get("/me/requests")
@subject()
def listed() -> str:
    """List the requests, newest first, each with its date and what happens next (dsar rule 21)."""
    of = doors()
    with of.reading() as unit:
        found = of.desk(unit).cases.of_subject(current_controller(), current_subject())
    return render_template("pages/requests.html", cases=found, words=casewords)


@page.get("/me/requests/new")
@subject()
def new() -> str:
    """Show the rights, each with what it does and does not do."""
    return _choice(())


def _choice(picked: Sequence[Right], *, error: bool = False) -> str:
    of = doors()
    with of.reading() as unit:
        desk = of.desk(unit)
        strong = [right for right in cases.ORDER if cases.needs_passkey(desk, unit, right)]
    return render_template(
        "pages/request-new.html", rights=cases.ORDER, picked=picked, strong=strong, error=error, words=casewords
    )


@page.get("/me/requests/new/check")
@subject()
def check() -> str | tuple[str, int]:
    """Show what will be sent, and what an erasure keeps; asks for the passkey where a right needs it (dsar rule 26)."""
    rights = cases.chosen(request.args.getlist("right"))
    if not rights:
        return _choice((), error=True), 422
    of = doors()
    with of.reading() as unit:
        cases.require_level(of.desk(unit), unit, rights)
    return _check(rights, "")


def _check(rights: Sequence[Right], text: str, *, error: bool = False) -> str:
    return render_template(
        "pages/request-check.html",
        rights=rights,
        text=text,
        error=error,
        longest=cases.LONGEST_TEXT,
        kept=cases.kept_rules() if Right.ERASURE in rights else (),
        words=casewords,
        Right=Right,
    )


@page.post("/me/requests/new/check")
@subject()
def send() -> Response | str | tuple[str, int]:
    """Open the request; what is open already is named with its date instead (dsar rule 9)."""
    rights = cases.chosen(request.form.getlist("right"))
    text = request.form.get("text", "").strip()
    if not rights:
        return _choice((), error=True), 422
    stand_on(url_for(".check", right=rights))
    if len(text) > cases.LONGEST_TEXT:
        return _check(rights, text, error=True), 422
    opened = cases.open_request(rights, text)
    return _opened(opened)


def _opened(opened: Opened) -> Response | str:
    if opened.case is not None and not opened.already:
        return redirect(url_for(".shown", case=opened.case), 303)
    return render_template("pages/request-already.html", opened=opened, words=casewords)


@page.get("/me/requests/<case>")
@subject()
def shown(case: str) -> str:
    """Show one request: what is asked, where it stands, its dates, our messages, what happened."""
    of = doors()
    with of.reading() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        history = timeline(desk, found.id)
        return render_template(
            "pages/request.html",
            case=found,
            summary=desk.cases.summary(found.id),
            dates=dates_of(desk, found),
            letters=_letters(found, history),
            notes=_notes(desk, history),
            decisions={each.event.line: each.event for each in history if isinstance(each.event, e.LineDecided)},
            copies=cases.copies_of(desk, found, history),
            erasure_begins=erasure_begins(desk, found.id),
            happened=casewords.happened(found, history),
            erasures=[view_of(each, desk.cases.retentions(found.id)) for each in _erasures(found)],
            take_back=cases.can_take_back(found),
            answered={line for line in found.lines if answered(found, line)},
            extensions={
                each.event.message: each.event for each in history if isinstance(each.event, e.ExtensionAnnounced)
            },
            **_more(desk),
        )


def _more(desk: Desk) -> dict[str, object]:
    return {
        "words": casewords,
        "facts": facts,
        "now": desk.clock.now(),
        "strong": cases.strong(),
        "Right": Right,
        "parts": REQUIRED_PARTS,
    }


def _letters(case: Case, history: Sequence[Recorded]) -> list[e.MessageDispatched]:
    """Return what we sent, newest first: a message counts once it has left (dsar rule 60)."""
    sent = [each.event for each in history if isinstance(each.event, e.MessageDispatched)]
    return [event for event in reversed(sent) if event.message in case.messages]


def _notes(desk: Desk, history: Sequence[Recorded]) -> dict[MessageId | None, str | Shredded]:
    """Return what was written: our questions by message, the person's own words under None; a passkey opens them."""
    if not cases.strong():
        return {}
    found: dict[MessageId | None, NoteId] = {}
    for each in history:
        if isinstance(each.event, e.IdentityAsked | e.ClarificationAsked):
            found[each.event.message] = each.event.note
        if isinstance(each.event, e.CaseReceived) and each.event.note is not None:
            found[None] = each.event.note
    return {message: desk.notes.read(note) for message, note in found.items()}


def _erasures(case: Case) -> list[Certificate]:
    """Return the signed certificates of the erasures of a case that are done."""
    done = [line.carried_out for line in case.lines.values() if line.right is Right.ERASURE and line.carried_out]
    # the evidence is "erasure:digest of the certificate"
    return [each for evidence in done for each in doors().certificates(evidence.partition(":")[0])]


@page.get("/me/requests/<case>/certificate.<kind>")
@subject()
def certificate(case: str, kind: str) -> Response:
    """Hand over the certificate of an erasure to somebody who can still sign in."""
    of = doors()
    with of.reading() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        kept = desk.cases.retentions(found.id)
    signed = _erasures(found)
    if not signed:
        raise NotHere
    return served(signed[0], kept, kind)


@page.get("/me/requests/<case>/take-back")
@subject()
def take_back_page(case: str) -> str:
    """Say what taking it back means before it is done."""
    of = doors()
    with of.reading() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        cases.require_level(desk, unit, _rights(found))
        possible = cases.can_take_back(found)
    return render_template("pages/request-back.html", case=found, possible=possible, words=casewords)


@page.post("/me/requests/<case>/take-back")
@subject()
def take_back(case: str) -> Response:
    """End it, as the person asks; a notice confirms it (dsar rule 60)."""
    of = doors()
    with of.unit() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        cases.require_level(desk, unit, _rights(found))
        withdraw_request(desk, found.id, cases.me())
        unit.commit()
    return redirect(url_for(".shown", case=found.id), 303)


def _rights(case: Case) -> list[Right]:
    return [line.right for line in case.lines.values()]


# Copies


@page.get("/me/requests/<case>/copy/destroy", defaults={"line": None})
@page.get("/me/requests/<case>/copy/<line>/destroy")
@subject(level=Level.PASSKEY, fresh=cases.FRESH)
def destroy_page(case: str, line: str | None) -> str:
    """Say what destroying a copy means before it is done."""
    of = doors()
    with of.reading() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        place = cases.find_copy(desk, found, line)
        waits = erasure_begins(desk, found.id) is not None and place.package.id not in found.fetched
    return render_template("pages/copy-destroy.html", case=found, place=place, waits=waits, words=casewords)


@page.post("/me/requests/<case>/copy/destroy", defaults={"line": None})
@page.post("/me/requests/<case>/copy/<line>/destroy")
@subject(level=Level.PASSKEY, fresh=cases.FRESH)
def destroy(case: str, line: str | None) -> Response:
    """Revoke a copy and remove its bytes, as its person asks (dsar rule 58); again after a crash does the rest."""
    of = doors()
    with of.unit() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        place = cases.find_copy(desk, found, line)
        revoke_copy(desk, found.id, place.package.id, cases.me())
        unit.commit()
    of.copies.destroy(place.line.id)
    return redirect(url_for(".shown", case=found.id), 303)


@page.get("/me/requests/<case>/copy/files", defaults={"line": None})
@page.get("/me/requests/<case>/copy/<line>/files")
@subject(level=Level.PASSKEY, fresh=cases.FRESH)
def copy_files(case: str, line: str | None) -> str:
    """Show what a copy is made of; nothing leaves yet."""
    of = doors()
    with of.reading() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        place, archive = cases.open_copy(desk, found, line)
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        files = [(entry.filename, entry.file_size) for entry in opened.infolist()]
    return render_template("pages/copy.html", case=found, place=place, files=files, size=len(archive), words=casewords)


@page.get("/me/requests/<case>/copy", defaults={"line": None})
@page.get("/me/requests/<case>/copy/<line>")
@subject(level=Level.PASSKEY, fresh=cases.FRESH)
def copy(case: str, line: str | None) -> Response:
    """Hand the archive over, once that is on record (dsar rule 58: counted, expiring, revocable)."""
    of = doors()
    with of.unit() as unit:
        desk = of.desk(unit)
        found = cases.own_case(desk, case)
        place, archive = cases.open_copy(desk, found, line)
        if request.method == "GET":  # HEAD carries no bytes, so nothing was fetched
            record_fetch(desk, found.id, place.package.id, cases.me())
            unit.commit()
    return Response(
        archive,
        mimetype="application/zip",
        headers={
            "Content-Disposition": f'attachment; filename="{found.id}.zip"',
            "Cache-Control": "no-store",
        },
    )

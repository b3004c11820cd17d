"""The console, as small as it can be: the queue by strict due date, one case with its timeline, approvals (dsar.md
section 7; dsar rules 21, 56, 57, 59; exports.md rules 6, 7).

A member of staff sees their controllers' cases and nothing else; another one's do not exist for them. Nothing here
shows who a person is or what they wrote, so looking is no disclosure. Leaves out deciding lines, search, assignment,
plots and the breach register, which come with the whole console.
"""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.http import console, deskwords
from app.http.doors import CandidateFacts, DoorUnit, doors
from app.http.errors import ChangedMeanwhile, FormInvalid, NotHere
from app.http.guard import StaffRole, current_staff, staff
from dsar import usecases
from dsar.ports import Desk
from dsar.vocabulary import CaseId, TaskId

FRESH = timedelta(minutes=5)
"""How long ago a passkey may have been asserted for an approval."""
PROOF = "api_ledger.inclusion"
"""Where the proof of a leaf is; not linked where the JSON doors are not built in."""
READERS = (StaffRole.AGENT, StaffRole.DPO, StaffRole.SECOND_READER, StaffRole.AML, StaffRole.AUDITOR)
PAGE = 25
"""Cases on one page of the queue."""

page = Blueprint("dpo", __name__, url_prefix="/dpo")
"""Without a language in its addresses: the console speaks what the browser prefers."""


@page.get("/")
@staff()
def home() -> Response:
    """Go where work waits."""
    return redirect(url_for(".listed"), 303)


@page.get("/cases")
@staff(*READERS)
def listed() -> str:
    """The queue by strict due date, then id; `after` is the last case of the page before (dsar rule 21)."""
    of, member, ended = doors(), current_staff(), request.args.get("show") == "ended"
    after = request.args.get("after")
    with of.reading() as unit:
        desk = of.desk(unit)
        if after is not None:
            console.own_case(desk, CaseId(after), member)
        found = usecases.queue(
            desk, member.controllers, limit=PAGE + 1, after=CaseId(after) if after else None, ended=ended
        )
        rows = [console.row(summary) for summary in found[:PAGE]]
    following = found[PAGE - 1].case if len(found) > PAGE else None
    return render_template("pages/dpo-cases.html", rows=rows, ended=ended, after=after, following=following, **_words())


@page.get("/cases/<case>")
@staff(*READERS)
def shown(case: str) -> str:
    """One case: dates, what happened with each event's leaf, holders, copies, what is kept, recipients."""
    of = doors()
    with of.reading() as unit:
        file = console.open_file(of.desk(unit), unit, CaseId(case), current_staff())
    return render_template("pages/dpo-case.html", file=file, **_words())


@page.get("/cases/<case>/approve")
@staff(StaffRole.DPO, fresh=FRESH)
def approve_page(case: str) -> str:
    """Show once more what would be approved."""
    of = doors()
    with of.reading() as unit:
        file = console.open_file(of.desk(unit), unit, CaseId(case), current_staff())
    return render_template("pages/dpo-approve.html", file=file, **_words())


@page.post("/cases/<case>/approve")
@staff(StaffRole.DPO, fresh=FRESH)
def approve(case: str) -> Response:
    """Approve what was shown; whoever decided a refusal may not (dsar rules 57, 59)."""
    with doors().unit() as unit:
        desk = _unchanged(unit, case)
        usecases.approve(desk, CaseId(case), console.actor(current_staff()))
        unit.commit()
    return redirect(url_for(".shown", case=case), 303)


@page.post("/cases/<case>/send-back")
@staff(StaffRole.DPO)
def send_back(case: str) -> Response:
    """Return the case to review."""
    with doors().unit() as unit:
        usecases.send_back(_unchanged(unit, case), CaseId(case), console.actor(current_staff()))
        unit.commit()
    return redirect(url_for(".shown", case=case), 303)


@page.post("/cases/<case>/submit")
@staff(StaffRole.AGENT, StaffRole.DPO)
def submit(case: str) -> Response:
    """Hand a case whose lines are all decided to approval."""
    with doors().unit() as unit:
        usecases.submit(_unchanged(unit, case), CaseId(case), console.actor(current_staff()))
        unit.commit()
    return redirect(url_for(".shown", case=case), 303)


@page.post("/cases/<case>/recipients/<task>")
@staff(StaffRole.AGENT, StaffRole.DPO)
def settle(case: str, task: str) -> Response:
    """Note where an art. 19 notice stands (dsar rule 56)."""
    answer = console.SETTLEMENTS.get(request.form.get("answer", ""))
    if answer is None:
        raise FormInvalid("answer")
    with doors().unit() as unit:
        desk = doors().desk(unit)
        console.own_case(desk, CaseId(case), current_staff())
        console.waiting_recipient(desk, CaseId(case), TaskId(task))
        outcome, reason = answer
        usecases.record_recipient(desk, TaskId(task), outcome, by=console.actor(current_staff()), reason=reason)
        unit.commit()
    return redirect(url_for(".shown", case=case), 303)


@page.get("/exports")
@staff(StaffRole.DPO, StaffRole.AUDITOR)
def releases() -> str:
    """What asks to be released and what was, newest first."""
    with doors().reading() as unit:
        found = unit.release_candidates.of(current_staff().controllers)
        names = console.names(unit, [each.approved_by for each in found])
    return render_template("pages/dpo-exports.html", candidates=found, names=names, **_words())


@page.get("/exports/<candidate>")
@staff(StaffRole.DPO, StaffRole.AUDITOR)
def release(candidate: str) -> str:
    """The report of one candidate (exports.md rule 7)."""
    with doors().reading() as unit:
        found = _own_candidate(unit, candidate)
        names = console.names(unit, [found.approved_by])
    return render_template("pages/dpo-export.html", found=found, names=names, **_words())


@page.get("/exports/<candidate>/approve")
@staff(StaffRole.DPO, fresh=FRESH)
def approve_release_page(candidate: str) -> str:
    """Ask once more."""
    with doors().reading() as unit:
        found = _own_candidate(unit, candidate)
    return render_template("pages/dpo-export-approve.html", found=found, **_words())


@page.post("/exports/<candidate>/approve")
@staff(StaffRole.DPO, fresh=FRESH)
def approve_release(candidate: str) -> Response:
    """Record the named approval of exactly these files (exports.md rule 6)."""
    of, member = doors(), current_staff()
    with of.unit() as unit:
        found = _own_candidate(unit, candidate)
        digest = request.form.get("digest", "")
        if not unit.release_candidates.approve(found.id, digest, member.id, of.clock.now()):
            raise ChangedMeanwhile
        unit.journal.record(
            "export.approved",
            actor=member.id,
            controller=found.controller,
            subject=None,
            payload={"candidate": found.id, "digest": found.digest},
        )
        unit.commit()
    return redirect(url_for(".release", candidate=candidate), 303)


def _own_candidate(unit: DoorUnit, candidate: str) -> CandidateFacts:
    found = unit.release_candidates.find(candidate)
    if found is None or found.controller not in current_staff().controllers:
        raise NotHere
    return found


def _unchanged(unit: DoorUnit, case: str) -> Desk:
    """Return the desk if the case is theirs and still the one the form was made of."""
    desk = doors().desk(unit)
    known = console.own_case(desk, CaseId(case), current_staff())
    if request.form.get("version") != str(known.version):
        raise ChangedMeanwhile
    return desk


def _words() -> dict[str, object]:
    proof = PROOF if PROOF in current_app.view_functions else None
    return {"words": deskwords, "staff": current_staff(), "role": StaffRole, "proof": proof}

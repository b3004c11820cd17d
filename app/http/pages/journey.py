"""The pages of a consent question: one question, eight facts, two equal buttons (consent rules 1-28).

`GET` shows the stage the person is at, `POST` takes one answer. Refusing is possible on every page and is never
followed by a second ask. Leaving goes through a page with a plain link (consent rule 26).
"""

from __future__ import annotations

from collections.abc import Callable

from flask import redirect, render_template, request, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from app.http import asking, facts
from app.http.asking import Question
from app.http.chrome import speak_for
from app.http.doors import doors
from app.http.errors import FormInvalid, NotHere, QuestionGone
from app.http.guard import subject
from app.http.locale import people
from consent import journey as machine
from consent.errors import AskedTooSoonError
from consent.events import AccessPath
from consent.journey import Answer, Back, Change, Choose, ChooseSource, Confirm, Continue, Fault, Refuse, SteppedUp
from consent.policy import StageKind
from consent.vocabulary import CategoryId

page = people("journey")
Form = MultiDict[str, str]


@page.get("/consent/<journey>")
@subject()
def shown(journey: str) -> str:
    """Show the page the person is at; showing the facts is recorded as shown."""
    question = asking.open_question(journey)
    return _show(question)


@page.post("/consent/<journey>")
@subject()
def answer(journey: str) -> Response | tuple[str, int]:
    """Take one answer; faults show the same page again with what was chosen (consent rule 24)."""
    question = asking.open_question(journey)
    given, seen = _answer(request.form), request.form.get("seen", "")
    if seen == question.seen and _needs_passkey(question, given):
        return redirect(url_for("signin.step_up", next=url_for(".shown", journey=journey)), 303)
    faults = asking.take(journey, given, seen)
    if faults:
        now = asking.open_question(journey)
        return _show(now, faults, request.form if seen == now.seen else None), 422
    return redirect(url_for(".shown", journey=journey), 303)


@page.get("/consent/<journey>/return")
@subject()
def back_to_partner(journey: str) -> Response:
    """Send the person back to whoever asked, with the answer; the link is followed once."""
    partners = doors().authorizations
    if partners is None:
        raise NotHere
    try:
        question = asking.open_question(journey)
    except (AskedTooSoonError, QuestionGone):
        # the answer was no already (consent rule 8), or nothing can be read under what is no longer listed
        return redirect(partners.refuse(journey), 303)
    if not question.onward or question.progress.outcome is None:
        raise NotHere
    if question.progress.outcome is machine.Outcome.AGREED:
        return redirect(partners.complete(journey, question.record.id, question.record.terms.subject), 303)
    return redirect(partners.refuse(journey), 303)


def _answer(form: Form) -> Answer:
    """Read the button pressed. Raises FormInvalid for one that is not on the page."""
    reader = _BUTTONS.get(form.get("answer", ""))
    if reader is None:
        raise FormInvalid("answer")
    return reader(form)


def _agree(form: Form) -> Answer:
    """The accepting button of the page the form stands on: what it means is never taken from another (rule 25)."""
    stage = form.get("seen", "").partition(".")[0]
    if stage == StageKind.INSTITUTION:
        return _source(form)
    if stage == StageKind.FACTS:
        return _choice(form)
    return SteppedUp() if stage == StageKind.STEP_UP else Confirm()


def _source(form: Form) -> Answer:
    institution, _, path = form.get("source", "").partition("|")
    return ChooseSource(institution, AccessPath(path) if path in {each.value for each in AccessPath} else None)


def _choice(form: Form) -> Answer:
    days = form.get("period", "")
    return Choose(
        optional=frozenset(CategoryId(name) for name in form.getlist("optional")),
        period_days=int(days) if days.isdecimal() and len(days) < 5 else None,
        attended_only=form.get("attended") == "yes",
    )


def _change(form: Form) -> Answer:
    stage = form.get("stage", "")
    if stage not in {each.value for each in StageKind}:
        raise FormInvalid("stage")
    return Change(StageKind(stage))


_BUTTONS: dict[str, Callable[[Form], Answer]] = {
    "agree": _agree,
    "refuse": lambda _form: Refuse(),
    "back": lambda _form: Back(),
    "change": _change,
    "continue": lambda _form: Continue(),
}


def _needs_passkey(question: Question, given: Answer) -> bool:
    """Whether this answer waits for strong authentication that has not been given lately (consent rule 33)."""
    if question.progress.outcome is not None or question.stage not in {StageKind.CHECK, StageKind.STEP_UP}:
        return False
    if isinstance(given, SteppedUp):
        return not asking.proven()
    purpose = doors().policy.purposes[question.record.terms.purpose]
    own_page = any(stage.kind is StageKind.STEP_UP for stage in question.offer.stages)
    return isinstance(given, Confirm) and purpose.needs_sca and not own_page and not asking.proven()


def _show(question: Question, faults: tuple[Fault, ...] = (), form: Form | None = None) -> str:
    """Render the page, and record the facts as shown wherever they are: nobody agrees to what was not."""
    if question.stage is StageKind.FACTS and question.progress.outcome is None:
        asking.note_shown(question)
    return _render(question, faults, form)


def _render(question: Question, faults: tuple[Fault, ...], form: Form | None) -> str:
    terms, policy = question.record.terms, doors().policy
    speak_for(terms.controller)
    number, count = machine.place(question.offer, question.progress)
    needed, optional = machine.listed(question.offer, question.progress)
    return render_template(
        "pages/consent.html",
        question=question,
        stage=question.stage.value,
        stage_name=next(stage.names for stage in question.offer.stages if stage.kind is question.stage),
        number=number,
        count=count,
        purpose=policy.purposes[terms.purpose],
        party=policy.parties[terms.party],
        needed=needed,
        optional=optional,
        faults=[fault.value for fault in faults],
        chosen=_chosen(question, form),
        facts=facts,
        policy=policy,
        proven=asking.proven(),
        awaited=question.progress.outcome is not None and asking.awaited(question),
    )


def _chosen(question: Question, form: Form | None) -> dict[str, object]:
    """What the controls show: the form just sent, else the answers kept, else nothing (consent rule 5)."""
    at = question.progress
    if form is not None:
        return {"optional": form.getlist("optional"), "period": form.get("period"), "attended": form.get("attended")}
    source = f"{at.institution}|{at.access_path.value}" if at.institution and at.access_path else None
    return {
        "optional": list(at.optional or ()),
        "period": str(at.period_days) if at.period_days else None,
        "attended": "yes" if at.attended_only else None,
        "source": source,
    }

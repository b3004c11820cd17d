"""A person's agreements: the list, one of them, stopping it in two clicks, renewing it (consent rules 41-49).

Stopping needs no more than giving did: the same session, or the link in the receipt that serves for one agreement only
(consent rule 35).
"""

from __future__ import annotations

import hmac

from flask import redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from app.http import facts, renewing
from app.http.asking import put_on_page
from app.http.chrome import speak_for
from app.http.doors import DisclosureFacts, DoorUnit, doors
from app.http.errors import NotHere
from app.http.guard import anyone, current_controller, current_subject, subject
from app.http.locale import people
from app.http.places import stop_seal
from consent import usecases
from consent.decision import held_back
from consent.events import Actor, ActorKind, Channel
from consent.record import FINAL, Consent, State
from consent.vocabulary import Action, ConsentId, ControllerId

page = people("agreements")


@page.get("/me/consents")
@subject()
def listed() -> str:
    """List the agreements, newest first, filtered by status and purpose (consent rules 41, 43, 44)."""
    of = doors()
    now = of.clock.now()
    every = usecases.list_for_subject(
        of.reading(), of.policy, controller=current_controller(), subject=current_subject(), at=now
    )
    state, purpose = request.args.get("status", ""), request.args.get("purpose", "")
    found = [
        record
        for record in every
        if state in {"", record.state_at(now).value} and purpose in {"", record.terms.purpose}
    ]
    with of.reading() as unit:
        held = {record.id: reasons for record in found if (reasons := _held(unit, record))}
    return render_template(
        "pages/agreements.html",
        records=found,
        held=held,
        all_records=every,
        states={record.state_at(now).value: facts.status(record, now)[0] for record in every},
        chosen={"status": state, "purpose": purpose},
        **_words(),
    )


@page.get("/me/consents/<consent>")
@subject()
def shown(consent: str) -> str:
    """Show one agreement with everything that happened to it."""
    of = doors()
    with of.reading() as unit:
        record, events = usecases.read(unit, controller=current_controller(), consent=ConsentId(consent), by=_me())
        reads, lent = _reads(unit, consent)
        mine = record.terms.subject == current_subject()
        found = unit.receipts.of_consent(current_controller(), record.id) if mine else ()
        done = {each.occasion: each.at for each in unit.notices.of_consent(current_controller(), record.id)}
        held = _held(unit, record)
    return render_template(
        "pages/agreement.html",
        record=record,
        held=held,
        asked=_asked(record),
        events=events,
        reads=reads,
        lent=lent,
        receipts=found,
        destroyed_at=done.get("destroyed"),
        renewable=mine and renewing.offered(record),
        **_words(),
    )


@page.post("/me/consents/<consent>/renew")
@subject()
def renew(consent: str) -> Response:
    """Ask for the same again before the end; nothing changes unless the person then agrees (consent rules 48, 49)."""
    with doors().reading() as unit:
        record, _ = usecases.read(unit, controller=current_controller(), consent=ConsentId(consent), by=_me())
    return redirect(url_for("journey.shown", journey=renewing.ask_again(record, _me())), 303)


@page.post("/me/consents/<consent>/answer")
@subject()
def answer(consent: str) -> Response:
    """Go to the page of a question that waits; refusing is possible on each of its pages (consent rules 1, 6)."""
    with doors().reading() as unit:
        record, _ = usecases.read(unit, controller=current_controller(), consent=ConsentId(consent), by=_me())
    if not _asked(record):
        raise NotHere
    return redirect(url_for("journey.shown", journey=put_on_page(record)), 303)


@page.get("/me/consents/<consent>/withdraw")
@subject()
def stop_page(consent: str) -> str:
    """Say what stopping means, or saying no to what waits, before it is done (consent rules 8, 45)."""
    with doors().reading() as unit:
        record, _ = usecases.read(unit, controller=current_controller(), consent=ConsentId(consent), by=_me())
    return _stop_page(record, url_for(".shown", consent=record.id), signed_link=False)


@page.post("/me/consents/<consent>/withdraw")
@subject()
def stop(consent: str) -> Response:
    """Stop it at once (GDPR art. 7(3), consent rule 46)."""
    _withdraw(current_controller(), ConsentId(consent), _me(), Channel.PAGE)
    return redirect(url_for(".shown", consent=consent), 303)


@page.get("/stop/<controller>/<consent>/<seal>")
@anyone
def stop_by_link_page(controller: str, consent: str, seal: str) -> str:
    """The same page for whoever holds the receipt's link; it names the purpose and nobody (consent rule 35)."""
    record = _sealed(controller, consent, seal)
    return _stop_page(record, url_for("home.shown"), signed_link=True)


@page.post("/stop/<controller>/<consent>/<seal>")
@anyone
def stop_by_link(controller: str, consent: str, seal: str) -> str:
    """Stop it by the link."""
    record = _sealed(controller, consent, seal)
    person = Actor(ActorKind.SUBJECT, record.terms.subject)
    _withdraw(record.terms.controller, record.id, person, Channel.SIGNED_LINK)
    return render_template("pages/stopped.html", record=record, **_words())


def stop_path(controller: ControllerId, consent: ConsentId) -> str:
    """Return the path of the link that stops this agreement without signing in, for its receipt (consent rule 57)."""
    seal = stop_seal(doors().key, consent)
    return url_for("agreements.stop_by_link_page", controller=controller, consent=consent, seal=seal)


def _sealed(controller: str, consent: str, seal: str) -> Consent:
    if not hmac.compare_digest(stop_seal(doors().key, consent).encode(), seal.encode()):
        raise NotHere
    with doors().reading() as unit:
        record = unit.consents.find(ControllerId(controller), ConsentId(consent))
    if record is None:
        raise NotHere
    speak_for(record.terms.controller)
    return record


def _asked(record: Consent) -> bool:
    """Say whether nobody has answered it yet: there is nothing to stop, only a question."""
    return record.state_at(doors().clock.now()) is State.REQUESTED and not record.parts


def _withdraw(controller: ControllerId, consent: ConsentId, by: Actor, channel: Channel) -> None:
    of = doors()
    now = of.clock.now()
    with of.reading() as unit:
        record, _ = usecases.read(unit, controller=controller, consent=consent, by=by)
    if _asked(record):
        usecases.refuse(of.unit(), controller=controller, consent=consent, by=by, channel=channel, at=now)
        return
    usecases.withdraw(
        of.unit(),
        controller=controller,
        consent=consent,
        by=by,
        channel=channel,
        at=now,
        delete_data=request.form.get("delete") == "yes",
    )


def _stop_page(record: Consent, keep: str, *, signed_link: bool) -> str:
    of = doors()
    ended = record.state_at(of.clock.now()) in FINAL
    covered = record.categories or record.terms.needed | record.terms.optional
    return render_template(
        "pages/withdraw.html",
        record=record,
        keep=keep,
        ended=ended,
        asked=_asked(record),
        kept=facts.kept(of.policy, record.terms.purpose, covered),
        gone_after=facts.gone_after(of.policy, record.terms.purpose, covered),
        signed_link=signed_link,
        **_words(),
    )


def _reads(unit: DoorUnit, consent: str) -> tuple[list[DisclosureFacts], list[DisclosureFacts]]:
    """Return what was read under it, and the keys lent to read with (no record counted yet), each the newest first.

    A key lent to store is neither. One lent to read has to show: no reading reported does not prove none took place.
    """
    every = unit.disclosures.of_subject(current_subject(), without=doors().policy.aml_only())
    looks = [each for each in every if each.consent == consent and each.action != Action.HOLD]
    return [each for each in looks if each.records], [each for each in looks if not each.records]


def _held(unit: DoorUnit, record: Consent) -> tuple[str, ...]:
    """Return why nothing is read under it though it is in force (dsar rules 8, 51, 52)."""
    terms, at = record.terms, doors().clock.now()
    standing = unit.standings.standing(terms.subject, terms.purpose, at)
    reasons = held_back(doors().policy, standing, record, at) if standing is not None else ()
    return tuple(reason.value for reason in reasons)


def _me() -> Actor:
    return Actor(ActorKind.SUBJECT, current_subject())


def _words() -> dict[str, object]:
    of = doors()
    return {"facts": facts, "policy": of.policy, "now": of.clock.now(), "State": State, "final": FINAL}

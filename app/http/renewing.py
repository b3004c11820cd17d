"""Renewing an agreement from the space, in the last days before its end (consent rules 48, 49).

The person asks, so the question is a new request of theirs for the same thing; the old agreement holds until the new
one is given, and without an answer it ends. Leaves out the question's own pages (`asking`).
"""

from __future__ import annotations

from datetime import date, timedelta

from app.http.asking import put_on_page
from app.http.doors import Doors, doors
from app.http.errors import NotHere
from consent import usecases
from consent.decision import local_day
from consent.events import Actor, Channel
from consent.parties import PartyRole
from consent.policy import FigureName
from consent.proposal import Proposal
from consent.record import Consent, State


def offered(record: Consent) -> bool:
    """Return whether the page offers to renew it: live, and no further from its end than the first notice."""
    of = doors()
    now, days = of.clock.now(), max(of.policy.figures[FigureName.RENEWAL_NOTICE_DAYS].values)
    live = record.state_at(now) in (State.ACTIVE, State.SUSPENDED)
    return live and record.valid_until is not None and record.valid_until - now <= timedelta(days=days)


def ask_again(record: Consent, by: Actor) -> str:
    """Ask for the same again and return the journey of its page; a question that waits already is taken up.

    Raises NotHere when it is not offered, UnfitError for what the policy no longer allows.
    """
    if by.ref != record.terms.subject or not offered(record):
        raise NotHere
    of = doors()
    waiting = _waiting(of, record)
    if waiting is not None:
        return put_on_page(waiting)
    asked, _ = usecases.renew(
        of.unit(), of.policy, _same(of, record), ids=of.ids, by=by, channel=Channel.PAGE, at=of.clock.now()
    )
    return put_on_page(asked)


def _waiting(of: Doors, record: Consent) -> Consent | None:
    terms, now = record.terms, of.clock.now()
    with of.reading() as unit:
        every = unit.consents.of_subject(terms.controller, terms.subject, terms.purpose)
    asked = (each for each in every if each.terms.supersedes == record.id and each.state_at(now) is State.REQUESTED)
    return next(asked, None)


def _same(of: Doors, record: Consent) -> Proposal:
    """Return the terms as they were, the history as long as it was before that day.

    Who works for the controller today is named anew from the list (consent rule 15).
    """
    terms, listed = record.terms, of.policy.parties
    named = (party for party in terms.recipients if party in listed)
    return Proposal(
        controller=terms.controller,
        subject=terms.subject,
        purpose=terms.purpose,
        party=terms.party,
        categories=terms.optional,
        recipients=frozenset(party for party in named if listed[party].role is PartyRole.RECIPIENT),
        period_days=terms.longest_days,
        history_from=_history_from(of, record),
        frequency_per_day=terms.frequency_per_day,
        attended_only=terms.attended_only,
        data_life_days=terms.data_life_days,
        authorisers=terms.authorisers,
        access_path=terms.access_path,
        institution=terms.institution,
        connection=terms.connection,
        mandate=terms.mandate,
        supersedes=record.id,
    )


def _history_from(of: Doors, record: Consent) -> date:
    """Return as many days before today as were asked for, both days the controller's own."""
    terms = record.terms
    asked_on = local_day(of.policy, terms.controller, record.requested_at)
    return local_day(of.policy, terms.controller, of.clock.now()) - (asked_on - terms.history_from)

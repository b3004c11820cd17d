"""Signing in by e-mail: a link of 256 bits or an 8-digit code, both good once and for 15 minutes (consent rules 29-31).

Both are derived from the server key and the sign-in's reference and stored nowhere (consent.md section 6). An address
nobody has costs the same row and the same work and gets the same answer, whatever is away; only that work
(`app.workflows.signins`) writes the mail. What this gives is level 1: whoever holds the mailbox, no more (dsar rules
1.3).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from app.http.doors import Doors, SignInFacts, doors
from app.http.errors import CodeWrong, LinkSpent, TooManyTries
from app.http.forms import keyed
from app.http.locale import current_locale
from app.http.places import code_for, link_for
from app.http.sessions import TICKET, digest, fresh_token, open_session, read_cookie, set_cookie
from app.http.visitor import visitor
from app.profiles import normalised
from consent.vocabulary import ControllerId, SubjectRef

LEVEL_BY_LINK = 1
WRITE = "sign-in.write"
"""The work that writes the mail of a sign-in; its reference is `sign-in/language`."""


@dataclass(frozen=True, slots=True, repr=False)
class Asked:
    """An address typed into the form; its `repr` shows nothing."""

    email: str
    controller: ControllerId
    onward: str | None


def ask(asked: Asked) -> None:
    """Start a sign-in; where the address is known, its link and code are mailed. Raises TooManyTries."""
    of = doors()
    count_try("ip", visitor(), of.limits.per_ip)
    count_try("address", normalised(asked.email), of.limits.per_address)
    ticket = fresh_token(of)
    _start(of, asked, of.subjects.find_by_email(asked.controller, asked.email), ticket)
    set_cookie(TICKET, ticket, seconds=int(of.limits.link.total_seconds()))


def _start(of: Doors, asked: Asked, subject: SubjectRef | None, ticket: str) -> None:
    """Nothing of the person is opened here: a key provider that is away must not tell who is known (rule 31)."""
    ref, now = of.ids.new("sgn"), of.clock.now()
    with of.unit() as unit:
        unit.sign_ins.start(
            ref,
            subject=subject,
            controller=asked.controller,
            link_digest=digest(link_for(of.key, ref)),
            ticket_digest=digest(ticket),
            onward=asked.onward,
            now=now,
            expires_at=now + of.limits.link,
        )
        unit.work.enqueue(WRITE, f"{ref}/{current_locale().value}")
        unit.commit()


def open_by_link(link: str) -> SignInFacts:
    """Consume the link and open a session of level 1. Raises LinkSpent."""
    of = doors()
    with of.unit() as unit:
        found = unit.sign_ins.redeem_link(digest(link), of.clock.now())
        if found is None or found.subject is None:
            raise LinkSpent
        open_session(unit, kind="subject", person=found.subject, controller=found.controller, level=LEVEL_BY_LINK)
        unit.commit()
    set_cookie(TICKET, None)
    return found


def open_by_code(typed: str) -> SignInFacts:
    """Consume the code of the sign-in this browser asked for. Raises CodeWrong, TooManyTries."""
    of = doors()
    count_try("code-ip", visitor(), of.limits.per_ip)
    ref = _counted_ref(of)
    given = "".join(typed.split())
    if ref is None or not hmac.compare_digest(code_for(of.key, ref).encode(), given.encode()):
        raise CodeWrong
    with of.unit() as unit:
        found = unit.sign_ins.redeem_ref(ref, of.clock.now())
        if found is None or found.subject is None:
            raise CodeWrong
        open_session(unit, kind="subject", person=found.subject, controller=found.controller, level=LEVEL_BY_LINK)
        unit.commit()
    set_cookie(TICKET, None)
    return found


def _counted_ref(of: Doors) -> str | None:
    """Return the pending sign-in of this browser; the try is committed before the code is looked at."""
    ticket = read_cookie(TICKET)
    if ticket is None:
        return None
    with of.unit() as unit:
        ref = unit.sign_ins.pending_ref(digest(ticket), of.clock.now())
        unit.commit()
    return ref


def link_is_open(link: str) -> bool:
    """Return whether the link would open; changes nothing, so that mail scanners cannot burn it (consent rule 29)."""
    of = doors()
    with of.reading() as unit:
        return unit.sign_ins.peek(digest(link), of.clock.now())


def count_try(what: str, who: str, allowed: int) -> None:
    """Count a try and raise TooManyTries beyond `allowed` in the window; `who` is kept as a keyed hash only."""
    of = doors()
    with of.unit() as unit:
        tries = unit.counters.hit(keyed(f"count-{what}", who), of.clock.now(), of.limits.window)
        unit.commit()
    if tries > allowed:
        raise TooManyTries(int(of.limits.window.total_seconds()))

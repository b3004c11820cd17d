"""A consent as a fold over its events: its states, what may follow, and who may cause it (GDPR arts 4(11), 7).

Final states are never left. Expiry is evaluated at read time (`state_at`), so that a late sweep never lets a read
through. Several authorisers each give and each end their own part; what all live parts agree on is what holds.
Leaves out mandates (`mandate`), the decision (`decision`) and storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from consent.errors import ActorRefusedError, MoveRefusedError
from consent.events import (
    Actor,
    ActorKind,
    Channel,
    EndedAtHolder,
    EndedByController,
    Event,
    Expired,
    Given,
    Invalidated,
    Narrowed,
    PageShown,
    Refused,
    Replaced,
    Requested,
    Resumed,
    Shown,
    Suspended,
    SuspensionReason,
    Terms,
    Withdrawn,
)
from consent.vocabulary import CategoryId, ConsentId, PartyId, SubjectRef


class State(StrEnum):
    """The states of consent.md section 3; `docs` map them to people's words, TS 27560 and FIDA."""

    REQUESTED = "requested"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    REPLACED = "replaced"
    ENDED_BY_CONTROLLER = "ended_by_controller"
    ENDED_AT_HOLDER = "ended_at_holder"
    INVALIDATED = "invalidated"


FINAL = frozenset(State) - {State.REQUESTED, State.ACTIVE, State.SUSPENDED}

_ENDS: Mapping[type[Event], State] = {
    Refused: State.REFUSED,
    Withdrawn: State.WITHDRAWN,
    Expired: State.EXPIRED,
    Replaced: State.REPLACED,
    EndedByController: State.ENDED_BY_CONTROLLER,
    EndedAtHolder: State.ENDED_AT_HOLDER,
    Invalidated: State.INVALIDATED,
}
_LIVE = frozenset(
    {PageShown, Given, Withdrawn, Replaced, Suspended, Expired, EndedByController, EndedAtHolder, Invalidated}
)
MOVES: Mapping[State, frozenset[type[Event]]] = {
    State.REQUESTED: frozenset(
        {PageShown, Given, Refused, Withdrawn, Expired, Replaced, EndedByController, Invalidated}
    ),
    State.ACTIVE: _LIVE | {Narrowed},
    State.SUSPENDED: _LIVE | {Narrowed, Resumed},
    **{state: frozenset() for state in FINAL},
}
"""What may follow in which state; the absence of an entry is a refusal."""

_ANYONE = frozenset(ActorKind)
_OURS = frozenset({ActorKind.STAFF, ActorKind.SYSTEM})
MAY: Mapping[type[Event], frozenset[ActorKind]] = {
    Requested: _ANYONE - {ActorKind.HOLDER},
    PageShown: frozenset({ActorKind.SUBJECT, ActorKind.SYSTEM}),
    Given: frozenset({ActorKind.SUBJECT}),
    Refused: frozenset({ActorKind.SUBJECT}),
    # a party or an agent on the phone passes a withdrawal on: never harder than giving (consent rules 35, 47)
    Withdrawn: frozenset({ActorKind.SUBJECT, ActorKind.PARTY, ActorKind.STAFF}),
    Replaced: frozenset({ActorKind.SUBJECT, ActorKind.SYSTEM}),
    Narrowed: _ANYONE,
    Expired: frozenset({ActorKind.SYSTEM}),
    EndedByController: _OURS,
    EndedAtHolder: frozenset({ActorKind.HOLDER, ActorKind.PARTY, ActorKind.SYSTEM}),
    Invalidated: _OURS,
}
"""Who may cause what; suspending and resuming depend on the reason, below."""
_REST: Mapping[SuspensionReason, frozenset[ActorKind]] = {
    # paused by the subject, who alone may resume it (consent.md section 3)
    SuspensionReason.PAUSED_BY_SUBJECT: frozenset({ActorKind.SUBJECT}),
    SuspensionReason.SCA_DUE: frozenset({ActorKind.PARTY, ActorKind.SYSTEM}),
    SuspensionReason.MANDATE_ENDED: _OURS,
    SuspensionReason.RESTRICTION: _OURS,
    SuspensionReason.CONNECTION_ERROR: frozenset({ActorKind.PARTY, ActorKind.SYSTEM}),
}


_ONE_TIME = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Part:
    """What one authoriser agreed to."""

    authoriser: SubjectRef
    given: Given
    page: Shown | None
    """What that person saw (consent rule 58)."""


@dataclass(frozen=True, slots=True)
class End:
    """How it ended: who, through which channel, when, by which event."""

    at: datetime
    by: Actor
    channel: Channel
    kind: str


@dataclass(frozen=True, slots=True)
class Consent:
    """The agreement of one subject to one purpose, as its events leave it. `version` counts the events."""

    id: ConsentId
    version: int
    state: State
    terms: Terms
    requested_at: datetime
    page: Shown | None = None
    parts: tuple[Part, ...] = ()
    cap: frozenset[CategoryId] | None = None
    suspensions: frozenset[SuspensionReason] = frozenset()
    given_at: datetime | None = None
    end: End | None = None
    superseded_by: ConsentId | None = None
    delete_data: bool = False

    @property
    def categories(self) -> frozenset[CategoryId]:
        """Return what every live part agreed to, as narrowed since; empty before anyone agreed."""
        if not self.parts:
            return frozenset()
        agreed = frozenset[CategoryId].intersection(*(part.given.categories for part in self.parts))
        return agreed if self.cap is None else agreed & self.cap

    @property
    def valid_until(self) -> datetime | None:
        """Return the end of the shortest live part; None before anyone agreed."""
        return min((part.given.valid_until for part in self.parts), default=None)

    @property
    def unattended_per_day(self) -> int:
        """Return how often it may be read in 24 hours while nobody is there; at most once where it is for one time.

        One time is an agreement of one day (consent rule 13).
        """
        asked, until = self.terms.frequency_per_day, self.valid_until
        once = self.given_at is not None and until is not None and until - self.given_at <= _ONE_TIME
        return min(asked, 1) if once else asked

    @property
    def due_at(self) -> datetime | None:
        """Return when time itself ends it: the offer's or the period's end; None once final."""
        if self.state in FINAL:
            return None
        return self.terms.offer_until if self.state is State.REQUESTED else self.valid_until

    @property
    def attended_only(self) -> bool:
        """Return whether reads need the subject present, by the terms or by anyone's wish."""
        return self.terms.attended_only or any(part.given.attended_only for part in self.parts)

    @property
    def institution(self) -> str | None:
        """Return where the data comes from, as asked or as chosen."""
        chosen = (part.given.institution for part in self.parts if part.given.institution is not None)
        return self.terms.institution or next(chosen, None)

    @property
    def readers(self) -> frozenset[PartyId]:
        """Return the data user and every recipient named on the page (consent rule 15)."""
        return self.terms.recipients | {self.terms.party}

    def agreed_by(self, person: str) -> bool:
        """Return whether this person has given their part."""
        return any(part.authoriser == person for part in self.parts)

    def state_at(self, at: datetime) -> State:
        """Return the state, seen at `at`: what has run out has expired, swept or not."""
        ended = self.due_at is not None and at >= self.due_at
        return State.EXPIRED if ended else self.state

    def apply(self, event: Event) -> Consent:
        """Return the consent after `event`. Raises MoveRefusedError or ActorRefusedError."""
        _check_move(self, event)
        _check_actor(self, event)
        return replace(_next(self, event), version=self.version + 1)


def begin(consent: ConsentId, event: Event) -> Consent:
    """Return a consent from its first event. Raises MoveRefusedError unless that is a request."""
    if not isinstance(event, Requested):
        raise MoveRefusedError("nothing", event.kind)
    if event.by.kind not in MAY[Requested]:
        raise ActorRefusedError(event.by.kind, event.kind)
    return Consent(consent, 1, State.REQUESTED, event.terms, event.at)


def fold(consent: ConsentId, events: Iterable[Event]) -> Consent:
    """Return the consent its events leave. Raises MoveRefusedError or ActorRefusedError on an impossible history."""
    ordered = iter(events)
    first = next(ordered, None)
    if first is None:
        raise MoveRefusedError("nothing", "nothing")
    record = begin(consent, first)
    for event in ordered:
        record = record.apply(event)
    return record


def _check_move(record: Consent, event: Event) -> None:
    seen = record.state_at(event.at)
    if type(event) is Expired and seen is not State.EXPIRED:
        raise MoveRefusedError(record.state, event.kind)  # time alone expires, and not before its time
    # what has run out can only be recorded as such: a read-time expiry is as final as a swept one
    allowed = frozenset({Expired}) if seen is not record.state else MOVES[record.state]
    if type(event) not in allowed:
        raise MoveRefusedError(seen, event.kind)
    if isinstance(event, Resumed) and event.reason not in record.suspensions:
        raise MoveRefusedError(record.state, event.kind)
    if isinstance(event, Given) and not _may_give(record, event):
        raise MoveRefusedError(record.state, event.kind)


def _may_give(record: Consent, event: Given) -> bool:
    """One part a person, within the terms; everything needed must be in it (consent rules 6, 11)."""
    asked = record.terms.needed | record.terms.optional
    first = all(part.authoriser != event.authoriser for part in record.parts)
    return first and record.terms.needed <= event.categories <= asked and event.valid_until > event.at


def _check_actor(record: Consent, event: Event) -> None:
    allowed = _REST[event.reason] if isinstance(event, Suspended | Resumed) else MAY[type(event)]
    known = event.by.kind is not ActorKind.SUBJECT or event.by.ref in _people(record)
    if event.by.kind not in allowed or not known or not _speaks_for(record, event):
        raise ActorRefusedError(event.by.kind, event.kind)


def _people(record: Consent) -> frozenset[str]:
    return frozenset({record.terms.subject, *record.terms.authorisers.people})


def _speaks_for(record: Consent, event: Event) -> bool:
    """An authoriser gives and ends only their own part; the subject may end the whole (GDPR art. 7(3))."""
    if isinstance(event, Given):
        return event.by.ref == event.authoriser and event.authoriser in record.terms.authorisers.people
    if isinstance(event, Withdrawn) and event.by.kind is ActorKind.SUBJECT:
        return event.by.ref in (event.authoriser, record.terms.subject)
    if isinstance(event, Withdrawn) and event.by.kind is ActorKind.PARTY:
        return event.by.ref in record.readers
    return True


def _next(record: Consent, event: Event) -> Consent:
    match event:
        case PageShown():
            # what is shown to who has agreed already is not what they agreed to (consent rule 58)
            after = record if record.agreed_by(event.by.ref) else replace(record, page=event.page)
        case Given():
            after = _given(record, event)
        case Narrowed():
            after = _narrowed(record, event)
        case Suspended():
            after = _rested(record, record.suspensions | {event.reason})
        case Resumed():
            after = _rested(record, record.suspensions - {event.reason})
        case Withdrawn():
            after = _withdrawn(record, event)
        case _:
            after = _ended(record, event)
    return after


def _given(record: Consent, event: Given) -> Consent:
    grown = replace(record, parts=(*record.parts, Part(event.authoriser, event, record.page)))
    if record.state is not State.REQUESTED or len(grown.parts) < record.terms.authorisers.needed:
        return grown
    return replace(grown, state=State.ACTIVE, given_at=event.at)


def _narrowed(record: Consent, event: Narrowed) -> Consent:
    cap = event.categories if record.cap is None else record.cap & event.categories
    less = replace(record, cap=cap)
    # without what the purpose cannot do without, nothing is left to agree to
    return less if record.terms.needed <= cap else _ended(less, event)


def _rested(record: Consent, suspensions: frozenset[SuspensionReason]) -> Consent:
    return replace(record, suspensions=suspensions, state=State.SUSPENDED if suspensions else State.ACTIVE)


def _withdrawn(record: Consent, event: Withdrawn) -> Consent:
    """The subject's own word ends the whole; another authoriser's only their part, while enough others remain."""
    left = replace(record, parts=tuple(part for part in record.parts if part.authoriser != event.authoriser))
    whole = event.authoriser in (None, record.terms.subject)
    enough = len(left.parts) >= record.terms.authorisers.needed
    return left if enough and not whole else _ended(record, event)


def _ended(record: Consent, event: Event) -> Consent:
    return replace(
        record,
        state=_ENDS.get(type(event), State.WITHDRAWN),
        suspensions=frozenset(),
        end=End(event.at, event.by, event.channel, event.kind),
        superseded_by=event.superseded_by if isinstance(event, Replaced) else None,
        delete_data=isinstance(event, Withdrawn) and event.delete_data,
    )


def visible(record: Consent, at: datetime, days: int) -> bool:
    """Return whether the subject's space still lists it, `days` after its end (two years: consent rule 43)."""
    ended = record.end.at if record.end is not None else record.due_at
    return ended is None or at < ended + timedelta(days=days)


def next_reminder(
    record: Consent, after: datetime, *, before_days: tuple[int, ...], every_days: int
) -> datetime | None:
    """Return the first reminder strictly after `after`; None when none is left.

    14 and 3 days before the end (`before_days`, consent rule 48), and every 90 days (`every_days`, consent rule 50).
    """
    if record.given_at is None or record.valid_until is None or record.state in FINAL:
        return None
    every, until = timedelta(days=every_days), record.valid_until
    periods = max(0, (after - record.given_at) // every) + 1
    dates = [record.given_at + periods * every, *(until - timedelta(days=early) for early in before_days)]
    return min((date for date in dates if after < date < until), default=None)


@dataclass(frozen=True, slots=True)
class Differences:
    """What a renewal changes, for the page that marks it (consent rule 49)."""

    added: frozenset[CategoryId]
    removed: frozenset[CategoryId]
    new_readers: frozenset[PartyId]
    gone_readers: frozenset[PartyId]
    changed: frozenset[str]
    """Names of changed single fields: `purpose`, `longest_days`, `frequency_per_day`, ..."""

    @property
    def same_scope(self) -> bool:
        """Return whether the short page is enough: nothing is added anywhere."""
        return not (self.added or self.new_readers or self.changed)


_COMPARED = ("purpose", "basis", "longest_days", "history_from", "frequency_per_day", "data_life_days", "institution")


def differences(old: Consent, new: Terms) -> Differences:
    """Return what `new` terms change against what holds now (consent rule 49)."""
    asked = new.needed | new.optional
    readers = new.recipients | {new.party}
    return Differences(
        added=asked - old.categories,
        removed=old.categories - asked,
        new_readers=readers - old.readers,
        gone_readers=old.readers - readers,
        changed=frozenset(name for name in _COMPARED if getattr(new, name) != getattr(old.terms, name)),
    )

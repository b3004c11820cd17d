"""A person's requests at the door: what level they need, how they are proved and opened, whose they are, which copy.

Dsar rules 1-3, 7-9, 24-27, 53, 58. The law is `dsar.usecases`; here a session becomes a proof and a form an intake.
Leaves out the words (`casewords`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.http.doors import DoorUnit, SessionFacts, doors
from app.http.errors import CopyExpired, CopyRevoked, NotHere, NotSignedIn, StepUpNeeded
from app.http.guard import Level, current_controller, current_subject
from app.http.locale import current_locale
from app.http.sessions import current
from app.http.sessions import digest as digest_of
from consent.policy import Retention
from consent.vocabulary import PurposeId, Text
from dsar import identity
from dsar.case import BEFORE_LETTER, Case, Line, answered
from dsar.errors import CaseChanged, CaseUnknown
from dsar.events import PackageSealed
from dsar.ports import Desk, Recorded, StoredPackage
from dsar.proofs.shape import Proof
from dsar.rights import RIGHTS
from dsar.usecases import Intake, Opened, open_case
from dsar.vocabulary import Actor, CaseId, CaseKind, Channel, LineId, Method, Outcome, Right

FRESH = timedelta(minutes=5)
"""How long ago a passkey may have been asserted for a copy to open (dsar rule 58)."""
LONGEST_TEXT = 4000
"""Letters a person can write beside a request in the space; longer ones go by mail."""
ORDER = (
    Right.ACCESS,
    Right.ERASURE,
    Right.RECTIFICATION,
    Right.PORTABILITY,
    Right.RESTRICTION,
    Right.OBJECTION,
    Right.MARKETING_OBJECTION,
    Right.WITHDRAWAL,
    Right.AUTOMATED_DECISION,
)
"""All nine, what people ask for most first."""


def me() -> Actor:
    """Return the signed-in subject as who acts."""
    return Actor(current_subject(), human=True)


# Opening


def chosen(values: Sequence[str]) -> tuple[Right, ...]:
    """Return the rights a form names, in the order of the page; nothing for one that is none of the nine."""
    known = {right.value for right in ORDER}
    return tuple(right for right in ORDER if right.value in values) if set(values) <= known else ()


def require_level(desk: Desk, unit: DoorUnit, rights: Sequence[Right]) -> None:
    """Raise StepUpNeeded when this session proves less than one of the rights needs, and never more (dsar rule 26).

    A passkey session is L3; what needs L4 is taken in all the same and staff ask for the rest.
    """
    if not strong() and any(needs_passkey(desk, unit, right) for right in rights):
        raise StepUpNeeded(Level.PASSKEY)


def needs_passkey(desk: Desk, unit: DoorUnit, right: Right) -> bool:
    """Say whether a link by e-mail does not do for a right: it is L1, to a new address L0 (dsar rules 26, 27)."""
    proof, now = _link(unit), desk.clock.now()
    verdict = identity.enough(
        right,
        identity.sensitivity(desk.policy, current_controller()),
        [proof],
        now,
        policy=desk.policy,
        practice=desk.practice,
        about=identity.Circumstances(CaseKind.SUBJECT, now),
    )
    return isinstance(verdict, identity.Lacking)


def open_request(rights: tuple[Right, ...], text: str) -> Opened:
    """Open a case for what is new, link what is open already (dsar rules 3, 9). Raises StepUpNeeded.

    Two equal forms that race end as one case: the slower one is read again and finds it open.
    """
    try:
        return _open(rights, text)
    except CaseChanged:
        return _open(rights, text)


def _open(rights: tuple[Right, ...], text: str) -> Opened:
    of = doors()
    with of.unit() as unit:
        desk = of.desk(unit)
        require_level(desk, unit, rights)
        opened = open_case(desk, _intake(desk, unit, rights, text))
        unit.commit()
    return opened


def _intake(desk: Desk, unit: DoorUnit, rights: tuple[Right, ...], text: str) -> Intake:
    return Intake(
        controller=current_controller(),
        subject=current_subject(),
        rights=rights,
        channel=Channel.SPACE,
        received_at=desk.clock.now(),
        locale=current_locale(),
        by=me(),
        text=text or None,  # no motive is asked for (dsar rule 2)
        proofs=_proofs(unit),
    )


def _proofs(unit: DoorUnit) -> tuple[Proof, ...]:
    """Return what this session proves: its passkey, else the link that opened it (dsar rules 25-27)."""
    session = _session()
    if session.level >= Level.PASSKEY and session.credential is not None and session.proven_at is not None:
        added = _added_at(unit, session)
        return (Proof(Method.PASSKEY, session.proven_at, session.credential, added),) if added is not None else ()
    return (_link(unit),)


def _link(unit: DoorUnit) -> Proof:
    """Return what the link proves that opened a session."""
    known = unit.subjects.known_since(current_subject(), "email")
    return Proof(Method.EMAIL_LINK, doors().clock.now(), f"email:{_session().person}", known)


def _added_at(unit: DoorUnit, session: SessionFacts) -> datetime | None:
    """Return when the session's passkey was enrolled; None when it was removed meanwhile."""
    own = unit.passkeys.of("subject", session.person)
    return next((each.added_at for each in own if digest_of(each.credential_id) == session.credential), None)


def _session() -> SessionFacts:
    session = current()
    if session is None or session.kind != "subject":
        raise NotSignedIn
    return session


def strong() -> bool:
    """Return whether this session was opened with a passkey: then what people wrote is shown."""
    return _session().level >= Level.PASSKEY


# Looking


def own_case(desk: Desk, case: str) -> Case:
    """Return a case of this person; somebody else's is unknown like one that never was. Raises CaseUnknown."""
    found = desk.cases.get(CaseId(case))
    if (found.controller, found.subject) != (current_controller(), current_subject()):
        raise CaseUnknown("no such record")
    return found


def can_take_back(case: Case) -> bool:
    """Return whether nothing is decided yet, so that the request can be taken back."""
    untouched = all(line.outcome is None and not line.started for line in case.lines.values())
    return case.state in BEFORE_LETTER and untouched


@dataclass(frozen=True, slots=True)
class KeptRule:
    """What an erasure leaves because the law asks for it: categories, days from the trigger, why, on which text."""

    reason: Text
    legal_ref: str
    days: int
    rules: tuple[Retention, ...]


def kept_rules() -> list[KeptRule]:
    """Return what an erasure at this controller has to leave, grouped by reason (dsar rules 48, 49)."""
    policy, controller = doors().policy, current_controller()

    def ours(purpose: PurposeId) -> bool:
        return policy.purposes[purpose].controller == controller

    groups: dict[tuple[str, int, str], list[Retention]] = {}
    for rule in policy.retentions:
        if rule.on_erasure == "retain" and ours(rule.purpose):
            groups.setdefault((rule.legal_ref, rule.days, rule.reason[current_locale()]), []).append(rule)
    return [KeptRule(rules[0].reason, ref, days, tuple(rules)) for (ref, days, _), rules in groups.items()]


# Copies


@dataclass(frozen=True, slots=True)
class CopyPlace:
    """The newest copy of a line that was delivered, and whether it can still be opened."""

    line: Line
    package: StoredPackage

    def alive(self, at: datetime) -> bool:
        """Say whether it can be opened at the moment `at`."""
        return self.package.revoked_at is None and at < self.package.expires_at

    @property
    def destroyed(self) -> bool:
        """Say whether it was revoked; what only ran out is no longer there either (dsar rule 59)."""
        return self.package.revoked_at is not None and self.package.revoked_at < self.package.expires_at


GIVEN = frozenset({Outcome.GRANTED, Outcome.PARTLY_GRANTED})


def copies_of(desk: Desk, case: Case, history: Sequence[Recorded]) -> Mapping[LineId, CopyPlace]:
    """Return the copies that were handed over, by line; before its reply has left, a copy is nobody's yet."""
    sealed = [each.event for each in history if isinstance(each.event, PackageSealed)]
    newest = {event.line: event.package for event in sealed}
    handed = [line for line in case.lines.values() if line.id in newest and _handed_over(case, line)]
    return {line.id: CopyPlace(line, desk.cases.package(newest[line.id])) for line in handed}


def _handed_over(case: Case, line: Line) -> bool:
    return RIGHTS[line.right].seals_package and line.outcome in GIVEN and answered(case, line.id)


def find_copy(desk: Desk, case: Case, line: str | None) -> CopyPlace:
    """Return the copy of a line, without a line the case's first. Raises NotHere (none, or not handed over)."""
    places = copies_of(desk, case, desk.cases.history(case.id))
    place = places.get(LineId(line)) if line is not None else next(iter(places.values()), None)
    if place is None:
        raise NotHere
    return place


def open_copy(desk: Desk, case: Case, line: str | None) -> tuple[CopyPlace, bytes]:
    """Return a copy and its archive; without a line, the case's first (dsar rules 53, 58).

    Raises NotHere (none, or not handed over), CopyRevoked, CopyExpired, Erased.
    """
    place = find_copy(desk, case, line)
    if place.destroyed:
        raise CopyRevoked
    if not place.alive(desk.clock.now()):
        raise CopyExpired
    return place, doors().copies.read(place.package.controller, place.package.subject, place.line.id)

"""Opening a case from a message on any channel, or linking to one that is open (dsar rules 1-3, 9, 10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime

from consent.vocabulary import ControllerId, Locale, PartyId, SubjectRef
from dsar import errors
from dsar import events as e
from dsar.case import Case
from dsar.identity import Enough, Lacking
from dsar.ports import Desk
from dsar.proofs.shape import Proof
from dsar.usecases.asking import prove_identity
from dsar.usecases.limiting import bind_limits
from dsar.usecases.writing import dates_of, identity_of, verified_if_enough, write
from dsar.vocabulary import Actor, CaseId, CaseKind, Channel, LineId, Right

SERVED = frozenset({CaseKind.SUBJECT, CaseKind.REPRESENTATIVE})
"""Parental authority and heirs need proofs of standing that are not built (dsar rules 34, 35)."""


@dataclass(frozen=True, slots=True)
class Intake:
    """A message from a person, as recorded. No motive and no form are asked for (dsar rule 2)."""

    controller: ControllerId
    subject: SubjectRef | None
    rights: tuple[Right, ...]
    channel: Channel
    received_at: datetime
    locale: Locale
    by: Actor
    kind: CaseKind = CaseKind.SUBJECT
    text: str | None = None
    proofs: tuple[Proof, ...] = ()
    contact_changed_at: datetime | None = None
    forwarded_by: PartyId | None = None


@dataclass(frozen=True, slots=True)
class AlreadyOpen:
    """The same was asked before and is still open (dsar rule 9)."""

    right: Right
    case: CaseId
    due_strict: date


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of an intake: a new case for what is new, links for what is open already."""

    case: CaseId | None
    lines: Mapping[Right, LineId]
    due_strict: date | None
    already: tuple[AlreadyOpen, ...]


def open_case(desk: Desk, intake: Intake) -> Opened:
    """Open a case, or link to the ones that are open already (dsar rules 1-3, 9, 10).

    Raises MalformedIntake, ReceivedInFuture, KindNotServed, CaseChanged (somebody opened the same at the same time).
    """
    _check_intake(desk, intake)
    already = tuple(filter(None, (_already(desk, intake, right) for right in intake.rights)))
    known = {one.right for one in already}
    fresh = tuple(right for right in intake.rights if right not in known)
    if not fresh:
        return Opened(None, {}, None, already)
    case = _open(desk, intake, fresh)
    lines = {line.right: line.id for line in case.lines.values()}
    return Opened(case.id, lines, dates_of(desk, case).due_strict, already)


def _check_intake(desk: Desk, intake: Intake) -> None:
    if intake.controller not in desk.policy.controllers:
        raise errors.MalformedIntake("unknown controller")
    if not intake.rights or len(set(intake.rights)) != len(intake.rights):
        raise errors.MalformedIntake("rights: none, or one twice")
    if intake.received_at.tzinfo is None:
        raise errors.MalformedIntake("received_at: no time zone")
    if intake.received_at > desk.clock.now():
        raise errors.ReceivedInFuture("received_at lies in the future")  # dsar rule 1
    if (intake.channel is Channel.FORWARDED) != (intake.forwarded_by is not None):
        raise errors.MalformedIntake("forwarded_by goes with the channel forwarded, and only with it")
    if intake.kind not in SERVED:
        raise errors.KindNotServed(intake.kind.value)


def _already(desk: Desk, intake: Intake, right: Right) -> AlreadyOpen | None:
    if intake.subject is None:
        return None
    found = desk.cases.open_line(intake.controller, intake.subject, right)
    if found is None:
        return None
    reminder = e.ReminderLinked(
        at=desk.clock.now(),
        by=intake.by.handle,
        right=right,
        received_at=intake.received_at,
        channel=intake.channel,
    )
    case = write(desk, desk.cases.get(found), reminder)
    for proof in _proving_more(desk, intake, case):
        prove_identity(desk, case.id, proof, intake.by)
    return AlreadyOpen(right, found, dates_of(desk, case).due_strict)


def _proving_more(desk: Desk, intake: Intake, case: Case) -> tuple[Proof, ...]:
    """Return what came with a request that is asked again, where a line lacked just that (dsar rules 9, 26, 27).

    It has to be known since before the case was received. A representative's proofs are for the case they opened.
    """
    if not intake.kind is case.kind is CaseKind.SUBJECT:
        return ()
    more = replace(case, proofs=(*case.proofs, *intake.proofs))
    lacking = [line for line in case.lines.values() if isinstance(identity_of(desk, case, line), Lacking)]
    does = any(isinstance(identity_of(desk, more, line), Enough) for line in lacking)
    return intake.proofs if does else ()


def _open(desk: Desk, intake: Intake, rights: tuple[Right, ...]) -> Case:
    case_id = CaseId(desk.ids.new("case"))
    text, now, by = intake.text, desk.clock.now(), intake.by.handle
    note = desk.notes.keep(intake.controller, intake.subject, case_id, text) if text else None
    received = e.CaseReceived(
        at=now,
        by=by,
        case=case_id,
        controller=intake.controller,
        subject=intake.subject,
        kind=intake.kind,
        channel=intake.channel,
        received_at=intake.received_at,
        locale=intake.locale,
        lines=tuple(e.AskedLine(LineId(desk.ids.new("line")), right) for right in rights),
        note=note,
        contact_changed_at=intake.contact_changed_at,
        forwarded_by=intake.forwarded_by,
    )
    proved = [e.IdentityProved(at=now, by=by, proof=proof) for proof in intake.proofs]
    case = write(desk, None, received, *proved)
    bind_limits(desk, case, intake.by)
    return verified_if_enough(desk, case, by)

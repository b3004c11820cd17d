"""A case goes by itself: with each of its versions somebody looks at what comes next and takes that one step.

`dsar.course` decides, this room acts, one unit of work a step (dsar rules 3-5, 37, 40, 48, 53, 56, 60; operations.md
section 3). Everything is read from the case, so a step that was killed is looked for again. A look at a version that
somebody has overtaken does nothing: their writing asked for its own. What cannot go on by itself is left to staff with
a code, once. Leaves out what copies and letters say (`Office`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final, Generic, Protocol, TypeVar

from app.profiles import HOUSE
from app.vault.errors import KeyStoreUnavailable, PartitionBusy, ProviderUnavailable
from app.workflows.cases import Waits
from app.workflows.durable import Handler, Steps
from consent.vocabulary import ComponentId, ControllerId, PartyId, SubjectRef
from dsar import clock, course, holdings, usecases
from dsar.case import Case, State, pending
from dsar.course import Facts, Next, Progress, Turn
from dsar.errors import CaseChanged, DsarError, RetentionUnfounded
from dsar.events import LineDecided
from dsar.package import HolderAnswer, Manifest
from dsar.ports import Desk
from dsar.retention import Cell, retained
from dsar.rights import RIGHTS
from dsar.usecases import Decision
from dsar.usecases.searching import task_fault
from dsar.vocabulary import (
    SYSTEM,
    CaseId,
    LineId,
    Outcome,
    PackageId,
    RecipientOutcome,
    TaskId,
    TaskKind,
)

HOUSE_HOLDER: Final = ComponentId(HOUSE)
SWEPT: Final = 1000
"""From this attempt on it is a sweep that looks, by the hour; it sets no timer, for it comes again."""
_WAITING: Final = "waiting"
_OVERTAKEN: Final = "overtaken"
"""Somebody wrote to the case since: with that version a look of its own was asked for."""


@dataclass(frozen=True, slots=True)
class Look:
    """A look at one version of a case: what that version asks for is done once."""

    case: CaseId
    version: int
    attempt: int = 1

    @classmethod
    def read(cls, ref: str) -> Look:
        """Read `case/version`, from the second attempt on `/attempt` behind it."""
        case, version, *attempt = ref.split("/")
        return cls(CaseId(case), int(version), int(attempt[0]) if attempt else 1)

    @property
    def next(self) -> str:
        """Return the reference of the next attempt."""
        return f"{self.case}/{self.version}/{self.attempt + 1}"


class NotMakeableError(Exception):
    """A copy cannot be made as it should be; `code` says why and is what staff read."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class CourseUnit(Protocol):
    """A unit of work on cases, and what their course is decided from."""

    @property
    def desk(self) -> Desk: ...
    def holders(self, controller: ControllerId) -> Sequence[ComponentId]:
        """Return every registered holder of a controller, suspended ones too, the house not among them (rule 40)."""
        ...

    def unanswered(self, case: Case) -> Sequence[course.Asked]:
        """Return the holders that have not answered the search of a case yet."""
        ...

    def party_of(self, holder: ComponentId) -> str: ...
    def agreed(self, controller: ControllerId, subject: SubjectRef) -> holdings.Agreed:
        """Return what the person ever agreed to."""
        ...

    def recipients(self, controller: ControllerId, subject: SubjectRef) -> Collection[PartyId]:
        """Return everybody outside the controller who received the person's data (GDPR art. 19; dsar rule 56)."""
        ...

    def commit(self) -> None: ...


class SealedCopy(Protocol):
    """A finished copy that is not at rest yet."""

    @property
    def manifest(self) -> Manifest: ...


Unit = TypeVar("Unit", bound=CourseUnit)
Copy = TypeVar("Copy", bound=SealedCopy)


Unit_contra = TypeVar("Unit_contra", bound=CourseUnit, contravariant=True)


class Office(Protocol[Unit_contra, Copy]):
    """Makes what a person gets. Whatever writes rows does so in the unit handed in."""

    def make(self, unit: Unit_contra, case: Case, line: LineId) -> Copy:
        """Assemble the copy of a line. Raises NotMakeableError; PackageIncomplete with every gap."""
        ...

    def keep(self, case: Case, line: LineId, copy: Copy) -> None:
        """Put a copy to rest, sealed."""
        ...

    def evidence(self, line: LineId) -> str | None:
        """Return what names the certificate of a line's erasure; None before there is one."""
        ...

    def part(self, unit: Unit_contra, case: Case, line: LineId) -> None:
        """Do, while it is still known who the person is, what an erasure will make impossible: end what they agreed
        to, and put aside the letter that brings them the certificate."""
        ...

    def notify(self, unit: Unit_contra, case: Case, told: Mapping[TaskId, PartyId]) -> None:
        """Write to recipients that no holder of theirs answers for: told they are once the letter is handed over."""
        ...


class CaseCourse(Generic[Unit, Copy]):
    """Takes the next step of cases."""

    def __init__(
        self,
        unit: Callable[[], AbstractContextManager[Unit]],
        reading: Callable[[], AbstractContextManager[Unit]],
        office: Office[Unit, Copy],
        waits: Waits | None = None,
    ) -> None:
        self._unit = unit
        self._reading = reading
        self._office = office
        self._waits = waits or Waits()
        self._acts: Mapping[Turn, Callable[[Unit, Case, Next], None]] = {
            Turn.ACKNOWLEDGE: lambda unit, case, _: _drop(usecases.acknowledge(unit.desk, case.id)),
            Turn.SEARCH: self._search,
            Turn.REVIEW: lambda unit, case, _: usecases.start_review(unit.desk, case.id),
            Turn.DECIDE: self._decide,
            Turn.SUBMIT: lambda unit, case, _: usecases.submit(unit.desk, case.id),
            Turn.REPLY: lambda unit, case, step: _drop(usecases.prepare_reply(unit.desk, case.id, step.lines)),
            Turn.ERASE: self._erase,
            Turn.SETTLE: self._settle,
            Turn.STOP: self._stop,
            Turn.VERIFY: self._verify,
            Turn.CARRY_OUT: self._carry_out,
            Turn.CLOSE: lambda unit, case, _: _drop(usecases.close(unit.desk, case.id)),
            Turn.STAFF: lambda unit, case, step: usecases.leave_to_staff(unit.desk, case.id, step.reason or "unknown"),
        }

    def handlers(self) -> dict[str, Handler]:
        """Return the work this room carries out, by kind."""
        return {usecases.PROCEED: self.proceed}

    def proceed(self, ref: str, steps: Steps) -> None:
        """Take the next step of a case. `ref`: `case/version`, from the second look on `/attempt` behind it."""
        look = Look.read(ref)
        steps.run("turn", lambda: self._turn(look))

    def _turn(self, look: Look) -> str:
        try:
            return self._take(look)
        except CaseChanged:
            return _OVERTAKEN
        except (ProviderUnavailable, KeyStoreUnavailable, PartitionBusy):
            return self._again(look)
        except (DsarError, NotMakeableError) as fault:
            return self._leave(look, fault.code)

    def _take(self, look: Look) -> str:
        with self._reading() as unit:
            seen = unit.desk.cases.get(look.case)
            if seen.version != look.version:
                return _OVERTAKEN
            step = self._next(unit, seen)
            copy = self._office.make(unit, seen, step.lines[0]) if step.turn is Turn.SEAL else None
            now = unit.desk.clock.now()
        if step.turn is Turn.WAIT:
            timed = step.until is not None and step.until > now and look.attempt < SWEPT
            return self._later(look, step.until) if timed else _WAITING
        with self._unit() as unit:
            found = unit.desk.cases.get(look.case)
            if found.version != look.version:
                return _OVERTAKEN
            self._act(unit, found, step, copy)
            unit.commit()
        return step.turn.value

    def _next(self, unit: Unit, case: Case) -> Next:
        desk, now = unit.desk, unit.desk.clock.now()
        facts = Facts(
            now=now,
            erase_from=usecases.erasure_begins(desk, case.id),
            settled=tuple(settled_by_holders(desk, case, unit.party_of)),
            erasures={line.id: self._progress(desk, case, line.id) for line in case.lines.values() if line.started},
            copies_elsewhere=bool(usecases.copies_elsewhere(desk, case)) if case.state is State.DISPATCHING else False,
            held_up=course.held_up(unit.unanswered(case), now) if case.state is State.SEARCHING else None,
        )
        return course.next_step(case, facts)

    def _progress(self, desk: Desk, case: Case, line: LineId) -> Progress:
        if self._office.evidence(line) is None or not _all_done(desk, case, line, TaskKind.ERASE):
            return Progress.RUNNING
        return Progress.SEARCHED if _all_done(desk, case, line, TaskKind.VERIFY) else Progress.CONFIRMED

    def _act(self, unit: Unit, case: Case, step: Next, copy: Copy | None) -> None:
        if copy is not None:
            self._seal(unit, case, step.lines[0], copy)
            return
        self._acts[step.turn](unit, case, step)

    def _again(self, look: Look) -> str:
        with self._unit() as unit:
            due = unit.desk.clock.now() + self._waits.before(look.attempt + 1)
            unit.desk.work.enqueue(usecases.PROCEED, look.next, due=due)
            unit.commit()
        return "again"

    def _later(self, look: Look, due: datetime | None) -> str:
        with self._unit() as unit:
            unit.desk.work.enqueue(usecases.PROCEED, look.next, due=due)
            unit.commit()
        return _WAITING

    def _leave(self, look: Look, code: str) -> str:
        with self._unit() as unit:
            if unit.desk.cases.get(look.case).version != look.version:
                return _OVERTAKEN  # what was missing went because another look has sealed the copy
            try:
                usecases.leave_to_staff(unit.desk, look.case, code)
            except CaseChanged:
                return _OVERTAKEN
            unit.commit()
        return f"left: {code}"

    # The steps

    def _search(self, unit: Unit, case: Case, _step: Next) -> None:
        """The house is a holder like any other, and the first one asked (dsar rule 40)."""
        usecases.start_search(unit.desk, case.id, (HOUSE_HOLDER, *unit.holders(case.controller)))

    def _seal(self, unit: Unit, case: Case, line: LineId, copy: Copy) -> PackageId:
        """The record first: whoever wins it puts the copy to rest, and nobody else (dsar rule 40)."""
        package = usecases.seal_package(unit.desk, case.id, copy.manifest)
        self._office.keep(case, line, copy)
        return package

    def _decide(self, unit: Unit, case: Case, step: Next) -> None:
        line = case.lines[step.lines[0]]
        if line.right in course.AT_ONCE:
            decision = Decision(Outcome.GRANTED, SYSTEM)
        elif RIGHTS[line.right].seals_package:
            sealed = line.id in case.packages.values()
            decision = Decision(Outcome.GRANTED if sealed else Outcome.NO_DATA, SYSTEM)
        else:
            outcome, grounds, categories = holdings.verdict(self._matrix(unit, case), unit.desk.policy)
            decision = Decision(outcome, SYSTEM, grounds, categories)
        usecases.decide_line(unit.desk, case.id, line.id, decision)

    def _matrix(self, unit: Unit, case: Case) -> tuple[Cell, ...]:
        desk, subject = unit.desk, _subject(case)
        held = holdings.holdings(
            _answers(desk, case),
            desk.policy,
            case.controller,
            party_of=lambda holder: PartyId(unit.party_of(holder)),
            house=HOUSE_HOLDER,
            agreed=unit.agreed(case.controller, subject),
        )
        return holdings.drawn(held, desk.policy, _today(desk, case))

    def _erase(self, unit: Unit, case: Case, step: Next) -> None:
        """Order the erasure; who received the data is told, before it is forgotten who the person was (rule 56)."""
        desk, line = unit.desk, step.lines[0]
        cells = self._matrix(unit, case)
        _check_as_decided(desk, case, line, cells)
        recipients = unit.recipients(case.controller, _subject(case))
        usecases.begin_erasure(desk, case.id, line, cells=cells, recipients=recipients)
        self._office.part(unit, case, line)
        after = desk.cases.get(case.id)
        answering = {unit.party_of(holder) for holder in case.holders}
        owed = {one.id: one.recipient for one in desk.cases.recipients(case.id) if one.id in pending(after)}
        unheard = {task: party for task, party in owed.items() if party not in answering}
        self._office.notify(unit, case, unheard)

    def _stop(self, unit: Unit, case: Case, step: Next) -> None:
        """What a restriction keeps from others, they are told of (GDPR art. 19; dsar rules 51, 56)."""
        recipients = unit.recipients(case.controller, _subject(case))
        usecases.carry_out_limit(unit.desk, case.id, step.lines[0], recipients=recipients)

    def _verify(self, unit: Unit, case: Case, step: Next) -> None:
        usecases.verify_erasure(unit.desk, case.id, step.lines[0])

    def _carry_out(self, unit: Unit, case: Case, step: Next) -> None:
        line = step.lines[0]
        usecases.carry_out(unit.desk, case.id, line, self._office.evidence(line) or "")

    def _settle(self, unit: Unit, case: Case, _step: Next) -> None:
        for task in settled_by_holders(unit.desk, case, unit.party_of):
            usecases.record_recipient(unit.desk, task, RecipientOutcome.ACKED, by=SYSTEM)


def _drop(_result: object) -> None:
    """A step has no result: what it did is in the case."""


def _subject(case: Case) -> SubjectRef:
    if case.subject is None:
        raise RetentionUnfounded(("nobody is named in this case",))
    return case.subject


def _today(desk: Desk, case: Case) -> date:
    return clock.local_day(desk.clock.now(), desk.policy.controllers[case.controller].time_zone)


def _answers(desk: Desk, case: Case) -> Sequence[HolderAnswer]:
    """Return the latest answer of each holder of the running search."""
    latest = {task.holder: task.answer for task in desk.cases.tasks(case.id, TaskKind.SEARCH) if task.answer}
    return [latest[holder] for holder in case.holders if holder in latest]


def _check_as_decided(desk: Desk, case: Case, line: LineId, cells: Sequence[Cell]) -> None:
    """What is kept must be what the person was told and a person approved (dsar rules 48, 57)."""
    told = {
        category
        for one in desk.cases.history(case.id)
        if isinstance(one.event, LineDecided) and one.event.line == line
        for category in one.event.categories
    }
    more = sorted(set(retained(cells)) - told)
    if more:
        raise RetentionUnfounded(f"{category}: kept, and not decided so" for category in more)


def _all_done(desk: Desk, case: Case, line: LineId, kind: TaskKind) -> bool:
    latest = {task.holder: task for task in desk.cases.tasks(case.id, kind) if task.line == line}
    return not any(task_fault(latest.get(holder)) for holder in case.holders)


def settled_by_holders(desk: Desk, case: Case, party_of: Callable[[ComponentId], str]) -> Sequence[TaskId]:
    """Return the recipients not settled yet whose holders have all confirmed the erasure: that is their word."""
    waiting = set(pending(case))
    if not waiting:
        return ()
    tasks = desk.cases.tasks(case.id, TaskKind.ERASE)
    ran = {party: [task for task in tasks if party_of(task.holder) == party] for party in map(party_of, case.holders)}
    return [
        one.id
        for one in desk.cases.recipients(case.id)
        if one.id in waiting and ran.get(one.recipient) and not any(map(task_fault, ran[one.recipient]))
    ]

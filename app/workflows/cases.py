"""Carrying out cases durably: asking holders, erasing with a certificate, ending retentions (GDPR arts 12, 17, 19).

Dsar rules 40, 49, 53, 54, 56, 60; operations.md section 3, rules 5 and 7. Each external effect is one step and can be
repeated. Work that has to wait (leases that run, holders that have not answered, a busy partition) ends, and the next
attempt is enqueued with a delay under its own number. Holders and recipients pull their tasks: nothing is pushed here.
Leaves out what a message says and the law of each move (`dsar.usecases`), and which step comes next
(`app.workflows.proceeding`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from hashlib import sha256
from typing import Final, Generic, Protocol, TypeVar

from app.profiles import CATEGORY, HOUSE
from app.vault.certificate import canonical
from app.vault.errors import (
    ErasureUnknown,
    KeyStoreUnavailable,
    PartitionBusy,
    ProviderUnavailable,
    SurvivorUnverified,
)
from app.vault.guarding import Reason, Wait
from app.vault.keys import Basis, Keep, KeyClass, Selector, Target
from app.vault.ports import ErasureState, Json
from app.workflows.durable import Handler, Steps
from consent.vocabulary import ComponentId, LegalBasis, SubjectRef
from dsar import clock, course, usecases
from dsar.case import ERASURE_HELD, Case, Line
from dsar.errors import CaseChanged, ErasurePartial
from dsar.events import Approved, LineDecided, PackageRevoked, PackageSealed
from dsar.holdings import AUDIT_TRAIL
from dsar.package import HolderAnswer
from dsar.ports import Desk, HolderTask, Instruction, StoredRetention
from dsar.usecases.searching import ask_holder
from dsar.vocabulary import SYSTEM, CaseId, FateKind, LineId, MessageId, RecipientOutcome, Right, TaskId, TaskKind

IDENTIFYING: Final = ("identity", "contact")
"""Roots of the categories a profile is made of: retained at the house, they keep the person findable."""
NO_SPACE: Final = "no_space"
"""Why a case waits for staff whose message has no space to go to: the person was erased meanwhile."""
_WAITING: Final = "waiting"
_OPEN: Final = "open"
_DONE: Final = "done"


class Eraser(Protocol):
    """The erasures of the vault."""

    def request(self, erasure_id: str, targets: Sequence[Target], *, by: str | None = None) -> ErasureState: ...
    def advance(self, erasure_id: str) -> ErasureState:
        """Take one step and return the state reached; the same state again while it has to wait."""
        ...

    def waits(self, erasure_id: str) -> Wait | None: ...
    def due_at(self, erasure_id: str) -> datetime | None: ...
    def certificates(self, erasure_id: str) -> Sequence[Mapping[str, Json]]: ...


class Forgetting(Protocol):
    """The rows that say who a subject is."""

    def forget(self, ref: SubjectRef, at: datetime) -> None: ...


class CaseUnit(Protocol):
    """A unit of work on cases."""

    @property
    def desk(self) -> Desk: ...
    @property
    def subjects(self) -> Forgetting: ...
    def party_of(self, holder: ComponentId) -> str:
        """Return whose keys a holder seals under: its party's, the house's own for the house. Raises for nobody's."""
        ...

    def commit(self) -> None: ...


Unit_contra = TypeVar("Unit_contra", bound="CaseUnit", contravariant=True)


class Household(Protocol[Unit_contra]):
    """This service as a holder: it answers for what is in its own database."""

    def search(self, unit: Unit_contra, task: HolderTask) -> HolderAnswer: ...
    def erased(self, unit: Unit_contra, task: HolderTask) -> HolderAnswer:
        """Answer once keys are destroyed and it is forgotten who the person was."""
        ...

    def searched_again(self, unit: Unit_contra, task: HolderTask) -> HolderAnswer: ...


class Correspondence(Protocol[Unit_contra]):
    """Tells people that a message waits for them."""

    def post(self, unit: Unit_contra, case: Case, message: MessageId) -> bool:
        """Put a message where the person reads it and tell them. False: it is on its way, or staff have to send it."""
        ...


class SealedFiles(Protocol):
    """Where sealed bytes of cases rest."""

    def remove(self, name: str) -> None: ...


Unit = TypeVar("Unit", bound=CaseUnit)
_Result = TypeVar("_Result")
_TRIES: Final = 5


def unless_changed(effect: Callable[[], _Result]) -> _Result:
    """Return what `effect` does, done anew when somebody else wrote to the case meanwhile.

    Raises CaseChanged when that happens `_TRIES` times in a row.
    """
    for _ in range(_TRIES - 1):
        with suppress(CaseChanged):
            return effect()
    return effect()


@dataclass(frozen=True, slots=True)
class Waits:
    """How long until the next attempt: the first wait doubles up to the longest."""

    first: timedelta = timedelta(minutes=1)
    longest: timedelta = timedelta(hours=1)

    def before(self, attempt: int) -> timedelta:
        """Return the wait before attempt number 2, 3, ..."""
        return min(self.longest, self.first * (1 << min(attempt - 2, 16)))


class CaseWork(Generic[Unit]):
    """The handlers of all work that cases ask for."""

    def __init__(
        self,
        unit: Callable[[], AbstractContextManager[Unit]],
        eraser: Eraser,
        files: SealedFiles,
        *,
        household: Household[Unit],
        correspondence: Correspondence[Unit],
        waits: Waits | None = None,
    ) -> None:
        self._unit = unit
        self._eraser = eraser
        self._files = files
        self._household = household
        self._correspondence = correspondence
        self._waits = waits or Waits()

    def handlers(self) -> dict[str, Handler]:
        """Return the work this room carries out, by kind."""
        return {
            usecases.ASK_HOLDER: self.ask_holder,
            usecases.TELL_RECIPIENT: self.tell_recipient,
            usecases.SEND: self.post_message,
            usecases.RUN_ERASURE: self.run_erasure,
            usecases.END_RETENTION: self.end_retention,
            usecases.DROP_UPLOADS: self.drop_uploads,
        }

    # Asking and telling

    def ask_holder(self, ref: str, steps: Steps) -> None:
        """See that a holder's task stands open to be pulled; the house answers its own at once (dsar rule 40)."""
        steps.run("task", lambda: unless_changed(lambda: self._asked(TaskId(ref))))

    def _asked(self, name: TaskId) -> str:
        with self._unit() as unit:
            task = unit.desk.cases.task(name)
            if task.answer is not None:
                return _DONE
            # its own erasure is confirmed by what carries it out, not before
            if task.holder != HOUSE or task.kind is TaskKind.ERASE:
                return _OPEN
            answering = self._household.search if task.kind is TaskKind.SEARCH else self._household.searched_again
            usecases.record_answer(unit.desk, name, answering(unit, task))
            unit.commit()
        return _DONE

    def tell_recipient(self, ref: str, steps: Steps) -> None:
        """See that an art. 19 notice stands open to be pulled; it is sent once the recipient has it (dsar rule 56)."""
        steps.run(
            "notice",
            lambda: self._standing(lambda desk: desk.cases.recipient(TaskId(ref)).outcome is RecipientOutcome.PENDING),
        )

    def _standing(self, asked: Callable[[Desk], bool]) -> str:
        with self._unit() as unit:
            return _OPEN if asked(unit.desk) else _DONE

    def post_message(self, ref: str, steps: Steps) -> None:
        """Post a message in the person's space: that is its dispatch. Without a space it waits for staff (rule 60)."""
        steps.run("post", lambda: unless_changed(lambda: self._post(MessageId(ref))))

    def _post(self, message: MessageId) -> str:
        with self._unit() as unit:
            desk = unit.desk
            case = desk.cases.get(desk.cases.case_of_message(message))
            if case.messages[message].dispatched_at is not None or usecases.overtaken(case, message):
                return _DONE
            hindered = usecases.hindrance(desk, case, message)
            posted = hindered is None and case.subject is not None and self._correspondence.post(unit, case, message)
            if posted:
                usecases.dispatch_message(desk, message, channel="space", proof=f"posting:{message}")
            elif hindered is not None or _homeless(case, message):
                usecases.leave_to_staff(desk, case.id, hindered or NO_SPACE)
            unit.commit()
        return _DONE if posted else _OPEN

    # Erasing

    def run_erasure(self, ref: str, steps: Steps) -> None:
        """Destroy a person's keys but the retained, forget who they are, have holders search again (dsar rules 48-54).

        `ref`: `case/line`, from the second attempt on `/attempt` behind it.
        """
        case, line, number = _parts(ref)
        erasure = erasure_of(line)
        steps.run("request", lambda: self._request(case, line))
        if not self._certified(erasure, steps):
            steps.run("again", lambda: self._again(case, line, number + 1))
            return
        steps.run("forget", lambda: self._forget(case, line))
        steps.run("files", lambda: self._drop_files(case))
        steps.run("own", lambda: unless_changed(lambda: self._confirm_own(case, line)))
        if steps.run("verify", lambda: unless_changed(lambda: self._verify(case, line))) == _WAITING:
            steps.run("again", lambda: self._again(case, line, number + 1))

    def _request(self, case: CaseId, line: LineId) -> str:
        with self._unit() as unit:
            target = _target(unit, case, line)
            by = _decided_by(unit, case, line)
        erasure = erasure_of(line)
        state = self._eraser.request(erasure, [target], by=by)
        wait = self._eraser.waits(erasure)
        if wait is not None and wait.reason is Reason.APPROVAL:
            unless_changed(lambda: self._tell_staff(case))
        return state.value

    def _tell_staff(self, case: CaseId) -> None:
        """Two colleagues have to agree: that stands in the queue, on the timeline and in the ledger, once."""
        with self._unit() as unit:
            usecases.leave_to_staff(unit.desk, case, ERASURE_HELD)
            unit.commit()

    def _certified(self, erasure: str, steps: Steps) -> bool:
        """Advance one journalled state a step; false when it has to wait."""
        step, before, state = 0, "", ""
        while state not in (ErasureState.CERTIFIED, _WAITING) and (state != before or not state):
            step, before = step + 1, state
            state = str(steps.run(f"advance {step}", lambda: self._advance(erasure)))
        return state == ErasureState.CERTIFIED

    def _advance(self, erasure: str) -> str:
        try:
            state = self._eraser.advance(erasure)
        except (PartitionBusy, ProviderUnavailable, KeyStoreUnavailable, SurvivorUnverified):
            return _WAITING  # nothing was destroyed by this step; the same step is taken again later
        return _WAITING if state is ErasureState.REQUESTED else state.value

    def _forget(self, case: CaseId, line: LineId) -> str:
        with self._unit() as unit:
            desk = unit.desk
            target = _target(unit, case, line)
            if any(keep.selector == _PROFILE for keep in target.keep):
                return "retained"
            unit.subjects.forget(SubjectRef(target.subject), desk.clock.now())
            unit.commit()
        return _DONE

    def _drop_files(self, case: CaseId) -> int:
        """Remove the sealed bytes of copies and uploads: their keys are gone already (dsar rule 53)."""
        with self._unit() as unit:
            known = unit.desk.cases
            sealed = (PackageSealed, PackageRevoked)
            packages = [each.event.package for each in known.history(case) if isinstance(each.event, sealed)]
            copies = [known.package(package).line for package in packages]
            names = [*copies, *(task.id for task in known.tasks(case, TaskKind.SEARCH))]
        for name in dict.fromkeys(names):
            self._files.remove(name)
        return len(names)

    def _confirm_own(self, case: CaseId, line: LineId) -> int:
        """Answer the house's own tasks: what it held is gone by now (dsar rule 53)."""
        with self._unit() as unit:
            tasks = unit.desk.cases.tasks(case, TaskKind.ERASE)
            own = [task for task in tasks if task.holder == HOUSE and task.line == line and task.answer is None]
            for task in own:
                usecases.record_answer(unit.desk, task.id, self._household.erased(unit, task))
            unit.commit()
        return len(own)

    def _verify(self, case: CaseId, line: LineId) -> str:
        """Open the searches after the erasure, and once they found nothing record it done (dsar rule 53)."""
        with self._unit() as unit:
            desk = unit.desk
            if desk.cases.get(case).lines[line].carried_out is not None:
                return _DONE
            try:
                usecases.verify_erasure(desk, case, line)
                usecases.carry_out(desk, case, line, evidence_of(self._eraser, line) or "")
            except ErasurePartial:
                # Not all have confirmed, or not all were searched again; new searches have to be kept.
                unit.commit()
                return _WAITING
            unit.commit()
        return _DONE

    def _again(self, case: CaseId, line: LineId, attempt: int) -> str:
        with self._unit() as unit:
            now = unit.desk.clock.now()
            leased = self._eraser.due_at(erasure_of(line))
            running = leased is not None and leased > now
            # leases end at a known moment; what fails is tried again later and later
            due = leased if running else now + self._waits.before(attempt)
            unit.desk.work.enqueue(usecases.RUN_ERASURE, f"{case}/{line}/{attempt}", due=due)
            unit.commit()
        return _WAITING

    # What is spent

    def drop_uploads(self, ref: str, steps: Steps) -> None:
        """Remove what holders sent for a case once its copies are sealed (dsar rule 59). `ref`: `case/version`."""
        case = CaseId(ref.partition("/")[0])
        steps.run("uploads", lambda: self._drop_uploads(case))

    def _drop_uploads(self, case: CaseId) -> int:
        with self._unit() as unit:
            known = unit.desk.cases
            spent = course.uploads_spent(known.get(case))
            names = [task.id for task in known.tasks(case, TaskKind.SEARCH)] if spent else []
        for name in names:
            self._files.remove(name)
        return len(names)

    # Ending retentions

    def end_retention(self, ref: str, steps: Steps) -> None:
        """Erase what was kept, once nothing else keeps it, and tell its holder to (dsar rule 49).

        `ref`: the retention's id, from the second attempt on `/attempt` behind it.
        """
        retention, _, number = ref.partition("/")
        attempt = int(number or 1) + 1
        stands = steps.run("due", lambda: self._due(retention))
        if stands == "early":
            steps.run("again", lambda: self._end_again(retention, attempt))
            return
        if stands == "alone":
            erasure = f"era_{retention}"
            steps.run("request", lambda: self._request_end(retention))
            if not self._certified(erasure, steps):
                steps.run("again", lambda: self._end_again(retention, attempt))
                return
        steps.run("end", lambda: self._end(retention))

    def _due(self, retention: str) -> str:
        with self._unit() as unit:
            desk = unit.desk
            kept = desk.cases.retention(retention)
            if kept.erased_at is not None:
                return "ended"
            if kept.until > _today(desk, kept):
                return "early"
            return "alone" if _ends_with(unit, kept) else "shared"

    def _request_end(self, retention: str) -> str:
        with self._unit() as unit:
            kept = unit.desk.cases.retention(retention)
            targets = _last_targets(unit, kept)
        return self._eraser.request(f"era_{retention}", targets).value

    def _end(self, retention: str) -> str:
        """Mark the end, give the holder its task and forget who it was, all or nothing."""
        with self._unit() as unit:
            desk = unit.desk
            kept = desk.cases.retention(retention)
            if kept.erased_at is not None:
                return "ended"
            if _PROFILE in _ends_with(unit, kept):
                unit.subjects.forget(kept.subject, desk.clock.now())
            _ask_to_erase(desk, kept)
            desk.cases.end_retention(retention, desk.clock.now())
            unit.commit()
        return _DONE

    def _end_again(self, retention: str, attempt: int) -> str:
        with self._unit() as unit:
            desk = unit.desk
            kept = desk.cases.retention(retention)
            zone = desk.policy.controllers[kept.controller].time_zone
            ends = clock.last_instant(kept.until - timedelta(days=1), zone)
            due = max(desk.clock.now() + self._waits.before(attempt), ends)
            desk.work.enqueue(usecases.END_RETENTION, f"{retention}/{attempt}", due=due)
            unit.commit()
        return _WAITING


_PROFILE: Final = Selector(holder=HOUSE, category=CATEGORY)


def erasure_of(line: LineId) -> str:
    """Return the id under which the vault journals the erasure of a line."""
    return f"era_{line}"


def _decided_by(unit: CaseUnit, case: CaseId, line: LineId) -> str | None:
    """Return the colleague on whose word a line is carried out; whoever that is does not agree to it again."""
    events = [one.event for one in unit.desk.cases.history(case)]
    decided = [each.by for each in events if isinstance(each, LineDecided) and each.line == line]
    approved = [each.by for each in events if isinstance(each, Approved)]
    return next((by for by in reversed([*decided, *approved]) if by != SYSTEM.handle), None)


def evidence_of(eraser: Eraser, line: LineId) -> str | None:
    """Return `erasure:SHA-256 of the certificate`, for the ledger (vault.md section 5); None before there is one."""
    try:
        found = eraser.certificates(erasure_of(line))
    except ErasureUnknown:
        return None
    return f"{erasure_of(line)}:{sha256(canonical(found[0])).hexdigest()}" if found else None


def _homeless(case: Case, message: MessageId) -> bool:
    """Say whether a message that was not posted goes by no letter either: an erasure's own letter was put aside."""
    return case.subject is not None and not any(case.lines[line].started for line in case.messages[message].lines)


def _parts(ref: str) -> tuple[CaseId, LineId, int]:
    case, line, *number = ref.split("/")
    return CaseId(case), LineId(line), int(number[0]) if number else 1


def _target(unit: CaseUnit, case: CaseId, line: LineId) -> Target:
    found = unit.desk.cases.get(case)
    subject = _erased_subject(found, found.lines[line])
    return Target(found.controller, subject, keep=_keeps(unit, unit.desk.cases.retentions(case)))


def _erased_subject(case: Case, line: Line) -> SubjectRef:
    if case.subject is None or not line.started:
        raise ErasurePartial((line.id,))
    return case.subject


def _keeps(unit: CaseUnit, retentions: Sequence[StoredRetention]) -> tuple[Keep, ...]:
    """Return what outlives the shred: per holder, category and basis, with its latest end (dsar rule 49)."""
    ordered = sorted(retentions, key=_rank)
    kept = {selector: (one.until, one.legal_ref) for one in ordered for selector in _selectors(unit, one)}
    return tuple(Keep(selector, until, reason) for selector, (until, reason) in kept.items())


def _selectors(unit: CaseUnit, retention: StoredRetention) -> tuple[Selector, ...]:
    """A key that lives on a consent is not kept for a purpose that has another basis (vault.md section 1).

    A retention names a component, a key the party that runs it.
    """
    on_consent = unit.desk.policy.purposes[retention.purpose].basis is LegalBasis.CONSENT
    basis = Basis.CONSENT if on_consent else Basis.OTHER
    own = Selector(holder=unit.party_of(retention.holder), category=retention.category, basis=basis)
    return (own, _PROFILE) if _identifies(retention) else (own,)


def _identifies(retention: StoredRetention) -> bool:
    """Say whether the house itself keeps who the person is."""
    return retention.holder == HOUSE and retention.category.partition(".")[0] in IDENTIFYING


def _ends_with(unit: CaseUnit, retention: StoredRetention) -> tuple[Selector, ...]:
    """Return the keys that go with this retention: those that no other one keeps for longer.

    Ordered by end, then id: of two that end together the last one alone takes the key, whichever runs first.
    """
    longer = [one for one in unit.desk.cases.retentions(retention.case) if _rank(one) > _rank(retention)]
    kept = {selector for one in longer for selector in _selectors(unit, one)}
    return tuple(selector for selector in _selectors(unit, retention) if selector not in kept)


def _last_targets(unit: CaseUnit, retention: StoredRetention) -> tuple[Target, ...]:
    """Of the house's audit trail: the ledger's entries, a class of keys of their own, and what copies had of it."""
    whose = retention.controller, retention.subject
    copied = Target(*whose, only=_ends_with(unit, retention))
    if retention.holder == HOUSE and retention.category == AUDIT_TRAIL:
        return (Target(*whose, classes=(KeyClass.AUDIT,)), copied)
    return (copied,)


def _rank(retention: StoredRetention) -> tuple[date, str]:
    return retention.until, retention.id


def _ask_to_erase(desk: Desk, retention: StoredRetention) -> None:
    """Tell the holder that what it was told to keep goes now; the house itself has done so by then."""
    case = desk.cases.get(retention.case)
    if retention.holder not in case.holders or retention.holder == HOUSE:
        return
    line = next(line.id for line in case.lines.values() if line.right is Right.ERASURE)
    told = (Instruction(retention.category, retention.purpose, FateKind.ERASE), *_kept_on(desk, retention))
    ask_holder(
        desk, case, retention.subject, line=line, holder=retention.holder, kind=TaskKind.ERASE, instructions=told
    )


def _kept_on(desk: Desk, retention: StoredRetention) -> tuple[Instruction, ...]:
    """What the holder still has to keep: it erases by category, and may not answer that it has what nobody named."""
    today = _today(desk, retention)
    return tuple(
        Instruction(one.category, one.purpose, FateKind.RETAIN, one.until, one.legal_ref)
        for one in desk.cases.retentions(retention.case)
        if one.holder == retention.holder and one.until > today
    )


def _today(desk: Desk, retention: StoredRetention) -> date:
    return clock.local_day(desk.clock.now(), desk.policy.controllers[retention.controller].time_zone)

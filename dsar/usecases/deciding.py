"""Deciding lines within the closed matrix, and approving the case (dsar rules 8, 18, 41, 46, 48, 52, 57, 59)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from consent.vocabulary import CategoryId
from dsar import errors
from dsar import events as e
from dsar.case import Case, Line, State
from dsar.ports import Desk
from dsar.rights import RIGHTS
from dsar.rights.shape import Extent
from dsar.usecases.fetching import check_copies
from dsar.usecases.writing import is_late, line_of, write
from dsar.vocabulary import REFUSALS, SYSTEM, Actor, CaseId, Ground, HolderStatus, LineId, NoteId, Outcome, Right


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided about one line."""

    outcome: Outcome
    by: Actor
    grounds: tuple[Ground, ...] = ()
    categories: tuple[CategoryId, ...] = ()
    """The categories a per-category ground refuses (dsar rule 48)."""
    approved_by: Actor | None = None
    evidence: str | None = None
    """Sealed; needed for art. 12(5), compelling grounds and art. 11 (dsar rules 32, 52, 57)."""
    dpo_override: bool = False


EVIDENCED = frozenset({Ground.UNFOUNDED_OR_EXCESSIVE, Ground.COMPELLING_GROUNDS, Ground.ARTICLE_11})
TWO_PEOPLE = frozenset({Ground.UNFOUNDED_OR_EXCESSIVE, Ground.AML_CARVE_OUT})


def decide_line(desk: Desk, case_id: CaseId, line_id: LineId, decision: Decision) -> None:
    """Decide one line under review (dsar rules 3, 8, 18, 46, 48, 57, 59).

    Raises OutcomeNotAllowed, GroundNotAllowed, SecondPersonNeeded, LateRefusal, HumanNeeded, AccessFirst,
    NotIdentified.
    """
    case = desk.cases.get(case_id)
    line = line_of(case, line_id)
    if case.state is not State.REVIEW:
        raise errors.MoveRefused(case.state, "be decided")
    _check_outcome(case, line, decision)
    _check_grounds(line, decision)
    _check_pack(desk, line, decision)
    _check_people(line, decision)
    late = is_late(desk, case) and decision.outcome in REFUSALS
    if late and not (decision.by.dpo and decision.dpo_override):
        raise errors.LateRefusal("month one is over: the DPO has to override")  # dsar rule 18
    text = decision.evidence
    note = desk.notes.keep(case.controller, case.subject, case.id, text) if text else None
    write(desk, case, decided(desk, line_id, decision, late=late, evidence=note))


def refuse(
    desk: Desk,
    case_id: CaseId,
    line_id: LineId,
    grounds: tuple[Ground, ...],
    *,
    by: Actor,
    approved_by: Actor,
    evidence: str | None = None,
    dpo_override: bool = False,
) -> None:
    """Refuse a line altogether, two people agreeing (dsar rules 57, 59). Raises as `decide_line`."""
    decision = Decision(
        Outcome.REFUSED,
        by,
        grounds,
        approved_by=approved_by,
        evidence=evidence,
        dpo_override=dpo_override,
    )
    decide_line(desk, case_id, line_id, decision)


def decided(desk: Desk, line: LineId, decision: Decision, *, late: bool, evidence: NoteId | None) -> e.LineDecided:
    """Return the event of a decision."""
    return e.LineDecided(
        at=desk.clock.now(),
        by=decision.by.handle,
        line=line,
        outcome=decision.outcome,
        grounds=decision.grounds,
        categories=decision.categories,
        approved_by=decision.approved_by.handle if decision.approved_by else None,
        evidence=evidence,
        late_refusal=late,
    )


def _check_outcome(case: Case, line: Line, decision: Decision) -> None:
    law = RIGHTS[line.right]
    if decision.outcome not in law.outcomes or decision.outcome is Outcome.WITHDRAWN_BY_SUBJECT:
        raise errors.OutcomeNotAllowed(f"{line.right.value} cannot end as {decision.outcome.value}")
    if decision.outcome is Outcome.NO_DATA and HolderStatus.FOUND in case.answers.values():
        raise errors.OutcomeNotAllowed("a holder found data")
    giving = decision.outcome in (Outcome.GRANTED, Outcome.PARTLY_GRANTED)
    if giving and law.seals_package and line.id not in case.packages.values():
        raise errors.PackageIncomplete((f"line {line.id}: no sealed package",))
    if line.right is Right.ERASURE and not _access_sealed(case):
        raise errors.AccessFirst("the access package of this case is not sealed yet")  # dsar rules 3, 53


def _access_sealed(case: Case) -> bool:
    """Say whether every line that asks for a copy has its package, or got another answer."""
    copies = [one for one in case.lines.values() if RIGHTS[one.right].seals_package]
    refused = (Outcome.REFUSED, Outcome.NO_DATA)
    return all(one.id in case.packages.values() or one.outcome in refused for one in copies)


def _check_grounds(line: Line, decision: Decision) -> None:
    """The closed matrix (section 1.2; dsar rules 41, 48, 57)."""
    law = RIGHTS[line.right]
    foreign = [ground.value for ground in decision.grounds if ground not in law.grounds]
    if foreign:
        raise errors.GroundNotAllowed(f"{line.right.value} cannot be refused for {', '.join(foreign)}")
    refusing = decision.outcome in (Outcome.REFUSED, Outcome.PARTLY_GRANTED, Outcome.UNPROVEN)
    if refusing != bool(decision.grounds):
        raise errors.GroundNotAllowed("grounds go with a refusal, whole or partial, and only with one")
    extents = {law.grounds[ground] for ground in decision.grounds}
    if decision.outcome is Outcome.REFUSED and Extent.PART in extents:
        raise errors.GroundNotAllowed("this ground leaves things out, it does not refuse the whole")  # rule 41
    if Extent.PER_CATEGORY in extents and not decision.categories:
        raise errors.GroundNotAllowed("this ground needs its categories")  # rule 48
    if EVIDENCED.intersection(decision.grounds) and not decision.evidence:
        raise errors.GroundNotAllowed("this ground needs its evidence")  # rule 57


def _check_pack(desk: Desk, line: Line, decision: Decision) -> None:
    """The pack may give up grounds that the law leaves open (dsar rule 57)."""
    rule = desk.policy.rights.get(line.right.value)
    given_up = [one.value for one in decision.grounds if rule is not None and one.value not in rule.refusals]
    if given_up:
        raise errors.GroundNotAllowed(f"the pack does not refuse {line.right.value} for {', '.join(given_up)}")


def _check_people(line: Line, decision: Decision) -> None:
    if RIGHTS[line.right].human_only and not decision.by.human:
        raise errors.HumanNeeded(line.right.value)  # dsar rule 46
    if asks_two(decision.outcome, decision.grounds) and not _two_people(decision.by, decision.approved_by):
        raise errors.SecondPersonNeeded("two different people have to agree")  # dsar rules 57, 59


def _two_people(first: Actor, second: Actor | None) -> bool:
    return second is not None and first.human and second.human and first.handle != second.handle


def submit(desk: Desk, case_id: CaseId, by: Actor = SYSTEM) -> None:
    """Hand the decided case to approval. Raises NotAnswered when a line is undecided."""
    write(desk, desk.cases.get(case_id), e.Submitted(at=desk.clock.now(), by=by.handle))


def approve(desk: Desk, case_id: CaseId, by: Actor) -> None:
    """Let the decisions be carried out and sent.

    Raises MoveRefused, HumanNeeded for a machine, SecondPersonNeeded for whoever took one of the decisions that two
    people have to agree on (dsar rules 57, 59), PackageIncomplete when a copy it grants is gone (rules 3, 53): such a
    case can be sent back.
    """
    if not by.human:
        raise errors.HumanNeeded("an approval")
    case = desk.cases.get(case_id)
    if case.state is State.APPROVAL and by.handle in _deciders_of_two(desk, case_id):
        raise errors.SecondPersonNeeded("whoever decided this may not approve it")
    if case.state is State.APPROVAL:
        check_copies(desk, case, case.lines)
    write(desk, case, e.Approved(at=desk.clock.now(), by=by.handle))


def _deciders_of_two(desk: Desk, case_id: CaseId) -> frozenset[str]:
    """Return who took the standing decisions that need two people; of several on one line the last stands."""
    told = (one.event for one in desk.cases.history(case_id))
    last = {event.line: event for event in told if isinstance(event, e.LineDecided)}
    return frozenset(event.by for event in last.values() if asks_two(event.outcome, event.grounds))


def asks_two(outcome: Outcome, grounds: Iterable[Ground]) -> bool:
    """Say whether the law wants two people behind this decision (dsar rules 57, 59)."""
    return outcome in (Outcome.REFUSED, Outcome.UNPROVEN) or bool(TWO_PEOPLE.intersection(grounds))


def send_back(desk: Desk, case_id: CaseId, by: Actor) -> None:
    """Return the case to review."""
    write(desk, desk.cases.get(case_id), e.Returned(at=desk.clock.now(), by=by.handle))

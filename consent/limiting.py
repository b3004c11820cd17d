"""What people and their controllers do with restrictions and objections (GDPR arts 18, 21; dsar rules 7, 8, 51, 52).

Each function works in the caller's unit of work, which commits: record and ledger entry go together, and from that
commit on `decision.decide` meets it. Asking again from the same `origin` (a line of a case) returns what is in force.
Leaves out whether a request is founded and what is answered (`dsar`), and telling recipients (art. 19).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol

from consent.errors import ActorRefusedError, LiftUntoldError, MoveRefusedError, NoSuchLimitError, UnfitError
from consent.events import Actor, ActorKind
from consent.limits import (
    ALL,
    Act,
    Exemption,
    LimitId,
    ObjectionRecord,
    RestrictionGround,
    RestrictionRecord,
    Scope,
    Told,
    Whose,
)
from consent.policy import Policy
from consent.ports import Ids, Journal, Json, Limits
from consent.vocabulary import ControllerId, LegalBasis, PurposeId, SubjectRef

OBJECTABLE = frozenset({LegalBasis.LEGITIMATE_INTERESTS, LegalBasis.PUBLIC_TASK})
"""GDPR art. 21(1) names points (e) and (f) of art. 6(1)."""
_SPEAKS_FOR_THE_SUBJECT = (ActorKind.SUBJECT, ActorKind.STAFF, ActorKind.SYSTEM)
"""Staff and system pass on what a subject asked by another channel; a party or a bank speaks for nobody."""


class LimitUnit(Protocol):
    """What these functions need of an open unit of work."""

    @property
    def limits(self) -> Limits: ...

    @property
    def journal(self) -> Journal: ...


def restrict(
    unit: LimitUnit, policy: Policy, whose: Whose, act: Act, *, ground: RestrictionGround, ids: Ids, scope: Scope = ALL
) -> RestrictionRecord:
    """Leave the data stored and nothing else, from this moment on (dsar rule 51).

    Raises UnfitError with every fault, ActorRefusedError.
    """
    _check_asker(act.by, whose.subject, "restriction.imposed")
    faults = tuple(_scope_faults(unit, policy, whose, scope))
    if faults:
        raise UnfitError(faults)
    known = _imposed(unit, whose, scope)
    if known is not None:
        return known
    record = RestrictionRecord(LimitId(ids.new("lim")), whose, ground, act.at, scope)
    unit.limits.add_restriction(record)
    _tell(unit, "restriction.imposed", record, act, ground=ground.value, **_plain(scope))
    return record


def exempt(
    unit: LimitUnit,
    controller: ControllerId,
    restriction: LimitId,
    act: Act,
    *,
    purpose: PurposeId,
    exemption: Exemption,
) -> RestrictionRecord:
    """Allow a purpose in spite of a restriction, on an art. 18(2) ground somebody answers for (dsar rule 51).

    Raises ActorRefusedError unless staff decides it, NoSuchLimitError, MoveRefusedError once it is lifted.
    """
    if act.by.kind is not ActorKind.STAFF:
        raise ActorRefusedError(act.by.kind, "restriction.exempted")
    record = _restriction(unit, controller, restriction)
    if record.lifted_at is not None:
        raise MoveRefusedError("lifted", "restriction.exempted")
    if purpose in record.exempt:
        return record
    after = replace(record, exempt=record.exempt | {purpose})
    unit.limits.write_restriction(after)
    _tell(unit, "restriction.exempted", after, act, purpose=purpose, exemption=exemption.value)
    return after


def lift(
    unit: LimitUnit, controller: ControllerId, restriction: LimitId, act: Act, *, told: Told | None = None
) -> RestrictionRecord:
    """End a restriction; whoever obtained it is told before (GDPR art. 18(3), dsar rule 51). Twice changes nothing.

    Raises LiftUntoldError without a message that left before, unless the subject lifts it; NoSuchLimitError,
    ActorRefusedError.
    """
    record = _restriction(unit, controller, restriction)
    _check_asker(act.by, record.whose.subject, "restriction.lifted")
    if record.lifted_at is not None:
        return record
    if act.by.kind is not ActorKind.SUBJECT and (told is None or told.at > act.at or not told.message):
        raise LiftUntoldError("the subject has to be told before a restriction is lifted")
    after = replace(record, lifted_at=act.at, told=told.message if told is not None else None)
    unit.limits.write_restriction(after)
    _tell(unit, "restriction.lifted", after, act, told=after.told)
    return after


def object_to(
    unit: LimitUnit, policy: Policy, whose: Whose, act: Act, *, purpose: PurposeId, ids: Ids
) -> ObjectionRecord:
    """Stop a purpose that rests on a legitimate interest or a public task, while it is weighed and after (rule 52).

    Raises UnfitError: "basis_not_objectable" for the other bases (a consent is withdrawn instead), "purpose_unknown",
    "subject_unknown"; ActorRefusedError.
    """
    _check_asker(act.by, whose.subject, "objection.raised")
    faults = tuple(_objection_faults(unit, policy, whose, purpose))
    if faults:
        raise UnfitError(faults)
    return _object(unit, whose, purpose, act, ids)


def object_to_marketing(unit: LimitUnit, whose: Whose, act: Act, *, ids: Ids) -> ObjectionRecord:
    """Stop direct marketing, every purpose that serves it now or later, for good (GDPR art. 21(2)-(3), dsar rule 8).

    Raises UnfitError("subject_unknown"), ActorRefusedError.
    """
    _check_asker(act.by, whose.subject, "objection.raised")
    if not unit.limits.knows(whose.controller, whose.subject):
        raise UnfitError(("subject_unknown",))
    return _object(unit, whose, None, act, ids)


def refuse_objection(
    unit: LimitUnit, controller: ControllerId, objection: LimitId, act: Act, *, evidence: str
) -> ObjectionRecord:
    """Go on in spite of an objection: compelling grounds, written down at `evidence`, an opaque id (dsar rule 52).

    Raises MoveRefusedError for direct marketing (dsar rule 8) and for one taken back, UnfitError("grounds_missing"),
    NoSuchLimitError, ActorRefusedError unless staff decides it. Refusing twice changes nothing.
    """
    if act.by.kind is not ActorKind.STAFF:
        raise ActorRefusedError(act.by.kind, "objection.refused")
    record = _objection(unit, controller, objection)
    if record.purpose is None or record.retracted_at is not None:
        raise MoveRefusedError("marketing" if record.purpose is None else "retracted", "objection.refused")
    if not evidence:
        raise UnfitError(("grounds_missing",))
    if record.refused_at is not None:
        return record
    after = replace(record, refused_at=act.at, evidence=evidence)
    unit.limits.write_objection(after)
    _tell(unit, "objection.refused", after, act, purpose=after.purpose, evidence=evidence)
    return after


def retract(unit: LimitUnit, controller: ControllerId, objection: LimitId, act: Act) -> ObjectionRecord:
    """Take an objection back, which only its subject can want. Twice changes nothing.

    Raises NoSuchLimitError, ActorRefusedError.
    """
    record = _objection(unit, controller, objection)
    _check_asker(act.by, record.whose.subject, "objection.retracted")
    if record.retracted_at is not None:
        return record
    after = replace(record, retracted_at=act.at)
    unit.limits.write_objection(after)
    _tell(unit, "objection.retracted", after, act, purpose=after.purpose)
    return after


def objectable(policy: Policy, controller: ControllerId) -> tuple[PurposeId, ...]:
    """Return what a person may object to under GDPR art. 21(1): for an objection that names no purpose, all of it."""
    found = (one.id for one in policy.purposes.values() if one.controller == controller and one.basis in OBJECTABLE)
    return tuple(sorted(found))


# what follows is the inside of the above


def _object(unit: LimitUnit, whose: Whose, purpose: PurposeId | None, act: Act, ids: Ids) -> ObjectionRecord:
    for known in unit.limits.objections(whose.controller, whose.subject):
        if known.purpose == purpose and known.retracted_at is None and known.refused_at is None:
            return known
    record = ObjectionRecord(LimitId(ids.new("lim")), whose, purpose, act.at)
    unit.limits.add_objection(record)
    _tell(unit, "objection.raised", record, act, purpose=purpose, marketing=purpose is None)
    return record


def _imposed(unit: LimitUnit, whose: Whose, scope: Scope) -> RestrictionRecord | None:
    """The one in force that this origin asked for already; without an origin, another without one of the same scope."""
    for known in unit.limits.restrictions(whose.controller, whose.subject):
        same = known.whose == whose and (whose.origin is not None or known.scope == scope)
        if same and known.lifted_at is None:
            return known
    return None


def _check_asker(by: Actor, subject: SubjectRef, kind: str) -> None:
    if by.kind not in _SPEAKS_FOR_THE_SUBJECT or (by.kind is ActorKind.SUBJECT and by.ref != subject):
        raise ActorRefusedError(by.kind, kind)


def _scope_faults(unit: LimitUnit, policy: Policy, whose: Whose, scope: Scope) -> Iterator[str]:
    if not unit.limits.knows(whose.controller, whose.subject):
        yield "subject_unknown"
    if frozenset() in (scope.categories, scope.purposes):
        yield "scope_empty"
    if not (scope.categories or frozenset()) <= policy.categories.keys():
        yield "category_unknown"
    own = {one.id for one in policy.purposes.values() if one.controller == whose.controller}
    if not (scope.purposes or frozenset()) <= own:
        yield "purpose_unknown"


def _objection_faults(unit: LimitUnit, policy: Policy, whose: Whose, purpose: PurposeId) -> Iterator[str]:
    if not unit.limits.knows(whose.controller, whose.subject):
        yield "subject_unknown"
    found = policy.purposes.get(purpose)
    if found is None or found.controller != whose.controller:
        yield "purpose_unknown"
    elif found.basis not in OBJECTABLE:
        yield "basis_not_objectable"


def _restriction(unit: LimitUnit, controller: ControllerId, restriction: LimitId) -> RestrictionRecord:
    record = unit.limits.restriction(controller, restriction)
    if record is None:
        raise NoSuchLimitError("no such restriction")
    return record


def _objection(unit: LimitUnit, controller: ControllerId, objection: LimitId) -> ObjectionRecord:
    record = unit.limits.objection(controller, objection)
    if record is None:
        raise NoSuchLimitError("no such objection")
    return record


def _plain(scope: Scope) -> dict[str, Json]:
    return {
        "categories": sorted(scope.categories) if scope.categories is not None else None,
        "purposes": sorted(scope.purposes) if scope.purposes is not None else None,
    }


def _tell(unit: LimitUnit, kind: str, record: RestrictionRecord | ObjectionRecord, act: Act, **more: Json) -> None:
    """Ids and codes only; the journal seals even these."""
    whose, by, channel = record.whose, act.by.kind.value, act.channel.value
    said: dict[str, Json] = {"limit": record.id, "origin": whose.origin, "by": by, "channel": channel, **more}
    unit.journal.record(kind, actor=act.by.ref, controller=whose.controller, subject=whose.subject, payload=said)

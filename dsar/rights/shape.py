"""What a right says of itself: its articles, how it may end, on which grounds it may be refused, and its plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from consent.vocabulary import ComponentId, PartyId
from dsar.vocabulary import Ground, LineId, Outcome, PackageId, Right


class StepKind(StrEnum):
    """One effect; `app.workflows` binds each to code."""

    STOP_READS = "stop_reads"
    """Bind the decision at once: restriction, objection, withdrawal (dsar rules 7, 51, 52)."""
    SUPPRESS_MARKETING = "suppress_marketing"
    """Put the keyed hash on the suppression list, which survives erasure (dsar rule 8)."""
    ASK_HOLDER = "ask_holder"
    ASSEMBLE = "assemble"
    SEAL_PACKAGE = "seal_package"
    DELIVER = "deliver"
    DRAW_MATRIX = "draw_matrix"
    REVOKE_PACKAGE = "revoke_package"
    TELL_HOLDER = "tell_holder"
    """Have a holder erase or rectify."""
    SHRED_KEYS = "shred_keys"
    VERIFY_HOLDER = "verify_holder"
    TELL_RECIPIENT = "tell_recipient"
    CERTIFY = "certify"
    HUMAN_DECISION = "human_decision"
    SEND_REPLY = "send_reply"


@dataclass(frozen=True, slots=True)
class Step:
    """One step as data: `after` names the steps that have to be done first."""

    id: str
    """Deterministic, `<line>/<kind>[/<target>]`: the idempotency key of its effect."""
    kind: StepKind
    line: LineId
    target: str | None = None
    """A holder, a recipient or a package."""
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """What a plan is drawn from."""

    line: LineId
    holders: tuple[ComponentId, ...]
    recipients: tuple[PartyId, ...]
    packages: tuple[PackageId, ...]
    """Sealed packages of the subject that are still alive."""


class Extent(StrEnum):
    """How far a ground carries."""

    WHOLE = "whole"
    """May refuse the line altogether, or a part."""
    PART = "part"
    """May only leave things out, never refuse wholesale (dsar rule 41)."""
    PER_CATEGORY = "per_category"
    """Refuses named categories only (dsar rule 48)."""


@dataclass(frozen=True, slots=True)
class RightLaw:
    """One line of the register."""

    right: Right
    articles: tuple[str, ...]
    grounds: Mapping[Ground, Extent]
    """The closed row of the refusal matrix (section 1.2); empty: cannot be refused."""
    outcomes: frozenset[Outcome]
    plan: Callable[[PlanFacts], tuple[Step, ...]]
    seals_package: bool = False
    carries_out: bool = False
    """Something has to be done before the reply may say that it is done (dsar rule 53)."""
    human_only: bool = False
    """No robot may decide it (dsar rule 46)."""


COMMON = frozenset({Outcome.GRANTED, Outcome.NO_DATA, Outcome.WITHDRAWN_BY_SUBJECT, Outcome.CANNOT_IDENTIFY})
REFUSABLE = COMMON | {Outcome.REFUSED, Outcome.PARTLY_GRANTED}


def step(facts: PlanFacts, kind: StepKind, after: tuple[Step, ...] = (), target: str | None = None) -> Step:
    """Return a step of this line, after those given."""
    name = f"{facts.line}/{kind.value}" + (f"/{target}" if target is not None else "")
    return Step(name, kind, facts.line, target, tuple(item.id for item in after))


def steps(facts: PlanFacts, kind: StepKind, targets: tuple[str, ...], after: tuple[Step, ...] = ()) -> tuple[Step, ...]:
    """Return one step per target."""
    return tuple(step(facts, kind, after, target) for target in targets)

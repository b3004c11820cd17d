"""The pages of one consent question as a pure state machine: fixed named stages, answers, back, check, result.

Consent rules 1 (stages, "n of N"), 2 (the institution first), 3 (one question), 5 (nothing preselected), 7 (refuse as
easily as accept), 13 (a short list of periods), 25 (check answers, each with a way to change it). It ends in an
`Agreement` or a refusal and itself changes nothing: `usecases.give` and `usecases.refuse` do. Leaves out the
stages that are not the question (simulation, sign-up, documents, mandate) and what a stage looks like.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from consent.errors import UnfitError
from consent.events import AccessPath
from consent.plain import decode, encode
from consent.policy import Journey, Policy, Stage, StageKind
from consent.record import FINAL, Consent, State
from consent.vocabulary import CategoryId

_QUESTION = (
    StageKind.INSTITUTION,
    StageKind.FACTS,
    StageKind.CHECK,
    StageKind.STEP_UP,
    StageKind.LEAVING,
    StageKind.RESULT,
)
"""The stages a question may have, in the only order they may have (consent rule 1)."""


class Fault(StrEnum):
    """What is wrong with an answer; all are said at once."""

    NOT_AT_THIS_STAGE = "not_at_this_stage"
    OVER = "over"
    INSTITUTION_UNKNOWN = "institution_unknown"
    INSTITUTION_LACKS_DATA = "institution_lacks_data"
    PATH_NOT_OFFERED = "path_not_offered"
    CATEGORY_NOT_OFFERED = "category_not_offered"
    PERIOD_MISSING = "period_missing"
    PERIOD_NOT_OFFERED = "period_not_offered"
    ANSWER_MISSING = "answer_missing"
    STEP_UP_MISSING = "step_up_missing"


@dataclass(frozen=True, slots=True)
class Source:
    """An institution a person may choose: the ways in, and the data it can give (consent rule 2)."""

    id: str
    paths: tuple[AccessPath, ...]
    categories: frozenset[CategoryId]


@dataclass(frozen=True, slots=True)
class Offer:
    """What may be answered, from the terms and the policy; nothing in it is an answer (consent rule 5)."""

    stages: tuple[Stage, ...]
    needed: frozenset[CategoryId]
    optional: frozenset[CategoryId]
    periods_days: tuple[int, ...]
    sources: Mapping[str, Source]
    path: AccessPath | None
    """Fixed by the terms; None: the person chooses among those the institution offers."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """The decision to give: what `usecases.give` takes."""

    optional: frozenset[CategoryId]
    period_days: int
    attended_only: bool
    institution: str | None
    access_path: AccessPath | None


class Outcome(StrEnum):
    """How the question ended."""

    AGREED = "agreed"
    REFUSED = "refused"
    LAPSED = "lapsed"
    """It ended without this answer, or what was agreed has ended since: nothing is read under it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the person is and what they answered so far; None is "not answered" (consent rule 5)."""

    stage: StageKind
    institution: str | None = None
    access_path: AccessPath | None = None
    optional: frozenset[CategoryId] | None = None
    period_days: int | None = None
    attended_only: bool | None = None
    confirmed: bool = False
    stepped_up: bool = False
    changing: bool = False
    """Came back from the check page to change one answer, and returns there (consent rule 25)."""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class ChooseSource:
    """The institution, and the way in when it offers several; nothing chosen is an empty name and no way."""

    institution: str
    access_path: AccessPath | None


@dataclass(frozen=True, slots=True)
class Choose:
    """The answer to what and how long: optional categories, one period of the list, attended reads only or not."""

    optional: frozenset[CategoryId]
    period_days: int | None
    attended_only: bool


@dataclass(frozen=True, slots=True)
class Confirm:
    """The answers on the check page are right: I agree."""


@dataclass(frozen=True, slots=True)
class SteppedUp:
    """Strong authentication has been done (its proof is `Evidence`, checked by `usecases.give`)."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Go on from a page that asks nothing."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """I refuse: possible on every page before the end, and never followed by a second ask (consent rules 7, 8)."""


@dataclass(frozen=True, slots=True)
class Back:
    """The page before; answers are kept."""


@dataclass(frozen=True, slots=True)
class Change:
    """Change one answer, from the check page (consent rule 25)."""

    stage: StageKind


Answer = ChooseSource | Choose | Confirm | SteppedUp | Continue | Refuse | Back | Change
Faults = tuple[Fault, ...]


def askable(consent: Consent, policy: Policy) -> bool:
    """Whether the policy, which may be newer, still has whom and what the question names."""
    terms = consent.terms
    bank = terms.institution is None or terms.institution in policy.institutions
    return bank and terms.purpose in policy.purposes and terms.party in policy.parties


def offer(consent: Consent, policy: Policy, journey: Journey) -> Offer:
    """Return what the pages of this consent offer. Raises UnfitError when the journey has no question in it."""
    terms = consent.terms
    purpose = policy.purposes[terms.purpose]
    named = {stage.kind: stage for stage in journey.stages}
    chooses = StageKind.INSTITUTION in named and terms.institution is None
    connects = chooses or terms.institution is not None
    # who connects an account proves to be there with more than a mailbox (consent rule 33); who only agrees does not
    must = {StageKind.FACTS, StageKind.CHECK, StageKind.RESULT}
    must |= {StageKind.STEP_UP} if connects and purpose.needs_sca else set()
    may = must | ({StageKind.INSTITUTION} if chooses else set()) | ({StageKind.LEAVING} if connects else set())
    if not must <= named.keys():
        raise UnfitError(("journey_without_question",))
    stages = tuple(named[kind] for kind in _QUESTION if kind in may & named.keys())
    sources = _sources(policy, terms.needed, terms.access_path) if chooses else {}
    periods = tuple(days for days in purpose.periods_days if days <= terms.longest_days)
    optional = terms.optional - _not_given_by(policy, terms.institution)
    return Offer(stages, terms.needed, optional, periods, sources, terms.access_path)


def _not_given_by(policy: Policy, institution: str | None) -> frozenset[CategoryId]:
    """Return what other institutions give and this one does not (consent rule 2); nothing when none is fixed."""
    if institution is None:
        return frozenset()
    from_any = frozenset[CategoryId]().union(*(each.categories for each in policy.institutions.values()))
    return from_any - policy.institutions[institution].categories


def _sources(policy: Policy, needed: frozenset[CategoryId], path: AccessPath | None) -> dict[str, Source]:
    """Return the institutions that can give at least one needed category, with the ways in that the terms leave."""
    found: dict[str, Source] = {}
    for name, institution in policy.institutions.items():
        paths = tuple(AccessPath(way) for way in institution.paths if path in (None, way))
        if paths and needed & institution.categories:
            found[name] = Source(name, paths, institution.categories)
    return found


def start(offered: Offer) -> Progress:
    """Return the first page, nothing chosen (consent rule 5)."""
    return Progress(offered.stages[0].kind)


def stands(offered: Offer, at: Progress) -> bool:
    """Whether a page begun under an earlier policy is still one of these, and what was chosen still on offer."""
    return at.stage in _kinds(offered) and (at.institution is None or at.institution in offered.sources)


def settled(at: Progress, record: Consent, person: str, now: datetime) -> Progress:
    """Return the progress as the record has it: a question answered elsewhere, or over, is not put again (rule 8)."""
    state = record.state_at(now)
    if state in FINAL:
        outcome = Outcome.REFUSED if state is State.REFUSED else Outcome.LAPSED
    elif at.outcome is None and record.agreed_by(person):
        outcome = Outcome.AGREED
    else:
        return at
    return Progress(StageKind.RESULT, outcome=outcome)


def place(offered: Offer, at: Progress) -> tuple[int, int]:
    """Return (n, N) for "step n of N" (consent rule 1)."""
    kinds = _kinds(offered)
    return kinds.index(at.stage) + 1, len(kinds)


def listed(offered: Offer, at: Progress) -> tuple[frozenset[CategoryId], frozenset[CategoryId]]:
    """Return (needed, optional) as the page lists them: only what the chosen institution can give (consent rule 2).

    Categories that come from no institution (what the person says themselves) stay listed.
    """
    if at.institution is None:
        return offered.needed, offered.optional
    return offered.needed, offered.optional - _lacking(offered, offered.sources[at.institution])


def _lacking(offered: Offer, source: Source) -> frozenset[CategoryId]:
    from_any = frozenset[CategoryId]().union(*(each.categories for each in offered.sources.values()))
    return from_any - source.categories


def step(offered: Offer, at: Progress, answer: Answer) -> Progress | Faults:
    """Return where `answer` leads, or all its faults; faults change nothing."""
    if at.outcome is not None:
        return _past_the_end(offered, at, answer)
    match answer:
        case Refuse():
            after: Progress | Faults = replace(at, stage=StageKind.RESULT, outcome=Outcome.REFUSED)
        case Back():
            after = _back(offered, at)
        case Change():
            after = _change(offered, at, answer.stage)
        case ChooseSource():
            after = _choose_source(offered, at, answer)
        case Choose():
            after = _choose(offered, at, answer)
        case _:
            after = _confirm(offered, at, answer)
    return after


def chosen(offered: Offer, at: Progress, answer: Answer) -> Progress:
    """Return the same page with what may be kept of an answer that has faults (consent rule 24); nothing else moves."""
    if at.outcome is not None or at.stage is not StageKind.FACTS or not isinstance(answer, Choose):
        return at
    period = answer.period_days if answer.period_days in offered.periods_days else None
    optional = answer.optional & listed(offered, at)[1]
    return replace(at, optional=optional, period_days=period, attended_only=answer.attended_only)


def agreement(offered: Offer, at: Progress) -> Agreement:
    """Return the decision to give. Raises UnfitError unless the person agreed to complete answers."""
    if at.outcome is not Outcome.AGREED or at.optional is None or at.period_days is None or at.attended_only is None:
        raise UnfitError((Fault.ANSWER_MISSING.value,))
    path = at.access_path if at.access_path is not None else offered.path
    return Agreement(at.optional, at.period_days, at.attended_only, at.institution, path)


def to_plain(at: Progress) -> dict[str, object]:
    """Return the progress as JSON values, for a signed session; it names nobody."""
    plain = encode(at)
    if not isinstance(plain, dict):
        raise TypeError("a progress is a record")
    return plain


def from_plain(plain: Mapping[str, object]) -> Progress:
    """Return the progress. Raises UnfitError when the values are not one."""
    try:
        return decode(Progress, plain)
    except (ValueError, TypeError) as fault:
        raise UnfitError(("progress_unreadable",)) from fault


def _kinds(offered: Offer) -> tuple[StageKind, ...]:
    return tuple(stage.kind for stage in offered.stages)


def _onward(offered: Offer, at: Progress) -> Progress:
    """Go to the next page, or back to the check page when one answer was being changed."""
    if at.changing:
        return replace(at, stage=StageKind.CHECK, changing=False)
    kinds = _kinds(offered)
    return replace(at, stage=kinds[kinds.index(at.stage) + 1])


def _past_the_end(offered: Offer, at: Progress, answer: Answer) -> Progress | Faults:
    """After agreeing only the pages that ask nothing remain; no answer can be changed any more."""
    if isinstance(answer, Continue) and at.outcome is Outcome.AGREED and at.stage is not StageKind.RESULT:
        return _onward(offered, at)
    return (Fault.OVER,)


def _back(offered: Offer, at: Progress) -> Progress | Faults:
    kinds = _kinds(offered)
    place_now = kinds.index(at.stage)
    if place_now == 0:
        return (Fault.NOT_AT_THIS_STAGE,)
    # a step-up once left has to be done again, and a confirmation given again
    return replace(at, stage=kinds[place_now - 1], changing=False, confirmed=False, stepped_up=False)


def _change(offered: Offer, at: Progress, stage: StageKind) -> Progress | Faults:
    if at.stage is not StageKind.CHECK or stage not in (StageKind.INSTITUTION, StageKind.FACTS):
        return (Fault.NOT_AT_THIS_STAGE,)
    if stage not in _kinds(offered):
        return (Fault.NOT_AT_THIS_STAGE,)
    return replace(at, stage=stage, changing=True)


def _choose_source(offered: Offer, at: Progress, answer: ChooseSource) -> Progress | Faults:
    if at.stage is not StageKind.INSTITUTION:
        return (Fault.NOT_AT_THIS_STAGE,)
    source = offered.sources.get(answer.institution)
    if source is None:
        return (Fault.INSTITUTION_UNKNOWN,)
    chosen = replace(at, institution=source.id, access_path=answer.access_path)
    faults: list[Fault] = []
    if answer.access_path not in source.paths:
        faults.append(Fault.PATH_NOT_OFFERED)
    if offered.needed & _lacking(offered, source):
        faults.append(Fault.INSTITUTION_LACKS_DATA)
    if faults:
        return tuple(faults)
    if at.changing and not (at.optional or frozenset()) <= listed(offered, chosen)[1]:
        # another institution cannot give what was chosen: that question is put again, empty (consent rules 2, 5)
        return replace(chosen, stage=StageKind.FACTS, optional=None, period_days=None, attended_only=None)
    return _onward(offered, chosen)


def _choose(offered: Offer, at: Progress, answer: Choose) -> Progress | Faults:
    if at.stage is not StageKind.FACTS:
        return (Fault.NOT_AT_THIS_STAGE,)
    faults: list[Fault] = []
    if not answer.optional <= listed(offered, at)[1]:
        faults.append(Fault.CATEGORY_NOT_OFFERED)
    if answer.period_days is None:
        faults.append(Fault.PERIOD_MISSING)
    elif answer.period_days not in offered.periods_days:
        faults.append(Fault.PERIOD_NOT_OFFERED)  # consent rule 13: of the list, hence never over the ceiling
    if faults:
        return tuple(faults)
    chosen = replace(at, optional=answer.optional, period_days=answer.period_days, attended_only=answer.attended_only)
    return _onward(offered, chosen)


def _confirm(offered: Offer, at: Progress, answer: Answer) -> Progress | Faults:
    """Nothing is given before the check page is confirmed, and strong authentication done where it is due."""
    expected = {StageKind.CHECK: Confirm, StageKind.STEP_UP: SteppedUp}.get(at.stage)
    if expected is None or not isinstance(answer, expected):
        return (Fault.NOT_AT_THIS_STAGE,)
    if at.optional is None or at.period_days is None:
        return (Fault.ANSWER_MISSING,)
    done = replace(at, confirmed=True, stepped_up=at.stage is StageKind.STEP_UP)
    if StageKind.STEP_UP in _kinds(offered) and not done.stepped_up:
        return _onward(offered, done)
    return _onward(offered, replace(done, outcome=Outcome.AGREED))

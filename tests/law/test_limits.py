"""Restrictions and objections stop what they name from their commit on, on both databases (dsar rules 8, 51, 52)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from app.store.limits import SqlLimits
from app.store.rows.base import RecordsBase
from app.store.standings import BESIDE, SqlStandings
from app.store.subjects import SqlSubjects
from consent import limiting
from consent.decision import Deny, Permit
from consent.errors import ActorRefusedError, LiftUntoldError, MoveRefusedError, NoSuchLimitError, UnfitError
from consent.events import Actor, ActorKind, Channel
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
from consent.reasons import Reason
from consent.vocabulary import Action, CategoryId, Locale, PurposeId
from tests.law.consent_desk import (
    ANNA,
    AUDIT,
    BALANCES,
    BRUNO,
    DAY,
    FAR,
    HERE,
    HOLDER,
    NOW,
    OVERVIEW,
    PARTNER_ACTOR,
    POLICY,
    QUESTION,
    READER,
    RECENT,
    SERVICE,
    STAFF,
    SUBJECT,
    SYSTEM,
    THERE,
    Desk,
    SmallUnit,
    with_purpose,
)

HOUR = timedelta(hours=1)
ANNAS = Whose(HERE, ANNA)
NEWS = with_purpose(POLICY, OVERVIEW, marketing=True)
"""The overview as direct marketing."""


class Unit(SmallUnit):
    """The small unit with the real standings and limits; nothing of either stands in a book."""

    def __enter__(self) -> Unit:
        super().__enter__()
        self.session = Session(bind=self.connection)
        self.standings = SqlStandings(self.session)
        self.limits = SqlLimits(self.connection)
        return self


@dataclass
class Town(Desk):
    """Anna and Bruno here, somebody else there; Anna's overview is agreed to."""

    def __init__(self, engine: Engine, policy: Policy = POLICY) -> None:
        super().__init__(engine, policy)
        with Session(engine) as session:
            for ref, controller in ((ANNA, HERE), (BRUNO, HERE), (FAR, THERE)):
                SqlSubjects(session).enrol(
                    ref, controller, locale=Locale.FR, profile=b"sealed", index=ref.encode(), at=NOW
                )
            session.commit()
        held = replace(self.books.components[READER], party=HOLDER, id="cmp_holder")
        self.books.components["cmp_holder"] = held
        self.active(recipients=frozenset())

    def unit(self) -> Unit:
        return Unit(self.engine, self.books)

    def does(self, step: Callable[[Unit], RestrictionRecord | ObjectionRecord]):
        with self.unit() as unit:
            record = step(unit)
            unit.commit()
        return record

    def restrict(self, scope: Scope = ALL, at=NOW + HOUR, whose: Whose = ANNAS, by: Actor = SUBJECT):
        ground, act = RestrictionGround.ACCURACY_CONTESTED, Act(by, Channel.PAGE, at)
        return self.does(
            lambda unit: limiting.restrict(unit, self.policy, whose, act, ground=ground, ids=self.ids, scope=scope)
        )

    def object_to(self, purpose: PurposeId = AUDIT, at=NOW + HOUR, whose: Whose = ANNAS, by: Actor = SUBJECT):
        act = Act(by, Channel.PAGE, at)
        return self.does(lambda unit: limiting.object_to(unit, self.policy, whose, act, purpose=purpose, ids=self.ids))

    def no_marketing(self, at=NOW + HOUR, whose: Whose = ANNAS):
        act = Act(SUBJECT, Channel.PAGE, at)
        return self.does(lambda unit: limiting.object_to_marketing(unit, whose, act, ids=self.ids))

    def reasons(self, at=NOW + DAY, **changes: object) -> tuple[Reason, ...]:
        answer = self.judge(replace(QUESTION, at=at, **changes))
        return answer.all_reasons if isinstance(answer, Deny) else ()


@pytest.fixture
def town(records_engine: Engine) -> Town:
    return Town(records_engine)


AUDITED = {"party": HOLDER, "component": "cmp_holder", "purpose": AUDIT}


def _act(by: Actor = STAFF, at=NOW + 2 * HOUR) -> Act:
    return Act(by, Channel.API, at)


def test_a_restriction_leaves_nothing_but_storage(town: Town) -> None:  # dsar rule 51
    assert town.reasons() == ()
    assert town.reasons(**AUDITED) == ()
    town.restrict()
    assert town.reasons() == (Reason.RESTRICTED,)
    assert town.reasons(**AUDITED) == (Reason.RESTRICTED,)
    assert town.reasons(**AUDITED, action=Action.HOLD) == ()
    assert town.books.entries[-1][0] == "restriction.imposed"


def test_it_holds_from_its_moment_to_its_end_and_that_can_be_asked_later(town: Town) -> None:
    record = town.restrict()
    told = Told("msg_1", NOW + 2 * HOUR)
    town.does(lambda unit: limiting.lift(unit, HERE, record.id, _act(at=NOW + 3 * HOUR), told=told))
    moments = (NOW + HOUR / 2, NOW + HOUR, NOW + 2.9 * HOUR, NOW + 3 * HOUR)
    assert [bool(town.reasons(at=at)) for at in moments] == [False, True, True, False]


def test_it_covers_what_it_names_and_what_lies_under_it(town: Town) -> None:
    town.restrict(Scope(categories=frozenset({BALANCES})))
    assert town.reasons(categories=frozenset({RECENT})) == ()
    assert town.reasons(categories=frozenset({RECENT, BALANCES})) == (Reason.RESTRICTED,)


def test_a_heading_covers_its_tree_and_not_its_namesakes(records_engine: Engine) -> None:
    headings = {
        "transactions": replace(POLICY.categories[RECENT], id="transactions"),
        "trans": replace(POLICY.categories[RECENT], id="trans"),
    }
    town = Town(records_engine, replace(POLICY, categories={**POLICY.categories, **headings}))
    town.restrict(Scope(categories=frozenset({"trans"})))
    assert town.reasons(categories=frozenset({RECENT})) == ()
    town.restrict(Scope(categories=frozenset({"transactions"})))
    assert town.reasons(categories=frozenset({RECENT})) == (Reason.RESTRICTED,)
    assert town.reasons() == ()


def test_it_covers_the_purposes_it_names(town: Town) -> None:
    town.restrict(Scope(purposes=frozenset({AUDIT})))
    assert town.reasons() == ()
    assert town.reasons(**AUDITED) == (Reason.RESTRICTED,)


def test_two_restrictions_add_up_and_end_apart(town: Town) -> None:
    one, two = (
        town.restrict(Scope(categories=frozenset({name})), whose=replace(ANNAS, origin=f"line_{name}"))
        for name in (BALANCES, RECENT)
    )
    both = frozenset({BALANCES, RECENT})
    for record in (one, two):
        assert town.reasons(categories=both) == (Reason.RESTRICTED,)
        town.does(lambda unit, record=record: limiting.lift(unit, HERE, record.id, _act(SUBJECT)))
    assert town.reasons(categories=both) == ()


def test_what_the_person_agrees_to_afterwards_goes_on(town: Town) -> None:
    """GDPR art. 18(2): with the subject's consent, given knowing of the restriction."""
    town.restrict()
    town.active(at=NOW + 2 * HOUR)
    assert town.reasons() == ()
    assert town.reasons(**AUDITED) == (Reason.RESTRICTED,)


def test_only_staff_exempts_a_purpose_and_the_ledger_says_why(town: Town) -> None:
    record = town.restrict()
    why = {"purpose": AUDIT, "exemption": Exemption.LEGAL_CLAIMS}
    for by in (SUBJECT, SYSTEM, PARTNER_ACTOR):
        with pytest.raises(ActorRefusedError):
            town.does(lambda unit, by=by: limiting.exempt(unit, HERE, record.id, _act(by), **why))
    town.does(lambda unit: limiting.exempt(unit, HERE, record.id, _act(), **why))
    assert town.reasons(**AUDITED) == ()
    assert town.reasons() == (Reason.RESTRICTED,)
    kind, _, subject, payload = town.books.entries[-1]
    assert (kind, subject, payload["exemption"]) == ("restriction.exempted", ANNA, "legal_claims")


def test_nobody_lifts_it_before_the_person_was_told(town: Town) -> None:  # GDPR art. 18(3), dsar rule 51
    record = town.restrict()
    for told in (None, Told("", NOW), Told("msg_1", NOW + 9 * HOUR)):
        with pytest.raises(LiftUntoldError):
            town.does(lambda unit, told=told: limiting.lift(unit, HERE, record.id, _act(), told=told))
    assert town.reasons() == (Reason.RESTRICTED,)
    lifted = town.does(lambda unit: limiting.lift(unit, HERE, record.id, _act(), told=Told("msg_1", NOW + HOUR)))
    assert (lifted.told, town.reasons()) == ("msg_1", ())
    again = town.does(lambda unit: limiting.lift(unit, HERE, record.id, _act(at=NOW + 5 * DAY)))
    assert again == lifted


def test_the_person_may_lift_their_own_and_nobody_elses(town: Town) -> None:
    record = town.restrict()
    for stranger in (Actor(ActorKind.SUBJECT, BRUNO), PARTNER_ACTOR):
        with pytest.raises(ActorRefusedError):
            town.does(lambda unit, by=stranger: limiting.lift(unit, HERE, record.id, _act(by)))
    town.does(lambda unit: limiting.lift(unit, HERE, record.id, _act(SUBJECT)))
    assert town.reasons() == ()


def test_an_objection_stops_its_purpose_at_once_and_nothing_else(town: Town) -> None:  # dsar rule 52
    town.object_to()
    assert town.reasons(**AUDITED) == (Reason.OBJECTED,)
    assert town.reasons() == ()
    assert town.reasons(**AUDITED, at=NOW + HOUR / 2) == ()


def test_refusing_an_objection_needs_staff_and_written_grounds(town: Town) -> None:  # dsar rule 52
    record = town.object_to()
    with pytest.raises(UnfitError):
        town.does(lambda unit: limiting.refuse_objection(unit, HERE, record.id, _act(), evidence=""))
    with pytest.raises(ActorRefusedError):
        town.does(lambda unit: limiting.refuse_objection(unit, HERE, record.id, _act(SYSTEM), evidence="note_1"))
    assert town.reasons(**AUDITED) == (Reason.OBJECTED,)
    town.does(lambda unit: limiting.refuse_objection(unit, HERE, record.id, _act(), evidence="note_1"))
    assert town.reasons(**AUDITED) == ()
    # an objection on new facts is a new one, and holds again while it is weighed
    town.object_to(at=NOW + 3 * HOUR)
    assert town.reasons(**AUDITED) == (Reason.OBJECTED,)


def test_an_objection_taken_back_stops_nothing(town: Town) -> None:
    record = town.object_to()
    with pytest.raises(ActorRefusedError):
        town.does(lambda unit: limiting.retract(unit, HERE, record.id, _act(PARTNER_ACTOR)))
    town.does(lambda unit: limiting.retract(unit, HERE, record.id, _act(SUBJECT)))
    assert town.reasons(**AUDITED) == ()
    with pytest.raises(MoveRefusedError):
        town.does(lambda unit: limiting.refuse_objection(unit, HERE, record.id, _act(), evidence="note_1"))


@pytest.mark.parametrize("purpose", [OVERVIEW, SERVICE, PurposeId("invented"), PurposeId("elsewhere")])
def test_only_a_legitimate_interest_or_a_public_task_is_objected_to(town: Town, purpose: PurposeId) -> None:
    """GDPR art. 21(1): a consent is withdrawn, a contract ended, another controller's purpose is unknown here."""
    with pytest.raises(UnfitError) as refused:
        town.object_to(purpose)
    known = purpose in (OVERVIEW, SERVICE)
    assert refused.value.faults == ("basis_not_objectable" if known else "purpose_unknown",)


def test_the_marketing_objection_is_absolute(records_engine: Engine) -> None:  # GDPR art. 21(3), dsar rule 8
    town = Town(records_engine, NEWS)
    assert town.reasons() == ()
    record = town.no_marketing()
    assert town.reasons() == (Reason.OBJECTED,)
    assert town.reasons(**AUDITED) == ()
    with pytest.raises(MoveRefusedError):
        town.does(lambda unit: limiting.refuse_objection(unit, HERE, record.id, _act(), evidence="note_1"))
    assert town.reasons() == (Reason.OBJECTED,)
    # a purpose that becomes marketing later is stopped too
    town.policy = with_purpose(NEWS, AUDIT, marketing=True)
    assert town.reasons(**AUDITED) == (Reason.OBJECTED,)
    # only the person opens it again: by agreeing anew, or by taking it back
    town.active(at=NOW + 2 * HOUR)
    assert town.reasons() == ()
    assert town.reasons(**AUDITED) == (Reason.OBJECTED,)
    town.does(lambda unit: limiting.retract(unit, HERE, record.id, _act(SUBJECT, NOW + 3 * HOUR)))
    assert town.reasons(**AUDITED) == ()


def test_asking_again_from_the_same_line_records_once(town: Town) -> None:
    line = replace(ANNAS, origin="line_1")
    assert town.restrict(whose=line) == town.restrict(whose=line, at=NOW + 9 * HOUR)
    assert town.object_to(whose=line) == town.object_to(whose=line, at=NOW + 9 * HOUR)
    assert town.no_marketing(whose=line) == town.no_marketing(whose=line, at=NOW + 9 * HOUR)
    assert town.restrict() == town.restrict(at=NOW + 9 * HOUR)
    kinds = [kind for kind, *_ in town.books.entries if not kind.startswith("consent.")]
    assert kinds == ["restriction.imposed", "objection.raised", "objection.raised", "restriction.imposed"]


def test_without_commit_nothing_happened(town: Town) -> None:
    with town.unit() as unit:
        limiting.restrict(unit, POLICY, ANNAS, _act(SUBJECT), ground=RestrictionGround.NOT_STATED, ids=town.ids)
    assert town.reasons() == ()


@pytest.mark.parametrize(
    ("whose", "scope", "faults"),
    [
        (Whose(HERE, FAR), ALL, {"subject_unknown"}),
        (Whose(THERE, ANNA), ALL, {"subject_unknown"}),
        (ANNAS, Scope(frozenset()), {"scope_empty"}),
        (ANNAS, Scope(None, frozenset()), {"scope_empty"}),
        (ANNAS, Scope(frozenset({"invented"}), frozenset({"elsewhere"})), {"category_unknown", "purpose_unknown"}),
    ],
)
def test_every_fault_of_a_scope_is_named(town: Town, whose: Whose, scope: Scope, faults: set[str]) -> None:
    with pytest.raises(UnfitError) as refused:
        town.restrict(scope, whose=whose, by=STAFF)
    assert set(refused.value.faults) == faults
    assert town.reasons() == ()


def test_another_controller_finds_none_and_a_party_asks_for_nobody(town: Town) -> None:
    record, objection = town.restrict(), town.object_to()
    steps = (
        lambda unit: limiting.lift(unit, THERE, record.id, _act(SUBJECT)),
        lambda unit: limiting.retract(unit, THERE, objection.id, _act(SUBJECT)),
        lambda unit: limiting.lift(unit, HERE, LimitId("lim_none"), _act(SUBJECT)),
    )
    for step in steps:
        with pytest.raises(NoSuchLimitError):
            town.does(step)
    for by in (PARTNER_ACTOR, Actor(ActorKind.HOLDER, "bank"), Actor(ActorKind.SUBJECT, BRUNO)):
        with pytest.raises(ActorRefusedError):
            town.restrict(by=by)
        with pytest.raises(ActorRefusedError):
            town.object_to(by=by)


def test_another_persons_limits_are_not_mine(town: Town) -> None:
    bruno = Whose(HERE, BRUNO)
    town.restrict(whose=bruno, by=STAFF)
    town.object_to(whose=bruno, by=STAFF)
    assert town.reasons() == ()
    assert town.reasons(**AUDITED) == ()
    assert town.reasons(**AUDITED, subject=BRUNO) == (Reason.RESTRICTED, Reason.OBJECTED)


def test_records_are_read_back_as_they_were_written(town: Town) -> None:
    scope = Scope(frozenset({BALANCES, RECENT}), frozenset({AUDIT, OVERVIEW}))
    record = town.restrict(scope, whose=replace(ANNAS, origin="line_1"))
    objection = town.object_to(whose=replace(ANNAS, origin="line_2"))
    town.does(lambda unit: limiting.refuse_objection(unit, HERE, objection.id, _act(), evidence="note_1"))
    with town.unit() as unit:
        assert unit.limits.restrictions(HERE, ANNA) == [record]
        assert unit.limits.objections(HERE, ANNA) == [replace(objection, evidence="note_1", refused_at=NOW + 2 * HOUR)]
        assert unit.limits.restrictions(THERE, ANNA) == []


def test_an_erased_person_can_restrict_nothing(town: Town) -> None:
    with Session(town.engine) as session:
        SqlSubjects(session).forget(ANNA, NOW)
        session.commit()
    with pytest.raises(UnfitError):
        town.restrict()
    with pytest.raises(UnfitError):
        town.no_marketing()


def test_every_table_a_standing_is_read_from_is_named_for_the_fast_lane(town: Town) -> None:
    """A subject with a row in one of them goes through the full door: none may be missing."""
    seen: list[str] = []
    from sqlalchemy import event

    def note(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement.lower())

    event.listen(town.engine, "before_cursor_execute", note)
    with town.unit() as unit:
        unit.standings.standing(ANNA, AUDIT, NOW)
    event.remove(town.engine, "before_cursor_execute", note)
    read = {table for table in RecordsBase.metadata.tables if any(f"from {table}" in one for one in seen)}
    assert read - {"subjects"} == {column.class_.__tablename__ for column in BESIDE}


class Model:
    """The plain rule: what stands of all that was done."""

    def __init__(self, town: Town) -> None:
        self.town, self.at = town, NOW + HOUR
        self.restrictions: dict[LimitId, Scope] = {}
        self.objections: set[LimitId] = set()

    def take(self, step: str, *about: object) -> None:
        self.at += timedelta(minutes=1)
        getattr(self, step)(*about)

    def restrict(self, *scope: object) -> None:
        record = self.town.restrict(Scope(*scope), self.at, replace(ANNAS, origin=f"line_{self.at}"))
        self.restrictions[record.id] = record.scope

    def lift(self, number: int) -> None:
        for known in list(self.restrictions)[number : number + 1]:
            self.town.does(lambda unit, known=known: limiting.lift(unit, HERE, known, _act(SUBJECT, self.at)))
            del self.restrictions[known]

    def object_to(self) -> None:
        self.objections.add(self.town.object_to(at=self.at).id)

    def retract(self) -> None:
        for known in self.objections:
            self.town.does(lambda unit, known=known: limiting.retract(unit, HERE, known, _act(SUBJECT, self.at)))
        self.objections.clear()

    def refuse(self) -> None:
        act = _act(STAFF, self.at)
        for known in self.objections:
            self.town.does(
                lambda unit, known=known: limiting.refuse_objection(unit, HERE, known, act, evidence="note_1")
            )
        self.objections.clear()

    def reasons(self, purpose: PurposeId, category: CategoryId) -> set[Reason]:
        objected = {Reason.OBJECTED} if purpose == AUDIT and self.objections else set()
        bound = [one for one in self.restrictions.values() if _names(one.categories, category)]
        return objected | ({Reason.RESTRICTED} if any(_names(one.purposes, purpose) for one in bound) else set())


def _names(listed: frozenset[str] | None, name: str) -> bool:
    return listed is None or name in listed


ROOTS = st.sampled_from([None, frozenset({BALANCES}), frozenset({RECENT}), frozenset({BALANCES, RECENT})])
AIMS = st.sampled_from([None, frozenset({AUDIT}), frozenset({OVERVIEW}), frozenset({AUDIT, OVERVIEW})])
STEPS = st.one_of(
    st.tuples(st.just("restrict"), ROOTS, AIMS),
    st.tuples(st.just("lift"), st.integers(0, 3)),
    st.tuples(st.sampled_from(["object_to", "retract", "refuse"])),
)
OPEN = ((OVERVIEW, BALANCES, {}), (OVERVIEW, RECENT, {}), (AUDIT, BALANCES, AUDITED))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, max_size=8))
def test_whatever_was_done_the_answer_is_that_of_the_plain_rule(records_engine: Engine, steps: list) -> None:
    """Restricting, lifting, objecting, refusing in any order: a question is denied for what stands, and only for it."""
    with records_engine.begin() as connection:
        for table in ("restrictions", "objections", "consent_events", "consents", "contact_points", "subjects"):
            connection.execute(text(f"DELETE FROM {table}"))
    town = Town(records_engine)
    model = Model(town)
    for step in steps:
        model.take(*step)
    for purpose, category, asker in OPEN:
        asked = {**asker, "purpose": purpose, "categories": frozenset({category})}
        assert set(town.reasons(**asked)) == model.reasons(purpose, category)


def test_the_answer_is_a_permit_again_with_the_very_same_terms(town: Town) -> None:
    before = town.judge(replace(QUESTION, at=NOW + DAY))
    record = town.restrict()
    assert isinstance(town.judge(replace(QUESTION, at=NOW + DAY)), Deny)
    town.does(lambda unit: limiting.lift(unit, HERE, record.id, _act(SUBJECT)))
    after = town.judge(replace(QUESTION, at=NOW + DAY))
    assert isinstance(after, Permit)
    assert after == before

"""The pool stays sealed and erasable until a cohort takes it; a cohort is written once (exports.md rules 4, 5)."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from app.exports.attacks import outline
from app.exports.cells import read_cells
from app.exports.errors import PoolChanged, SubjectAlreadyExported
from app.exports.gate import Candidate, prepare
from app.exports.profile import Profile
from app.store.exports import HeldBack, ReleaseCandidate, SealedCohort, SqlExports, SqlReleaseCandidates
from app.store.rows.exports import PoolRow
from consent.vocabulary import ControllerId, SubjectRef

FIRM, OTHER = ControllerId("firm"), ControllerId("other")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOON = NOW + timedelta(days=20)
PROFILE = Profile.from_plain(
    {
        "id": "ages",
        "schema_version": 2,
        "why": "w",
        "columns": [{"name": "age", "kind": "numeric", "why": "w", "edges": [30, 50]}],
    },
    {},
)


def held(name: str, controller: ControllerId = FIRM, deadline: datetime = SOON) -> HeldBack:
    return HeldBack(controller, SubjectRef(name), "ages", 2, b"sealed " + name.encode(), deadline)


def candidate(names: list[str]) -> Candidate:
    rows = [(name, {"age": 20 + at % 60}) for at, name in enumerate(names)]
    return prepare(PROFILE, read_cells(PROFILE, rows, random.Random(1)), "0" * 64)


def cohort(names: list[str], cohort_id: str = "coh_1") -> SealedCohort:
    made = candidate(names)
    return SealedCohort(
        id=cohort_id,
        controller=FIRM,
        profile="ages",
        schema_version=2,
        subjects=len(names),
        output=made.output,
        outline=outline(made.table),
        approved_by="stf_dpo",
        released_at=NOW,
    )


def refs(names: list[str]) -> list[SubjectRef]:
    return [SubjectRef(name) for name in names]


def fill(engine: Engine, names: list[str]) -> None:
    with Session(engine) as session, session.begin():
        for name in names:
            SqlExports(session).add_to_pool(held(name))


def waiting(engine: Engine) -> list[str]:
    with Session(engine) as session:
        return [entry.subject for entry in SqlExports(session).open_pool(FIRM, "ages", now=NOW)]


NAMES = [f"sub_{at:03}" for at in range(120)]


def test_the_pool_gives_back_what_waits_for_its_controller_and_profile(records_engine: Engine) -> None:
    with Session(records_engine) as session, session.begin():
        exports = SqlExports(session)
        exports.add_to_pool(held("sub_b"))
        exports.add_to_pool(held("sub_a"))
        exports.add_to_pool(held("sub_a", OTHER))
        exports.add_to_pool(replace(held("sub_c"), profile="incomes"))
        exports.add_to_pool(replace(held("sub_b"), sealed=b"newer"))
    with Session(records_engine) as session:
        found = SqlExports(session).open_pool(FIRM, "ages", now=NOW)
    assert list(found) == [held("sub_a"), replace(held("sub_b"), sealed=b"newer")]
    assert "newer" not in repr(found)


def test_a_subject_can_be_taken_out_until_the_cohort_is_sealed(records_engine: Engine) -> None:
    fill(records_engine, [*NAMES, "sub_gone"])
    with Session(records_engine) as session, session.begin():
        exports = SqlExports(session)
        assert exports.remove_subject(FIRM, SubjectRef("sub_gone"))
        assert not exports.remove_subject(FIRM, SubjectRef("sub_gone"))
        assert not exports.remove_subject(OTHER, SubjectRef(NAMES[0]))
    assert waiting(records_engine) == NAMES
    with Session(records_engine) as session, session.begin():
        SqlExports(session).seal(cohort(NAMES), refs(NAMES))
    with Session(records_engine) as session, session.begin():
        assert not SqlExports(session).remove_subject(FIRM, SubjectRef(NAMES[0]))


def test_what_no_cohort_took_by_the_deadline_is_overdue_and_no_longer_offered(records_engine: Engine) -> None:
    with Session(records_engine) as session, session.begin():
        exports = SqlExports(session)
        exports.add_to_pool(held("sub_late", deadline=NOW))
        exports.add_to_pool(held("sub_later", deadline=NOW - timedelta(days=1)))
        exports.add_to_pool(held("sub_a"))
    with Session(records_engine) as session:
        assert [entry.subject for entry in SqlExports(session).overdue(NOW)] == ["sub_later", "sub_late"]
        assert [entry.subject for entry in SqlExports(session).overdue(NOW, limit=1)] == ["sub_later"]
    assert waiting(records_engine) == ["sub_a"]


def test_a_sealed_cohort_reads_back_as_released_and_its_pool_is_empty(records_engine: Engine) -> None:
    fill(records_engine, [*NAMES, "sub_next"])
    sealed = cohort(NAMES)
    with Session(records_engine) as session, session.begin():
        SqlExports(session).seal(sealed, refs(NAMES))
    with Session(records_engine) as session:
        exports = SqlExports(session)
        assert list(exports.cohorts(FIRM)) == [sealed]
        assert exports.cohort(FIRM, "coh_1") == sealed
        assert exports.cohort(OTHER, "coh_1") is None
        assert exports.cohort(FIRM, "coh_2") is None
        assert exports.cohorts(OTHER) == []
        assert exports.members("coh_1") == frozenset(NAMES)
        (earlier,) = exports.earlier(FIRM)
        assert earlier.subjects == frozenset(NAMES)
        assert int(earlier.rows.sum()) == 120
        assert session.scalar(select(func.count()).select_from(PoolRow)) == 1


def test_nobody_enters_a_second_cohort(records_engine: Engine) -> None:
    """Rule 4: once and for all, by the pool's door and by the cohort's."""
    fill(records_engine, NAMES)
    with Session(records_engine) as session, session.begin():
        SqlExports(session).seal(cohort(NAMES), refs(NAMES))
    with Session(records_engine) as session, pytest.raises(SubjectAlreadyExported):
        SqlExports(session).add_to_pool(held(NAMES[0]))
    with Session(records_engine) as session:
        # As a race would leave it: in the pool again although already in a cohort.
        session.add(_raw(NAMES[0]))
        session.flush()
        with pytest.raises(SubjectAlreadyExported):
            SqlExports(session).seal(cohort([NAMES[0]], "coh_2"), refs([NAMES[0]]))
        session.rollback()
    with Session(records_engine) as session:
        assert [found.id for found in SqlExports(session).cohorts(FIRM)] == ["coh_1"]


def _raw(name: str) -> PoolRow:
    entry = held(name)
    return PoolRow(
        controller=entry.controller,
        subject=entry.subject,
        profile=entry.profile,
        schema_version=entry.schema_version,
        sealed=entry.sealed,
        deadline=entry.deadline,
    )


def test_a_cohort_cannot_be_written_twice(records_engine: Engine) -> None:
    fill(records_engine, [*NAMES, "sub_next"])
    with Session(records_engine) as session, session.begin():
        SqlExports(session).seal(cohort(NAMES), refs(NAMES))
    with Session(records_engine) as session, pytest.raises(SubjectAlreadyExported):
        SqlExports(session).seal(cohort(["sub_next"]), refs(["sub_next"]))
    assert waiting(records_engine) == ["sub_next"]


def test_a_cohort_whose_member_was_erased_meanwhile_is_not_sealed(records_engine: Engine) -> None:
    fill(records_engine, NAMES)
    with Session(records_engine) as session, session.begin():
        SqlExports(session).remove_subject(FIRM, SubjectRef(NAMES[3]))
    for members in (NAMES, [*NAMES[:119], NAMES[0]], NAMES[:100]):
        with Session(records_engine) as session, pytest.raises(PoolChanged):
            SqlExports(session).seal(cohort(NAMES), refs(members))
    assert len(waiting(records_engine)) == 119


def test_more_members_than_one_statement_holds(records_engine: Engine) -> None:
    many = [f"sub_{at:05}" for at in range(1201)]
    fill(records_engine, many)
    with Session(records_engine) as session, session.begin():
        SqlExports(session).seal(cohort(many), refs(many))
    assert waiting(records_engine) == []


def asking(ident: str, controller: ControllerId = FIRM, planned_at: datetime = NOW) -> ReleaseCandidate:
    return ReleaseCandidate(ident, controller, "ages", "d" * 64, {"k": {"asked": 10}}, planned_at)


def test_a_candidate_is_approved_once_and_for_the_digest_that_was_shown(records_engine: Engine) -> None:
    """Rule 6: a named approval of exactly these files."""
    with Session(records_engine) as session, session.begin():
        SqlReleaseCandidates(session).add(asking("rel_1"))
    with Session(records_engine) as session, session.begin():
        candidates = SqlReleaseCandidates(session)
        assert candidates.find("rel_1") == asking("rel_1")
        assert not candidates.released("rel_1", "coh_1"), "nothing leaves before it is approved"
        assert not candidates.approve("rel_1", "e" * 64, "stf_dpo", NOW), "other files"
        assert not candidates.approve("rel_2", "d" * 64, "stf_dpo", NOW)
        assert candidates.approve("rel_1", "d" * 64, "stf_dpo", NOW)
        assert not candidates.approve("rel_1", "d" * 64, "stf_other", SOON), "the first approval stands"
    with Session(records_engine) as session, session.begin():
        candidates = SqlReleaseCandidates(session)
        assert candidates.find("rel_1") == replace(asking("rel_1"), approved_by="stf_dpo", approved_at=NOW)
        assert candidates.released("rel_1", "coh_1")
        assert not candidates.released("rel_1", "coh_2"), "it leaves once"
    with Session(records_engine) as session:
        found = SqlReleaseCandidates(session).find("rel_1")
        assert found is not None
        assert found.cohort == "coh_1"
        assert SqlReleaseCandidates(session).find("rel_2") is None


def test_candidates_are_shown_to_their_controllers_only_newest_first(records_engine: Engine) -> None:
    with Session(records_engine) as session, session.begin():
        candidates = SqlReleaseCandidates(session)
        candidates.add(asking("rel_1"))
        candidates.add(asking("rel_2", planned_at=SOON))
        candidates.add(asking("rel_3", OTHER))
    with Session(records_engine) as session:
        candidates = SqlReleaseCandidates(session)
        assert [each.id for each in candidates.of([FIRM])] == ["rel_2", "rel_1"]
        assert [each.id for each in candidates.of([FIRM], limit=1)] == ["rel_2"]
        assert [each.id for each in candidates.of([OTHER])] == ["rel_3"]
        assert list(candidates.of([])) == []

"""A table leaves once a DPO approved exactly these files, and not before (exports.md rules 4, 6, 7)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.demo.generator import Standing, Subject, analysable, make_subjects
from app.exports.errors import PoolChanged
from app.ledger.bundle import About, Selection
from app.settings import read_settings
from app.vault.erasure import Erasures
from app.vault.errors import Erased, ProviderUnavailable, UnknownKey
from app.vault.keys import Scope, Target
from app.vault.ports import ErasureState
from app.wiring import House, ReleaseRefused, build, hold_back, plan_release, release, seal_for_pool, shred_pool_keys
from app.wiring.pooling import expire_pool
from app.wiring.releases import (
    AlreadyReleased,
    CandidateUnknown,
    CohortUnknown,
    ProfileUnknown,
    ReleaseDamaged,
    departed,
    pool_scope,
    release_profile,
)
from consent.vocabulary import SubjectRef
from tests.databases import found_deployment

ROOT = Path(__file__).resolve().parents[2]
PROFILE = "portfolio_statistics"


@pytest.fixture
def house(tmp_path: Path, records_engine: Engine, keys_engine: Engine) -> Iterator[House]:
    said = {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(ROOT / "policies"),
        "REGARD_RECORDS_URL": records_engine.url.render_as_string(hide_password=False),
        "REGARD_KEYS_URL": keys_engine.url.render_as_string(hide_password=False),
    }
    settings = read_settings(said)
    found_deployment(settings)
    built = build(settings)
    yield built
    built.close()


PEOPLE = list(make_subjects(7, date(2026, 3, 1)))
GONE = [each for each in PEOPLE if each.standing is not Standing.PRESENT]


@cache
def values(number: int) -> dict[str, Any]:
    """A made-up person's values; adding up two years of transactions takes a while."""
    return dict(analysable(next(each for each in PEOPLE if each.number == number)))


def live() -> list[tuple[str, dict[str, Any]]]:
    return [(f"sub_live_{each.number}", values(each.number)) for each in PEOPLE if each.standing is Standing.PRESENT]


def fill(house: House, people: list[Subject], prefix: str = "sub_gone") -> list[SubjectRef]:
    profile = release_profile(house, PROFILE)
    refs = [SubjectRef(f"{prefix}_{each.number}") for each in people]
    house.vault.create_subjects(house.controller, list(refs))
    sealed = [seal_for_pool(house, ref, profile, values(each.number)) for ref, each in zip(refs, people, strict=True)]
    hold_back(house, profile, list(zip(refs, sealed, strict=True)))
    return refs


def approve(house: House, candidate: str, digest: str) -> None:
    with house.units.writing() as unit:
        assert unit.release_candidates.approve(candidate, digest, "stf_dpo", house.units.clock.now())
        unit.commit()


def grounds(refused: ReleaseRefused) -> list[str]:
    return [reason.ground.value for reason in refused.reasons]


def test_a_table_leaves_with_its_approval_once_and_empties_the_pool(house: House) -> None:
    refs = fill(house, GONE)
    planned = plan_release(house, PROFILE, live())
    with pytest.raises(ReleaseRefused) as refused:
        release(house, planned.id, live())
    assert grounds(refused.value) == ["not_approved"]
    approve(house, planned.id, planned.digest)
    gone = release(house, planned.id, live())
    assert gone.output.digest == planned.digest, "the very files that were shown"
    assert gone.subjects == len(GONE)
    assert gone.approved_by == "stf_dpo"
    with house.units.reading() as unit:
        assert unit.exports.members(gone.cohort) == frozenset(refs)
        assert list(unit.exports.open_pool(house.controller, PROFILE, now=house.units.clock.now())) == []
        found = unit.release_candidates.find(planned.id)
        assert found is not None
        assert found.cohort == gone.cohort
    house.ledger.integrate()
    assert house.ledger.position(gone.entry) is not None
    with pytest.raises(AlreadyReleased):
        release(house, planned.id, live())


def test_a_sealed_cohorts_pool_keys_are_destroyed_and_nothing_else_of_its_members(house: House) -> None:
    """Vault.md section 2: still erasable until the cohort is sealed, and then no backup gives the values back."""
    refs = fill(house, GONE)
    profile = release_profile(house, PROFILE)
    kept = seal_for_pool(house, refs[0], profile, {"age": 41})
    planned = plan_release(house, PROFILE, live())
    approve(house, planned.id, planned.digest)
    gone = release(house, planned.id, live())
    assert shred_pool_keys(house, gone.cohort) is ErasureState.CERTIFIED
    assert shred_pool_keys(house, gone.cohort) is ErasureState.CERTIFIED, "again changes nothing"
    with pytest.raises(Erased):
        house.vault.open(pool_scope(house.controller, refs[0]), PROFILE, kept)
    own = Scope(house.controller, refs[0], "regard", "identity")
    assert house.vault.open(own, "r", house.vault.seal(own, "r", b"data")) == b"data"
    house.ledger.integrate()
    told = [each.kind for each in house.ledger.recorded(Selection(About.ALL))]
    assert told.count("pool.shredded") == 1
    with pytest.raises(CohortUnknown):
        shred_pool_keys(house, "coh_nobody")


@pytest.mark.parametrize("ended_by", ["sweep", "command"])
def test_a_shred_that_somebody_else_ends_is_one_entry(
    house: House, monkeypatch: pytest.MonkeyPatch, ended_by: str
) -> None:
    """Vault.md section 2, operations.md section 6: done is recorded, once, whoever does it."""
    fill(house, GONE)
    planned = plan_release(house, PROFILE, live())
    approve(house, planned.id, planned.digest)
    gone = release(house, planned.id, live())

    def away(*_words: Any, **_more: Any) -> ErasureState:
        raise ProviderUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(Erasures, "drive", away)
        with pytest.raises(ProviderUnavailable):
            shred_pool_keys(house, gone.cohort)
    expire_pool(house.units, house.vault)
    assert shreds_told(house) == [], "what has not ended is not told"
    house.vault.erasures.drive_all(now=True)
    again = [lambda: expire_pool(house.units, house.vault), lambda: shred_pool_keys(house, gone.cohort)]
    for finish in again if ended_by == "sweep" else reversed(again):
        finish()
        finish()
        assert shreds_told(house) == ["regard" if ended_by == "sweep" else "operator"]


def shreds_told(house: House) -> list[str]:
    """Who entered that pool keys are destroyed."""
    return [each.actor for each in house.ledger.recorded(Selection(About.ALL)) if each.kind == "pool.shredded"]


def test_who_was_erased_meanwhile_closes_the_gate_for_the_old_approval(house: House) -> None:
    """Rules 4, 6: still erasable until sealed, and an approval is of exactly the files that were shown."""
    refs = fill(house, GONE)
    planned = plan_release(house, PROFILE, live())
    approve(house, planned.id, planned.digest)
    house.vault.shred("era_1", [Target(house.controller, refs[0])])
    with pytest.raises(ReleaseRefused) as refused:
        release(house, planned.id, live())
    assert grounds(refused.value) == ["approval_of_another_table"]
    again = plan_release(house, PROFILE, live())
    assert again.digest != planned.digest
    approve(house, again.id, again.digest)
    assert release(house, again.id, live()).subjects == len(GONE) - 1


def test_what_a_command_that_died_let_go_loses_its_pool_keys_all_the_same(house: House, keys_engine: Engine) -> None:
    """Vault.md section 2: sealed, and then no backup gives the values back. Whom the key store lost keeps nobody's."""
    refs = fill(house, GONE)
    kept = seal_for_pool(house, refs[-1], release_profile(house, PROFILE), {"age": 41})
    planned = plan_release(house, PROFILE, live())
    approve(house, planned.id, planned.digest)
    gone = release(house, planned.id, live())
    with keys_engine.begin() as connection:
        for table in ("data_keys", "subject_keys"):
            connection.execute(text(f"DELETE FROM {table} WHERE subject = :ref"), {"ref": refs[0]})
    sweep = house.work._sweeps["pool"]
    sweep()
    sweep()
    with pytest.raises((Erased, UnknownKey)):
        house.vault.open(pool_scope(house.controller, refs[-1]), PROFILE, kept)
    house.vault.erasures.drive_all(now=True)
    assert house.vault.erasures.pending() == ()
    sweep()
    sweep()
    assert shreds_told(house) == ["regard"]
    assert shred_pool_keys(house, gone.cohort) is ErasureState.CERTIFIED
    assert shreds_told(house) == ["regard"]


def test_what_has_left_is_handed_out_again_as_it_was_approved_or_not_at_all(
    house: House, records_engine: Engine
) -> None:
    """Exports.md rule 4: a cohort is immutable; a file that somebody changed where it rests is not handed out."""
    fill(house, GONE)
    planned = plan_release(house, PROFILE, live())
    with pytest.raises(CohortUnknown):
        departed(house, planned.id)
    approve(house, planned.id, planned.digest)
    gone = release(house, planned.id, live())
    assert departed(house, planned.id) == gone
    with records_engine.begin() as connection:
        connection.execute(text("UPDATE export_cohorts SET table_csv = manifest"))
    with pytest.raises(ReleaseDamaged):
        departed(house, planned.id)


def test_whom_a_restored_key_store_does_not_know_holds_no_release_up(house: House, keys_engine: Engine) -> None:
    """Operations.md section 6: the key store may come back older than the pool; their values open with nothing."""
    refs = fill(house, GONE)
    with keys_engine.begin() as connection:
        for table, ref in (("data_keys", refs[0]), ("data_keys", refs[1]), ("subject_keys", refs[1])):
            gone = connection.execute(text(f"DELETE FROM {table} WHERE subject = :ref"), {"ref": ref})
            assert gone.rowcount > 0
    planned = plan_release(house, PROFILE, live())
    assert planned.report["subjects_in"] == len(GONE) - 2
    approve(house, planned.id, planned.digest)
    assert release(house, planned.id, live()).subjects == len(GONE) - 2


def test_what_cannot_be_released_is_not_even_shown(house: House) -> None:
    """Rule 4: at least 100 subjects; rule 6: no live base, no release. Nothing is stored."""
    fill(house, GONE[:99])
    with pytest.raises(ReleaseRefused) as refused:
        plan_release(house, PROFILE, None)
    assert {"cohort_too_small", "live_base_missing"} <= set(grounds(refused.value))
    with house.units.reading() as unit:
        assert list(unit.release_candidates.of([house.controller])) == []


def test_an_empty_pool_is_refused_with_its_reason(house: House) -> None:
    with pytest.raises(ReleaseRefused) as refused:
        plan_release(house, PROFILE, live())
    assert "cohort_too_small" in grounds(refused.value)


def test_the_report_holds_figures_of_groups_and_no_reference(house: House) -> None:
    """Rule 7: what the DPO reads says nothing of anyone."""
    fill(house, GONE)
    told = json.dumps(plan_release(house, PROFILE, live()).report)
    assert "sub_" not in told
    assert json.loads(told)["subjects_in"] == len(GONE)


def test_the_unknown_is_refused(house: House) -> None:
    with pytest.raises(ProfileUnknown):
        plan_release(house, "portfolio", live())
    with pytest.raises(CandidateUnknown):
        release(house, "rel_nobody", live())


def test_two_releases_of_one_candidate_seal_one_cohort(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second finds the pool empty or the candidate gone; nobody is in two cohorts."""
    fill(house, GONE)
    planned = plan_release(house, PROFILE, live())
    approve(house, planned.id, planned.digest)
    from app.wiring import releases

    genuine = releases._sealed

    def raced(*words: Any) -> str:
        monkeypatch.setattr(releases, "_sealed", genuine)
        release(house, planned.id, live())
        return genuine(*words)

    monkeypatch.setattr(releases, "_sealed", raced)
    with pytest.raises((AlreadyReleased, PoolChanged)):
        release(house, planned.id, live())
    with house.units.reading() as unit:
        assert len(unit.exports.cohorts(house.controller)) == 1

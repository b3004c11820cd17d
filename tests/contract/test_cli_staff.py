"""`regard staff`, `regard enrol`, `regard exports`: the operator's part, each refusal in a sentence."""

from __future__ import annotations

import errno
import json
import os
import re
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from app.demo.generator import Standing, analysable, make_subjects
from app.ledger.bundle import About, Selection
from app.profiles import Profile
from app.settings import Settings, read_settings
from app.vault.core import Vault
from app.vault.errors import ProviderUnavailable
from app.wiring import House, application, build, hold_back, seal_for_pool
from app.wiring.releases import release_profile
from consent.vocabulary import Locale, SubjectRef
from tests.databases import found_deployment

ROOT = Path(__file__).resolve().parents[2]
PROFILE = "portfolio_statistics"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    said = {"REGARD_DATA_DIR": str(tmp_path / "var"), "REGARD_POLICIES_DIR": str(ROOT / "policies")}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    read = read_settings(said)
    found_deployment(read)
    return read


def run(*words: str) -> Result:
    return CliRunner().invoke(main, list(words))


def add(*words: str) -> Result:
    return run("staff", "add", "Claire Petit", "--role", "dpo", "--controller", "ormelune", *words)


def test_a_colleague_is_added_listed_and_dismissed(settings: Settings) -> None:
    added = add("--json")
    assert added.exit_code == 0, added.output
    said = json.loads(added.stdout)
    assert len(said["code"].replace("-", "")) == 20
    (person,) = json.loads(run("staff", "list", "--json").stdout)
    assert person == {"staff": said["staff"], "name": "Claire Petit", "roles": ["dpo"], "controllers": ["ormelune"]}
    assert "Claire Petit: dpo; ormelune" in run("staff", "list").stdout
    assert run("staff", "dismiss", said["staff"], "--yes").exit_code == 0
    assert json.loads(run("staff", "list", "--json").stdout) == []
    again = run("staff", "code", said["staff"])
    assert again.exit_code == 2
    assert "no such colleague" in again.stderr


def test_the_page_a_code_is_typed_at_is_one(settings: Settings) -> None:
    (address,) = re.findall(r"at (\S+);", add().stdout)
    house = build(settings)
    assert address.startswith(f"{settings.issuer}/")
    assert application(house).test_client().get(address).status_code == 200
    house.close()


def test_the_code_rests_as_a_hash_only(settings: Settings) -> None:
    code = json.loads(add("--json").stdout)["code"]
    for file in settings.data_dir.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert code.encode() not in content
            assert code.replace("-", "").encode() not in content


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("staff", "add", "X", "--role", "king", "--controller", "ormelune"), "no role 'king'"),
        (("staff", "add", "X", "--role", "dpo", "--controller", "nobody"), "no controller 'nobody'"),
        (("staff", "add", " ", "--role", "dpo", "--controller", "ormelune"), "a colleague has a name"),
        (("staff", "dismiss", "stf_nobody", "--yes"), "no such colleague"),
        (("enrol", "sub_nobody"), "no such subject"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(settings: Settings, words: tuple[str, ...], sentence: str) -> None:
    refused = run(*words)
    assert refused.exit_code == 2
    assert sentence in refused.stderr
    assert json.loads(run("staff", "list", "--json").stdout) == []


def test_a_person_gets_a_code_and_a_newer_one_ends_it(settings: Settings) -> None:
    house = build(settings)
    ref = house.profiles.enrol(house.controller, Profile("Ana Exemplo", "ana@example.org"), Locale.EN)
    house.close()
    first, second = (run("enrol", ref).stdout.strip() for _ in range(2))
    assert first != second
    house = build(settings)
    with house.units.reading() as unit:
        from app.http.passkeys import _code_digest

        now = house.units.clock.now()
        assert unit.enrolments.find(_code_digest(first), now) is None
        found = unit.enrolments.find(_code_digest(second), now)
    house.close()
    assert found is not None
    assert (found.kind, found.person, found.cooling.days) == ("subject", ref, 0)


def _fill(house: House, folder: Path) -> Path:
    """120 gone people in the pool; the others as a live base in a file."""
    people = list(make_subjects(7, date(2026, 3, 1)))
    gone = [each for each in people if each.standing is not Standing.PRESENT]
    profile = release_profile(house, PROFILE)
    refs = [SubjectRef(f"sub_{each.number}") for each in gone]
    house.vault.create_subjects(house.controller, list(refs))
    sealed = [seal_for_pool(house, ref, profile, analysable(each)) for ref, each in zip(refs, gone, strict=True)]
    hold_back(house, profile, list(zip(refs, sealed, strict=True)))
    file = folder / "live.ndjson"
    rows = ({"subject": f"p{e.number}", **analysable(e)} for e in people if e.standing is Standing.PRESENT)
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return file


def test_a_table_is_planned_waits_and_leaves_once_approved(settings: Settings, tmp_path: Path) -> None:
    house = build(settings)
    live = str(_fill(house, tmp_path))
    planned = run("exports", "plan", PROFILE, "--live", live, "--json")
    assert planned.exit_code == 0, planned.output
    said = json.loads(planned.stdout)
    out = tmp_path / "out"
    refused = run("exports", "release", said["candidate"], "--live", live, "--out", str(out))
    assert refused.exit_code == 1
    assert "not_approved" in refused.stderr
    assert not out.exists()
    assert "waits for a DPO" in run("exports", "list").stdout
    with house.units.writing() as unit:
        assert unit.release_candidates.approve(said["candidate"], said["digest"], "stf_dpo", house.units.clock.now())
        unit.commit()
    gone = run("exports", "release", said["candidate"], "--live", live, "--out", str(out), "--json")
    assert gone.exit_code == 0, gone.output
    told = json.loads(gone.stdout)
    assert (told["subjects"], told["approved_by"], told["pool_keys"]) == (120, "stf_dpo", "certified")
    assert run("exports", "shred", told["cohort"]).stdout == "pool keys: certified\n"
    assert run("exports", "shred", "coh_nobody").exit_code == 2
    assert house.ledger.position(told["entry"]) == told["leaf"]
    assert {file.name for file in out.iterdir()} == {"table.csv", "table.parquet", "manifest.json"}
    assert "released" not in run("exports", "release", said["candidate"], "--live", live, "--out", str(out)).stdout
    house.close()


def _approved(house: House, live: str) -> str:
    said = json.loads(run("exports", "plan", PROFILE, "--live", live, "--json").stdout)
    with house.units.writing() as unit:
        assert unit.release_candidates.approve(said["candidate"], said["digest"], "stf_dpo", house.units.clock.now())
        unit.commit()
    return str(said["candidate"])


def _kinds(house: House) -> list[str]:
    return [each.kind for each in house.ledger.recorded(Selection(About.ALL))]


def test_nothing_is_sealed_where_its_files_cannot_be_written(settings: Settings, tmp_path: Path) -> None:
    """Exports.md rule 4: sealed is sealed for good, so the folder is looked at before."""
    house = build(settings)
    live = str(_fill(house, tmp_path))
    candidate = _approved(house, live)
    out = tmp_path / "out"
    (out / "manifest.json").mkdir(parents=True)
    for place, why in ((out, "Is a directory"), (tmp_path / "live.ndjson" / "out", "Not a directory")):
        refused = run("exports", "release", candidate, "--live", live, "--out", str(place))
        assert (refused.exit_code, refused.exception.__class__, refused.stdout) == (1, SystemExit, "")
        assert refused.stderr.startswith(f"nothing released: {place}")
        assert why in refused.stderr
    assert [each.name for each in out.iterdir()] == ["manifest.json"]
    assert "approved by stf_dpo" in run("exports", "list").stdout
    assert "export.released" not in _kinds(house)
    house.close()


def test_files_that_could_not_be_written_are_written_by_the_same_command(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exports.md rules 4, 6: sealed once, entered once, and the table that was approved is not lost by a full disk."""
    house = build(settings)
    live = str(_fill(house, tmp_path))
    candidate, out = _approved(house, live), tmp_path / "out"
    words = ("exports", "release", candidate, "--live", live, "--out", str(out))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        stopped = run(*words)
    assert (stopped.exit_code, stopped.exception.__class__, stopped.stdout) == (1, SystemExit, "")
    assert "is released, and its files are not written: No space left on device; the same command" in stopped.stderr
    assert not out.exists()
    assert "pool.shredded" in _kinds(house), "its keys go all the same"
    again = run(*words, "--json")
    assert again.exit_code == 0, again.output
    told = json.loads(again.stdout)
    assert again.stderr == f"released as {told['cohort']}; the same files are written again\n"
    assert sorted(each.name for each in out.iterdir()) == ["manifest.json", "table.csv", "table.parquet"]
    with house.units.reading() as unit:
        (cohort,) = unit.exports.cohorts(house.controller)
    assert [(out / name).read_bytes() for name in ("table.csv", "table.parquet", "manifest.json")] == [
        cohort.output.csv,
        cohort.output.parquet,
        cohort.output.manifest,
    ]
    assert [_kinds(house).count(kind) for kind in ("export.released", "pool.shredded")] == [1, 1]
    assert house.ledger.position(told["entry"]) == told["leaf"]
    house.close()


def test_what_the_vault_says_is_told_in_a_sentence(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operations.md: a key provider that is away is a state of things, no crash; nothing is planned, nothing leaves."""
    house = build(settings)
    live = str(_fill(house, tmp_path))
    planned = json.loads(run("exports", "plan", PROFILE, "--live", live, "--json").stdout)

    def away(*_: object, **_more: object) -> bytes:
        raise ProviderUnavailable

    monkeypatch.setattr(Vault, "open", away)
    out = tmp_path / "out"
    for words in (("plan", PROFILE, "--live", live), ("release", planned["candidate"], "--live", live, "--out", out)):
        refused = run("exports", *map(str, words))
        assert (refused.exit_code, refused.exception.__class__, refused.stdout) == (1, SystemExit, "")
        assert refused.stderr.startswith("key_provider_unavailable: ")
    house.close()


def test_a_faulty_live_base_is_named_by_its_line_and_never_quoted(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "live.ndjson"
    file.write_text('{"subject": "p1", "age": 41}\n{"age": 42, "name": "Ana Exemplo"}\n')
    refused = run("exports", "plan", PROFILE, "--live", str(file))
    assert refused.exit_code == 2
    assert "line 2" in refused.stderr
    assert "Ana" not in refused.output
    file.write_text('{"subject": "p1", "salary": 41}\n')
    unknown = run("exports", "plan", PROFILE, "--live", str(file))
    assert unknown.exit_code == 2
    assert "unknown_columns" in unknown.stderr

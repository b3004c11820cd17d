"""`regard ledger`: evidence by every question, opened on record, printed, witnessed; each refusal in a sentence."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli.main import main
from app.profiles import Profile
from app.sdk.evidence import Finding, Report, verify_bundle
from app.sdk.notes import parse_note
from app.sdk.witness import Cosigned, WitnessSigner
from app.settings import Settings, SettingsFaultsError, read_settings
from app.vault.keys import KeyClass, Target
from app.wiring import add_staff, build, dismiss_staff, finish_ledger, rotate_ledger
from consent.vocabulary import Locale
from tests.databases import found_deployment

ROOT = Path(__file__).resolve().parents[2]
CASE, OTHER = "case_" + "c" * 26, "case_" + "d" * 26
WITNESS = WitnessSigner("witness.example/w1", b"\x09" * 32)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    said = {
        "REGARD_DATA_DIR": str(tmp_path / "var"),
        "REGARD_POLICIES_DIR": str(ROOT / "policies"),
        "REGARD_LEDGER_WITNESSES": WITNESS.verifier.text(),
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    read = read_settings(said)
    found_deployment(read)
    record(read, CASE, OTHER, CASE)
    return read


def record(settings: Settings, *cases: str) -> None:
    house = build(settings)
    with house.units.writing() as unit:
        for case in cases:
            unit.journal.record(
                "case.moved", actor="stf_1", controller=house.controller, subject=None, payload={"case": case}
            )
        unit.commit()
    house.close()


def run(*words: str, given: str = "") -> Result:
    return CliRunner().invoke(main, ["ledger", *words], input=given)


def exported(tmp_path: Path, *words: str) -> Report:
    file = tmp_path / "evidence.json"
    done = run("export", str(file), *words)
    assert done.exit_code == 0, done.output
    report = verify_bundle(file.read_bytes(), run("key").stdout.strip(), witnesses=[])
    assert report.faults == ()
    return report


def kinds(report: Report) -> list[str]:
    return [entry.envelope.kind for entry in report.entries]


def test_evidence_by_every_question(settings: Settings, tmp_path: Path) -> None:
    everything = exported(tmp_path)
    assert kinds(everything)[-3:] == ["case.moved"] * 3
    assert len(kinds(exported(tmp_path, "--about", "case", "--ref", CASE))) == 2
    assert len(kinds(exported(tmp_path, "--about", "case", "--ref", CASE, "--ref", OTHER))) == 3
    day = everything.made_at[:10]
    assert kinds(exported(tmp_path, "--about", "period", "--from", day)) == kinds(everything)
    assert kinds(exported(tmp_path, "--about", "period", "--until", day)) == []
    assert kinds(exported(tmp_path, "--about", "period", "--controller", "nobody")) == []


@pytest.fixture
def staff(settings: Settings) -> dict[str, str]:
    """Colleagues by name: an auditor, one who works the cases, one who has left, one of another controller."""
    house = build(settings)
    (other,) = sorted(house.policy.controllers.keys() - {house.controller})[:1]
    told = {
        name: add_staff(house, name, [role], [controller])[0]
        for name, role, controller in (
            ("auditor", "auditor", house.controller),
            ("dpo", "dpo", house.controller),
            ("agent", "agent", house.controller),
            ("left", "dpo", house.controller),
            ("elsewhere", "auditor", other),
        )
    }
    dismiss_staff(house, told["left"])
    house.close()
    return told


def test_only_a_present_dpo_or_auditor_of_the_controller_opens(
    settings: Settings, staff: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "evidence.json"
    for by in ("stf_doesnotexist", staff["agent"], staff["left"], staff["elsewhere"]):
        done = run("export", str(file), "--about", "case", "--ref", CASE, "--open", "--by", by)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "(reader_unfit)" in done.stderr
        assert "present colleague" in done.stderr
    assert not file.exists()
    assert "evidence.opened" not in kinds(exported(tmp_path)), "who was refused saw nothing, and nothing says they did"
    assert kinds(exported(tmp_path, "--open", "--by", staff["dpo"]))[-1] == "evidence.opened"


def test_opening_is_recorded_and_shows_what_it_may(settings: Settings, staff: dict[str, str], tmp_path: Path) -> None:
    about, by = ("--about", "case", "--ref", CASE), staff["auditor"]
    report = exported(tmp_path, *about, "--open", "--by", by, "--hide", "subject")
    first, _, look = report.entries
    told = {field.name: field.text for field in first.opened or ()}
    assert told == {"controller": '"ormelune"', "kind": '"case.moved"', "payload.case": f'"{CASE}"', "subject": None}
    assert (look.envelope.kind, look.envelope.actor) == ("evidence.opened", by)
    shut = exported(tmp_path, *about, "--open", "--by", by, "--without", CASE)
    assert CASE not in str([field.text for entry in shut.entries for field in entry.opened or ()])


def test_what_is_another_controllers_stays_sealed(settings: Settings, staff: dict[str, str], tmp_path: Path) -> None:
    """Decision 0028: opening is for those who serve the controller, and a case can be shared by two."""
    house = build(settings)
    (other,) = sorted(house.policy.controllers.keys() - {house.controller})[:1]
    with house.units.writing() as unit:
        unit.journal.record("case.moved", actor="stf_1", controller=other, subject=None, payload={"case": CASE})
        unit.commit()
    house.close()
    for about in (("--about", "case", "--ref", CASE), ()):
        report = exported(tmp_path, *about, "--open", "--by", staff["auditor"])
        shown = {(e.envelope.controller, e.opened is not None) for e in report.entries if e.sealed}
        assert (other, True) not in shown
        assert {("ormelune", True), (other, False)} <= shown
    own = exported(tmp_path, "--about", "period", "--controller", other, "--open", "--by", staff["elsewhere"])
    assert [(e.envelope.kind, e.envelope.controller, e.opened is not None) for e in own.entries][-2:] == [
        ("case.moved", other, True),
        ("evidence.opened", other, True),
    ], "and the look itself stands under the controller that was looked at"


def test_who_opened_a_persons_evidence_is_found_under_that_person(
    settings: Settings, staff: dict[str, str], tmp_path: Path
) -> None:
    """Decision 0028: the look is in the bundle itself; also when the person's audit keys are gone it can be had."""
    house = build(settings)
    ana, bea = (
        house.profiles.enrol(house.controller, Profile(name, f"{name}@example.org"), Locale.EN) for name in ("a", "b")
    )
    with house.units.writing() as unit:
        for one in (ana, bea):
            unit.journal.record("case.moved", actor="x", controller=house.controller, subject=one, payload={})
        unit.commit()
    house.close()
    both = ("--about", "subject", "--ref", ana, "--ref", bea, "--open", "--by", staff["auditor"])
    assert kinds(exported(tmp_path, *both)).count("evidence.opened") == 2
    assert kinds(exported(tmp_path, "--about", "subject", "--ref", ana)).count("evidence.opened") == 1
    house = build(settings)
    house.vault.shred("era_1", [Target(house.controller, ana, classes=(KeyClass.AUDIT,))])
    house.close()
    alone = exported(tmp_path, "--about", "subject", "--ref", ana, "--open", "--by", staff["auditor"])
    assert [entry.opened for entry in alone.entries] == [None] * len(alone.entries)
    assert kinds(exported(tmp_path))[-1] == "evidence.opened"


def test_a_bundle_about_one_case_names_no_other(settings: Settings, staff: dict[str, str], tmp_path: Path) -> None:
    """GDPR art. 5(1)(c): who asked about two cases at once has left a look in each."""
    by = ("--open", "--by", staff["auditor"])
    exported(tmp_path, "--about", "case", "--ref", CASE, "--ref", OTHER, *by)
    for one, another in ((CASE, OTHER), (OTHER, CASE)):
        report = exported(tmp_path, "--about", "case", "--ref", one, *by)
        told = str([field.text for entry in report.entries for field in entry.opened or ()])
        assert kinds(report).count("evidence.opened") == 2
        assert one in told
        assert another not in told


def test_a_page_goes_with_it(settings: Settings, tmp_path: Path) -> None:
    exported(tmp_path, "--about", "case", "--ref", CASE, "--pdf", str(tmp_path / "e.pdf"), "--language", "fr")
    assert (tmp_path / "e.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--about", "case"), "--about case needs --ref ID"),
        (("--ref", CASE), "--ref needs --about case"),
        (("--from", "2026-01-01"), "add --about period"),
        (("--controller", "ormelune"), "add --about period"),
        (("--open",), "--open and --by go together"),
        (("--by", "stf_1"), "--open and --by go together"),
        (("--hide", "subject"), "--open and --by go together"),
        (("--about", "nothing"), "'nothing' is not one of"),
        (("--about", "period", "--from", "yesterday"), "'yesterday'"),
        (
            ("--about", "case", "--ref", "era_1"),
            "--ref era_1 is an id that belongs to --about erasure,",
        ),
        (("--about", "erasure", "--ref", "con_1"), "--ref con_1 is an id that belongs to --about consent,"),
        (("--pdf", "nowhere/e.pdf"), "there is no folder nowhere"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    settings: Settings, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = run("export", str(tmp_path / "e.json"), *words)
    assert done.exit_code == 2
    assert sentence in done.stderr
    assert not (tmp_path / "e.json").exists()


def test_it_is_told_where_nothing_can_be_written(settings: Settings, tmp_path: Path) -> None:
    done = run("export", str(tmp_path / "nowhere" / "e.json"))
    assert (done.exit_code, done.exception.__class__) == (2, SystemExit)
    assert f"there is no folder {tmp_path / 'nowhere'}" in done.stderr
    done = run("export", str(tmp_path / ("e" * 300)))
    assert (done.exit_code, done.exception.__class__) == (1, SystemExit)
    assert "is not written: File name too long" in done.stderr


def test_how_many_entries_there_are_is_told_and_none_is_no_file(
    settings: Settings, staff: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "e.json"
    about = ("--about", "case", "--ref", CASE)
    assert run("export", str(file), *about).stdout == f"wrote {file}: 2 entries\n"
    assert run("export", str(file), "--about", "case", "--ref", OTHER).stdout == f"wrote {file}: 1 entry\n"
    file.unlink()
    for more in ((), ("--open", "--by", staff["auditor"])):
        done = run("export", str(file), "--about", "case", "--ref", "case_nope", *more)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "nothing written: 0 entries; no entry names case_nope (nothing_named)" in done.stderr
    done = run("export", str(file), *about, "--until", "2020-01-01")
    assert (done.exit_code, f"no entry names {CASE} within --from, --until" in done.stderr) == (1, True)
    assert not file.exists()
    assert "evidence.opened" not in kinds(exported(tmp_path))


def test_a_ledger_that_is_not_what_was_signed_is_told_in_a_sentence(settings: Settings) -> None:
    """Ledger.md: nothing is signed over a changed past, and whoever runs it is told so."""
    assert run("checkpoint").exit_code == 0
    record(settings, CASE)
    house = build(settings)
    with house.records.begin() as connection:
        connection.exec_driver_sql("UPDATE ledger_checkpoints SET note = 'x'")
    house.close()
    rotate = (["keys", "rotate", "ledger"], ["keys", "rotate", "ledger", "--finish", "--yes"])
    for words in (["ledger", "checkpoint"], *rotate):
        done = CliRunner().invoke(main, words)
        assert (done.exit_code, done.exception.__class__, done.stdout) == (1, SystemExit, "")
        assert done.stderr.startswith("ledger.corrupted: a stored checkpoint is damaged")


def test_the_keys_an_outsider_needs(settings: Settings) -> None:
    assert run("key").stdout.startswith("regard.ledger+")
    public = run("key", "--certificates").stdout.strip()
    assert len(base64.b64decode(public)) == 32
    assert run("witnesses").stdout.strip() == WITNESS.verifier.text()


def test_a_cosignature_brought_by_hand_is_checked_and_kept(settings: Settings, tmp_path: Path) -> None:
    unwitnessed = run("export", str(tmp_path / "e.json"), "--witnessed")
    assert unwitnessed.exit_code == 1
    assert "no witness has cosigned a checkpoint yet" in unwitnessed.stderr
    note = parse_note(run("checkpoint").stdout)
    size = note.body.split("\n")[1]
    line = Cosigned(int(size), WITNESS.sign(note.body, 1_790_000_000)).line()
    stranger = WitnessSigner("witness.example/w1", b"\x01" * 32).sign(note.body, 1_790_000_000)
    refused = run("cosign", size, "-", given=Cosigned(int(size), stranger).line())
    assert (refused.exit_code, "not the key of a witness" in refused.stderr) == (1, True)
    assert run("cosign", size, "-", given=line).stdout.endswith(line)
    file = tmp_path / "e.json"
    assert run("export", str(file), "--witnessed").exit_code == 0
    checked = run(
        "verify", str(file), "--key", run("key").stdout.strip(), "--witness", WITNESS.verifier.text(), "--json"
    )
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["witnesses"] == {"witness.example/w1": 1_790_000_000}


def cosigned() -> None:
    note = parse_note(run("checkpoint").stdout)
    size = note.body.split("\n")[1]
    assert run("cosign", size, "-", given=Cosigned(int(size), WITNESS.sign(note.body, 1)).line()).exit_code == 0


def turn(settings: Settings, *, finish: bool = False) -> None:
    house = build(settings)
    (finish_ledger if finish else rotate_ledger)(house)
    house.close()


def test_evidence_is_whole_on_both_sides_of_a_change_of_the_ledger_key(settings: Settings, tmp_path: Path) -> None:
    """docs/formats/ledger.md: one key verifies checkpoint and list, also before the new one has signed any entry."""
    cosigned()
    old = run("key").stdout.strip()
    turn(settings)
    exported(tmp_path)
    (only,) = verify_bundle((tmp_path / "evidence.json").read_bytes(), old).faults
    assert only.finding is Finding.WRONG_KEY
    assert "the present one is needed" in only.sentence
    exported(tmp_path, "--witnessed")
    record(settings, CASE)
    exported(tmp_path)
    turn(settings, finish=True)
    exported(tmp_path)
    exported(tmp_path, "--witnessed")
    seen = verify_bundle((tmp_path / "evidence.json").read_bytes(), None, witnesses=[WITNESS.verifier.text()])
    assert (seen.faults, seen.witnesses) == ((), {WITNESS.verifier.name: 1})


def test_verifying_and_witnessing_need_no_deployment(tmp_path: Path) -> None:
    assert run("verify", str(tmp_path / "nowhere.json")).exit_code == 2
    made = run("witness", "--name", "w.example", "--key", str(tmp_path / "w.key"), "--new-key")
    assert (made.exit_code, made.stdout.startswith("w.example+")) == (0, True)


@pytest.mark.parametrize("bad", ["x", "a+b+c", "regard.ledger+00000000+AQ=="])
def test_a_witness_key_that_is_none_is_told_at_the_start(bad: str) -> None:
    with pytest.raises(SettingsFaultsError, match="REGARD_LEDGER_WITNESSES"):
        read_settings({"REGARD_LEDGER_WITNESSES": f"{WITNESS.verifier.text()} {bad}"})


def test_the_moments_are_utc_unless_they_say_otherwise(settings: Settings, tmp_path: Path) -> None:
    made = datetime.fromisoformat(exported(tmp_path).made_at)
    east = (made + timedelta(hours=2, minutes=-5)).strftime("%Y-%m-%dT%H:%M:%S") + "+0200"
    assert len(kinds(exported(tmp_path, "--about", "period", "--from", east))) >= 3
    late = (made + timedelta(hours=2, minutes=-5)).strftime("%Y-%m-%dT%H:%M:%S")
    assert kinds(exported(tmp_path, "--about", "period", "--from", late)) == []

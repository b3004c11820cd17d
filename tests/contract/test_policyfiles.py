"""The pack on disk: read, shape, meaning; every fault at once; released notices never change (consent.md section 1)."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from app.exports.profile import Profile
from app.policyfiles import PolicyFaults, digest, load, lock, shapes
from consent import parties, policy
from consent.policy import FigureName
from consent.vocabulary import Action, Locale, PurposeId
from dsar.practice import read_practice
from dsar.vocabulary import Right

PACK = Path(__file__).resolve().parents[2] / "policies"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PACK, tmp_path / "policies"))


def _change(pack: Path, file: str, old: str, new: str) -> None:
    text = (pack / file).read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {file}"
    (pack / file).write_text(text.replace(old, new, 1))


def _faults(pack: Path) -> set[tuple[str, str]]:
    with pytest.raises(PolicyFaults) as caught:
        load(pack)
    assert caught.value.code == "policy_faults"
    assert len(caught.value.problems) == len(set(caught.value.problems))
    for problem in caught.value.problems:
        assert f"{problem.file}: {problem.key}: {problem.sentence}" in str(caught.value)
    return {(problem.file, problem.key) for problem in caught.value.problems}


def test_the_shipped_pack_is_read_whole() -> None:
    read = load(PACK)
    assert len(read.controllers) == 2
    assert {controller.capacity for controller in read.controllers.values()} == {"controller", "processor"}
    assert len(read.leaves()) >= 25
    assert len(read.purposes) == 12
    assert len(read.parties) >= 15
    assert len(read.notices) == 12 * 4
    assert set(read.rights) == set(Right)
    assert set(read.figures) == set(FigureName)
    practice, faults = read_practice(read.practice())
    assert practice is not None
    assert faults == ()


def test_one_row_stands_for_every_category_and_action_it_names() -> None:
    party = load(PACK).parties["collecte"]
    held = {(grant.category, grant.action) for grant in party.grants if grant.purpose == "wealth_overview"}
    assert {("accounts.balances", Action.READ), ("accounts.balances", Action.HOLD)} <= held
    assert {action for _, action in held} == {Action.READ, Action.HOLD}


def test_the_export_profile_is_usable_as_read() -> None:
    read = load(PACK)
    profile = Profile.from_plain(read.exports["portfolio_statistics"].plain, read.hierarchies)
    assert profile.k == 10
    assert set(profile.names) == set(read.exports["portfolio_statistics"].sources)
    assert len(profile.names) == 7


def test_the_digest_follows_every_byte_and_every_name(pack: Path) -> None:
    before = load(pack).digest
    assert before == load(PACK).digest
    (pack / "categories.toml").write_bytes((pack / "categories.toml").read_bytes() + b"\n# a remark\n")
    changed = load(pack).digest
    assert changed != before
    shutil.copy(pack / "journeys" / "mortgage.toml", pack / "journeys" / "second.toml")
    _change(pack, "journeys/second.toml", 'id = "mortgage"', 'id = "second"')
    assert load(pack).digest not in (before, changed)


def test_the_digest_tells_where_one_file_ends(pack: Path) -> None:
    assert digest({"a": b"1", "b": b"2"}) != digest({"a": b"1b\x002"})
    assert digest({"a": b"1", "b": b"2"}) == digest({"b": b"2", "a": b"1"})


def test_faults_in_many_files_are_listed_at_once_and_alone(pack: Path) -> None:
    _change(pack, "controllers/valombree.toml", 'capacity = "processor"', 'capacity = "owner"')
    _change(
        pack, "categories.toml", 'id = "wealth.summary"\nparent = "wealth"', 'id = "wealth.summary"\nparent = "riches"'
    )
    _change(pack, "purposes.toml", "notice_version = 1\n", "notice_version = 1\nsells_data = true\n")
    _change(pack, "retention.toml", "days = 395", 'days = "395"')
    _change(pack, "rights.toml", 'id = "package_days"', 'id = "parcel_days"')
    _change(
        pack,
        "roles.toml",
        'id = "studies"\ncategories = ["statistics.pool"]',
        'id = "studies"\ncategories = ["statistics"]',
    )
    _change(pack, "institutions.toml", 'paths = ["own_credentials"]', 'paths = ["screen_scraping"]')
    _change(pack, "parties/nuage.toml", 'role = "processor"', 'role = "processor"\ncolour = "blue"')
    _change(pack, "exports/portfolio_statistics.toml", "k = 10", "k = 2")
    _change(pack, "notices/statistics/v1.pt.md", "cem", "dez")
    (pack / "journeys" / "mortgage.toml").write_text("this is not TOML")
    (pack / "notes.txt").write_text("stray")
    assert _faults(pack) == {
        ("controllers/valombree.toml", "capacity"),
        ("categories.toml", "categories[wealth.summary].parent"),
        ("purposes.toml", "purposes[wealth_overview].sells_data"),
        ("retention.toml", "retentions[12].days"),
        ("rights.toml", "figures[parcel_days].id"),
        ("rights.toml", "figures[package_days]"),
        ("roles.toml", "roles[studies].categories[statistics]"),
        ("parties/studies.toml", "grants[statistics.pool]"),
        ("institutions.toml", "institutions[credit_sauvelin].paths"),
        ("parties/nuage.toml", "colour"),
        ("exports/portfolio_statistics.toml", "k"),
        ("notices/statistics/v1.pt.md", "notice"),
        ("journeys/mortgage.toml", "file"),
        ("notes.txt", "file"),
    }


@pytest.mark.parametrize(
    ("file", "old", "new", "key"),
    [
        ("pack.toml", "2026.1", "first", "version"),
        ("categories.toml", "sensitivity = 2", "sensitivity = 2\nspecial = 1", "categories[identity].special"),
        ("categories.toml", "sensitivity = 2", "sensitivity = true", "categories[identity].sensitivity"),
        ("categories.toml", "names.pt", "names.de", "clusters[identity].names.de"),
        ("purposes.toml", 'basis = "consent"', 'basis = "curiosity"', "purposes[wealth_overview].basis"),
        ("purposes.toml", "needs_sca = true\n", "", "purposes[wealth_overview].needs_sca"),
        ("retention.toml", 'on_erasure = "erase"', 'on_erasure = "keep"', "retentions[0].on_erasure"),
        ("rights.toml", "refusals = []", 'refusals = ["too_much_work"]', "rights[marketing_objection].refusals[0]"),
        ("rights.toml", "refusals = []", 'refusals = ["article_11"]', "rights[marketing_objection].refusals"),
        ("rights.toml", 'right = "erasure"', 'right = "oblivion"', "rights[oblivion].right"),
        ("parties/patrivue.toml", 'actions = ["read"]', 'actions = ["copy"]', "grants[0].actions[0]"),
        ("parties/patrivue.toml", "\nstart = 2025-01-01", '\nstart = "2025-01-01"', "grants[0].start"),
        ("parties/patrivue.toml", "https://", "http://", "notice_url"),
        ("parties/patrivue.toml", '"transactions.recent"', '"accounts.balances"', "grants[0].categories"),
        ("parties/patrivue.toml", 'id = "patrivue"', 'id = "other"', "id"),
        ("journeys/mortgage.toml", 'kind = "mandate"', 'kind = "countdown"', "stages[5].kind"),
        ("exports/portfolio_statistics.toml", "edges = [25, 35", "edges = [35, 25", "columns[0].edges"),
        ("exports/portfolio_statistics.toml", 'hierarchy = "region"', 'hierarchy = "postcode"', "columns[1].hierarchy"),
        ("exports/portfolio_statistics.toml", 'age = "identity.civil"\n', "", "sources.age"),
    ],
)
def test_a_wrong_shape_is_one_fault_and_casts_no_shadow(pack: Path, file: str, old: str, new: str, key: str) -> None:
    _change(pack, file, old, new)
    assert _faults(pack) == {(file, key)}


@pytest.mark.parametrize("file", ["categories.toml", "purposes.toml", "retention.toml", "parties/collecte.toml"])
def test_an_unreadable_file_is_one_fault(pack: Path, file: str) -> None:
    (pack / file).write_bytes(b"\xff\xfe = 1")
    assert _faults(pack) == {(file, "file")}


def test_a_missing_file_and_a_missing_folder_are_faults(pack: Path, tmp_path: Path) -> None:
    (pack / "roles.toml").unlink()
    assert _faults(pack) == {("roles.toml", "file")}
    assert _faults(tmp_path / "nowhere") == {("nowhere", "folder")}


def test_an_id_appears_once(pack: Path) -> None:
    text = (pack / "roles.toml").read_text()
    (pack / "roles.toml").write_text(text + text[text.index("[[roles]]") :])
    assert {key for _, key in _faults(pack)} == set(load(PACK).roles)


def test_a_released_notice_cannot_change_or_go(pack: Path) -> None:
    """Consent rule 58: what a person was shown stays provable."""
    (pack / "notices/news_offers/v1.fr.md").write_text("Autre chose.\n")
    (pack / "notices/aml_duties/v1.es.md").unlink()
    expected = {("notices/news_offers/v1.fr.md", "notice"), ("notices/aml_duties/v1.es.md", "notice")}
    assert _faults(pack) == expected
    before = (pack / "notices.lock").read_bytes()
    with pytest.raises(PolicyFaults) as caught:
        lock(pack)
    assert {(problem.file, problem.key) for problem in caught.value.problems} == expected
    assert (pack / "notices.lock").read_bytes() == before


def test_new_words_are_a_new_version_released_by_adding_lines(pack: Path) -> None:
    before = (pack / "notices.lock").read_bytes()
    for locale in Locale:
        (pack / f"notices/news_offers/v2.{locale}.md").write_text("Short and new.\n")
    text = (pack / "purposes.toml").read_text()
    at = text.index("notice_version = 1", text.index('id = "news_offers"'))
    (pack / "purposes.toml").write_text(text[:at] + "notice_version = 2" + text[at + len("notice_version = 1") :])
    shown = {f"notices/news_offers/v2.{locale}.md" for locale in Locale}
    assert _faults(pack) == {(path, "notice") for path in shown}
    assert set(lock(pack)) == shown
    after = (pack / "notices.lock").read_bytes()
    assert after.startswith(before)
    assert after.count(b"\n") == before.count(b"\n") + 4
    assert lock(pack) == ()
    assert (pack / "notices.lock").read_bytes() == after
    notice = load(pack).notices[PurposeId("news_offers"), 2, Locale.FR]
    assert notice.digest == hashlib.sha256(b"Short and new.\n").hexdigest()
    assert len(load(pack).notices) == 12 * 4 + 4


def test_a_notice_that_says_nothing_is_not_released(pack: Path) -> None:
    before = (pack / "notices.lock").read_bytes()
    (pack / "notices/news_offers/v2.fr.md").write_text("  \n")
    (pack / "notices/news_offers/v2.en.md").write_bytes(b"\xff")
    with pytest.raises(PolicyFaults) as caught:
        lock(pack)
    assert len(caught.value.problems) == 2
    assert (pack / "notices.lock").read_bytes() == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda lines: ["not a line", *lines],
        lambda lines: [*lines, "0" * 64 + lines[0][64:]],
        lambda lines: [*lines, "0" * 64 + "  ../secret.fr.md"],
    ],
)
def test_a_spoilt_lock_is_refused(pack: Path, spoil: Callable[[list[str]], list[str]]) -> None:
    lines = (pack / "notices.lock").read_text().splitlines()
    (pack / "notices.lock").write_text("\n".join(spoil(lines)) + "\n")
    assert {file for file, _ in _faults(pack)} == {"notices.lock"}
    with pytest.raises(PolicyFaults):
        lock(pack)


@pytest.mark.parametrize(
    ("shape", "record", "renamed"),
    [
        (shapes.ControllerShape, policy.Controller, {"exceptions"}),
        (shapes.BaselineShape, parties.Baseline, {"exceptions"}),
        (shapes.ExceptionShape, parties.SecurityException, set()),
        (shapes.ClusterShape, policy.Cluster, set()),
        (shapes.CategoryShape, policy.Category, set()),
        (shapes.PurposeShape, policy.Purpose, set()),
        (shapes.RetentionShape, policy.Retention, {"category", "categories"}),
        (shapes.RightShape, policy.RightRule, set()),
        (shapes.FigureShape, policy.Figure, set()),
        (shapes.RoleShape, policy.Role, set()),
        (shapes.InstitutionShape, policy.Institution, set()),
        (shapes.SecurityShape, parties.Security, set()),
        (shapes.GrantShape, parties.Grant, {"category", "categories", "action", "actions"}),
        (shapes.PartyShape, parties.Party, set()),
        (shapes.JourneyShape, policy.Journey, set()),
    ],
)
def test_a_file_can_say_whatever_the_record_holds(shape: type, record: type, renamed: set[str]) -> None:
    """The agreement test of house.md: a field added to a record and not to its shape is caught here."""
    assert set(shape().fields) ^ {field.name for field in fields(record)} == renamed

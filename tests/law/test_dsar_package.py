"""Dsar rules 37, 40, 42: what keeps a package from being sealed, and what it must not tell."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from consent.vocabulary import ComponentId
from dsar.errors import PackageIncomplete
from dsar.package import (
    AML_REASON,
    CategoryResult,
    Filled,
    HolderAnswer,
    Manifest,
    NoneToReport,
    PackageFile,
    Section,
    document,
    gaps,
    manifest_digest,
)
from dsar.vocabulary import CaseId, HolderStatus, LineId
from tests.law.dsar_desk import BALANCES, HOLDERS, IDENTITY, paris

NOW = paris(2026, 3, 6)
S = HolderStatus
FULL = {section: Filled(("x",)) for section in Section}
FILE = PackageFile("data.json", "application/json", 2, hashlib.sha256(b"{}").hexdigest())


def answer(holder, status, *categories, reason=None):
    return HolderAnswer(holder, status, NOW, tuple(categories), reason)


FOUND = answer(HOLDERS[0], S.FOUND, CategoryResult(BALANCES, S.FOUND, 12))
NOTHING = answer(HOLDERS[1], S.NONE)


def manifest(*answers, checklist=None, files=(FILE,)):
    held = answers or (FOUND, NOTHING)
    return Manifest(CaseId("case_1"), LineId("line_1"), NOW, held, FULL if checklist is None else checklist, files)


def test_a_whole_package_is_sealed_with_a_digest_of_what_it_says():
    whole = manifest()
    assert gaps(whole, HOLDERS) == ()
    found = manifest_digest(whole, HOLDERS)
    assert found == manifest_digest(manifest(NOTHING, FOUND), HOLDERS)
    assert found != manifest_digest(manifest(files=(replace(FILE, size=3),)), HOLDERS)


@pytest.mark.parametrize("missing", list(Section))
def test_a_missing_section_blocks_the_seal(missing):
    """Dsar rule 37: filled or explicitly none."""
    holed = {section: content for section, content in FULL.items() if section is not missing}
    for checklist in (holed, {**holed, missing: Filled(())}, {**holed, missing: Filled((" ",))}):
        with pytest.raises(PackageIncomplete) as caught:
            manifest_digest(manifest(checklist=checklist), HOLDERS)
        assert caught.value.gaps == (f"section {missing.value}: missing",)


@pytest.mark.parametrize("section", list(Section))
def test_none_is_an_answer_except_for_rights_and_complaint(section):
    found = gaps(manifest(checklist={**FULL, section: NoneToReport()}), HOLDERS)
    assert bool(found) is (section in {Section.RIGHTS, Section.COMPLAINT})


@pytest.mark.parametrize(
    ("answers", "gap"),
    [
        ((FOUND,), "missing"),
        ((FOUND, answer(HOLDERS[1], S.ERROR)), "error"),
        ((FOUND, answer(HOLDERS[1], S.FOUND, CategoryResult(IDENTITY, S.ERROR, 0, "timeout"))), "error"),
        ((FOUND, answer(HOLDERS[1], S.PARTIAL)), "no reason given"),
        ((FOUND, answer(HOLDERS[1], S.EXCLUDED)), "no reason given"),
        ((FOUND, answer(HOLDERS[1], S.ERASED)), "not an answer to a search"),
        ((FOUND, NOTHING, NOTHING), "answered twice"),
        ((FOUND, NOTHING, answer(ComponentId("stranger"), S.NONE)), "not registered"),
    ],
)
def test_a_missing_failed_or_foreign_holder_blocks_the_seal(answers, gap):
    """Dsar rule 40: kill one holder and the case cannot close."""
    with pytest.raises(PackageIncomplete) as caught:
        manifest_digest(manifest(*answers), HOLDERS)
    assert len(caught.value.gaps) == 1
    assert caught.value.gaps[0].endswith(gap)


def test_information_without_a_copy_is_no_access():
    """Dsar rule 37."""
    assert gaps(manifest(files=()), HOLDERS) == ("files: none",)
    assert gaps(manifest(files=(replace(FILE, sha256="abc"),)), HOLDERS) == ("file data.json: no digest",)


@pytest.mark.parametrize(
    ("with_report", "without"),
    [
        (answer(HOLDERS[1], S.EXCLUDED, reason=AML_REASON), NOTHING),
        (
            answer(HOLDERS[1], S.EXCLUDED, CategoryResult(IDENTITY, S.EXCLUDED, 3, AML_REASON), reason=AML_REASON),
            NOTHING,
        ),
        (
            answer(
                HOLDERS[1],
                S.PARTIAL,
                CategoryResult(BALANCES, S.FOUND, 4),
                CategoryResult(IDENTITY, S.EXCLUDED, 1, AML_REASON),
                reason=AML_REASON,
            ),
            answer(HOLDERS[1], S.FOUND, CategoryResult(BALANCES, S.FOUND, 4)),
        ),
    ],
)
def test_a_suspicion_leaves_no_trace(with_report, without):
    """Dsar rule 42: two subjects equal except for a suspicion flag get identical bytes."""
    one, other = manifest(FOUND, with_report), manifest(FOUND, without)
    assert json.dumps(document(one)) == json.dumps(document(other))
    assert manifest_digest(one, HOLDERS) == manifest_digest(other, HOLDERS)

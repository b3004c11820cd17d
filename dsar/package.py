"""The package of an access or portability line: who answered, what it says, which files, and whether it may be sealed.

GDPR art. 15(1)(a)-(h), 15(2), 15(3) (dsar rules 37-42). Leaves out making the files and sealing their bytes
(`app.outbound`, `app.vault`): here a manifest is judged and gets its digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum

from consent.plain import canonical
from consent.vocabulary import CategoryId, ComponentId
from dsar.errors import PackageIncomplete
from dsar.vocabulary import CaseId, HolderStatus, LineId

AML_REASON = "aml_only"
"""Data processed solely for anti-money-laundering duties (CMF L.561-45, L.561-18; dsar rule 42)."""
SHA256_HEX = re.compile(r"[0-9a-f]{64}")
ANSWERED = frozenset(
    {HolderStatus.FOUND, HolderStatus.NONE, HolderStatus.RETAINED, HolderStatus.PARTIAL, HolderStatus.EXCLUDED}
)


class Section(StrEnum):
    """GDPR art. 15(1)(a)-(h) and 15(2)."""

    PURPOSES = "15.1.a"
    CATEGORIES = "15.1.b"
    RECIPIENTS = "15.1.c"
    PERIOD = "15.1.d"
    RIGHTS = "15.1.e"
    COMPLAINT = "15.1.f"
    SOURCE = "15.1.g"
    AUTOMATED_DECISIONS = "15.1.h"
    TRANSFERS = "15.2"


NEVER_NONE = frozenset({Section.RIGHTS, Section.COMPLAINT})
"""A person always has rights and an authority to complain to."""


@dataclass(frozen=True, slots=True)
class Filled:
    """A section tailored to this person; `entries` in the person's language, at least one."""

    entries: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoneToReport:
    """Said explicitly: there is none."""


Checklist = Mapping[Section, Filled | NoneToReport]


@dataclass(frozen=True, slots=True)
class CategoryResult:
    """What a holder has, or did, in one category."""

    category: CategoryId
    status: HolderStatus
    count: int
    reason: str | None = None
    """A stable code; needed for partial, retained, excluded and error."""
    purpose: str | None = None
    until: date | None = None
    """With retained: kept until, and not on, this day."""


@dataclass(frozen=True, slots=True)
class HolderAnswer:
    """One holder's answer to one task."""

    holder: ComponentId
    status: HolderStatus
    answered_at: datetime
    categories: tuple[CategoryResult, ...] = ()
    reason: str | None = None
    digest: str | None = None
    """Lower-case hex SHA-256 of the sealed upload, when there is one."""


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file of the package; its digest is of the clear bytes, and stays inside the sealed package."""

    name: str
    media_type: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a package is made of."""

    case: CaseId
    line: LineId
    made_at: datetime
    holders: tuple[HolderAnswer, ...]
    checklist: Checklist
    files: tuple[PackageFile, ...]


def gaps(manifest: Manifest, expected: Collection[ComponentId]) -> tuple[str, ...]:
    """Return everything that keeps the manifest from being sealed as complete (dsar rules 37, 40)."""
    return (*holder_gaps(manifest.holders, expected), *checklist_gaps(manifest.checklist), *_file_gaps(manifest.files))


def holder_gaps(answers: Sequence[HolderAnswer], expected: Collection[ComponentId]) -> tuple[str, ...]:
    """Return `holder x: missing|error|...` for each registered holder that has not properly answered (dsar rule 40)."""
    by_holder = {answer.holder: answer for answer in answers}
    missing = [f"holder {holder}: missing" for holder in sorted(expected) if holder not in by_holder]
    strangers = [f"holder {holder}: not registered" for holder in sorted(by_holder) if holder not in expected]
    doubled = [f"holder {holder}: answered twice" for holder in sorted(by_holder) if _count(answers, holder) > 1]
    faults = [f"holder {one.holder}: {fault}" for one in answers if (fault := answer_fault(one))]
    return (*missing, *strangers, *doubled, *faults)


def _count(answers: Sequence[HolderAnswer], holder: ComponentId) -> int:
    return sum(answer.holder == holder for answer in answers)


def answer_fault(answer: HolderAnswer) -> str | None:
    """Return why an answer to a search does not count, or None."""
    results = (answer.status, *(result.status for result in answer.categories))
    if HolderStatus.ERROR in results:
        return "error"
    if not ANSWERED.issuperset(results):
        return "not an answer to a search"
    needs_reason = answer.status in (HolderStatus.PARTIAL, HolderStatus.EXCLUDED) and not answer.reason
    return "no reason given" if needs_reason else None


def checklist_gaps(checklist: Checklist) -> tuple[str, ...]:
    """Return the sections that are neither filled nor explicitly none (dsar rule 37)."""
    return tuple(
        f"section {section.value}: missing" for section in Section if not _said(checklist.get(section), section)
    )


def _said(content: Filled | NoneToReport | None, section: Section) -> bool:
    if isinstance(content, Filled):
        return bool(content.entries) and all(entry.strip() for entry in content.entries)
    return isinstance(content, NoneToReport) and section not in NEVER_NONE


def _file_gaps(files: Sequence[PackageFile]) -> tuple[str, ...]:
    if not files:
        return ("files: none",)  # information without a copy is no access (dsar rule 37)
    return tuple(f"file {one.name}: no digest" for one in files if not SHA256_HEX.fullmatch(one.sha256))


def shown_status(answer: HolderAnswer) -> HolderStatus:
    """Return the status the person reads: an anti-money-laundering exclusion looks like nothing held (dsar rule 42)."""
    open_results = [one for one in answer.categories if one.reason != AML_REASON]
    if answer.reason != AML_REASON and len(open_results) == len(answer.categories):
        return answer.status
    return HolderStatus.FOUND if any(one.status is HolderStatus.FOUND for one in open_results) else HolderStatus.NONE


def document(manifest: Manifest) -> dict[str, object]:
    """Return the manifest as JSON values, as the person gets it: nothing in it tells an exclusion for AML (rule 42)."""
    return {
        "version": 1,
        "case": manifest.case,
        "line": manifest.line,
        "made_at": manifest.made_at.isoformat(),
        "holders": [_shown(answer) for answer in sorted(manifest.holders, key=lambda one: one.holder)],
        "checklist": {section.value: _entries(manifest.checklist[section]) for section in Section},
        "files": [
            {"name": one.name, "type": one.media_type, "size": one.size, "sha256": one.sha256} for one in manifest.files
        ],
    }


def _shown(answer: HolderAnswer) -> dict[str, object]:
    shown = shown_status(answer)
    results = [one for one in answer.categories if one.reason != AML_REASON] if shown is not HolderStatus.NONE else []
    return {
        "holder": answer.holder,
        "status": shown.value,
        "reason": None if answer.reason == AML_REASON or shown is HolderStatus.NONE else answer.reason,
        "categories": [
            {"category": one.category, "status": one.status.value, "count": one.count, "reason": one.reason}
            for one in results
        ],
    }


def _entries(content: Filled | NoneToReport) -> list[str] | None:
    return list(content.entries) if isinstance(content, Filled) else None


def manifest_digest(manifest: Manifest, expected: Collection[ComponentId]) -> str:
    """Return the hex SHA-256 of the manifest's canonical bytes. Raises PackageIncomplete with every gap."""
    found = gaps(manifest, expected)
    if found:
        raise PackageIncomplete(found)
    return hashlib.sha256(canonical(document(manifest))).hexdigest()

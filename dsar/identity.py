"""The identity ladder: is what was proved enough for what is asked (GDPR arts 11, 12(6); dsar rules 24-28, 33)?

Pure. `LADDER` is section 1.3 of the rules; the policy pack may ask for more than it, never for less. Leaves out how a
proof is given (`app.http`) and what each method is worth (`dsar.proofs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from consent.policy import Policy, RightRule
from consent.vocabulary import ControllerId
from dsar.practice import Practice
from dsar.proofs import METHODS
from dsar.proofs.shape import Lack, Proof, Setting, Standing
from dsar.vocabulary import CaseKind, DoubtCode, Level, Method, Right

LADDER: Mapping[Right, tuple[Level, Level, Level]] = {
    # Levels for data of sensitivity 1 (contact-like), 2 (personal), 3 (financial, identity papers).
    Right.MARKETING_OBJECTION: (Level.L0, Level.L0, Level.L0),
    Right.WITHDRAWAL: (Level.L0, Level.L0, Level.L0),
    Right.RESTRICTION: (Level.L1, Level.L1, Level.L1),
    Right.ACCESS: (Level.L2, Level.L2, Level.L3),
    Right.ERASURE: (Level.L2, Level.L2, Level.L2),
    Right.OBJECTION: (Level.L2, Level.L2, Level.L2),
    Right.AUTOMATED_DECISION: (Level.L2, Level.L2, Level.L2),
    Right.PORTABILITY: (Level.L3, Level.L3, Level.L3),
    Right.RECTIFICATION: (Level.L3, Level.L3, Level.L3),  # a change of contact data or IBAN
}


@dataclass(frozen=True, slots=True)
class Enough:
    """The proofs do, at this level."""

    level: Level


@dataclass(frozen=True, slots=True)
class Lacking:
    """The proofs do not do, and why."""

    reason: Lack
    needed: Level
    has: Level


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Everything about a request, besides its proofs, that the level depends on."""

    kind: CaseKind
    received_at: datetime
    contact_changed_at: datetime | None = None
    """The last change of any contact point on file."""


def needed_level(right: Right, sensitivity: int, policy: Policy, practice: Practice, about: Circumstances) -> Level:
    """Return the level `right` needs over data of `sensitivity` 1-3 (dsar rule 26)."""
    rule = policy.rights.get(right.value)
    ladder = LADDER[right][min(max(sensitivity, 1), 3) - 1]
    floor = max(ladder, _pack_level(rule, sensitivity)) if rule else ladder
    if floor is Level.L0:
        return floor
    return Level.L4 if _recently_changed(about, practice) else Level(floor)


def _pack_level(rule: RightRule, sensitivity: int) -> Level:
    sensitive = rule.level_sensitive if sensitivity >= 3 else None
    return Level(max(rule.level, sensitive or 0))


def _recently_changed(about: Circumstances, practice: Practice) -> bool:
    limit = about.received_at - timedelta(days=practice.recent_contact_days)
    return about.contact_changed_at is not None and about.contact_changed_at > limit


def enough(
    right: Right,
    sensitivity: int,
    proofs: Sequence[Proof],
    at: datetime,
    *,
    policy: Policy,
    practice: Practice,
    about: Circumstances,
) -> Enough | Lacking:
    """Say whether `proofs` reach, at the moment `at`, the level that `right` needs (dsar rules 26, 27, 33)."""
    needed = needed_level(right, sensitivity, policy, practice, about)
    setting = Setting(right, about.received_at, at, practice.recent_contact_days)
    faults = [fault for proof in proofs if (fault := METHODS[proof.method].fault(proof, setting))]
    sound = [proof for proof in proofs if METHODS[proof.method].fault(proof, setting) is None]
    has = _level(sound, setting)
    if has < needed:
        return Lacking(_reason(sound, faults, needed, setting), needed, has)
    if about.kind is not CaseKind.SUBJECT and not any(_is_mandate(proof) for proof in sound):
        missing = [fault for fault in faults if fault.startswith("mandate")]
        return Lacking(missing[0] if missing else Lack.MANDATE_MISSING, needed, has)
    return Enough(has)


def _level(sound: Sequence[Proof], setting: Setting) -> Level:
    """Return the best single proof, or L2 for two channels independent of each other (section 1.3)."""
    channels = {proof.instrument for proof in sound if _is_channel(proof) and not _recent(proof, setting)}
    best = max((_worth(proof, setting) for proof in sound), default=Level.L0)
    return max(best, Level.L2) if len(channels) >= 2 else best


def _worth(proof: Proof, setting: Setting) -> Level:
    level = METHODS[proof.method].level
    return Level(max(level - 1, 0)) if _is_channel(proof) and _recent(proof, setting) else level


def _recent(proof: Proof, setting: Setting) -> bool:
    """Dsar rule 27: a contact point changed shortly before the request is downgraded."""
    limit = setting.received_at - timedelta(days=setting.recent_contact_days)
    return proof.known_since is not None and proof.known_since > limit


def _is_channel(proof: Proof) -> bool:
    return METHODS[proof.method].standing is Standing.CHANNEL


def _is_mandate(proof: Proof) -> bool:
    return METHODS[proof.method].standing is Standing.MANDATE


def _reason(sound: Sequence[Proof], faults: Sequence[Lack], needed: Level, setting: Setting) -> Lack:
    if faults:
        return faults[0]
    if not sound:
        return Lack.NO_PROOF
    if any(_is_channel(proof) and _recent(proof, setting) for proof in sound):
        return Lack.RECENT_CONTACT
    channels = {proof.instrument for proof in sound if _is_channel(proof)}
    return Lack.ONE_CHANNEL_ONLY if needed is Level.L2 and len(channels) == 1 else Lack.LEVEL_TOO_LOW


def question_fault(
    method: Method,
    doubt: DoubtCode | None,
    *,
    needed: Level,
    has: Level,
    approvers: frozenset[str],
    override: bool,
) -> str | None:
    """Return the stable code that forbids asking for `method`, or None (dsar rules 24, 25, 26, 28).

    `has` is the level already proved; `override` says that a written reason for asking above the need is on file.
    """
    if doubt is None:
        return "no_doubt"  # dsar rule 24
    if method is Method.ID_DOCUMENT:
        return _document_fault(needed=needed, has=has, approvers=approvers)
    return "above_need" if METHODS[method].level > needed and not override else None  # dsar rule 26


def _document_fault(*, needed: Level, has: Level, approvers: frozenset[str]) -> str | None:
    if has >= Level.L2 or needed < Level.L4:  # dsar rules 25, 28
        return "document_not_allowed"
    return "second_person_needed" if len(approvers) < 2 else None


def document_destroyed_by(received_at: datetime, practice: Practice) -> datetime:
    """Return when the copy of a document dies at the latest; the decision kills it sooner (dsar rule 29)."""
    return received_at + timedelta(hours=practice.document_hours)


def sensitivity(policy: Policy, controller: ControllerId) -> int:
    """Return the highest sensitivity among a controller's categories: what is found is not known before the search."""
    mine = [purpose for purpose in policy.purposes.values() if purpose.controller == controller]
    used = {category for purpose in mine for category in purpose.needed | purpose.optional}
    return max((policy.categories[category].sensitivity for category in used), default=3)

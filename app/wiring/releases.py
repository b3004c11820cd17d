"""How an anonymised table leaves: planned by the operator, approved by a DPO on the console, released through the gate
(exports.md rules 4, 6, 7).

Planning and releasing each make the table anew from what waits in the pool; the approval names the digest of the files
that were shown, so whatever changed in between (an erasure, a new arrival, another policy) closes the gate. Regard
holds no analysable rows of the living: the live base is handed in by whoever has it, and without it nothing leaves.
Once a cohort is sealed the pool keys of its members are destroyed: no backup gives their values back.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from app.exports.attacks import Earlier, outline
from app.exports.cells import Cells, Row, read_cells
from app.exports.errors import ExportError
from app.exports.gate import Approval, Candidate, Reason, Refused, Released, judge_cohort, judge_release, prepare
from app.exports.output import Output
from app.exports.profile import Profile
from app.exports.risk import report
from app.ledger.bundle import About, Selection
from app.profiles import HOUSE
from app.store.exports import HeldBack, ReleaseCandidate, SealedCohort
from app.vault.errors import Erased, UnknownKey, UnknownSubject
from app.vault.keys import KeyClass, Scope
from app.vault.ports import ErasureState
from app.wiring.house import House
from app.wiring.operator import OPERATOR
from app.wiring.pooling import doom_cohort, note_shredded, shred_of
from consent.vocabulary import ControllerId, SubjectRef

POOL = "statistics.pool"
"""The category of key under which held-back values rest."""
_RELEASED = "export.released"


class ReleaseError(ExportError):
    """What goes wrong around a release."""

    code = "release_error"


class ProfileUnknown(ReleaseError):
    """The pack has no release profile of this name."""

    code = "release_profile_unknown"


class CandidateUnknown(ReleaseError):
    """No such candidate, or another controller's."""

    code = "release_candidate_unknown"


class AlreadyReleased(ReleaseError):
    """The candidate has left before."""

    code = "release_done"


class ReleaseDamaged(ReleaseError):
    """What is stored of a release is not what its DPO approved."""

    code = "release_damaged"


class CohortUnknown(ReleaseError):
    """No such cohort, or another controller's."""

    code = "cohort_unknown"


class ReleaseRefused(ReleaseError):
    """The gate stays shut; `reasons` are all of them."""

    code = "release_refused"

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self.reasons = tuple(reasons)
        super().__init__("the gate refuses: " + "; ".join(f"{each.ground.value} ({each.detail})" for each in reasons))


@dataclass(frozen=True, slots=True)
class Departed:
    """A table that has left: its cohort, its files, and the ledger entry."""

    cohort: str
    entry: str
    subjects: int
    approved_by: str
    output: Output = field(repr=False)


def release_profile(house: House, profile: str) -> Profile:
    """Return a release profile of the pack. Raises ProfileUnknown, ProfileFaults."""
    found = house.policy.exports.get(profile)
    if found is None:
        raise ProfileUnknown(f"the pack has no release profile {profile!r}")
    return Profile.from_plain(found.plain, house.policy.hierarchies)


def pool_scope(controller: ControllerId, subject: SubjectRef) -> Scope:
    """Return under which key a subject's held-back values rest; the record's name is the profile's."""
    return Scope(controller, subject, HOUSE, POOL, key_class=KeyClass.POOL)


def seal_for_pool(house: House, subject: SubjectRef, profile: Profile, values: Mapping[str, object]) -> bytes:
    """Return a subject's values, by column of the profile, sealed for `hold_back`."""
    plain = json.dumps(dict(values), sort_keys=True).encode()
    return house.vault.seal(pool_scope(house.controller, subject), profile.id, plain)


def plan_release(house: House, profile: str, live: Iterable[Row] | None) -> ReleaseCandidate:
    """Store what waits in the pool as a candidate, with the report its DPO reads; returns it.

    `live` are the rows (subject reference, column -> value) of everybody whose data is still held. Raises
    ReleaseRefused with every reason while the cohort cannot be released at all, approval apart (rule 4).
    """
    asked = release_profile(house, profile)
    candidate = _made(house, asked)
    base, earlier = _live(asked, live), _earlier(house)
    reasons = judge_cohort(candidate, live=base, earlier=earlier)
    if reasons:
        raise ReleaseRefused(reasons)
    told = report(candidate, live=base, earlier=earlier)
    planned = ReleaseCandidate(
        id=house.units.ids.new("rel"),
        controller=house.controller,
        profile=asked.id,
        digest=candidate.output.digest,
        report=told,
        planned_at=house.units.clock.now(),
    )
    with house.units.writing() as unit:
        unit.release_candidates.add(planned)
        unit.journal.record(
            "export.planned",
            actor=OPERATOR,
            controller=house.controller,
            subject=None,
            payload={"candidate": planned.id, "digest": planned.digest},
        )
        unit.commit()
    return planned


def planned_releases(house: House) -> Sequence[ReleaseCandidate]:
    """Return what was planned, newest first, with who approved it and what it became."""
    with house.units.reading() as unit:
        return unit.release_candidates.of([house.controller])


def release(house: House, candidate: str, live: Iterable[Row] | None) -> Departed:
    """Judge the candidate again with its recorded approval; seal its cohort and hand out the files.

    Raises CandidateUnknown, AlreadyReleased, ReleaseRefused (not approved, or no longer the files that were),
    PoolChanged when somebody left the pool at this very moment.
    """
    planned = _planned(house, candidate)
    if planned.cohort is not None:
        raise AlreadyReleased(f"released as {planned.cohort}")
    profile = release_profile(house, planned.profile)
    made = _made(house, profile)
    approval = None if planned.approved_by is None else Approval(planned.approved_by, planned.digest)
    verdict = judge_release(made, live=_live(profile, live), earlier=_earlier(house), approval=approval)
    if isinstance(verdict, Refused):
        raise ReleaseRefused(verdict.reasons)
    cohort = _cohort(house, made, verdict)
    entry = _sealed(house, planned, cohort, [SubjectRef(reference) for reference in made.cells.references])
    return Departed(cohort.id, entry, cohort.subjects, cohort.approved_by, cohort.output)


def departed(house: House, candidate: str) -> Departed:
    """Hand out again, byte for byte, the files of a candidate that has left: they may never have reached their folder.

    Nothing is judged, sealed or entered anew. Raises CandidateUnknown, CohortUnknown when it has not left, and
    ReleaseDamaged.
    """
    planned = _planned(house, candidate)
    with house.units.reading() as unit:
        cohort = None if planned.cohort is None else unit.exports.cohort(house.controller, planned.cohort)
    if cohort is None:
        raise CohortUnknown("it has not been released")
    if cohort.output.digest != planned.digest:
        raise ReleaseDamaged("the stored files are not those that were approved")
    return Departed(cohort.id, _entry(house, cohort.id), cohort.subjects, cohort.approved_by, cohort.output)


def _planned(house: House, candidate: str) -> ReleaseCandidate:
    with house.units.reading() as unit:
        planned = unit.release_candidates.find(candidate)
    if planned is None or planned.controller != house.controller:
        raise CandidateUnknown("no such candidate")
    return planned


def _entry(house: House, cohort: str) -> str:
    for told in house.ledger.recorded(Selection(About.EXPORT, (cohort,))):
        if told.kind == _RELEASED:
            return told.id
    raise ReleaseDamaged("the ledger does not tell of this release")


def _cohort(house: House, made: Candidate, verdict: Released) -> SealedCohort:
    return SealedCohort(
        id=house.units.ids.new("coh"),
        controller=house.controller,
        profile=made.table.profile.id,
        schema_version=made.table.profile.schema_version,
        subjects=len(made.cells.references),
        output=verdict.output,
        outline=outline(made.table),
        approved_by=verdict.approved_by,
        released_at=house.units.clock.now(),
    )


def shred_pool_keys(house: House, cohort: str) -> ErasureState:
    """Destroy the pool keys of a sealed cohort's members and return where that stands; again resumes it.

    Raises CohortUnknown, and what `Erasures.advance` raises: then it waits, and is asked for again.
    """
    with house.units.reading() as unit:
        if unit.exports.cohort(house.controller, cohort) is None:
            raise CohortUnknown("no such cohort")
    doom_cohort(house.units, house.vault, house.controller, cohort)
    # the service beside it may be at work: another name, so that neither takes the other's work for its own
    erasures = house.vault.erasures.under(f"{house.settings.executor}/command/{os.getpid()}")
    after = erasures.drive(shred_of(cohort), now=True)
    if after is ErasureState.CERTIFIED:
        note_shredded(house.units, house.controller, cohort, by=OPERATOR)
    return after


def _sealed(house: House, planned: ReleaseCandidate, cohort: SealedCohort, members: Sequence[SubjectRef]) -> str:
    """Seal the cohort, mark the candidate and write the ledger entry, all or nothing; returns the entry."""
    with house.units.writing() as unit:
        unit.exports.seal(cohort, members)
        if not unit.release_candidates.released(planned.id, cohort.id):
            raise AlreadyReleased("released meanwhile")
        entry = unit.journal.record(
            _RELEASED,
            actor=OPERATOR,
            controller=house.controller,
            subject=None,
            payload={
                "candidate": planned.id,
                "cohort": cohort.id,
                "digest": cohort.output.digest,
                "approved_by": cohort.approved_by,
            },
        )
        unit.commit()
    return entry


def _made(house: House, profile: Profile) -> Candidate:
    return prepare(profile, read_cells(profile, _waiting(house, profile), random.SystemRandom()), house.policy.digest)


def _waiting(house: House, profile: Profile) -> Iterator[Row]:
    """Yield what waits in the pool, opened; whoever's key is destroyed or lost is not there any more."""
    now = house.units.clock.now()
    with house.units.reading() as unit:
        held = unit.exports.open_pool(house.controller, profile.id, now=now)
    for each in held:
        values = _opened(house, each)
        if values is not None and each.schema_version == profile.schema_version:
            yield each.subject, values


def _opened(house: House, held: HeldBack) -> Mapping[str, object] | None:
    try:
        plain = house.vault.open(pool_scope(held.controller, held.subject), held.profile, held.sealed)
    except (Erased, UnknownKey, UnknownSubject):
        # a key store that was restored does not know the newest people: their values open with nothing any more
        return None
    values: Mapping[str, object] = json.loads(plain)
    return values


def _live(profile: Profile, rows: Iterable[Row] | None) -> Cells | None:
    return None if rows is None else read_cells(profile, rows, random.SystemRandom())


def _earlier(house: House) -> Sequence[Earlier]:
    with house.units.reading() as unit:
        return unit.exports.earlier(house.controller)

"""Asking for an erasure, and asking about one: the journal's first entry, and where each stands (vault.md section 5).

From the first entry on the keys that go are refused. A rotation is an erasure of nobody; tombstones ask again after a
restore. What is asked for is carried out by `app.vault.erasure`; what it waits for is decided in `app.vault.guarding`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from app.vault.errors import ErasureConflict, ErasureUnknown, KeyDamaged, UnknownSubject
from app.vault.guarding import A_DAY, Terms, Wait, check_approver, hold_of, missing, wait_of
from app.vault.keys import Keep, KeyClass, Scope, Selector, Target
from app.vault.ports import (
    CLOCKS_DIFFER,
    LONGEST_LEASE,
    Approval,
    Clock,
    DataKey,
    Erasure,
    ErasureSite,
    ErasureState,
    ErasureTarget,
    Hold,
    Json,
    KeyStore,
    KeyTransaction,
    NamedKey,
    Partition,
    SubjectKey,
)
from app.vault.tombstones import Tombstone

_LEASE: Final = timedelta(seconds=LONGEST_LEASE)


@dataclass(frozen=True, slots=True)
class _Restraint:
    """Who asked, and what keeps the physical part of an erasure waiting from the start."""

    by: str | None = None
    hold: Hold | None = None
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """A subject's key and data keys in one class, and what this target takes of them."""

    target: Target
    subject_key: SubjectKey
    doomed: tuple[DataKey, ...]
    kept: tuple[tuple[DataKey, Keep | None], ...]


class Requests:
    """What is asked of the vault to erase, from the request to the certificate; others carry it out."""

    def __init__(self, store: KeyStore, *, clock: Clock, terms: Terms) -> None:
        """`terms`: when the physical work may begin."""
        self._store = store
        self._clock = clock
        self._terms = terms

    # Asking

    def request(self, erasure_id: str, targets: Sequence[Target], *, by: str | None = None) -> ErasureState:
        """Journal an erasure and refuse its keys from now on; the same request again returns its present state.

        `by`: the colleague who decided it, an opaque id; they are not one of those who agree to a held one.
        Raises `UnknownSubject`, `ErasureConflict`.
        """
        with self._store.writing() as tx:
            present = tx.erasure(erasure_id)
            if present is not None:
                return _same(present, targets)
            if any(_takes_people(each) for each in targets):
                tx.one_at_a_time()
            named = [(each.controller, each.subject, one) for each in targets for one in each.classes]
            _lock_partitions(tx, named)
            found = [each for target in targets for each in self._find(tx, target)]
            return self._journal(tx, erasure_id, found, self._restrained(tx, found, by))

    def rotate(self, rotation_id: str, places: Collection[tuple[KeyClass, int]]) -> ErasureState:
        """Journal a rotation: an erasure of nobody, which gives partitions a new root and a new epoch key.

        Every key of theirs is re-wrapped and verified, the old root is destroyed; there is nothing to certify. The same
        id again returns its present state. Raises `KeyDamaged` for a partition that is not there.
        """
        with self._store.writing() as tx:
            present = tx.erasure(rotation_id)
            if present is not None:
                return present.state
            asked = _asked(rotation_id, self._clock.now(), (), set(places))
            for site in asked.sites:
                partition_of(tx, site)
            tx.add_erasure(replace(asked, acknowledged=True))
            return asked.state

    def _find(self, tx: KeyTransaction, target: Target) -> list[_Found]:
        if not tx.known(target.controller, [target.subject]):
            raise UnknownSubject
        found = []
        for key_class in target.classes:
            subject_key = tx.subject_key(target.controller, target.subject, key_class, lock=True)
            if subject_key is not None:
                found.append(_sorted(target, subject_key, tx.data_keys(subject_key.id)))
        return found

    def _restrained(self, tx: KeyTransaction, found: Sequence[_Found], by: str | None) -> _Restraint:
        people = {(each.subject_key.controller, each.subject_key.subject) for each in found if _is_person(each)}
        if not people:
            return _Restraint(by)
        now = self._clock.now()
        hold = hold_of(tx.asked_since(now - A_DAY), people, self._terms)
        return _Restraint(by, hold, now + self._terms.cooling if self._terms.cooling else None)

    def _journal(
        self, tx: KeyTransaction, erasure_id: str, found: Sequence[_Found], restraint: _Restraint
    ) -> ErasureState:
        now = self._clock.now()
        # A subject key under which no data key goes opens nothing, in no backup either: no re-wrap on its account,
        # unless keys that went from under it before still open in an old copy. The whole promises for those too.
        open_still = tx.open_still(now) if any(_is_bare(each) for each in found) else ()
        taking = [each.subject_key for each in found if each.doomed or (_is_bare(each) and _name(each) in open_still)]
        asked = _asked(erasure_id, now, map(_as_target, found), {(key.key_class, key.partition) for key in taking})
        tx.add_erasure(
            replace(asked, requested_by=restraint.by, held_for=restraint.hold, not_before=restraint.not_before)
        )
        tx.doom([key.id for each in found for key in each.doomed], erasure_id)
        for each in (each for each in found if not each.target.only):
            key = each.subject_key
            tx.close_subject(key.controller, key.subject, key.key_class, now, erasure_id)
        return ErasureState.REQUESTED

    def acknowledge(self, erasure_id: str) -> None:
        """Note that every component has dropped its leases, so that the erasure need not wait for their end."""
        with self._store.writing() as tx:
            tx.acknowledge(erasure_id, self._clock.now())

    def approve(self, erasure_id: str, by: str) -> int:
        """Note that a colleague agrees to a held erasure; return how many more have to.

        `by` is an opaque staff id; that it is one, and may, is the caller's to see to.
        Raises `ErasureUnknown`, `NotHeld`, `SelfApproval`, `ApprovedBefore`.
        """
        with self._store.writing() as tx:
            tx.one_at_a_time()
            erasure = tx.erasure(erasure_id)
            if erasure is None:
                raise ErasureUnknown
            check_approver(erasure, by)
            left = missing(erasure) - 1
            tx.add_approval(erasure_id, Approval(by, self._clock.now()), last=left <= 0)
        return max(0, left)

    # Asking about

    def state(self, erasure_id: str) -> ErasureState:
        """Return where it stands; raises `ErasureUnknown`."""
        return self.journal(erasure_id).state

    def journal(self, erasure_id: str) -> Erasure:
        """Return all that is journalled; raises `ErasureUnknown`."""
        with self._store.reading() as tx:
            return journal_of(tx, erasure_id)

    def waits(self, erasure_id: str) -> Wait | None:
        """Return what its next step waits for, None when it may be taken; raises `ErasureUnknown`."""
        return self._look(erasure_id)[1]

    def _look(self, erasure_id: str) -> tuple[Erasure, Wait | None]:
        with self._store.reading() as tx:
            erasure = journal_of(tx, erasure_id)
            leased = tx.leased_until(erasure_id) if erasure.state is ErasureState.REQUESTED else None
        now = self._clock.now()
        if leased is not None and leased > now + _LEASE + CLOCKS_DIFFER:
            leased = self._shortened(erasure_id, now + _LEASE)
        return erasure, wait_of(erasure, leased, self._terms, now)

    def _shortened(self, erasure_id: str, until: datetime) -> datetime:
        """A clock was set back since the keys were lent: from now on they are out for one longest lease, no more."""
        with self._store.writing() as tx:
            tx.shorten_leases(erasure_id, until)
        return until

    def due_at(self, erasure_id: str) -> datetime | None:
        """When `advance` will go on, where that is known: leases end, a cooling period ends, a batch begins."""
        wait = self.waits(erasure_id)
        return None if wait is None else wait.until

    def pending(self) -> tuple[str, ...]:
        """Return the ids of erasures that have not ended, oldest first."""
        with self._store.reading() as tx:
            return tuple(tx.unfinished())

    def unfinished(self) -> Sequence[tuple[ErasureState, int, datetime]]:
        """Return (state, how many, when the oldest was asked for) of erasures and rotations that have not ended."""
        with self._store.reading() as tx:
            return tx.unfinished_by_state()

    def held(self) -> tuple[str, ...]:
        """Return the ids of erasures that wait for people to agree, oldest first."""
        with self._store.reading() as tx:
            return tuple(tx.held())

    def keeping(self) -> tuple[str, ...]:
        """Return the ids of erasures whose old roots are kept for backups, those that end first before the others."""
        with self._store.reading() as tx:
            return tuple(dict.fromkeys(erasure_id for erasure_id, _ in tx.kept_sites(None)))

    def certificates(self, erasure_id: str) -> tuple[Mapping[str, Json], ...]:
        """Return one signed certificate for each subject, once CERTIFIED; raises `ErasureUnknown`."""
        return self.journal(erasure_id).certificates

    def completions(self, erasure_id: str) -> tuple[Mapping[str, Json], ...]:
        """Return the signed words that old roots kept for backups are gone; raises `ErasureUnknown`."""
        return self.journal(erasure_id).completions

    # After a restore

    def replay(self, tombstones: Sequence[Tombstone]) -> tuple[str, ...]:
        """Ask again for what a restored store brought back; returns all erasures to drive, old ones included."""
        groups: dict[str, list[Tombstone]] = {}
        for stone in tombstones:
            groups.setdefault(stone.erasure, []).append(stone)
        for erasure_id, stones in groups.items():
            with self._store.writing() as tx:
                self._replay_one(tx, f"{erasure_id.removesuffix('.replay')}.replay", erasure_id, stones)
        return self.pending()

    def _replay_one(self, tx: KeyTransaction, replay_id: str, origin: str, stones: Sequence[Tombstone]) -> None:
        journalled = tx.erasure(origin)
        if journalled is not None and journalled.state is ErasureState.REQUESTED:
            tx.permit(origin, self._clock.now())  # its tombstone says that it was agreed to and had cooled down
        goes_on = journalled is not None and journalled.state is not ErasureState.CERTIFIED
        if goes_on or tx.erasure(replay_id) is not None:
            return
        _lock_partitions(tx, [(each.controller, each.subject, each.key_class) for each in stones])
        self._close_unknown(tx, origin, stones)
        found = [each for stone in stones for each in _brought_back(tx, stone)]
        if found:
            self._journal(tx, replay_id, found, _Restraint())

    @staticmethod
    def _close_unknown(tx: KeyTransaction, origin: str, stones: Sequence[Tombstone]) -> None:
        """An erased subject that is newer than the restored store: no key is ever made for them there."""
        for stone in (stone for stone in stones if stone.whole):
            if tx.subject_key(stone.controller, stone.subject, stone.key_class) is None:
                at = datetime.fromisoformat(stone.at)
                tx.close_subject(stone.controller, stone.subject, stone.key_class, at, origin)


def _asked(
    erasure_id: str, at: datetime, targets: Iterable[ErasureTarget], places: Iterable[tuple[KeyClass, int]]
) -> Erasure:
    """The first entry of a journal; sites are in the order in which everybody holds partitions."""
    return Erasure(
        erasure_id,
        ErasureState.REQUESTED,
        at,
        acknowledged=False,
        committed_at=None,
        targets=tuple(targets),
        sites=tuple(ErasureSite(key_class, number) for key_class, number in sorted(places)),
        scan=None,
        certificates=(),
    )


def journal_of(tx: KeyTransaction, erasure_id: str) -> Erasure:
    """Return an erasure's journal; raises `ErasureUnknown`."""
    found = tx.erasure(erasure_id)
    if found is None:
        raise ErasureUnknown
    return found


def _takes_people(target: Target) -> bool:
    return not target.only and KeyClass.DATA in target.classes


def _is_person(found: _Found) -> bool:
    return _takes_people(found.target) and found.subject_key.key_class is KeyClass.DATA


def _is_bare(found: _Found) -> bool:
    """Whether a whole subject is erased that has nothing left to take."""
    return not (found.target.only or found.doomed)


def _name(found: _Found) -> tuple[str, str, KeyClass]:
    return found.subject_key.controller, found.subject_key.subject, found.subject_key.key_class


def _sorted(target: Target, subject_key: SubjectKey, keys: Sequence[DataKey]) -> _Found:
    """Take what the target itself names, doomed before or not: an erasure asked for earlier may never be agreed to."""
    doomed, kept = [], []
    for key in keys:
        keep = _keep(target, key.scope)
        if keep is not None or (target.only and not any(each.takes(key.scope) for each in target.only)):
            # Doomed by another erasure already: that one's certificate accounts for it, this one promises no keeping.
            kept.append((key, keep if key.doomed_by is None else None))
        else:
            doomed.append(key)
    return _Found(target, subject_key, tuple(doomed), tuple(kept))


def _keep(target: Target, scope: Scope) -> Keep | None:
    return next((keep for keep in target.keep if keep.selector.takes(scope)), None)


def _as_target(found: _Found) -> ErasureTarget:
    key = found.subject_key
    retained = [(kept, keep) for kept, keep in found.kept if keep is not None]
    return ErasureTarget(
        key.controller,
        key.subject,
        key.key_class,
        key.partition,
        not found.target.only,
        key.id,
        tuple(_named(each, None) for each in found.doomed),
        tuple(_named(each, keep) for each, keep in retained),
    )


def _named(key: DataKey, keep: Keep | None) -> NamedKey:
    scope = key.scope
    until, reason = (keep.until.isoformat(), keep.reason) if keep is not None else (None, None)
    return NamedKey(key.id, scope.holder, scope.category, scope.basis.value, scope.life, until, reason)


def _same(present: Erasure, targets: Sequence[Target]) -> ErasureState:
    journalled = {(each.controller, each.subject) for each in present.targets}
    if not journalled <= {(each.controller, each.subject) for each in targets}:
        raise ErasureConflict
    return present.state


def _lock_partitions(tx: KeyTransaction, named: Sequence[tuple[str, str, KeyClass]]) -> None:
    """Hold the partitions of these subjects' keys, in order and before the keys: nobody then waits in a circle."""
    keys = [tx.subject_key(*each) for each in named]
    hold_partitions(tx, [(key.key_class, key.partition) for key in keys if key is not None])


def hold_partitions(tx: KeyTransaction, places: Iterable[tuple[KeyClass, int]]) -> None:
    """Hold these partitions in the one order that everybody holds them in."""
    for key_class, number in sorted(set(places)):
        tx.partition(key_class, number, lock=True)


def _brought_back(tx: KeyTransaction, stone: Tombstone) -> list[_Found]:
    """What of a tombstone lives in this store again."""
    subject_key = tx.subject_key(stone.controller, stone.subject, stone.key_class, lock=True)
    if subject_key is None:
        return []
    keys = tx.data_keys(subject_key.id)
    doomed = tuple(key for key in keys if key.id.hex() in stone.keys)
    closed = tx.erased_at(stone.controller, stone.subject, stone.key_class) is not None
    if not (doomed or (stone.whole and not closed)):
        return []
    only = () if stone.whole else (Selector(),)
    target = Target(stone.controller, stone.subject, only=only, classes=(stone.key_class,))
    kept = tuple((key, None) for key in keys if key not in doomed)
    return [_Found(target, subject_key, doomed, kept)]


def partition_of(tx: KeyTransaction, site: ErasureSite) -> Partition:
    """Return the partition of a site as it stands; raises `KeyDamaged` where it is gone."""
    found = tx.partition(site.key_class, site.partition)
    if found is None:
        raise KeyDamaged
    return found

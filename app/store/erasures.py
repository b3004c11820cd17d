"""The journal of erasures: what was asked, agreed to, done, signed, and what is searched for (vault.md section 5).

Five tables of the key store, written in the transaction that changes the keys (`app.store.keystore`), so that a journal
never says more than was done. Leaves out the order of the steps, which is `app.vault.erasure`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from app.store.rows.keys import ErasureApprovalRow, ErasureProbeRow, ErasureRow, ErasureSiteRow, ErasureTargetRow
from app.store.statements import Statements, chunks
from app.vault.errors import ErasureUnknown, PartitionBusy
from app.vault.keys import KeyClass
from app.vault.ports import (
    CLOCKS_DIFFER,
    REPLAYED,
    Approval,
    Erasure,
    ErasureSite,
    ErasureState,
    ErasureTarget,
    Hold,
    Json,
    NamedKey,
    RootState,
    Scan,
)

_PERMITTED = or_(ErasureRow.held_for.is_(None), ErasureRow.approved_at.is_not(None))
_SITE = tuple(getattr(ErasureSiteRow, each.name) for each in fields(ErasureSite))
_KEPT = ErasureSiteRow.kept_until.is_not(None) & (ErasureSiteRow.root_state == RootState.ACTIVE)

# The three of every step of an erasure, for each member of its batch.
_JOURNAL = select(
    ErasureRow.state,
    ErasureRow.requested_at,
    ErasureRow.acknowledged_at,
    ErasureRow.committed_at,
    ErasureRow.scan,
    ErasureRow.certificates,
    ErasureRow.changed_at,
    ErasureRow.batch,
    ErasureRow.requested_by,
    ErasureRow.held_for,
    ErasureRow.approved_at,
    ErasureRow.not_before,
    ErasureRow.completions,
).where(ErasureRow.id == bindparam("erasure"))
_TARGETS = (
    select(*(getattr(ErasureTargetRow, each.name) for each in fields(ErasureTarget)))
    .where(ErasureTargetRow.erasure_id == bindparam("erasure"))
    .order_by(ErasureTargetRow.ordinal)
)
_SITES = (
    select(*(getattr(ErasureSiteRow, each.name) for each in fields(ErasureSite)))
    .where(ErasureSiteRow.erasure_id == bindparam("erasure"))
    .order_by(ErasureSiteRow.key_class, ErasureSiteRow.partition)
)

_FREE = or_(
    ErasureRow.worker.is_(None),
    ErasureRow.worker == bindparam("by"),
    ErasureRow.worker_until <= bindparam("now"),
    ErasureRow.worker_until > bindparam("late"),
)
_TAKE = (
    update(ErasureRow)
    .where(ErasureRow.id == bindparam("erasure"), _FREE)
    .values(worker=bindparam("by"), worker_until=bindparam("until"))
)
_GIVE_BACK = (
    update(ErasureRow)
    .where(ErasureRow.id == bindparam("erasure"), ErasureRow.worker == bindparam("by"))
    .values(worker=None, worker_until=None)
)


class SqlErasures(Statements):
    """The part of the vault's `KeyTransaction` that journals erasures."""

    def add_erasure(self, erasure: Erasure) -> None:
        """Open the journal of an erasure."""
        row: dict[str, Any] = {
            "id": erasure.id,
            "state": erasure.state.value,
            "requested_at": erasure.requested_at,
            "changed_at": erasure.requested_at,
            "certificates": [],
            "requested_by": erasure.requested_by,
            "held_for": erasure.held_for,
            "not_before": erasure.not_before,
        }
        self._connection.execute(insert(ErasureRow), [row])
        self._insert(ErasureTargetRow, [_target_row(erasure.id, *each) for each in enumerate(erasure.targets)])
        self._insert(ErasureSiteRow, [_site_row(erasure.id, site) for site in erasure.sites])

    def erasure(self, erasure_id: str) -> Erasure | None:
        """Return the whole journal of one."""
        row = self._connection.execute(_JOURNAL, {"erasure": erasure_id}).one_or_none()
        if row is None:
            return None
        return Erasure(
            erasure_id,
            ErasureState(row.state),
            row.requested_at,
            row.acknowledged_at is not None,
            row.committed_at,
            self._targets(erasure_id),
            self._sites(erasure_id),
            None if row.scan is None else Scan(**row.scan),
            tuple(row.certificates),
            row.changed_at,
            row.batch,
            row.requested_by,
            None if row.held_for is None else Hold(row.held_for),
            row.approved_at,
            row.not_before,
            self._approvals(erasure_id) if row.held_for is not None else (),
            tuple(row.completions or ()),
        )

    def _approvals(self, erasure_id: str) -> tuple[Approval, ...]:
        asked = select(ErasureApprovalRow.approver, ErasureApprovalRow.at)
        asked = asked.where(ErasureApprovalRow.erasure_id == erasure_id)
        return tuple(Approval(*row) for row in self._connection.execute(asked.order_by(ErasureApprovalRow.at)))

    def _targets(self, erasure_id: str) -> tuple[ErasureTarget, ...]:
        return tuple(_target(row) for row in self._connection.execute(_TARGETS, {"erasure": erasure_id}))

    def _sites(self, erasure_id: str) -> tuple[ErasureSite, ...]:
        rows = self._connection.execute(_SITES, {"erasure": erasure_id})
        return tuple(ErasureSite(KeyClass(row[0]), *row[1:]) for row in rows)

    def unfinished(self) -> Sequence[str]:
        """Return the ids of those that have not ended, oldest first."""
        asked = select(ErasureRow.id).where(ErasureRow.state != ErasureState.CERTIFIED)
        return list(self._connection.execute(asked.order_by(ErasureRow.requested_at, ErasureRow.id)).scalars())

    def unfinished_by_state(self) -> Sequence[tuple[ErasureState, int, datetime]]:
        """Return (state, how many, since when the oldest was asked for) of those that have not ended."""
        oldest = func.min(ErasureRow.requested_at)
        asked = select(ErasureRow.state, func.count(), oldest).where(ErasureRow.state != ErasureState.CERTIFIED)
        rows = self._connection.execute(asked.group_by(ErasureRow.state).order_by(ErasureRow.state))
        return [(ErasureState(state), count, at) for state, count, at in rows]

    def startable(self, now: datetime, moved_before: datetime | None) -> Sequence[str]:
        """Return the ids of those that wait neither for people nor for a cooling period, oldest first."""
        begun = ErasureRow.state != ErasureState.REQUESTED
        free = _PERMITTED & or_(ErasureRow.not_before.is_(None), ErasureRow.not_before <= now)
        asked = select(ErasureRow.id).where(ErasureRow.state != ErasureState.CERTIFIED, or_(begun, free))
        if moved_before is not None:
            # what moved in the future moved before a clock was set back: nobody has it in hand
            ahead = ErasureRow.changed_at > now + CLOCKS_DIFFER
            asked = asked.where(or_(ErasureRow.changed_at <= moved_before, ahead))
        return list(self._connection.execute(asked.order_by(ErasureRow.requested_at, ErasureRow.id)).scalars())

    def held(self) -> Sequence[str]:
        """Return the ids of those that wait for approval, oldest first."""
        asked = select(ErasureRow.id).where(ErasureRow.held_for.is_not(None), ErasureRow.approved_at.is_(None))
        return list(self._connection.execute(asked.order_by(ErasureRow.requested_at, ErasureRow.id)).scalars())

    def asked_since(self, since: datetime) -> frozenset[tuple[str, str]]:
        """Return (controller, subject) of whole people; what a restore asks for again was permitted before."""
        asked = (
            select(ErasureTargetRow.controller, ErasureTargetRow.subject)
            .join(ErasureRow, ErasureRow.id == ErasureTargetRow.erasure_id)
            .where(ErasureRow.requested_at > since, ErasureRow.id.not_like(f"%{REPLAYED}"))
            .where(ErasureTargetRow.whole, ErasureTargetRow.key_class == KeyClass.DATA)
        )
        return frozenset((row[0], row[1]) for row in self._connection.execute(asked))

    def add_approval(self, erasure_id: str, approval: Approval, *, last: bool) -> None:
        """Note a colleague's word; with the last one the erasure may begin."""
        row = {"erasure_id": erasure_id, "approver": approval.by, "at": approval.at}
        self._connection.execute(insert(ErasureApprovalRow), [row])
        if last:
            self._connection.execute(
                update(ErasureRow).where(ErasureRow.id == erasure_id).values(approved_at=approval.at)
            )

    def permit(self, erasure_id: str, at: datetime) -> None:
        """Let an erasure begin without asking or waiting again."""
        self._connection.execute(
            update(ErasureRow).where(ErasureRow.id == erasure_id).values(approved_at=at, not_before=None)
        )

    def acknowledge(self, erasure_id: str, at: datetime) -> None:
        """Note that no component holds a lease any more; raises `ErasureUnknown`."""
        if not self._changed(update(ErasureRow).where(ErasureRow.id == erasure_id).values(acknowledged_at=at)):
            raise ErasureUnknown

    def take(self, erasure_id: str, worker: str, now: datetime, until: datetime) -> bool:
        """Let one worker have it for a while. A hold that ends long after any could was taken before a clock was set
        back: nobody waits for it.
        """
        given = {"erasure": erasure_id, "by": worker, "now": now, "until": until, "late": until + CLOCKS_DIFFER}
        result: CursorResult[Any] = self._connection.execute(_TAKE, given)
        return result.rowcount > 0

    def give_back(self, erasure_id: str, worker: str) -> None:
        """End a worker's hold."""
        self._connection.execute(_GIVE_BACK, {"erasure": erasure_id, "by": worker})

    def hold(self, erasure_id: str, state: ErasureState, worker: str) -> bool:
        """Hold the journal's row while a step is taken; false when it is not this worker's to take."""
        mine = (ErasureRow.id == erasure_id, ErasureRow.state == state.value, ErasureRow.worker == worker)
        asked = select(ErasureRow.id).where(*mine).with_for_update()
        return self._connection.execute(asked).one_or_none() is not None

    def waiting(self, now: datetime) -> Sequence[str]:
        """Return, and hold, what may join a batch; rows that somebody else holds are left to them."""
        asked = select(ErasureRow.id).where(
            ErasureRow.state == ErasureState.KEY_ROW_REMOVED,
            ErasureRow.batch.is_(None),
            or_(ErasureRow.worker.is_(None), ErasureRow.worker_until <= now),
        )
        ordered = asked.order_by(ErasureRow.requested_at, ErasureRow.id).with_for_update(skip_locked=True)
        return list(self._connection.execute(ordered).scalars())

    def members(self, batch: str) -> Sequence[str]:
        """Return the ids of the erasures in a batch, in order."""
        asked = select(ErasureRow.id).where(ErasureRow.batch == batch).order_by(ErasureRow.id)
        return list(self._connection.execute(asked).scalars())

    def join(self, erasure_ids: Sequence[str], batch: str) -> None:
        """Put erasures into a batch."""
        for some in chunks(erasure_ids):
            self._connection.execute(update(ErasureRow).where(ErasureRow.id.in_(some)).values(batch=batch))

    def part(self, batch: str) -> None:
        """Make each member a batch of its own."""
        self._connection.execute(update(ErasureRow).where(ErasureRow.batch == batch).values(batch=ErasureRow.id))

    def move(self, erasure_id: str, old: ErasureState, new: ErasureState, worker: str, at: datetime) -> None:
        """Journal a step; raises `PartitionBusy` when another worker has it or moved it."""
        values: dict[str, Any] = {"state": new.value, "changed_at": at}
        if new is ErasureState.COMMITTED:
            values["committed_at"] = at
        mine = (ErasureRow.id == erasure_id, ErasureRow.state == old.value, ErasureRow.worker == worker)
        if not self._changed(update(ErasureRow).where(*mine).values(**values)):
            raise PartitionBusy

    def save_site(self, erasure_id: str, site: ErasureSite) -> None:
        """Journal what is known of a partition."""
        row = _site_row(erasure_id, site)
        names = ("erasure_id", "key_class", "partition")
        self._connection.execute(
            update(ErasureSiteRow)
            .where(*(getattr(ErasureSiteRow, name) == row[name] for name in names))
            .values({name: value for name, value in row.items() if name not in names})
        )

    def save_scan(self, erasure_id: str, scan: Scan) -> None:
        """Journal the byte search."""
        self._connection.execute(update(ErasureRow).where(ErasureRow.id == erasure_id).values(scan=asdict(scan)))

    def save_certificates(self, erasure_id: str, certificates: Sequence[Mapping[str, Json]]) -> None:
        """Keep the signed certificates."""
        self._connection.execute(
            update(ErasureRow).where(ErasureRow.id == erasure_id).values(certificates=list(certificates))
        )

    def recoverable_until(self, key_class: KeyClass, number: int) -> datetime | None:
        """Return until when an earlier root of the partition could be brought back."""
        mine = (ErasureSiteRow.key_class == key_class, ErasureSiteRow.partition == number)
        return self._connection.execute(select(func.max(ErasureSiteRow.irrevocable_at)).where(*mine)).scalar_one()

    def open_still(self, now: datetime) -> frozenset[tuple[str, str, KeyClass]]:
        """Return (controller, subject, class) of the targets of sites whose old root is not known to be gone by now."""
        same = (
            (ErasureTargetRow.erasure_id == ErasureSiteRow.erasure_id)
            & (ErasureTargetRow.key_class == ErasureSiteRow.key_class)
            & (ErasureTargetRow.partition == ErasureSiteRow.partition)
        )
        unknown = or_(ErasureSiteRow.root_state.is_(None), ErasureSiteRow.irrevocable_at.is_(None))
        asked = select(ErasureTargetRow.controller, ErasureTargetRow.subject, ErasureTargetRow.key_class)
        asked = asked.join(ErasureSiteRow, same).where(or_(unknown, _KEPT, ErasureSiteRow.irrevocable_at > now))
        return frozenset((row[0], row[1], KeyClass(row[2])) for row in self._connection.execute(asked))

    def lives_on(self, key_class: KeyClass, number: int, generation: int) -> bool:
        """Whether an earlier root was left by a commit and is in nobody's notes as ended or kept; each member of a
        batch has a note of its own of the same root, and one that says so is enough.
        """
        told = aliased(ErasureSiteRow)
        noted = exists().where(told.key_class == key_class, told.partition == number)
        noted = noted.where(told.old_root == ErasureSiteRow.old_root, told.root_state.is_not(None))
        asked = (
            select(ErasureRow.id)
            .join(ErasureSiteRow, ErasureSiteRow.erasure_id == ErasureRow.id)
            .where(ErasureSiteRow.key_class == key_class, ErasureSiteRow.partition == number)
            .where(ErasureSiteRow.root_state.is_(None), ErasureSiteRow.old_generation < generation)
            .where(ErasureRow.committed_at.is_not(None), ~noted)
        )
        return self._connection.execute(asked.limit(1)).one_or_none() is not None

    def kept_sites(self, until: datetime | None) -> Sequence[tuple[str, ErasureSite]]:
        """Return (erasure, site) of each old root that is kept for backups, until a moment or at all."""
        asked = select(ErasureSiteRow.erasure_id, *_SITE).where(_KEPT)
        asked = asked if until is None else asked.where(ErasureSiteRow.kept_until <= until)
        rows = self._connection.execute(asked.order_by(ErasureSiteRow.kept_until, ErasureSiteRow.erasure_id))
        return [(row[0], ErasureSite(KeyClass(row[1]), *row[2:])) for row in rows]

    def uncompleted(self) -> Sequence[str]:
        """Return the certified ones that kept roots, keep none any more, and have no completion."""
        ever = select(ErasureSiteRow.erasure_id).where(ErasureSiteRow.kept_until.is_not(None))
        still = select(ErasureSiteRow.erasure_id).where(_KEPT)
        asked = select(ErasureRow.id).where(
            ErasureRow.state == ErasureState.CERTIFIED,
            ErasureRow.completions.is_(None),
            ErasureRow.id.in_(ever),
            ErasureRow.id.not_in(still),
        )
        return list(self._connection.execute(asked.order_by(ErasureRow.id)).scalars())

    def save_completions(self, erasure_id: str, completions: Sequence[Mapping[str, Json]]) -> bool:
        """Keep the signed completions; the first ones stay."""
        none_yet = (ErasureRow.id == erasure_id, ErasureRow.completions.is_(None))
        return self._changed(update(ErasureRow).where(*none_yet).values(completions=list(completions)))

    def add_probes(self, erasure_id: str, probes: Sequence[bytes]) -> None:
        """Keep what the scan will look for, turned."""
        self._insert_new(ErasureProbeRow, [{"erasure_id": erasure_id, "turned": _turned(each)} for each in probes])

    def probes(self, erasure_id: str) -> Sequence[bytes]:
        """Return what the scan looks for."""
        asked = select(ErasureProbeRow.turned).where(ErasureProbeRow.erasure_id == erasure_id)
        return [_turned(each) for each in self._connection.execute(asked).scalars()]

    def drop_probes(self, erasure_id: str) -> None:
        """Forget what was looked for."""
        self._connection.execute(delete(ErasureProbeRow).where(ErasureProbeRow.erasure_id == erasure_id))


def _turned(probe: bytes) -> bytes:
    return bytes(each ^ 0xFF for each in probe)


def _target_row(erasure_id: str, ordinal: int, target: ErasureTarget) -> dict[str, Any]:
    return {
        **{each.name: getattr(target, each.name) for each in fields(target)},
        "erasure_id": erasure_id,
        "ordinal": ordinal,
        "key_class": target.key_class.value,
        "destroyed": [_named_row(key) for key in target.destroyed],
        "retained": [_named_row(key) for key in target.retained],
    }


def _target(row: Sequence[Any]) -> ErasureTarget:
    controller, subject, key_class, partition, whole, key_id, destroyed, retained = row
    named = (tuple(map(_named, keys)) for keys in (destroyed, retained))
    return ErasureTarget(controller, subject, KeyClass(key_class), partition, whole, key_id, *named)


def _named_row(key: NamedKey) -> dict[str, Any]:
    return {**asdict(key), "id": key.id.hex()}


def _named(found: Mapping[str, Any]) -> NamedKey:
    return NamedKey(**{**found, "id": bytes.fromhex(found["id"])})


def _site_row(erasure_id: str, site: ErasureSite) -> dict[str, Any]:
    values = {each.name: getattr(site, each.name) for each in fields(site)}
    return {**values, "erasure_id": erasure_id, "key_class": site.key_class.value}

"""The tables of the key store: wrapped keys, opaque ids, the journal of erasures (vault.md sections 1 and 5).

`controller` stands in every table about a person. Key ids are 16 raw bytes, wrapped keys 60.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, ForeignKey, Index, Integer, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.store.rows.base import Instant, KeysBase


class PartitionRow(KeysBase):
    """A partition's present generation."""

    __tablename__ = "partitions"

    key_class: Mapped[str] = mapped_column(String(8), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    generation: Mapped[int] = mapped_column(Integer)
    root: Mapped[str] = mapped_column(String(500))
    epoch_wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    claimed_by: Mapped[str | None] = mapped_column(String(100))


class AllotmentRow(KeysBase):
    """How many places in partitions are taken; one row."""

    __tablename__ = "allotments"

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    taken: Mapped[int] = mapped_column(BigInteger)


class SubjectKeyRow(KeysBase):
    """A subject key, and its form under the coming generation while its partition is re-wrapped."""

    __tablename__ = "subject_keys"
    __table_args__ = (
        UniqueConstraint("controller", "subject", "key_class"),
        Index(None, "key_class", "partition"),
    )

    id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    controller: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(100))
    key_class: Mapped[str] = mapped_column(String(8))
    partition: Mapped[int] = mapped_column(Integer)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    staged: Mapped[bytes | None] = mapped_column(LargeBinary)
    staged_generation: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(Instant)


class DataKeyRow(KeysBase):
    """A data key under its subject key. The reference is checked at commit: a partial shred replaces the parent."""

    __tablename__ = "data_keys"
    __table_args__ = (
        UniqueConstraint(
            "controller", "subject", "key_class", "holder", "category", "basis", "life", "sequence", name="uq_scope"
        ),
    )

    id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    subject_key_id: Mapped[bytes] = mapped_column(
        ForeignKey("subject_keys.id", deferrable=True, initially="DEFERRED"), index=True
    )
    controller: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(100))
    key_class: Mapped[str] = mapped_column(String(8))
    holder: Mapped[str] = mapped_column(String(100))
    category: Mapped[str] = mapped_column(String(200))
    basis: Mapped[str] = mapped_column(String(8))
    life: Mapped[str] = mapped_column(String(10))
    sequence: Mapped[int] = mapped_column(Integer)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Instant)
    leased_until: Mapped[datetime | None] = mapped_column(Instant)
    messages: Mapped[int] = mapped_column(BigInteger)
    doomed_by: Mapped[str | None] = mapped_column(String(100))


class DestroyedKeyRow(KeysBase):
    """What remains of a data key, so that "erased" can be told from "unknown"."""

    __tablename__ = "destroyed_keys"

    id: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)
    controller: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(100))
    key_class: Mapped[str] = mapped_column(String(8))
    holder: Mapped[str] = mapped_column(String(100))
    category: Mapped[str] = mapped_column(String(200))
    basis: Mapped[str] = mapped_column(String(8))
    life: Mapped[str] = mapped_column(String(10))
    destroyed_at: Mapped[datetime] = mapped_column(Instant)
    erasure_id: Mapped[str] = mapped_column(String(100), index=True)


class ErasedSubjectRow(KeysBase):
    """A subject erased as a whole in one class: no key is ever made for it again."""

    __tablename__ = "erased_subjects"

    controller: Mapped[str] = mapped_column(String(100), primary_key=True)
    subject: Mapped[str] = mapped_column(String(100), primary_key=True)
    key_class: Mapped[str] = mapped_column(String(8), primary_key=True)
    erased_at: Mapped[datetime] = mapped_column(Instant)
    erasure_id: Mapped[str] = mapped_column(String(100))


class IndexKeyRow(KeysBase):
    """The key of one blind index in one epoch."""

    __tablename__ = "index_keys"

    controller: Mapped[str] = mapped_column(String(100), primary_key=True)
    field: Mapped[str] = mapped_column(String(100), primary_key=True)
    epoch: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[bytes] = mapped_column(LargeBinary(16), unique=True)
    partition: Mapped[int] = mapped_column(Integer)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(Instant)


class ErasureRow(KeysBase):
    """The journal of one erasure."""

    __tablename__ = "erasures"

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    state: Mapped[str] = mapped_column(String(24), index=True)
    requested_at: Mapped[datetime] = mapped_column(Instant)
    changed_at: Mapped[datetime] = mapped_column(Instant)
    acknowledged_at: Mapped[datetime | None] = mapped_column(Instant)
    committed_at: Mapped[datetime | None] = mapped_column(Instant)
    worker: Mapped[str | None] = mapped_column(String(200))
    worker_until: Mapped[datetime | None] = mapped_column(Instant)
    scan: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    certificates: Mapped[list[Any]] = mapped_column(JSON)
    batch: Mapped[str | None] = mapped_column(String(100), index=True)
    requested_by: Mapped[str | None] = mapped_column(String(100))
    held_for: Mapped[str | None] = mapped_column(String(24))
    approved_at: Mapped[datetime | None] = mapped_column(Instant)
    not_before: Mapped[datetime | None] = mapped_column(Instant)
    completions: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))


class ErasureApprovalRow(KeysBase):
    """One colleague's word for an erasure that the guard holds; nobody's counts twice."""

    __tablename__ = "erasure_approvals"

    erasure_id: Mapped[str] = mapped_column(ForeignKey("erasures.id"), primary_key=True)
    approver: Mapped[str] = mapped_column(String(100), primary_key=True)
    at: Mapped[datetime] = mapped_column(Instant)


class ErasureTargetRow(KeysBase):
    """One subject in one class of one erasure."""

    __tablename__ = "erasure_targets"

    erasure_id: Mapped[str] = mapped_column(ForeignKey("erasures.id"), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    controller: Mapped[str] = mapped_column(String(100))
    subject: Mapped[str] = mapped_column(String(100))
    key_class: Mapped[str] = mapped_column(String(8))
    partition: Mapped[int] = mapped_column(Integer)
    whole: Mapped[bool] = mapped_column(Boolean)
    subject_key_id: Mapped[bytes] = mapped_column(LargeBinary(16))
    destroyed: Mapped[list[Any]] = mapped_column(JSON)
    retained: Mapped[list[Any]] = mapped_column(JSON)


class ErasureSiteRow(KeysBase):
    """One partition an erasure re-wraps."""

    __tablename__ = "erasure_sites"

    erasure_id: Mapped[str] = mapped_column(ForeignKey("erasures.id"), primary_key=True)
    key_class: Mapped[str] = mapped_column(String(8), primary_key=True)
    partition: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    old_generation: Mapped[int | None] = mapped_column(Integer)
    old_root: Mapped[str | None] = mapped_column(String(500))
    new_generation: Mapped[int | None] = mapped_column(Integer)
    new_root: Mapped[str | None] = mapped_column(String(500))
    new_epoch_wrapped: Mapped[bytes | None] = mapped_column(LargeBinary)
    keys_before: Mapped[int | None] = mapped_column(Integer)
    keys_after: Mapped[int | None] = mapped_column(Integer)
    inventory_before: Mapped[str | None] = mapped_column(String(64))
    inventory_after: Mapped[str | None] = mapped_column(String(64))
    root_state: Mapped[str | None] = mapped_column(String(24))
    irrevocable_at: Mapped[datetime | None] = mapped_column(Instant)
    assurance: Mapped[str | None] = mapped_column(String(500))
    evidence: Mapped[dict[str, Any]] = mapped_column(JSON)
    kept_until: Mapped[datetime | None] = mapped_column(Instant, index=True)


class ErasureProbeRow(KeysBase):
    """What the scan looks for: the nonce of a removed wrapped key, every bit turned so that this row is not a find."""

    __tablename__ = "erasure_probes"

    erasure_id: Mapped[str] = mapped_column(ForeignKey("erasures.id"), primary_key=True)
    turned: Mapped[bytes] = mapped_column(LargeBinary(12), primary_key=True)

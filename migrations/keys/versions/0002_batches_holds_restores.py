"""Batches, holds, marks of restores

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

from app.store.rows.base import Instant

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tombstone_marks",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("upto", sa.BigInteger(), nullable=False),
        sa.Column("lines", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("marked_at", Instant(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tombstone_marks")),
    )
    op.create_table(
        "erasure_approvals",
        sa.Column("erasure_id", sa.String(length=100), nullable=False),
        sa.Column("approver", sa.String(length=100), nullable=False),
        sa.Column("at", Instant(), nullable=False),
        sa.ForeignKeyConstraint(["erasure_id"], ["erasures.id"], name=op.f("fk_erasure_approvals_erasure_id_erasures")),
        sa.PrimaryKeyConstraint("erasure_id", "approver", name=op.f("pk_erasure_approvals")),
    )
    op.add_column("erasure_sites", sa.Column("kept_until", Instant(), nullable=True))
    op.create_index(op.f("ix_erasure_sites_kept_until"), "erasure_sites", ["kept_until"], unique=False)
    op.add_column("erasures", sa.Column("batch", sa.String(length=100), nullable=True))
    op.add_column("erasures", sa.Column("requested_by", sa.String(length=100), nullable=True))
    op.add_column("erasures", sa.Column("held_for", sa.String(length=24), nullable=True))
    op.add_column("erasures", sa.Column("approved_at", Instant(), nullable=True))
    op.add_column("erasures", sa.Column("not_before", Instant(), nullable=True))
    op.add_column("erasures", sa.Column("completions", sa.JSON(none_as_null=True), nullable=True))
    op.create_index(op.f("ix_erasures_batch"), "erasures", ["batch"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_erasures_batch"), table_name="erasures")
    op.drop_column("erasures", "completions")
    op.drop_column("erasures", "not_before")
    op.drop_column("erasures", "approved_at")
    op.drop_column("erasures", "held_for")
    op.drop_column("erasures", "requested_by")
    op.drop_column("erasures", "batch")
    op.drop_index(op.f("ix_erasure_sites_kept_until"), table_name="erasure_sites")
    op.drop_column("erasure_sites", "kept_until")
    op.drop_table("erasure_approvals")
    op.drop_table("tombstone_marks")

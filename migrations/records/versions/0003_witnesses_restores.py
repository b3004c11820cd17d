"""The ledger's witnesses and keys, marks of restores

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

from app.store.rows.base import Instant

revision = "0003"
down_revision = "0002"
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


def downgrade() -> None:
    op.drop_table("tombstone_marks")

"""Who still has something of a person: an index over the holders' tasks

Revision: 0004, after 0003.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_holder_tasks_subject", "holder_tasks", ["subject", "holder"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_holder_tasks_subject", table_name="holder_tasks")

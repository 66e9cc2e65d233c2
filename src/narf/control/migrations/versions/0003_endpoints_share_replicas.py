"""endpoints share replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("endpoint_replicas") as batch:
        batch.add_column(sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False))
        batch.drop_constraint("pk_endpoint_replicas", type_="primary")
        batch.create_primary_key("pk_endpoint_replicas", ["workload_id", "revision_id"])
    with op.batch_alter_table("endpoint_revisions") as batch:
        batch.add_column(sa.Column("apart_until", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("endpoints") as batch:
        batch.add_column(sa.Column("shared", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("endpoints") as batch:
        batch.drop_column("shared")
    with op.batch_alter_table("endpoint_revisions") as batch:
        batch.drop_column("apart_until")
    with op.batch_alter_table("endpoint_replicas") as batch:
        batch.drop_constraint("pk_endpoint_replicas", type_="primary")
        batch.create_primary_key("pk_endpoint_replicas", ["workload_id"])
        batch.drop_column("shared")

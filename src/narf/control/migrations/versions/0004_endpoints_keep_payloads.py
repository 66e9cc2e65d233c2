"""endpoints keep payloads."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "endpoint_payloads",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("endpoint_id", sa.String(length=40), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_endpoint_payloads")),
    )
    op.create_index(op.f("ix_endpoint_payloads_endpoint_id"), "endpoint_payloads", ["endpoint_id"])
    op.create_index("ix_endpoint_payloads_first_ms", "endpoint_payloads", ["first_ms"])
    with op.batch_alter_table("endpoints") as batch:
        batch.add_column(sa.Column("keep", sa.JSON(), server_default="{}", nullable=False))


def downgrade() -> None:
    with op.batch_alter_table("endpoints") as batch:
        batch.drop_column("keep")
    op.drop_table("endpoint_payloads")

"""What cannot be in one transaction, and a table that refers to itself."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TYPE state ADD VALUE IF NOT EXISTS 'sent'")
        op.create_index(
            "ix_order_open",
            "order",
            ["owner_id"],
            postgresql_where=sa.text("state <> 'sent'"),
            postgresql_concurrently=True,
        )
    op.add_column("owner", sa.Column("since", sa.DateTime, nullable=False, server_default=sa.func.now()))
    op.create_table(
        "node",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("parent_id", sa.Integer),
        sa.Column("owner_id", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_node"),
        sa.ForeignKeyConstraint(["parent_id"], ["other.node.id"], name="fk_node_parent_id_node"),
        sa.ForeignKeyConstraint(["owner_id"], ["owner.id"], name="fk_node_owner_id_owner"),
        schema="other",
    )


def downgrade() -> None:
    op.drop_table("node", schema="other")
    op.drop_column("owner", "since")
    with op.get_context().autocommit_block():
        op.drop_index("ix_order_open", "order", postgresql_concurrently=True)

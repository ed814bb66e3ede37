"""Tables as they were first."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("CREATE SCHEMA other")
    op.create_table(
        "person",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(20), nullable=False),
        sa.Column("unused", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_owner"),
    )
    op.create_table(
        "order",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True, start=100)),
        sa.Column("owner_id", sa.Integer, nullable=False),
        sa.Column("amount", sa.Numeric(8, 2), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_order"),
        sa.ForeignKeyConstraint(["owner_id"], ["person.id"], name="fk_order_person"),
    )
    person = sa.table("person", sa.column("name"), sa.column("unused"))
    op.bulk_insert(person, [{"name": f"p{n}", "unused": "x"} for n in range(20)])
    op.execute('INSERT INTO "order" (owner_id, amount) SELECT id, id * 10 FROM person ORDER BY id')


def downgrade() -> None:
    op.drop_table("order")
    op.drop_table("person")
    op.execute("DROP SCHEMA other")

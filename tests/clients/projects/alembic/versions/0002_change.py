"""Tables that hold rows are changed: renamed, widened, checked, filled."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.rename_table("person", "owner")
    op.alter_column("owner", "name", type_=sa.String(50), comment="unique")
    op.create_unique_constraint("uq_owner_name", "owner", ["name"])
    op.create_index("ix_owner_lower", "owner", [sa.text("lower(name)")])
    op.create_table_comment("owner", "who buys")
    op.drop_column("owner", "unused")
    op.drop_constraint("fk_order_person", "order")
    op.create_foreign_key("fk_order_owner_id_owner", "order", "owner", ["owner_id"], ["id"], ondelete="CASCADE")
    op.create_index("ix_order_owner_id", "order", ["owner_id"])
    op.alter_column("order", "amount", type_=sa.Numeric(10, 2))
    ENUM("new", "paid", name="state").create(op.get_bind())
    state = ENUM("new", "paid", name="state", create_type=False)
    op.add_column("order", sa.Column("state", state, server_default="new", nullable=False))
    op.add_column("order", sa.Column("tax", sa.Numeric, sa.Computed("amount * 0.2", persisted=True), nullable=False))
    op.add_column("order", sa.Column("words", ARRAY(sa.String)))
    op.add_column("order", sa.Column("extra", JSONB))
    op.add_column("order", sa.Column("number", sa.Integer))
    op.execute(sa.schema.CreateSequence(sa.Sequence("order_number", start=1000)))
    op.execute("UPDATE \"order\" SET number = nextval('order_number'), words = ARRAY['a', owner_id::text]")
    op.alter_column("order", "number", nullable=False)
    op.create_check_constraint(op.f("ck_order_amount"), "order", "amount >= 0")
    op.create_unique_constraint("uq_order_owner_id", "order", ["owner_id", "number"])
    op.create_index("ix_order_words", "order", ["words"], postgresql_using="gin")


def downgrade() -> None:
    op.drop_index("ix_order_words", "order")
    op.drop_constraint("uq_order_owner_id", "order")
    op.drop_constraint(op.f("ck_order_amount"), "order")
    for column in ("number", "extra", "words", "tax", "state"):
        op.drop_column("order", column)
    op.execute(sa.schema.DropSequence(sa.Sequence("order_number")))
    ENUM(name="state").drop(op.get_bind())
    op.alter_column("order", "amount", type_=sa.Numeric(8, 2))
    op.drop_index("ix_order_owner_id", "order")
    op.drop_constraint("fk_order_owner_id_owner", "order")
    op.create_foreign_key("fk_order_person", "order", "owner", ["owner_id"], ["id"])
    op.add_column("owner", sa.Column("unused", sa.Text))
    op.drop_table_comment("owner")
    op.drop_index("ix_owner_lower", "owner")
    op.drop_constraint("uq_owner_name", "owner")
    op.alter_column("owner", "name", type_=sa.String(20), comment=None)
    op.rename_table("owner", "person")

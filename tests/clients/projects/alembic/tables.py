"""Tables of SQLAlchemy's metadata, as a command: create, drop, write, inspect."""

import sys

from models import Base, Node, Order, Owner, State, engine
from sqlalchemy import func, inspect, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateSchema, DropSchema


def create() -> None:
    with engine.begin() as connection:
        connection.execute(CreateSchema("other", if_not_exists=True))
    Base.metadata.create_all(engine)
    Base.metadata.create_all(engine)  # finds all, makes nothing


def drop() -> None:
    Base.metadata.drop_all(engine)
    Base.metadata.drop_all(engine)
    with engine.begin() as connection:
        connection.execute(DropSchema("other"))


def write() -> None:
    with Session(engine) as session:
        owners = [Owner(name=f"owner {n}") for n in range(10)]
        for number, owner in enumerate(owners):
            owner.orders = [Order(state=State.paid, amount=number, words=["a", str(number)], extra={"n": number})]
        session.add_all(owners)
        session.flush()
        root = Node(owner_id=owners[0].id)
        session.add(root)
        session.flush()
        session.add_all([Node(parent_id=root.id) for _ in range(5)])
        session.commit()
        try:
            with session.begin_nested():
                session.add(Owner(name="owner 1"))
                session.flush()
        except IntegrityError:
            print("a second owner 1")
        session.execute(update(Order).where(Order.amount > 5).values(state=State.sent, amount=Order.amount + 1))
        session.delete(owners[9])
        session.commit()
        by_state = select(Order.state, func.count(), func.sum(Order.tax)).group_by(Order.state).order_by(Order.state)
        print(session.execute(by_state).all())
        numbers = select(Owner.name, Order.id, Order.number).join(Owner.orders).order_by(Order.id)
        print(session.execute(numbers).all())
        print(session.execute(text("SELECT count(*), max(id) FROM other.node")).all())


def look() -> None:
    found = inspect(engine)
    for schema in (None, "other"):
        for table in sorted(found.get_table_names(schema)):
            columns = [
                (c["name"], str(c["type"]), c["nullable"], c["default"]) for c in found.get_columns(table, schema)
            ]
            print(schema, table, columns)
            print(found.get_pk_constraint(table, schema), found.get_foreign_keys(table, schema))
            indexes = sorted(found.get_indexes(table, schema), key=str)
            print(indexes, sorted(found.get_unique_constraints(table, schema), key=str))
            print(found.get_check_constraints(table, schema), found.get_table_comment(table, schema))
    print(sorted(found.get_sequence_names()), found.get_schema_names())


{"create": create, "drop": drop, "write": write, "inspect": look}[sys.argv[1]]()

"""Tables with what SQLAlchemy's DDL has: identity, sequence, enum, computed column, comments, a schema."""

import os
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Numeric,
    Sequence,
    String,
    UniqueConstraint,
    create_engine,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class State(Enum):
    new = "new"
    paid = "paid"
    sent = "sent"


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Owner(Base):
    __tablename__ = "owner"
    __table_args__ = (Index("ix_owner_lower", text("lower(name)")), {"comment": "who buys"})
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50), unique=True, comment="unique")
    since: Mapped[datetime] = mapped_column(server_default=func.now())
    orders: Mapped[list["Order"]] = relationship(back_populates="owner", cascade="all, delete-orphan")


class Order(Base):
    __tablename__ = "order"
    __table_args__ = (
        CheckConstraint("amount >= 0", name="amount"),
        UniqueConstraint("owner_id", "number"),
        Index("ix_order_open", "owner_id", postgresql_where=text("state <> 'sent'")),
        Index("ix_order_words", "words", postgresql_using="gin"),
    )
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True, start=100), primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey("owner.id", ondelete="CASCADE"), index=True)
    number: Mapped[int] = mapped_column(Sequence("order_number", start=1000, metadata=Base.metadata))
    state: Mapped[State] = mapped_column(server_default="new")
    amount: Mapped[Any] = mapped_column(Numeric(10, 2), server_default="0")
    tax: Mapped[Any] = mapped_column(Numeric, Computed("amount * 0.2", persisted=True))
    words: Mapped[list[str] | None] = mapped_column(ARRAY(String))
    extra: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    owner: Mapped[Owner] = relationship(back_populates="orders")


class Node(Base):
    """A table that refers to itself and to another schema's."""

    __tablename__ = "node"
    __table_args__ = {"schema": "other"}
    id: Mapped[int] = mapped_column(primary_key=True)
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("other.node.id"))
    owner_id: Mapped[int | None] = mapped_column(ForeignKey("owner.id", use_alter=True))


engine = create_engine(os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1))

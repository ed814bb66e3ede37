"""Whether all shards of a COPY have the same table."""

from collections.abc import Iterable, Mapping

from shardproxy.errors import PgError
from shardproxy.routing.relation import Relation
from shardproxy.session.copy_look import LOCKABLE, Look
from shardproxy.session.shards import Shards
from shardproxy.sql import CopyFrom
from shardproxy.sqlstate import OBJECT_NOT_IN_PREREQUISITE_STATE, UNDEFINED_TABLE


def relation_on_all(looks: Mapping[int, Look], shards: Shards, copy: CopyFrom) -> Relation:
    """Return the table as every shard has it; they must agree on its columns."""
    first: Relation | None = None
    for shard, look in looks.items():
        relation = look.relation
        name = shards.addresses[shard].name
        if relation is None:
            raise PgError(
                UNDEFINED_TABLE,
                f'relation "{copy.table}" does not exist',
                detail=f'It does not exist on shard "{name}".' if len(looks) > 1 else None,
            )
        first = first or relation
        if _shape(relation) != _shape(first):
            raise differs(str(copy.table), shards.addresses[next(iter(looks))].name, name)
    assert first is not None
    return first


def differs(table: str, one: str, other: str) -> PgError:
    """Return the error of two shards that do not have the same table."""
    return PgError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        f'table "{table}" differs between shards "{one}" and "{other}"',
        detail="Their columns are not the same in name, type and order.",
        hint="`shardproxy check` shows the difference.",
    )


def differ(looks: Iterable[Look]) -> bool:
    """Whether shards have a table differently that each of them has, and that can be locked."""
    relations = [one.relation for one in looks]
    known = [one for one in relations if one is not None and one.kind in LOCKABLE]
    return len(known) == len(relations) > 1 and any(_shape(one) != _shape(known[0]) for one in known)


def _shape(relation: Relation) -> tuple[object, ...]:
    columns = [(one.name, one.type_name, one.typmod, one.generated) for one in relation.columns]
    return relation.schema, relation.name, columns

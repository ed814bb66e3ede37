"""Where DDL goes: to the shards that have, or are to have, what it is about.

A statement is carried out where the objects are that it makes or changes, on one shard or on all. What it rests on must
be there as well; what it moves, or makes a part of another table, must be placed alike. Else it is refused, for it
would be done on a part of the shards, or rows would be looked for where they are not.
"""

from collections.abc import Iterator

from shardproxy.routing.alter import check_rewrites, filled
from shardproxy.routing.foreign_keys import check_foreign_keys
from shardproxy.routing.memory import Memory
from shardproxy.routing.plan import Home, OneShard, Replicate, ShardByShard
from shardproxy.routing.refusals import refused
from shardproxy.routing.resolved import NOWHERE, Context, Place, Tables
from shardproxy.sql import CreateAs, Object, Role, Utility

HINT_LIST = "List it in the configuration with the same placement, or make it of what all shards have."


def route_utility(statement: Utility, tables: Tables, context: Context, memory: Memory) -> (
    Home | OneShard | Replicate | ShardByShard
):  # fmt: skip
    """Route DDL and the like."""
    if statement.block == "required" and not memory.in_transaction:
        # PostgreSQL warns or fails outside a transaction block. A transaction of the proxy's would hide that.
        return Home()
    if statement.block == "refused" and memory.in_transaction:
        return Home()
    if statement.makes_database:
        raise refused(
            "CREATE DATABASE is not supported through shardproxy",
            "Create a database on each shard, and add it to the configuration of the proxy.",
            "Clients can connect to the databases of the configuration only.",
        )
    altered = next((tables[ref] for ref in statement.tables[:1] if ref in tables), None)
    if altered is not None:
        check_rewrites(statement, altered)
    if context.nshards == 1:
        return Home()
    if statement.temporary:
        return Home()
    shard = _shard_of(statement, context)
    _check_rest(statement, shard, context)
    _check_names(statement, context)
    check_foreign_keys(statement, _with_parents(statement, context))
    if shard is not None:
        return OneShard(shard)
    # ANALYZE gains nothing by one transaction: the locks that it keeps on shared catalogs would meet those of another
    # shard in the same server.
    alone = statement.block == "refused" or (statement.tag == "ANALYZE" and not memory.in_transaction)
    fill = None if altered is None else filled(statement, altered, context)
    return ShardByShard() if alone else Replicate(fill=fill)


def _with_parents(statement: Utility, context: Context) -> dict[Object, Place]:
    """Return where the objects are, those that are made as children of others with them."""
    parent = next((place for _, place in _with_role(statement, context, "parent")), None)
    made = {one: parent for one, _ in _with_role(statement, context, "make") if parent is not None}
    return {**context.places, **made}


def shard_of_new(statement: CreateAs, context: Context) -> tuple[Place | None, int | None]:
    """Return the place by the configuration of what CREATE TABLE AS makes, and the one shard that gets it."""
    place = next((context.places[one] for one in statement.objects if one in context.places), None)
    return place, None if place is None else place.shard


def _with_role(statement: Utility, context: Context, *roles: Role) -> Iterator[tuple[Object, Place]]:
    for one in statement.objects:
        if one.role in roles and one in context.places:
            yield one, context.places[one]


def _shard_of(statement: Utility, context: Context) -> int | None:
    """The one shard where a statement is carried out; None for all."""
    places = [*_with_role(statement, context, "change")]
    places += [(one, _of_made(statement, one, place, context)) for one, place in _with_role(statement, context, "make")]
    places += [(one, _of_view(statement, one, place, context)) for one, place in _with_role(statement, context, "view")]
    for one, place in _with_role(statement, context, "within"):
        if place.shard is not None:
            raise refused(
                f'table "{one}" is made together with a schema, and belongs to one shard',
                "Create the schema first, and the table by a statement of its own.",
            )
    for one, place in places[1:]:
        if place.shard != places[0][1].shard:
            raise refused(
                f'"{places[0][0]}" and "{one}" are on different shards',
                "Send one statement for each of them.",
            )
    return places[0][1].shard if places else None


def _of_made(statement: Utility, one: Object, place: Place, context: Context) -> Place:
    """Where a new table or sequence is made: with its parent or owner, or as the configuration tells."""
    others = [*_with_role(statement, context, "parent", "owner")]
    if not others or place.kind == "temporary":
        return place
    _, first = others[0]
    for other, parent in others:
        listed_otherwise = place.listed and parent.group != place.group
        if parent.shard != first.shard or parent.group != first.group or listed_otherwise:
            raise refused(
                f'"{one}" and "{other}", to which it is to belong, are placed differently',
                "List both in the configuration with the same placement, or neither.",
            )
    return first


def _of_view(statement: Utility, one: Object, place: Place, context: Context) -> Place:
    """Where a view is made: where all is that it reads."""
    reads = [*_with_role(statement, context, "use")]
    found = place
    if place.kind == "temporary":
        return place
    if any(read.kind not in {"catalog", "type"} for _, read in reads):
        alone = next((read for _, read in reads if read.shard is not None), None)
        found = alone or Place("reference")
        spread = next((other for other, read in reads if read.sharded and found.shard is not None), None)
        if spread is not None:
            raise refused(
                f'view "{one}" would show rows of sharded table "{spread}" on one shard only',
                "Make a view of the sharded table alone, or of reference tables and that.",
            )
    if any(old.shard != found.shard for _, old in _with_role(statement, context, "replaced")):
        raise refused(
            f'view "{one}" exists, and is not on the same shards as what it would read', "Drop the view first."
        )
    return found


def _check_rest(statement: Utility, shard: int | None, context: Context) -> None:
    """Refuse what rests on objects that are not on the same shards."""
    group = next((place.group for _, place in _with_role(statement, context, "change")), None)
    for one, place in _with_role(statement, context, "use", "key", "twin", "equal"):
        if place.shard is not None and place.shard != shard:
            raise refused(
                f'"{one}" is on one shard only, and the statement would need it on '
                + ("all shards" if shard is None else "another"),
                HINT_LIST,
            )
        if one.role in {"equal", "twin"} and place.shard != shard:
            raise refused(f'"{one}" is on all shards, and the statement is about one', HINT_LIST)
        if one.role == "key" and place.sharded and shard is not None:
            raise refused(
                f'a foreign key to sharded table "{one}" cannot be checked on one shard',
                "Place the referencing table by the same key, or leave the constraint out.",
            )
    for one, place in _with_role(statement, context, "twin", "apart"):
        if place.own not in (group, NOWHERE):
            raise refused(
                f'"{one}" has a placement of its own that is not the one of the table it '
                + ("would belong" if one.role == "twin" else "belongs")
                + " to",
                "Its rows stay where they are. Give both the same placement in the configuration, or COPY the rows "
                "out and in.",
            )


def _check_names(statement: Utility, context: Context) -> None:
    """Refuse what gives a table the name of another placement, or a column the name of a key that it is not."""
    subject = next(_with_role(statement, context, "change"), None)
    if subject is None:
        return
    one, place = subject
    if place.heir is not None:
        raise refused(
            f'a column of "{one}" is the key of sharded table "{place.heir}", which would change with it',
            "Its rows would stay on the shards of the old key. Take the table out of it first, by ALTER TABLE ... NO "
            "INHERIT or NOT OF.",
        )
    for name, target in _with_role(statement, context, "name"):
        if target.group != place.group if not place.derived or target.listed else False:
            having = "which has another placement in the configuration"
            if one.kind == "schema":
                having = "in which a table of it has another placement in the configuration"
            raise refused(
                f'{"schema" if one.kind == "schema" else "table"} "{one}" cannot get the name "{name}", {having}',
                "Its rows would stay where they are. Create a table of that name, and COPY the rows out and in; or "
                "give both names the same placement in the configuration.",
            )
    rename = statement.column_rename
    added = [rewrite.column for rewrite in statement.rewrites if rewrite.what == "add"]
    for column in added if rename is None else [rename.new]:
        if column in place.lacks:
            raise refused(
                f'key column "{column}" of sharded table "{one}" cannot be another column than before',
                "Its rows would stay on the shards of the old key. Create another table, and COPY the rows out and "
                "in; or rename the old key column back.",
            )

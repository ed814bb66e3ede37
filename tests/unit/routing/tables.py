"""A small database for routing tests: each kind of table, placed by the native core."""

from collections.abc import Mapping, Sequence

from shardproxy import native
from shardproxy.routing import Context, KeyColumn, Memory, ParamValue, Plan, Resolved, Written, route
from shardproxy.routing.resolved import NOWHERE, Place
from shardproxy.routing.written import WrittenColumn
from shardproxy.sql import CreateAs, Object, Statement, TableRef, Utility, analyze

NSHARDS = 4
CODES = {row.name: row.code for row in native.key_types()}
NOTHING = Memory()
BUILTIN = frozenset({
    "count", "currval", "generate_series", "lo_create", "lo_unlink", "lower", "nextval", "now",
    "pg_advisory_xact_lock", "pg_notify", "pg_try_advisory_lock", "random", "set_config", "upper", "version",
})  # fmt: skip
AGGREGATES = {"count", "sum", "max", "row_number"}


def spread(name: str, columns: str, *key: tuple[str, int], **more: bytes | None) -> Resolved:
    """A table by hash of `key`; its columns default to NULL but for those spelled with a star."""
    names = tuple(column.strip("*") for column in columns.split())
    constant: dict[str, bytes | None] = {column: None for column in columns.split() if "*" not in column}
    return Resolved(
        "hash",
        "public",
        name,
        placement=native.Placement.hash(NSHARDS, [code for _, code in key]),
        key=tuple(KeyColumn(column, code) for column, code in key),
        columns=names,
        defaults=constant | more,
    )


LISTED = Resolved(
    "list",
    "public",
    "country",
    placement=native.Placement.list(NSHARDS, native.KEY_TEXT, [(b"de", 0), (b"fr", 1), (None, 2)]),
    key=(KeyColumn("code", native.KEY_TEXT),),
    columns=("code", "name"),
    defaults={"code": None, "name": None},
)
RANGED = Resolved(
    "range",
    "public",
    "event",
    placement=native.Placement.range(
        NSHARDS,
        [native.KEY_DATE],
        [([b"2020-01-01"], [b"2021-01-01"], 0), ([b"2021-01-01"], [native.MAXVALUE], 3)],
    ),
    key=(KeyColumn("day", native.KEY_DATE),),
    columns=("day", "note"),
    defaults={"day": None, "note": None},
)


def replicated(name: str, columns: str) -> Resolved:
    names = tuple(column.strip("*") for column in columns.split())
    constant = {column: None for column in columns.split() if "*" not in column}
    return Resolved("reference", "public", name, columns=names, defaults=constant)


DATABASE = {
    "users": spread("users", "id name age serial*", ("id", native.KEY_INT8)),
    "orders": spread("orders", "oid user_id total", ("user_id", native.KEY_INT4)),
    "pair": spread("pair", "a b c", ("a", native.KEY_INT4), ("b", native.KEY_TEXT)),
    "token": spread("token", "u n", ("u", native.KEY_UUID)),
    "fixed": spread("fixed", "k v", ("k", native.KEY_INT4), k=b"7"),
    "computed": spread("computed", "k* v", ("k", native.KEY_INT4)),
    "moment": spread("moment", "at v", ("at", native.KEY_TIMESTAMPTZ)),
    "price": spread("price", "n v", ("n", native.KEY_NUMERIC)),
    "real4": spread("real4", "k v", ("k", CODES["float4"])),
    "real8": spread("real8", "k v", ("k", CODES["float8"])),
    "country": LISTED,
    "event": RANGED,
    "ref": replicated("ref", "id name serial*"),
    "ref2": replicated("ref2", "id name"),
    "solo0": Resolved("single", "public", "solo0", shard=0, columns=("id", "name")),
    "solo3": Resolved("single", "public", "solo3", shard=3, columns=("id", "name")),
    "pg_class": Resolved("catalog", "pg_catalog", "pg_class", columns=("oid", "relname")),
    "stranger": Resolved("unlisted", "public", "stranger", columns=("id",)),
    "nowhere": Resolved("missing", "public", "nowhere"),
}


def is_aggregate(functions: frozenset[tuple[str | None, str]]) -> bool:
    return any(name in AGGREGATES for _, name in functions)


def place_of(table: Resolved) -> Place:
    """Where DDL finds a table."""
    group = (table.kind, table.shard, tuple(column.name for column in table.key))
    listed = table.kind not in {"unlisted", "catalog"}
    return Place(table.kind, table.shard, group, group, listed, key=tuple(column.name for column in table.key))


PLACES = {name: place_of(table) for name, table in DATABASE.items() if table.kind != "missing"}


def places_of(statement: Statement, places: Mapping[str, Place] = PLACES) -> dict[Object, Place]:
    """The places of a DDL statement's objects; other names than those of `places` do not exist, or are not listed."""
    found: dict[Object, Place] = {}
    for one in statement.objects if isinstance(statement, Utility | CreateAs) else ():
        new = one.role in {"make", "within", "view", "name"}
        if one.name in places:
            found[one] = places[one.name]
        elif new:
            found[one] = Place("unlisted", group=NOWHERE, own=NOWHERE)
    return found


def context(
    params: Sequence[ParamValue] = (),
    nshards: int = NSHARDS,
    places: Mapping[Object, Place] | None = None,
    written: Written | None = None,
) -> Context:
    return Context(
        nshards, is_aggregate=is_aggregate, params=params, places=places or {}, written=written, builtin=BUILTIN
    )


def tables_of(statement: Statement) -> dict[TableRef, Resolved]:
    return {ref: DATABASE[ref.name] for ref in statement.tables if ref.name in DATABASE}


def written_of(statement: Statement) -> Written | None:
    """What the catalogs tell of a reference table that it writes: that has a primary key, and nothing fires."""
    table = next((DATABASE[ref.name] for ref in statement.tables if ref.role == "write" and ref.name in DATABASE), None)
    if table is None or table.kind != "reference":
        return None
    columns = tuple(
        WrittenColumn(name, default=None if name in table.defaults else f"nextval('{table.name}_{name}_seq')")
        for name in table.columns
    )
    return Written(version=18, key=("id",), columns=columns)


def routed(sql: str, *params: ParamValue, nshards: int = NSHARDS, memory: Memory = NOTHING) -> Plan:
    [statement] = analyze(sql)
    known = context(params, nshards, places_of(statement), written_of(statement))
    return route(statement, tables_of(statement), known, memory)


def shard_of(name: str, *values: bytes | None) -> int:
    placement = DATABASE[name].placement
    assert placement is not None
    return placement.place(values)

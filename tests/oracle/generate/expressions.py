"""Expressions of a type over what is in scope, and conditions that bind a key, or look as if they did."""

from collections.abc import Callable, Sequence

from tests.oracle.generate.schema import Table, quoted
from tests.oracle.generate.values import TYPES, Type
from tests.oracle.generate.words import Alias, Words

Scope = Sequence[Alias]

BOOL, INT, TEXT = TYPES["bool"], TYPES["int4"], TYPES["text"]

# By result: forms over types. `{0}` stands for an expression of the first type.
_FORMS: dict[str, list[tuple[str, tuple[str, ...]]]] = {
    "int4": [
        ("{0} + {1}", ("int4", "int4")), ("{0} - {1}", ("int4", "int4")), ("{0} / {1}", ("int4", "int4")),
        ("{0} % 3", ("int4",)), ("abs({0})", ("int4",)), ("length({0})", ("text",)), ("{0}::int4", ("numeric",)),
        ("greatest({0}, {1})", ("int4", "int4")), ("cardinality({0})", ("int4[]",)), ("({0})[1]", ("int4[]",)),
        ("({0}).x", ("point2",)), ("extract(year FROM {0})::int4", ("date",)), ("{0}::int4", ("text",)),
        ("ascii({0})", ("text",)), ("position({0} IN {1})", ("text", "text")), ("coalesce({0}, {1})", ("int4", "int4")),
    ],
    "int8": [("{0}::int8", ("int4",)), ("{0} * {1}", ("int8", "int4")), ("hashtext({0})::int8", ("text",))],
    "int2": [("{0}::int2", ("int4",))],
    "numeric": [
        ("{0} + {1}", ("numeric", "int4")), ("round({0}, 1)", ("numeric",)), ("{0}::numeric", ("int4",)),
        ("{0} / {1}", ("numeric", "numeric")), ("{0}::numeric(6, 2)", ("numeric",)),
    ],
    "float8": [("{0} * 2", ("float8",)), ("{0}::float8", ("int4",))],
    "text": [
        ("{0} || {1}", ("text", "text")), ("upper({0})", ("text",)), ("lower({0})", ("text",)),
        ("{0}::text", ("int4",)), ("{0}::text", ("date",)), ("{0}::text", ("mood",)), ("{0}::text", ("numeric",)),
        ("{0}::text", ("timestamptz",)),
        ("substr({0}, 2)", ("text",)), ("coalesce({0}, {1})", ("text", "text")), ("nullif({0}, {1})", ("text", "text")),
        ("concat({0}, {1})", ("text", "int4")), ("format('%s-%s', {0}, {1})", ("text", "int4")),
        ("{0}::text", ("bool",)),
        ("{0}->>'a'", ("jsonb",)), ("encode({0}, 'hex')", ("bytea",)), ("quote_literal({0})", ("text",)),
        ("pg_typeof({0})::text", ("int4",)), ("to_char({0}, 'YYYY')", ("timestamp",)), ("{0}::text", ("varchar(5)",)),
        ("{0}::text", ("bpchar(4)",)), ("{0}::text", ("interval",)), ("trim({0})", ("text",)),
    ],
    "varchar(5)": [("{0}::varchar(5)", ("text",))],
    "bpchar(4)": [("{0}::bpchar(4)", ("text",))],
    "bool": [("NOT {0}", ("bool",)), ("{0} AND {1}", ("bool", "bool")), ("{0} OR {1}", ("bool", "bool"))],
    "bytea": [("convert_to({0}, 'UTF8')", ("text",)), ("{0} || {1}", ("bytea", "bytea"))],
    "date": [("{0} + {1}", ("date", "int4")), ("{0}::date", ("timestamp",))],
    "timestamp": [("{0}::timestamp", ("date",)), ("date_trunc('day', {0})", ("timestamp",)),
                  ("{0} + {1}", ("timestamp", "interval"))],
    "timestamptz": [("{0}::timestamptz", ("timestamp",))],
    "interval": [("{0} - {1}", ("timestamp", "timestamp")), ("{0} * 2", ("interval",))],
    "int4[]": [("ARRAY[{0}, {1}]", ("int4", "int4")), ("{0} || {1}", ("int4[]", "int4"))],
    "jsonb": [("to_jsonb({0})", ("int4",)), ("jsonb_build_object('a', {0})", ("text",)), ("{0}->'a'", ("jsonb",))],
    "mood": [("{0}::text::mood", ("mood",))],
    "point2": [("ROW({0}, {1})::point2", ("int4", "int4"))],
    "inet": [("network({0})::inet", ("inet",)), ("{0}::inet", ("cidr",))],
    "cidr": [("network({0})", ("inet",)), ("{0}::cidr", ("inet",))],
    "float4": [("{0}::float4", ("float8",)), ("{0} + {1}", ("float4", "float4"))],
    "oid": [("{0}::oid", ("int4",)), ("{0}::oid", ("int8",))],
    "name": [("{0}::name", ("text",)), ("{0}::name", ("varchar(5)",))],
    "time": [("{0}::time", ("timestamp",)), ("{0} + {1}", ("time", "interval")), ("{0}::time", ("interval",))],
    "macaddr8": [("{0}::macaddr8", ("macaddr",)), ("trunc({0})", ("macaddr8",))],
    "macaddr": [("trunc({0})", ("macaddr",))],
    "uuid": [("{0}::uuid", ("text",))],
}  # fmt: skip

_COMPARED = (
    "int4", "text", "int8", "numeric", "date", "mood", "uuid", "bool", "int4[]", "timestamp", "float8", "name", "inet",
    "float4", "oid", "time", "interval", "macaddr8", "bytea",
)  # fmt: skip


def expression(words: Words, scope: Scope, kind: Type, depth: int = 2) -> str:
    """An expression of a type."""
    column = words.column(scope, kind)
    simple: list[tuple[float, Callable[[], str]]] = [(1.0, lambda: words.value(kind))]
    if column is not None:
        simple.append((4.0, lambda: column))
    if depth <= 0:
        return words.one_of(*simple)
    return words.one_of(
        *simple,
        (2.5, lambda: condition(words, scope, depth - 1) if kind is BOOL else _form(words, scope, kind, depth - 1)),
        (0.3, lambda: _case(words, scope, kind, depth - 1)),
        (0.12, lambda: _scalar(words, scope, kind)),
    )


def _form(words: Words, scope: Scope, kind: Type, depth: int) -> str:
    forms = _FORMS.get(kind.name)
    if not forms:
        return words.value(kind)
    text, kinds = words.rng.choice(forms)
    return "(" + text.format(*(expression(words, scope, TYPES[name], depth) for name in kinds)) + ")"


def _case(words: Words, scope: Scope, kind: Type, depth: int) -> str:
    then, other = (expression(words, scope, kind, depth) for _ in range(2))
    return f"CASE WHEN {condition(words, scope, depth)} THEN {then} ELSE {other} END"


def _scalar(words: Words, scope: Scope, kind: Type) -> str:
    """A sub-select of one row."""
    table = words.rng.choice(words.tables)
    alias = words.alias(table)
    inner = [*scope, alias] if words.chance(0.3) else [alias]
    if kind is INT:
        what = words.choose((3.0, "count(*)::int4"), (1.0, f"max({expression(words, inner, INT, 0)})"))
    elif kind is TEXT:
        what = f"max({expression(words, inner, TEXT, 0)})"
    else:
        return words.value(kind)
    where = f" WHERE {where_of(words, inner, [alias])}" if words.chance(0.6) else ""
    return f"(SELECT {what} FROM {table.name} {alias.name}{where})"


# Conditions.


def condition(words: Words, scope: Scope, depth: int = 1) -> str:
    """Something boolean."""
    kind = TYPES[words.rng.choice(_COMPARED)]
    if scope and words.chance(0.6):
        alias = words.rng.choice(scope)
        kind = words.rng.choice([*alias.columns.values()] or [kind])
    if not kind.ordered:
        kind = INT

    def one() -> str:
        return expression(words, scope, kind, depth - 1)

    return words.one_of(
        (5.0, lambda: f"{one()} {words.rng.choice(('=', '<>', '<', '>', '<=', '>='))} {one()}"),
        (1.0, lambda: f"{one()} IN ({one()}, {one()})"),
        (0.7, lambda: f"{one()} IS {words.rng.choice(('', 'NOT '))}NULL"),
        (0.5, lambda: f"{one()} BETWEEN {one()} AND {one()}"),
        (0.5, lambda: f"{expression(words, scope, TEXT, depth - 1)} LIKE {words.rng.choice(('%a%', 'a%', '_'))!r}"),
        (0.3, lambda: f"{one()} IS DISTINCT FROM {one()}"),
        (0.5, lambda: f"({condition(words, scope, depth - 1)} OR {condition(words, scope, depth - 1)})"),
        (0.5, lambda: f"NOT ({condition(words, scope, depth - 1)})"),
        (0.3, lambda: _exists(words, scope)),
        (0.2, lambda: f"{one()} = ANY (ARRAY[{one()}, {one()}])"),
    )


def _exists(words: Words, scope: Scope) -> str:
    table = words.rng.choice(words.tables)
    alias = words.alias(table)
    head = words.choose((2.0, "EXISTS (SELECT"), (1.0, "NOT EXISTS (SELECT"))
    return f"{head} 1 FROM {table.name} {alias.name} WHERE {where_of(words, [*scope, alias], [alias])})"


def where_of(words: Words, scope: Scope, bound: Scope, binds: float = 0.6) -> str:
    """A WHERE clause that binds the keys of tables in many cases."""
    parts = [key_condition(words, scope, alias) for alias in bound if alias.table is not None and words.chance(binds)]
    if not parts or words.chance(0.4):
        parts.append(condition(words, scope))
    words.rng.shuffle(parts)
    return " AND ".join(f"({part})" if words.chance(0.2) or " OR " in part else part for part in parts)


def key_condition(words: Words, scope: Scope, alias: Alias) -> str:
    """Bind the key of a table: to a value, to some, to another key, or in a way that only looks like it."""
    table = alias.table
    assert table is not None
    key = [name for name in (table.placed.key or ("k",)) if name in table.columns]
    if not key:
        return condition(words, scope)
    if len(key) > 1 and words.chance(0.15):
        left = ", ".join(words.named(alias, name) for name in key)
        return f"({left}) = ({', '.join(words.value(table.columns[name]) for name in key)})"
    return " AND ".join(_one_key(words, scope, alias, name, table) for name in key)


def _one_key(words: Words, scope: Scope, alias: Alias, name: str, table: Table) -> str:
    kind, column = table.columns[name], words.named(alias, name)

    def value() -> str:
        return words.value(kind)

    def other() -> str:
        found = words.column([one for one in scope if one is not alias], kind)
        return f"{column} = {found or value()}"

    return words.one_of(
        (9.0, lambda: f"{column} = {value()}"),
        (1.0, lambda: f"{value()} = {column}"),
        (2.0, other),
        (1.5, lambda: f"{column} IN ({', '.join(value() for _ in range(words.rng.randint(1, 3)))})"),
        (0.5, lambda: f"{column} = ANY (ARRAY[{value()}, {value()}])"),
        (0.5, lambda: f"({column} = {value()} OR {column} = {value()})"),
        (0.5, lambda: f"({column} = {value()} AND {condition(words, scope, 0)})"),
        (0.3, lambda: f"{column}::text = {words.value(TEXT)}"),
        (0.2, lambda: f"{column} IS NULL"),
        (0.2, lambda: f"{column} IS NOT DISTINCT FROM {value()}"),
        (0.2, lambda: f"NOT {column} <> {value()}"),
        (0.2, lambda: f"{column} = (SELECT {value()})"),
        (0.2, lambda: f"{column} = CASE WHEN {condition(words, scope, 0)} THEN {value()} ELSE {value()} END"),
        (0.2, lambda: f"coalesce({column}, {value()}) = {value()}"),
        (0.2, lambda: f"{column} >= {value()} AND {column} <= {value()}"),
        (0.2, lambda: f"({column}) = ({value()})"),
        (0.2, lambda: f"{alias.name}.{quoted(name)} = {value()} IS TRUE"),
    )

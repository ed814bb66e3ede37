"""INSERT with ON CONFLICT and RETURNING, UPDATE, DELETE."""

from tests.oracle.generate.expressions import condition, expression, where_of
from tests.oracle.generate.schema import Table, quoted
from tests.oracle.generate.values import TYPES
from tests.oracle.generate.words import Alias, Words


def change(words: Words) -> str:
    """A statement that changes one table."""
    return words.choose((5.0, insert), (4.0, update), (2.5, delete), (0.3, merge), (0.3, within))(words)


def insert(words: Words) -> str:
    """INSERT, mostly of VALUES, mostly with the key."""
    table = words.rng.choice(words.tables)
    names = list(table.columns)
    if words.chance(0.3):
        others = [name for name in names if name not in table.placed.key and words.chance(0.5)]
        names = [name for name in names if name not in others or words.chance(0.1)]
        if words.chance(0.3):
            words.rng.shuffle(names)
    into = f"INSERT INTO {table.name}"
    alias = Alias(table.name, table.columns, table)
    if words.chance(0.1):
        alias = words.alias(table)
        into += f" AS {alias.name}"
    listed = f" ({', '.join(map(quoted, names))})" if names != list(table.columns) or words.chance(0.6) else ""
    if words.chance(0.06):
        source = _from_select(words, table, names)
    else:
        count = words.choose((10.0, 1), (1.0, 2), (0.5, 3))
        source = "VALUES " + ", ".join(
            f"({', '.join(_cell(words, table, name) for name in names)})" for _ in range(count)
        )
    overriding = f" OVERRIDING {words.rng.choice(('SYSTEM', 'USER'))} VALUE" if words.chance(0.02) else ""
    return f"{into}{listed}{overriding} {source}{_conflict(words, table, alias)}{_returning(words, [alias])}"


def _cell(words: Words, table: Table, name: str) -> str:
    kind = table.columns[name]
    if words.chance(0.04):
        return "DEFAULT"
    if name in table.placed.key:
        return expression(words, [], kind, 1) if words.chance(0.06) else words.value(kind)
    return expression(words, [], kind, 1) if words.chance(0.2) else words.value(kind)


def _from_select(words: Words, table: Table, names: list[str]) -> str:
    other = words.rng.choice(words.tables)
    alias = words.alias(other)
    items = ", ".join(expression(words, [alias], table.columns[name], 1) for name in names)
    return f"SELECT {items} FROM {other.name} {alias.name} WHERE {where_of(words, [alias], [alias])}"


def _conflict(words: Words, table: Table, alias: Alias) -> str:
    if not words.chance(0.25):
        return ""
    on = f" ({', '.join(table.unique)})" if table.unique else ""
    if words.chance(0.4) or not on:
        return f" ON CONFLICT{on if words.chance(0.6) else ''} DO NOTHING"
    name = words.rng.choice(list(table.columns))
    kind = table.columns[name]
    excluded = Alias("excluded", table.columns)
    new = f"excluded.{quoted(name)}" if words.chance(0.4) else expression(words, [alias, excluded], kind, 1)
    where = f" WHERE {condition(words, [alias, excluded], 0)}" if words.chance(0.2) else ""
    return f" ON CONFLICT{on} DO UPDATE SET {quoted(name)} = {new}{where}"


def update(words: Words) -> str:
    """UPDATE, sometimes FROM another table."""
    table = words.rng.choice(words.tables)
    alias = words.alias(table) if words.chance(0.3) else Alias(table.name, table.columns, table)
    scope = [alias]
    named = f"{table.name} {alias.name}" if alias.name != table.name else table.name
    source = ""
    if words.chance(0.12):
        other = words.rng.choice(words.tables)
        joined = words.alias(other)
        source, scope = f" FROM {other.name} {joined.name}", [alias, joined]
    names = [name for name in table.columns if name not in table.placed.key or words.chance(0.05)]
    changed = words.rng.sample(names, min(len(names), words.rng.randint(1, 2)))
    sets = ", ".join(
        f"{quoted(name)} = {'DEFAULT' if words.chance(0.05) else expression(words, scope[:1], table.columns[name])}"
        for name in changed
    )
    where = f" WHERE {where_of(words, scope, scope, 0.9)}" if words.chance(0.96) else ""
    return f"UPDATE {named} SET {sets}{source}{where}{_returning(words, scope[:1])}"


def delete(words: Words) -> str:
    """DELETE, sometimes USING another table."""
    table = words.rng.choice(words.tables)
    alias = words.alias(table) if words.chance(0.3) else Alias(table.name, table.columns, table)
    scope = [alias]
    named = f"{table.name} {alias.name}" if alias.name != table.name else table.name
    source = ""
    if words.chance(0.12):
        other = words.rng.choice(words.tables)
        joined = words.alias(other)
        source, scope = f" USING {other.name} {joined.name}", [alias, joined]
    where = f" WHERE {where_of(words, scope, scope, 0.9)}" if words.chance(0.97) else ""
    return f"DELETE FROM {named}{source}{where}{_returning(words, scope[:1])}"


def merge(words: Words) -> str:
    """MERGE of a few rows."""
    table = words.rng.choice(words.tables)
    alias = words.alias(table)
    key = (table.placed.key or ("k",))[0]
    kind = table.columns[key]
    value = words.value(kind)
    name = words.rng.choice([name for name in table.columns if name not in table.placed.key])
    new = expression(words, [alias], table.columns[name], 1)
    matched = words.choose((2.0, f"UPDATE SET {quoted(name)} = {new}"), (1.0, "DELETE"), (0.5, "DO NOTHING"))
    inserted = f"INSERT ({quoted(key)}, {quoted(name)}) VALUES (x.k, {words.value(table.columns[name])})"
    return (
        f"MERGE INTO {table.name} {alias.name} USING (SELECT CAST({value} AS {kind.name}) AS k) x"
        f" ON {alias.name}.{quoted(key)} = x.k WHEN MATCHED THEN {matched} WHEN NOT MATCHED THEN {inserted}"
    )


def within(words: Words) -> str:
    """A change in WITH, and a SELECT of what it returns."""
    changed = words.choose((2.0, update), (1.0, delete))(words).partition(" RETURNING ")[0]
    return f"WITH x AS ({changed} RETURNING 1 AS one) SELECT count(*) FROM x"


def _returning(words: Words, scope: list[Alias]) -> str:
    if not words.chance(0.3):
        return ""
    if words.chance(0.4):
        return " RETURNING *"
    kinds = [words.rng.choice([*scope[0].columns.values(), TYPES["int4"]]) for _ in range(words.rng.randint(1, 2))]
    return " RETURNING " + ", ".join(expression(words, scope, kind, 1) for kind in kinds)

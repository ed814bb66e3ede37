"""INSERT with ON CONFLICT and RETURNING, UPDATE, DELETE."""

from tests.oracle.generate.expressions import condition, expression, where_of
from tests.oracle.generate.schema import Table, quoted
from tests.oracle.generate.values import TYPES
from tests.oracle.generate.words import Alias, Words


def change(words: Words) -> str:
    """A statement that changes one table."""
    return words.choose((5.0, insert), (4.0, update), (2.5, delete), (0.6, merge), (0.4, within))(words)


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
    often = 0.3 if table.computed and not table.placed.sharded else 0.02
    overriding = f" OVERRIDING {words.rng.choice(('SYSTEM', 'USER'))} VALUE" if words.chance(often) else ""
    return f"{into}{listed}{overriding} {source}{_conflict(words, table, alias)}{_returning(words, [alias])}"


def _cell(words: Words, table: Table, name: str) -> str:
    kind = table.columns[name]
    if words.chance(0.8 if name in table.computed else 0.04):
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
    arbiters = [*table.arbiters, *([f"({', '.join(table.unique)})"] * bool(table.unique))]
    on = f" {words.rng.choice(arbiters)}" if arbiters else ""
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
    rare = {*table.placed.key, *table.computed}
    names = [name for name in table.columns if name not in rare or words.chance(0.05)]
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
    """MERGE of a few rows, mostly into a table that is not sharded."""
    copied = [one for one in words.tables if not one.placed.sharded]
    table = words.rng.choice(copied if copied and words.chance(0.8) else [*words.tables])
    alias = words.alias(table)
    key = (table.placed.key or ("k",))[0]
    if key not in table.columns:
        return update(words)
    source = Alias("x", {"k": table.columns[key], "v": TYPES["int4"]})
    scope = [alias, source]
    actions = []
    by_source = 1 if words.version >= 17 else 0
    for kind in words.rng.choices(("MATCHED", "NOT MATCHED", "NOT MATCHED BY SOURCE"), (5, 4, by_source), k=2):
        visible = {"MATCHED": scope, "NOT MATCHED": [source], "NOT MATCHED BY SOURCE": [alias]}[kind]
        when = f" AND {condition(words, visible, 0)}" if words.chance(0.4) else ""
        actions.append(f"WHEN {kind}{when} THEN {_action(words, table, visible, kind == 'NOT MATCHED')}")
    returning = _returning(words, [alias, source]) if words.version >= 17 else ""
    if returning and words.chance(0.4):
        returning += ", merge_action()"
    return (
        f"MERGE INTO {table.name} {alias.name} USING {_source(words, table, key)}"
        f" ON {alias.name}.{quoted(key)} = x.k {' '.join(actions)}{returning}"
    )


def _source(words: Words, table: Table, key: str) -> str:
    kind = table.columns[key]
    rows = words.rng.randint(1, 3)
    values = ", ".join(f"(CAST({words.value(kind)} AS {kind.name}), {words.value(TYPES['int4'])})" for _ in range(rows))
    alike = [
        (one, name)
        for one in words.tables
        for name, own in one.columns.items()
        if own is kind and "v" in one.columns and not one.placed.sharded
    ]
    if alike and words.chance(0.35):
        one, name = words.rng.choice(alike)
        return f"(SELECT {quoted(name)} AS k, v FROM {one.name}) x"
    return (
        f"(VALUES {values}) x(k, v)"
        if words.chance(0.7)
        else f"(SELECT DISTINCT ON (k) * FROM (VALUES {values}) y(k, v)) x"
    )


def _action(words: Words, table: Table, scope: list[Alias], insert: bool) -> str:
    name = words.rng.choice([name for name in table.columns if name not in table.placed.key])
    new = "DEFAULT" if words.chance(0.1) else expression(words, scope, table.columns[name], 1)
    if words.chance(0.1):
        return "DO NOTHING"
    if not insert:
        return words.choose((3.0, f"UPDATE SET {quoted(name)} = {new}"), (1.0, "DELETE"))
    key = (table.placed.key or ("k",))[0]
    names, values = [quoted(key)], ["x.k"]
    if name != key:
        names, values = [*names, quoted(name)], [*values, new]
    if words.chance(0.1):
        return "INSERT DEFAULT VALUES"
    return f"INSERT ({', '.join(names)}) VALUES ({', '.join(values)})"


def within(words: Words) -> str:
    """A change in WITH, and a SELECT of what it returns, or another change."""
    changed = words.choose((2.0, update), (1.0, delete), (1.0, insert))(words).partition(" RETURNING ")[0]
    tail = "SELECT count(*) FROM x" if words.chance(0.7) else words.choose((1.0, update), (1.0, insert))(words)
    return f"WITH x AS ({changed} RETURNING 1 AS one) {tail}"


def _returning(words: Words, scope: list[Alias]) -> str:
    if not words.chance(0.3):
        return ""
    if words.chance(0.4):
        return " RETURNING *"
    if words.chance(0.05) and scope[0].typed:
        return f" RETURNING {scope[0].name}"
    given, first = "", scope[0]
    if words.version >= 18 and words.chance(0.35):
        given, both = words.choose(
            (2.0, ("", ("old", "new"))),
            (1.0, ("WITH (OLD AS o, NEW AS n) ", ("o", "n"))),
            (0.5, ("WITH (NEW AS n) ", ("old", "n"))),
        )
        scope = [*scope, *(Alias(name, first.columns) for name in both)]
        if words.chance(0.2):
            return f" RETURNING {given}{', '.join(f'{name}.*' for name in both)}"
    kinds = [words.rng.choice([*first.columns.values(), TYPES["int4"]]) for _ in range(words.rng.randint(1, 3))]
    return f" RETURNING {given}" + ", ".join(expression(words, scope, kind, 1) for kind in kinds)

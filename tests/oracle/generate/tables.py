"""The tables: names and placements are those of the proxy's configuration, all else differs from case to case."""

from dataclasses import replace
from random import Random

from tests.oracle.case import Step
from tests.oracle.generate.placed import COMMON, PLACED, Placed
from tests.oracle.generate.schema import Schema, Table, quoted
from tests.oracle.generate.triggers import trigger, trigger_function
from tests.oracle.generate.values import COMPOSITE, ENUM, KEYS, TYPES, Type

ROWS = 8
INT = TYPES["int4"]
ACTIONS = ("CASCADE", "CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")
PARTITIONED = (
    ("HASH (k)", "FOR VALUES WITH (MODULUS 2, REMAINDER 0)", "FOR VALUES WITH (MODULUS 2, REMAINDER 1)"),
    ("LIST (k)", "FOR VALUES IN ('{0}')", "DEFAULT"),
    ("RANGE (k)", "FOR VALUES FROM (MINVALUE) TO ('{0}')", "DEFAULT"),
    ("RANGE (v)", "FOR VALUES FROM (2) TO (6)", "DEFAULT"),
)


def make(rng: Random, version: int) -> Schema:
    """Make some of the tables."""
    names = rng.sample(COMMON, rng.randint(2, 5))
    if rng.random() < 0.35:
        names.append(rng.choice([name for name in PLACED if name not in COMMON]))
    kind = rng.choice(KEYS)  # `h` and `g` are joined by their keys
    tables = [_table(rng, PLACED[name], kind if rng.random() < 0.7 else rng.choice(KEYS)) for name in names]
    schema = Schema([], [Step(ENUM), Step(COMPOSITE)], version)
    for table in tables:
        _create(rng, table, schema)
        schema.steps.append(_fill(rng, table))
        schema.tables.append(table)
    for table in tables:
        if table.placed.placement != "single" and rng.random() < 0.06:
            _view(rng, table, schema)
    if rng.random() < 0.25:
        number = rng.randrange(3)
        schema.steps.append(Step(trigger_function(rng, schema.tables, number)))
        schema.steps.append(Step(trigger(rng, rng.choice(tables), number)))
    return schema


def _table(rng: Random, placed: Placed, kind: Type) -> Table:
    columns = {}
    for number, column in enumerate(placed.key or ("k",)):
        columns[column] = TYPES[placed.types[number]] if placed.types else (kind if number == 0 else rng.choice(KEYS))
    others = [INT, TYPES["text"], *rng.choices([*TYPES.values()], k=rng.randint(0, 3))]
    # A column may have the name of a function.
    names = ["v", "s", *rng.sample(["a", "b", "c", "count", "lower", "Q q"], 4)]
    columns |= dict(zip(names, others, strict=False))
    if rng.random() < 0.3:  # the key is not always the first column
        items = list(columns.items())
        rng.shuffle(items)
        columns = dict(items)
    table = Table(placed, columns)
    if rng.random() < 0.6:
        table.unique = placed.key or ("k",)
    return table


def _create(rng: Random, table: Table, schema: Schema) -> None:
    """CREATE TABLE, its partitions or children, and indexes that ON CONFLICT may name."""
    copied = not table.placed.sharded
    derived = rng.choice(("partitions", "child")) if copied and rng.random() < 0.15 else ""
    foreign = [*_foreign_keys(rng, table, schema.tables)]
    parts = [_column(rng, table, name, kind) for name, kind in table.columns.items()]
    if table.unique:
        name = f"CONSTRAINT {table.name}_u " if rng.random() < 0.3 else ""
        parts.append(f"{name}{rng.choice(('PRIMARY KEY', 'UNIQUE'))} ({', '.join(table.unique)})")
        table.arbiters += [f"ON CONSTRAINT {table.name}_u"] * bool(name)
    if rng.random() < 0.15:
        parts.append("CHECK (v <> 9)")
    parts += [*_computed(rng, table, schema.version), *foreign]
    create = f"CREATE TABLE {table.name} ({', '.join(parts)})"
    if derived == "partitions":
        by, *bounds = rng.choice(PARTITIONED)
        schema.steps.append(Step(f"{create} PARTITION BY {by}"))
        for number, bound in enumerate(bounds):
            value = rng.choice(table.columns["k"].values)
            what = f"PARTITION OF {table.name} {bound.format(value)}"
            _child(table, schema, number, what)
    else:
        schema.steps.append(Step(create))
        if derived:
            _child(table, schema, 0, f"(extra int) INHERITS ({table.name})")
    schema.steps += _arbiters(rng, table)


def _child(table: Table, schema: Schema, number: int, what: str) -> None:
    name = f"{table.name}__{number}"
    schema.steps.append(Step(f"CREATE TABLE {name} {what}"))
    if table.placed.placement != "single":  # whose own is not found where tables must be listed
        schema.tables.append(replace(table, placed=replace(table.placed, name=name), arbiters=[]))


def _column(rng: Random, table: Table, name: str, kind: Type) -> str:
    part = f"{quoted(name)} {kind.name}"
    if name not in table.placed.key:
        if rng.random() < 0.15:
            part += f" DEFAULT '{rng.choice(kind.values)}'"
        elif rng.random() < 0.05:
            part += " NOT NULL"
        elif not table.placed.sharded and kind.name in {"int2", "int4", "int8"} and rng.random() < 0.08:
            # Each shard would count for itself.
            always = rng.random() < 0.5
            part += f" GENERATED {'ALWAYS' if always else 'BY DEFAULT'} AS IDENTITY"
            if always:
                table.computed.add(name)
    elif rng.random() < 0.1:
        part += f" DEFAULT '{rng.choice(kind.values)}'"
    return part


def _computed(rng: Random, table: Table, version: int) -> list[str]:
    """A generated column."""
    if rng.random() > 0.15:
        return []
    stored = version < 18 or rng.random() < 0.5
    table.columns["w"] = INT
    table.computed.add("w")
    return [f"w int GENERATED ALWAYS AS (v / 2 + 1){' STORED' if stored else rng.choice((' VIRTUAL', ''))}"]


def _foreign_keys(rng: Random, table: Table, before: list[Table]) -> list[str]:
    """Some to tables before, or to itself; by the key if both are placed by it, else by a column made for it."""
    found = []
    others = [one for one in [*before, table] if one.unique and "__" not in one.name]
    for other in rng.sample(others, min(len(others), rng.choices((0, 1, 2), (12, 4, 1))[0])):
        kinds = [other.columns[name] for name in other.unique]
        if other is not table and alike(table, other) and rng.random() < 0.8:
            columns = table.placed.key
        elif len(kinds) == 1 and not other.placed.sharded:
            columns = ("p",)
            table.columns["p"] = kinds[0]
        else:
            continue
        for column, name in zip(columns, other.unique, strict=True):
            table.held.setdefault(column, other.held.get(name, []))
        found.append(reference(rng, columns, other))
    return found


def alike(table: Table, other: Table) -> bool:
    """Whether equal keys of both are on one shard."""
    kinds = [[one.columns.get(name) for name in one.placed.key] for one in (table, other)]
    return table.placed.placement == other.placed.placement == "hash" and kinds[0] == kinds[1]


def reference(rng: Random, columns: tuple[str, ...], other: Table) -> str:
    """FOREIGN KEY, with actions."""
    text = (
        f"FOREIGN KEY ({', '.join(map(quoted, columns))}) REFERENCES {other.name} ({', '.join(other.unique or ('k',))})"
    )
    if rng.random() < 0.75:
        text += f" ON DELETE {rng.choice(ACTIONS)}"
    if rng.random() < 0.3:
        text += f" ON UPDATE {rng.choice(ACTIONS)}"
    if rng.random() < 0.12:
        text += rng.choice((" DEFERRABLE", " DEFERRABLE INITIALLY DEFERRED"))
    return text


def _arbiters(rng: Random, table: Table) -> list[Step]:
    """Unique indexes with a condition, or over expressions."""
    if rng.random() > 0.2:
        return []
    key = ", ".join((*table.placed.key, "s") if table.placed.sharded else ("s",))
    what, where = rng.choice(
        ((key, " WHERE v > 2"), (key, " WHERE s <> ''"), (key.replace("s", "lower(s)"), ""), (f"{key}, v", ""))
    )
    table.arbiters.append(f"({what}){where}")
    return [Step(f"CREATE UNIQUE INDEX p{table.name} ON {table.name} ({what}){where}")]


def _view(rng: Random, table: Table, schema: Schema) -> None:
    names = rng.sample([*table.columns], rng.randint(1, len(table.columns)))
    name = f"v{table.name}"
    where = rng.choice(("", "", " WHERE v > 1", " WHERE v > 1 WITH CHECK OPTION"))
    schema.steps.append(Step(f"CREATE VIEW {name} AS SELECT {', '.join(map(quoted, names))} FROM {table.name}{where}"))
    columns = {one: table.columns[one] for one in names}
    schema.tables.append(Table(replace(table.placed, name=name, key=()), columns, computed=table.computed))


def _fill(rng: Random, table: Table) -> Step:
    """COPY some rows; no key twice, and mostly such as foreign keys ask for."""
    key = table.placed.key or ("k",)
    names = [name for name in table.columns if name not in table.computed]
    key = tuple(name for name in key if name in names) or tuple(names)
    lines: dict[tuple[str, ...], list[str]] = {}
    for _ in range(rng.randint(0, ROWS)):
        row = [_field(rng, table, name, name in key) for name in names]
        lines[tuple(row[names.index(name)] for name in key)] = row
    for at, name in enumerate(names):
        table.held[name] = [row[at] for row in lines.values()]
    data = "".join("\t".join(row) + "\n" for row in lines.values()).encode()
    return Step(f"COPY {table.name} ({', '.join(map(quoted, names))}) FROM STDIN", data=data)


def _field(rng: Random, table: Table, name: str, key: bool) -> str:
    if not key and rng.random() < 0.15:
        return "\\N"
    if table.held.get(name) and rng.random() < 0.95:
        return rng.choice(table.held[name])
    return rng.choice(table.columns[name].values).replace("''", "'").replace("\\", "\\\\")

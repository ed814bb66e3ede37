"""The tables: names and placements are those of the proxy's configuration, all else differs from case to case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.oracle.case import Step
from tests.oracle.generate.values import COMPOSITE, ENUM, KEYS, TYPES, Type

SHARDS = 3
ROWS = 8


@dataclass(frozen=True)
class Placed:
    """A table of the configuration. `types` are those of the key where the configuration fixes them."""

    name: str
    placement: str
    key: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    partitions: tuple[str, ...] = ()  # PARTITION BY of a twin, then one bound for each shard

    @property
    def sharded(self) -> bool:
        """Whether its rows lie on several shards."""
        return bool(self.key)

    @property
    def listing(self) -> dict[str, object]:
        """Its entry in the configuration."""
        key = {"key": list(self.key)} if self.key else {}
        return {"name": self.name, "placement": self.placement, **key, **self.config}


def _hash(name: str, *key: str) -> Placed:
    bounds = (f"FOR VALUES WITH (MODULUS {SHARDS}, REMAINDER {r})" for r in range(SHARDS))
    return Placed(name, "hash", key, partitions=(f"PARTITION BY HASH ({', '.join(key)})", *bounds))


PLACED = {
    one.name: one
    for one in (
        _hash("h", "k"),
        _hash("g", "k"),
        _hash("w", "k", "l"),
        Placed(
            "lst", "list", ("k",), ("text",),
            {
                "values": [{"shard": "s0", "in": ["a", "b", "7"]}, {"shard": "s1", "in": ["A", "", "NULL"]}],
                "default": "s2",
            },
            ("PARTITION BY LIST (k)", "FOR VALUES IN ('a', 'b', '7')", "FOR VALUES IN ('A', '', NULL)", "DEFAULT"),
        ),
        Placed(
            "rng", "range", ("k",), ("int4",),
            {
                "bounds": [
                    {"shard": "s0", "from": ["1"], "to": ["3"]},
                    {"shard": "s1", "from": ["3"], "to": ["6"]},
                ],
                "default": "s2",
            },
            ("PARTITION BY RANGE (k)", "FOR VALUES FROM (1) TO (3)", "FOR VALUES FROM (3) TO (6)", "DEFAULT"),
        ),
        Placed("ref", "reference"),
        Placed("dim", "reference"),
        Placed("one", "single", config={"shard": "s1"}),
        Placed("two", "single", config={"shard": "s2"}),
    )
}  # fmt: skip


@dataclass
class Table:
    """A table as the statements believe it to be; DDL that has failed, or was rolled back, makes them wrong."""

    placed: Placed
    columns: dict[str, Type]
    unique: tuple[str, ...] = ()  # a primary key or unique constraint

    @property
    def name(self) -> str:
        """Its name."""
        return self.placed.name


@dataclass
class Schema:
    """All tables, and the steps that make and fill them."""

    tables: list[Table]
    steps: list[Step]


def make(rng: Random) -> Schema:
    """Make some of the tables."""
    names = rng.sample(sorted(PLACED), rng.randint(2, 5))
    kind = rng.choice(KEYS)  # `h` and `g` are joined by their keys
    tables = [_table(rng, PLACED[name], kind if rng.random() < 0.7 else rng.choice(KEYS)) for name in names]
    schema = Schema([], [Step(ENUM), Step(COMPOSITE)])
    for table in tables:
        schema.steps += [_create(rng, table, schema.tables), _fill(rng, table)]
        schema.tables.append(table)
    if rng.random() < 0.25:
        number = rng.randrange(3)
        schema.steps.append(Step(trigger_function(rng, schema.tables, number)))
        schema.steps.append(Step(trigger(rng, rng.choice(schema.tables), number)))
    return schema


def trigger(rng: Random, table: Table, number: int) -> str:
    """CREATE TRIGGER with a function of this number."""
    event = rng.choice(("INSERT", "UPDATE", "DELETE", "INSERT OR UPDATE", "INSERT OR UPDATE OR DELETE"))
    return (
        f"CREATE TRIGGER tr{number} {rng.choice(('BEFORE', 'AFTER'))} {event} ON {table.name}"
        f" FOR EACH {rng.choice(('ROW', 'ROW', 'STATEMENT'))} EXECUTE FUNCTION fire{number}()"
    )


def trigger_function(rng: Random, tables: Sequence[Table], number: int) -> str:
    """Its function. What it writes is seen to belong elsewhere, or would be the same wherever it runs."""
    spread = [one.name for one in tables if one.placed.placement != "single"]
    copied = [one.name for one in tables if one.placed.placement == "reference"]
    bodies = [
        "IF TG_LEVEL = 'ROW' AND TG_OP <> 'DELETE' THEN NEW.v := coalesce(NEW.v, 0) % 5 + 1; END IF",
        "IF TG_LEVEL = 'ROW' AND TG_OP <> 'INSERT' THEN RAISE NOTICE 'was %', OLD.v; END IF",
        *(f"INSERT INTO {name} (v) VALUES (3)" for name in spread),
        *(f"UPDATE {name} SET v = 3 WHERE v = 1" for name in copied),
        *(f"DELETE FROM {name} WHERE v = 2" for name in copied),
    ]
    body = f"IF pg_trigger_depth() = 1 THEN {rng.choice(bodies)}; END IF"
    return (
        f"CREATE OR REPLACE FUNCTION fire{number}() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN {body}; IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$"
    )


def _table(rng: Random, placed: Placed, kind: Type) -> Table:
    columns = {}
    for number, column in enumerate(placed.key or ("k",)):
        columns[column] = TYPES[placed.types[number]] if placed.types else (kind if number == 0 else rng.choice(KEYS))
    others = [TYPES["int4"], TYPES["text"], *rng.choices([*TYPES.values()], k=rng.randint(0, 3))]
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


def quoted(name: str) -> str:
    """A column's name as SQL needs it."""
    return f'"{name}"' if not name.isidentifier() else name


def _create(rng: Random, table: Table, before: list[Table]) -> Step:
    parts = []
    for name, kind in table.columns.items():
        part = f"{quoted(name)} {kind.name}"
        if name not in table.placed.key:
            if rng.random() < 0.15:
                part += f" DEFAULT '{rng.choice(kind.values)}'"
            elif rng.random() < 0.05:
                part += " NOT NULL"
        elif rng.random() < 0.1:
            part += f" DEFAULT '{rng.choice(kind.values)}'"
        parts.append(part)
    if table.unique:
        parts.append(f"{rng.choice(('PRIMARY KEY', 'UNIQUE'))} ({', '.join(table.unique)})")
    if rng.random() < 0.15:
        parts.append("CHECK (v <> 9)")
    others = [one for one in before if one.placed.placement == "reference" and one.unique]
    if others and rng.random() < 0.15 and (others[0].columns["k"].name == "int4"):
        parts.append(f"FOREIGN KEY (v) REFERENCES {others[0].name} (k)")
    if rng.random() < 0.1:
        parts.append("w int GENERATED ALWAYS AS (v + 1) STORED")
    return Step(f"CREATE TABLE {table.name} ({', '.join(parts)})")


def _fill(rng: Random, table: Table) -> Step:
    """COPY some rows; no key twice."""
    key = table.placed.key or ("k",)
    lines = {}
    for _ in range(rng.randint(0, ROWS)):
        row = [_field(rng, kind, name in key) for name, kind in table.columns.items()]
        lines[tuple(row[list(table.columns).index(name)] for name in key)] = "\t".join(row)
    names = ", ".join(map(quoted, table.columns))
    return Step(
        f"COPY {table.name} ({names}) FROM STDIN", data="".join(f"{line}\n" for line in lines.values()).encode()
    )


def _field(rng: Random, kind: Type, key: bool) -> str:
    if not key and rng.random() < 0.15:
        return "\\N"
    return rng.choice(kind.values).replace("''", "'").replace("\\", "\\\\")

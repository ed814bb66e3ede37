"""DDL of the tables and of what belongs to them."""

from tests.oracle.generate.expressions import condition
from tests.oracle.generate.schema import Table, quoted
from tests.oracle.generate.tables import alike, reference
from tests.oracle.generate.triggers import trigger, trigger_function
from tests.oracle.generate.values import TYPES
from tests.oracle.generate.words import Alias, Words


def definition(words: Words) -> str:
    """One statement of DDL; later ones find what earlier ones have made by its name."""
    table = words.rng.choice(words.tables)
    name = words.rng.choice(list(table.columns))
    column, kind = quoted(name), table.columns[name]
    alias = Alias(table.name, table.columns, table)
    number = words.rng.randrange(3)
    other = words.rng.choice(words.tables).name
    return words.rng.choice((
        lambda: f"CREATE INDEX i{number} ON {table.name} ({column})",
        lambda: f"CREATE UNIQUE INDEX u{number} ON {table.name} ({', '.join(table.placed.key or ('k',))}, {column})",
        lambda: f"DROP INDEX {words.rng.choice(('', 'IF EXISTS '))}{words.rng.choice('iu')}{number}",
        lambda: f"ALTER INDEX i{number} RENAME TO j{number}",
        lambda: _add(words, table),
        lambda: f"ALTER TABLE {table.name} DROP COLUMN {words.rng.choice(('IF EXISTS ', ''))}x{number}",
        lambda: f"ALTER TABLE {table.name} ALTER {column} SET DEFAULT '{words.rng.choice(kind.values)}'",
        lambda: f"ALTER TABLE {table.name} ALTER {column} DROP DEFAULT",
        lambda: f"ALTER TABLE {table.name} ALTER {column} {words.rng.choice(('SET', 'DROP'))} NOT NULL",
        lambda: f"ALTER TABLE {table.name} ADD CONSTRAINT c{number} CHECK ({condition(words, [alias], 0)})",
        lambda: f"ALTER TABLE {table.name} DROP CONSTRAINT c{number}",
        lambda: f"ALTER TABLE {table.name} RENAME {column} TO {words.rng.choice((column, 'renamed', 'v'))}",
        lambda: f"TRUNCATE {table.name}{words.rng.choice(('', ' CASCADE', ' RESTART IDENTITY'))}",
        lambda: _refer(words, table, number),
        lambda: f"ALTER TABLE {table.name} DROP CONSTRAINT IF EXISTS fk{number}",
        lambda: f"ALTER TABLE {table.name} ADD COLUMN w int GENERATED ALWAYS AS (v + {number}) STORED",
        lambda: f"ALTER TABLE {table.name} ADD COLUMN y{number} int DEFAULT v",
        lambda: f"ALTER TABLE {table.name} ADD UNIQUE ({', '.join(table.placed.key or ('k',))})",
        lambda: f"ALTER TABLE {other} DETACH PARTITION {table.name}",
        lambda: f"ALTER TABLE {other} ATTACH PARTITION {table.name} DEFAULT",
        lambda: f"ALTER TABLE {table.name} {words.rng.choice(('', 'NO '))}INHERIT {other}",
        lambda: f"TRUNCATE {table.name}, {other}",
        lambda: f"COMMENT ON TABLE {table.name} IS 'one'",
        lambda: f"COMMENT ON COLUMN {table.name}.{column} IS NULL",
        lambda: f"CREATE {words.rng.choice(('', 'OR REPLACE '))}VIEW view{number} AS SELECT {column} FROM {table.name}",
        lambda: f"DROP VIEW {words.rng.choice(('', 'IF EXISTS '))}view{number}",
        lambda: f"CREATE STATISTICS st{number} ON v, s FROM {table.name}",
        lambda: f"LOCK TABLE {table.name} IN SHARE MODE",
        lambda: f"DROP TABLE {words.rng.choice(('', 'IF EXISTS '))}{table.name}",
        lambda: f"CREATE TABLE IF NOT EXISTS {table.name} (k int, v int)",
        lambda: f"CREATE TYPE kind{number} AS ENUM ('a', 'b')",
        lambda: f"DROP TYPE kind{number}",
        lambda: f"ALTER TYPE kind{number} ADD VALUE 'c'",
        lambda: f"CREATE FUNCTION f{number}(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + {number}'",
        lambda: f"DROP FUNCTION f{number}(int)",
        lambda: trigger_function(words.rng, words.tables, number),
        lambda: trigger(words.rng, table, number),
        lambda: f"DROP TRIGGER {words.rng.choice(('', 'IF EXISTS '))}tr{number} ON {table.name}",
        lambda: f"CREATE SCHEMA extra{number}",
        lambda: f"DROP SCHEMA extra{number}",
        lambda: f"ANALYZE {table.name}",
        lambda: f"GRANT SELECT ON {table.name} TO public",
        lambda: f"REVOKE SELECT ON {table.name} FROM public",
        lambda: f"CREATE TEMP TABLE temp{number} AS SELECT 1 AS k, 'x' AS s",
        lambda: f"REINDEX TABLE {table.name}",
        lambda: f"ALTER TABLE {table.name} ALTER {column} TYPE {words.rng.choice(('text', 'int8', 'numeric'))}",
    ))()  # fmt: skip


def _refer(words: Words, table: Table, number: int) -> str:
    other = words.rng.choice(words.tables)
    column = words.rng.choice([*table.columns])
    columns: tuple[str, ...] = (column,)
    if other.placed.sharded:
        if not alike(table, other):
            return f"ALTER TABLE {table.name} ALTER CONSTRAINT fk{number} DEFERRABLE"
        columns = table.placed.key
    valid = words.rng.choice(("", "", " NOT VALID"))
    return f"ALTER TABLE {table.name} ADD CONSTRAINT fk{number} {reference(words.rng, columns, other)}{valid}"


def _add(words: Words, table: Table) -> str:
    kind = words.rng.choice([*TYPES.values()])
    default = f" DEFAULT '{words.rng.choice(kind.values)}'" if words.chance(0.4) else ""
    column = f"{words.rng.choice(('', 'COLUMN IF NOT EXISTS '))}x{words.rng.randrange(3)}"
    return f"ALTER TABLE {table.name} ADD {column} {kind.name}{default}"

"""How many writers a table may have, and which rows go to which.

Two writers are two transactions. Rows that a unique constraint compares must come to the same one, or it would wait for
the other to commit: so rows are spread by the columns of that constraint, as a hash-partitioned table's are. Where no
spreading is right there is one writer.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from shardproxy.config.model import Shard
from shardproxy.config.model import Table as Placed
from shardproxy.errors import PgError
from shardproxy.loader.target.table import BASE_TYPE, Table
from shardproxy.loader.target.writers import Writers
from shardproxy.rejects.form import literal, pinned
from shardproxy.routing.keytypes import NATIVE_TYPES
from shardproxy.session.database import Database
from shardproxy.shard.catalog import text
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import INSUFFICIENT_PRIVILEGE, OBJECT_NOT_IN_PREREQUISITE_STATE

MOST_KEYS: Final = 3
"""Columns by which rows are spread where no constraint says by which: enough that they are rarely all the same."""

_FACTS: Final = pinned(f"""SELECT pg_catalog.json_build_object('kind', c.relkind,
 'triggers', EXISTS (SELECT FROM pg_catalog.pg_trigger AS g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal
   AND g.tgenabled <> 'D'),
 'rules', c.relhasrules,
 'self', EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
   WHERE k.contype = 'f' AND k.conrelid = c.oid AND k.confrelid = c.oid),
 'unique', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
     'plain', i.indpred IS NULL AND i.indexprs IS NULL AND NOT i.indisexclusion,
     'exact', NOT EXISTS (SELECT FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n
         JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[n - 1]
         LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = i.indcollation[n - 1]
       WHERE l.collisdeterministic IS false OR o.opcnamespace <> 'pg_catalog'::pg_catalog.regnamespace),
     'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY o.n)
       FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS o(number, n)
         JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = o.number
       WHERE o.n <= i.indnkeyatts)))
   FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)),
 'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname,
     'type', {BASE_TYPE}::pg_catalog.int8,
     'exact', l.collisdeterministic IS NOT false,
     'fresh', a.attidentity <> '' OR coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid) ~~ 'nextval(%', false))
     ORDER BY a.attnum)
   FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_collation AS l ON l.oid = a.attcollation
     LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
   WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''))::pg_catalog.text
FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass({{name}})""")


@dataclass(frozen=True, slots=True)
class Spread:
    """By which columns rows are spread; without any, `why` there is one writer."""

    key: tuple[str, ...] = ()
    why: str = ""


async def spread_of(connection: Connection, table: Table, loaded: Collection[str] | None) -> Spread:
    """Ask the target how rows can be spread. `loaded` are the columns that files fill, None if that is not known."""
    [found] = await connection.fetch_row(_FACTS.format(name=literal(table.quoted)), 1)
    return judge(json.loads(text(found)), loaded)


def judge(facts: dict[str, Any], loaded: Collection[str] | None) -> Spread:
    """Decide by what `_FACTS` asks for."""
    for wrong, why in (
        (facts["kind"] == "p", "the table is partitioned"),
        (facts["kind"] != "r", "the target is no table"),
        (loaded is None, "it is not known which columns the input has"),
        (facts["triggers"], "the table has triggers"),
        (facts["rules"], "the table has rules"),
        (facts["self"], "the table refers to itself"),
    ):
        if wrong:
            return Spread(why=why)
    assert loaded is not None
    fit = {
        column["name"]
        for column in facts["columns"]
        if column["type"] in NATIVE_TYPES and column["exact"] and column["name"] in loaded
    }
    # A key of which one column counts up by itself is no other row's.
    fresh = {column["name"] for column in facts["columns"] if column["fresh"]} - set(loaded)
    unique = [one for one in facts["unique"] or () if not one["plain"] or not fresh & set(one["columns"])]
    if len(unique) > 1 or not all(one["plain"] for one in unique):
        return Spread(why="the table has more than one unique or exclusion constraint")
    if unique:
        key = tuple(unique[0]["columns"])
        fits = fit.issuperset(key) and unique[0]["exact"]
        return Spread(key) if fits else Spread(why=f"rows cannot be spread by ({', '.join(key)})")
    key = tuple(name for name in loaded if name in fit)[:MOST_KEYS]
    return Spread(key) if key else Spread(why="no column has a type by which rows can be spread")


@contextlib.asynccontextmanager
async def several(database: Database, table: Table, key: Sequence[str], count: int) -> AsyncIterator[Writers]:
    """Make a database of so many writers of one table of the one server, inside `alive`.

    Raises PgError: see `unable`.
    """
    [shard] = database.config.shards
    names = [f"writer {number}" for number in range(1, count + 1)]
    config = database.config.model_copy(
        update={
            "commit": "two-phase",
            "unlisted_tables": names[0],
            "shards": tuple(Shard.model_construct(name=name, dsn=shard.dsn) for name in names),
            "tables": (Placed.model_construct(name=table.quoted, placement="hash", key=tuple(key)),),
        }
    )
    made = Writers(config)
    try:
        await made.coordinator.start()
        yield made
    finally:
        await made.close()


def unable(error: PgError) -> bool:
    """Whether the server, or the role, cannot have several writers commit together."""
    return error.sqlstate in {OBJECT_NOT_IN_PREREQUISITE_STATE, INSUFFICIENT_PRIVILEGE}

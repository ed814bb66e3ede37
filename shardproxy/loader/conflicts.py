"""Rows whose key is there: what on_conflict means for a table, found out before any row is sent."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from shardproxy.errors import PgError
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.target.table import Table
from shardproxy.rejects.form import literal, pinned
from shardproxy.rejects.reject import Reject
from shardproxy.rejects.target import EQUALITY
from shardproxy.rejects.upsert import Upsert
from shardproxy.session.database import SHARDED, Database
from shardproxy.shard.catalog import text
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import (
    EXCLUSION_VIOLATION,
    FEATURE_NOT_SUPPORTED,
    INVALID_COLUMN_REFERENCE,
    UNDEFINED_OBJECT,
    UNIQUE_VIOLATION,
)

_NAMES: Final = """(SELECT pg_catalog.json_agg(a.attname ORDER BY o.n) FROM pg_catalog.unnest(k.conkey)
  WITH ORDINALITY AS o(attnum, n) JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = o.attnum)
"""

_FACTS: Final = pinned(f"""SELECT pg_catalog.json_build_object(
 'kind', c.relkind,
 'rules', EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid),
 'keys', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', k.conname, 'primary', k.contype = 'p',
     'columns', {_NAMES}, 'operators', (SELECT pg_catalog.json_agg({EQUALITY} ORDER BY n)
       FROM pg_catalog.generate_series(1, i.indnkeyatts) AS n),
     'deferrable', k.condeferrable, 'exclusion', i.indisexclusion,
     'nulls_distinct', coalesce(NOT (pg_catalog.to_json(i) ->> 'indnullsnotdistinct')::pg_catalog.bool, true))
     ORDER BY k.conname)
   FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_index AS i ON i.indexrelid = k.conindid
   WHERE k.conrelid = c.oid AND k.contype = ANY ('{{{{p,u}}}}')),
 'indexes', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', n.relname,
     'unique', i.indisunique OR i.indisexclusion, 'immediate', i.indimmediate,
     'computed', i.indexprs IS NOT NULL OR i.indpred IS NOT NULL,
     'referenced', EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'f' AND k.conindid = n.oid)))
   FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS n ON n.oid = i.indexrelid WHERE i.indrelid = c.oid),
 'below', (SELECT pg_catalog.json_agg(n.relname)
   FROM pg_catalog.pg_partition_tree(c.oid) AS t JOIN pg_catalog.pg_index AS i ON i.indrelid = t.relid
     JOIN pg_catalog.pg_class AS n ON n.oid = i.indexrelid
   WHERE i.indisunique OR i.indisexclusion),
 'own_triggers', EXISTS (SELECT FROM pg_catalog.pg_partition_tree(c.oid) AS t
     JOIN pg_catalog.pg_trigger AS g ON g.tgrelid = t.relid WHERE t.relid <> c.oid AND NOT g.tgisinternal),
 'fixed', (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute AS a
   WHERE a.attrelid = c.oid AND a.attidentity = 'a'),
 'generated', EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attgenerated <> ''),
 'checks', (SELECT pg_catalog.json_agg({_NAMES}) FROM pg_catalog.pg_constraint AS k
   WHERE k.conrelid = c.oid AND k.contype = 'c'),
 'to_itself', EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
   WHERE k.conrelid = c.oid AND k.confrelid = c.oid AND k.contype = 'f'))
FROM pg_catalog.pg_class AS c WHERE c.oid = pg_catalog.to_regclass({{name}})""")

_INSTEAD: Final = "Load the rows into a table of their own, and INSERT them from there."


@dataclass(frozen=True, slots=True)
class Conflicts:
    """What a load does with rows whose key is there."""

    upsert: Upsert | None = None
    skipped: frozenset[str] | None = None
    """The unique indexes and exclusion constraints by which a row is left out; None for any."""
    skip: bool = False

    @classmethod
    async def of(cls, connection: Connection, database: Database, table: Table, options: LoadOptions) -> "Conflicts":
        """Ask the target. Raises PgError where on_conflict cannot be done."""
        if options.on_conflict == "error":
            return cls()
        [found] = await connection.fetch_row(_FACTS.format(name=literal(table.quoted)), 1)
        facts = json.loads(text(found))
        if options.on_conflict == "skip":
            names = {one["name"] for one in facts["indexes"] or () if one["unique"]} | set(facts["below"] or ())
            # A view, or a foreign table, has those of tables that are not known.
            return cls(skip=True, skipped=frozenset(names) if facts["kind"] in {"r", "p"} else None)
        upsert = _upsert(table, facts, options.conflict_key)
        _check_placement(database, table, upsert)
        return cls(upsert=upsert)

    def leaves_out(self, reject: Reject) -> bool:
        """Whether a row is skipped, as ON CONFLICT DO NOTHING would."""
        if not self.skip or reject.sqlstate not in {UNIQUE_VIOLATION, EXCLUSION_VIOLATION}:
            return False
        # One of another table is raised by a trigger.
        return self.skipped is None or reject.constraint in self.skipped

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise PgError if rows of these columns have no key to be compared by."""
        missing = [name for name in self.upsert.key if name not in columns] if self.upsert is not None else []
        if missing:
            raise PgError(
                INVALID_COLUMN_REFERENCE,
                f'on_conflict = update needs the column "{missing[0]}" of the key, which is not loaded',
                hint="Load it, or give another unique constraint as `conflict_key`.",
            )


def _upsert(table: Table, facts: Any, name: str | None) -> Upsert:
    keys, label = facts["keys"] or (), f'"{table.name}"'
    if facts["kind"] not in {"r", "p"}:
        kind = {"v": "a view", "f": "a foreign table"}[facts["kind"]]
        raise _refused(f"{label} is {kind}", "Load the table below it.")
    if facts["rules"]:
        raise _refused(f"{label} has rules", _INSTEAD)
    if facts["to_itself"]:
        raise _refused(f"{label} has a foreign key to itself", _INSTEAD)
    key = next((one for one in keys if (one["primary"] if name is None else one["name"] == name)), None)
    others = [one["name"] for one in keys]
    hint = f"Give a unique constraint as `conflict_key`: {', '.join(others)}." if others else "Add a unique constraint."
    if key is None and name is not None:
        raise PgError(UNDEFINED_OBJECT, f'unique constraint "{name}" for table {label} does not exist', hint=hint)
    if key is None:
        raise PgError(
            INVALID_COLUMN_REFERENCE, f"on_conflict = update needs a key, and {label} has no primary key", hint=hint
        )
    if key["deferrable"]:
        raise _refused(f'the constraint "{key["name"]}" is deferrable', hint)
    if key["exclusion"]:
        raise _refused(f'the constraint "{key["name"]}" is WITHOUT OVERLAPS', hint)
    indexes = [one for one in facts["indexes"] if one["name"] != key["name"]]
    unique = [one for one in indexes if one["unique"]]
    checks = facts["checks"] or ()
    return Upsert(
        key["name"],
        tuple(key["columns"]),
        tuple(key["operators"]),
        key["nulls_distinct"],
        frozenset(facts["fixed"] or ()),
        tuple(frozenset(one) for one in checks if one),
        partitioned=facts["kind"] == "p",
        alone=not unique and all(checks) and not facts["generated"] and not any(one["computed"] for one in indexes),
        in_sets=not facts["own_triggers"] and all(one["immediate"] and not one["referenced"] for one in unique),
    )


def _check_placement(database: Database, table: Table, upsert: Upsert) -> None:
    listed = database.table(table.schema, table.name)
    placement = database.config.unlisted_tables if listed is None else listed.placement
    if placement == "reference":
        raise _refused(f'"{table.name}" is a reference table', _INSTEAD)
    if listed is not None and placement in SHARDED and not set(listed.key) <= set(upsert.key):
        raise _refused(
            f'the constraint "{upsert.constraint}" does not have all columns of the key by which the rows of'
            f' "{table.name}" are placed, so the row that is there may be on another shard',
            "Give a unique constraint with all of them as `conflict_key`.",
        )


def _refused(reason: str, hint: str) -> PgError:
    return PgError(FEATURE_NOT_SUPPORTED, f"on_conflict = update is not supported: {reason}", hint=hint)

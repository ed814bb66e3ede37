"""Questions to a shard about what runs unseen when a table is written, and what a session has written.

See `catalog` for how they travel.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from shardproxy.routing.resolved import TableName
from shardproxy.routing.unseen import Body, Hooks
from shardproxy.routing.written import TRUNCATE, Trigger
from shardproxy.shard.catalog import ENCODING, Name, asked_sql, hex_literal, read_json
from shardproxy.shard.counted import COUNTED
from shardproxy.shard.written import MOVING

_EQ: Final = "OPERATOR(pg_catalog.=)"
_PROC: Final = "'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid"

# An extension's functions in C do not write tables of the user's; those in other languages are looked at.
_BODY: Final = f"""pg_catalog.json_build_array(p.proname, l.lanname, p.prosrc,
    p.oid OPERATOR(pg_catalog.<) 16384::pg_catalog.oid OR p.provolatile {_EQ} 'i'
    OR (l.lanname {_EQ} 'c' AND EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid {_EQ} {_PROC}
      AND d.objid {_EQ} p.oid AND d.deptype {_EQ} 'e')))"""

_BODIES: Final = f"""WITH {{asked}}
SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg({_BODY}), '[]')::pg_catalog.text,
  {{encoding}}), 'hex')
FROM asked AS a
JOIN pg_catalog.pg_proc AS p ON p.proname {_EQ} a.name::pg_catalog.name
JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} p.pronamespace
JOIN pg_catalog.pg_language AS l ON l.oid {_EQ} p.prolang
WHERE CASE WHEN a.space IS NULL THEN pg_catalog.pg_function_is_visible(p.oid)
  WHEN a.space {_EQ} 'pg_temp' THEN n.oid {_EQ} pg_catalog.pg_my_temp_schema()
  ELSE n.nspname {_EQ} a.space::pg_catalog.name END"""

_ACTIONS: Final = f"{_EQ} ANY (ARRAY['c', 'n', 'd']::pg_catalog.\"char\"[])"

_HOOKS: Final = f"""WITH RECURSIVE it(oid) AS (
  SELECT pg_catalog.to_regclass(pg_catalog.concat(
    pg_catalog.quote_ident(pg_catalog.convert_from(pg_catalog.decode({{space}}, 'hex'), {{encoding}})), '.',
    pg_catalog.quote_ident(pg_catalog.convert_from(pg_catalog.decode({{name}}, 'hex'), {{encoding}}))))::pg_catalog.oid
), reach(oid, cascaded) AS (
  SELECT it.oid, false FROM it
  UNION
  SELECT next.oid, reach.cascaded OR next.cascaded FROM reach CROSS JOIN LATERAL (
    SELECT i.inhrelid, false FROM pg_catalog.pg_inherits AS i WHERE i.inhparent {_EQ} reach.oid
    UNION ALL
    SELECT c.conrelid, true FROM pg_catalog.pg_constraint AS c WHERE c.confrelid {_EQ} reach.oid
      AND c.contype {_EQ} 'f' AND (c.confdeltype {_ACTIONS} OR c.confupdtype {_ACTIONS})
    UNION ALL
    SELECT d.refobjid, false FROM pg_catalog.pg_rewrite AS w JOIN pg_catalog.pg_depend AS d ON d.objid {_EQ} w.oid
      AND d.classid {_EQ} 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid
      AND d.refclassid {_EQ} 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
    WHERE w.ev_class {_EQ} reach.oid AND w.ev_type {_EQ} '1' AND d.refobjid OPERATOR(pg_catalog.<>) reach.oid
  ) AS next(oid, cascaded)
), types(oid) AS (
  SELECT a.atttypid FROM pg_catalog.pg_attribute AS a JOIN reach ON a.attrelid {_EQ} reach.oid
    AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
  UNION
  SELECT next.oid FROM types JOIN pg_catalog.pg_type AS t ON t.oid {_EQ} types.oid
  CROSS JOIN LATERAL (VALUES (t.typbasetype), (t.typelem)) AS next(oid)
), depending(oid, apart) AS (
  SELECT a.oid, 0::pg_catalog.oid FROM pg_catalog.pg_attrdef AS a JOIN reach ON a.adrelid {_EQ} reach.oid
  UNION ALL
  SELECT c.oid, 0::pg_catalog.oid FROM pg_catalog.pg_constraint AS c WHERE c.contype {_EQ} 'c'
    AND (c.conrelid {_EQ} ANY (ARRAY(SELECT reach.oid FROM reach))
      OR (c.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
        AND c.contypid {_EQ} ANY (ARRAY(SELECT types.oid FROM types))))
  UNION ALL
  SELECT t.oid, 0::pg_catalog.oid FROM pg_catalog.pg_type AS t JOIN types ON t.oid {_EQ} types.oid
    WHERE t.typtype {_EQ} 'd'
  UNION ALL
  SELECT t.oid, t.tgfoid FROM pg_catalog.pg_trigger AS t JOIN reach ON t.tgrelid {_EQ} reach.oid
    WHERE t.tgqual IS NOT NULL AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'
)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  'triggers', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.tgname, t.tgtype, t.tginitdeferred,
      t.tgdeferrable, {_BODY}, reach.cascaded)) FROM reach JOIN pg_catalog.pg_trigger AS t ON t.tgrelid {_EQ} reach.oid
    JOIN pg_catalog.pg_proc AS p ON p.oid {_EQ} t.tgfoid JOIN pg_catalog.pg_language AS l ON l.oid {_EQ} p.prolang
    WHERE NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'),
  'others', (SELECT pg_catalog.json_agg({_BODY}) FROM depending JOIN pg_catalog.pg_depend AS f
      ON f.objid {_EQ} depending.oid AND f.refclassid {_EQ} {_PROC}
      AND f.refobjid OPERATOR(pg_catalog.<>) depending.apart
    JOIN pg_catalog.pg_proc AS p ON p.oid {_EQ} f.refobjid JOIN pg_catalog.pg_language AS l ON l.oid {_EQ} p.prolang),
  'rules', EXISTS (SELECT FROM reach JOIN pg_catalog.pg_rewrite AS w ON w.ev_class {_EQ} reach.oid
    WHERE w.ev_type OPERATOR(pg_catalog.<>) '1' AND w.ev_enabled OPERATOR(pg_catalog.<>) 'D'),
  'cascaded', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, c.relname)) FROM reach
    JOIN pg_catalog.pg_class AS c ON c.oid {_EQ} reach.oid
    JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} c.relnamespace WHERE reach.cascaded),
  'moving', {{moving}},
  'hidden', EXISTS (SELECT FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_proc AS p ON p.oid {_EQ} o.oprcode
    WHERE o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND p.provolatile OPERATOR(pg_catalog.<>) 'i')
    OR EXISTS (SELECT FROM pg_catalog.pg_cast AS c JOIN pg_catalog.pg_proc AS p ON p.oid {_EQ} c.castfunc
    WHERE c.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND p.provolatile OPERATOR(pg_catalog.<>) 'i')
)::pg_catalog.text, {{encoding}}), 'hex')"""

_TRUNCATED: Final = f"""WITH RECURSIVE {{asked}}, reach(oid) AS (
  SELECT pg_catalog.to_regclass(pg_catalog.concat(
    pg_catalog.quote_ident(a.space), '.', pg_catalog.quote_ident(a.name)))::pg_catalog.oid FROM asked AS a
  UNION
  SELECT next.oid FROM reach CROSS JOIN LATERAL (
    SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent {_EQ} reach.oid
    UNION ALL
    SELECT c.conrelid FROM pg_catalog.pg_constraint AS c WHERE c.confrelid {_EQ} reach.oid AND c.contype {_EQ} 'f'
  ) AS next(oid)
)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  'triggers', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(t.tgname, {_BODY}) ORDER BY t.tgname)
    FROM reach JOIN pg_catalog.pg_trigger AS t ON t.tgrelid {_EQ} reach.oid
    JOIN pg_catalog.pg_proc AS p ON p.oid {_EQ} t.tgfoid JOIN pg_catalog.pg_language AS l ON l.oid {_EQ} p.prolang
    WHERE t.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) {TRUNCATE} OPERATOR(pg_catalog.<>) 0
      AND NOT t.tgisinternal AND t.tgenabled OPERATOR(pg_catalog.<>) 'D'),
  'tables', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, c.relname)) FROM reach
    JOIN pg_catalog.pg_class AS c ON c.oid {_EQ} reach.oid
    JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} c.relnamespace)
)::pg_catalog.text, {{encoding}}), 'hex')"""


def truncated_sql(tables: Sequence[Name]) -> str:
    """Return the query for what TRUNCATE of these tables fires, and for all tables that it may empty."""
    return _TRUNCATED.format(asked=asked_sql(tables), encoding=ENCODING)


def parse_truncated(answer: str) -> tuple[list[tuple[str, Body]], frozenset[TableName]]:
    """Read the answer: triggers with their code, and the tables."""
    facts = read_json(answer)
    tables = frozenset((schema, name) for schema, name in facts["tables"] or ())
    return [(name, Body(*body)) for name, body in facts["triggers"] or ()], tables


def bodies_sql(names: Sequence[Name]) -> str:
    """Return the query for the code of the functions of these names, whatever their arguments are."""
    return _BODIES.format(asked=asked_sql(names), encoding=ENCODING)


def parse_bodies(answer: str) -> tuple[Body, ...]:
    """Read the answer."""
    return tuple(Body(*body) for body in read_json(answer))


def hooks_sql(schema: str, name: str) -> str:
    """Return the query for what runs when a table is written."""
    moving = MOVING.format(parts="SELECT reach.oid FROM reach WHERE NOT reach.cascaded")
    return _HOOKS.format(space=hex_literal(schema), name=hex_literal(name), encoding=ENCODING, moving=moving)


def parse_hooks(answer: str) -> Hooks:
    """Read the answer."""
    facts = read_json(answer)
    return Hooks(
        tuple((Trigger(*trigger), Body(*body), cascaded) for *trigger, body, cascaded in facts["triggers"] or ()),
        tuple(Body(*body) for body in facts["others"] or ()),
        facts["rules"],
        frozenset((schema, name) for schema, name in facts["cascaded"] or ()),
        facts["hidden"],
        frozenset(facts["moving"] or ()),
    )


CHANGES: Final = f"""SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg(
  pg_catalog.json_build_array(w.relid::pg_catalog.int8, w.inserted, w.updated, w.deleted, w.locked, (
    WITH RECURSIVE up(oid, level) AS (
      SELECT w.relid, 0
      UNION ALL
      SELECT i.inhparent, up.level OPERATOR(pg_catalog.+) 1 FROM up
      JOIN pg_catalog.pg_inherits AS i ON i.inhrelid {_EQ} up.oid)
    SELECT pg_catalog.json_agg((
      SELECT pg_catalog.json_build_array((
          SELECT n.nspname FROM pg_catalog.pg_namespace AS n WHERE n.oid {_EQ} c.relnamespace), c.relname)
        FROM pg_catalog.pg_class AS c WHERE c.oid {_EQ} up.oid) ORDER BY up.level) FROM up))),
  '[]')::pg_catalog.text, {ENCODING}), 'hex')
FROM (SELECT one.relid, pg_catalog.sum(one.inserted), pg_catalog.sum(one.updated), pg_catalog.sum(one.deleted),
    pg_catalog.max(one.locked) FROM (
    SELECT s.relid, s.inserted, s.updated, s.deleted, 0 FROM ({COUNTED}) AS s(relid, inserted, updated, deleted)
    UNION ALL
    SELECT l.relation, 0, 0, 0, CASE l.mode WHEN 'AccessExclusiveLock' THEN 2 ELSE 1 END
    FROM pg_catalog.pg_locks AS l WHERE l.pid {_EQ} pg_catalog.pg_backend_pid() AND l.locktype {_EQ} 'relation'
      AND l.mode {_EQ} ANY (ARRAY['RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'])
      AND l.relation OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  ) AS one(relid, inserted, updated, deleted, locked) GROUP BY one.relid
) AS w(relid, inserted, updated, deleted, locked)
WHERE (SELECT r.relkind FROM pg_catalog.pg_class AS r WHERE r.oid {_EQ} w.relid)
  {_EQ} ANY (ARRAY['r', 'p']::pg_catalog."char"[])"""
"""What this session has written in all tables, with the names of each and of what it is a partition or child of.

Two answers of one transaction tell what was written in between; the numbers by themselves tell nothing. The locks show
as well what has looked for rows to change, and found none.
"""


class Counts(NamedTuple):
    """Rows that were changed in a table, and its lock: 1 is a writer's, 2 one that keeps all others out."""

    inserted: int
    updated: int
    deleted: int
    locked: int


NONE: Final = Counts(0, 0, 0, 0)

Changes = dict[int, tuple[Counts, tuple[TableName, ...]]]
"""By the OID of the table."""


def parse_changes(answer: str) -> Changes:
    """Read the answer."""
    return {
        oid: (Counts(*counts), tuple((schema, name) for schema, name in names or ()))
        for oid, *counts, names in read_json(answer)
    }

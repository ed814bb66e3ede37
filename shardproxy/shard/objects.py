"""The catalogs' answer to where the objects of a DDL statement belong, as SQL text and values. Does no I/O.

The same rules hold as in `catalog`: the session may have any settings, so names travel as hexadecimal UTF-8.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from shardproxy.shard.catalog import ENCODING, hex_literal, read_json, too_new

Asked = tuple[Literal["relation", "statistics", "constraint", "publication"], str | None, str]
"""A kind, a schema or None to search the path, and a name."""


@dataclass(frozen=True, slots=True)
class Root:
    """A relation that another one belongs to; `last` tells that it belongs to none itself."""

    schema: str
    name: str
    kind: str
    last: bool


@dataclass(frozen=True, slots=True)
class Found:
    """A relation that exists: its pg_class.relkind, and what it belongs to.

    That is the table of an index or an owned sequence, the parents of a partition or a child, and what a view reads,
    and what those belong to in turn. Extended statistics and constraints are their table, and a publication has a name
    alone.
    """

    schema: str
    name: str
    kind: str
    oid: int
    roots: tuple[Root, ...]


_EQ: Final = "OPERATOR(pg_catalog.=)"
_CLASS: Final = "'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid"

_OBJECTS: Final = f"""WITH RECURSIVE asked(number, kind, space, name) AS (
  SELECT given.number, given.kind,
    pg_catalog.convert_from(pg_catalog.decode(given.space, 'hex'), {{encoding}}),
    pg_catalog.convert_from(pg_catalog.decode(given.name, 'hex'), {{encoding}})
  FROM (VALUES {{values}}) AS given(number, kind, space, name)
), found(number, oid) AS (
  SELECT a.number, CASE
    WHEN a.kind {_EQ} 'relation' THEN pg_catalog.to_regclass(CASE
      WHEN a.space IS NULL THEN pg_catalog.quote_ident(a.name)
      ELSE pg_catalog.concat(pg_catalog.quote_ident(a.space), '.', pg_catalog.quote_ident(a.name))
    END)::pg_catalog.oid
    WHEN a.kind {_EQ} 'publication' THEN (SELECT p.oid FROM pg_catalog.pg_publication AS p
      WHERE p.pubname {_EQ} a.name::pg_catalog.name)
    WHEN a.kind {_EQ} 'constraint' THEN (SELECT c.conrelid FROM pg_catalog.pg_constraint AS c
      JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} c.connamespace
      WHERE c.conname {_EQ} a.name::pg_catalog.name AND c.conrelid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
        AND n.nspname {_EQ} ANY (CASE WHEN a.space IS NULL THEN pg_catalog.current_schemas(true)
          ELSE ARRAY[a.space::pg_catalog.name] END)
      ORDER BY pg_catalog.array_position(pg_catalog.current_schemas(true), n.nspname) LIMIT 1)
    ELSE (SELECT s.stxrelid FROM pg_catalog.pg_statistic_ext AS s
      JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} s.stxnamespace
      WHERE s.stxname {_EQ} a.name::pg_catalog.name AND CASE WHEN a.space IS NULL
        THEN pg_catalog.pg_statistics_obj_is_visible(s.oid) ELSE n.nspname {_EQ} a.space::pg_catalog.name END)
    END
  FROM asked AS a
), up(number, below, oid) AS (
  SELECT f.number, NULL::pg_catalog.oid, f.oid FROM found AS f JOIN asked AS a ON a.number {_EQ} f.number
  WHERE f.oid IS NOT NULL AND a.kind OPERATOR(pg_catalog.<>) 'publication'
  UNION
  SELECT up.number, up.oid, next.oid FROM up JOIN LATERAL (
    SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid {_EQ} up.oid
    UNION ALL
    SELECT x.indrelid FROM pg_catalog.pg_index AS x WHERE x.indexrelid {_EQ} up.oid
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_depend AS d WHERE d.objid {_EQ} up.oid AND d.classid {_EQ} {_CLASS}
      AND d.refclassid {_EQ} {_CLASS} AND d.deptype {_EQ} ANY (ARRAY['a', 'i']::pg_catalog."char"[])
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_depend AS d ON d.objid {_EQ} r.oid
      AND d.classid {_EQ} 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid
      AND d.refclassid {_EQ} {_CLASS}
    WHERE r.ev_class {_EQ} up.oid AND r.rulename {_EQ} '_RETURN'::pg_catalog.name
  ) AS next ON next.oid OPERATOR(pg_catalog.<>) up.oid
), roots(number, list) AS (
  SELECT one.number, pg_catalog.json_agg(pg_catalog.json_build_array(n.nspname, c.relname, c.relkind,
    NOT EXISTS (SELECT FROM up AS higher WHERE higher.number {_EQ} one.number AND higher.below {_EQ} one.oid)))
  FROM (SELECT DISTINCT up.number, up.oid FROM up WHERE up.below IS NOT NULL) AS one
  JOIN pg_catalog.pg_class AS c ON c.oid {_EQ} one.oid
  JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} c.relnamespace
  GROUP BY one.number
)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_array(pg_catalog.current_schema(),
  pg_catalog.json_agg(CASE WHEN f.oid IS NULL THEN NULL
    WHEN a.kind {_EQ} 'publication' THEN pg_catalog.json_build_array('', a.name, 'publication', 0, NULL)
    ELSE pg_catalog.json_build_array(n.nspname, c.relname, c.relkind, f.oid::pg_catalog.int8, r.list) END
    ORDER BY f.number))::pg_catalog.text, {{encoding}}), 'hex')
FROM found AS f JOIN asked AS a ON a.number {_EQ} f.number
LEFT JOIN pg_catalog.pg_class AS c ON c.oid {_EQ} f.oid
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} c.relnamespace
LEFT JOIN roots AS r ON r.number {_EQ} f.number"""


def objects_sql(asked: Sequence[Asked]) -> str:
    """Return the query for these objects, at least one; `parse_objects` reads its answer."""
    rows = (f"({number}, '{kind}', {hex_literal(space)}, {hex_literal(name)})"
            for number, (kind, space, name) in enumerate(asked))  # fmt: skip
    return _OBJECTS.format(values=", ".join(rows), encoding=ENCODING)


def parse_objects(answer: str) -> tuple[str | None, list[Found | None]]:
    """Read the answer: the schema where unqualified names are made, and for each object asked for what it is.

    PgError 55000: one exists, but this transaction's snapshot is older.
    """
    schema, facts = read_json(answer)
    return schema, [None if fact is None else _found(*fact) for fact in facts]


def _found(schema: str | None, name: str | None, kind: str, oid: int, roots: list[list[Any]] | None) -> Found:
    if schema is None or name is None:
        raise too_new()
    return Found(schema, name, kind, oid, tuple(Root(*root) for root in roots or ()))


def heirs_sql(oid: int) -> str:
    """Return the query for the relations that get each change of this one's columns: children, tables of a type."""
    return f"""WITH RECURSIVE down(oid) AS (
  VALUES ({int(oid)}::pg_catalog.oid)
  UNION
  SELECT next.oid FROM down JOIN LATERAL (
    SELECT i.inhrelid AS oid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent {_EQ} down.oid
    UNION ALL
    SELECT t.oid FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_class AS t ON t.reloftype {_EQ} c.reltype
    WHERE c.oid {_EQ} down.oid AND c.relkind {_EQ} 'c'
  ) AS next ON true)
SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg(
    pg_catalog.json_build_array(n.nspname, c.relname)), '[]')::pg_catalog.text, {ENCODING}), 'hex')
FROM down JOIN pg_catalog.pg_class AS c ON c.oid {_EQ} down.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid {_EQ} c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.<>) {int(oid)}::pg_catalog.oid"""


def columns_sql(oid: int) -> str:
    """Return the query for the live columns of a relation, with their numbers."""
    return f"""SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_object_agg(a.attname, a.attnum),
  '{{}}')::pg_catalog.text, {ENCODING}), 'hex') FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid {_EQ} {int(oid)}::pg_catalog.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped"""


def parse_columns(answer: str) -> dict[str, int]:
    """Read the answer."""
    columns: dict[str, int] = read_json(answer)
    return columns

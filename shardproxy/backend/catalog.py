"""Catalog queries as SQL text, and what their answers mean. Pure functions: nothing here does I/O.

Each query returns one row with one column of JSON text, so that a session's raw connection and asyncpg can both
run it. They hold whatever the session has set: every name and operator is qualified with pg_catalog, and literals
need neither standard_conforming_strings nor a search_path. Works on PostgreSQL 13 to 18.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from shardproxy.sharding.relation import Column, Relation

_RELATIONS = """
WITH RECURSIVE wanted(n, name) AS (VALUES {names}),
found AS (
  SELECT w.n, c.oid, s.nspname, c.relname, c.relkind, c.relispartition
  FROM wanted w
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(w.name)::pg_catalog.oid
  JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) c.relnamespace
),
db AS (
  SELECT pg_catalog.pg_encoding_to_char(d.encoding) AS encoding,
         coalesce(pg_catalog.to_jsonb(d) OPERATOR(pg_catalog.->>) 'datlocprovider', 'c') AS provider,
         d.datcollate,
         coalesce(pg_catalog.to_jsonb(d) OPERATOR(pg_catalog.->>) 'datlocale',
                  pg_catalog.to_jsonb(d) OPERATOR(pg_catalog.->>) 'daticulocale') AS locale
  FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
),
facts AS (
  SELECT db.encoding,
         CASE db.provider WHEN 'c' THEN db.datcollate IN ('C', 'POSIX', 'C.UTF-8', 'C.UTF8', 'C.utf8')
                          WHEN 'b' THEN db.locale IN ('C', 'C.UTF-8', 'PG_UNICODE_FAST')
                          ELSE false END AS is_c
  FROM db
),
base(attrelid, attnum, typid, typmod) AS (
  SELECT a.attrelid, a.attnum, a.atttypid, a.atttypmod
  FROM pg_catalog.pg_attribute a JOIN found f ON f.oid OPERATOR(pg_catalog.=) a.attrelid
  WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
  UNION ALL
  SELECT b.attrelid, b.attnum, t.typbasetype, t.typtypmod
  FROM base b JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) b.typid
  WHERE t.typtype OPERATOR(pg_catalog.=) 'd'
),
columns AS (
  SELECT a.attrelid, pg_catalog.json_agg(pg_catalog.json_build_object(
           'name', a.attname, 'attnum', a.attnum, 'type_oid', t.oid::pg_catalog.int8,
           'type_name', pg_catalog.format_type(t.oid, NULL), 'typmod', b.typmod,
           'collation', l.collname, 'deterministic', coalesce(l.collisdeterministic, true),
           'collation_is_c', CASE WHEN l.collname OPERATOR(pg_catalog.=) 'default' THEN facts.is_c
                             ELSE coalesce(l.collcollate IN ('C', 'POSIX'), false)
                                  OR coalesce(l.collname IN ('C', 'POSIX', 'ucs_basic'), false) END,
           'generated', a.attgenerated OPERATOR(pg_catalog.<>) '', 'not_null', a.attnotnull,
           'default', CASE WHEN a.attgenerated OPERATOR(pg_catalog.=) ''
                           THEN coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                                         CASE WHEN a.attidentity OPERATOR(pg_catalog.<>) '' THEN 'identity' END,
                                         own.typdefault) END
         ) ORDER BY a.attnum) AS list
  FROM pg_catalog.pg_attribute a
  JOIN found f ON f.oid OPERATOR(pg_catalog.=) a.attrelid
  JOIN base b ON b.attrelid OPERATOR(pg_catalog.=) a.attrelid AND b.attnum OPERATOR(pg_catalog.=) a.attnum
  JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) b.typid AND t.typtype OPERATOR(pg_catalog.<>) 'd'
  JOIN pg_catalog.pg_type own ON own.oid OPERATOR(pg_catalog.=) a.atttypid
  LEFT JOIN pg_catalog.pg_collation l ON l.oid OPERATOR(pg_catalog.=) a.attcollation
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid
                                   AND d.adnum OPERATOR(pg_catalog.=) a.attnum
  CROSS JOIN facts
  GROUP BY a.attrelid
)
SELECT pg_catalog.json_build_object(
  'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'encoding', (SELECT encoding FROM facts), 'is_c', (SELECT is_c FROM facts),
  'relations', (SELECT pg_catalog.json_agg(CASE WHEN f.oid IS NOT NULL THEN pg_catalog.json_build_object(
      'oid', f.oid::pg_catalog.int8, 'schema', f.nspname, 'name', f.relname, 'kind', f.relkind,
      'columns', coalesce(c.list, '[]'::pg_catalog.json)) END ORDER BY w.n)
    FROM wanted w LEFT JOIN found f ON f.n OPERATOR(pg_catalog.=) w.n
    LEFT JOIN columns c ON c.attrelid OPERATOR(pg_catalog.=) f.oid)
)::pg_catalog.text
"""

_FUNCTIONS = """
WITH wanted(schema, name) AS (VALUES {names})
SELECT coalesce(pg_catalog.json_agg(DISTINCT w.name), '[]'::pg_catalog.json)::pg_catalog.text
FROM wanted w
JOIN pg_catalog.pg_proc p ON p.proname OPERATOR(pg_catalog.=) w.name AND p.prokind IN ('a', 'w')
JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) p.pronamespace
WHERE CASE WHEN w.schema IS NULL
           THEN s.nspname OPERATOR(pg_catalog.=) ANY (pg_catalog.current_schemas(true))
           ELSE s.nspname OPERATOR(pg_catalog.=) w.schema END
"""

Name = tuple[str | None, str]


def quote_literal(text: str) -> str:
    """Quote a string so that it means the same whatever standard_conforming_strings says."""
    if "\0" in text:
        raise ValueError("a literal cannot hold a NUL character")
    quoted = text.replace("'", "''")
    return f"E'{quoted.replace(chr(92), chr(92) * 2)}'" if "\\" in text else f"'{quoted}'"


def quote_identifier(name: str) -> str:
    """Quote an identifier, always."""
    return '"' + name.replace('"', '""') + '"'


def relations_sql(names: Sequence[Name]) -> str:
    """Return the query for facts of relations by (schema or None, name), resolved by the session's search_path."""
    rows = []
    for number, (schema, name) in enumerate(names):
        qualified = ".".join(quote_identifier(part) for part in (schema, name) if part is not None)
        rows.append(f"({number}, {quote_literal(qualified)})")
    return _RELATIONS.replace("{names}", ", ".join(rows))


def parse_relations(text: str) -> list[Relation | None]:
    """Read the answer to `relations_sql`: one entry for each name, None where there is no such relation."""
    answer = json.loads(text)
    return [None if found is None else _relation(found, answer) for found in answer["relations"]]


def _relation(found: dict[str, Any], answer: dict[str, Any]) -> Relation:
    return Relation(
        oid=found["oid"],
        schema=found["schema"],
        name=found["name"],
        kind=found["kind"],
        columns=tuple(Column(**column) for column in found["columns"]),
        server_version=answer["version"] // 10000,
        server_encoding=answer["encoding"],
        database_collation_is_c=answer["is_c"],
    )


def function_kinds_sql(names: Sequence[Name]) -> str:
    """Return the query for which functions are aggregates or window functions in the session's search_path."""
    rows = ", ".join(
        f"({'NULL' if schema is None else quote_literal(schema)}::pg_catalog.name, "
        f"{quote_literal(name)}::pg_catalog.name)"
        for schema, name in names
    )
    return _FUNCTIONS.replace("{names}", rows)


def parse_function_kinds(text: str) -> list[str]:
    """Read the answer to `function_kinds_sql`: the names that are an aggregate or a window function."""
    names: list[str] = json.loads(text)
    return names


_CONSTANT = re.compile(
    r"""(?x) \(?-?\d+(\.\d+)?\)? (::[a-z0-9_ "().,]+)?      # numbers, as pg_get_expr writes them
        | \(?'(?:[^']|'')*'\)? (::[a-z0-9_ "().,]+)?        # strings with their type
        | true | false | NULL (::[a-z0-9_ "().,]+)? """
)

_CHANGING = re.compile(r"(?i)'\s*(now|today|tomorrow|yesterday|allballs|epoch)?\s*'::\s*(date|time)")


def is_constant(expression: str) -> bool:
    """Whether `pg_get_expr`'s text is a plain constant, the same at any time on any server; in doubt it is not."""
    return _CONSTANT.fullmatch(expression) is not None and _CHANGING.match(expression) is None


def constants_sql(expressions: Sequence[str]) -> str:
    """Return the query for the text output of expressions that `is_constant` has accepted, in one row."""
    return "SELECT " + ", ".join(f"({expression})::pg_catalog.text" for expression in expressions)

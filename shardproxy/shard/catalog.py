"""Questions to a shard's catalogs as SQL text, and their answers as values. Does no I/O.

Whoever asks (a session's own connection, `check`) runs the text and hands the one value of its one row to the
parser beside it. Names mean what they mean to the session that asks: its search_path, its temporary tables, the
DDL of its open transaction.

The session may have any settings: the SQL is ASCII without backslashes, names travel as hexadecimal UTF-8 and so
does the answer (JSON), which no client_encoding changes; every function, type and operator is pg_catalog's.
Columns that only some versions have are read out of the row's JSON, where they are absent instead of an error.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from shardproxy.errors import PgError
from shardproxy.routing.identifiers import ascii_identifier
from shardproxy.routing.relation import Column, Relation
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import INTERNAL_ERROR, OBJECT_NOT_IN_PREREQUISITE_STATE

Name = tuple[str | None, str]
"""Schema, or None to search the path; and the name."""

IDENTITY: Final = "GENERATED AS IDENTITY"
"""`Column.default` of an identity column, which has no expression in pg_attrdef and is no constant."""

# A SQL_ASCII database has bytes and no characters: converting them would fail for most.
ENCODING: Final = """(CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII'
    THEN 'SQL_ASCII' ELSE 'UTF8' END)::pg_catalog.name"""

_ASKED: Final = """asked(number, space, name) AS (
  SELECT given.number,
    pg_catalog.convert_from(pg_catalog.decode(given.space, 'hex'), {encoding}),
    pg_catalog.convert_from(pg_catalog.decode(given.name, 'hex'), {encoding})
  FROM (VALUES {values}) AS given(number, space, name))"""

# Providers: b builtin (17, sorts by code point), c libc, d the database's own, i ICU. Before 15 every database's
# is libc, and no column shows it.
_RELATIONS: Final = """WITH {asked}, found(number, oid) AS (
  SELECT a.number, pg_catalog.to_regclass(CASE WHEN a.space IS NULL THEN pg_catalog.quote_ident(a.name) ELSE
    pg_catalog.concat(pg_catalog.quote_ident(a.space), '.', pg_catalog.quote_ident(a.name)) END)::pg_catalog.oid
  FROM asked AS a
), own(is_c) AS (
  SELECT CASE
    WHEN (d.fact OPERATOR(pg_catalog.->>) 'datlocprovider') OPERATOR(pg_catalog.=) 'b' THEN true
    WHEN (d.fact OPERATOR(pg_catalog.->>) 'datlocprovider') OPERATOR(pg_catalog.=) 'i' THEN false
    ELSE (d.fact OPERATOR(pg_catalog.->>) 'datcollate') OPERATOR(pg_catalog.=) ANY (ARRAY['C', 'POSIX'])
    END
  FROM (SELECT pg_catalog.to_jsonb(db) AS fact FROM pg_catalog.pg_database AS db
        WHERE db.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) AS d
), collations(oid, name, deterministic, is_c) AS (
  SELECT c.oid, c.collname, c.collisdeterministic, CASE
    WHEN c.collprovider OPERATOR(pg_catalog.=) 'd' THEN own.is_c
    WHEN c.collprovider OPERATOR(pg_catalog.=) 'b' THEN true
    WHEN c.collprovider OPERATOR(pg_catalog.=) 'c' THEN
      c.collcollate::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY['C', 'POSIX'])
    ELSE false END
  FROM pg_catalog.pg_collation AS c, own
), columns(relid, domains, list) AS (
  SELECT a.attrelid, pg_catalog.bool_or(t.typtype OPERATOR(pg_catalog.=) 'd'
      OR t.typelem OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid), pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname, 'attnum', a.attnum, 'type_oid', base.typid::pg_catalog.int8,
      'type_name', pg_catalog.format_type(base.typid, base.typmod), 'typmod', base.typmod, 'type_kind', base.typtype,
      'collation', c.name, 'deterministic', COALESCE(c.deterministic, true),
      'collation_is_c', COALESCE(c.is_c, false),
      'generated', a.attgenerated OPERATOR(pg_catalog.<>) '', 'not_null', a.attnotnull,
      'default', CASE
        WHEN a.attidentity OPERATOR(pg_catalog.<>) '' THEN '{identity}'
        WHEN a.attgenerated OPERATOR(pg_catalog.<>) '' THEN NULL
        WHEN d.adbin IS NOT NULL THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid)
        WHEN t.typdefaultbin IS NOT NULL THEN pg_catalog.pg_get_expr(t.typdefaultbin, 0::pg_catalog.oid)
        WHEN t.typdefault IS NOT NULL THEN pg_catalog.concat(pg_catalog.quote_literal(t.typdefault), '::',
          pg_catalog.format_type(t.oid, NULL)) END
    ) ORDER BY a.attnum)
  FROM pg_catalog.pg_attribute AS a
  JOIN pg_catalog.pg_type AS t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
  CROSS JOIN LATERAL (
    WITH RECURSIVE step(typid, typmod, typtype) AS (
      SELECT t.oid, a.atttypmod, t.typtype
      UNION ALL
      SELECT below.oid, over.typtypmod, below.typtype
      FROM step JOIN pg_catalog.pg_type AS over ON over.oid OPERATOR(pg_catalog.=) step.typid
      JOIN pg_catalog.pg_type AS below ON below.oid OPERATOR(pg_catalog.=) over.typbasetype
      WHERE step.typtype OPERATOR(pg_catalog.=) 'd')
    SELECT step.typid, step.typmod, step.typtype FROM step WHERE step.typtype OPERATOR(pg_catalog.<>) 'd') AS base
  LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid OPERATOR(pg_catalog.=) a.attrelid
    AND d.adnum OPERATOR(pg_catalog.=) a.attnum
  LEFT JOIN collations AS c ON c.oid OPERATOR(pg_catalog.=) a.attcollation
  WHERE a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    AND a.attrelid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT f.oid FROM found AS f))
  GROUP BY a.attrelid
)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_agg(
    CASE WHEN found.oid IS NULL THEN NULL ELSE pg_catalog.json_build_object(
      'oid', found.oid::pg_catalog.int8, 'schema', n.nspname, 'name', r.relname, 'kind', r.relkind,
      'columns', COALESCE(columns.list, '[]'),
      'server_version', pg_catalog.current_setting('server_version_num'),
      'server_encoding', pg_catalog.getdatabaseencoding(), 'database_collation_is_c', own.is_c,
      'hooked', r.relhastriggers OR r.relhasrules OR r.relhassubclass OR (
        r.relchecks OPERATOR(pg_catalog.>) 0 AND EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
        JOIN pg_catalog.pg_depend AS f ON f.objid OPERATOR(pg_catalog.=) k.oid
          AND f.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid
          AND f.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid
        WHERE k.conrelid OPERATOR(pg_catalog.=) r.oid AND k.contype OPERATOR(pg_catalog.=) 'c'))
      OR COALESCE(columns.domains, false)) END
    ORDER BY found.number)::pg_catalog.text, {encoding}), 'hex')
FROM found CROSS JOIN own
LEFT JOIN pg_catalog.pg_class AS r ON r.oid OPERATOR(pg_catalog.=) found.oid
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) r.relnamespace
LEFT JOIN columns ON columns.relid OPERATOR(pg_catalog.=) found.oid"""

_RELATIVES: Final = """WITH RECURSIVE up(oid) AS (
  VALUES ({oid}::pg_catalog.oid)
  UNION
  SELECT next.oid FROM up JOIN LATERAL (
    SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid OPERATOR(pg_catalog.=) up.oid
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_rewrite AS r
    JOIN pg_catalog.pg_depend AS d ON d.objid OPERATOR(pg_catalog.=) r.oid
      AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid
      AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
    WHERE r.ev_class OPERATOR(pg_catalog.=) up.oid
  ) AS next ON true)
SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg(
    pg_catalog.json_build_array(n.nspname, c.relname)), '[]')::pg_catalog.text, {encoding}), 'hex')
FROM up JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) up.oid
JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
WHERE c.oid OPERATOR(pg_catalog.<>) {oid}::pg_catalog.oid AND c.relkind OPERATOR(pg_catalog.<>) 'v'"""

_FUNCTION_KINDS: Final = """WITH {asked}
SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg(
    pg_catalog.json_build_array(a.space, a.name) ORDER BY a.number), '[]')::pg_catalog.text, {encoding}), 'hex')
FROM asked AS a WHERE EXISTS (
  SELECT FROM pg_catalog.pg_proc AS p
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
  WHERE p.proname OPERATOR(pg_catalog.=) a.name::pg_catalog.name
    AND p.prokind OPERATOR(pg_catalog.=) ANY (ARRAY['a', 'w']::pg_catalog."char"[])
    AND CASE WHEN a.space IS NULL THEN pg_catalog.pg_function_is_visible(p.oid)
        WHEN a.space OPERATOR(pg_catalog.=) 'pg_temp' THEN n.oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
        ELSE n.nspname OPERATOR(pg_catalog.=) a.space::pg_catalog.name END)"""

_IMMUTABLE: Final = """WITH {asked}, known(number, volatility) AS (
  SELECT a.number, p.provolatile FROM asked AS a
  JOIN pg_catalog.pg_proc AS p ON p.proname OPERATOR(pg_catalog.=) a.name::pg_catalog.name
  JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
  WHERE CASE WHEN a.space IS NULL THEN pg_catalog.pg_function_is_visible(p.oid)
    ELSE n.nspname OPERATOR(pg_catalog.=) a.space::pg_catalog.name END
)
SELECT pg_catalog.encode(pg_catalog.convert_to(COALESCE(pg_catalog.json_agg(
    pg_catalog.json_build_array(a.space, a.name) ORDER BY a.number), '[]')::pg_catalog.text, {encoding}), 'hex')
FROM asked AS a
WHERE a.number OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT k.number FROM known AS k))
  AND a.number OPERATOR(pg_catalog.<>) ALL (
    ARRAY(SELECT k.number FROM known AS k WHERE k.volatility OPERATOR(pg_catalog.<>) 'i'))"""


BUILTIN_FUNCTIONS: Final = f"""SELECT pg_catalog.encode(pg_catalog.convert_to(
  pg_catalog.json_agg(DISTINCT p.proname)::pg_catalog.text, {ENCODING}), 'hex') FROM pg_catalog.pg_proc AS p
WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace
  AND p.proname OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT u.proname FROM pg_catalog.pg_proc AS u
    WHERE u.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid))"""
"""The query for the names that PostgreSQL's own functions alone have; they are ASCII in every encoding."""

SEARCHED: Final = f"""pg_catalog.encode(pg_catalog.convert_to(
  pg_catalog.to_json(pg_catalog.current_schemas(false))::pg_catalog.text, {ENCODING}), 'hex')"""
"""The expression for the schemas of the search_path that there are."""


def parse_searched(answer: str) -> list[str]:
    """Read the answer."""
    return list(read_json(answer))


_KEYWORD_FUNCTIONS: Final = frozenset({
    "current_catalog", "current_date", "current_role", "current_schema", "current_time", "current_timestamp",
    "current_user", "localtime", "localtimestamp", "session_user", "user",
})  # fmt: skip
"""SQLValueFunction: they are functions to the grammar, and none to the catalog."""


def parse_builtin_functions(answer: str) -> frozenset[str]:
    """Read the answer."""
    return frozenset(read_json(answer)) | _KEYWORD_FUNCTIONS


# All that a COPY is placed and watched by, as one value. `pg_identify_object` tells kind, schema and name without a
# join to plan. A definition that changes leaves other rows in pg_attribute. Asked in front of each COPY of a few rows:
# to aggregate what those rows say takes a server twice as long.
_FINGERPRINT: Final = """SELECT pg_catalog.hashtextextended(pg_catalog.concat_ws('/',
    r.oid, pg_catalog.pg_identify_object(1259, r.oid, 0),
    (SELECT pg_catalog.concat(c.relhastriggers, c.relhasrules, c.relhassubclass, c.relchecks)
      FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) r.oid),
    (SELECT pg_catalog.array_agg(a.xmin) FROM pg_catalog.pg_attribute AS a
      WHERE a.attrelid OPERATOR(pg_catalog.=) r.oid AND a.attnum OPERATOR(pg_catalog.>) 0)) COLLATE pg_catalog."C", 0)
FROM (SELECT pg_catalog.to_regclass(pg_catalog.convert_from(pg_catalog.decode('{name}', 'hex'),
  {encoding}))::pg_catalog.oid) AS r(oid)"""

# OFFSET 0: written out twice, it would make PostgreSQL plan the query anew each time, for what the parameter is.
_ASSERTED: Final = """SELECT f.found, CASE
    WHEN $1::pg_catalog.int8 IS NULL OR f.found OPERATOR(pg_catalog.=) $1 THEN NULL
    ELSE pg_catalog.concat('shardproxy: another table than ', f.found)::pg_catalog.int4 END
FROM (SELECT ({fingerprint}) OFFSET 0) AS f(found)"""


def fingerprint_sql(name: Name) -> str:
    """Return the query for a value that changes with whatever `relations_sql` tells of a table, but for defaults."""
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in name if part is not None)
    return _FINGERPRINT.format(name=quoted.encode("utf-8", "surrogateescape").hex(), encoding=ENCODING)


def locked_relation_sql(name: Name) -> str:
    """Return the statements that take COPY FROM's own lock on a table, and ask for the relation and its fingerprint.

    The answer is of two columns, both of one snapshot, which is taken after the lock.
    """
    return f"{_lock(name)}; SELECT ({relations_sql([name])}), ({fingerprint_sql(name)})"


def guard_sql(name: Name) -> tuple[str, str]:
    """Return the statement that takes COPY FROM's own lock on a table, and the query for its fingerprint.

    The query fails with 22P02 if the fingerprint is not its parameter $1, a bigint, unless this is NULL.
    """
    return _lock(name), _ASSERTED.format(fingerprint=fingerprint_sql(name))


def _lock(name: Name) -> str:
    table = ".".join(ascii_identifier(part) for part in name if part is not None)
    return f"LOCK TABLE ONLY {table} IN ROW EXCLUSIVE MODE"


def relations_sql(names: Sequence[Name]) -> str:
    """Return the query for these relations; `parse_relations` reads its answer.

    It fails as the relation itself would in a statement where a schema may not be used (42501) or a name has
    characters that the server's encoding has not (22P05).
    """
    return _RELATIONS.format(asked=asked_sql(names), encoding=ENCODING, identity=IDENTITY)


def relations_and_isolation_sql(names: Sequence[Name]) -> str:
    """Return the query for these relations, as `relations_sql`, the transaction's isolation level, and SEARCHED."""
    return f"SELECT ({relations_sql(names)}), pg_catalog.current_setting('transaction_isolation'), {SEARCHED}"


def parse_relations(answer: str) -> list[Relation | None]:
    """Read the answer: one Relation for each name asked for, in that order; None for what does not exist.

    PgError 55000: a relation exists, but this transaction's snapshot is older. PostgreSQL itself would use it,
    as it plans with the newest catalog, so it must not count as missing.
    """
    return [None if facts is None else _relation(facts) for facts in read_json(answer)]


def text(answer: bytes | None) -> str:
    """Return the one value of an answer as the parsers take it."""
    if answer is None:
        raise PgError(INTERNAL_ERROR, "the catalog query returned nothing")
    return answer.decode("utf-8", "surrogateescape")


async def ask(connection: Connection, sql: str) -> str:
    """Run one of these queries, and return its answer as the parsers take it."""
    [answer] = await connection.fetch_row(sql, 1)
    return text(answer)


def relatives_sql(oid: int) -> str:
    """Return the query for the relations that hold or feed this one's rows: its parents, and what a view reads.

    A view among them has no rows of its own: what it reads is there in its place.
    """
    return _RELATIVES.format(oid=int(oid), encoding=ENCODING)


def parse_relatives(answer: str) -> list[tuple[str, str]]:
    """Read the answer: (schema, name) of each, without the relation itself."""
    return [(space, name) for space, name in read_json(answer)]


def function_kinds_sql(names: Sequence[Name]) -> str:
    """Return the query that tells which of these functions are aggregates or window functions."""
    return _FUNCTION_KINDS.format(asked=asked_sql(names), encoding=ENCODING)


def immutable_sql(names: Sequence[Name]) -> str:
    """Return the query that tells which of these functions are immutable, whatever their arguments are."""
    return _IMMUTABLE.format(asked=asked_sql(names), encoding=ENCODING)


def parse_functions(answer: str) -> frozenset[Name]:
    """Read the answer: those of the names asked for that are, or may be, what was asked."""
    return frozenset((space, name) for space, name in read_json(answer))


# A type as format_type writes it: words, quoted words, a schema, modifiers, array brackets.
_WORD: Final = r'(?:[a-z_][a-z0-9_$]*|"(?:[^"]|"")+")'
_TYPE: Final = rf"{_WORD}(?:\.{_WORD}|(?: [a-z]+)*)(?:\([0-9, -]+\))?(?: with(?:out)? time zone)?(?: [a-z]+)*(?:\[\])*"
_CONSTANT: Final = re.compile(
    rf"(?:'(?:[^']|'')*'::(?P<text>{_TYPE})|(?P<null>NULL)::{_TYPE}|(?P<flag>true|false)|(?P<whole>[0-9]+)"
    rf"|(?P<fraction>[0-9]+(?:\.[0-9]*)?(?:e[+-]?[0-9]+)?)|\(-[0-9]+(?:\.[0-9]*)?\)(?:::(?P<minus>{_TYPE}))?)"
    rf"(?: COLLATE {_WORD}(?:\.{_WORD})?)?"
)
_MODIFIER: Final = re.compile(r"\([0-9, -]+\)")
_QUOTED: Final = re.compile(r'"(bpchar|bytea|date|text|uuid)"')  # by quote_all_identifiers; the others are key words


def is_constant(expression: str) -> bool:
    """Whether this text of pg_get_expr is one plain literal, which has the same value on every shard.

    Anything that it does not know for one (a function, a cast of a cast, `CURRENT_DATE`) is not: a false "no"
    costs a refusal, a false "yes" would misplace rows. So are literals beyond ASCII: their bytes would arrive in
    the session's encoding, and keys are hashed in the server's.
    """
    return expression.isascii() and _CONSTANT.fullmatch(expression) is not None


def literal_type(expression: str) -> str:
    """Return the type of an expression that `is_constant` accepts, as format_type writes it without its modifier.

    `null` for a NULL of any type. PostgreSQL converts the value to the column's type where the two differ.
    """
    match = _CONSTANT.fullmatch(expression)
    if match is None:
        raise ValueError(f"{expression!r} is not a plain constant")
    if match["null"]:
        return "null"
    if match["flag"]:
        return "boolean"
    if match["whole"]:
        return "integer"
    named = match["text"] or match["minus"] or "numeric"
    return _QUOTED.sub(r"\1", _MODIFIER.sub("", named))


def constants_sql(expressions: Sequence[str]) -> str:
    """Return the query whose one row has each constant's value as text; dates in ISO 8601 under any DateStyle.

    Each expression is one that `is_constant` accepts, as the same session's catalog gave it.
    """
    for expression in expressions:
        if not is_constant(expression):
            raise ValueError(f"{expression!r} is not a plain constant")
    # json, as its dates and times do not follow DateStyle.
    texts = (f"(pg_catalog.to_json({text}) OPERATOR(pg_catalog.#>>) '{{}}')" for text in expressions)
    return f"SELECT {', '.join(texts)}"


def asked_sql(names: Sequence[Name]) -> str:
    """Return the common table expression asked(number, space, name)."""
    if not names:
        raise ValueError("no names to ask for")
    rows = (f"({number}, {hex_literal(space)}, {hex_literal(name)})" for number, (space, name) in enumerate(names))
    return _ASKED.format(values=", ".join(rows), encoding=ENCODING)


def hex_literal(name: str | None) -> str:
    """Return a name, or NULL, as an SQL constant of its hexadecimal UTF-8."""
    if name is None:
        return "NULL::pg_catalog.text"
    if "\0" in name:
        raise ValueError("a name has no NUL character")
    return f"'{name.encode('utf-8', 'surrogateescape').hex()}'::pg_catalog.text"


def too_new() -> PgError:
    """Return the error of a relation that this transaction's snapshot is older than."""
    return PgError(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "a relation was created after this transaction's snapshot was taken",
        hint="Begin a new transaction.",
    )


def read_json(answer: str) -> Any:
    """Read an answer that travels as hexadecimal JSON."""
    return json.loads(bytes.fromhex(answer).decode("utf-8", "surrogateescape"))


def _relation(facts: dict[str, Any]) -> Relation:
    if facts["name"] is None:
        raise too_new()
    columns = tuple(Column(**column) for column in facts.pop("columns"))
    version = int(facts.pop("server_version")) // 10000
    return Relation(columns=columns, server_version=version, **facts)

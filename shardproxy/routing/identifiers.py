"""Identifiers as PostgreSQL shows them in messages, and as every session reads them."""

import re
from typing import Final

KEYWORDS: Final = frozenset(
    """
    all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean
    both case cast char character check coalesce collate collation column concurrently constraint create
    cross current_catalog current_date current_role current_schema current_time current_timestamp
    current_user dec decimal default deferrable desc distinct do else end except exists extract false
    fetch float for foreign freeze from full grant greatest group grouping having ilike in initially inner
    inout int integer intersect interval into is isnull join json json_array json_arrayagg json_exists
    json_object json_objectagg json_query json_scalar json_serialize json_table json_value lateral leading
    least left like limit localtime localtimestamp merge_action national natural nchar none normalize not
    notnull null nullif numeric offset on only or order out outer overlaps overlay placing position
    precision primary real references returning right row select session_user setof similar smallint some
    substring symmetric system_user table tablesample then time timestamp to trailing treat trim true
    union unique user using values varchar variadic verbose when where window with xmlattributes xmlconcat
    xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
    """.split()  # noqa: SIM905 - a list would take a line per word
)
"""Key words of PostgreSQL 18 that are not unreserved: quote_identifier quotes them (pg_get_keywords)."""

_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


def quote_identifier(name: str) -> str:
    """Quote a name where SQL needs it, as quote_identifier in src/backend/utils/adt/ruleutils.c."""
    if _PLAIN.fullmatch(name) and name not in KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def ascii_name(schema: str, name: str) -> str:
    """Quote a relation's name with its schema; see `ascii_identifier`."""
    return f"{ascii_identifier(schema)}.{ascii_identifier(name)}"


def ascii_identifier(name: str) -> str:
    """Quote a name in ASCII, whatever the session's client_encoding is; foreign bytes (SQL_ASCII) stay."""
    quoted = name.replace('"', '""')
    if quoted.isascii():
        return f'"{quoted}"'
    escaped = (
        c if c.isascii() or "\udc80" <= c <= "\udcff" else f"\\+{ord(c):06X}" for c in quoted.replace("\\", "\\\\")
    )
    return f'U&"{"".join(escaped)}"'

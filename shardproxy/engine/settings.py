"""What a later shard must replay to have a setting that a statement has made.

SET and RESET are replayed as they came. set_config() may have come with parameters, which a script cannot have: it
is replayed as a prepared statement that is executed once.
"""

import re
from collections.abc import Sequence

from shardproxy.errors import PgError
from shardproxy.plan import ParamValue, Statement
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED

BOOL = 16
TEXTS = frozenset({0, 19, 25, 705, 1043})
"""Types whose binary format is their text: unknown, name, text, varchar."""

_NAME = re.compile(r"\bset_config\s*\(\s*(?:'((?:[^']|'')*)'|\$([0-9]+))", re.IGNORECASE)


def setting_name(statement: Statement, params: Sequence[ParamValue]) -> str | None:
    """Return what a SET, RESET or set_config() is about; None for all settings.

    A set_config() whose name cannot be read off is about its own text: then an earlier one is replayed as well.
    """
    if not statement.sets_config:
        return statement.name
    calls = _NAME.findall(statement.text)
    if len(calls) == 1 and statement.text.lower().count("set_config") == 1:
        literal, number = calls[0]
        if not number:
            return str(literal).replace("''", "'").lower()
        value = params[int(number) - 1].value if int(number) <= len(params) else None
        if value is not None:
            return value.decode("utf-8", "surrogateescape").lower()
    return f"set_config {statement.text} {[param.value for param in params]}"


def replay_sql(statement: Statement, sql: bytes, params: Sequence[ParamValue]) -> bytes:
    """Return the SQL, without parameters, that does on another connection what `sql` did."""
    if not params:
        return sql
    values = b", ".join(_literal(param) for param in params)
    return b"PREPARE shardproxy_set AS %s\n;\nEXECUTE shardproxy_set(%s);\nDEALLOCATE shardproxy_set" % (sql, values)


def _literal(param: ParamValue) -> bytes:
    if param.value is None:
        return b"NULL"
    value = param.value
    if param.format == 1 and param.oid == BOOL:
        value = b"true" if value == b"\x01" else b"false"
    elif param.format == 1 and param.oid not in TEXTS:
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            "set_config() with a binary parameter that is no text is not supported through shardproxy",
            hint="Send the parameter in text format, or use SET.",
        )
    escaped = value.replace(b"'", b"''")
    return b"E'" + escaped.replace(b"\\", b"\\\\") + b"'" if b"\\" in value else b"'" + escaped + b"'"

"""The settings of a session, and what a connection must run to have them. No I/O.

SET and RESET are replayed as they came. set_config() may have come with parameters, which a script cannot have: it
is replayed as a prepared statement that is executed once.
"""

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from shardproxy.errors import PgError
from shardproxy.routing import ParamValue
from shardproxy.sql import Const, Param, Statement, Value
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED
from shardproxy.transaction.savepoints import Entry, script

BOOL = 16
TEXTS = frozenset({0, 19, 25, 705, 1043})
"""Types whose binary format is their text: unknown, name, text, varchar."""

CASTS = frozenset({None, "bool", "text", "varchar"})
"""Casts that leave the arguments of set_config() as they are."""

_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")
"""A setting's name that RESET takes as it is. What an undecided set_config() is noted under is none."""


@dataclass(slots=True)
class SessionSettings:
    """The settings that hold beyond a transaction, as the statements that made them, in order."""

    entries: list[Entry] = field(default_factory=list)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def keep(self, entry: Entry) -> None:
        """Note a change; it takes the place of an earlier one of the same setting."""
        if entry.setting == "all":
            # RESET ALL and DISCARD ALL bring back what the start-up message asked for.
            self.entries.clear()
            return
        self.entries = [kept for kept in self.entries if kept.setting != entry.setting]
        self.entries.append(entry)

    def sql(self) -> bytes:
        """Return the statements that bring a new connection to these settings; may be empty."""
        return script(self.entries)

    def restoring_sql(self, names: AbstractSet[str]) -> bytes:
        """Return the statements that give the named settings these values again; empty for no names."""
        if not names:
            return b""
        resets = [name for name in sorted(names) if _NAME.fullmatch(name) and name != "all"]
        entries = [Entry(f"RESET {name}".encode()) for name in resets]
        if len(resets) < len(names):
            return script([*entries, Entry(b"RESET ALL"), *self.entries])
        return script(entries + [entry for entry in self.entries if entry.setting in names])


def setting_change(statement: Statement, params: Sequence[ParamValue]) -> tuple[str | None, bool]:
    """Return what a SET, RESET or set_config() is about (None: all settings), and whether the transaction ends it.

    What cannot be told before it runs is about its own text: then earlier ones are replayed as well.
    """
    own = f"{statement.text} {[param.value for param in params]}"
    if not statement.sets_config:
        # Each time it may be about others of its settings.
        return own if statement.name == "SESSION CHARACTERISTICS" else statement.name, statement.local
    calls = [(_text(call.name, params), _truth(call.local, params)) for call in statement.set_configs]
    match calls:
        case [(str(name), bool(local))]:
            return name.lower(), local
    return own, bool(calls) and all(local is True for _, local in calls)


def _text(value: Value | None, params: Sequence[ParamValue]) -> str | None:
    """Read a string; None for NULL, and for what is not known here."""
    if value is None or value.cast not in CASTS:
        return None
    if isinstance(value, Const):
        return None if value.kind == "null" else value.text
    if value.number > len(params):
        return None
    param = params[value.number - 1]
    if param.value is None or (param.format == 1 and param.oid not in TEXTS):
        return None
    return param.value.decode("utf-8", "surrogateescape")


def _truth(value: Value | None, params: Sequence[ParamValue]) -> bool | None:
    """Read a boolean as boolin and boolrecv do, NULL as set_config() does: false. None for what is not known here."""
    if isinstance(value, Const) and value.kind == "null":
        return False
    if isinstance(value, Param) and value.number <= len(params):
        param = params[value.number - 1]
        if param.value is None:
            return False
        if param.format == 1 and param.oid == BOOL:
            return param.value != b"\0"
    text = (_text(value, params) or "").strip().lower()
    if text and ("true".startswith(text) or "yes".startswith(text) or text in {"on", "1"}):
        return True
    if text and ("false".startswith(text) or "no".startswith(text) or text in {"of", "off", "0"}):
        return False
    return None


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
            "set_config() with a binary parameter that is not text is not supported through shardproxy",
            hint="Send the parameter in text format, or use SET.",
        )
    escaped = value.replace(b"'", b"''")
    return b"E'" + escaped.replace(b"\\", b"\\\\") + b"'" if b"\\" in value else b"'" + escaped + b"'"

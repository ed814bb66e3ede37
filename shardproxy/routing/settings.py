"""Which setting a statement changes, and for how long."""

from collections.abc import Sequence
from typing import Final

from shardproxy.routing.plan import Settings
from shardproxy.routing.refusals import refused
from shardproxy.routing.resolved import ParamValue, Tables
from shardproxy.sql import SCHEMA, Const, Discard, Param, Reset, Select, Set, Update, Value, in_path

BOOL: Final = 16
TEXTS: Final = frozenset({0, 19, 25, 705, 1043})
"""Types whose binary format is their text: unknown, name, text, varchar."""
_CASTS: Final = frozenset({None, "bool", "text", "varchar"})
"""Casts that leave the arguments of set_config() as they are."""
_PARTS: Final = frozenset({"DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP"})
"""Tags of what leaves the settings as they are."""


def route_settings(statement: Set | Reset | Discard | Select | Update, params: Sequence[ParamValue]) -> Settings:
    """Plan a SET, RESET, DISCARD, SELECT of set_config() or UPDATE of pg_settings.

    What cannot be told before it runs is about its own text: then earlier changes are replayed as well.
    """
    match statement:
        case Set(name="SESSION CHARACTERISTICS"):
            # Each time it may be about others of its settings.
            return Settings(_own(statement, params))
        case Set(name=name, local=local):
            return Settings(name, local)
        case Reset(name=reset):
            return Settings(reset or "all")
        case Discard():
            return Settings(None, lasting=statement.tag not in _PARTS)
        case Update():
            return Settings(_own(statement, params))
    calls = [(_text(call.name, params), _truth(call.local, params)) for call in statement.set_configs]
    match calls:
        case [(str(name), bool(local))]:
            return Settings(name.lower(), local)
    return Settings(_own(statement, params), bool(calls) and all(local is True for _, local in calls))


def updates_settings(statement: Update, tables: Tables) -> bool:
    """Whether it is one of pg_settings, which a rule turns into set_config(); refused if it reads other tables."""
    target = tables[statement.target]
    if target.kind != "catalog" or target.name != "pg_settings":
        return False
    if any(table.kind != "catalog" for table in tables.values()):
        raise refused("an UPDATE of pg_settings beside other tables is not supported", "Use SET.")
    return True


def names_own(statement: Set | Select, params: Sequence[ParamValue]) -> bool:
    """Whether a statement puts the proxy's schema into the search_path."""
    if isinstance(statement, Set):
        return statement.name.lower() == "search_path" and SCHEMA in (statement.values or ())
    for call in statement.set_configs:
        if (_text(call.name, params) or "").lower() == "search_path" and in_path(_text(call.value, params) or ""):
            return True
    return False


def _own(statement: Set | Select | Update, params: Sequence[ParamValue]) -> str:
    return f"{statement.text} {[param.value for param in params]}"


def _text(value: Value | None, params: Sequence[ParamValue]) -> str | None:
    """Read a string; None for what is none, or not known here."""
    if value is None or value.cast not in _CASTS:
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
    """Read a boolean as boolin and boolrecv do; None for what is not known here. NULL is false, as in set_config()."""
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

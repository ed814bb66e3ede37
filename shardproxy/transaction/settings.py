"""The settings of a session, and what a connection must run to have them. No I/O.

SET and RESET are replayed as they came. set_config() may have come with parameters, which a script cannot have: it
is replayed as a prepared statement that is executed once.
"""

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final

from shardproxy.errors import PgError
from shardproxy.routing import ParamValue
from shardproxy.routing.settings import BOOL, TEXTS
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED
from shardproxy.transaction.savepoints import Entry, script

_NAME = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)*")
"""A setting's name that RESET takes as it is. What an undecided set_config() is noted under is none."""

ALL: Final = "all"
"""What RESET ALL is noted under."""
EVERYTHING: Final = "everything"
"""What DISCARD ALL is noted under."""

STAYING: Final = frozenset({"role", "session_authorization"})
"""What RESET ALL leaves as it is: GUC_NO_RESET_ALL in src/backend/utils/misc/guc_parameters.dat."""


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
        if entry.setting == EVERYTHING:
            # It is again as the start-up message asked for.
            self.entries.clear()
            return
        if entry.setting == ALL:
            # What was changed by an undecided set_config() may be one of those that stay.
            undecided = [kept for kept in self.entries if not _NAME.fullmatch(kept.setting or "")]
            staying = [kept for kept in self.entries if kept.setting in STAYING or kept in undecided]
            self.entries = [*staying, entry] if undecided else staying
            return
        self.entries = [kept for kept in self.entries if kept.setting != entry.setting]
        self.entries.append(entry)

    def restoring_sql(self, names: AbstractSet[str]) -> bytes:
        """Return the statements that give the named settings these values again; empty for no names."""
        if not names:
            return b""
        resets = [name for name in sorted(names) if _NAME.fullmatch(name) and name != ALL]
        entries = [Entry(f"RESET {name}".encode()) for name in resets]
        if len(resets) < len(names):
            return script([*entries, Entry(b"RESET ALL"), *self.entries])
        return script(entries + [entry for entry in self.entries if entry.setting in names])


def replay_sql(sql: bytes, params: Sequence[ParamValue]) -> bytes:
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

"""What a SELECT asks of processes: pg_backend_pid(), pg_cancel_backend() and pg_terminate_backend().

A client knows its session by the process ID that the proxy has given it, which is no backend's. So a call that is a
whole column of a SELECT without FROM is about sessions of the proxy. Anywhere else it may be compared with what the
catalogs tell of backends, and is left to the shard.
"""

import re
from dataclasses import dataclass
from typing import Final

from shardproxy.sql.facts import Const, Param, Value
from shardproxy.sql.parse import Node
from shardproxy.sql.query import value_of
from shardproxy.sql.visible import Visible, spliced

OWN: Final = "pg_backend_pid"
SIGNALS: Final = frozenset({"pg_cancel_backend", "pg_terminate_backend"})

_CALL: Final = re.compile(rf"(?:pg_catalog\s*\.\s*)?{OWN}\s*\(\s*\)", re.IGNORECASE)
_PLAIN: Final = frozenset({"targetList", "limitOption", "op"})
"""What a SELECT has that is nothing but columns."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A SELECT that does nothing but signal a process; `pid` None is the session's own. `column` is its one column."""

    ends: bool
    pid: Value | None
    timeout: Value | None
    column: str

    def answered(self, answer: bool) -> Visible:
        """Return the SELECT that gives this answer without doing anything."""
        quoted = self.column.replace('"', '""')
        return Visible(f'SELECT {"true" if answer else "false"} AS "{quoted}"', ())


@dataclass(frozen=True, slots=True)
class Processes:
    """What a statement's text asks: where pg_backend_pid() is a whole column, and what the statement signals."""

    text: str
    calls: tuple[tuple[int, int, bool], ...] = ()
    """The first character, the one after the last, and whether the column has no other name."""
    signal: Signal | None = None

    def seen_as(self, pid: int) -> Visible:
        """Return the text to run in the session with this process ID."""
        return spliced(
            self.text, [(start, end, f"{pid} AS {OWN}" if named else str(pid)) for start, end, named in self.calls]
        )


def processes(text: str, location: int, node: Node) -> Processes | None:
    """Return what a SELECT asks of processes; None for nothing."""
    if "_backend" not in text.lower() or not node.keys() <= _PLAIN:
        return None
    calls = []
    for item in node.get("targetList", ()):
        target = item["ResTarget"]
        name, args = _call(target.get("val", {}))
        if name in SIGNALS:
            signal = _signal(name, args, target.get("name", name)) if len(node["targetList"]) == 1 else None
            return None if signal is None else Processes(text, signal=signal)
        if name == OWN and not args:
            calls.append((target["val"]["FuncCall"].get("location", 0) - location, "name" not in target))
    spots = _spots(text, [start for start, _ in calls])
    return (
        Processes(text, tuple((*spot, named) for spot, (_, named) in zip(spots, calls, strict=True))) if spots else None
    )


def _spots(text: str, starts: list[int]) -> list[tuple[int, int]]:
    """Return where in the text the calls are whose first bytes these would be if all before the text were ASCII."""
    found = [match.span() for match in _CALL.finditer(text)]
    if len(found) == len(starts):
        return found
    encoded = text.encode("utf-8", "surrogateescape")
    before = {len(encoded[:start].decode("utf-8", "surrogateescape")) for start in starts}
    spots = [spot for spot in found if spot[0] in before]
    return spots if len(spots) == len(starts) else []


def _call(node: Node) -> tuple[str, list[Node]]:
    """Return the name and arguments of a plain call of a function of the system."""
    call = node.get("FuncCall", {})
    names = [part["String"]["sval"] for part in call.get("funcname", ())]
    if not call.keys() <= {"funcname", "args", "funcformat", "location"} or len(names) > 2:
        return "", []
    if len(names) == 2 and names[0] != "pg_catalog":
        return "", []
    return (names[-1] if names else ""), call.get("args", [])


def _signal(name: str, args: list[Node], column: str) -> Signal | None:
    """Read a call that signals; None where only the shard knows what it is about."""
    ends = name == "pg_terminate_backend"
    if not 1 <= len(args) <= 1 + ends:
        return None
    timeout = value_of(args[1]) if len(args) == 2 else Const("int", "0")
    if timeout is None:
        return None
    if _call(args[0]) == (OWN, []):
        return Signal(ends, None, timeout, column)
    pid = value_of(args[0])
    return Signal(ends, pid, timeout, column) if isinstance(pid, Const | Param) else None

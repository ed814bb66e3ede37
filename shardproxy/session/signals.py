"""pg_cancel_backend() and pg_terminate_backend() of a session of the proxy, by the process ID that its client knows.

What such a session works with are backends of several shards, and none of them has that process ID. So the proxy does
it, as src/backend/storage/ipc/signalfuncs.c does; a process ID that is no session's goes to the home shard.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from shardproxy.errors import PgError
from shardproxy.routing import ParamValue
from shardproxy.session.cancel import CancelKeys, Ended, Order
from shardproxy.session.client import Client
from shardproxy.session.execute import Outcome
from shardproxy.session.portals import Portal
from shardproxy.sql import Const, Select, Statement, Value
from shardproxy.sql.processes import Signal
from shardproxy.sqlstate import INSUFFICIENT_PRIVILEGE, WARNING
from shardproxy.transaction.state import Transaction
from shardproxy.wire import encode

_DENIED = {
    True: ("terminate process", "Through shardproxy a session may terminate those of the same user."),
    False: ("cancel query", "Through shardproxy a session may cancel queries of the same user."),
}
"""By whether the process is to end."""

_BOOL = {False: (b"f", b"t"), True: (b"\0", b"\1")}
"""false and true as text and in binary."""


class Signals:
    """One session's signals to others, and to itself."""

    def __init__(
        self, client: Client, transaction: Transaction, keys: CancelKeys, user: str, own: Callable[[], int]
    ) -> None:
        """`own` returns the session's own process ID."""
        self._client = client
        self._transaction = transaction
        self._keys = keys
        self._user = user
        self._own = own

    async def sent(self, signal: Signal, params: Sequence[ParamValue] = ()) -> bool | None:
        """Signal a session; return what the function does, None if it is no session's process ID."""
        pid = self._own() if signal.pid is None else _integer(signal.pid, params)
        timeout = 0 if signal.timeout is None else _integer(signal.timeout, params)
        if pid is None or timeout is None or timeout < 0:
            return None
        self._transaction.check()
        ended = await self._keys.order(pid, Order(signal.ends, timeout, self._user))
        match ended:
            case Ended.DENIED:
                what, detail = _DENIED[signal.ends]
                raise PgError(INSUFFICIENT_PRIVILEGE, f"permission denied to {what}", detail=detail)
            case Ended.STAYS:
                self._client.warn(WARNING, f"backend with PID {pid} did not terminate within {timeout} milliseconds")
        return None if ended is Ended.UNKNOWN else ended is Ended.DONE

    async def executed(self, portal: Portal, limit: int, settle: Callable[[], Awaitable[None]]) -> Outcome | None:
        """Execute a portal that signals; None if a shard is to execute it. `settle` answers what came before."""
        signal = _signal_of(portal.prepared.statement)
        if signal is None:
            return None
        if portal.signalled:
            return Outcome("SELECT 0")
        sent = await self.sent(signal, portal.parameters())
        if sent is None:
            return None
        await settle()
        portal.signalled = True
        self._client.write(encode.data_row([_BOOL[any(portal.bind.result_formats)][sent]]))
        return Outcome(None, suspended=True) if limit == 1 else Outcome("SELECT 1")

    async def answered(self, statement: Statement) -> Statement:
        """Signal a session, and return the statement that answers the client; the same if a shard is to do it."""
        if not isinstance(statement, Select) or (signal := _signal_of(statement)) is None:
            return statement
        sent = await self.sent(signal)
        return statement if sent is None else replace(statement, visible=signal.answered(sent))


def _signal_of(statement: Statement) -> Signal | None:
    """Return the signal to a process that a statement is, and nothing else."""
    asked = statement.processes if isinstance(statement, Select) else None
    return None if asked is None else asked.signal


def _integer(value: Value, params: Sequence[ParamValue]) -> int | None:
    """Return a value's integer, None where it is none or not certain."""
    if value.cast not in {None, "int4", "int8"}:
        return None
    if isinstance(value, Const):
        return _read(value.text) if value.kind in {"int", "str"} else None
    if value.number > len(params):
        return None
    given = params[value.number - 1]
    if given.value is None:
        return None
    return int.from_bytes(given.value, signed=True) if given.format else _read(given.value.decode("ascii", "replace"))


def _read(text: str) -> int | None:
    """Read what PostgreSQL's and Python's integers have in common."""
    digits = text.strip(" \t\n\r\v\f").removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() else None

"""The errors that name a shard, each made in one place. No I/O.

    unreachable    08001   no connection could be made: nothing was sent
    lost           08006   a connection broke, or its server did not answer: what was sent may have been done
                   (TimedOut, the server's own error, where a time-out of the session's has ended it)
    reported_by    the server's own SQLSTATE and fields, with `Reported by shard "..."` added to DETAIL

asyncpg's exceptions come in through `from_asyncpg`, the fields of an ErrorResponse through `PgError.from_fields`.
"""

from shardproxy.errors import ConnectionLost, PgError
from shardproxy.sqlstate import (
    CONNECTION_FAILURE,
    IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    IDLE_SESSION_TIMEOUT,
    SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
    TRANSACTION_TIMEOUT,
)

NO_ANSWER = "The server did not answer in time."

_FIELDS = {
    "severity": "S",
    "severity_en": "V",
    "sqlstate": "C",
    "message": "M",
    "detail": "D",
    "hint": "H",
    "position": "P",
    "internal_position": "p",
    "internal_query": "q",
    "context": "W",
    "schema_name": "s",
    "table_name": "t",
    "column_name": "c",
    "data_type_name": "d",
    "constraint_name": "n",
    "server_source_filename": "F",
    "server_source_line": "L",
    "server_source_function": "R",
}
"""asyncpg's names of the fields of an ErrorResponse, to their codes."""


TIMEOUTS = frozenset({IDLE_IN_TRANSACTION_SESSION_TIMEOUT, TRANSACTION_TIMEOUT, IDLE_SESSION_TIMEOUT})
"""Why a server ends a session that has asked for it: what its client is to read as the server says it."""


class TimedOut(PgError):  # noqa: N818 -- named for what happened, as ConnectionLost is
    """FATAL: the session ends, with the server's own words."""


class Ended(ConnectionLost):
    """A server has ended a connection, and has told why."""

    def __init__(self, reason: PgError) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.timed_out = TimedOut.from_fields(reason.fields) if reason.sqlstate in TIMEOUTS else None


def unreachable(shard: str, cause: BaseException | str) -> PgError:
    """Return 08001: no connection to the shard could be made."""
    return PgError(
        SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
        f'could not connect to shard "{shard}"',
        detail=_words(cause),
        hint="Check that the server is running and accepts connections from the proxy; "
        "`shardproxy check` tries every shard.",
    )


def lost(shard: str, cause: BaseException | str | None) -> PgError:
    """Return 08006: a connection to the shard broke; or the time-out by which the server has ended it."""
    if isinstance(cause, Ended) and cause.timed_out is not None:
        return cause.timed_out
    return PgError(
        CONNECTION_FAILURE,
        f'connection to shard "{shard}" was lost',
        detail=None if cause is None else _words(cause),
    )


def reported_by(error: PgError, shard: str) -> PgError:
    """Add to a server's error which shard reported it, once; return the error."""
    reporter = f'Reported by shard "{shard}".'
    detail = error.detail
    if detail is None:
        error.fields["D"] = reporter
    elif not detail.endswith(reporter):
        error.fields["D"] = f"{detail}\n{reporter}"
    return error


def from_asyncpg(error: Exception) -> PgError:
    """Return a server's error, an asyncpg.PostgresError, with all its fields."""
    found = {code: getattr(error, name, None) for name, code in _FIELDS.items()}
    fields = {code: str(value) for code, value in found.items() if value is not None}
    fields.setdefault("S", "ERROR")
    fields.setdefault("V", fields["S"])
    fields.setdefault("C", CONNECTION_FAILURE)
    fields.setdefault("M", str(error))
    return PgError.from_fields(fields)


def _words(cause: BaseException | str) -> str:
    if isinstance(cause, TimeoutError):
        return NO_ANSWER
    return str(cause) or type(cause).__name__

"""What a session has done to a connection that it holds, and what brings a connection from one state to another.

A connection knows the protocol, a lease knows the session. To hand a connection to another session is to make
another lease, and to run what `SessionState.sql_to` returns.
"""

from dataclasses import dataclass, field

from shardproxy.errors import PgError
from shardproxy.shard.connection import Connection
from shardproxy.shard.errors import Ended, reported_by

_SEPARATOR = b"\n;\n"  # a newline first, because a client's statement may end in a comment


@dataclass(frozen=True, slots=True)
class SessionState:
    """The settings that a session has made since its start-up message, as the statements that made them, in order."""

    settings: tuple[bytes, ...] = ()

    def sql_to(self, wanted: "SessionState") -> bytes:
        """Return the statements that bring a connection in this state to the wanted one; empty if it is there."""
        mine, theirs = self.settings, wanted.settings
        if theirs[: len(mine)] == mine:
            return _SEPARATOR.join(theirs[len(mine) :])
        return _SEPARATOR.join((b"RESET ALL", *theirs))


@dataclass(slots=True, eq=False)
class Lease:
    """A session's hold on a shard's connection."""

    shard: int
    connection: Connection
    state: SessionState
    held: set[str] = field(default_factory=set)
    """What the session has, or may have, there and nowhere else: it would be lost with the connection."""

    def ending(self) -> PgError:
        """Return why the session cannot go on, its connection being lost: the server's reason, if it gave one."""
        lost = self.connection.stream.error
        error = PgError.from_fields(lost.reason.fields) if isinstance(lost, Ended) else self.connection.lost_error()
        reported_by(error, self.connection.name)
        error.fields["D"] = f"{error.detail}\nThe session had there, and has lost: {', '.join(sorted(self.held))}."
        return error


async def run_or_abort(connection: Connection, sql: bytes) -> None:
    """Run what brings a connection to where it has to be; one that cannot is given up."""
    try:
        await connection.execute(sql)
    except PgError:
        connection.abort()

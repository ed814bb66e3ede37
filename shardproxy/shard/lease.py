"""What a session has done to a connection that it holds, and what brings a connection from one state to another.

A connection knows the protocol, a lease knows the session. To hand a connection to another session is to make
another lease, and to run what `SessionState.sql_to` returns.
"""

from dataclasses import dataclass

from shardproxy.shard.connection import Connection

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

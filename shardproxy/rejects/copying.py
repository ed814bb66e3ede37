"""One COPY FROM STDIN on one connection, under a savepoint, that may fail."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from shardproxy.errors import PgError
from shardproxy.shard.connection import Connection
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B

SAVEPOINT: Final = "shardproxy_batch"
"""Released or rolled back to and released before the client hears of anything, so a name of the client's can be it."""

_NOTICED: Final = {"copyfromparse.c", "copyfrom.c"}
"""The source files of ON_ERROR's notices; see `copy.skipped`."""


@dataclass(slots=True)
class Copied:
    """What became of it."""

    count: int = 0
    """Rows stored, as the tag says."""
    error: PgError | None = None
    skipped: list[dict[str, str]] = field(default_factory=list)
    """The notices of rows that ON_ERROR has skipped, one for each."""


class Copying:
    """A COPY that has been sent, with what it runs under; rows are written until `end`."""

    def __init__(self, connection: Connection, sql: bytes) -> None:
        self._connection = connection
        self._copied = Copied()
        self._on_notice = connection.on_notice
        connection.on_notice = self._notice
        around = (SAVEPOINT.encode(), sql, SAVEPOINT.encode())
        connection.query(b"SAVEPOINT %s;\n%s\n;SET CONSTRAINTS ALL IMMEDIATE;RELEASE SAVEPOINT %s" % around)

    async def started(self) -> decode.CopyResponse:
        """Wait until data may come; raise the server's refusal."""
        connection = self._connection
        while True:
            reply = await connection.read()
            if reply.type == B.COPY_IN_RESPONSE:
                with connection.trusted():
                    return decode.copy_response(reply.payload)
            if reply.type == B.ERROR_RESPONSE:
                error = connection.error()
                connection.on_notice = self._on_notice
                while connection.replies.queue:
                    await connection.read()
                raise error

    def put(self, messages: bytes) -> None:
        """Send CopyData messages."""
        self._connection.stream.write(messages)

    async def end(self) -> Copied:
        """Send CopyDone; return what has become of it. After an error nothing of it is left."""
        connection, copied = self._connection, self._copied
        try:
            connection.stream.write(encode.COPY_DONE)
            while connection.replies.queue:
                reply = await connection.read()
                if reply.type == B.ERROR_RESPONSE:
                    copied.error = copied.error or connection.error()
                elif reply.type == B.COMMAND_COMPLETE:
                    with connection.trusted():
                        tag = decode.command_complete(reply.payload)
                        if tag.startswith("COPY "):
                            copied.count = int(tag.split()[-1])
                elif reply.type not in {B.COPY_IN_RESPONSE, B.READY_FOR_QUERY}:
                    raise connection.unexpected(reply)
        finally:
            connection.on_notice = self._on_notice
        if copied.error is not None:
            copied.count = 0
            copied.skipped.clear()
            await undo(connection)
        return copied

    async def fail(self) -> None:
        """End it instead: nothing of it is left."""
        connection = self._connection
        connection.stream.write(encode.copy_fail("the COPY has ended"))
        try:
            while connection.replies.queue:
                await connection.read()
        finally:
            connection.on_notice = self._on_notice

    def _notice(self, fields: dict[str, str]) -> None:
        if fields.get("V") == "NOTICE" and fields.get("F") in _NOTICED:
            if fields["F"] == "copyfromparse.c":
                self._copied.skipped.append(fields)
        elif self._on_notice is not None:
            self._on_notice(fields)


async def copy(connection: Connection, sql: bytes, data: Iterable[bytes]) -> Copied:
    """Have rows copied, all or none."""
    copying = Copying(connection, sql)
    for piece in data:
        copying.put(encode.copy_data(piece))
    return await copying.end()


async def undo(connection: Connection) -> None:
    """Roll a batch back; without the release savepoints would nest, which costs more with each."""
    await connection.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT};RELEASE SAVEPOINT {SAVEPOINT}")

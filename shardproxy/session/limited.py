"""Execute with a row limit: a portal read in pieces, shard after shard where it has several.

Manual: "Extended Query", Execute's maximum number of rows. A shard's part stays open as a portal there, so the
transaction must be open, as it must with one server.
"""

from collections.abc import Callable

from shardproxy.backend.connection import Connection
from shardproxy.engine.engine import SUSPENDED, Engine
from shardproxy.engine.results import DATA_ROW, Relay
from shardproxy.native import FrameMerge
from shardproxy.session.portals import Portal
from shardproxy.wire import encode
from shardproxy.wire.constants import B


async def run_limited(
    engine: Engine, portal: Portal, name: bytes, limit: int, on_bound: Callable[[], None]
) -> str | None:
    """Return up to `limit` rows of the portal; return the tag at its end, SUSPENDED before it."""
    statement = portal.prepared.statement
    if portal.reading is None:
        portal.reading = await engine.connections_of(statement, portal.parameters())
    tag: str | None = f"{statement.kind.value} 0"
    read = 0
    while portal.reading:
        connection = portal.reading[0]
        described = portal.describe
        portal.describe = False
        connection.write(_request(portal, connection, name, limit - read, described))
        forward = frozenset({B.ROW_DESCRIPTION, B.NO_DATA}) if described else frozenset()
        merge = FrameMerge(1, DATA_ROW)
        [answer] = await Relay([connection], engine.output, merge, forward=forward, on_bound=on_bound).run()
        if answer.suspended:
            return SUSPENDED
        portal.reading.pop(0)
        tag = None if answer.empty else answer.tag or ""
        words = (tag or "").split()
        if words and words[-1].isdigit():
            read += int(words[-1])
            tag = " ".join([*words[:-1], str(read)])
        if portal.reading and read >= limit:
            return SUSPENDED
    return tag


def _request(portal: Portal, connection: Connection, name: bytes, rows: int, describe: bool) -> bytes:
    shard_portal = b"shardproxy_" + name if name else b""
    request = b""
    if connection not in portal.started:
        portal.started.add(connection)
        request = portal.bind_on(connection, shard_portal)
        if describe:
            request += encode.describe(b"P", shard_portal)
    return request + encode.execute(shard_portal, rows) + encode.SYNC

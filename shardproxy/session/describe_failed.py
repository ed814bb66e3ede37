"""Describe of a statement in a failed transaction, in which no shard can prepare it any more.

PostgreSQL describes it if it returns no rows: for those it would have to read its catalogs.
"""

from shardproxy.session.client import Client
from shardproxy.session.namespace import returns_rows
from shardproxy.session.portals import Prepared
from shardproxy.session.relay import Kept, Relay
from shardproxy.session.shards import Shards
from shardproxy.wire import encode
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed


async def describe_in_failed(prepared: Prepared, shards: Shards, client: Client) -> None:
    """Answer the client. Raises 25P02 where PostgreSQL does, and where nobody can tell the parameters any more."""
    standing = next((one for one in shards.connections if prepared.is_on(one.statements)), None)
    if standing is not None:
        kept = Kept()
        owed = (Owed(Expect.DESCRIBE_STATEMENT), SWALLOWED_SYNC)
        standing.send(encode.describe(b"S", prepared.shard_name) + encode.SYNC, owed)
        await Relay([standing], kept).run()
        described = kept.data
    else:
        # A simple query, the proxy's own too, has taken the unnamed statement from its shard.
        described = _told(prepared) or b""
    if not described.endswith(encode.NO_DATA):
        shards.transaction.check()
    client.write(described)


def _told(prepared: Prepared) -> bytes | None:
    """The description of a statement without rows, if the types of its parameters are known."""
    types = prepared.types if prepared.types is not None else prepared.oids
    required = max([len(prepared.oids), *(number for number, _ in prepared.statement.params)], default=0)
    if returns_rows(prepared.statement) or len(types) < required or 0 in types:
        return None
    return encode.parameter_description(types) + encode.NO_DATA

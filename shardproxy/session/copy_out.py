"""COPY TO STDOUT of several shards as one stream.

The shards' CopyData messages pass as they arrive, whole messages only, in whatever order; there is one header
line, one binary signature, one trailer, and the tag is the total.
"""

import asyncio
from collections.abc import Sequence
from typing import TypeGuard

from shardproxy.combine.answers import columns_differ
from shardproxy.combine.tags import total_tag
from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.native import FrameMerge
from shardproxy.session.copy_start import first_replies
from shardproxy.session.copy_types import carrying_of
from shardproxy.session.relay import COPY_DATA, Discard, Output, Relay
from shardproxy.session.typed import Carrying
from shardproxy.shard.connection import Connection
from shardproxy.sql import CopyTo, Statement
from shardproxy.transaction.single_shard import lost_alone
from shardproxy.wire import encode
from shardproxy.wire.constants import B


def is_copy_out(statement: Statement) -> TypeGuard[CopyTo]:
    """Whether a statement sends rows to the client."""
    return isinstance(statement, CopyTo) and statement.endpoint == "client"


async def copy_out(
    sql: bytes,
    options: CopyOptions,
    connections: Sequence[Connection],
    output: Output,
    statement: CopyTo | None = None,
    limit: int | None = None,
    *,
    alone: bool = False,
) -> str:
    """Run the COPY on the connections, stream to `output`, return the tag; no CopyOutResponse before all agree.

    In binary, `statement` tells the types that the rows have inside. After `limit` rows the rest are dropped.
    `alone` as for Relay.
    """
    carrying: list[Carrying | None] = []
    if options.format == "binary" and statement is not None:
        carrying = [await carrying_of(statement, sql, connection) for connection in connections]
    for connection in connections:
        connection.query(sql)
    replies = await first_replies(connections, B.COPY_OUT_RESPONSE)
    response = replies[0]
    for connection, reply in zip(connections, replies, strict=True):
        refused = reply if isinstance(reply, PgError) else None
        if refused is not None and alone:
            refused = lost_alone(connection, refused)
        if refused is None and reply != response:
            refused = columns_differ()
        if refused is not None:
            begun = zip(connections, replies, strict=True)
            await _give_up([one for one, answer in begun if not isinstance(answer, PgError)])
            raise refused
    assert not isinstance(response, PgError)
    output.write(encode.copy_out_response(response.format, response.column_formats))
    merge = FrameMerge(
        len(connections),
        COPY_DATA,
        format="binary" if response.format == 1 else "text",
        header=options.header != "none",
        limit=limit,
    )
    relay = Relay(connections, output, merge, alone=alone)
    for number, one in enumerate(carrying):
        if one is not None:
            relay.carry(number, one)
    answers = await relay.run()
    output.write(merge.tail())
    output.write(encode.COPY_DONE)
    return total_tag([answer.tag or "" for answer in answers], limit)


async def _give_up(connections: Sequence[Connection]) -> None:
    """Cancel and read to the end those that have begun, because another one refused."""
    if not connections:
        return
    await asyncio.wait({connection.cancel() for connection in connections})
    try:
        await Relay(connections, Discard(), FrameMerge(len(connections), COPY_DATA)).run()
    except PgError:
        # Their being cancelled is what was wanted; the refusal is what the client reads.
        return

"""What a client's text says, by PostgreSQL's grammar; where that refuses it, in the words of a shard.

The proxy's copy of the grammar knows no SQLSTATE but one and no HINT, and has the stack depth and the language of no
server. So a shard is asked to parse what is refused, and nothing but that.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from shardproxy.copy.encoding import Text
from shardproxy.errors import PgError
from shardproxy.session.client import Client
from shardproxy.session.portals import next_number, shard_name
from shardproxy.session.shards import UNREACHABLE, Shards
from shardproxy.sql import Statement
from shardproxy.sqlstate import STATEMENT_TOO_COMPLEX, SYNTAX_ERROR
from shardproxy.wire import encode
from shardproxy.wire.replies import SWALLOWED_SYNC, Expect, Owed

REFUSALS: Final = frozenset({SYNTAX_ERROR, STATEMENT_TOO_COMPLEX})
"""What the proxy says of a text that its grammar does not take."""


async def read(
    client: Client, shards: Shards, text: Text, first: Callable[[], Awaitable[None]] | None = None
) -> Sequence[Statement]:
    """Return a text's statements; `first` is what must be answered before an error is."""
    try:
        return await client.analyze(text)
    except PgError as error:
        if error.sqlstate not in REFUSALS:
            raise
        if first is not None:
            await first()
        raise await _refusal(shards, text, error) from None


async def _refusal(shards: Shards, text: Text, error: PgError) -> PgError:
    """Return a shard's error for the text; ours if no shard can be asked, or if it has none."""
    try:
        connection = await shards.open_some()
    except PgError as unreachable:
        if unreachable.sqlstate not in UNREACHABLE:
            raise
        return error
    name = shard_name(next_number())
    parse = encode.parse(name, text.encode(text.characters), ())
    connection.send(parse + encode.SYNC, (Owed(Expect.PARSE, forward=False, name=name), SWALLOWED_SYNC))
    try:
        await connection.complete()
    except PgError as refused:
        return refused
    connection.statements.closes.append(encode.close(b"S", name))
    return error

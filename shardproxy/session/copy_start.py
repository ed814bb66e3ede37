"""The shards' first answers to a COPY, and to what guards it: all agree, or the COPY does not begin."""

from collections.abc import Sequence

from shardproxy.errors import PgError, ProtocolError
from shardproxy.net.gather import each
from shardproxy.session.copy_look import NOT_GUARDED, Changed, Guard
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.shard.errors import reported_by
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INVALID_SQL_STATEMENT_NAME, INVALID_TEXT_REPRESENTATION
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B

Reply = decode.CopyResponse | PgError


async def start_in_order(
    shards: Shards, numbers: Sequence[int], sql: bytes
) -> tuple[dict[int, Connection], decode.CopyResponse]:
    """Begin a COPY on the first shard, then on the others; return their connections and CopyInResponse.

    If one refuses, or the client cancels it, the COPY is ended on all, and the refusal raised.
    """
    first, *others = numbers
    begun = {first: shards.begin(first, sql)}
    replies = await first_replies([begun[first]], B.COPY_IN_RESPONSE)
    refused: PgError | None = None
    try:
        for shard in others if not isinstance(replies[0], PgError) else ():
            begun[shard] = shards.begin(shard, sql)
    except PgError as error:
        refused = error
    replies += await first_replies(list(begun.values())[1:], B.COPY_IN_RESPONSE)
    refused = next((reply for reply in replies if isinstance(reply, PgError)), refused)
    if refused is not None:
        answered = zip(begun.values(), replies, strict=True)
        await each(_end_waiting(one) for one, reply in answered if not isinstance(reply, PgError))
        raise refused
    assert not isinstance(replies[0], PgError)
    return begun, replies[0]


async def start_guarded(connection: Connection, refused: PgError | Changed | None) -> decode.CopyResponse:
    """Return the CopyInResponse of a connection whose guard has answered; end the COPY and raise what is `refused`."""
    [reply] = await first_replies([connection], B.COPY_IN_RESPONSE)
    if isinstance(reply, PgError):
        raise refused or reply
    if refused is not None:
        await _end_waiting(connection)
        raise refused
    return reply


async def _end_waiting(connection: Connection) -> None:
    connection.stream.write(encode.copy_fail("another shard refused the COPY"))
    while connection.replies:
        await connection.read()


async def first_replies(connections: Sequence[Connection], expected: int) -> list[Reply]:
    """Read each shard's CopyInResponse or CopyOutResponse (`expected`), or its error up to ReadyForQuery."""
    return await each(_first_reply(connection, expected) for connection in connections)


async def _first_reply(connection: Connection, expected: int) -> Reply:
    error: PgError | None = None
    try:
        while True:
            message = await connection.read()
            if message.type == expected:
                with connection.trusted():
                    response = decode.copy_response(message.payload)
                    if not {response.format, *response.column_formats} <= {0, 1}:
                        raise ProtocolError(f"it sent {response}")
                    return response
            if message.type == B.ERROR_RESPONSE:
                error = connection.error()
            elif message.type == B.READY_FOR_QUERY and error is not None:
                return error
            else:
                raise connection.unexpected(message)
    except PgError as lost:
        return error or lost


async def guard_verdict(connection: Connection, guard: Guard, shard: int) -> PgError | Changed | None:
    """Read a shard's answer to its guard, up to ReadyForQuery; return what speaks against the COPY."""
    error, row, _ = await _guard_answer(connection, B.READY_FOR_QUERY)
    return _verdict(connection, guard, shard, error, row)


async def lock_alone(shards: Shards, shard: int, guard: Guard) -> PgError | Changed | None:
    """Take the guard's lock on a shard that gets no rows; return what speaks against the COPY."""
    question = guard.question
    try:
        connection = shards.begin(shard, question.sql, prepare=question.prepare)
        return await guard_verdict(connection, guard, shard)
    except PgError as error:
        return error


async def late_answer(
    connection: Connection, guard: Guard, shard: int, known: dict[tuple[int, bool], bytes], *, whole: bool
) -> tuple[PgError | Changed | None, bool]:
    """Read a shard's answer to its guard and the COPY, in one Query; return what speaks against the COPY.

    And whether the shard takes data: if not, it has answered to the end. `known` are answers that were well, `whole`
    for a COPY that commits by itself.
    """
    if (shard, whole) in known and await connection.answered_by(known[shard, whole]):
        return None, True
    error, row, said = await _guard_answer(connection, B.COPY_IN_RESPONSE)
    if error is not None:
        # The position is one in the whole Query.
        error.fields.pop("P", None)
        reported_by(error, connection.name)
        if connection.status == IDLE and not whole:
            # It did not even begin, or says so: whether a transaction is open there is not known.
            connection.abort()
    verdict = _verdict(connection, guard, shard, error, row)
    if verdict is None:
        known[shard, whole] = said
    return verdict, error is None


def _verdict(
    connection: Connection, guard: Guard, shard: int, error: PgError | None, row: list[bytes | None]
) -> PgError | Changed | None:
    if error is None:
        return None if row[:1] == [guard.fingerprints[shard]] else Changed()
    if error.sqlstate == INVALID_TEXT_REPRESENTATION:
        return Changed()  # what `Question.asserting` fails with
    if error.sqlstate == INVALID_SQL_STATEMENT_NAME:
        # A function of the client's may have run DEALLOCATE ALL: it is prepared again.
        connection.statements.close(guard.question.name)
        return Changed()
    return Changed(error) if error.sqlstate in NOT_GUARDED else error


async def _guard_answer(connection: Connection, until: int) -> tuple[PgError | None, list[bytes | None], bytes]:
    """Return a guard's error and its row; and all messages up to the one that is `until`."""
    error: PgError | None = None
    row: list[bytes | None] = []
    said = b""
    while True:
        message = await connection.read()
        said += encode.message(message.type, message.payload)
        if message.type == until or (message.type == B.READY_FOR_QUERY and error is not None):
            return error, row, said
        match message.type:
            case B.ERROR_RESPONSE:
                error = error or connection.error()
            case B.DATA_ROW if not row:
                with connection.trusted():
                    row = decode.data_row(message.payload)
            case B.ROW_DESCRIPTION | B.COMMAND_COMPLETE | B.EMPTY_QUERY_RESPONSE:
                pass
            case _:
                raise connection.unexpected(message)


async def refused_by(connection: Connection, sql: bytes) -> PgError:
    """Have a shard say what is wrong with a COPY; it gets no data if it takes it."""
    connection.query(sql)
    [reply] = await first_replies([connection], B.COPY_IN_RESPONSE)
    if isinstance(reply, PgError):
        return reply
    connection.stream.write(encode.copy_fail("shardproxy cannot split this COPY's rows"))
    while connection.replies:
        await connection.read()
    return PgError(
        FEATURE_NOT_SUPPORTED,
        "COPY has options that shardproxy does not know, so it cannot tell the rows apart",
        hint="docs/copy.md lists the options that are known: those of PostgreSQL 18.",
    )

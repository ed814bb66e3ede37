"""What PostgreSQL allows in no transaction block, on one shard after the other."""

from collections.abc import Sequence

from shardproxy.combine.answers import Answer
from shardproxy.errors import PgError
from shardproxy.session.follow import Request
from shardproxy.session.relay import Discard, Output, Relay
from shardproxy.shard.connection import Connection


async def one_by_one(connections: Sequence[Connection], request: Request, client: Output) -> list[Answer]:
    """Run a statement; the first shard's answer is the client's. Where it fails, say where it has been done."""
    answers: list[Answer] = []
    for number, connection in enumerate(connections):
        request(connection)
        try:
            answers += await Relay([connection], client if number == 0 else Discard()).run()
        except PgError as error:
            done = ", ".join(other.name for other in connections[: len(answers)])
            if done:
                said = f'Failed on shard "{connection.name}"; already done, and not undone, on: {done}.'
                error.fields["D"] = f"{error.detail}\n{said}" if error.detail else said
            raise
    return answers

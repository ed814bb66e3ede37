"""The rows that the shards' tags count, against those that they were sent."""

from collections.abc import Mapping

from shardproxy.errors import PgError, ProtocolError
from shardproxy.native import Splitter
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED, INTERNAL_ERROR
from shardproxy.wire import encode


def check_counts(
    counts: Mapping[int, int], splitter: Splitter, shards: Mapping[int, Connection], *, everywhere: bool
) -> None:
    """Raise where the counts, by shard, cannot be true; `everywhere` for rows that all shards were sent."""
    for shard, count in counts.items():
        sent = splitter.rows_of(shard)
        if count > sent - splitter.poison_count(shard):
            raise PgError(
                FEATURE_NOT_SUPPORTED if count <= sent else INTERNAL_ERROR,
                "a shard accepted a row whose sharding key the proxy could not read"
                if count <= sent
                else "a shard counted more rows than it was sent",
                detail=f'Shard "{shards[shard].name}" counted {count} of {sent} rows.',
                hint="Nothing was loaded. Spell the sharding key in PostgreSQL's output format.",
            )
    if everywhere and len(set(counts.values())) > 1:
        raise PgError(
            INTERNAL_ERROR,
            "the shards accepted different numbers of rows for a reference table",
            detail=", ".join(f"{shards[shard].name}: {count}" for shard, count in counts.items()),
            hint="Nothing was loaded. See whether triggers or row security differ between the shards.",
        )


def without_rows(shards: Mapping[int, Connection], splitter: Splitter) -> frozenset[int]:
    """Return the shards, given in their order, that were sent no row; all but the first if none was."""
    rows = {shard for shard in shards if splitter.rows_of(shard)}
    return frozenset(shards.keys() - (rows or {next(iter(shards))}))


async def full_count(connection: Connection, rows: int, status: int) -> str | None:
    """Return the tag of a shard that answers that it has taken all rows; None if its answer is still to be read."""
    tag = f"COPY {rows}"
    taken = await connection.answered_by(encode.command_complete(tag) + encode.ready_for_query(bytes([status])))
    return tag if taken else None


def counted(tag: str) -> str:
    """Return a COPY's tag, which must end in the number of rows."""
    if not tag.startswith("COPY ") or not tag[5:].isdecimal():
        raise ProtocolError(f"it answered COPY with {tag!r}")
    return tag

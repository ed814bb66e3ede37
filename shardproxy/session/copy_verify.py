"""A COPY into a reference table, which all shards store by themselves: whether they have stored the same.

The rows are the same bytes for all. What may differ is what a shard makes of them: 'now' and its like in a date or a
time, and triggers. So where there is either, each shard is asked for a sum over the rows that its transaction has
added, before it commits.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from shardproxy.copy.options import CopyOptions
from shardproxy.native import Splitter
from shardproxy.net.gather import each
from shardproxy.routing import Written
from shardproxy.routing.identifiers import ascii_name
from shardproxy.routing.refusals import refused
from shardproxy.session.copy_splitter import NewSplitter
from shardproxy.shard.connection import Connection
from shardproxy.shard.written import others_written_sql

_MOMENTS: Final = re.compile(rb"(?<![a-z])(now|today|tomorrow|yesterday)(?![a-z])")

# Those of the transaction and its savepoints: all that is seen and has not ended yet.
_ADDED: Final = """SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(
    pg_catalog.hashtextextended((added.*)::pg_catalog.text COLLATE pg_catalog."C", 0)::pg_catalog.numeric))
FROM (SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8) AS mine(xid), {table} AS added
WHERE added.xmin::pg_catalog.text::pg_catalog.int8 OPERATOR(pg_catalog.>=) (mine.xid OPERATOR(pg_catalog.&) 4294967295)
  AND pg_catalog.pg_xact_status((mine.xid OPERATOR(pg_catalog.-) (mine.xid OPERATOR(pg_catalog.&) 4294967295)
    OPERATOR(pg_catalog.+) added.xmin::pg_catalog.text::pg_catalog.int8)::pg_catalog.text::pg_catalog.xid8)
    OPERATOR(pg_catalog.=) 'in progress'"""


class WatchedSplitter(Splitter):
    """A splitter that notes whether its rows may have a word for a moment. Rows are whole in each of its buffers.

    Such a word can be spelled with escapes (`n\\ow`, `\\156ow`), and in CSV with quotes inside.
    """

    seen = False
    quote: bytes | None = None

    def ready(self) -> list[tuple[int, bytes]]:
        """See Splitter."""
        return self._look(super().ready())

    def flush(self) -> list[tuple[int, bytes]]:
        """See Splitter."""
        return self._look(super().flush())

    def finish(self) -> list[tuple[int, bytes]]:
        """See Splitter."""
        return self._look(super().finish())

    def _look(self, buffers: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        if not self.seen:
            for _, data in buffers:
                lowered = data.lower()
                if self.quote is not None:
                    plain = lowered.replace(self.quote, b"")
                else:
                    plain = lowered
                    self.seen |= b"\\" in lowered.replace(b"\\\\", b"").replace(b"\\n", b"")
                self.seen = self.seen or _MOMENTS.search(plain) is not None
        return buffers


@dataclass(frozen=True, slots=True)
class Verify:
    """What may make the copies of a table differ. `before` is what the session had written elsewhere."""

    schema: str
    name: str
    trigger: str | None
    before: bytes | None

    @classmethod
    async def of(cls, first: Connection, schema: str, name: str, written: Written) -> "Verify":
        """Ask the first shard what it takes."""
        fired = written.fired({"INSERT"})
        if not fired:
            return cls(schema, name, None, None)
        [before] = await first.fetch_row(others_written_sql(schema, name), 1)
        return cls(schema, name, fired[0].name, before)

    async def check(self, splitter: Splitter, connections: Mapping[int, Connection]) -> None:
        """Raise if the shards have not stored the same, or a trigger has written another table."""
        if self.trigger is None and not (isinstance(splitter, WatchedSplitter) and splitter.seen):
            return
        sql = _ADDED.format(table=ascii_name(self.schema, self.name))
        sums = await each(connection.fetch_row(sql, 1) for connection in connections.values())
        why = "a value that is read as a moment (now, today)" if self.trigger is None else f'trigger "{self.trigger}"'
        same = all(one == sums[0] for one in sums)
        if same and self.trigger is not None:
            first = next(iter(connections.values()))
            [now] = await first.fetch_row(others_written_sql(self.schema, self.name), 1)
            same = now == self.before
        if not same:
            raise refused(
                f'{why} in a COPY into reference table "{self.schema}.{self.name}" makes its copies differ',
                "Nothing was loaded. Use INSERT, which one shard computes for all.",
            )


async def verified(verify: Verify | None, splitter: Splitter, connections: Mapping[int, Connection]) -> None:
    """Raise if a COPY that all shards have carried out has made copies differ."""
    if verify is not None:
        await verify.check(splitter, connections)


def moves(written: Written) -> bool:
    """Whether a column's text may depend on when it is read."""
    return any(column.moves for column in written.columns)


def watched(new: NewSplitter, options: CopyOptions) -> NewSplitter:
    """Return what makes the same splitters, watched."""
    assert isinstance(new, partial)

    def make() -> Splitter:
        splitter = WatchedSplitter(*new.args, **new.keywords)
        splitter.quote = options.quote.encode("utf-8", "surrogateescape") if options.format == "csv" else None
        return splitter

    return make

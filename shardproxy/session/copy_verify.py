"""A COPY into a reference table: whether all shards have stored the same, and how the others get what one computed.

Where the rows are the same bytes for all shards, what may differ is what a shard makes of them: 'now' and its like in
a date or a time, and triggers. So where there is either, each shard is asked for a sum over the rows that its
transaction has added, before it commits; where the sums differ, the others get the first one's rows instead. Where
columns take a default that each shard would compute, the first shard alone has the COPY, and the others its rows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.native import Splitter
from shardproxy.net.gather import each
from shardproxy.routing import Copies, Resolved, Rows, Written
from shardproxy.routing.copies import ADDED, FIRST, copied_rows
from shardproxy.routing.identifiers import ascii_name
from shardproxy.routing.refusals import copies_differ, refused
from shardproxy.session.copy_splitter import NewSplitter
from shardproxy.session.elsewhere import Elsewhere
from shardproxy.session.follow import Follow
from shardproxy.session.relay import Discard
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection

_MOMENTS: Final = re.compile(rb"(?<![a-z])(now|today|tomorrow|yesterday)(?![a-z])")

_MINE: Final = "(SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text::pg_catalog.int8) AS mine(xid)"

# Those of the transaction and its savepoints: all that is seen and has not ended yet.
_ADDED: Final = f"""{ADDED}.xmin::pg_catalog.text::pg_catalog.int8 OPERATOR(pg_catalog.>=)
    (mine.xid OPERATOR(pg_catalog.&) 4294967295)
  AND pg_catalog.pg_xact_status((mine.xid OPERATOR(pg_catalog.-) (mine.xid OPERATOR(pg_catalog.&) 4294967295)
    OPERATOR(pg_catalog.+) {ADDED}.xmin::pg_catalog.text::pg_catalog.int8)::pg_catalog.text::pg_catalog.xid8)
    OPERATOR(pg_catalog.=) 'in progress'"""

# COPY is the last command that has written the table, and all its rows are of one command.
_CMIN: Final = f"{ADDED}.cmin::pg_catalog.text::pg_catalog.int8"
_COPIED: Final = f"""{_ADDED} AND {_CMIN} OPERATOR(pg_catalog.=)
  (SELECT pg_catalog.max({_CMIN}) FROM {{table}} AS {ADDED} WHERE {_ADDED})"""

_SINCE: Final = f"{_ADDED} AND {_CMIN} OPERATOR(pg_catalog.>) {{after}}"

_LAST: Final = f"""SELECT coalesce(pg_catalog.max({_CMIN}), -1) FROM {_MINE}, {{table}} AS {ADDED} WHERE {_ADDED}"""

_SUM: Final = f"""SELECT pg_catalog.concat_ws(' ', pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(
    ({ADDED}.*)::pg_catalog.text COLLATE pg_catalog."C", 0)::pg_catalog.numeric))
FROM {_MINE}, {{table}} AS {ADDED} WHERE {_ADDED}"""

_HINT: Final = "Nothing was loaded. Use INSERT, which one shard computes for all."


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
class Spread:
    """A COPY that the first shard alone has had: the others get its rows."""

    shards: Shards
    rows: Rows
    elsewhere: Elsewhere | None
    after: int | None = None
    """The last of the transaction's commands before it; None: it is the last one, and one alone."""

    @classmethod
    async def of(cls, shards: Shards, first: Connection, rows: Rows, *, after: int | None = None) -> "Spread":
        """Ask the first shard what it takes."""
        watched = rows.watched is not None
        return cls(shards, rows, await Elsewhere.of(first, rows.schema, rows.name) if watched else None, after)

    async def check(self, splitter: Splitter, connections: Mapping[int, Connection], counts: Mapping[int, int]) -> None:
        """Send the rows; raise if a trigger or a function has written another table."""
        rows, first = self.rows, connections[FIRST]
        if rows.watched is not None and self.elsewhere is not None and await self.elsewhere.changed(first):
            raise _differ(rows.watched, rows.schema, rows.name)
        if counts[FIRST] == 0:
            return
        table = ascii_name(rows.schema, rows.name)
        which = _COPIED.format(table=table) if self.after is None else _SINCE.format(after=self.after)
        copied = f"{_MINE}, {table} AS {ADDED} WHERE {which}"
        await Follow(self.shards, Copies(rows=rows), Discard()).copied(first, copied, counts[FIRST])


@dataclass(frozen=True, slots=True)
class Verify:
    """A COPY that all shards have had, and what may make them differ."""

    shards: Shards
    table: Resolved
    written: Written
    trigger: str | None
    elsewhere: Elsewhere | None

    @classmethod
    async def of(cls, shards: Shards, first: Connection, table: Resolved, written: Written) -> "Verify":
        """Ask the first shard what it takes."""
        fired = written.fired({"INSERT"})
        if not fired:
            return cls(shards, table, written, None, None)
        return cls(shards, table, written, fired[0].name, await Elsewhere.of(first, table.schema, table.name))

    async def check(self, splitter: Splitter, connections: Mapping[int, Connection], counts: Mapping[int, int]) -> None:
        """Have all shards store the same; raise if a trigger has written another table."""
        if self.trigger is None and not (isinstance(splitter, WatchedSplitter) and splitter.seen):
            return
        schema, name = self.table.schema, self.table.name
        sql = _SUM.format(table=ascii_name(schema, name))
        sums = await each(connection.fetch_row(sql, 1) for connection in connections.values())
        if self.elsewhere is not None and await self.elsewhere.changed(connections[FIRST], counts[FIRST], "INSERT"):
            raise _differ(f'trigger "{self.trigger}"', schema, name)
        if any(one != sums[0] for one in sums):
            await self._replace(splitter, connections, counts)

    async def _replace(
        self, splitter: Splitter, connections: Mapping[int, Connection], counts: Mapping[int, int]
    ) -> None:
        """Put the first shard's rows in the place of the others' own."""
        rows = copied_rows(self.table, self.written)
        for trigger in self.written.fired({"DELETE"}):
            raise copies_differ(self.table, f'trigger "{trigger.name}"')
        table = ascii_name(rows.schema, rows.name)
        sql = f"DELETE FROM {table} AS {ADDED} USING {_MINE} WHERE {_COPIED.format(table=table)}"
        delete = sql.encode("utf-8", "surrogateescape")
        for shard, connection in connections.items():
            if shard != FIRST and await connection.execute(delete) != f"DELETE {counts[shard]}":
                raise _differ("a trigger", rows.schema, rows.name)
        await Spread(self.shards, rows, None).check(splitter, connections, counts)


class Checked(Protocol):
    """What is to be seen to when the shards have all rows of a COPY."""

    async def check(self, splitter: Splitter, connections: Mapping[int, Connection], counts: Mapping[int, int]) -> None:
        """Raise if it cannot stay; `counts` are the rows that the shards have taken."""


async def added_before(first: Connection, rows: Rows) -> int:
    """Return the last of the transaction's commands that has added a row; -1 if none has."""
    [last] = await first.fetch_row(_LAST.format(table=ascii_name(rows.schema, rows.name)), 1)
    return int(last or -1)


def _differ(why: str, schema: str, name: str) -> PgError:
    return refused(f'{why} in a COPY into reference table "{schema}.{name}" makes its copies differ', _HINT)


async def verified(
    verify: Checked | None,
    splitter: Splitter,
    connections: Mapping[int, Connection],
    counts: Mapping[int, int],
) -> None:
    """See to it that copies are equal, and nothing else is wrong, after a COPY that its shards have carried out."""
    if verify is not None:
        await verify.check(splitter, connections, counts)


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

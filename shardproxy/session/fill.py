"""ALTER TABLE that fills a column of a reference table with what each shard computes for itself.

Every shard carries it out, in one transaction, and then has a lock that keeps others from the table. Where that has
rows, the other shards get the first one's values of the column, by the table's key; where there is no key that tells
the rows apart, its rows in the place of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from shardproxy.net.gather import each
from shardproxy.routing import Copies, Rows, Written
from shardproxy.routing.copies import ADDED
from shardproxy.routing.identifiers import ascii_identifier, ascii_name
from shardproxy.routing.plan import Fill
from shardproxy.routing.refusals import copies_differ, refused
from shardproxy.routing.written import WrittenColumn
from shardproxy.session.follow import SILENCE, Elsewhere, Follow, sees_old
from shardproxy.session.relay import Discard
from shardproxy.session.shards import Shards
from shardproxy.shard import catalog
from shardproxy.shard.connection import Connection
from shardproxy.shard.written import oid_sql, parse_written, written_sql

_HINT: Final = (
    "Add the column without a default, UPDATE it, which one shard computes for all, and then ALTER COLUMN SET DEFAULT."
)
_HINT_TRIGGER: Final = f"GRANT SET ON PARAMETER session_replication_role to the role of the proxy. Or: {_HINT}"

_SIZES: Final = """SELECT pg_catalog.pg_relation_size({oid}) OPERATOR(pg_catalog.+) COALESCE((SELECT
    pg_catalog.sum(pg_catalog.pg_relation_size(relid)) FROM pg_catalog.pg_partition_tree({oid})), 0)"""


@dataclass(frozen=True, slots=True)
class Filling:
    """One ALTER TABLE."""

    shards: Shards
    fill: Fill
    elsewhere: Elsewhere | None

    @classmethod
    async def of(cls, shards: Shards, first: Connection, fill: Fill) -> "Filling":
        """Ask the first shard what it takes, before the statement is run."""
        watched = fill.watched is not None
        return cls(shards, fill, await Elsewhere.of(first, fill.schema, fill.name) if watched else None)

    async def confirm(self, connections: Sequence[Connection]) -> None:
        """See to it that the copies are equal, after it has been run on all shards."""
        fill, (first, *others) = self.fill, connections
        if self.elsewhere is not None and await self.elsewhere.changed(first):
            raise copies_differ(fill.table, f"function {fill.watched}()", _HINT)
        table = ascii_name(fill.schema, fill.name)
        version = int(first.parameters.get("server_version", "0").partition(".")[0])
        [answer] = await first.fetch_row(written_sql(fill.schema, fill.name, version), 1)
        written = parse_written(catalog.text(answer))
        await self._same_defaults(written, table, others)
        columns = fill.columns - {one.name for one in written.columns if one.name in fill.typed and _is_alike(one)}
        count = await self._count(table, first) if columns else 0
        if count == 0:
            return
        silent = [await self._silence(one) for one in others] if written.can_silence else []
        if written.key and columns.isdisjoint(written.key):
            await self._by_key(written, columns, first, others, count)
        else:
            await self._anew(written, first, others, count)
        for connection, role in zip(others, silent, strict=False):
            await connection.execute(b"SET LOCAL session_replication_role = " + role)

    async def _same_defaults(self, written: Written, table: str, others: Sequence[Connection]) -> None:
        """A word like 'now' has become a constant on each shard."""
        new = self.fill.added - self.fill.typed
        for one in written.columns:
            if one.name in new and one.default is not None and catalog.is_constant(one.default):
                change = f"ALTER TABLE {table} ALTER {ascii_identifier(one.name)} SET DEFAULT {one.default}"
                await self._run(others, [change])

    async def _count(self, table: str, first: Connection) -> int:
        """Return how many rows have been filled."""
        fill = self.fill
        if await sees_old(first):
            [size] = await first.fetch_row(_SIZES.format(oid=oid_sql(fill.schema, fill.name)), 1)
            if size != b"0":  # rows that it does not see have been filled as well
                raise refused(
                    f'ALTER TABLE that fills a column of reference table "{fill.table}" is not supported in a '
                    "transaction that sees what was there when it began",
                    "Run it with the isolation level READ COMMITTED.",
                )
            return 0
        [counted] = await first.fetch_row(f"SELECT pg_catalog.count(*) FROM {table}", 1)
        return int(counted or 0)

    @staticmethod
    async def _silence(connection: Connection) -> bytes:
        role, _ = await connection.fetch_row(SILENCE, 2)
        return role or b"origin"

    def _rows(self, written: Written, verb: str) -> Rows:
        columns = tuple(replace(one, always=False) for one in written.columns if not one.generated)
        return Rows(
            schema=self.fill.schema,
            name=self.fill.name,
            alias=ADDED,
            verb=verb,
            columns=columns,
            key=written.key,
            recursive=written.recursive and verb == "INSERT",
        )

    async def _send(self, rows: Rows, table: str, first: Connection, count: int) -> None:
        await Follow(self.shards, Copies(rows=rows), Discard()).copied(first, f"{table} AS {ADDED}", count)

    async def _by_key(
        self, written: Written, columns: frozenset[str], first: Connection, others: Sequence[Connection], count: int
    ) -> None:
        """Give the other shards the values of these columns."""
        table = ascii_name(self.fill.schema, self.fill.name)
        self._check(written, {"UPDATE"})
        rows = self._rows(written, "UPDATE")
        sent = columns | set(written.key)
        rows = replace(rows, columns=tuple(one for one in rows.columns if one.name in sent))
        always = [ascii_identifier(one.name) for one in written.columns if one.always and one.name in columns]
        # What is unique must not meet the values that other rows have there still.
        unique = sorted(map(ascii_identifier, columns & self.fill.added & written.unique))
        aside = [f"UPDATE {table} SET {', '.join(f'{name} = DEFAULT' for name in unique)}"] if unique else []
        open_ = [f"ALTER TABLE {table} ALTER {name} SET GENERATED BY DEFAULT" for name in always]
        shut = [f"ALTER TABLE {table} ALTER {name} SET GENERATED ALWAYS" for name in always]
        await self._run(others, [*aside, *open_])
        await self._send(rows, table, first, count)
        await self._run(others, shut)

    async def _anew(self, written: Written, first: Connection, others: Sequence[Connection], count: int) -> None:
        """Put the first shard's rows in the place of the others' own."""
        table = ascii_name(self.fill.schema, self.fill.name)
        if written.referenced:
            raise copies_differ(self.fill.table, self.fill.why, _HINT)
        [inherited] = await first.fetch_row(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_inherits AS i "
            f"WHERE i.inhparent OPERATOR(pg_catalog.=) {oid_sql(self.fill.schema, self.fill.name)})",
            1,
        )
        if written.kind != "p" and inherited != b"f":
            raise copies_differ(self.fill.table, self.fill.why, _HINT)
        self._check(written, {"INSERT", "DELETE"})
        await self._run(others, [f"DELETE FROM {table}"])
        await self._send(self._rows(written, "INSERT"), table, first, count)

    def _check(self, written: Written, events: set[str]) -> None:
        fired = written.fired(events)
        if written.rules or (fired and not written.can_silence):
            why = f'trigger "{fired[0].name}"' if fired else "a rule"
            raise copies_differ(self.fill.table, why, _HINT_TRIGGER if fired else _HINT)

    @staticmethod
    async def _run(connections: Sequence[Connection], statements: Sequence[str]) -> None:
        for statement in statements:
            sql = statement.encode("utf-8", "surrogateescape")
            await each(connection.execute(sql) for connection in connections)


def _is_alike(column: WrittenColumn) -> bool:
    """Whether its default, if it has one, is the same for all shards."""
    return column.default is None or catalog.is_constant(column.default)

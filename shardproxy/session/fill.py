"""ALTER TABLE that fills a column of a reference table, and CREATE TABLE AS: each shard computes for itself.

Every shard carries it out, in one transaction, and then has a lock that keeps others from the table. Where that has
rows, the other shards get the first one's values of the column, by the table's key; where there is no key that tells
the rows apart, its rows in the place of their own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from shardproxy.net.gather import each
from shardproxy.routing import Copies, Plan, Replicate, Rows, Written
from shardproxy.routing.copies import ADDED
from shardproxy.routing.identifiers import ascii_identifier, ascii_name
from shardproxy.routing.plan import Fill
from shardproxy.routing.refusals import copies_differ, refused
from shardproxy.routing.written import WrittenColumn
from shardproxy.session.elsewhere import Elsewhere
from shardproxy.session.follow import SILENCE, Follow, sees_old
from shardproxy.session.names import Resolver
from shardproxy.session.relay import Discard
from shardproxy.session.shards import Shards
from shardproxy.shard import catalog
from shardproxy.shard.connection import Connection
from shardproxy.shard.written import oid_sql, parse_written, written_sql
from shardproxy.sql import CreateAs, Statement

_HINT: Final = (
    "Add the column without a default, UPDATE it, which one shard computes for all, and then ALTER COLUMN SET DEFAULT."
)
_HINT_TRIGGER: Final = f"GRANT SET ON PARAMETER session_replication_role to the role of the proxy. Or: {_HINT}"

_SIZES: Final = """SELECT pg_catalog.pg_relation_size({oid}) OPERATOR(pg_catalog.+) COALESCE((SELECT
    pg_catalog.sum(pg_catalog.pg_relation_size(relid)) FROM pg_catalog.pg_partition_tree({oid})), 0)"""

_SUM: Final = f"""SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashtextextended(
    ({ADDED}.*)::pg_catalog.text COLLATE pg_catalog."C", 0)::pg_catalog.numeric) FROM {{table}} AS {ADDED}"""


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
        written = await _written(first, fill.schema, fill.name)
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
                await _run(others, [change])

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

    async def _by_key(
        self, written: Written, columns: frozenset[str], first: Connection, others: Sequence[Connection], count: int
    ) -> None:
        """Give the other shards the values of these columns."""
        table = ascii_name(self.fill.schema, self.fill.name)
        self._check(written, {"UPDATE"})
        rows = _rows(self.fill.schema, self.fill.name, written, "UPDATE")
        sent = columns | set(written.key)
        rows = replace(rows, columns=tuple(one for one in rows.columns if one.name in sent))
        always = [ascii_identifier(one.name) for one in written.columns if one.always and one.name in columns]
        # What is unique must not meet the values that other rows have there still.
        unique = sorted(map(ascii_identifier, columns & self.fill.added & written.unique))
        aside = [f"UPDATE {table} SET {', '.join(f'{name} = DEFAULT' for name in unique)}"] if unique else []
        open_ = [f"ALTER TABLE {table} ALTER {name} SET GENERATED BY DEFAULT" for name in always]
        shut = [f"ALTER TABLE {table} ALTER {name} SET GENERATED ALWAYS" for name in always]
        await _run(others, [*aside, *open_])
        await _send(self.shards, rows, table, first, count)
        await _run(others, shut)

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
        await _run(others, [f"DELETE FROM {table}"])
        rows = _rows(self.fill.schema, self.fill.name, written, "INSERT")
        await _send(self.shards, rows, table, first, count)

    def _check(self, written: Written, events: set[str]) -> None:
        fired = written.fired(events)
        if written.rules or (fired and not written.can_silence):
            why = f'trigger "{fired[0].name}"' if fired else "a rule"
            raise copies_differ(self.fill.table, why, _HINT_TRIGGER if fired else _HINT)


@dataclass(frozen=True, slots=True)
class Making:
    """One CREATE TABLE AS or CREATE MATERIALIZED VIEW: each shard has computed the query for itself."""

    shards: Shards
    names: Resolver
    statement: CreateAs

    async def confirm(self, connections: Sequence[Connection]) -> None:
        """Put the first shard's rows in the place of the others' own, where these are not the same."""
        first, *others = connections
        self.names.look_anew()
        made = (await self.names.resolve(self.statement))[self.statement.target]
        table = ascii_name(made.schema, made.name)
        populated = "SELECT c.relispopulated FROM pg_catalog.pg_class AS c WHERE c.oid OPERATOR(pg_catalog.=) "
        if (await first.fetch_row(populated + oid_sql(made.schema, made.name), 1))[0] != b"t":
            return
        sums = await each(connection.fetch_row(_SUM.format(table=table), 2) for connection in connections)
        if all(one == sums[0] for one in sums):
            return
        if self.statement.materialized:
            raise copies_differ(made, "what the query computes", "Make a table of it.")
        written = await _written(first, made.schema, made.name)
        await _run(others, [f"DELETE FROM {table}"])
        await _send(self.shards, _rows(made.schema, made.name, written, "INSERT"), table, first, int(sums[0][0] or 0))


async def filling_of(
    shards: Shards, names: Resolver, plan: Plan, statement: Statement, first: Connection
) -> Filling | Making | None:
    """Return what is to be seen to after a statement has been run on all shards, each of which computes for itself."""
    if not isinstance(plan, Replicate):
        return None
    if isinstance(statement, CreateAs):
        return Making(shards, names, statement)
    return None if plan.fill is None else await Filling.of(shards, first, plan.fill)


async def _written(first: Connection, schema: str, name: str) -> Written:
    version = int(first.parameters.get("server_version", "0").partition(".")[0])
    answer = await catalog.ask(first, written_sql(schema, name, version))
    return parse_written(answer)


def _rows(schema: str, name: str, written: Written, verb: str) -> Rows:
    columns = tuple(replace(one, always=False) for one in written.columns if not one.generated)
    recursive = written.recursive and verb == "INSERT"
    return Rows(schema, name, ADDED, verb, columns, written.key, recursive=recursive)


async def _send(shards: Shards, rows: Rows, table: str, first: Connection, count: int) -> None:
    await Follow(shards, Copies(rows=rows), Discard()).copied(first, f"{table} AS {ADDED}", count)


async def _run(connections: Sequence[Connection], statements: Sequence[str]) -> None:
    for statement in statements:
        sql = statement.encode("utf-8", "surrogateescape")
        await each(connection.execute(sql) for connection in connections)


def _is_alike(column: WrittenColumn) -> bool:
    """Whether its default, if it has one, is the same for all shards."""
    return column.default is None or catalog.is_constant(column.default)

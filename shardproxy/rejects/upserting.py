"""The rows of a batch that a COPY has failed with, where a row whose key is there replaces what is there.

All rows of a key are upserted in sets, the last one of each, as long as the catalogs tell that this leaves what
upserting them one by one would; otherwise they are upserted one by one, on the server.
"""

from array import array
from collections.abc import Callable, Sequence
from typing import Final

from shardproxy.copy.options import CopyOptions
from shardproxy.rejects.copying import SAVEPOINT
from shardproxy.rejects.isolate import Isolation
from shardproxy.rejects.reject import Outcome, Reject, Rows
from shardproxy.rejects.sink import RejectSink
from shardproxy.rejects.staging import Refused, after, numbered
from shardproxy.rejects.target import Asked
from shardproxy.rejects.upsert import Upsert
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import CHECK_VIOLATION, FOREIGN_KEY_VIOLATION, NOT_NULL_VIOLATION

CERTAIN: Final = frozenset({CHECK_VIOLATION, FOREIGN_KEY_VIOLATION, NOT_NULL_VIOLATION})
"""What a row is refused for whatever the rows before it have done."""


def isolation(
    connection: Connection, asked: Asked, options: CopyOptions, schema: str | None, encoding: str, sink: RejectSink
) -> Isolation:
    """Return what finds the bad rows of one COPY on one shard, as its sink will have it."""
    if sink.skips:
        return LeavingOut(connection, asked, options, schema, encoding, sink.original)
    if sink.upsert is None:
        return Isolation(connection, asked, options, schema, encoding, sink.original)
    return Upserting(connection, asked, options, schema, encoding, sink.original, sink.upsert)


class LeavingOut(Isolation):
    """The batches of one COPY on one shard, where a row whose key is there is left out, whichever key it is."""

    async def _insert(self, before: int, count: int) -> tuple[int, list[Refused]]:
        staging = self._staging
        suspects = await self._tried(staging.suspects(before)) if self._target.in_sets else None
        if suspects is None:
            return await super()._insert(before, count)
        refused = await staging.insert_each(numbered(suspects)) if suspects else []
        stored = await self._tried(staging.insert_new(before, suspects))
        if stored is None:
            refused += await staging.insert_each(after(before, suspects))
            return await self._by_key(before, count - len(refused), refused)
        self._left_out = count - len(suspects) - stored
        return await self._by_key(before, stored + len(suspects) - len(refused), refused)


class Upserting(Isolation):
    """The batches of one COPY on one shard."""

    def __init__(
        self,
        connection: Connection,
        asked: Asked,
        options: CopyOptions,
        schema: str | None,
        encoding: str,
        original: Callable[[Reject], Reject],
        upsert: Upsert,
    ) -> None:
        """See Isolation."""
        super().__init__(connection, asked, options, schema, encoding, original)
        self._upsert = self._by = upsert

    async def store(self, data: bytes, marks: "array[int]", newline: int, sqlstate: str) -> Outcome:
        """See Isolation."""
        outcome = await super().store(data, marks, newline, sqlstate)
        outcome.updated, self._staging.updated = self._staging.updated, 0
        return outcome

    async def _insert(self, before: int, count: int) -> tuple[int, list[Refused]]:
        if self._target.in_sets and self._by.in_sets:
            updated = self._staging.updated
            done = await self._tried(self._insert_in_sets(before))
            if done is not None:
                return done
            self._staging.updated = updated
        refused = await self._staging.insert_each(after(before))
        return count - len(refused), refused

    async def _insert_in_sets(self, before: int) -> tuple[int, list[Refused]] | None:
        """See `_insert`; None if the rows' order may count, and nothing is to be left of it then."""
        staging = self._staging
        suspects = await staging.suspects(before)
        refused = await staging.insert_each(numbered(suspects)) if suspects else []
        # One that is stored after all may have come before another of its key, or after it.
        apart = len(refused) == len(suspects) and CERTAIN.issuperset(one.sqlstate for one in refused)
        repeated = apart and await staging.repeated(before, suspects)
        if apart and not (repeated and not self._by.may_leave_out(self._target.columns)):
            return await staging.upsert_sound(before, suspects, repeated=repeated), refused
        await self._connection.execute(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
        return None

    async def _by_copy(self, rows: Rows, outcome: Outcome) -> None:
        """Have rows copied into the staging table, as many as its types take, and judged there."""
        staging = self._staging
        table = await staging.make(defaults=self._options.default is not None)
        await staging.clear()
        sql = self._copy_sql(table)
        before = staging.last[False]
        kept: list[int] = []
        todo: list[Sequence[int]] = [rows.picked]
        while todo:
            picked = todo.pop()
            part = rows.pick(picked)
            copied = await self._copy(sql, part)
            if copied.error is None:
                kept += picked
            elif len(picked) == 1:
                outcome.rejects.append(rows.reject(picked[0], "", "").because(copied.error))
            else:
                todo += self._parts(part, copied.error, table.rpartition(".")[2])
        if kept:
            outcome.add(await self._judge(rows, kept, before))

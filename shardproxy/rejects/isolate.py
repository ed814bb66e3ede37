"""A batch that a shard has refused: what of it is stored, and what is set aside, by sets rather than by halves.

In this order, each only if the one before does not settle it:

1. what needs no server: rows of too many or too few fields, bytes that are not in the encoding, odd line ends;
2. values that a type does not take: from PostgreSQL 17 on by COPY's own ON_ERROR, on 16 by pg_input_error_info() over a
   table of text;
3. constraints: the rows in a table of the target's types, suspects found by its catalog, and each tried alone;
4. COPY again and again, of less and less.
"""

from array import array
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from shardproxy.copy.binary import HEADER, TRAILER
from shardproxy.copy.fields import read_fields, without_newline
from shardproxy.copy.lines import column_named, map_context
from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.native import ROW_MISSING
from shardproxy.rejects.copying import SAVEPOINT, Copied, copy, undo
from shardproxy.rejects.faults import fault_words, looking
from shardproxy.rejects.form import copy_sql
from shardproxy.rejects.hints import Hints
from shardproxy.rejects.orphans import Orphans
from shardproxy.rejects.reasons import line_of, reasons, value_named
from shardproxy.rejects.reject import Outcome, Reject, Rows, is_fatal
from shardproxy.rejects.staging import Refused, Staging, after, encoded, numbered
from shardproxy.rejects.target import Asked, Target
from shardproxy.rejects.upsert import Upsert
from shardproxy.shard.connection import Connection
from shardproxy.sqlstate import FOREIGN_KEY_VIOLATION, INTERNAL_ERROR

T = TypeVar("T")

PIECE: Final = 1 << 18
"""Bytes of one CopyData message."""

INTEGRITY: Final = "23"
"""The class of what constraints refuse."""

TELLS: Final = 16
"""The first version with pg_input_error_info()."""


class UnsettledError(Exception):
    """Rows cannot be judged by these means."""


class Isolation:
    """The bad rows of one COPY on one shard."""

    _upsert: Upsert | None = None
    _left_out = 0  # of the rows that `_insert` has had

    def __init__(
        self,
        connection: Connection,
        asked: Asked,
        options: CopyOptions,
        schema: str | None,
        encoding: str,
        original: Callable[[Reject], Reject],
    ) -> None:
        """`schema` is where tables may be made, see `Staging`; `encoding` the data's; `original`: see RejectSink."""
        self._original = original
        self._hints = Hints(options, asked.columns)
        self._connection = connection
        self._asked = asked
        self._known: Target | None = None
        self._options = options
        self._utf8 = encoding.upper().replace("-", "") in {"UTF8", "UNICODE"}
        self._schema = schema
        self._orphans = Orphans()
        self._textual = options.format != "binary"

    @property
    def _target(self) -> Target:
        assert self._known is not None
        return self._known

    async def _learn(self) -> None:
        """Ask what the table is, before the first batch that needs it."""
        if self._known is None:
            self._known = await Target.of(self._connection, self._asked)
            self._staging = Staging(self._connection, self._known, self._schema, self._upsert)
            self._sql = self._copy_sql(self._known.quoted, where=self._known.where)

    def _copy_sql(self, table: str, *, where: str = "", skip: bool = False, text: bool = False) -> bytes:
        sql = copy_sql(table, self._target.columns, self._options, where=where, skip=skip, text=text)
        return encoded(sql)

    # From the outside in.

    async def store(self, data: bytes, marks: "array[int]", newline: int, sqlstate: str) -> Outcome:
        """Store rows of a batch that has failed as a whole; raise for an error that is not of a row.

        `marks` and `newline` are the splitter's: where each row stands in the client's input, and what ends rows there.
        `sqlstate` is what the batch has failed with, or will.
        """
        await self._learn()
        outcome = Outcome()
        await self._store(data, marks, newline, outcome, of_keys=sqlstate[:2] == INTEGRITY)
        outcome.rejects = [self._original(self._hints.of(one)) for one in outcome.rejects]
        return outcome

    async def _store(self, data: bytes, marks: "array[int]", newline: int, outcome: Outcome, *, of_keys: bool) -> None:
        rows = await self._look(data, marks, newline, outcome)
        if not rows:
            return
        error = await self._plain(rows, outcome) if outcome.rejects else None
        if outcome.rejects and error is None:
            return
        before = dict(self._staging.last)
        try:
            # On the way to the staging table bad values are passed over, too.
            staged = of_keys and self._target.tells_skipped
            rows, settled = (rows, False) if staged else await self._types(rows, outcome)
            if not settled:
                await self._constraints(rows, outcome)
        except UnsettledError:
            for text, last in before.items():
                if self._staging.made(text=text):
                    await self._staging.forget(after(last), text=text)
            await self._by_copy(rows, outcome)

    async def end(self) -> Outcome:
        """Try those rows again that lacked their parent, and leave no table behind; then `left` are set aside."""
        if self._known is None:
            return Outcome()
        outcome = await self._orphans.settle(self._staging)
        await self._staging.drop()
        return outcome

    def left(self) -> Iterator[Outcome]:
        """Yield the rows that lack their parent, so many at a time."""
        yield from self._orphans.left()
        self.close()

    def close(self) -> None:
        """Nothing more is asked."""
        self._orphans.close()

    async def _copy(self, sql: bytes, rows: Rows) -> Copied:
        data = rows.bytes
        pieces = (data[at : at + PIECE] for at in range(0, len(data), PIECE))
        if self._options.format == "binary":
            pieces = (piece for group in ((HEADER,), pieces, (TRAILER,)) for piece in group)
        copied = await copy(self._connection, sql, pieces)
        if copied.error is not None and is_fatal(copied.error.sqlstate):
            raise copied.error
        return copied

    async def _plain(self, rows: Rows, outcome: Outcome) -> PgError | None:
        """Have rows copied into the target; return the error if they are not stored."""
        copied = await self._copy(self._sql, rows)
        if copied.error is None:
            outcome.stored += copied.count
            outcome.dropped += len(rows) - copied.count
        return copied.error

    # 1. Without a server.

    async def _look(self, data: bytes, marks: "array[int]", newline: int, outcome: Outcome) -> Rows:
        """Set aside what can be seen to be bad; return the other rows."""
        options, names = self._options, self._target.columns
        look = looking(options, self._target.version, len(names), utf8=self._utf8)
        ends, spans, faults = look(data, newline)
        rows = Rows(data, ends, marks[::2], marks[1::2], range(len(ends)))
        if len(ends) != len(rows.lines):
            raise PgError(INTERNAL_ERROR, f"{len(rows.lines)} rows were sent to a shard, and {len(ends)} are there")
        self._spans = spans
        rows.extra_lines = self._textual and len(spans) > 0 and spans[-1] != len(spans)
        rejects = [
            rows.reject(number, *fault_words(fault, at, message, rows, number, names, self._options))
            for number, fault, at, message, _ in faults
        ]
        short = [place for place, (_, fault, *_) in enumerate(faults) if fault == ROW_MISSING]
        if self._textual and self._target.version >= TELLS and short:
            # PostgreSQL reads a row's values one by one, up to the one that is missing.
            for place, reason in zip(short, await self._first_invalid([rejects[one] for one in short]), strict=True):
                if reason is not None:
                    rejects[place] = reason.of(rejects[place])
        outcome.rejects += rejects
        return rows.without({number for number, *_ in faults})

    async def _first_invalid(self, rejects: Sequence[Reject]) -> list[Refused | None]:
        """Return, for each row, why the first bad value is refused by its type; None if there is none."""
        names = self._target.columns
        asked, at = [], []
        for place, reject in enumerate(rejects):
            for name, value in zip(
                names, read_fields(without_newline(reject.row, self._options), self._options, names), strict=False
            ):
                if value is not None:
                    asked.append((value, self._target.type_of(name)))
                    at.append((place, name))
        found: list[Refused | None] = [None] * len(rejects)
        for (place, name), reason in zip(at, await reasons(self._connection, asked), strict=True):
            if found[place] is None and reason.sqlstate:
                found[place] = reason._replace(column=name)
        return found

    # 2. Types.

    async def _types(self, rows: Rows, outcome: Outcome) -> tuple[Rows, bool]:
        """Set aside rows with a value that its type does not take; return the others, and whether they are stored."""
        if not self._textual:
            return rows, False
        if self._target.tells_skipped:
            return await self._types_by_skipping(rows, outcome)
        if self._target.version >= TELLS:
            return await self._types_by_text(rows, outcome)
        return rows, False

    async def _types_by_skipping(self, rows: Rows, outcome: Outcome) -> tuple[Rows, bool]:
        # What it stores goes again if it does not tell which rows it has skipped.
        await self._connection.execute(f"SAVEPOINT {SAVEPOINT}")
        try:
            copied = await self._copy(self._copy_sql(self._target.quoted, where=self._target.where, skip=True), rows)
            rejects = [] if copied.error is not None else await self._skipped(rows, copied)
        except UnsettledError:
            await undo(self._connection)
            raise
        await self._connection.execute(f"RELEASE SAVEPOINT {SAVEPOINT}")
        if copied.error is not None:
            return rows, False
        outcome.rejects += rejects
        outcome.stored += copied.count
        outcome.dropped += len(rows) - len(rejects) - copied.count
        return rows, True

    async def _skipped(self, rows: Rows, copied: Copied) -> list[Reject]:
        """Return the rows that a COPY has skipped, with what their types say of the values."""
        found, asked = [], []
        for notice in copied.skipped:
            line = line_of(notice)
            number = None if line is None else rows.at_line(line, self._spans)
            value = None if number is None else self._named(rows.row(number), notice)
            if number is None or value is None:
                raise UnsettledError
            found.append((number, value[0]))
            asked.append((value[1], self._target.type_of(value[0])))
        said = await reasons(self._connection, asked)
        if not all(reason.sqlstate for reason in said):
            raise UnsettledError
        return [
            reason._replace(column=name).of(rows.reject(number, "", ""))
            for (number, name), reason in zip(found, said, strict=True)
        ]

    def _named(self, row: bytes, notice: dict[str, str]) -> tuple[str, bytes] | None:
        columns = self._target.columns
        fields = read_fields(without_newline(row, self._options), self._options, columns)
        return value_named(notice, dict(zip(columns, fields, strict=False)))

    async def _types_by_text(self, rows: Rows, outcome: Outcome) -> tuple[Rows, bool]:
        table = await self._staged(text=True)
        copied = await self._copy(self._copy_sql(table, text=True), rows)
        if copied.error is not None:
            return rows, False
        row_of = dict(zip(await self._staging.numbers(text=True), rows.picked, strict=False))
        if len(row_of) != len(rows):
            raise UnsettledError
        refused = await self._staging.invalid()
        await self._staging.clear(text=True)
        numbers = {row_of[n]: one for n, one in refused.items()}
        outcome.rejects += [one.of(rows.reject(number, "", "")) for number, one in numbers.items()]
        rows = rows.without(set(numbers))
        return rows, not rows or (bool(numbers) and await self._plain(rows, outcome) is None)

    # 3. Constraints.

    async def _constraints(self, rows: Rows, outcome: Outcome) -> None:
        """Store what the target's constraints and triggers let pass, and set the rest aside."""
        target, staging = self._target, self._staging
        if not target.takes_insert:
            raise UnsettledError
        table = await self._staged()
        before = staging.last[False]
        skip = self._textual and target.tells_skipped
        copied = await self._copy(self._copy_sql(table, skip=skip), rows)
        if copied.error is not None:
            raise UnsettledError
        rejects = await self._skipped(rows, copied) if skip else []
        skipped = {one.line: one for one in rejects}
        kept = [number for number in rows.picked if rows.lines[number] not in skipped]
        outcome.add(await self._judge(rows, kept, before))
        outcome.rejects += rejects

    async def _staged(self, *, text: bool = False) -> str:
        """Return the staging table; where it may not be made, rows are judged without it."""
        staging = self._staging
        made = staging.made(text=text)
        made = made or await self._tried(staging.make(text=text, defaults=self._options.default is not None))
        if made is None:
            raise UnsettledError
        return made

    async def _judge(self, rows: Rows, kept: Sequence[int], before: int) -> Outcome:
        """Store the rows of these numbers, which are in the staging table after a number there."""
        numbers = await self._staging.numbers()
        if len(numbers) != len(kept):
            raise UnsettledError
        row_of = dict(zip(numbers, kept, strict=True))
        stored, refused = await self._insert(before, len(kept))
        found = Outcome(stored, left_out=self._left_out)
        found.dropped = len(kept) - stored - self._left_out - sum(bool(one.sqlstate) for one in refused)
        self._left_out = 0
        waits = self._upsert is None and not self._target.in_sets
        orphans: list[int] = []
        for one in sorted(refused):
            if not one.sqlstate:
                continue
            reject = one.of(rows.reject(row_of[one.n], "", ""))
            if waits and one.sqlstate == FOREIGN_KEY_VIOLATION:
                orphans.append(one.n)
                self._orphans.add(one.n, self._original(self._hints.of(reject)))
            else:
                found.rejects.append(reject)
        if self._orphans:
            await self._staging.forget(after(before, orphans))
        else:
            await self._staging.clear()
        return found

    async def _insert(self, before: int, count: int) -> tuple[int, list[Refused]]:
        """Store the `count` staged rows after a number; return how many are, and what speaks against others."""
        staging = self._staging
        # In front of the others: one of those may take the place of a row that is refused.
        suspects = await self._tried(staging.suspects(before)) if self._target.in_sets else None
        if suspects is None:
            refused = await staging.insert_each(after(before))
            return count - len(refused), refused
        refused = await staging.insert_each(numbered(suspects)) if suspects else []
        sound = await self._tried(staging.insert_sound(before, suspects))
        if sound is None:
            more = await staging.insert_each(after(before, suspects))
            return await self._by_key(before, count - len(refused) - len(more), [*refused, *more])
        stored, conflicts = sound[0] + len(suspects) - len(refused), sound[1]
        again = await staging.insert_each(numbered(conflicts)) if conflicts else []
        return await self._by_key(before, stored + len(conflicts) - len(again), [*refused, *again])

    async def _by_key(self, before: int, stored: int, refused: list[Refused]) -> tuple[int, list[Refused]]:
        """Have rows refused for their key where one before them has it: that comes before a missing parent."""
        orphans = [one.n for one in refused if one.sqlstate == FOREIGN_KEY_VIOLATION]
        work = self._staging.late(before, orphans, [one.n for one in refused]) if orphans else None
        late = set(await self._tried(work) or ()) if work is not None else set()
        if not late:
            return stored, refused
        again = await self._staging.insert_each(numbered(sorted(late)))
        return stored + len(late) - len(again), [*(one for one in refused if one.n not in late), *again]

    async def _tried(self, work: Awaitable[T]) -> T | None:
        """Do something under a savepoint; None if it fails for what a row, or a constraint's expression, may do."""
        await self._connection.execute(f"SAVEPOINT {SAVEPOINT}")
        try:
            found = await work
        except PgError as error:
            if is_fatal(error.sqlstate) and error.sqlstate[:2] not in {"0A", "42", "55"}:
                raise
            await undo(self._connection)
            return None
        await self._connection.execute(f"RELEASE SAVEPOINT {SAVEPOINT}")
        return found

    # 4. By COPY alone.

    async def _by_copy(self, rows: Rows, outcome: Outcome) -> None:
        """Store rows in their order by COPY; a row that fails alone is set aside."""
        todo: list[Sequence[int]] = [rows.picked]
        while todo:
            picked = todo.pop()
            part = rows.pick(picked)
            copied = await self._copy(self._sql, part)
            if copied.error is None:
                outcome.stored += copied.count
                outcome.dropped += len(part) - copied.count
            elif len(picked) == 1:
                reject = rows.reject(picked[0], "", "").because(copied.error)
                column = column_named(copied.error.context or "", self._target.name, self._target.columns)
                outcome.rejects.append(reject if column is None else replace(reject, column=column, typed=True))
            else:
                todo += self._parts(part, copied.error, self._target.name)

    def _parts(self, rows: Rows, error: PgError, relation: str) -> list[Sequence[int]]:
        """Return the parts, the last one first, in which rows are tried that cannot be copied at once."""
        picked, number = rows.picked, None
        if error.context is not None:
            _, line = map_context(error.context, relation, lambda line: line)
            number = None if line is None else rows.at_line(line, self._spans)
        if number is None:
            half = len(picked) // 2
            return [picked[half:], picked[:half]]
        at = picked.index(number)
        return [one for one in (picked[at + 1 :], picked[at : at + 1], picked[:at]) if one]

"""COPY's own ON_ERROR ignore by the proxy, as PostgreSQL 18 does it, for shards that do not know it yet.

Rows with a value that a type refuses are counted and told; every other bad row ends the COPY, or is the next sink's.
"""

from collections.abc import Callable, Iterable, Sequence
from heapq import heappop, heappush
from typing import Final

from shardproxy.copy.fields import read_fields, without_newline
from shardproxy.copy.options import CopyOptions
from shardproxy.errors import PgError
from shardproxy.rejects.reject import Reject
from shardproxy.rejects.sink import RejectSink
from shardproxy.rejects.target import SKIPS
from shardproxy.rejects.upsert import Upsert
from shardproxy.session.locate import TEMPORARY
from shardproxy.shard.connection import Connection
from shardproxy.sql import SCHEMA
from shardproxy.sqlstate import (
    BAD_COPY_FILE_FORMAT,
    CHECK_VIOLATION,
    INVALID_TEXT_REPRESENTATION,
    NOT_NULL_VIOLATION,
    SUCCESSFUL_COMPLETION,
)

SHOWN: Final = 100
"""Bytes of a value in a notice: MAX_COPY_DATA_DISPLAY of copyfromparse.c."""


ALONE: Final = frozenset({BAD_COPY_FILE_FORMAT, NOT_NULL_VIOLATION, CHECK_VIOLATION})
"""What COPY finds before a row is with others in a buffer, so that it can show the row."""


CONSTRAINT: Final = "23"
"""The class of SQLSTATEs of integrity constraint violations."""


LAST_OPTIONS: Final = 18
"""The first version with REJECT_LIMIT, and with LOG_VERBOSITY silent."""


def skips(options: CopyOptions, version: int) -> bool:
    """Whether servers of a version skip rows as these options ask, if they do."""
    last = options.log_verbosity == "silent" or options.reject_limit is not None
    return options.on_error != "ignore" or version >= (LAST_OPTIONS if last else SKIPS)


def context_of(reject: Reject, table: str, options: CopyOptions, columns: Sequence[str]) -> str:
    """Return CONTEXT as CopyFromErrorCallback of copyfrom.c has it, for a row that is looked at by itself."""
    context = f"COPY {table}, line {reject.line}"
    if reject.column is not None and reject.typed:
        return f"{context}, column {reject.column}: {_value(reject, options, columns)}"
    if reject.sqlstate in ALONE and options.format != "binary":
        return f"{context}: {_shown(without_newline(reject.row, options))}"
    return context


def _value(reject: Reject, options: CopyOptions, columns: Sequence[str]) -> str:
    assert reject.column is not None
    value = read_fields(without_newline(reject.row, options), options, columns)[columns.index(reject.column)]
    return "null input" if value is None else _shown(value)


def _shown(value: bytes) -> str:
    if len(value) <= SHOWN:
        return f'"{value.decode("utf-8", "surrogateescape")}"'
    return f'"{value[:SHOWN].decode("utf-8", "ignore")}..."'


class Skipping:
    """The rejects of a COPY with ON_ERROR ignore: see RejectSink."""

    def __init__(
        self,
        options: CopyOptions,
        table: str,
        columns: Sequence[str],
        notice: Callable[[dict[str, str]], None],
        others: RejectSink,
    ) -> None:
        """`others` has what ON_ERROR does not skip."""
        self._options = options
        self._table = table
        self._columns = columns
        self._notice = notice
        self._others = others
        self._at_first = isinstance(others, Ending)
        self._skipped = 0
        self._waiting: list[tuple[int, int, Reject]] = []  # a heap: of those before them not all are known yet
        self.skips = others.skips
        self.upsert = others.upsert

    async def begin(self, connections: Iterable[Connection]) -> None:
        """The others have begun."""

    def set_header(self, header: bytes) -> None:
        """It may be wanted with the others."""
        self._others.set_header(header)

    def original(self, reject: Reject) -> Reject:
        """As the others have it."""
        return self._others.original(reject)

    def judged(self, rows: int, rejects: Sequence[Reject]) -> None:
        """Count rows, and skip those that ON_ERROR skips. One that ends the COPY waits for those before it, too."""
        others = []
        for reject in sorted(rejects, key=lambda one: one.offset):
            if reject.typed or self._at_first:
                heappush(self._waiting, (reject.offset, len(self._waiting), reject))
            else:
                others.append(reject)
        self._others.judged(rows, others)

    def _next(self) -> None:
        reject = heappop(self._waiting)[-1]
        if reject.typed:
            self._skip(reject)
        else:
            self._others.judged(0, [reject])

    def _skip(self, reject: Reject) -> None:
        self._skipped += 1
        limit, verbosity = self._options.reject_limit, self._options.log_verbosity
        if verbosity == "verbose":
            self._tell(
                f"skipping row due to data type incompatibility at line {reject.line} for column "
                f'"{reject.column}": {_value(reject, self._options, self._columns)}',
                f"COPY {self._table}",
            )
        if limit is not None and self._skipped > limit:
            raise PgError(
                INVALID_TEXT_REPRESENTATION,
                f"skipped more than REJECT_LIMIT ({limit}) rows due to data type incompatibility",
                context=context_of(reject, self._table, self._options, self._columns),
            )

    def _tell(self, message: str, context: str | None = None) -> None:
        self._notice(PgError(SUCCESSFUL_COMPLETION, message, severity="NOTICE", context=context).fields)

    def found(self, updated: int, left_out: int) -> None:
        """It is the others' business."""
        self._others.found(updated, left_out)

    def passed(self, offset: int) -> None:
        """Skip what is known to come next, so that notices and the limit are in the order of the client's lines."""
        self._others.passed(offset)
        while self._waiting and self._waiting[0][0] < offset:
            self._next()

    async def finish(self, connections: Iterable[Connection]) -> int:
        """Tell how many rows were skipped."""
        while self._waiting:
            self._next()
        others = await self._others.finish(connections)
        if self._skipped and self._options.log_verbosity != "silent":
            rows = "1 row was" if self._skipped == 1 else f"{self._skipped} rows were"
            self._tell(f"{rows} skipped due to data type incompatibility")
        return self._skipped + others

    def discard(self) -> None:
        """Nothing was loaded."""
        self._others.discard()


class Ending:
    """The rejects of a COPY that ends at the first one: see RejectSink."""

    skips = False
    upsert: Upsert | None = None

    def __init__(self, schema: str, table: str, options: CopyOptions, columns: Sequence[str]) -> None:
        self._schema = schema
        self._table = table
        self._options = options
        self._columns = columns

    async def begin(self, connections: Iterable[Connection]) -> None:
        """None is set aside."""

    def set_header(self, header: bytes) -> None:
        """No row is kept."""

    def original(self, reject: Reject) -> Reject:
        """It is what the client has sent."""
        return reject

    def judged(self, rows: int, rejects: Sequence[Reject]) -> None:
        """Raise what the first one was refused for."""
        if not rejects:
            return
        reject = rejects[0]
        error = reject.error(context_of(reject, self._table, self._options, self._columns))
        if error.sqlstate.startswith(CONSTRAINT):
            # What was found in a staging table is about this one.
            known = reject.table is not None and not reject.table[0].startswith((TEMPORARY, SCHEMA))
            error.fields["s"], error.fields["t"] = (known and reject.table) or (self._schema, self._table)
        raise error

    def found(self, updated: int, left_out: int) -> None:
        """None has, as there is no `upsert`, and it does not skip."""
        raise AssertionError(f"{updated} rows of a client's have replaced others, {left_out} were left out")

    def passed(self, offset: int) -> None:
        """Nothing is kept."""

    async def finish(self, connections: Iterable[Connection]) -> int:
        """There was none."""
        return 0

    def discard(self) -> None:
        """Nothing was kept."""

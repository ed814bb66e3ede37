"""The rows that a load sets aside, of all its files: counted, limited, and written where they can be loaded from."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

from shardproxy.config.names import parse_relation
from shardproxy.errors import PgError
from shardproxy.loader.conflicts import Conflicts
from shardproxy.loader.input.chunk import Fault
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.origins import Origins
from shardproxy.loader.summary import Summary
from shardproxy.loader.target.table import Table
from shardproxy.rejects.files import RejectFiles
from shardproxy.rejects.held import Held
from shardproxy.rejects.limits import RejectLimit
from shardproxy.rejects.reject import Reject
from shardproxy.rejects.table import check, insert
from shardproxy.routing.identifiers import ascii_name
from shardproxy.shard.connection import Connection

OnCopied = Callable[[Iterable[Connection], Sequence[str]], Awaitable[None]]


class Aside:
    """The rejects of a load."""

    def __init__(
        self,
        options: LoadOptions,
        table: Table,
        target: str,
        summary: Summary,
        conflicts: Conflicts,
        on_reject: Callable[[Reject], None] | None = None,
    ) -> None:
        self._on_reject = on_reject
        self._options = options
        self._table = table
        self._target = target
        self._summary = summary
        self.conflicts = conflicts
        self._limit = RejectLimit.parse(options.reject_limit)
        given = options.reject_table
        self._in_table = None if given is None else ascii_name(*parse_relation(given))
        self._files: dict[bytes, RejectFiles] = {}
        self._current: RejectFiles | None = None
        self._held = Held()
        self._judged = 0
        self._kept = 0  # files of rejects of what is committed
        self.copying: OneCopy | None = None
        """Who keeps the rejects of the COPY that is under way."""
        self.on_copied: OnCopied | None = None
        """Called at the end of each COPY, in its transaction: with its connections, and the .dat files so far."""

    def begin(self, header: bytes) -> "tuple[Origins, OneCopy]":
        """The rows of a file follow, which has this header: return who keeps those of its COPY."""
        self._write()
        if header not in self._files:
            summary, table = self._summary, self._table
            before = self._kept + len(self._files)
            number = f"-{before + 1}" if before else ""
            self._files[header] = RejectFiles(
                Path(self._options.reject_dir),
                self._target,
                table.schema,
                table.name,
                summary.load_id + number,
                binary=self._options.format == "binary",
            )
            self._files[header].header = header
        self._current = self._files[header]
        origins = Origins()
        self.copying = OneCopy(self, self._summary, origins)
        return origins, self.copying

    def faults(self, faults: Iterable[Fault]) -> None:
        """Take rows that the reading has refused."""
        rejects = [
            Reject(
                fault.place.last_line,
                fault.place.offset,
                fault.original,
                fault.error.sqlstate,
                fault.error.message,
                fault.error.detail,
                fault.error.hint,
                file=fault.place.file,
            )
            for fault in faults
        ]
        self._summary.read += len(rejects)
        self.judged(len(rejects), rejects)

    def judged(self, rows: int, rejects: Sequence[Reject]) -> None:
        """So many rows have been judged, and these refused. Raises PgError if that ends the load."""
        self._judged += rows
        summary = self._summary
        bad = [one for one in rejects if not self.conflicts.leaves_out(one)]
        summary.skipped += len(rejects) - len(bad)
        rejects = bad
        if not rejects:
            return
        if self._options.on_error == "stop":
            raise _error(min(rejects, key=lambda one: one.offset))
        if self._on_reject is not None:
            for reject in rejects:
                self._on_reject(reject)
        summary.set_aside += len(rejects)
        self._held.add(rejects)
        if self._held.full:
            self._write()
        last = max(rejects, key=lambda one: one.offset)
        sample = f"{last.file}, line {last.line}: {last.sqlstate}: {last.message}"
        self._limit.check(self._judged, summary.set_aside, sample=sample, hint=last.hint)

    def _write(self) -> None:
        if self._current is not None:
            self._held.write(self._current)

    def close(self) -> None:
        """Have all of it on the disk, before what is stored is committed."""
        self._write()
        for files in self._files.values():
            if files.made:
                files.close()

    def _dats(self) -> list[str]:
        return [str(files.dat) for files in self._files.values() if files.made]

    def keep(self) -> None:
        """What was closed belongs to what is committed: what comes next has files of its own."""
        self._summary.rejects += self._dats()
        self._kept += len(self._files)
        self._files.clear()

    def discard(self) -> None:
        """What was not kept was not loaded: remove the files."""
        self._held.discard()
        for files in self._files.values():
            files.discard()
        self._files.clear()

    async def begun(self, connections: Iterable[Connection]) -> None:
        """A COPY begins, in the transaction of these connections. Raises PgError for the table of rejects."""
        if self._in_table is not None:
            await check(next(iter(connections)), self._in_table)

    async def copied(self, connections: Iterable[Connection]) -> None:
        """A COPY has ended, in the transaction of these connections."""
        self._write()
        if self._in_table is not None:
            named = {"load_id": self._summary.load_id, "relation": f"{self._table.schema}.{self._table.name}"}
            for files in self._files.values():
                await insert(next(iter(connections)), self._in_table, named, files.facts())
        if self.on_copied is not None:
            await self.on_copied(connections, self._dats())


class OneCopy:
    """The rejects of one COPY: see RejectSink."""

    def __init__(self, aside: Aside, summary: Summary, origins: Origins) -> None:
        self._aside = aside
        self._summary = summary
        self._origins = origins
        self.skips = aside.conflicts.skip
        self.upsert = aside.conflicts.upsert
        self.rows = self.rejected = 0
        """What the COPY has judged, and of that the rows that are not stored but for triggers."""
        self.replaced = 0
        """Of those stored, the rows that have replaced one that was there."""

    async def begin(self, connections: Iterable[Connection]) -> None:
        """See that the table of rejects takes them."""
        await self._aside.begun(connections)

    def set_header(self, header: bytes) -> None:
        """What is sent has none."""
        raise AssertionError("the loader's COPY has a header")

    def original(self, reject: Reject) -> Reject:
        """As it was in its file."""
        return self._origins.of(reject)

    def judged(self, rows: int, rejects: Sequence[Reject]) -> None:
        """Count them."""
        self._summary.read += rows
        self.rows += rows
        self.rejected += len(rejects)
        self._aside.judged(rows, rejects)

    def found(self, updated: int, left_out: int) -> None:
        """Count them."""
        self.replaced += updated
        self.rejected += left_out
        self._summary.skipped += left_out

    def passed(self, offset: int) -> None:
        """Forget where the rows before came from."""
        self._origins.passed(offset)

    async def finish(self, connections: Iterable[Connection]) -> int:
        """The files are closed at the end of the load."""
        await self._aside.copied(connections)
        return self.rejected

    def discard(self) -> None:
        """The load ends with this COPY, and removes them."""


def _error(reject: Reject) -> PgError:
    error = PgError(
        reject.sqlstate,
        reject.message,
        detail=reject.detail,
        hint=reject.hint,
        context=f"{reject.file}, line {reject.line}",
    )
    for code, value in (("c", reject.column), ("n", reject.constraint)):
        if value:
            error.fields[code] = value
    return error

"""A load from its beginning to its end.

It is one transaction, or with an import id one for each file (`unit.Unit`).
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from shardproxy.errors import PgError
from shardproxy.loader.aside import Aside
from shardproxy.loader.blocking import in_thread
from shardproxy.loader.conflicts import Conflicts
from shardproxy.loader.copying import copy_file
from shardproxy.loader.indexes import Restored, dropped
from shardproxy.loader.input import Alterations, Reading
from shardproxy.loader.input.open import give_up, size_of
from shardproxy.loader.inputs import inputs
from shardproxy.loader.journal import Journal
from shardproxy.loader.options import LoadOptions, reading_of
from shardproxy.loader.stage import Stage
from shardproxy.loader.summary import Summary, Timer, Warnings
from shardproxy.loader.target.inside import connect
from shardproxy.loader.target.open import opened, target_of
from shardproxy.loader.target.table import Table
from shardproxy.loader.triggers import disable_triggers, enable_triggers
from shardproxy.loader.unit import Unit, committing, units_of
from shardproxy.loader.ways import Ways, ways
from shardproxy.rejects.files import new_load_id
from shardproxy.rejects.reject import Reject
from shardproxy.rejects.sink import RejectSink
from shardproxy.session.database import Database
from shardproxy.shard.connection import Connection

OnReject = Callable[[Reject], None]


class Load:
    """One load. `summary` is filled as it goes on."""

    def __init__(self, options: LoadOptions, on_reject: OnReject | None = None) -> None:
        """`on_reject` is called with each row that is set aside; what it raises ends the load.

        Raises PgError for a DSN that is wrong, ConfigErrors for a configuration.
        """
        self._target = target_of(options)
        self.options = options
        self._on_reject = on_reject
        self.summary = Summary(options.table, "", new_load_id())
        self._altered = Alterations()
        self._warnings = Warnings()
        self._timer = Timer(self.summary)
        self.stage = Stage(self.summary, self._altered)

    async def run(self) -> Summary:
        """Carry it out. What goes wrong is in the summary; what is a bug is raised."""
        try:
            async with opened(self._target, self.options) as database, self._session(database) as connection:
                await self._load(database, connection)
        except PgError as error:
            self.summary.failed(error)
        finally:
            self.summary.altered = {str(kind): count for kind, count in self._altered.counts.items()}
            self.summary.notes += [*self._altered.notes, *self._warnings.notes()]
            self._timer.ended("end")
        return self.summary

    @contextlib.asynccontextmanager
    async def _session(self, database: Database) -> AsyncIterator[Connection]:
        settings = {"application_name": "shardproxy load", "client_encoding": "UTF8", **self.options.set}
        if self.options.date_order is not None:
            settings["DateStyle"] = f"ISO, {self.options.date_order}"
        self.summary.target = database.config.name
        async with connect(database, settings) as connection:
            connection.on_notice = self._notice
            yield connection

    def _notice(self, fields: dict[str, str]) -> None:
        if fields.get("V") == "WARNING":
            self._warnings.add(fields["M"])

    async def _load(self, database: Database, connection: Connection) -> None:
        options, summary = self.options, self.summary
        table = await Table.find(connection, options.table)
        summary.table = table.quoted
        reading = reading_of(options, table.version)
        conflicts = await Conflicts.of(connection, database, table, options)
        aside = Aside(options, table, database.config.name, summary, conflicts, self._on_reject)
        if options.dry_run:
            self._timer.ended("connect")
            await self._describe(table, reading)
            return
        async with contextlib.AsyncExitStack() as stack:
            made = ways(options, database, connection, table, reading, self._session, summary.notes.append)
            found = await stack.enter_async_context(made)
            journal = None
            if options.import_id is not None:
                journal = await stack.enter_async_context(Journal.opened(options, database, table, summary.load_id))
            units = await units_of(options, journal, summary)
            self._timer.ended("connect")
            self.stage.total = size_of([name for unit in units for name in unit.files])
            drops = await stack.enter_async_context(self._without_indexes(database, table)) if units else ()
            for unit in units:
                await self._unit(found, table, reading, aside, unit, drops)
            summary.status = "checked" if options.check else "loaded"
        if options.analyze and not options.check and (summary.stored or summary.updated):
            await self._analyze(connection, table)

    async def _unit(
        self,
        found: Ways,
        table: Table,
        reading: Reading,
        aside: Aside,
        unit: Unit,
        drops: Sequence[str],
    ) -> None:
        """Carry out one transaction. On return it is committed; unless `summary` says more, nothing of it else."""
        options, connection = self.options, found.connection
        if unit.first and found.apart is not None and (options.before or options.truncate):
            await self._apart(found.apart, self._before(found.apart, table))
            self.summary.committed.append("the SQL before the rows")
        counts = self.summary.counts()
        aside.on_copied = unit.copied
        try:
            await connection.execute("BEGIN")
            if unit.first and found.apart is None:
                await self._before(connection, table)
            for sql in drops:
                await connection.execute(sql)
            states = await disable_triggers(connection, found.database, table) if options.disable_triggers else ()
            await self._rows(found.database, connection, table, reading, aside, unit.files)
            await enable_triggers(connection, table, states)
            if unit.last and found.apart is None:
                await self._after(connection)
            self.stage.doing = "committing"
            aside.close()
            await unit.check()
            if options.check:
                await connection.execute("ROLLBACK")
                aside.keep()
            else:
                await committing(connection, unit, aside, self.summary)
        except BaseException:
            if unit.outcome is False:
                aside.discard()
            else:
                aside.keep()
            if unit.outcome is not True:
                self.summary.restore(counts)
            raise
        finally:
            self._timer.ended("commit")
        if unit.last and found.apart is not None and options.after:
            await self._apart(found.apart, self._after(found.apart))

    async def _apart(self, connection: Connection, work: Awaitable[None]) -> None:
        """Do something in a transaction of its own."""
        await connection.execute("BEGIN")
        await work
        await connection.execute("COMMIT")

    async def _describe(self, table: Table, reading: Reading) -> None:
        """Say what would be done: the names of the files, and the columns that their fields are for."""
        summary = self.summary
        files = inputs(self.options, self.options.files, reading, table, self._altered)
        while (file := await in_thread(lambda: next(files, None))) is not None:
            give_up(file.chunks)
            columns = file.columns or table.filled
            summary.notes.append(f"{file.name}: {', '.join(columns)}")
            summary.files += 1
        summary.status = "dry run"

    @contextlib.asynccontextmanager
    async def _without_indexes(self, database: Database, table: Table) -> AsyncIterator[Sequence[str]]:
        """Yield what drops the indexes, if that is asked for; they are there again at the end."""
        options, summary = self.options, self.summary
        if not options.drop_indexes:
            yield ()
            return
        restored: list[Restored] = []
        try:
            async with dropped(database, table, summary.load_id, options.max_parallel_create_index, restored) as (
                drops,
                notes,
            ):
                yield drops
                summary.notes += notes
                self.stage.doing = "making the indexes again"
        finally:
            summary.unmade += [f"{one.table}: {what}" for one in restored for what in one.failed]
            self._timer.ended("indexes")

    async def _before(self, connection: Connection, table: Table) -> None:
        self.stage.doing = "running SQL before the rows"
        for sql in self.options.before:
            await connection.execute(sql)
        if self.options.truncate:
            await connection.execute(f"TRUNCATE {table.quoted}")
        self._timer.ended("before")

    async def _after(self, connection: Connection) -> None:
        self.stage.doing = "running SQL after the rows"
        for sql in self.options.after:
            await connection.execute(sql)
        self._timer.ended("after")

    async def _rows(
        self,
        database: Database,
        connection: Connection,
        table: Table,
        reading: Reading,
        aside: Aside,
        names: Sequence[str],
    ) -> None:
        summary = self.summary

        def sink(*_: object) -> RejectSink:
            assert aside.copying is not None
            return aside.copying

        database.make_sink = sink
        files = inputs(self.options, names, reading, table, self._altered)
        self.stage.doing = "opening the first file"
        while (file := await in_thread(lambda: next(files, None))) is not None:
            await copy_file(connection, table, file, aside, self.stage, self.options.prefetch)
            summary.files += 1
            self.stage.doing = f"opening what follows {file.name}"
        self._timer.ended("rows")

    async def _analyze(self, connection: Connection, table: Table) -> None:
        """What is loaded stays loaded, whatever becomes of it."""
        self.stage.doing = "analyzing"
        try:
            await connection.execute(f"ANALYZE {table.quoted}")
        except PgError as error:
            self.summary.notes.append(f"ANALYZE has failed: {error.sqlstate}: {error.message}")
        self._timer.ended("analyze")

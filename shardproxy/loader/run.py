"""A load from its beginning to its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from shardproxy.errors import PgError
from shardproxy.loader.aside import Aside
from shardproxy.loader.conflicts import Conflicts
from shardproxy.loader.copying import copy_file
from shardproxy.loader.input import Alterations, Reading, read
from shardproxy.loader.input.open import give_up, size_of
from shardproxy.loader.options import LoadOptions, reading_of
from shardproxy.loader.stage import Stage
from shardproxy.loader.summary import Summary, Timer
from shardproxy.loader.target.inside import connect
from shardproxy.loader.target.open import opened
from shardproxy.loader.target.table import Table
from shardproxy.rejects.files import new_load_id
from shardproxy.rejects.keeper import Keeper
from shardproxy.rejects.reject import Reject
from shardproxy.session.database import Database
from shardproxy.shard.connection import Connection

NEWEST = 18

OnReject = Callable[[Reject], None]


class Load:
    """One load. `summary` is filled as it goes on."""

    def __init__(self, options: LoadOptions, on_reject: OnReject | None = None) -> None:
        """`on_reject` is called with each row that is set aside; what it raises ends the load."""
        self.options = options
        self._on_reject = on_reject
        self.summary = Summary(options.table, "", new_load_id())
        self._altered = Alterations()
        self._timer = Timer(self.summary)
        self.stage = Stage(self.summary, self._altered)

    async def run(self) -> Summary:
        """Carry it out. What goes wrong is in the summary; ConfigErrors and what is a bug is raised."""
        try:
            # What is wrong with the options alone is told before anything is touched.
            reading_of(self.options, NEWEST)
            async with opened(self.options) as database, self._session(database) as connection:
                await self._load(database, connection)
        except PgError as error:
            self._failed(error)
        finally:
            self.summary.altered = {str(kind): count for kind, count in self._altered.counts.items()}
            self.summary.notes += self._altered.notes
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
            self.summary.notes.append(fields["M"])

    async def _load(self, database: Database, connection: Connection) -> None:
        options, summary = self.options, self.summary
        table = await Table.find(connection, options.table)
        summary.table = table.quoted
        reading = reading_of(options, table.version)
        conflicts = await Conflicts.of(connection, database, table, options)
        aside = Aside(options, table, database.config.name, summary, conflicts, self._on_reject)
        self._timer.ended("connect")
        self.stage.total = size_of(options.files)
        if options.dry_run:
            await self._describe(table, reading)
            return
        try:
            await connection.execute("BEGIN")
            await self._before(connection, table)
            await self._rows(database, connection, table, reading, aside)
            self.stage.doing = "running SQL after the rows"
            for sql in options.after:
                await connection.execute(sql)
            self._timer.ended("after")
            self.stage.doing = "committing"
            aside.close()
            await connection.execute("ROLLBACK" if options.check else "COMMIT")
            self._timer.ended("commit")
        except BaseException:
            aside.discard()
            raise
        summary.status = "checked" if options.check else "loaded"
        if options.analyze and not options.check and (summary.stored or summary.updated):
            self.stage.doing = "analyzing"
            await connection.execute(f"ANALYZE {table.quoted}")
            self._timer.ended("analyze")

    async def _describe(self, table: Table, reading: Reading) -> None:
        """Say what would be done: the names of the files, and the columns that their fields are for."""
        summary = self.summary
        files = read(self.options.files, reading, table.columns, self._altered)
        while (file := await asyncio.to_thread(next, files, None)) is not None:
            give_up(file.chunks)
            columns = file.columns or tuple(one.name for one in table.columns if not one.generated)
            summary.notes.append(f"{file.name}: {', '.join(columns)}")
            summary.files += 1
        summary.status = "dry run"

    async def _before(self, connection: Connection, table: Table) -> None:
        self.stage.doing = "running SQL before the rows"
        for sql in self.options.before:
            await connection.execute(sql)
        if self.options.truncate:
            await connection.execute(f"TRUNCATE {table.quoted}")
        self._timer.ended("before")

    async def _rows(
        self, database: Database, connection: Connection, table: Table, reading: Reading, aside: Aside
    ) -> None:
        summary = self.summary

        def keeper(*_: object) -> Keeper:
            assert aside.copying is not None
            return aside.copying

        database.make_keeper = keeper
        files = read(self.options.files, reading, table.columns, self._altered)
        self.stage.doing = "opening the first file"
        # In a thread: a FIFO is opened when there is somebody who writes to it.
        while (file := await asyncio.to_thread(next, files, None)) is not None:
            await copy_file(connection, table, file, aside, self.stage, self.options.prefetch)
            summary.files += 1
            self.stage.doing = f"opening what follows {file.name}"
        self._timer.ended("rows")

    def _failed(self, error: PgError) -> None:
        summary = self.summary
        summary.status = "failed"
        summary.stored = summary.updated = summary.set_aside = summary.skipped = summary.dropped = 0
        facts = {"sqlstate": error.sqlstate, "message": error.message, "detail": error.detail, "hint": error.hint}
        facts["where"] = error.context
        summary.error = {name: value for name, value in facts.items() if value}

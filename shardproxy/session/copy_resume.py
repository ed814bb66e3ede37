"""Where a session's COPY sets bad rows aside: whether it is to, and what it needs for that."""

import re
from collections.abc import Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Final

from shardproxy.combine.notices import NoticeMerger
from shardproxy.config.model import Load
from shardproxy.errors import PgError
from shardproxy.rejects.files import new_load_id
from shardproxy.rejects.sink import RejectSink
from shardproxy.rejects.target import SKIPS, Asked
from shardproxy.routing.copies import FIRST, copied_rows
from shardproxy.session.client import Client
from shardproxy.session.copy_batches import Batches
from shardproxy.session.copy_rejects import FileSink, Place, RejectPolicy
from shardproxy.session.copy_setup import CopySetup, prepare_copy
from shardproxy.session.copy_skipping import LAST_OPTIONS, Ending, Skipping, skips
from shardproxy.session.copy_verify import Spread, added_before
from shardproxy.session.database import Database
from shardproxy.session.execute import Executor
from shardproxy.session.names import Resolver
from shardproxy.session.own_settings import ASKED, NAMES, is_setting, settled
from shardproxy.session.shards import Shards
from shardproxy.session.watch import WatchedCopy
from shardproxy.shard.connection import Connection
from shardproxy.sql import CopyFrom
from shardproxy.sql.parse import where_of, without_options
from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED

_NEW: Final = re.compile("on_error|log_verbosity", re.IGNORECASE)


def _named(load: Load) -> str:
    resumes = load.on_error == "resume_next"
    return "shardproxy.on_error = 'resume_next'" if resumes else "ON_ERROR ignore on servers of this version"


class Resuming:
    """The COPYs of one session that go on after bad rows."""

    def __init__(
        self,
        database: Database,
        shards: Shards,
        names: Resolver,
        executor: Executor,
        client: Client,
        startup: Mapping[str, str],
    ) -> None:
        """`startup` are the settings that the session has begun with."""
        self._database = database
        self._shards = shards
        self._names = names
        self._executor = executor
        self._client = client
        self._asked_for = any(map(is_setting, startup)) or "shardproxy." in startup.get("options", "")

    async def known(self, statement: CopyFrom) -> CopyFrom:
        """Return a COPY without options that its servers do not know, which matter with ON_ERROR ignore alone."""
        options = statement.options
        if options.on_error == "ignore" or not _NEW.search(statement.text):
            return statement
        await self._shards.open_home()
        version = self._version
        names = {"on_error"} if version < SKIPS else set()
        if version < (LAST_OPTIONS if options.log_verbosity == "silent" else SKIPS):
            names.add("log_verbosity")
        return replace(statement, text=without_options(statement.text, names)) if names else statement

    @property
    def _version(self) -> int:
        return int(self._shards.parameter("server_version", "0").split(".")[0])

    async def load(self, statement: CopyFrom) -> Load | None:
        """Return what a COPY is to do with bad rows; None if they end it, or the servers skip them."""
        load, transaction = self._database.config.load, self._shards.transaction
        named = any(entry.setting is not None and is_setting(entry.setting) for entry in transaction.settings)
        if self._asked_for or named or transaction.has_set:
            if transaction.has_set:
                [connection] = await self._shards.join([self._shards.home])
            else:
                connection = await self._shards.open_home()
            load = settled(load, await connection.fetch_row(ASKED, len(NAMES)))
        if load.on_error == "resume_next":
            return load
        if statement.options.on_error == "ignore":
            await self._shards.open_home()
            limited = statement.options.reject_limit is not None and len(self._shards.addresses) > 1
            if limited or not skips(statement.options, self._version):
                # REJECT_LIMIT is one for the rows of all shards, and ends the COPY at the row that is over it.
                return load
        return None

    async def start(self, load: Load, statement: CopyFrom, sql: bytes, own: Set[int]) -> Batches:
        """Start a COPY on its shards."""
        if statement.options.freeze:
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f"COPY FREEZE is not supported with {_named(load)}",
                hint="Its batches are under savepoints, where PostgreSQL does not freeze rows.",
            )
        database, shards = self._database, self._shards
        setup = await prepare_copy(database, shards, self._names, self._executor, statement, sql, guarded=False)
        if isinstance(setup.verify, WatchedCopy):
            setup.verify.check_setting_aside()
        await self._executor.joined(setup.plan)
        table = setup.table
        numbers = (FIRST,) if setup.everywhere else setup.shards
        asked = Asked(table.schema, table.name, setup.columns, where_of(statement.text) if statement.has_where else "")
        connections = dict(zip(numbers, await shards.join(numbers), strict=True))
        version = int(connections[numbers[0]].parameters["server_version"].split(".")[0])
        on_notice = self._client.notice
        place = Place(database.config.name, table.schema, table.name, new_load_id(), setup.options.format == "binary")
        sink: RejectSink = Ending(table.schema, table.name, setup.options, setup.columns)
        if load.on_error == "resume_next":
            made = database.make_sink
            sink = made(load, place, on_notice) if made else FileSink(load, place, on_notice, shards.transaction)
            await sink.begin(connections.values())
        if setup.options.on_error == "ignore":
            sink = Skipping(setup.options, table.name, setup.columns, on_notice, sink)
        policy = RejectPolicy(
            load.batch_rows,
            load.batch_size,
            load.max_row_bytes,
            None if load.reject_dir is None else Path(load.reject_dir),
            version,
            "shardproxy" if database.coordinator is not None else None,
            sink,
            await self._spread(statement, setup, connections, own) if table.kind == "reference" else None,
        )
        batches = Batches(setup, asked, connections, shards, NoticeMerger(on_notice), policy)
        self._client.on_notice = batches.notice
        await batches.start()
        return batches

    async def _spread(
        self, statement: CopyFrom, setup: CopySetup, connections: Mapping[int, Connection], own: Set[int]
    ) -> Spread | None:
        """Have the first shard's rows of a reference table stored by the others."""
        written = await self._names.written({statement.table: setup.table})
        if written is None:
            return None
        rows = copied_rows(setup.table, written)
        first = connections[FIRST]
        before = -1 if FIRST in own else await added_before(first, rows)
        return await Spread.of(self._shards, first, rows, after=before)

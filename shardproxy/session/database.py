"""What all sessions of one configured database share: the shards' addresses, the tables, and how it commits."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from shardproxy.config import Database as DatabaseConfig
from shardproxy.config import Table
from shardproxy.errors import PgError
from shardproxy.rejects.files import unusable
from shardproxy.routing.copies import FIRST
from shardproxy.session.copy_look import Looks
from shardproxy.session.copy_rejects import MakeSink
from shardproxy.session.deadlock import DeadlockWatch
from shardproxy.session.long_text import LongTexts
from shardproxy.session.name_cache import KEEP, NameCache
from shardproxy.shard.address import addresses_of
from shardproxy.shard.connection import Connection
from shardproxy.shard.types import Types
from shardproxy.sqlstate import IO_ERROR
from shardproxy.transaction import one_phase
from shardproxy.transaction.ahead import Ahead
from shardproxy.transaction.coordinator import Coordinator
from shardproxy.transaction.participant import Limits
from shardproxy.transaction.place import Places
from shardproxy.transaction.setup import READY, check_ready

PARAMETER_SETS = 100
"""Different sets of start-up parameters whose ParameterStatus are remembered; applications use a handful."""


SHARDED = frozenset({"hash", "list", "range"})
"""The placements that spread a table's rows."""

NAME_CACHES = 100
"""Different ways of seeing names (start-up parameters, search_path, settings) that are remembered."""


class Database:
    """One database of the configuration."""

    def __init__(self, config: DatabaseConfig) -> None:
        self.config = config
        self.addresses = addresses_of(config)
        self.users = frozenset(address.user for address in self.addresses)
        self.places = Places(config.name, self.addresses)
        limits = Limits.of(config)
        self.coordinator = Coordinator(config.name, self.addresses, limits) if config.commit == "two-phase" else None
        self.shard_numbers = {shard.name: number for number, shard in enumerate(config.shards)}
        self.unlisted_shard = self.shard_numbers.get(config.unlisted_tables)
        """The shard that has all tables that are not listed, None if none has."""
        self.steady = self.unlisted_shard or FIRST
        """The home of sessions while it can be reached: the one whose catalogs clients read, and what has one owner."""
        self._turn = self.steady
        self.types = Types(self.addresses, self.steady)
        self.keys_renamed: dict[tuple[int, int], dict[str, int]] = {}
        """By shard and OID the numbers (pg_attribute.attnum) of key columns that a statement has renamed."""
        self.generation = 0
        """How often definitions have changed."""
        self.tell_others: Callable[[str], None] | None = None
        """Tells the other workers that definitions of the database of this name have changed."""
        self.make_sink: MakeSink | None = None
        """Makes who keeps the rows that COPY sets aside; None for files under `reject_dir`."""
        self.defining = 0
        """Transactions with changes of definitions that are being committed."""
        self._builtin: tuple[frozenset[str], float] | None = None
        self._tables = {(table.schema, table.relation): table for table in config.tables}
        self._named: dict[str, list[Table]] = {}
        for table in config.tables:
            self._named.setdefault(table.relation, []).append(table)
        self._single_shards = tuple(sorted({self.shard_numbers[one.shard] for one in config.tables if one.shard}))
        self.looks = Looks()
        self._parameters: dict[frozenset[tuple[str, str]], dict[str, str]] = {}
        self._names: OrderedDict[Hashable, NameCache] = OrderedDict()
        self.speakers: dict[int, int] = {}
        """By the process IDs of backends where notifications pass, those that their sessions' clients know."""
        self.deadlocks = DeadlockWatch(self.addresses, config.deadlock_timeout)
        self.long_texts = LongTexts()

    def next_shard(self) -> int:
        """Return the shard that a new session asks what any one can answer: each has its turn."""
        self._turn, turn = (self._turn + 1) % len(self.addresses), self._turn
        return turn

    def table(self, schema: str, relation: str) -> Table | None:
        """Return a table's configuration, None if it is not listed."""
        return self._tables.get((schema, relation))

    def shard_of(self, table: Table) -> int | None:
        """Return the number of the one shard that a listed table is on, None for all of them."""
        return None if table.shard is None else self.shard_numbers[table.shard]

    def _listed(self, schema: str | None, relation: str) -> list[Table]:
        """Return the listed tables of this name; the schema None stands for any."""
        named = self._named.get(relation, [])
        return named if schema is None else [table for table in named if table.schema == schema]

    def listed_everywhere(self, schema: str | None, relation: str) -> bool:
        """Whether a table of this name is listed that is on all shards; the schema None stands for any."""
        return any(table.shard is None for table in self._listed(schema, relation))

    def listed_sharded(self, schema: str | None, relation: str) -> bool:
        """Whether a table of this name is listed whose rows are spread over the shards."""
        return any(table.placement in SHARDED for table in self._listed(schema, relation))

    def single_shards(self, schema: str | None, relation: str) -> list[int]:
        """Return the shards that alone may have a relation of this name; the schema None stands for any."""
        listed = self._listed(schema, relation)
        shards = [self.shard_of(table) for table in listed]
        others = () if listed else self._single_shards
        return [*dict.fromkeys(shard for shard in (*shards, self.unlisted_shard, *others) if shard is not None)]

    def is_sharded(self, schema: str, relation: str) -> bool:
        """Whether the configuration spreads this table's rows over the shards."""
        table = self.table(schema, relation)
        return table is not None and table.placement in SHARDED

    def is_copied(self, schema: str, relation: str) -> bool:
        """Whether all shards have the same rows of this table."""
        table = self.table(schema, relation)
        return (self.config.unlisted_tables if table is None else table.placement) == "reference"

    def single_shards_of(self, relations: Iterable[tuple[str, str]]) -> set[int]:
        """Return the shards of those of some relations that are listed and on one shard only."""
        tables = [table for one in relations if (table := self.table(*one)) is not None]
        return {shard for table in tables if (shard := self.shard_of(table)) is not None}

    @property
    def builtin_functions(self) -> frozenset[str] | None:
        """The names that PostgreSQL's own functions alone have, if a session has asked for them lately."""
        return self._builtin[0] if self._builtin is not None and time.monotonic() <= self._builtin[1] else None

    @builtin_functions.setter
    def builtin_functions(self, found: frozenset[str]) -> None:
        self._builtin = found, time.monotonic() + KEEP

    def forget_functions(self) -> None:
        """Ask for PostgreSQL's own functions again."""
        self._builtin = None

    @property
    def certain_generation(self) -> int:
        """The generation of what a session finds now; -1 while each shard may show the old or the new."""
        return -1 if self.defining else self.generation

    @contextmanager
    def definitions_commit(self) -> Iterator[None]:
        """A transaction that has changed definitions commits inside: its locks go before its answer comes.

        At its end they have changed again: who has asked since its statement has seen, and may have kept, the old ones.
        """
        self.definitions_changed()
        self.defining += 1
        try:
            yield
        finally:
            self.defining -= 1
            self.definitions_changed()

    def definitions_changed(self) -> None:
        """A statement has changed a definition: what sessions know of tables may be wrong."""
        self.forget_definitions()
        if self.tell_others is not None:
            self.tell_others(self.config.name)

    def forget_definitions(self) -> None:
        """Look definitions up again; another worker's session may have changed one."""
        self.generation += 1
        self._builtin = None
        self.looks.clear()
        self.types.forget()

    def names_alike(self, key: Hashable) -> NameCache:
        """Return what is known of names by the sessions of this key: what decides how they see names."""
        cache = self._names.get(key)
        if cache is None:
            cache = self._names[key] = NameCache(shared=True)
            if len(self._names) > NAME_CACHES:
                self._names.popitem(last=False)
        self._names.move_to_end(key)
        return cache

    def known_parameters(self, settings: Mapping[str, str]) -> dict[str, str] | None:
        """Return what a shard reported to an earlier session with these start-up parameters."""
        return self._parameters.get(parameters_key(settings))

    def remember_parameters(self, settings: Mapping[str, str], reported: dict[str, str]) -> None:
        """Keep what a shard reports to sessions with these start-up parameters."""
        key = parameters_key(settings)
        if key in self._parameters or len(self._parameters) < PARAMETER_SETS:
            self._parameters[key] = reported

    async def start(self) -> None:
        """Compare the shards' places, make ready what commits need, and recover what is in doubt; `close` ends it.

        Raises PgError.
        """
        directory = self.config.load.reject_dir
        if directory is not None and (reason := unusable(Path(directory))) is not None:
            raise PgError(IO_ERROR, f'reject_dir of database "{self.config.name}" cannot be used: {reason}')
        await self.places.settle()
        if self.coordinator is not None:
            await self.coordinator.start()

    async def close(self) -> None:
        """Let the commits under way end, and stop recovering."""
        await self.deadlocks.close()
        await self.long_texts.close()
        if self.coordinator is not None:
            await self.coordinator.close()

    @property
    def readiness_sql(self) -> str | None:
        """What a shard has to be asked before it can commit together with others, one row of three columns; or None."""
        return None if self.coordinator is None else READY

    def check_readiness(self, answers: Mapping[int, Sequence[bytes | None]]) -> None:
        """Raise if shards that have given these answers could not commit together; before data are asked for."""
        if self.coordinator is not None and len(answers) > 1:
            for shard, row in answers.items():
                check_ready(self.addresses[shard], row)

    def ahead(self) -> Ahead:
        """Return what participants can be asked with their last statements, for `commit`."""
        return Ahead(two_phase=self.coordinator is not None)

    async def commit(self, participants: Sequence[Connection], ahead: Ahead | None = None) -> list[PgError]:
        """Commit a transaction, on all its shards or on none; return warnings. `ahead`: what was asked already.

        Raises with nothing committed; 08007 if the outcome could not be found out, or for one-phase, if a shard
        failed after another's commit.
        """
        fresh = ahead is not None and ahead.fresh(participants)
        if self.coordinator is not None:
            if fresh and ahead is not None:
                return await self.coordinator.commit(participants, ahead.probe, ahead.answers)
            return await self.coordinator.commit(participants)
        await one_phase.commit(participants, checked=fresh)
        return []


def parameters_key(settings: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Return what two sessions' start-up parameters have in common if their servers report the same."""
    # Whether a client has named itself counts, how does not: who has not gets the name that the server has for it.
    return frozenset((name, "" if name == "application_name" else value) for name, value in settings.items())

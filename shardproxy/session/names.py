"""Who the relations and functions of a statement are, seen with the session's own eyes.

Names are looked up on one of the session's own connections, so that its search_path, its temporary tables and the
DDL of its open transaction count. What was found is kept for `KEEP` seconds in a `NameCache`, which sessions that see
names alike share, and dropped at every change of a definition that passes through the proxy. A session whose names
may be its own has a cache of its own: one with temporary relations, with settings or definitions in its open
transaction, or with a search_path that its server does not report.
"""

import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace

from shardproxy.copy.encoding import python_codec
from shardproxy.errors import PgError
from shardproxy.routing import HIDING, Context, ParamValue, Resolved, Written, functions_of
from shardproxy.routing.relation import Relation
from shardproxy.routing.resolved import TableKind
from shardproxy.routing.select import elsewhere
from shardproxy.routing.table import ShardedTable
from shardproxy.session.database import Database
from shardproxy.session.defaults import constant_defaults
from shardproxy.session.functions import Functions, is_hooked
from shardproxy.session.key_actions import key_actions
from shardproxy.session.locate import CATALOGS, TEMPORARY, Locator
from shardproxy.session.name_cache import NameCache, Names
from shardproxy.session.paths import in_front
from shardproxy.session.portals import READ_BY
from shardproxy.session.shards import Shards
from shardproxy.shard import catalog
from shardproxy.shard.connection import IDLE, Connection
from shardproxy.shard.written import parse_written, written_sql
from shardproxy.sql import SCHEMA, Code, CreateAs, Kind, Statement, TableRef, Utility

VIEW, SEQUENCE = "v", "S"  # pg_class.relkind; they cannot be listed
LOCKABLE = frozenset({"r", "p", VIEW})  # the relkinds that LOCK TABLE takes

DEFINITIONS = frozenset({Kind.UTILITY, Kind.CREATE_AS})

Name = tuple[str | None, str]
"""A schema, or None to search the path; and a relation."""

SEES_COMMITTED = frozenset({b"read committed", b"read uncommitted"})
"""The isolation levels in which each statement sees what others have committed before it."""

REPORTED = READ_BY
"""Settings on which the meaning of a statement or a key rests, as the server reports them."""


class Resolver:
    """One session's view of the relations and functions that its statements name."""

    def __init__(self, database: Database, shards: Shards, parameters: Hashable = None) -> None:
        """`parameters` stands for the start-up parameters: sessions that have the same may see names alike."""
        self._database = database
        self._shards = shards
        self._parameters = parameters
        self._cache: NameCache | None = None
        self._own = False
        self._tables: dict[Relation, ShardedTable] = {}
        self._functions = Functions(database, self._reader, self._at, lambda: self.cache)
        self._locator = Locator(database, shards, self._home_reader)

    # What is known.

    @property
    def cache(self) -> NameCache:
        """What is known of names now: another object after anything that may change what a name means."""
        cache = self._cache
        if cache is None:
            cache = self._cache = self._choose()
        began = self._shards.transaction.definitions
        if began is not None and began != self._database.generation and cache.shared:
            # What it asks for from now on may be of an older snapshot: that is for no other session.
            cache = self._cache = NameCache(transactional=True)
        if cache.generation != self._database.generation or time.monotonic() > cache.expires:
            cache.renew(self._database.generation)
        return cache

    def _choose(self) -> NameCache:
        shards, transaction = self._shards, self._shards.transaction
        transactional = transaction.open and (transaction.has_set or transaction.defined)
        search_path = shards.parameter("search_path", "")
        if transactional or self._own or not search_path:
            return NameCache(transactional=transactional or self._own)
        settings = tuple(one.sql for one in transaction.settings)
        reported = tuple(shards.parameter(name, "") for name in REPORTED)
        return self._database.names_alike((self._parameters, search_path, reported, settings))

    def forget(self) -> None:
        """Names may mean something else now: settings, definitions or the transaction have changed."""
        self._cache = None

    def has_own(self) -> None:
        """Names may mean to this session alone what they mean from now on: it has, or may have, temporary relations."""
        if not self._own:
            self._own = True
            self.forget()

    def discarded(self) -> None:
        """DISCARD ALL has run."""
        self._own = False
        self.forget()

    def transaction_ended(self) -> None:
        """What was the transaction's own view is over."""
        if self._cache is not None and self._cache.transactional:
            self.forget()

    async def heed(self, statement: Statement) -> None:
        """Have names of its own from now on, if a statement makes temporary relations or may do so unseen.

        That may be any function but PostgreSQL's and immutable ones, and the code of DO and CALL.
        """
        others = await self._functions.others(statement)
        if self._own:
            return
        makes = isinstance(statement, Code) or (isinstance(statement, CreateAs | Utility) and statement.temporary)
        if makes or others - await self._functions.immutable(others):
            self.has_own()

    def connected(self) -> None:
        """A connection was opened: its server may report other settings than were assumed before."""
        cache = self._cache
        if cache is not None and cache.shared:
            self._cache = self._choose()

    def look_anew(self) -> None:
        """Look everything up again."""
        self.cache.clear()
        self._database.forget_functions()

    async def resolve(self, statement: Statement) -> dict[TableRef, Resolved]:
        """Return who each of the statement's relations is."""
        if not statement.tables:
            return {}
        names = {(ref.schema, ref.name) for ref in statement.tables}
        while True:
            generation = self._database.generation
            # Read once: it may be another after any wait.
            known = self.cache.relations
            found: dict[Name, Resolved | None] = {name: known[name] for name in names if name in known}
            if missing := names - found.keys():
                found |= await self._look(sorted(missing, key=str), statement)
            # Or else what was found may be from before a change of definitions.
            if generation == self._database.generation:
                break
        relations = {ref: found[ref.schema, ref.name] for ref in statement.tables}
        return {ref: one or Resolved("missing", ref.schema or "", ref.name) for ref, one in relations.items()}

    async def _look(self, names: Sequence[Name], statement: Statement) -> dict[Name, Resolved | None]:
        """Look relations up, and keep what is found as long as definitions stay."""
        transaction = self._shards.transaction
        connection = await self._reader()
        generation = self._database.generation
        answer, isolation, searched = await connection.fetch_row(catalog.relations_and_isolation_sql(names), 3)
        cache = self.cache
        if cache.shared and transaction.open and connection.status != IDLE and isolation not in SEES_COMMITTED:
            # What it sees may be old.
            known = dict(cache.relations), dict(cache.aggregates)
            self._cache = NameCache(*known, transactional=True, expires=cache.expires, generation=cache.generation)
        found: dict[Name, Resolved | None] = {}
        misfits: dict[Name, Resolved | None] = {}
        for name, relation in zip(names, catalog.parse_relations(catalog.text(answer)), strict=True):
            unfit = None if relation is None else self._unfit(relation)
            if unfit is not None and statement.kind in DEFINITIONS:
                misfits[name] = unfit
            elif relation is None:
                found[name] = await self._elsewhere(name, self._shards.number_of(connection))
            else:
                before = await self._in_front(name, relation.schema, connection, searched)
                found[name] = before or await self.resolved(connection, relation)
        if any(one is not None and one.schema.startswith(TEMPORARY) for one in found.values()):
            self.has_own()
            self._shards.holds([self._shards.number_of(connection)], HIDING)
        if generation == self._database.generation:
            # What does not exist yet may be made at any moment, also elsewhere, and would then be written here alone.
            self.cache.relations.update({name: one for name, one in found.items() if one is not None})
        return found | misfits

    async def _in_front(self, name: Name, found: str, asked: Connection, searched: bytes | None) -> Resolved | None:
        """Return what hides a relation that was found in a schema, and is on another shard than was `asked`."""
        shards = [] if name[0] is not None else self._database.single_shards(*name)

        async def look(shard: int) -> Resolved | None:
            [connection] = await self._shards.join([shard])
            [relation] = await self.relations(connection, [name])
            return None if relation is None else await self.resolved(connection, relation)

        others = [shard for shard in shards if self._shards.standing(shard) is not asked]
        hiding = await in_front(catalog.parse_searched(catalog.text(searched)), found, others, look)
        return None if hiding is None else hiding[0]

    async def _elsewhere(self, name: tuple[str | None, str], asked: int) -> Resolved | None:
        """Look for what another shard than the one that was asked may have.

        That is a `single` table, or what belongs to one; and home has what is temporary, or not listed.
        """
        for shard in dict.fromkeys((*self._database.single_shards(*name), self._shards.home)):
            if shard != asked:
                [connection] = await self._shards.join([shard])
                [relation] = await self.relations(connection, [name])
                if relation is not None:
                    return await self.resolved(connection, relation)
        return None

    async def knowing(self, statement: Statement) -> int:
        """Return a shard that has all relations of a statement, or tells which is missing; PgError where none has."""
        tables = await self.resolve(statement)
        shard = elsewhere(tables)
        if shard is None and all(table.sharded for table in tables.values()):
            await self._shards.open_some()
            return self._shards.some
        if shard is None:
            await self._shards.open_home()
        return self._shards.home if shard is None else shard

    async def context(
        self, statement: Statement, tables: Mapping[TableRef, Resolved], params: Sequence[ParamValue]
    ) -> Context:
        """Return what routing has to know besides; functions are looked up only where it matters."""
        functions: Names = functions_of(statement, tables)
        aggregate = bool(functions) and any(table.sharded for table in tables.values())
        aggregate = aggregate and await self._functions.has_aggregate(functions)
        written = await self.written(tables, making=isinstance(statement, CreateAs))
        calls = statement.functions or (written is not None and written.computes)
        context = Context(
            nshards=len(self._shards.addresses),
            home=self._shards.home,
            is_aggregate=lambda _: aggregate,
            params=params,
            client_codec=python_codec(self._shards.client_encoding, self._shards.server_encoding),
            server_codec=python_codec(self._shards.server_encoding),
            steady=self._database.steady,
            users=self._database.users,
            places=await self._locator.places(statement),
            written=written,
            builtin=await self._functions.builtin() if calls else self._database.builtin_functions or frozenset(),
            immutable=await self._functions.immutable(await self._functions.others(statement)),
            unseen=None
            if len(self._shards.addresses) == 1
            else await self._functions.unseen(statement, tables, deferring=self._shards.transaction.deferring),
            actions=await key_actions(statement, tables, self._database, self.cache, self._reader),
        )
        if context.makes_temporary:
            self.has_own()
        return context

    async def written(self, tables: Mapping[TableRef, Resolved], *, making: bool = False) -> Written | None:
        """Return what has to be known of the reference table that a statement writes, or may be `making`."""
        kinds = {"reference", "missing"} if making else {"reference"}
        table = next((one for ref, one in tables.items() if ref.role == "write" and one.kind in kinds), None)
        if table is None or len(self._shards.addresses) == 1:
            return None
        known, name = self.cache.written, (table.schema, table.name)
        if name not in known:
            connection = await self._home_reader()
            version = int(connection.parameters.get("server_version", "0").partition(".")[0])
            answers = await connection.fetch(written_sql(table.schema, table.name, version))
            known[name] = parse_written(catalog.text(answers[0][0]), self._database.is_sharded)
        return known[name].deferring() if self._shards.transaction.deferring else known[name]

    async def _reader(self) -> Connection:
        """Return the connection to read the catalog with: inside the transaction, once that has done anything.

        What its shard has not is looked for on the others; but a temporary relation hides others of its name.
        """
        if (shard := self._shards.holding(HIDING)) is not None:
            return await self._at(shard)
        return await self._inside(await self._shards.open_some(), self._shards.some)

    async def _at(self, shard: int | None) -> Connection:
        """Return the connection to read the catalog of this shard with; None: of any."""
        if shard is None:
            return await self._reader()
        [connection] = await self._shards.open([shard])
        return await self._inside(connection, shard)

    async def _home_reader(self) -> Connection:
        """Return the connection to home: for what has to be that shard's, and for temporary relations."""
        return await self._inside(await self._shards.open_home(), self._shards.home)

    async def _inside(self, connection: Connection, shard: int) -> Connection:
        transaction = self._shards.transaction
        if transaction.open and (transaction.joined or len(transaction.log) > 1):
            [connection] = await self._shards.join([shard])
        return connection

    @staticmethod
    async def relations(connection: Connection, names: Sequence[tuple[str | None, str]]) -> list[Relation | None]:
        """Look relations up on one connection; None for each that does not exist there."""
        answer = await catalog.ask(connection, catalog.relations_sql(names))
        return catalog.parse_relations(answer)

    async def resolved(self, connection: Connection, relation: Relation) -> Resolved:
        """Return who a relation is that has been looked up on this connection."""
        types = {column.name: column.type_oid for column in relation.columns}
        return replace(await self._placed(connection, relation), types=types)

    async def _placed(self, connection: Connection, relation: Relation) -> Resolved:
        home = self._shards.number_of(connection)
        schema = relation.schema
        columns = tuple(column.name for column in relation.columns)
        if schema in CATALOGS:
            return Resolved("catalog", schema, relation.name, columns=columns)
        if schema.startswith(TEMPORARY):
            kind: TableKind = "derived" if await self._shows_others(connection, relation, home) else "single"
            return Resolved(kind, schema, relation.name, shard=home, columns=columns, hooked=is_hooked(relation))
        table = self.sharded_table(relation)
        if table is None:
            return await self._unlisted(connection, relation, columns)
        defaults = await constant_defaults(connection, relation, [column.name for column in table.key])
        return Resolved(
            table.kind,
            schema,
            relation.name,
            shard=table.shard,
            placement=table.placement_in(self._shards.timezone),
            key=table.key,
            columns=columns,
            defaults=defaults,
            lockable=relation.kind in LOCKABLE,
            hooked=is_hooked(relation),
        )

    async def _unlisted(self, connection: Connection, relation: Relation, columns: tuple[str, ...]) -> Resolved:
        setting = self._database.config.unlisted_tables
        shard = self._database.unlisted_shard
        if setting == "error" and relation.kind == SEQUENCE:
            # As nextval() and the like: each shard has its own, and home's is the session's.
            return Resolved("catalog", relation.schema, relation.name, columns=columns)
        relatives = await self._relatives(connection, relation)
        whole = all(self._is_whole_on(shard, *relative) for relative in relatives)
        if setting != "error" and not whole:
            # It is where all is that it belongs to, if that is one shard.
            singles = self._database.single_shards_of(relatives)
            [alone] = singles if len(singles) == 1 else [None]
            if alone is not None and all(self._is_whole_on(alone, *relative) for relative in relatives):
                return Resolved(
                    "single", relation.schema, relation.name, shard=alone, columns=columns, hooked=is_hooked(relation)
                )
        if (setting == "error" and relation.kind == VIEW) or not whole:
            return Resolved("derived", relation.schema, relation.name, columns=columns)
        if setting == "error":
            return Resolved("unlisted", relation.schema, relation.name, columns=columns)
        if setting == "reference":
            defaults = await constant_defaults(connection, relation)
            lockable = relation.kind in LOCKABLE
            return Resolved(
                "reference", relation.schema, relation.name, columns=columns, defaults=defaults, lockable=lockable
            )
        return Resolved(
            "single", relation.schema, relation.name, shard=shard, columns=columns, hooked=is_hooked(relation)
        )

    async def _shows_others(self, connection: Connection, relation: Relation, shard: int | None) -> bool:
        """Tell of a view, partition or child whether it shows rows that `shard` (None: any one) has not all of.

        They are those of the tables that it shows, and the placement of these is the only one that counts.
        """
        relatives = await self._relatives(connection, relation)
        return not all(self._is_whole_on(shard, *relative) for relative in relatives)

    @staticmethod
    async def _relatives(connection: Connection, relation: Relation) -> list[tuple[str, str]]:
        answer = await catalog.ask(connection, catalog.relatives_sql(relation.oid))
        return catalog.parse_relatives(answer)

    def _is_whole_on(self, shard: int | None, schema: str, name: str) -> bool:
        if schema in CATALOGS or schema.startswith(TEMPORARY):
            return True
        if schema == SCHEMA:
            return False  # a view over the proxy's own tables is one of other tables, whatever is not listed
        table = self._database.table(schema, name)
        if table is None:
            setting = self._database.config.unlisted_tables
            return setting == "reference" or self._database.shard_numbers.get(setting, -1) == shard
        alone = self._database.shard_of(table)
        return table.placement == "reference" or (table.placement == "single" and alone == shard)

    def _unfit(self, relation: Relation) -> Resolved | None:
        """Return a listed table that cannot be placed: it has no rows to find, but can be altered and dropped."""
        try:
            self.sharded_table(relation)
        except PgError:
            config = self._database.table(relation.schema, relation.name)
            assert config is not None
            shard = self._database.shard_of(config)
            return Resolved(config.placement, relation.schema, relation.name, shard=shard)
        return None

    def sharded_table(self, relation: Relation) -> ShardedTable | None:
        """Return a listed table with its placement; None if it is not listed."""
        config = self._database.table(relation.schema, relation.name)
        if config is None:
            return None
        table = self._tables.get(relation)
        if table is None:
            table = self._tables[relation] = ShardedTable.build(config, relation, self._database.shard_numbers)
        return table

"""What the catalogs tell of the functions that a statement calls, or that run when its tables are written."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from shardproxy.routing import Resolved
from shardproxy.routing.relation import Relation
from shardproxy.routing.resolved import TableName, Tables, Unseen
from shardproxy.routing.unseen import WATCHED, Body, Hooks, truncate_writer, unseen_writer, written_by
from shardproxy.session.database import Database
from shardproxy.session.name_cache import NameCache, Names
from shardproxy.shard import catalog, unseen
from shardproxy.shard.connection import Connection
from shardproxy.sql import Statement, Utility
from shardproxy.sql.kinds import TRUNCATE

_CALLED: Final = re.compile(r'([\w$".]+)\(')

_USUAL: Final = frozenset({
    "clock_timestamp", "gen_random_uuid", "nextval", "now", "random", "statement_timestamp", "timezone", "uuidv4",
    "uuidv7",
})  # fmt: skip
"""Functions of PostgreSQL's in the commonest defaults."""


def is_hooked(relation: Relation) -> bool:
    """Whether triggers, rules or functions of the user's may run when it is written."""
    defaults = [column.default for column in relation.columns if column.default is not None]
    return relation.hooked or any(not _USUAL.issuperset(_CALLED.findall(default)) for default in defaults)


class Functions:
    """One session's view of them."""

    def __init__(
        self,
        database: Database,
        reader: Callable[[], Awaitable[Connection]],
        at: Callable[[int | None], Awaitable[Connection]],
        cache: Callable[[], NameCache],
    ) -> None:
        """`reader` gives the connection to read the catalog with, `at` the one to a certain shard."""
        self._database = database
        self._reader = reader
        self._at = at
        self._cache = cache

    async def others(self, statement: Statement) -> Names:
        """Return the functions of a statement that are not PostgreSQL's own."""
        if not statement.functions:
            return frozenset()
        known = await self.builtin()
        return frozenset(
            one for one in statement.functions if one[0] not in {None, "pg_catalog"} or one[1] not in known
        )

    async def immutable(self, functions: Names) -> Names:
        """Return which of some functions that are not PostgreSQL's own are immutable: they leave and write nothing."""
        if not functions:
            return functions
        known = self._cache().immutable
        if functions not in known:
            connection = await self._reader()
            answer = await catalog.ask(connection, catalog.immutable_sql(sorted(functions, key=str)))
            known[functions] = catalog.parse_functions(answer)
        return known[functions]

    async def has_aggregate(self, functions: Names) -> bool:
        """Whether an aggregate or a window function is among them."""
        known = self._cache().aggregates
        if functions not in known:
            connection = await self._reader()
            answer = await catalog.ask(connection, catalog.function_kinds_sql(sorted(functions, key=str)))
            known[functions] = bool(catalog.parse_functions(answer))
        return known[functions]

    async def builtin(self) -> frozenset[str]:
        """Return the names of PostgreSQL's own functions."""
        known = self._database.builtin_functions
        if known is None:
            connection, generation = await self._reader(), self._database.generation
            answer = await catalog.ask(connection, catalog.BUILTIN_FUNCTIONS)
            known = catalog.parse_builtin_functions(answer)
            if generation == self._database.generation:
                self._database.builtin_functions = known
        return known

    async def unseen(self, statement: Statement, tables: Tables, *, deferring: bool) -> Unseen | None:
        """Return what may write tables that the statement does not name as written; see `unseen_writer`."""
        if isinstance(statement, Utility) and statement.tag == TRUNCATE:
            return await self._truncating(tables)
        if not isinstance(statement, WATCHED):
            return None
        written = written_by(statement, tables)
        copied = [one for ref, one in tables.items() if ref.role == "write" and one.kind == "reference"]
        if copied and not written:
            return await self._copying(copied[0])
        hooks: dict[TableName, tuple[Resolved, Hooks]] = {}
        for table in written:
            hooks[table.schema, table.name] = table, await self._hooks(table) if table.hooked else Hooks()
        others = await self.others(statement)
        called = await self._bodies(others - await self.immutable(others))
        if not called and not any(table.hooked for table in written):
            return None
        return unseen_writer(statement, hooks, called, await self.builtin(), deferring=deferring)

    async def _copying(self, table: Resolved) -> Unseen | None:
        """Do the same for a write of a reference table: of functions that each shard calls, those of CHECK."""
        if not table.hooked:
            return None
        builtin = await self.builtin()
        others = (await self._hooks(table)).others
        what = next((f"function {one.name}()" for one in others if one.may_write(builtin)), None)
        return None if what is None else Unseen(what, frozenset({(table.schema, table.name)}))

    async def _truncating(self, tables: Tables) -> Unseen | None:
        """Do the same for TRUNCATE. It is rare, and what it reaches through foreign keys is not kept."""
        hooked = [table for table in tables.values() if table.hooked]
        if not hooked:
            return None
        connection = await self._at(hooked[0].shard)
        names = [(table.schema, table.name) for table in hooked]
        answer = await catalog.ask(connection, unseen.truncated_sql(names))
        return truncate_writer(*unseen.parse_truncated(answer), await self.builtin())

    async def _bodies(self, functions: Names) -> tuple[Body, ...]:
        if not functions:
            return ()
        known = self._cache().bodies
        if functions not in known:
            connection = await self._reader()
            answer = await catalog.ask(connection, unseen.bodies_sql(sorted(functions, key=str)))
            known[functions] = unseen.parse_bodies(answer)
        return known[functions]

    async def _hooks(self, table: Resolved) -> Hooks:
        known, name = self._cache().hooks, (table.schema, table.name)
        if name not in known:
            connection = await self._at(table.shard)
            answer = await catalog.ask(connection, unseen.hooks_sql(*name))
            known[name] = unseen.parse_hooks(answer)
        return known[name]

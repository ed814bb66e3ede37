"""The names that the extended protocol has given: a session's prepared statements and portals."""

import re

from shardproxy.errors import PgError
from shardproxy.session.copy_out import is_copy_out
from shardproxy.session.copy_setup import is_copy_in
from shardproxy.session.execute import Executor
from shardproxy.session.portals import Portal, Prepared
from shardproxy.session.shards import Shards
from shardproxy.shard.connection import Connection
from shardproxy.sql import (
    Deallocate,
    DeclareCursor,
    Discard,
    Execute,
    Explain,
    Fetch,
    Kind,
    Modify,
    PrepareTransaction,
    Select,
    Show,
    Statement,
    Utility,
)
from shardproxy.sqlstate import INVALID_CURSOR_NAME, INVALID_SQL_STATEMENT_NAME, PROTOCOL_VIOLATION
from shardproxy.wire import decode

ABORTED = ord("E")
"""The status of a failed transaction in ReadyForQuery."""

TEXT_AND_BINARY = (0, 1)
"""The format codes of the protocol."""

ALLOWED_IN_FAILED = frozenset({Kind.COMMIT, Kind.ROLLBACK, Kind.ROLLBACK_TO, Kind.PREPARE_TRANSACTION, Kind.EMPTY})
"""Kinds that are no error in a failed transaction."""

UNANALYZED = frozenset({Kind.PREPARE, Kind.COPY_TO, Kind.COPY_FROM, Kind.UTILITY})
"""Kinds in which a `$1` is no parameter of the protocol's: transformStmt() in src/backend/parser/analyze.c."""

BEFORE_PORTALS = frozenset({"25", "26", "34", "42"})
"""Classes of errors that PostgreSQL mostly finds before a statement of a Query has its portal."""

_SHARD_NAME = re.compile(r'(portal )?"(shardproxy_[0-9]+)"')


def shown(name: bytes) -> str:
    """Return a name as characters."""
    return name.decode(errors="surrogateescape")


LOCAL = frozenset({
    Kind.EMPTY, Kind.BEGIN, Kind.COMMIT, Kind.ROLLBACK, Kind.SAVEPOINT, Kind.RELEASE, Kind.ROLLBACK_TO,
    Kind.PREPARE_TRANSACTION,
})  # fmt: skip
"""Kinds that are carried out without preparing them on a shard."""


def unprepared(statement: Statement) -> bool:
    """Whether a statement is never prepared on a shard.

    COPY goes to the shards as a simple query; PostgreSQL, too, looks at nothing but its grammar before Execute.
    """
    return statement.kind in LOCAL or is_copy_in(statement) or is_copy_out(statement)


def by_itself(statement: Statement) -> bool:
    """Whether a statement that comes first after Sync is a transaction of its own, whatever follows.

    PostgreSQL refuses it inside of a transaction block, or outside, and commits it at once.
    """
    match statement:
        case Utility(block="refused" | "required") | Discard(tag="DISCARD ALL") | DeclareCursor(hold=False):
            return True
        case PrepareTransaction():
            return True
    return False


def returns_rows(statement: Statement) -> bool:
    """Whether a statement's portal has a description of rows."""
    match statement:
        case Modify(returning=returning):
            return returning
        case Fetch(tag=tag):
            return tag == "FETCH"
    return isinstance(statement, Select | Show | Explain)


def check_parameters(prepared: Prepared, bind: decode.Bind) -> None:
    """Refuse a wrong number of parameters, as PostgreSQL before it looks at anything else."""
    analyzed = prepared.statement.kind not in UNANALYZED
    used = [number for number, _ in prepared.statement.params] if analyzed else []
    required = max([len(prepared.oids), *used])
    if len(bind.params) != required:
        raise PgError(
            PROTOCOL_VIOLATION,
            f"bind message supplies {len(bind.params)} parameters, but prepared statement "
            f'"{shown(bind.statement)}" requires {required}',
        )


class Namespace:
    """One session's statements and portals by name."""

    def __init__(self, executor: Executor, shards: Shards) -> None:
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.failed: dict[bytes, bool | None] = {}
        """The portals that a failed transaction still has, by name: whether they return rows; None: the empty query."""
        self.running: Portal | None = None
        """The portal that is being executed."""
        self._ran: tuple[Prepared, bytes, int] | None = None
        """What the lane has run last by the unnamed portal, its Bind, and how many savepoints stood."""
        self.lists = executor.lists
        self._executor = executor
        self._shards = shards
        executor.named = lambda name: self.statements.get(self.key(name))

    def key(self, name: str) -> bytes:
        """Return a name of SQL's as the protocol has it."""
        return self._executor.client.text(b"").encode(name)

    def forget_unaccepted(self) -> None:
        """Forget what no shard has accepted, after an error."""
        for name, prepared in list(self.statements.items()):
            if not self._is_accepted(prepared):
                del self.statements[name]

    def _is_accepted(self, prepared: Prepared) -> bool:
        """Whether a statement's Parse was accepted, maybe before a later message failed."""
        if any(prepared.is_on(one.statements) for one in self._shards.connections):
            prepared.accepted = True  # also when another has its place on the shard
        return prepared.accepted

    def is_ambiguous(self, prepared: Prepared) -> bool:
        """Whether a key may be a parameter whose type only a shard can tell, as it stands at several places."""
        listed, tables = self._executor.database.listed_sharded, prepared.statement.tables
        return prepared.has_several_places and any(listed(one.schema, one.name) for one in tables)

    def bind(self, portal: Portal) -> None:
        """Give a portal its name."""
        name = portal.bind.portal
        before = self.portals.get(name)
        if before is not None and not self._is_accepted(before.prepared):
            portal.displaced = before.displaced
        elif before is not None:
            portal.displaced = {name: self._returns_rows(before.prepared.statement)}
        elif not name and self._ran is not None:
            portal.displaced = {name: self._returns_rows(self._ran[0].statement)}
        self.drop_portal(name)
        self.portals[name] = portal

    def fail_portals(self) -> None:
        """An error ends the portals of its subtransaction: AtSubAbort_Portals() in PostgreSQL's portalmem.c.

        Their names are gone when that is rolled back. Those bound before its savepoint stand; until then they are
        described as all others in a failed transaction.
        """
        running, self.running = self.running, None
        depth = self._shards.transaction.log.depth
        failed = dict(self.failed)
        if self._ran is not None:
            failed[b""] = self._returns_rows(self._ran[0].statement)
            self._ran = self._ran if self._ran[2] < depth else None
        for name, portal in list(self.portals.items()):
            stands = portal.depth < depth
            portal.broken = portal.broken or (stands and portal is running)
            if not self._is_accepted(portal.prepared):
                failed |= portal.displaced
            elif not stands or portal.prepared.statement.kind not in ALLOWED_IN_FAILED:
                failed[name] = self._returns_rows(portal.prepared.statement)
            if not stands:
                self.drop_portal(name)
        self.failed = failed

    def subtransactions_ended(self, kept: bool) -> None:
        """What was bound since the savepoint is the outer subtransaction's, or gone."""
        depth = self._shards.transaction.log.depth
        for name, portal in list(self.portals.items()):
            if kept:
                portal.depth = min(portal.depth, depth)
            elif portal.depth >= depth:
                self.drop_portal(name)
        if self._ran is not None:
            prepared, bind, before = self._ran
            self._ran = (prepared, bind, min(before, depth)) if kept or before < depth else None
        self.failed = {}

    def _returns_rows(self, statement: Statement) -> bool | None:
        """Whether a portal of this statement has a description, as UtilityReturnsTuples() tells."""
        if statement.kind is Kind.EMPTY:
            return None
        if isinstance(statement, Execute):
            named = self.statements.get(self.key(statement.name))
            return named is None or self._returns_rows(named.statement)
        return returns_rows(statement)

    def forget_portals(self) -> None:
        """The transaction is over."""
        self._ran = None
        self.failed = {}
        for name in list(self.portals):
            self.drop_portal(name)

    def drop_portal(self, name: bytes) -> None:
        """Close a portal, here and on its shards."""
        if not name:
            self._ran = None
        self.failed.pop(name, None)
        portal = self.portals.pop(name, None)
        if portal is not None and portal.prepared.closed:
            self._close(portal.prepared)
        if portal is not None and portal.reading is not None:
            # They refer to each other: freed at once only if one lets go.
            reading, portal.reading = portal.reading, None
            reading.close()
            if reading.cursor:
                self._executor.cursor_closed(reading.cursor)

    def cursor(self, name: bytes) -> Connection | None:
        """Return where SQL has opened a cursor of this name, if it is that and no portal of ours."""
        return None if name in self.portals else self._executor.cursor_at(shown(name))

    def query_failed(self, statement: Statement, error: PgError) -> None:
        """A statement of a Query has failed: the unnamed portal is its own, unless it was refused before it had one."""
        # Constants are computed when it is planned: such an error comes before the rows' description.
        planned = error.described or error.sqlstate[:2] != "22" or not isinstance(statement, Select)
        if planned and error.sqlstate[:2] not in BEFORE_PORTALS and self._shards.transaction.open:
            self.drop_portal(b"")
            self.failed[b""] = self._returns_rows(statement)

    def drop_statement(self, name: bytes) -> None:
        """Close a statement, here and on the shards that have it."""
        prepared = self.statements.pop(name, None)
        if prepared is not None:
            self._close(prepared)
            prepared.close()

    def _close(self, prepared: Prepared) -> None:
        for connection in self._shards.connections:
            if prepared.is_on(connection.statements):
                connection.statements.close(prepared.shard_name)

    def deallocate(self, statement: Deallocate) -> bool:
        """DEALLOCATE by SQL what was prepared by protocol: one name space in PostgreSQL. Whether that was all."""
        name = self.key(statement.name or "")
        if not name or name not in self.statements:
            return False
        self.drop_statement(name)
        return True

    def forget_statements(self) -> None:
        """DISCARD ALL or DEALLOCATE ALL has run on the shards."""
        self.statements.clear()
        for connection in self._shards.connections:
            connection.statements.forget()

    def statement(self, name: bytes) -> Prepared:
        """Return a prepared statement; 26000 if there is none."""
        prepared = self.statements.get(name)
        if prepared is None:
            if not name:
                raise PgError(INVALID_SQL_STATEMENT_NAME, "unnamed prepared statement does not exist")
            raise PgError(INVALID_SQL_STATEMENT_NAME, f'prepared statement "{shown(name)}" does not exist')
        return prepared

    def portal(self, name: bytes) -> Portal:
        """Return a portal; 34000 if there is none, 25P02 if it has failed with its transaction."""
        if name in self.failed:
            self._shards.transaction.check()
        portal = self.portals.get(name)
        if portal is None and not name and self._ran is not None:
            prepared, bind, depth = self._ran
            self._ran = None
            portal = self.portals[b""] = Portal(prepared, decode.bind(bind), done=True, depth=depth)
        if portal is None:
            raise PgError(INVALID_CURSOR_NAME, f'portal "{shown(name)}" does not exist')
        return portal

    def own_names(self, error: PgError) -> None:
        """Name statements and portals in a shard's error as the client does."""
        names = {prepared.shard_name: name for name, prepared in self.statements.items() if name}
        names |= {portal.reading.name: name for name, portal in self.portals.items() if portal.reading is not None}

        def own(match: re.Match[str]) -> str:
            name = names.get(match[2].encode())
            if name is None:
                return match[0]
            what = match[1] or ""
            return f'{what}"{name.decode("utf-8", "surrogateescape")}"' if name else f"unnamed {what.rstrip()}"

        for field in "MDW":
            if field in error.fields:
                error.fields[field] = _SHARD_NAME.sub(own, error.fields[field])

    # What the lane does.

    def ran_unnamed(self, prepared: Prepared, bind: bytes | None) -> None:
        """The lane has run a statement by the unnamed portal; `bind` is the Bind if that may be named again."""
        if self.portals:
            self.drop_portal(b"")
        self._ran = None if bind is None else (prepared, bind, self._shards.transaction.log.depth)

    def forget_unnamed(self) -> None:
        """The lane has sent a Query, which ends the unnamed statement and portal."""
        self.statements.pop(b"", None)
        self._ran = None
        if self.portals:
            self.drop_portal(b"")

    def parse_failed(self, prepared: Prepared) -> None:
        """The Parse of a unit of the lane has failed: there is no unnamed statement, unless one came after it."""
        if self.statements.get(b"") is prepared:
            del self.statements[b""]

    def unnamed_is(self, prepared: Prepared | None) -> None:
        """What the lane has parsed since was not parsed, as an error came before it."""
        self.statements.pop(b"", None)
        if prepared is not None:
            self.statements[b""] = prepared

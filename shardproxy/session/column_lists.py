"""The column list of the INSERT that a session runs, and of those that its shards have prepared."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shardproxy.errors import PgError
from shardproxy.routing import Resolved
from shardproxy.routing.column_list import column_list
from shardproxy.session.names import Resolver
from shardproxy.session.portals import Prepared, next_number
from shardproxy.session.shards import Shards
from shardproxy.sql import ColumnList, Select, Statement, TableRef
from shardproxy.sqlstate import SERIALIZATION_FAILURE, UNDEFINED_COLUMN

_DETAIL = "A column was renamed or dropped while an INSERT without a column list was to be run."


class ColumnLists:
    """Those of one session."""

    def __init__(self, shards: Shards, names: Resolver) -> None:
        self.now: ColumnList | None = None
        """What is to be written into the statement that runs."""
        self._executes = False
        self._shards = shards
        self._names = names

    def clear(self) -> None:
        """A statement is going to be run, whose relations are not known yet."""
        self.now, self._executes = None, False

    def found(self, statement: Statement, tables: Mapping[TableRef, Resolved]) -> None:
        """A statement is going to be run, whose relations are these."""
        self.clear()
        if len(self._shards.addresses) > 1:
            self.now = column_list(statement, tables, characters=self._shards.server_encoding != "SQL_ASCII")

    def renew(self, prepared: Prepared) -> None:
        """Have the shards prepare the statement anew if they have it with another list."""
        if prepared.listed != self.now:
            for connection in self._shards.connections:
                if prepared.is_on(connection.statements):
                    connection.statements.close(prepared.shard_name)
            prepared.listed, prepared.number = self.now, next_number()

    def executes(self) -> None:
        """The statement is an EXECUTE: it is what it executes that lacks the list."""
        self.now, self._executes = None, self.now is not None

    async def shard_for(self, prepared: Prepared) -> int:
        """Return a shard that knows a statement's relations; it may be prepared there."""
        shard = await self._names.knowing(prepared.statement)
        self.found(prepared.statement, await self._names.resolve(prepared.statement))
        self.renew(prepared)
        return shard

    # Errors.

    @contextmanager
    def placing(self, prepared: Prepared) -> Iterator[None]:
        """Have shards' errors in a prepared statement tell positions in the client's text."""
        try:
            yield
        except PgError as error:
            self.place(prepared.statement, prepared.listed, error, prepared.statement.location)
            raise

    def place(self, statement: Statement | None, listed: ColumnList | None, error: PgError, before: int = 0) -> None:
        """Give a shard's error its position in the client's text, which may not be the one that was run.

        `before` are the characters in front of the statement's text.
        """
        if (listed is not None or self._executes) and _is_about_list(error):
            error.fields = overtaken(_DETAIL).fields
            self._names.look_anew()
            return
        position = int(error.fields.get("P", 0)) - before
        if "P" not in error.fields or position <= 0:
            return
        if isinstance(statement, Select) and statement.visible is not None:
            error.fields["P"] = str(statement.visible.original(position) + before)
        elif listed is not None:
            error.fields["P"] = str(listed.original(position) + before)


def _is_about_list(error: PgError) -> bool:
    """Whether a column in an INSERT's list does not exist: src/backend/parser/parse_target.c."""
    return error.sqlstate == UNDEFINED_COLUMN and error.fields.get("R") == "checkInsertTargets"


def overtaken(detail: str) -> PgError:
    """The error of a statement by a plan that a change of a definition has overtaken."""
    return PgError(
        SERIALIZATION_FAILURE,
        "could not serialize access due to concurrent change of a definition",
        detail=detail,
        hint="Run the transaction again.",
    )

"""A session of the SQL storm: one driver's connection, behind the few words that the storm needs.

Statements are in the protocol's own spelling, with `$1`. Without parameters they go as a Query, with some as Parse,
Bind and Execute: psycopg prepares those that come often, asyncpg all.
"""

import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import asyncpg
import psycopg

from tests.support.proxy import Proxy

LOST = "lost"
"""In place of a SQLSTATE: the connection broke without a word."""

CONNECT_PATIENCE = 10  # seconds


_BROKEN = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""How asyncpg tells that a statement has failed, or its connection."""


class FailedError(Exception):
    """A statement has failed; `sqlstate` is the server's, or `LOST`."""

    def __init__(self, sqlstate: str, said: str) -> None:
        super().__init__(f"{sqlstate} {said}")
        self.sqlstate = sqlstate
        self.said = said


class Session(ABC):
    """One connection through a proxy."""

    name = ""

    @classmethod
    @abstractmethod
    async def connect(cls, proxy: Proxy, application: str) -> "Session":
        """Log in; raises FailedError."""

    @abstractmethod
    async def run(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run a statement, or several without parameters; return the rows that the tag counts, or the first value."""

    @abstractmethod
    async def copy(self, table: str, columns: Sequence[str], data: bytes) -> int:
        """Run one COPY of text format; return its tag's count."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether the connection has ended."""

    @abstractmethod
    def vanish(self) -> None:
        """Leave without a word."""

    @abstractmethod
    async def close(self) -> None:
        """Leave."""


class Psycopg(Session):
    """psycopg 3."""

    name = "psycopg"

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, proxy: Proxy, application: str) -> "Psycopg":
        """Log in."""
        dsn = f"{proxy.dsn()}?application_name={application}&sslmode=disable&connect_timeout={CONNECT_PATIENCE}"
        try:
            made = await psycopg.AsyncConnection.connect(dsn, autocommit=True, cursor_factory=psycopg.AsyncRawCursor)
        except psycopg.Error as error:
            raise _of_psycopg(error) from error
        return cls(made)

    async def run(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run it."""
        try:
            cursor = await self._connection.execute(sql.encode(), params or None)
            if cursor.description:
                row = await cursor.fetchone()
                return int(row[0]) if row is not None else 0
            return cursor.rowcount
        except psycopg.Error as error:
            raise _of_psycopg(error) from error

    async def copy(self, table: str, columns: Sequence[str], data: bytes) -> int:
        """Copy it."""
        try:
            async with self._connection.cursor() as cursor:
                async with cursor.copy(f"COPY {table} ({', '.join(columns)}) FROM STDIN".encode()) as copy:
                    await copy.write(data)
                return cursor.rowcount
        except psycopg.Error as error:
            raise _of_psycopg(error) from error

    @property
    def closed(self) -> bool:
        """Whether libpq knows it to be closed."""
        return self._connection.closed

    def vanish(self) -> None:
        """Shut the socket, which libpq shares with us."""
        if not self._connection.closed:
            with socket.socket(fileno=socket.dup(self._connection.fileno())) as shared:
                shared.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Close it."""
        await self._connection.close()


class Asyncpg(Session):
    """asyncpg."""

    name = "asyncpg"

    def __init__(self, connection: "asyncpg.Connection[Any]") -> None:
        self._connection = connection

    @classmethod
    async def connect(cls, proxy: Proxy, application: str) -> "Asyncpg":
        """Log in."""
        settings = {"application_name": application}
        try:
            return cls(
                await asyncpg.connect(
                    proxy.dsn(), ssl=False, timeout=CONNECT_PATIENCE, server_settings=settings, command_timeout=None
                )
            )
        except (*_BROKEN, TimeoutError) as error:
            raise _of_asyncpg(error) from error

    async def run(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run it."""
        try:
            if sql.startswith("SELECT") or "RETURNING" in sql:
                row = await self._connection.fetchrow(sql, *params)
                return int(row[0]) if row is not None else 0
            tag = await self._connection.execute(sql, *params)
        except _BROKEN as error:
            raise _of_asyncpg(error) from error
        found = re.search(r" (\d+)$", tag or "")
        return int(found[1]) if found else -1

    async def copy(self, table: str, columns: Sequence[str], data: bytes) -> int:
        """Copy it."""

        async def source() -> Any:
            yield data

        try:
            tag = await self._connection.copy_to_table(table, source=source(), columns=columns)
        except _BROKEN as error:
            raise _of_asyncpg(error) from error
        return int(tag.rpartition(" ")[2])

    @property
    def closed(self) -> bool:
        """Whether asyncpg knows it to be closed."""
        return bool(self._connection.is_closed())

    def vanish(self) -> None:
        """Abort the transport."""
        self._connection.terminate()

    async def close(self) -> None:
        """Close it; one whose server does not answer is dropped."""
        try:
            await self._connection.close(timeout=5)
        except (*_BROKEN, TimeoutError):
            self._connection.terminate()


def _of_psycopg(error: psycopg.Error) -> FailedError:
    diag = error.diag
    said = " | ".join(filter(None, (diag.message_primary, diag.message_detail))) or str(error)
    return FailedError(diag.sqlstate or LOST, said)


def _of_asyncpg(error: BaseException) -> FailedError:
    # What the driver says by itself has no message of a server's, though it may have a SQLSTATE.
    sqlstate = getattr(error, "sqlstate", None) if getattr(error, "message", None) else None
    detail = getattr(error, "detail", None)
    words = " | ".join(filter(None, (str(error) or type(error).__name__, detail)))
    return FailedError(sqlstate or LOST, words)


DRIVERS: tuple[type[Session], ...] = (Psycopg, Asyncpg)

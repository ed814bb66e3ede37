"""Shards and an oracle of one PostgreSQL version, and fresh databases on them.

`Servers` starts its servers when they are first used. `Databases` is one database of the same name on each
(or several in one server); at the end they are emptied for the next test, or dropped where that is not enough.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from shardproxy.embedded import Server
from tests.support.recycled import recycle

SHARDS = 3

# Small and quiet: many servers share a machine of two cores with the tests.
SETTINGS = {"shared_buffers": "32MB", "autovacuum": "off", "max_connections": "60"}

_numbers = itertools.count(1)

USES = 25
"""How often databases are used: what was deleted stays in their catalogs, as nothing vacuums them."""


class Servers:
    """The servers of one version: SHARDS shards and an oracle, each started when first asked for."""

    def __init__(self, version: int) -> None:
        self.version = version
        self._started: dict[str, Server] = {}
        self.spare: dict[str, list[_Used]] = defaultdict(list)  # by the arrangement that they are in

    def _server(self, name: str) -> Server:
        if name not in self._started:
            self._started[name] = Server.start(self.version, settings=SETTINGS)
        return self._started[name]

    @property
    def shards(self) -> list[Server]:
        """One server per shard."""
        return [self._server(f"shard{number}") for number in range(SHARDS)]

    @property
    def oracle(self) -> Server:
        """The one PostgreSQL that is always right."""
        return self._server("oracle")

    @property
    def psql(self) -> Path:
        """The psql of this version."""
        return self.oracle.psql

    def close(self) -> None:
        """End them all."""
        for server in self._started.values():
            server.close()


@dataclass
class _Used:
    """Databases, the oracle's last, and how many tests had them."""

    places: list[tuple[Server, str]]
    times: int = 0


def _new(servers: Servers, shards: int, one_server: bool, options: str) -> _Used:
    name = f"t{os.getpid()}_{next(_numbers)}"
    shard_servers = [servers.oracle] * shards if one_server else servers.shards[:shards]
    names = [f"{name}_s{number}" if one_server else name for number in range(len(shard_servers))]
    places = [*zip(shard_servers, names, strict=True), (servers.oracle, name)]
    for server, database in places:
        # Copying files takes 10 ms where the default, writing the copy to the WAL, takes 100.
        execute(server.dsn(), f'CREATE DATABASE "{database}" STRATEGY file_copy {options}')
    return _Used(places)


@dataclass
class Databases:
    """Fresh databases, one per shard and one for the oracle."""

    version: int
    name: str  # of the oracle's database
    shards: list[str]  # DSNs, as asyncpg, psycopg, psql and the proxy take them
    oracle: str
    psql: Path
    shard_servers: list[Server]
    oracle_server: Server
    _used: _Used = field(default_factory=lambda: _Used([]), repr=False)
    _spare: list[_Used] | None = field(default=None, repr=False)  # where they go; None if `options` made them

    @classmethod
    def create(cls, servers: Servers, *, shards: int = SHARDS, one_server: bool = False, options: str = "") -> Self:
        """Make the databases; `one_server` puts all of them into the oracle's server, which is cheaper.

        `options` are CREATE DATABASE's, for instance "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'".
        """
        spare = None if options else servers.spare[f"{shards} {one_server}"]
        used = spare.pop() if spare else _new(servers, shards, one_server, options)
        *shard_servers, _ = (server for server, _ in used.places)
        *dsns, oracle = (server.dsn(database) for server, database in used.places)
        name = used.places[-1][1]
        return cls(servers.version, name, dsns, oracle, servers.psql, shard_servers, servers.oracle, used, spare)

    def drop(self) -> None:
        """End the databases with whatever is still connected or prepared in them, or empty them for the next test."""
        self._used.times += 1
        places = self._used.places
        again = self._used.times < USES and all(server.running for server, _ in places)
        if self._spare is not None and again and all(recycle(server.dsn(database)) for server, database in places):
            self._spare.append(self._used)
            return
        for server, database in places:
            if server.running:
                drop_database(server, database)

    def execute(self, statement: str, *, oracle: bool = True) -> None:
        """Run SQL (several statements may be) on every shard and, unless told not to, on the oracle."""
        for dsn in [*self.shards, *([self.oracle] if oracle else [])]:
            execute(dsn, statement)

    def rows(self, statement: str) -> list[list[tuple[Any, ...]]]:
        """Run a query on every shard and return each one's rows."""
        return [query(dsn, statement) for dsn in self.shards]

    def oracle_rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a query on the oracle."""
        return query(self.oracle, statement)

    def config(
        self,
        tables: Iterable[Mapping[str, object]] = (),
        *,
        database: str = "shop",
        commit: str = "one-phase",
        unlisted_tables: str = "error",
        users: Sequence[Mapping[str, object]] = (),
        server: Mapping[str, object] | None = None,
        admin: Mapping[str, object] | None = None,
        entry: Mapping[str, object] | None = None,
    ) -> str:
        """Write a configuration over these shards (s0, s1, ...) as TOML; it listens on a free port.

        `entry` is what else the entry of the database has.
        """
        lines = ["[server]", *_members({"listen": "127.0.0.1:0", "drain_timeout": 5.0} | dict(server or {}))]
        if admin is not None:
            lines += ["[admin]", *_members(admin)]
        for user in users:
            lines += ["[[users]]", *_members(user)]
        shards = [{"name": f"s{number}", "dsn": dsn} for number, dsn in enumerate(self.shards)]
        facts = {"name": database, "commit": commit, "unlisted_tables": unlisted_tables, "shards": shards} | dict(
            entry or {}
        )
        lines += ["[[databases]]", *_members(facts)]
        for table in tables:
            lines += ["[[databases.tables]]", *_members(table)]
        return "\n".join(lines) + "\n"

    @cached_property
    def dbname(self) -> str:
        """The oracle's database name; the shards' too unless all are in one server."""
        return self.name


def _members(table: Mapping[str, object]) -> list[str]:
    return [f"{name} = {toml(value)}" for name, value in table.items()]


def toml(value: object) -> str:
    """Write a value as TOML would have it, tables inline."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case str():
            # Basic strings escape what JSON escapes, apart from characters beyond the basic plane.
            escaped = "".join(f"\\u{ord(c):04x}" if c in '"\\' or ord(c) < 32 else c for c in value)
            return f'"{escaped}"'
        case Mapping():
            return "{ " + ", ".join(_members(value)) + " }"
        case Iterable():
            return "[" + ", ".join(toml(item) for item in value) + "]"
    raise TypeError(f"no TOML for {value!r}")


def query(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    """Run one query over its own connection and return its rows."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        return connection.execute(statement.encode()).fetchall()


def execute(dsn: str, statement: str) -> None:
    """Run SQL (one statement outside a transaction, or several as one) over its own connection."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def drop_database(server: Server, database: str) -> None:
    """Drop a database; a prepared transaction would forbid it and is rolled back first."""
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        listing = "SELECT gid FROM pg_prepared_xacts WHERE database = %s"
        prepared = [gid for (gid,) in connection.execute(listing, (database,)).fetchall()]
        if prepared:
            with psycopg.connect(server.dsn(database), autocommit=True) as inside:
                for gid in prepared:
                    inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
        name = sql.Identifier(database)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))

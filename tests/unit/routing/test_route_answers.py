"""Random queries: the route's answer, put together from shards, against one server's.

A schema for each shard and one for the whole stand in one database; search_path chooses. Whatever the route
does not refuse must give the same rows, or change the same ones, as the whole does.
"""

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from shardproxy import native
from shardproxy.errors import PgError
from shardproxy.routing import Context, Copies, Gather, Home, KeyColumn, OneShard, Plan, Resolved, route
from shardproxy.routing.written import Written, WrittenColumn
from shardproxy.sql import analyze
from tests.support.databases import Databases, Servers

SHARDS = 3
ROWS = 12
TABLES = {"a": "k", "b": "k", "r": None, "s": None}
PLACEMENT = native.Placement.hash(SHARDS, [native.KEY_INT4])
COLUMNS = ("k", "v")
KEYED = Written(version=18, key=COLUMNS, columns=tuple(map(WrittenColumn, COLUMNS)))


def resolved(name: str) -> Resolved:
    if TABLES[name] is None:
        return Resolved("reference", "public", name, columns=COLUMNS, defaults={"k": None, "v": None})
    key = (KeyColumn("k", native.KEY_INT4),)
    return Resolved("hash", "public", name, None, PLACEMENT, key, COLUMNS, {"k": None, "v": None})


def is_aggregate(functions: frozenset[tuple[str | None, str]]) -> bool:
    return any(name in {"count", "sum", "min"} for _, name in functions)


@pytest.fixture(scope="module")
def connection(servers18: Servers) -> Iterator[psycopg.Connection[Any]]:
    databases = Databases.create(servers18, shards=0)
    seeded = random.Random(5)
    with psycopg.connect(databases.oracle) as connection:
        schemas = ["whole", *(f"shard{shard}" for shard in range(SHARDS))]
        for schema in schemas:
            connection.execute(f"CREATE SCHEMA {schema}".encode())
            for name in TABLES:
                connection.execute(f"CREATE TABLE {schema}.{name} (k int, v int)".encode())
        for name, key in TABLES.items():
            for _ in range(ROWS):
                row = (seeded.randrange(6), seeded.randrange(6))
                shard = schemas[1 + PLACEMENT.place([str(row[0]).encode()])]
                for schema in ["whole", shard] if key else schemas:
                    connection.execute(f"INSERT INTO {schema}.{name} VALUES (%s, %s)".encode(), row)
        connection.commit()
        yield connection
    databases.drop()


class Queries:
    """Makes queries that often are just on the edge of what can be routed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def column(self, aliases: list[str]) -> str:
        return f"{self.random.choice(aliases)}.{self.pick('k', 'k', 'v')}"

    def condition(self, aliases: list[str], depth: int = 0) -> str:
        number = str(self.random.randrange(6))
        form = self.random.randrange(9 if depth < 2 else 6)
        if form < 3:
            return f"{self.column(aliases)} = {number}"
        if form < 5:
            return f"{self.column(aliases)} = {self.column(aliases)}"
        if form == 5:
            return f"{self.column(aliases)} IN ({number}, {self.random.randrange(6)})"
        if form < 8:
            one, other = self.condition(aliases, depth + 1), self.condition(aliases, depth + 1)
            return f"({one} {self.pick('AND', 'AND', 'AND', 'OR')} {other})"
        return self.pick(
            f"NOT ({self.condition(aliases, depth + 1)})",
            f"{self.column(aliases)} IS NULL",
            f"{self.column(aliases)} IN (SELECT k FROM {self.pick('r', 's', 'a')})",
            f"EXISTS (SELECT FROM {self.pick('r', 's')} q WHERE q.v = {self.column(aliases)})",
        )

    def joined(self, aliases: list[str]) -> str:
        if len(aliases) == 1:
            return f"{self.pick('a', 'b', 'a', 'b', 'r', 's')} {aliases[0]}"
        cut = self.random.randrange(1, len(aliases))
        left, right = self.joined(aliases[:cut]), self.joined(aliases[cut:])
        kind = self.pick("JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
        on = self.condition(aliases)
        if kind == "FULL JOIN":  # PostgreSQL wants a merge-joinable condition
            on = f"{aliases[0]}.{self.pick('k', 'v')} = {aliases[-1]}.{self.pick('k', 'v')}"
        return f"({left} {kind} {right} ON {on})"

    def select(self) -> str:
        aliases = ["x", "y", "z"][: self.random.randrange(1, 4)]
        source = self.joined(aliases)
        where = f" WHERE {self.condition(aliases)}" if self.random.random() < 0.9 else ""
        what = self.pick("*", "*", "*", f"count(*), sum({self.column(aliases)})", f"DISTINCT {self.column(aliases)}")
        return f"SELECT {what} FROM {source}{where}"

    def change(self) -> str:
        target = self.pick("a", "b", "r")
        other = self.pick("a", "b", "r", "s")
        conditions = self.condition(["t", "o"])
        if self.random.random() < 0.5:
            return f"DELETE FROM {target} t USING {other} o WHERE {conditions}"
        return f"UPDATE {target} t SET v = 9 FROM {other} o WHERE {conditions}"


def routed(sql: str) -> Plan | None:
    [statement] = analyze(sql)
    tables = {ref: resolved(ref.name) for ref in statement.tables}
    try:
        return route(statement, tables, Context(SHARDS, home=1, is_aggregate=is_aggregate, written=KEYED))
    except PgError as refusal:
        if refusal.sqlstate != "0A000":
            raise
        return None


def shards_of(found: Plan) -> list[int]:
    match found:
        case Home():
            return [1]
        case OneShard(shard):
            return [shard]
        case Gather(shards):
            return list(shards)
    assert isinstance(found, Copies)
    return list(range(SHARDS))


def run(connection: psycopg.Connection[Any], schema: str, sql: str) -> Counter[Any]:
    connection.execute(f"SET search_path TO {schema}".encode())
    return Counter(connection.execute(sql.encode()).fetchall())


@pytest.mark.parametrize("seed", range(8))
def test_selects_answer_as_one_server(connection: psycopg.Connection[Any], seed: int) -> None:
    queries = Queries(seed)
    routes: Counter[str] = Counter()
    for _ in range(250):
        sql = queries.select()
        found = routed(sql)
        routes["refused" if found is None else type(found).__name__] += 1
        if found is not None:
            answers = [run(connection, f"shard{shard}", sql) for shard in shards_of(found)]
            assert sum(answers, Counter()) == run(connection, "whole", sql), f"{sql} -> {found}"
    assert routes["refused"] < 220
    assert routes["OneShard"] >= 8, routes


@pytest.mark.parametrize("seed", range(4))
def test_changes_touch_the_same_rows_as_on_one_server(connection: psycopg.Connection[Any], seed: int) -> None:
    queries = Queries(1000 + seed)
    taken = 0
    for _ in range(150):
        sql = queries.change()
        found = routed(sql)
        if found is None:
            continue
        # The first shard must be able to do it; what comes of it there, the others may get.
        follows = isinstance(found, Copies) and found.rows is not None
        found = OneShard(0) if follows else found
        taken += 1
        table = sql.split()[2] if sql.startswith("DELETE") else sql.split()[1]
        with connection.transaction(force_rollback=True):
            for schema in ["whole", *(f"shard{shard}" for shard in shards_of(found))]:
                connection.execute(f"SET search_path TO {schema}; {sql}".encode())
            rows = f"SELECT * FROM {table}"
            held = [run(connection, f"shard{shard}", rows) for shard in range(SHARDS)]
            whole = run(connection, "whole", rows)
            if TABLES[table] is None:
                copies = held[:1] if follows else held
                assert all(copy == whole for copy in copies), f"{sql} -> {found}"
            else:
                assert sum(held, Counter()) == whole, f"{sql} -> {found}"
    assert taken >= 10

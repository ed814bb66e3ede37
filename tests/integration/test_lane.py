"""Pipelines of short statements, as drivers send them, on one PostgreSQL and through the proxy: equal answers.

The statements repeat, so that the fast lane takes them; errors, transactions and other statements come in between.
"""

import random
from collections.abc import Iterator

import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.rawclient import RawClient, Reply
from tests.support.twin import ROWS, Twin

PIPELINES = 150  # of each seed

SELECT = b"SELECT a, b FROM t WHERE a = $1"
INSERT = b"INSERT INTO t VALUES ($1, 'new')"
UPDATE = b"UPDATE t SET b = b || '.' WHERE a = $1 RETURNING a"
DELETE = b"DELETE FROM t WHERE a = $1"
DIVIDE = b"SELECT a / 0 FROM t WHERE a = $1"
REFERENCE = b"SELECT b FROM ref WHERE a = $1"
SINGLE = b"UPDATE one SET b = 'x' WHERE a = $1"
EVERYWHERE = b"SELECT a FROM t WHERE b = $1::int::text"
STATEMENTS = (SELECT, INSERT, UPDATE, DELETE, DIVIDE, REFERENCE, SINGLE, EVERYWHERE)
WEIGHTS = (8, 6, 5, 3, 1, 2, 2, 1)


@pytest.fixture(scope="module", params=(16, 18))
def twin(request: pytest.FixtureRequest, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    servers: Servers = request.getfixturevalue(f"servers{request.param}")
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        yield twin


class Script:
    """Random messages of one session, each pipeline with the number of ReadyForQuery that it leads to."""

    def __init__(self, seed: int) -> None:
        self._chosen = random.Random(seed)
        self._named: set[bytes] = set()

    def pipeline(self) -> tuple[bytes, int]:
        """Some units, with or without a Sync after each, and one at the end."""
        chosen = self._chosen
        data, ends = b"", 0
        for _ in range(chosen.choice((1, 1, 1, 2, 3, 8, 20))):
            if chosen.random() < 0.25:
                data += encode.SYNC + self._query()
                ends += 2
            else:
                data += self._extended()
                if chosen.random() < 0.6:
                    data += encode.SYNC
                    ends += 1
                elif chosen.random() < 0.1:
                    data += encode.FLUSH
        return data + encode.SYNC, ends + 1

    def _key(self) -> int:
        return self._chosen.randrange(1, 2 * ROWS)

    def _query(self) -> bytes:
        control = ("BEGIN", "COMMIT", "ROLLBACK", "SELECT 1", "SAVEPOINT s", "ROLLBACK TO s")
        if self._chosen.random() < 0.4:
            return encode.query(self._chosen.choice(control).encode())
        sql = self._chosen.choices(STATEMENTS[:7], WEIGHTS[:7])[0]
        return encode.query(sql.replace(b"$1", b"%d" % self._key()))

    def _extended(self) -> bytes:
        chosen = self._chosen
        if chosen.random() < 0.06:
            control = chosen.choice((b"BEGIN", b"COMMIT", b"ROLLBACK"))
            return encode.parse(b"", control) + encode.bind(b"", b"", (), (), ()) + encode.execute(b"")
        sql = chosen.choices(STATEMENTS, WEIGHTS)[0]
        name = b"" if chosen.random() < 0.4 else b"n%d" % STATEMENTS.index(sql)
        oids = (23,) if sql is not EVERYWHERE else (25,)
        data = b""
        if not name or name not in self._named:
            data += encode.parse(name, sql, oids)
        self._named |= {name} - {b""}
        data += encode.bind(b"", name, (), (b"%d" % self._key(),), ())
        if chosen.random() < 0.5:
            data += encode.describe(b"P", b"")
        return data + encode.execute(b"")


def converse(client: RawClient, data: bytes, ends: int) -> list[Reply]:
    """Send a pipeline; return what comes up to each ReadyForQuery."""
    client.send(data)
    return [client.exchange(b"") for _ in range(ends)]


def shown(replies: list[Reply]) -> list[tuple[str, list[str], list[str], list[list[bytes | None]], str | None]]:
    return [
        (
            # A RowDescription of no rows says the same on either side; rows over several shards come in any order.
            reply.order,
            reply.tags,
            [f"{error['C']} {error['M']}" for error in reply.errors],
            sorted(reply.rows, key=repr),
            reply.status,
        )
        for reply in replies
    ]


@pytest.mark.parametrize("seed", range(4))
def test_pipelines(twin: Twin, seed: int) -> None:
    twin.fill()
    script = Script(seed)
    with RawClient(twin.dsn) as proxied, RawClient(twin.databases.oracle) as oracle:
        for _ in range(PIPELINES):
            data, ends = script.pipeline()
            expected = shown(converse(oracle, data, ends))
            got = shown(converse(proxied, data, ends))
            assert got == expected, data
        for client in (proxied, oracle):
            client.query("COMMIT")
    for table in ("t", "one"):
        ours, theirs = twin.rows(table)
        assert ours == theirs


def test_a_temporary_table_hides_a_listed_one(twin: Twin) -> None:
    """Plans are shared between sessions, but not with one whose names are its own."""
    twin.fill()
    select = "SELECT b FROM t WHERE a = 7"
    with RawClient(twin.dsn) as other:
        for _ in range(3):
            assert other.query(select).rows == [[b"row 7"]]
        twin.compare(
            select, select, "CREATE TEMPORARY TABLE t (a int, b text)", select, "INSERT INTO t VALUES (7, 'mine')",
            select, select, "DROP TABLE pg_temp.t", select,
        )  # fmt: skip
        twin.databases.execute(
            "CREATE OR REPLACE FUNCTION hide() RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
            " CREATE TEMPORARY TABLE t AS SELECT 7 AS a, 'hidden' AS b; RETURN 'x'; END $$"
        )
        twin.compare(select, "SELECT hide()", select, select)
        assert other.query(select).rows == [[b"row 7"]]


def test_sessions_with_other_settings_share_no_plan(twin: Twin) -> None:
    twin.databases.execute("CREATE SCHEMA IF NOT EXISTS other; CREATE TABLE IF NOT EXISTS other.ref (a int, b text)")
    select = "SELECT b FROM ref WHERE a = 7"
    twin.fill()
    with RawClient(twin.dsn) as other:
        for _ in range(3):
            assert other.query(select).rows == [[b"row 7"]]
        twin.compare(select, "SET search_path = other", "RESET search_path", select)
        twin.compare(select, "BEGIN", "SET LOCAL timezone = 'UTC'", select, "COMMIT", select)
        assert other.query(select).rows == [[b"row 7"]]

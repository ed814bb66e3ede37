"""A shard's answer is lost on its way: what the client is told, beside what the shard has done."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Databases, query
from tests.support.lossy import Lossy
from tests.support.rawclient import RawClient

pytestmark = pytest.mark.newest

TABLES: list[dict[str, object]] = [{"name": "t", "placement": "hash", "key": ["id"]}]
MARK = "lose this"
KEY = 2  # of the first shard


def simple(dsn: str) -> str | None:
    with psycopg.connect(dsn, autocommit=True) as client, pytest.raises(psycopg.Error) as failed:
        client.execute(f"INSERT INTO t VALUES ({KEY}, '{MARK}')".encode())
    return failed.value.sqlstate


def prepared(dsn: str) -> str | None:
    with psycopg.connect(dsn, autocommit=True) as client, pytest.raises(psycopg.Error) as failed:
        client.execute(f"INSERT INTO t VALUES ({KEY}, %s)", (MARK,))
    return failed.value.sqlstate


def returned(dsn: str) -> str | None:
    """COPY of what an INSERT returns."""
    sql = f"COPY (INSERT INTO t VALUES ({KEY}, '{MARK}') RETURNING id) TO STDOUT"
    with psycopg.connect(dsn, autocommit=True) as client, client.cursor() as cursor:  # noqa: SIM117
        with pytest.raises(psycopg.Error) as failed, cursor.copy(sql.encode()) as copy:
            list(copy)
    return failed.value.sqlstate


def limited(dsn: str) -> str | None:
    """With a row limit, as JDBC's executeUpdate."""
    with RawClient(dsn) as client:
        reply = client.exchange(
            encode.parse(b"", b"INSERT INTO t VALUES (%d, $1) RETURNING id" % KEY)
            + encode.bind(b"", b"", [], [MARK.encode()], [])
            + encode.execute(b"", 5)
            + encode.SYNC
        )
        assert reply.error is not None
        return reply.error["C"]


async def lost(databases: Databases, run_proxy: RunProxy, work: Callable[[str], str | None]) -> str | None:
    facts = conninfo_to_dict(databases.shards[0])
    async with Lossy.between(str(facts["host"]), int(facts["port"] or 0)) as lossy:
        databases.shards[0] = databases.shards[0].replace(f":{facts['port']}/", f":{lossy.port}/")
        proxy = await asyncio.to_thread(run_proxy, databases.config(TABLES))
        lossy.arm(MARK.encode(), "lose_reply")
        return await asyncio.to_thread(work, proxy.dsn("shop"))


@pytest.mark.parametrize("work", [simple, prepared, returned, limited])
def test_a_write_that_commits_by_itself(
    one_server: Databases, run_proxy: RunProxy, work: Callable[[str], str | None]
) -> None:
    """It is there, and its client must not be told that it is not."""
    one_server.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    dsn = one_server.shards[0]
    assert asyncio.run(lost(one_server, run_proxy, work)) == "08007"
    assert query(dsn, "SELECT id FROM t") == [(KEY,)]

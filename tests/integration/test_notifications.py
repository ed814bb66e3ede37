"""LISTEN is on the first shard: NOTIFY reaches it, and pg_notify() elsewhere is refused."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.rawclient import RawClient
from tests.support.twin import Twin


@pytest.fixture(scope="module")
def twin(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        yield twin


def test_a_notification_has_the_process_id_that_its_sender_knows(twin: Twin) -> None:
    """So that a client knows its own, as drivers do."""
    with (
        psycopg.connect(twin.dsn, autocommit=True) as listener,
        psycopg.connect(twin.dsn, autocommit=True) as speaker,
    ):
        listener.execute("LISTEN whose")
        for sender in (listener, speaker):
            sender.execute("NOTIFY whose")
            [notice] = listener.notifies(timeout=5, stop_after=1)
            assert notice.pid == sender.info.backend_pid


def test_notifications_between_two_clients(twin: Twin) -> None:
    with (
        psycopg.connect(twin.dsn, autocommit=True) as listener,
        psycopg.connect(twin.dsn, autocommit=True) as speaker,
    ):
        listener.execute("LISTEN news")
        speaker.execute("NOTIFY news, 'one'")
        with speaker.transaction():
            speaker.execute("SELECT pg_notify('news', 'two')")
            speaker.execute("INSERT INTO ref VALUES (2001, 'x')")
            speaker.execute("DELETE FROM ref WHERE a = 2001")
        with speaker.transaction(force_rollback=True):
            speaker.execute("NOTIFY news, 'never'")
        heard = [notice.payload for notice in listener.notifies(timeout=5, stop_after=2)]
        assert heard == ["one", "two"]
        listener.execute("UNLISTEN news")
        speaker.execute("NOTIFY news, 'three'")
        assert list(listener.notifies(timeout=0.2)) == []


@pytest.mark.parametrize(
    "statement", ["SELECT pg_notify('ch', b) FROM t", "SELECT pg_notify('ch', b) FROM t WHERE a = 5",
                  "SELECT pg_notify('ch', b) FROM one"]
)  # fmt: skip
def test_notifications_where_nobody_listens_are_refused(twin: Twin, statement: str) -> None:
    """LISTEN is on the first shard; what was said elsewhere had reached nobody."""
    [reply] = twin.proxied(statement)
    assert reply.errors[0]["C"] == "0A000"
    assert "pg_notify()" in reply.errors[0]["M"]


def test_pg_notify_is_heard(twin: Twin) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as listener, RawClient(twin.dsn) as client:
        listener.execute("LISTEN ch")
        assert client.query("SELECT pg_notify('ch', b) FROM ref WHERE a = 5").error is None
        assert client.query("SELECT pg_notify('ch', 'alone')").error is None
        assert client.query("UPDATE ref SET b = b WHERE a = 6 RETURNING pg_notify('ch', b)").error is None
        heard = [notify.payload for notify in listener.notifies(timeout=10, stop_after=3)]
    assert heard == ["row 5", "alone", "row 6"]

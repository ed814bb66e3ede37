"""LISTEN is on the first shard: NOTIFY reaches it, and pg_notify() elsewhere is refused."""

from collections.abc import Iterator
from typing import LiteralString

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


APART = [f"INSERT INTO t VALUES ({a}, 'new')" for a in range(3001, 3009)]
"""Rows for every shard, one by one."""


@pytest.mark.parametrize("notify", ["NOTIFY far, 'said'", "SELECT pg_notify('far', 'said')"])
@pytest.mark.parametrize("first", [True, False], ids=["before the rows", "behind them"])
def test_a_notification_of_a_transaction_in_two_phases(
    servers: Servers, run_proxy: RunProxy, notify: LiteralString, first: bool
) -> None:
    """PostgreSQL prepares no transaction that has said NOTIFY: where it was said, the decision is committed with it."""
    with Twin.open(servers, run_proxy, commit="two-phase") as twin, psycopg.connect(twin.dsn, autocommit=True) as heard:
        heard.execute("LISTEN far")
        steps = ["BEGIN", *([notify, *APART] if first else [*APART, notify])]
        replies = Twin.run(twin.dsn, [*steps, "ROLLBACK", *steps, "COMMIT", "NOTIFY far, 'behind'"])
        assert [reply.errors for reply in replies if reply.errors] == []
        assert [notice.payload for notice in heard.notifies(timeout=20, stop_after=2)] == ["said", "behind"]
        assert all(twin.databases.rows("TABLE t"))
        assert len(twin.rows()[0]) == len(APART)
        assert twin.databases.oracle_rows("SELECT gid FROM pg_prepared_xacts") == []


def test_notifications_of_triggers_on_several_shards_are_no_half_commit(servers: Servers, run_proxy: RunProxy) -> None:
    """Two shards that have said NOTIFY cannot both be the one that is not prepared: refused, and stored nowhere."""
    with Twin.open(servers, run_proxy, commit="two-phase") as twin:
        twin.databases.execute(
            """CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN PERFORM pg_notify('far', NEW.b); RETURN NEW; END $$;
            CREATE TRIGGER tell AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION tell()"""
        )
        *_, committed = twin.proxied("BEGIN", *APART, "COMMIT")
        assert [error["C"] for error in committed.errors] == ["0A000"]
        assert twin.databases.rows("TABLE t") == [[], [], []]
        assert twin.databases.oracle_rows("SELECT gid FROM pg_prepared_xacts") == []


def test_a_notification_of_a_commit_that_fails_elsewhere_is_not_heard(servers: Servers, run_proxy: RunProxy) -> None:
    """The first shard has no row of the transaction, and nothing but the notification."""
    with Twin.open(servers, run_proxy, commit="two-phase") as twin, psycopg.connect(twin.dsn, autocommit=True) as heard:
        twin.databases.execute(
            """CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
              $$ BEGIN IF NEW.b = 'bad' THEN RAISE 'refused at the end'; END IF; RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
              FOR EACH ROW EXECUTE FUNCTION refuse()"""
        )
        assert not any(reply.errors for reply in twin.proxied(*APART))
        _, here, there = ([a for (a,) in rows] for rows in twin.databases.rows("SELECT a FROM t"))
        twin.databases.execute("TRUNCATE t")
        heard.execute("LISTEN far")
        for payload, bad in (("refused", here), ("refused", there), ("stored", [])):
            rows = [f"INSERT INTO t VALUES ({a}, '{'bad' if a in bad else 'new'}')" for a in (*here, *there)]
            *_, committed = Twin.run(twin.dsn, ["BEGIN", f"NOTIFY far, '{payload}'", *rows, "COMMIT"])
            assert bool(committed.errors) == bool(bad), committed
        assert [notice.payload for notice in heard.notifies(timeout=20, stop_after=1)] == ["stored"]
        assert len(twin.rows()[0]) == len(here) + len(there)

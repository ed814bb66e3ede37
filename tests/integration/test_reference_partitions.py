"""Reference tables in partitions: a row that moves to another one is deleted and inserted, and so fires triggers."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.conftest import RunProxy
from tests.integration.test_reference_writes import Shop
from tests.support.databases import Databases, Servers, execute

pytestmark = pytest.mark.newest  # before, an UPDATE that sets the key and fires triggers is refused

DDL = """
    CREATE TABLE kept (id int, state text, changed text, PRIMARY KEY (id, state)) PARTITION BY LIST (state);
    CREATE TABLE kept_new PARTITION OF kept FOR VALUES IN ('new');
    CREATE TABLE kept_old PARTITION OF kept FOR VALUES IN ('old') PARTITION BY HASH (id);
    CREATE TABLE kept_old_all PARTITION OF kept_old FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.changed = clock_timestamp()::text; RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT ON kept_old_all FOR EACH ROW EXECUTE FUNCTION stamp();
    CREATE TABLE audit (id serial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
    CREATE TABLE told (id int, state text, PRIMARY KEY (id, state)) PARTITION BY LIST (state);
    CREATE TABLE told_new PARTITION OF told FOR VALUES IN ('new');
    CREATE TABLE told_old PARTITION OF told FOR VALUES IN ('old');
    CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO audit DEFAULT VALUES; RETURN NULL; END $$;
    CREATE TRIGGER audit AFTER DELETE ON told_new FOR EACH ROW EXECUTE FUNCTION audit();
"""


@pytest.fixture(scope="module")
def module_shop(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Shop]:
    databases = Databases.create(servers, one_server=True)
    try:
        databases.execute(DDL)
        yield Shop(databases, run_proxy_for_module(databases.config(unlisted_tables="reference", commit="one-phase")))
    finally:
        databases.drop()


@pytest.fixture
def shop(module_shop: Shop) -> Shop:
    module_shop.databases.execute("TRUNCATE kept, told, audit RESTART IDENTITY")
    return module_shop


@pytest.mark.parametrize(
    "update",
    [
        "UPDATE kept SET state = 'old' WHERE id = 1 AND state = 'new'",
        "UPDATE kept SET state = 'old' WHERE changed IS NULL",
        "UPDATE kept SET state = lower('OLD') WHERE id > random()",
    ],
)
def test_a_row_that_moves_fires_insert_triggers(shop: Shop, update: str) -> None:
    with shop.connect() as connection:
        connection.execute("INSERT INTO kept VALUES (1, 'new'), (2, 'new')")
        connection.execute(update.encode())
    assert any("old" in row for row in shop.copies("kept"))


def test_a_before_trigger_may_move_it(shop: Shop) -> None:
    """What the statement sets does not tell."""
    moves = """CREATE OR REPLACE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.state = 'old'; RETURN NEW; END $$;
        CREATE TRIGGER moves BEFORE UPDATE ON {}_new FOR EACH ROW EXECUTE FUNCTION moves()"""
    with shop.connect() as connection:
        connection.execute("INSERT INTO told VALUES (1, 'new')")
        for shard in shop.databases.shards:
            execute(shard, moves.format("told"))
        connection.execute("ALTER TABLE told_old RESET (fillfactor)")
        try:
            with pytest.raises(psycopg.errors.FeatureNotSupported, match="trigger"):
                connection.execute("UPDATE told SET id = 1 WHERE id = 1 AND state = 'new'")
        finally:
            connection.execute("DROP FUNCTION moves() CASCADE")
    assert len(shop.copies("told")) == 1
    assert shop.copies("audit") == []


def test_a_row_that_moves_fires_what_writes_other_tables(shop: Shop) -> None:
    with shop.connect() as connection:
        connection.execute("INSERT INTO told VALUES (1, 'new')")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match='trigger "audit"'):
            connection.execute("UPDATE told SET state = 'old' WHERE id = 1 AND state = 'new'")
        connection.execute("UPDATE told SET id = 2 WHERE id = 1 AND state = 'new'")
    assert shop.copies("told") == ["(2,new)"]
    assert shop.copies("audit") == []

"""Temporary tables and views: they lie on one shard, and hide what they are named after."""

import pytest

from tests.support.rawclient import RawClient
from tests.support.twin import Twin


@pytest.mark.parametrize(
    "definition",
    [
        "CREATE TEMP VIEW shown AS SELECT * FROM t",
        "CREATE TEMP VIEW shown AS SELECT count(*) FROM (SELECT 1 FROM one) x",
        "CREATE TEMP TABLE shown () INHERITS (t)",
    ],
)
def test_a_temporary_relation_shows_no_part_of_other_shards_rows(twin: Twin, definition: str) -> None:
    """It lies on the home shard, whose part of the rows had passed for all."""
    for statement in ("SELECT * FROM shown", "SELECT count(*) FROM shown", "COPY shown FROM STDIN"):
        made, reply = twin.proxied(definition, statement)
        assert made.error is None
        assert reply.errors[0]["C"] == "0A000"
        assert "is a view, partition or child of other tables" in reply.errors[0]["M"]
    twin.compare(definition, "DROP " + " ".join(definition.split()[2:4]))


def test_temporary_views_of_what_every_shard_has(twin: Twin) -> None:
    for query in ("SELECT * FROM ref", "SELECT relname FROM pg_class WHERE relname = 'ref'", "SELECT 1 AS a"):
        twin.compare(f"CREATE TEMP VIEW shown AS {query}", "SELECT * FROM shown", "CREATE TEMP VIEW w AS TABLE shown",
                     "SELECT * FROM w")  # fmt: skip


def test_a_name_changes_its_meaning_at_commit(twin: Twin) -> None:
    """For a second the rows of a temporary table's shard had passed for all, and reference tables came apart."""
    twin.compare(
        "BEGIN",
        "CREATE TEMP TABLE t (a int, b text) ON COMMIT DROP",
        "CREATE TEMP TABLE ref (a int, b text) ON COMMIT DROP",
        "SELECT * FROM t, ref",
        "COMMIT",
        "SELECT * FROM t",
        "SELECT * FROM t WHERE a = 5",
        "UPDATE ref SET b = 'changed' WHERE a = 5",
    )
    assert twin.databases.rows("SELECT b FROM ref WHERE a = 5") == [[("changed",)]] * 3


def test_an_aggregate_of_the_session(twin: Twin) -> None:
    """Each shard had given one row of its own."""
    made = "CREATE AGGREGATE pg_temp.added (int) (SFUNC = int4pl, STYPE = int, INITCOND = '0')"
    _, whole, _ = twin.proxied(made, "SELECT pg_temp.added(a) FROM t", "DISCARD ALL")
    assert whole.errors[0]["C"] == "0A000"
    twin.compare(made, "SELECT pg_temp.added(a) FROM t WHERE a = 5", "SELECT pg_temp.added(a) FROM ref")


@pytest.mark.parametrize("key", [1, 2, 3, 4, 5])
def test_a_temporary_relation_hides_others_in_a_transaction_of_other_shards(twin: Twin, key: int) -> None:
    """Its name was looked up on a shard of the transaction, which has not got it, and the hidden table written."""
    made = ("CREATE TEMP TABLE ref (a int, b text)", "CREATE TEMP TABLE t (a int, b text)")
    for made_by in (made, ("SET search_path = pg_temp, public", *(one.replace("TEMP ", "") for one in made))):
        with RawClient(twin.dsn) as client:
            for step in (*made_by, "SET search_path = public", "BEGIN", f"SELECT * FROM public.t WHERE a = {key}"):
                assert client.query(step).error is None
            # What is known of names is out of date.
            assert not twin.proxied("ALTER TABLE ref RESET (fillfactor)")[0].errors
            for step in ("INSERT INTO t VALUES (1000, 'x')", "INSERT INTO ref VALUES (1000, 'x')", "COMMIT"):
                assert client.query(step).error is None
            for table in ("t", "ref"):
                assert client.query(f"SELECT a FROM {table}").rows == [[b"1000"]]
                assert client.query(f"SELECT a FROM public.{table} WHERE a = 1000").rows == []


def test_a_path_that_begins_with_the_temporary_schema(twin: Twin) -> None:
    """What is made then is temporary, though nothing but the path says so."""
    twin.compare(
        "SET search_path = pg_temp, public",
        "CREATE TABLE t (a int)",
        "CREATE VIEW shown AS SELECT * FROM ref",
        "CREATE TABLE made AS SELECT 1 AS a",
        "CREATE SEQUENCE counted",
        "INSERT INTO t VALUES (1)",
        "SELECT count(*) FROM t",
        "SET search_path = public",
        "SELECT count(*) FROM t",
        "SELECT count(*) FROM shown",
        "SELECT a FROM made",
        "DROP TABLE t, made",
        "DROP VIEW shown",
        "SELECT a FROM t WHERE a = 5",
    )
    assert twin.databases.rows(
        "SELECT relname FROM pg_class WHERE relname IN ('made', 'counted') AND relpersistence <> 't'"
    ) == [[], [], []]

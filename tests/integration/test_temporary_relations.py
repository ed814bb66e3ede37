"""Temporary tables and views: they lie on one shard, and hide what they are named after."""

import pytest

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

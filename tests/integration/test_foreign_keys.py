"""Foreign keys that would give a row of a sharded table another key, on the shard of the old one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import RunProxy
from tests.integration.test_check import Check
from tests.support.databases import Servers
from tests.support.twin import TABLES, Twin

pytestmark = pytest.mark.newest

ACTIONS = ("ON UPDATE CASCADE", "ON UPDATE SET NULL", "ON DELETE SET NULL", "ON DELETE SET DEFAULT")

NOTICED = "ALTER TABLE t REPLICA IDENTITY DEFAULT"
"""DDL through the proxy, after which all definitions are looked up again."""


@pytest.fixture(scope="module")
def module_twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, unlisted_tables="reference") as twin:
        twin.databases.execute("CREATE TABLE pair (x int, y int, PRIMARY KEY (x, y))")
        yield twin


@contextmanager
def constraint(twin: Twin, definition: str, table: str = "t") -> Iterator[None]:
    """A foreign key that was made on the servers directly."""
    twin.databases.execute(f"ALTER TABLE {table} ADD CONSTRAINT f FOREIGN KEY {definition}")
    twin.proxied(NOTICED)
    try:
        yield
    finally:
        twin.databases.execute(f"ALTER TABLE {table} DROP CONSTRAINT f")
        twin.proxied(NOTICED)


def refused(twin: Twin, *steps: str) -> None:
    """The last of the steps, of one transaction, is refused."""
    *_, reply = twin.proxied("BEGIN", *steps)
    assert reply.error is not None
    assert reply.error["C"] == "0A000"
    assert 'sets key column "a" of sharded table' in reply.error["M"]
    assert "NO ACTION" in reply.error["H"]


@pytest.mark.parametrize("action", ACTIONS)
def test_is_not_made(twin: Twin, action: str) -> None:
    refused(twin, f"ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES ref {action}")
    refused(twin, f"ALTER TABLE t ADD COLUMN c int, ADD FOREIGN KEY (a) REFERENCES ref (a) {action} NOT VALID")
    refused(twin, "DROP TABLE t", f"CREATE TABLE t (a int REFERENCES ref {action}, b text)")
    refused(twin, "DROP TABLE t", f"CREATE TABLE t (b int, a int, FOREIGN KEY (b, a) REFERENCES pair {action})")
    refused(twin, f"CREATE TABLE child (FOREIGN KEY (a) REFERENCES ref {action}) INHERITS (t)")


def test_is_made_where_keys_stay(twin: Twin) -> None:
    add = "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES"
    for made in (
        f"{add} ref ON DELETE CASCADE",
        f"{add} ref ON UPDATE RESTRICT",
        f"{add} t ON UPDATE CASCADE",
        f"{add} t (a) ON UPDATE SET NULL",
        "ALTER TABLE t ADD COLUMN c int REFERENCES ref ON UPDATE CASCADE ON DELETE SET NULL",
        "ALTER TABLE t ADD COLUMN c int, ADD FOREIGN KEY (a, c) REFERENCES pair ON DELETE SET NULL (c)",
        "ALTER TABLE ref ADD FOREIGN KEY (a) REFERENCES ref ON UPDATE CASCADE",
    ):
        twin.compare("BEGIN", made, "ROLLBACK")


def test_where_it_is_there_no_write_sets_a_key(twin: Twin) -> None:
    with constraint(twin, "(a) REFERENCES ref ON UPDATE CASCADE ON DELETE SET NULL"):
        refused(twin, "UPDATE ref SET a = 100 WHERE a = 1")
        refused(twin, "UPDATE ref SET (b, a) = ('x', 100)")
        refused(twin, "DELETE FROM ref WHERE a = 1")
        refused(twin, "INSERT INTO ref VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET a = 100")
        refused(twin, "EXPLAIN ANALYZE DELETE FROM ref")
        refused(twin, "COPY (UPDATE ref SET a = 100 RETURNING a) TO STDOUT")
        refused(twin, "MERGE INTO ref USING (VALUES (1)) AS v(a) ON ref.a = v.a WHEN MATCHED THEN DELETE")
        twin.compare(
            "UPDATE ref SET b = 'new' WHERE a = 1",
            "INSERT INTO ref VALUES (1000, 'new')",
            "INSERT INTO ref VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b",
            "DELETE FROM t WHERE a = 1",
        )
    twin.compare("UPDATE ref SET a = 1001 WHERE a = 1000", "DELETE FROM ref WHERE a = 1001")


def test_a_chain_of_foreign_keys_is_followed(twin: Twin) -> None:
    twin.databases.execute(
        "CREATE TABLE middle (x int PRIMARY KEY REFERENCES ref ON UPDATE CASCADE ON DELETE CASCADE, y int);"
        "INSERT INTO middle SELECT a, a FROM ref"
    )
    try:
        with constraint(twin, "(a) REFERENCES middle ON UPDATE CASCADE"):
            refused(twin, "UPDATE ref SET a = 100 WHERE a = 1")
            refused(twin, "UPDATE middle SET x = 100 WHERE x = 1")
            twin.compare(
                "UPDATE middle SET y = 5 WHERE x = 2", "DELETE FROM t WHERE a = 1", "DELETE FROM ref WHERE a = 1"
            )
        with constraint(twin, "(a) REFERENCES middle ON DELETE SET NULL NOT VALID"):
            refused(twin, "DELETE FROM ref WHERE a = 1")
            twin.compare("BEGIN", "UPDATE ref SET b = 'x' WHERE a = 2", "ROLLBACK")
    finally:
        twin.databases.execute("DROP TABLE middle")


def test_merge_sets_no_key(twin: Twin) -> None:
    merge = "MERGE INTO ref USING (VALUES (2)) AS v(a) ON ref.a = v.a WHEN MATCHED THEN UPDATE SET"
    with constraint(twin, "(a) REFERENCES ref ON UPDATE CASCADE"):
        refused(twin, f"{merge} a = 102")
        refused(twin, f"{merge} b = 'x', a = v.a + 100 WHEN NOT MATCHED THEN DO NOTHING")
        twin.compare(f"{merge} b = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (v.a, 'x')")


def test_a_column_that_is_computed_is_set_by_any_update(twin: Twin) -> None:
    """A generated one, and one that a BEFORE trigger might set."""
    twin.databases.execute(
        "CREATE TABLE computed (a int PRIMARY KEY, b text, x int UNIQUE, y int UNIQUE,"
        "  k int GENERATED ALWAYS AS (length(b)) STORED UNIQUE);"
        "INSERT INTO computed SELECT n, repeat('x', n), n, n FROM generate_series(1, 60) AS n;"
        "CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.x := 100; RETURN NEW; END $$"
    )
    update = "UPDATE computed SET b = repeat('y', 102) WHERE a = 2"
    upsert = "INSERT INTO computed VALUES (2, 'x') ON CONFLICT (a) DO UPDATE SET y = 100"
    merge = "MERGE INTO computed USING (VALUES (2)) AS v(a) ON computed.a = v.a WHEN MATCHED THEN UPDATE SET y = 100"
    try:
        with constraint(twin, "(a) REFERENCES computed (k) ON UPDATE CASCADE"):
            for statement in (update, upsert, merge):
                refused(twin, statement)
        with constraint(twin, "(a) REFERENCES computed (x) ON UPDATE CASCADE"):
            for statement in (update, upsert, merge):
                twin.compare("BEGIN", statement, "ROLLBACK")
            twin.databases.execute(
                "CREATE TRIGGER moves BEFORE UPDATE ON computed FOR EACH ROW EXECUTE FUNCTION moves()"
            )
            twin.proxied(NOTICED)
            for statement in (update, upsert, merge):
                refused(twin, statement)
            twin.compare("BEGIN", "INSERT INTO computed VALUES (1000, repeat('x', 1000), 1000, 1000)", "ROLLBACK")
    finally:
        twin.databases.execute("DROP TABLE computed CASCADE; DROP FUNCTION moves")


def test_a_trigger_of_a_sharded_table_leaves_its_key(twin: Twin) -> None:
    twin.databases.execute(
        "CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.b := 'seen'; RETURN NEW; END $$;"
        "CREATE TRIGGER stays BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stays()"
    )
    try:
        with constraint(twin, "(a) REFERENCES t ON UPDATE CASCADE"):
            twin.compare("UPDATE t SET b = 'x' WHERE a = 1 RETURNING b")
    finally:
        twin.databases.execute("DROP FUNCTION stays CASCADE")


def test_merge_that_changes_the_key_of_a_reference_table(twin: Twin) -> None:
    merge = "MERGE INTO ref USING (VALUES ({}), (2000)) AS v(a) ON ref.a = v.a WHEN MATCHED THEN UPDATE SET a = {}"
    twin.compare(
        merge.format(4, 1004),
        merge.format(5, "v.a + 1000") + " WHEN NOT MATCHED THEN INSERT VALUES (v.a, 'inserted')",
        "MERGE INTO ref USING (VALUES (6), (7), (2000)) AS v(a) ON ref.a = v.a "
        "WHEN MATCHED AND v.a = 2000 THEN DELETE WHEN MATCHED THEN UPDATE SET a = -v.a, b = b || v.a",
        "SELECT * FROM ref ORDER BY a",
    )
    first, *others = twin.databases.rows("SELECT * FROM ref ORDER BY a")
    assert all(other == first for other in others)


@contextmanager
def triggered(twin: Twin, body: str) -> Iterator[None]:
    """A table `seen` that t.b refers to by its column k, with a BEFORE trigger."""
    twin.databases.execute(
        "CREATE TABLE seen (a int PRIMARY KEY, b text, k text UNIQUE, at timestamptz,"
        "  g text GENERATED ALWAYS AS ('row ' || b) STORED UNIQUE);"
        "INSERT INTO seen SELECT n, n, 'row ' || n FROM generate_series(1, 60) AS n;"
        f"CREATE FUNCTION sees() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$;"
        "CREATE TRIGGER sees BEFORE INSERT OR UPDATE ON seen FOR EACH ROW EXECUTE FUNCTION sees()"
    )
    twin.fill()
    try:
        yield
    finally:
        twin.databases.execute("DROP TABLE seen CASCADE; DROP FUNCTION sees")


def copies_of_seen(twin: Twin) -> list[tuple[object, ...]]:
    """Its rows, the same ones on all shards."""
    first, *others = twin.databases.rows("SELECT * FROM seen ORDER BY a")
    assert all(other == first for other in others)
    return first


def test_a_trigger_that_leaves_what_is_referred_to(twin: Twin) -> None:
    """As by far the most do: they set the time of the change."""
    with triggered(twin, "NEW.at := clock_timestamp()"), constraint(twin, "(b) REFERENCES seen (k) ON UPDATE CASCADE"):
        twin.compare(
            *(f"UPDATE seen SET b = 'new {n}' WHERE a = {n}" for n in range(1, 6)),
            "UPDATE seen SET b = b || '!' WHERE a > 50 RETURNING a, b, k, g",
            "INSERT INTO seen VALUES (6, 'x', 'row 6') ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b",
            "INSERT INTO seen VALUES (100, 'x', 'row 100') ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b",
            "INSERT INTO seen SELECT n, 'y' || n FROM generate_series(100, 103) AS n "
            "ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b",
            "SELECT a, b, k, g FROM seen",
            "INSERT INTO t VALUES (1000, 'row 100')",
        )
        assert all(row[3] for row in copies_of_seen(twin) if row[0] in {1, 6, 60, 103})


@pytest.mark.parametrize("action", ["NO ACTION", "CASCADE"])
def test_a_trigger_that_changes_what_is_referred_to(twin: Twin, action: str) -> None:
    """The other shards fire neither it nor the foreign key's action."""
    with (
        triggered(twin, "NEW.k := lower(NEW.b)"),
        constraint(twin, f"(b) REFERENCES seen (k) ON UPDATE {action}"),
    ):
        before, refusals = copies_of_seen(twin), set()
        for number in range(1, 9):
            for statement in (
                f"UPDATE seen SET b = 'NEW{number}' WHERE a = {number}",
                f"INSERT INTO seen VALUES ({number}, 'x') ON CONFLICT (a) DO UPDATE SET b = 'NEW{number}'",
            ):
                [reply] = twin.proxied(statement)
                assert reply.error is not None
                if action == "CASCADE" or reply.error["C"] != "23503":  # of a row on the first shard
                    assert reply.error["C"] == "0A000", reply.error
                    assert reply.error["H"]
                    refusals.add(reply.error["M"].partition(" in ")[0])
        assert copies_of_seen(twin) == before
        assert 'trigger "sees" that changes what foreign keys refer to' in refusals
        if action == "NO ACTION":
            set_both = "UPDATE seen SET b = 'NEW{0}', k = 'new{0}' WHERE a = {0}"
            twin.compare(*map(set_both.format, range(1, 9)), ignore="D")
        assert copies_of_seen(twin) == before


def test_a_generated_column_that_is_referred_to(twin: Twin) -> None:
    with (
        triggered(twin, "NEW.k := lower(NEW.k)"),
        constraint(twin, "(b) REFERENCES seen (g)"),
    ):
        twin.compare(
            *(f"UPDATE seen SET b = 'new{number}' WHERE a = {number}" for number in range(1, 9)),
            "DELETE FROM t WHERE a = 1",
            "UPDATE seen SET b = 'new1' WHERE a = 1",
            "SELECT * FROM seen",
            ignore="D",
        )
        copies_of_seen(twin)


def test_an_upsert_that_keeps_the_key_goes_on(twin: Twin) -> None:
    """ORMs set all columns to EXCLUDED's, also the key that others refer to."""
    with constraint(twin, "(a) REFERENCES t ON UPDATE CASCADE"):
        twin.compare("INSERT INTO t VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET a = EXCLUDED.a, b = EXCLUDED.b")


def test_a_row_that_is_referred_to_on_any_shard_stays(twin: Twin) -> None:
    """Not a conflict of transactions, which a client would try again for ever."""
    with constraint(twin, "(a) REFERENCES ref"):
        twin.compare(
            *(f"DELETE FROM ref WHERE a = {a}" for a in range(1, 9)),
            *(f"UPDATE ref SET a = a + 1000 WHERE a = {a}" for a in range(1, 9)),
            "DELETE FROM ref WHERE b LIKE 'row 1%'",
            "DELETE FROM t WHERE a = 1",
            "DELETE FROM ref WHERE a = 1",
            ignore="D",
        )


def test_a_reference_table_cannot_refer_to_rows_of_one_shard(twin: Twin) -> None:
    """Another try would not help: no row of the other table is ever on all shards."""
    twin.fill()
    with constraint(twin, "(a) REFERENCES t NOT VALID", "ref"):
        states = set()
        for a in range(1, 13):
            for value in ("'x'", "random()::text"):
                *_, reply = twin.proxied(
                    "BEGIN", f"DELETE FROM ref WHERE a = {a}", f"INSERT INTO ref VALUES ({a}, {value})"
                )
                assert reply.error is not None
                states.add(reply.error["C"])
                assert reply.error["C"] == "23503" or "refers to a sharded table" in reply.error["M"]
        assert states == {"0A000", "23503"}  # as the first shard has the other row, or has not


def test_check_reports_it(twin: Twin, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check = Check(tmp_path, capsys)
    config = twin.databases.config(TABLES)
    with constraint(twin, "(a) REFERENCES ref ON UPDATE CASCADE ON DELETE SET NULL NOT VALID"):
        _, text = check(config, "--fix")
        for event in ("UPDATE", "DELETE"):
            assert f'table public.t: foreign key "f" sets key column "a" ON {event}: {event} of "public.ref"' in text
    with constraint(twin, "(a) REFERENCES t ON UPDATE CASCADE NOT VALID"):
        assert "foreign key" not in check(config)[1]

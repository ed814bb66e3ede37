"""INSERT without a column list: its values go to the columns where the proxy has read the key, also beside DDL."""

import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from shardproxy.wire import encode
from tests.support.rawclient import RawClient, Reply
from tests.support.twin import Twin

PATIENCE = 20.0
TABLE = """DROP TABLE t; CREATE TABLE t (gone int, x int, a int PRIMARY KEY, "é ""q" text DEFAULT 'd',
    g int GENERATED ALWAYS AS (a * 2) STORED); ALTER TABLE t DROP COLUMN gone;
    DROP TYPE IF EXISTS pair; CREATE TYPE pair AS (x int, a int)"""
PLAIN = "DROP TABLE t; CREATE TABLE t (x int, a int PRIMARY KEY)"
REORDER = "ALTER TABLE t DROP COLUMN x; ALTER TABLE t ADD COLUMN x int"
EXCHANGE = "ALTER TABLE t RENAME a TO y; ALTER TABLE t RENAME x TO a; ALTER TABLE t RENAME y TO x"

FORMS = [
    "INSERT INTO t VALUES (1, {0}) RETURNING *",
    "INSERT INTO t VALUES (1, {0}), (2, {0}) ON CONFLICT (a) DO NOTHING RETURNING *",
    "  INSERT INTO \"t\" VALUES (1, {0}, 'é', DEFAULT)",
    'insert into public . t AS "new" VALUES(1, {0}) ON CONFLICT (a) DO UPDATE SET x = new.x + 1 RETURNING new.*',
    "/* é */ INSERT INTO /* INSERT INTO u( */ U&\"d!0074\" UESCAPE '!' -- x\n VALUES (1, {0})",
    "INSERT INTO U&\"!0074\" UESCAPE '!' /* /* x */ VALUES */ VALUES (1, {0})",
    "INSERT INTO t(VALUES (1, {0}))",
    "INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (1, {0})",
    "INSERT INTO t DEFAULT VALUES",
    "WITH insert (v) AS (SELECT 7) INSERT INTO t VALUES ((SELECT v FROM insert), {0}) RETURNING x",
    "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, BUFFERS off) INSERT INTO t VALUES (1, {0})",
    "COPY (INSERT INTO t VALUES (1, {0}) RETURNING x, a) TO STDOUT",
    "INSERT INTO t VALUES ({0})",
    "INSERT INTO t VALUES ('x', {0})",
    "/* é */ INSERT INTO t VALUES ('é', {0})",
    "INSERT INTO t AS n VALUES (1, {0}) RETURNING nothing",
    "INSERT INTO t VALUES (1, {0}, 'x', 4)",
    "INSERT INTO t VALUES (1, {0}, 'x', DEFAULT, 5)",
    "INSERT INTO t VALUES (1, {0}), (3, {0}, 'x')",
    "INSERT INTO t VALUES (1, {0}, 'x' || 1 / 0)",
]


def remake(twin: Twin, ddl: str) -> None:
    """Make the tables, and have the proxy forget what it knows of them."""
    twin.databases.execute(ddl)
    assert twin.proxied("ALTER TABLE t RESET (fillfactor)")[0].error is None


@pytest.fixture(autouse=True)
def table(module_twin: Twin) -> None:
    remake(module_twin, TABLE)


def batch(sql: str, *params: bytes, name: bytes = b"") -> bytes:
    bound = encode.bind(b"", name, (), params, ()) + encode.describe(b"P", b"") + encode.execute(b"")
    return encode.parse(name, sql.encode()) + bound + encode.SYNC


def again(name: bytes, *params: bytes) -> bytes:
    return encode.bind(b"", name, (), params, ()) + encode.execute(b"") + encode.SYNC


def test_every_form_is_as_on_one_server(module_twin: Twin) -> None:
    """In both protocols, and when it repeats; positions in errors are those of the client's text."""
    keys = iter(range(1, 1000))
    steps: list[str | bytes] = []
    for form in FORMS:
        steps += [form.format(next(keys)) for _ in range(3)]
        steps += [batch(form.format(next(keys))) for _ in range(3)]
    module_twin.compare(*steps)
    ours, theirs = module_twin.rows()
    assert ours == theirs
    assert len(ours) > 50
    module_twin.compare(*(f"SELECT * FROM t WHERE a = {row[1]}" for row in ours))


def test_prepared_in_every_way(module_twin: Twin) -> None:
    text = "/* é */ INSERT INTO t VALUES ($1, $2)"
    parse = encode.parse(b"p", text.encode()) + encode.describe(b"S", b"p") + encode.SYNC
    module_twin.compare(
        parse, *(again(b"p", b"1", b"%d" % key) for key in (1, 2, 3, 3, 4)),
        *(batch(text, b"1", b"%d" % key) for key in (11, 12, 13, 13)),
        f"PREPARE q (int, int) AS {text}", "EXECUTE q (1, 21)", "EXECUTE q (1, 22)", "EXECUTE q (1, 22)",
        again(b"q", b"1", b"23"), "EXECUTE p (1, 24)", "EXPLAIN EXECUTE p (1, 25)",
        "PREPARE r (int) AS /* é */ INSERT INTO t VALUES ($1, 'x')", "BEGIN", "EXECUTE q (1, 26)", "COMMIT",
        batch("INSERT INTO t VALUES ('x', $1)", b"1"), batch(" INSERT INTO t VALUES ($1, $2, $3) RETURNING no", b"1"),
    )  # fmt: skip
    ours, theirs = module_twin.rows()
    assert ours == theirs


def test_encodings(module_twin: Twin) -> None:
    for encoding in ("LATIN1", "SJIS"):
        module_twin.compare(
            f"SET client_encoding = '{encoding}'", *(f"INSERT INTO t VALUES (1, {key}, 'x')" for key in (1, 2, 3)),
            "TRUNCATE t",
        )  # fmt: skip


def test_the_fields_of_a_composite_value_are_as_many_values(module_twin: Twin) -> None:
    """The value after them was taken for the second column's, which is the key."""
    for insert in (
        "INSERT INTO t VALUES ((ROW(1, 2)::pair).*, 'x')",
        "INSERT INTO t (x, a) VALUES ((ROW(1, 2)::pair).*)",
    ):
        [reply] = module_twin.proxied(insert)
        assert reply.errors[0]["C"] == "0A000"


def test_what_is_prepared_follows_the_columns(module_twin: Twin) -> None:
    """Also in a session whose plan another has made anew."""
    remake(module_twin, PLAIN)
    text = "INSERT INTO t VALUES ($1, $2)"
    with RawClient(module_twin.dsn) as one, RawClient(module_twin.dsn) as other:
        for client in (one, other):
            assert client.exchange(encode.parse(b"p", text.encode()) + encode.SYNC).order == "1Z"
            assert client.query(f"PREPARE q (int, int) AS {text}").tags == ["PREPARE"]
        for key in range(1, 9):
            assert [other, one][key % 2].exchange(again(b"p", b"%d" % (key + 1000), b"%d" % key)).error is None
        for statement in REORDER.split("; "):
            assert one.query(statement).error is None
        for key in range(11, 31):
            for number, client in enumerate((one, other)):
                at = key + number * 100
                assert client.exchange(again(b"p", b"%d" % at, b"%d" % (at + 1000))).error is None
                assert client.query(f"EXECUTE q ({at + 200}, {at + 1200})").error is None
        rows = sorted(row for rows in module_twin.databases.rows("SELECT a, x FROM t") for row in rows)
        assert len(rows) == 88
        assert all(x is None if a < 11 else x == a + 1000 for a, x in rows)
        assert all(one.query(f"SELECT x FROM t WHERE a = {a}").tags == ["SELECT 1"] for a, _ in rows)


def query(client: RawClient, x: int, a: int) -> Reply:
    return client.query(f"INSERT INTO t VALUES ({x}, {a})")


def unnamed(client: RawClient, x: int, a: int) -> Reply:
    return client.exchange(batch("INSERT INTO t VALUES ($1, $2)", b"%d" % x, b"%d" % a))


def named(client: RawClient, x: int, a: int) -> Reply:
    return client.exchange(again(b"p", b"%d" % x, b"%d" % a))


def executed(client: RawClient, x: int, a: int) -> Reply:
    return client.query(f"EXECUTE q ({x}, {a})")


Way = Callable[[RawClient, int, int], Reply]


@pytest.mark.parametrize("way", [query, unnamed, named, executed])
@pytest.mark.parametrize("waits", [False, True], ids=["after", "waits"])
@pytest.mark.parametrize("ddl", [REORDER, EXCHANGE, "ALTER TABLE t RENAME x TO y", "ALTER TABLE t ADD y int"])
def test_ddl_that_did_not_pass_through_the_proxy(module_twin: Twin, ddl: str, way: Way, *, waits: bool) -> None:
    """The race: the proxy knows the columns' old order, and the statement runs after DDL that changes it."""
    remake(module_twin, PLAIN)
    with RawClient(module_twin.dsn) as client:
        assert client.exchange(encode.parse(b"p", b"INSERT INTO t VALUES ($1, $2)") + encode.SYNC).order == "1Z"
        client.query("PREPARE q (int, int) AS INSERT INTO t VALUES ($1, $2)")
        for key in (1, 2, 3, 4):
            assert way(client, key + 1000, key).error is None
        changes = [psycopg.connect(shard) for shard in module_twin.databases.shards]
        for change in changes:
            change.execute(ddl.encode())
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(way(client, 1005, 5)))
        if waits:
            thread.start()
            deadline = time.monotonic() + PATIENCE
            while not module_twin.databases.oracle_rows("SELECT FROM pg_locks WHERE NOT granted"):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        for change in changes:
            change.commit()
            change.close()
        if not waits:
            thread.start()
        thread.join(PATIENCE)
        [reply] = replies
    module_twin.proxied("ALTER TABLE t RESET (fillfactor)")
    keys = [key for rows in module_twin.databases.rows("SELECT a FROM t WHERE a IN (5, 1005)") for (key,) in rows]
    if "x TO y" in ddl and (waits or reply.error):  # or else the second was over for which names are kept
        assert reply.errors[0]["C"] == "40001"
        assert keys == []
        # The next one sees the columns as they are.
        assert module_twin.proxied("INSERT INTO t VALUES (1005, 5)", "SELECT y FROM t WHERE a = 5")[1].rows == [
            [b"1005"]
        ]
    else:
        assert reply.error is None
        [[found]] = module_twin.proxied("SELECT a FROM t WHERE a IN (5, 1005)")[0].rows
        assert [b"%d" % key for key in keys] == [found]


DEFAULTED = "DROP TABLE t; CREATE TABLE t (x int, a int DEFAULT 1)"
INSERTS: dict[str, str | bytes] = {
    "query": "INSERT INTO t (x) VALUES (7)",
    "named DEFAULT": "INSERT INTO t VALUES (7, DEFAULT) RETURNING x",
    "prepared": batch("INSERT INTO t (x) VALUES ($1)", b"7"),
    "in a transaction": "BEGIN; INSERT INTO t (x) VALUES (7); COMMIT",
}


@pytest.mark.parametrize("insert", INSERTS.values(), ids=INSERTS)
@pytest.mark.parametrize("ddl", ["a SET DEFAULT {}", "a SET DEFAULT length(repeat('x', {}))", "x SET DEFAULT {}"])
def test_the_default_of_the_key_changes_while_an_insert_waits(module_twin: Twin, insert: str | bytes, ddl: str) -> None:
    """The race: the row was placed by the default that the key had, and stored with the one that it has."""
    remake(module_twin, DEFAULTED)
    module_twin.proxied("INSERT INTO t VALUES (0, 1)")
    [home] = (number for number, rows in enumerate(module_twin.databases.rows("SELECT FROM t")) if rows)
    for other in range(2, 20):
        module_twin.proxied(f"INSERT INTO t VALUES (0, {other})")
        if module_twin.databases.rows(f"SELECT FROM t WHERE a = {other}")[home] == []:
            break
    module_twin.proxied("DELETE FROM t WHERE a = 1", f"DELETE FROM t WHERE a = {other}")
    with RawClient(module_twin.dsn) as client:
        message = insert if isinstance(insert, bytes) else encode.query(insert.encode())
        assert client.exchange(message).error is None
        assert client.exchange(message).error is None
        changes = [psycopg.connect(shard) for shard in module_twin.databases.shards]
        for change in changes:
            change.execute(f"ALTER TABLE t ALTER {ddl.format(other)}".encode())
        replies: list[Reply] = []
        thread = threading.Thread(target=lambda: replies.append(client.exchange(message)))
        thread.start()
        deadline = time.monotonic() + PATIENCE
        while not module_twin.databases.oracle_rows("SELECT FROM pg_locks WHERE NOT granted"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for change in changes:
            change.commit()
            change.close()
        thread.join(PATIENCE)
        [reply] = replies
        client.query("ROLLBACK")
        if ddl.startswith("x"):
            assert reply.error is None
            assert client.query("SELECT x FROM t WHERE a = 1").rows == [[b"7"]] * 3
            return
        assert reply.errors[0]["C"] == "40001"
        assert client.query("SELECT x FROM t WHERE a = 1").rows == [[b"7"]] * 2
        again = client.exchange(message)
        client.query("ROLLBACK")
        assert (again.errors[0]["C"] if again.errors else None) == ("0A000" if "length" in ddl else None)
        found = [] if again.errors else [[b"7"]]
        assert client.query(f"SELECT x FROM t WHERE a = {other}").rows == found
        assert sum(map(len, module_twin.databases.rows("SELECT FROM t"))) == 2 + len(found)

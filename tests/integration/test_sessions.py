"""What a session answers, message by message, held against one PostgreSQL."""

import struct
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from shardproxy.wire import encode
from shardproxy.wire.constants import B, F
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers
from tests.support.rawclient import RawClient
from tests.support.twin import Step, Twin

S = encode.SYNC
FLUSH = encode.FLUSH
OPENED = (
    "CREATE FUNCTION opened(c refcursor) RETURNS refcursor LANGUAGE plpgsql AS "
    "$$ BEGIN OPEN c FOR SELECT a FROM ref ORDER BY a; RETURN c; END $$"
)


def parse(sql: str, name: str = "", oids: tuple[int, ...] = ()) -> bytes:
    return encode.parse(name.encode(), sql.encode(), oids)


def bind(
    *params: str | None, name: str = "", portal: str = "", formats: tuple[int, ...] = (), results: tuple[int, ...] = ()
) -> bytes:
    values = [None if param is None else param.encode() for param in params]
    return encode.bind(portal.encode(), name.encode(), formats, values, results)


def execute(rows: int = 0, portal: str = "") -> bytes:
    return encode.execute(portal.encode(), rows)


def describe(kind: str, name: str = "") -> bytes:
    return encode.describe(kind.encode(), name.encode())


def close(kind: str, name: str = "") -> bytes:
    return encode.close(kind.encode(), name.encode())


def run(sql: str, *params: str | None) -> bytes:
    """All that a driver sends for one statement, without Sync."""
    return parse(sql) + bind(*params) + describe("P") + execute()


@pytest.fixture(scope="module")
def twin(servers: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers, run_proxy_for_module) as twin:
        twin.fill()
        twin.databases.execute(OPENED)
        yield twin


SIMPLE: dict[str, list[Step]] = {
    "empty query": [""],
    "only a semicolon": [";"],
    "only a comment": ["-- nothing"],
    "several empty statements": [";;SELECT 1;;"],
    "one row": ["SELECT 1 AS x, 'y'::text"],
    "a value of the key": ["SELECT * FROM t WHERE a = 7"],
    "all shards": ["SELECT a FROM t"],
    "syntax error": ["SELEC 1", "SELECT 1"],
    "syntax error behind a statement": ["SELECT 1; SELEC 2"],
    "syntax error behind other characters": ["SELECT 'ä€😀'; SELECT 1 +"],
    "what the grammar refuses otherwise than as a syntax error": [
        "SELECT E'\\u12'",
        "SELECT U&'\\00zz'",
        "SELECT E'\\uD800'",
        "CREATE ASSERTION x CHECK (true)",
        "SELECT * FROM t LIMIT 1, 2",
        "SELECT 1 FETCH FIRST 1 ROWS WITH TIES",
        "SELECT 1::float(99)",
        "ALTER TABLE a.b.c.d ADD x int",
        "SELECT 1; GRANT SELECT (a), FOO ON t TO x",
        "BEGIN",
        "SELECT b FROM t WHERE a = 1",
        "SELECT E'\\u12'",
        "SELECT 1",
        "ROLLBACK",
        parse("SELECT 1") + parse("SELECT E'\\u12'", "p") + S,
        run("SELECT b FROM t WHERE a = 1") + parse("VALUES (1) FETCH FIRST 1 ROWS WITH TIES") + S,
    ],
    "a backslash where standard_conforming_strings says nothing": [
        "SET standard_conforming_strings = off",
        r"""SELECT E'a\\b', $$a\b$$, 1 AS "a\b" -- \'""",
        r"INSERT INTO t VALUES (1001, E'a\\b\'c'); SELECT b, 'it''s' FROM t WHERE a = 1001 /* \ */",
        "DELETE FROM t WHERE a = 1001",
        r"SET standard_conforming_strings = on; SELECT E'\\'",
    ],
    "a statement that is too deep": ["SELECT " + "+".join(["1"] * 100_000), "SELECT 1"],
    "unknown table": ["SELECT * FROM nobody"],
    "unknown table in the second statement": ["SELECT 1; SELECT * FROM nobody; SELECT 2"],
    "unknown column with hint": ["SELECT bb FROM t WHERE a = 1"],
    "a failing function": ["SELECT 1/0"],
    "error position behind other characters": ["SELECT 'ä€😀'; SELECT nix FROM t WHERE a = 1"],
    "several statements": ["SELECT 1; SELECT 2; SELECT a FROM t WHERE a < 4"],
    "insert on one shard": ["INSERT INTO t VALUES (1001, 'x')", "DELETE FROM t WHERE a = 1001"],
    "duplicate key": ["INSERT INTO t VALUES (1, 'x')"],
    "several are a transaction": [
        "INSERT INTO t VALUES (1001), (1002); SELECT 1/0; SELECT 2",
        "SELECT a FROM t WHERE a > 1000",
    ],
    "error before a commit among several": [
        "BEGIN; INSERT INTO t VALUES (1001); COMMIT; INSERT INTO t VALUES (1002); SELECT 1/0",
        "SELECT a FROM t WHERE a IN (1001, 1002)",
        "DELETE FROM t WHERE a = 1001",
    ],
    "a transaction left open": ["SELECT 1; BEGIN; INSERT INTO t VALUES (1001)", "SELECT count(1) FROM ref", "ROLLBACK"],
    "options of a BEGIN among several": ["BEGIN READ ONLY; INSERT INTO t VALUES (1001)", "ROLLBACK"],
    "commit among several without begin": [
        "INSERT INTO t VALUES (1001); COMMIT; SELECT 1/0",
        "SELECT a FROM t WHERE a = 1001",
        "DELETE FROM t WHERE a = 1001",
    ],
    "rollback among several without begin": [
        "INSERT INTO t VALUES (1001); ROLLBACK; SELECT 1",
        "SELECT a FROM t WHERE a = 1001",
    ],
    "savepoint among several": ["SAVEPOINT x; SELECT 1"],
    "notice": ["SELECT say('hello')"],
    "notices of several statements": ["SELECT say('a'); SELECT say('b')"],
    "no transaction block for it": ["SELECT 1; VACUUM ref"],
    "set and show": ["SET work_mem = '12MB'; SHOW work_mem", "RESET work_mem; SHOW work_mem"],
    "set is rolled back": ["SET work_mem = '12MB'; SELECT 1/0", "SHOW work_mem"],
    "unknown setting": ["SET nobody_knows = 1"],
    "two copies out": ["COPY (SELECT 1) TO STDOUT; COPY (SELECT 2) TO STDOUT"],
    "bytes that are no UTF-8": [encode.query(b"SELECT '\xff'")],
    "NUL in the middle": [encode.message(F.QUERY, b"SELECT 1\0 + 1\0")],
    "no terminator": [encode.message(F.QUERY, b"SELECT 1"), "SELECT 1"],
    "empty payload": [encode.message(F.QUERY, b""), "SELECT 1"],
    "malformed in a transaction": ["BEGIN", encode.message(F.QUERY, b"x"), "SELECT 1", "ROLLBACK"],
}  # fmt: skip


@pytest.mark.newest
@pytest.mark.parametrize("steps", SIMPLE.values(), ids=SIMPLE.keys())
def test_simple_queries(twin: Twin, steps: list[Step]) -> None:
    twin.compare(*steps)


EXTENDED: dict[str, list[Step]] = {
    "EXECUTE and DEALLOCATE of what Parse has made": [
        *(parse(f"SELECT b FROM {table} WHERE a = $1", f"s {table}", (23,)) + S for table in ("t", "ref", "one")),
        *(f'EXECUTE "s {table}"({key})' for table in ("t", "ref", "one") for key in ("3", "'4'", "2 + 3", "NULL")),
        'EXPLAIN (COSTS OFF) EXECUTE "s one"(3)',
        run('EXECUTE "s one"(3)') + S,
        parse('EXECUTE "s t"(3)', "e") + describe("S", "e") + S,
        bind(name="e") + describe("P") + execute() + S,
        'EXECUTE "s t"(3, 4)',
        'EXECUTE "s t"(\'x\')',
        'DEALLOCATE "s t"',
        'EXECUTE "s t"(3)',
        bind("3", name="s t") + execute() + S,
        "DEALLOCATE ALL",
        'EXECUTE "s ref"(3)',
    ],
    "EXECUTE of a change that Parse has made": [
        parse("INSERT INTO t VALUES ($1, $2)", "i") + S,
        parse("UPDATE t SET b = $2 WHERE a = $1", "u") + S,
        "BEGIN",
        *(f"EXECUTE i({key}, 'it''s')" for key in range(1001, 1009)),
        *(f"EXECUTE u('{key}', NULL)" for key in range(1001, 1005)),
        "SELECT a, b FROM t WHERE a > 1000",
        "ROLLBACK",
    ],
    "Bind, Describe and Close of what PREPARE has made": [
        "PREPARE q(int, text) AS SELECT b FROM t WHERE a = $1 AND b <> $2",
        *(bind(str(key), "", name="q") + describe("P") + execute() + S for key in range(1, 9)),
        *(f"EXECUTE q({key}, '')" for key in range(1, 9)),
        describe("S", "q") + S,
        "EXECUTE q(3)",
        close("S", "q") + S,
        "EXECUTE q(3, '')",
        run("PREPARE q AS SELECT b FROM one WHERE a = $1") + S,
        bind("3", name="q") + describe("P") + execute() + S,
    ],
    "PREPARE of a change": [
        "PREPARE q AS INSERT INTO t VALUES ($1, $2)",
        "BEGIN",
        *(f"EXECUTE q({key}, 'x')" for key in range(1001, 1009)),
        "SELECT a, b FROM t WHERE a > 1000",
        "ROLLBACK",
    ],
    "PREPARE that fails": [
        "PREPARE q AS SELECT nobody",
        "PREPARE q(int AS SELECT 1",
        "PREPARE q(nix) AS SELECT 1",
        "EXECUTE q",
    ],
    "PREPARE of a catalog": [
        "PREPARE q AS SELECT nspname FROM pg_namespace WHERE nspname = 'public'",
        "EXECUTE q",
        "PREPARE r AS SELECT nspname, nobody FROM pg_namespace",
    ],
    "a name that is taken": [
        "PREPARE q AS SELECT 1",
        parse("SELECT 2", "q") + S,
        parse("SELECT 2", "p") + S,
        "PREPARE p AS SELECT 1",
        "PREPARE q AS SELECT 1",
        "SELECT name FROM pg_prepared_statements",
    ],
    "FETCH and MOVE of a portal": [
        "BEGIN",
        parse("SELECT a FROM ref ORDER BY a") + bind(portal="c") + S,
        "FETCH 2 FROM c",
        "MOVE 2 FROM c",
        execute(2, portal="c") + S,
        run("FETCH 1 FROM c") + S,
        "SELECT name FROM pg_cursors",
        "DECLARE c CURSOR FOR SELECT 1",
        "ROLLBACK",
    ],
    "CLOSE of a portal": [
        "BEGIN",
        parse("SELECT a FROM ref ORDER BY a") + bind(portal="c") + bind(portal="d") + S,
        "CLOSE c",
        execute(2, portal="d") + S,
        "CLOSE d",
        execute(2, portal="d") + S,
        "ROLLBACK",
    ],
    "CLOSE ALL of portals": [
        "BEGIN",
        parse("SELECT a FROM ref ORDER BY a") + bind(portal="c") + execute(1, portal="c") + S,
        "CLOSE ALL",
        execute(2, portal="c") + S,
        "ROLLBACK",
    ],
    "a portal of a sharded table as a cursor": [
        "BEGIN",
        parse("SELECT a FROM t WHERE a = 3") + bind(portal="c") + S,
        "MOVE FORWARD 1 FROM c",
        "FETCH 1 FROM c",
        "ROLLBACK",
    ],
    "a portal named as a cursor": [
        "BEGIN",
        "DECLARE d CURSOR FOR SELECT a FROM ref ORDER BY a",
        describe("P", "d") + execute(2, portal="d") + S,
        parse("SELECT 1") + bind(portal="d") + S,
        "ROLLBACK",
    ],
    "a cursor that a rollback has closed": [
        "BEGIN",
        "SAVEPOINT s",
        "DECLARE d CURSOR FOR SELECT 1",
        "ROLLBACK TO s",
        parse("SELECT 1") + bind(portal="d") + S,
        "DECLARE d CURSOR FOR SELECT 2",
        "COMMIT",
        "DECLARE d CURSOR FOR SELECT 1; FETCH d",
        parse("SELECT 1") + bind(portal="d") + S,
        "DECLARE d CURSOR WITH HOLD FOR SELECT 1; SELECT 1/0",
        parse("SELECT 1") + bind(portal="d") + S,
    ],
    "cursors of one name on several shards": [
        "BEGIN",
        "DECLARE d CURSOR FOR SELECT a FROM t WHERE a = 1",
        "SAVEPOINT s",
        "DECLARE d CURSOR FOR SELECT a FROM t WHERE a = 2",
        "ROLLBACK TO s",
        "DECLARE d CURSOR FOR SELECT a FROM t WHERE a = 3",
        "ROLLBACK TO s",
        "FETCH ALL FROM d",
        "ROLLBACK",
    ],
    "a cursor that a function has opened": [
        "BEGIN",
        "SELECT opened('mine'), opened(NULL)",
        "FETCH 2 FROM mine",
        "MOVE 1 FROM mine",
        'FETCH 2 FROM "<unnamed portal 1>"',
        describe("P", "mine") + execute(2, portal="mine") + S,
        run("FETCH 1 FROM mine") + S,
        'CLOSE "<unnamed portal 1>"',
        close("P", "mine") + S,
        "FETCH 1 FROM mine",
        "ROLLBACK",
    ],
    "a cursor that nothing has opened": [
        "FETCH 1 FROM mine",
        "BEGIN",
        "SELECT b FROM t WHERE a = 1",
        "CLOSE mine",
        "MOVE 1 FROM mine",
        "ROLLBACK",
        execute(1, portal="mine") + S,
    ],
    "a finished SELECT again": [run("SELECT 1") + execute() + execute(1) + S],
    "a finished change again": [run("UPDATE ref SET b = 'x' WHERE a < 3") + execute() + S],
    "a finished RETURNING again": [
        "BEGIN",
        run("UPDATE ref SET b = 'x' WHERE a < 3 RETURNING a") + execute() + S,
        run("INSERT INTO ref VALUES (901) RETURNING a") + execute() + S,
        run("UPDATE t SET b = 'x' WHERE a = 3 RETURNING a") + execute() + S,
        run("DELETE FROM t WHERE a = 3 RETURNING a") + execute(1) + S,
        "ROLLBACK",
    ],
    "a RETURNING in pieces, and again": [
        "BEGIN",
        run("DELETE FROM ref WHERE a < 4 RETURNING a") + S,
        parse("DELETE FROM ref WHERE a < 8 RETURNING a") + bind() + execute(2) + execute(2) + execute(2) + S,
        "ROLLBACK",
    ],
    "a finished SHOW, EXPLAIN or FETCH again": [
        run("SHOW work_mem") + execute() + S,
        run("EXPLAIN (COSTS OFF) SELECT 1") + execute() + S,
        "BEGIN; DECLARE c CURSOR FOR SELECT a FROM ref ORDER BY a",
        run("FETCH 2 FROM c") + execute() + S,
        run("MOVE 2 FROM c") + execute() + S,
        "ROLLBACK",
    ],
    "VACUUM before Close or Flush": [
        run("VACUUM ref") + close("P") + S,
        run("VACUUM one") + FLUSH + S,
        run("DISCARD ALL") + close("P") + S,
        parse("VACUUM t", "v") + describe("S", "v") + S,
        bind(name="v") + execute() + close("S", "v") + S,
    ],
    "VACUUM in a pipeline": [
        run("VACUUM ref") + run("SELECT 1") + S,
    ],
    "VACUUM after COMMIT in a pipeline": [run("BEGIN") + run("SELECT 1") + run("COMMIT") + run("VACUUM ref") + S],
    "portals of a failed transaction": [
        "BEGIN",
        parse("SELECT 1 / (a - 3) FROM ref ORDER BY a") + bind(portal="p") + execute(portal="p") + S,
        execute(portal="p") + S,
        describe("P", "p") + S,
        execute(portal="nobody") + S,
        close("P", "p") + S,
        execute(portal="p") + S,
        "ROLLBACK",
        execute(portal="p") + S,
    ],
    "a portal that another statement fails": [
        "BEGIN",
        parse("SELECT a FROM ref ORDER BY a") + bind(portal="p") + execute(1, portal="p") + S,
        "SELECT 1 / 0",
        execute(portal="p") + S,
        describe("P", "p") + S,
        "ROLLBACK",
    ],
    "only Sync": [S],
    "Syncs": [S, S],
    "one statement": [run("SELECT 1 AS x") + S],
    "empty statement": [run("") + S],
    "empty statement described": [parse("", "e") + describe("S", "e") + S],
    "parameter of the key": [run("SELECT * FROM t WHERE a = $1", "7") + S],
    "NULL parameter": [run("SELECT * FROM t WHERE a = $1", None) + S],
    "all shards": [run("SELECT a FROM t") + S],
    "Describe of a statement": [parse("SELECT a, b FROM t WHERE a = $1", "p") + describe("S", "p") + S],
    "Describe of BEGIN": [parse("BEGIN", "p") + describe("S", "p") + S],
    "Describe of an INSERT": [parse("INSERT INTO t VALUES ($1, $2)", "p") + describe("S", "p") + S],
    "Describe of a portal": [parse("SELECT a, b FROM t WHERE a = $1") + bind("1") + describe("P") + S],
    **{
        f"a portal described before {what}, {sql}": [
            parse(sql, "p") + bind(*values, name="p") + describe("P") + bad + S
        ]
        for sql, values in (
            ("SELECT a, b FROM t WHERE a = $1", ("1",)),
            ("SELECT a FROM t", ()),
            ("UPDATE ref SET b = b WHERE a = $1 RETURNING b", ("1",)),
            ("SHOW work_mem", ()),
        )
        for what, bad in {
            "an unknown portal": execute(portal="unknown"),
            "an unknown statement": bind(name="unknown"),
            "bad SQL": execute() + parse("SELEC"),
            "a parameter too many": execute() + bind("1", "2", "3", name="p"),
        }.items()
    },
    "Flush": [parse("SELECT 1") + FLUSH + bind() + FLUSH + describe("P") + FLUSH + execute() + FLUSH + S],
    "Parse and Sync": [parse("SELECT $1::int", "p") + S, bind("3", name="p") + execute() + S],
    "named statement twice": [
        parse("SELECT b FROM t WHERE a = $1", "p")
        + bind("1", name="p") + execute() + bind("2", name="p") + execute() + S,
        bind("3", name="p") + execute() + S,
    ],
    "Parse of bad SQL": [run("SELEC 1") + S, "SELECT 1"],
    "Parse of an unknown table": [run("SELECT * FROM nobody") + S, bind() + S],
    "Parse of two statements": [parse("SELECT 1; SELECT 2") + S],
    "Parse of a name that is there": [parse("SELECT 1", "p") + S, parse("SELECT 2", "p") + S],
    "Parse of a name that failed": [parse("SELECT nix", "p") + S, parse("SELECT 2", "p") + S],
    "Parse of a bad type": [parse("SELECT $1", "p", (999999,)) + S],
    "unknown statement": [bind(name="nobody") + execute() + S],
    "no unnamed statement": [bind() + S],
    "unknown statement described": [describe("S", "nobody") + S],
    "unknown portal": [execute(portal="nobody") + S],
    "unknown portal described": [describe("P", "nobody") + S],
    "closing nobody": [close("S", "nobody") + close("P", "nobody") + S],
    "closed statement": [parse("SELECT 1", "p") + close("S", "p") + bind(name="p") + S],
    "closed and parsed again": [
        parse("SELECT 1", "p") + bind(name="p") + execute() + close("S", "p") + S,
        parse("SELECT 2", "p") + bind(name="p") + execute() + S,
    ],
    "closed portal": [parse("SELECT 1") + bind(portal="c") + close("P", "c") + execute(portal="c") + S],
    "too few parameters": [parse("SELECT $1::int") + bind() + execute() + S],
    "too many parameters": [parse("SELECT $1::int") + bind("1", "2") + S],
    "bad parameter": [run("SELECT * FROM ref WHERE a = $1", "x") + S],
    "bad parameter, Bind alone": [parse("SELECT $1::int") + bind("x") + S],
    **{
        f"a parameter of format {code}, {sql}": [
            parse(sql) + bind("5", formats=(code,)) + describe("P") + execute(rows) + S for rows in (0, 1)
        ]
        for code in (-32768, -1, 2, 32767)
        for sql in ("SELECT b FROM t WHERE a = $1", "UPDATE t SET b = 'y' WHERE a = $1", "SELECT $1::int + $2::int")
    },
    **{
        f"one parameter of format {code}, {value}": [
            parse(sql, "p") + bind("5", value, name="p", formats=(0, code)) + execute() + S,
            run("SELECT 1") + S,
        ]
        for code in (-1, 2)
        for value in (None, "6")
        for sql in ("SELECT b FROM t WHERE a = $1 AND b = $2",)
    },
    "rows of a format that is none": [
        parse("SELECT b FROM t WHERE a = $1") + bind("5", results=(code,)) + execute() + S for code in (-32768, -1, 2)
    ],
    "a failing statement": [run("SELECT 1/0") + run("SELECT 2") + S, run("SELECT 3") + S],
    "an error skips up to Sync": [
        run("SELECT 1") + parse("SELEC") + bind() + execute() + close("S", "p") + FLUSH + S,
        "SELECT 1",
    ],
    "a batch is a transaction": [
        run("INSERT INTO t VALUES (1001)") + run("INSERT INTO t VALUES (1002)") + run("SELECT 1/0") + S,
        "SELECT a FROM t WHERE a IN (1001, 1002)",
    ],
    "a batch that succeeds": [
        run("INSERT INTO t VALUES (1001)") + run("INSERT INTO t VALUES (1002)") + S,
        "DELETE FROM t WHERE a = 1001; DELETE FROM t WHERE a = 1002",
    ],
    "BEGIN and COMMIT in a batch": [
        run("BEGIN") + run("INSERT INTO t VALUES (1001)") + run("COMMIT") + run("SELECT 1/0") + S,
        "DELETE FROM t WHERE a = 1001",
    ],
    "BEGIN in one batch, COMMIT in another": [
        run("BEGIN") + S,
        run("INSERT INTO t VALUES (1001)") + S,
        run("SELECT 1/0") + S,
        run("SELECT 1") + S,
        run("COMMIT") + S,
        "SELECT a FROM t WHERE a = 1001",
    ],
    "described in a failed transaction": [
        parse("SELECT 1", "p") + parse("INSERT INTO one VALUES (1001)", "i") + parse("SELECT * FROM t", "all") + S,
        "BEGIN",
        "SET work_mem = '1MB'",
        "SELECT 1/0",
        describe("S", "p") + S,
        describe("S", "i") + S,
        describe("S", "all") + S,
        bind(name="p") + S,
        "ROLLBACK",
        describe("S", "p") + S,
        "BEGIN",
        "SAVEPOINT x",
        "SELECT 1/0",
        describe("S", "p") + S,
        describe("S", "i") + S,
        "ROLLBACK TO x",
        describe("S", "p") + S,
        "ROLLBACK",
    ],
    "DEALLOCATE in a failed transaction": [
        parse("SELECT 1", "p") + S, "BEGIN", "SELECT 1/0", "DEALLOCATE p", "ROLLBACK", bind(name="p") + execute() + S,
    ],
    "a portal executed in a failed transaction": [
        "BEGIN",
        parse("SELECT g FROM generate_series(1, 5) g") + bind(portal="c") + execute(2, "c") + S,
        "SELECT 1/0",
        execute(2, "c") + S,
        "ROLLBACK",
    ],
    "a portal described in a failed transaction": [
        "BEGIN", parse("SELECT a FROM t") + bind(portal="c") + S, "SELECT 1/0", describe("P", "c") + S, "ROLLBACK",
    ],
    "cursors in a failed transaction": [
        "BEGIN",
        "DECLARE held CURSOR WITH HOLD FOR SELECT generate_series(1, 5)",
        "COMMIT",
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT generate_series(1, 5)",
        "SELECT 1/0",
        execute(1, "held") + S,
        describe("P", "held") + S,
        execute(1, "c") + S,
        "ROLLBACK",
        "FETCH 1 FROM held",
        "CLOSE held",
    ],
    "simple query in a failed batch": [parse("SELEC") + encode.query(b"SELECT 2") + S],
    "several described and executed in another order": [
        parse("SELECT 1 AS x", "p") + parse("SELECT 'y' AS y", "q")
        + bind(name="p", portal="c") + describe("P", "c") + bind(name="q", portal="d") + describe("P", "d")
        + execute(portal="d") + execute(portal="c") + S,
    ],
    "a portal executed again": [
        parse("SELECT a FROM t WHERE a = 1") + bind(portal="c") + execute(portal="c") + execute(portal="c") + S,
    ],
    "a change executed again": [
        parse("INSERT INTO ref VALUES (1001, 'x')") + bind(portal="c") + execute(portal="c") + execute(portal="c") + S,
        "SELECT count(1) FROM ref WHERE a = 1001",
    ],
    "a portal of an earlier batch": [parse("SELECT 1") + bind(portal="c") + S, execute(portal="c") + S],
    "a portal in a transaction": ["BEGIN", parse("SELECT 1") + bind(portal="c") + S, execute(portal="c") + S, "COMMIT"],
    "a portal behind COMMIT": ["BEGIN", parse("SELECT 1") + bind(portal="c") + S, "COMMIT", execute(portal="c") + S],
    "a portal twice": [parse("SELECT 1") + bind(portal="c") + bind(portal="c") + S],
    "row limit": [
        "BEGIN",
        parse("SELECT g FROM generate_series(1, 5) g") + bind(portal="c") + describe("P", "c") + execute(2, "c") + S,
        execute(2, "c") + S,
        execute(2, "c") + S,
        execute(2, "c") + S,
        "COMMIT",
    ],
    "row limit, unnamed portal": [
        "BEGIN",
        parse("SELECT g FROM generate_series(1, 5) g") + bind() + execute(2) + S,
        execute(2) + S,
        execute(0) + S,
        "COMMIT",
    ],
    "row limit in one batch": [
        parse("SELECT g FROM generate_series(1, 5) g") + bind() + execute(2) + execute(2) + execute(2) + S,
    ],
    "row limit of all rows": [parse("SELECT 1") + bind() + execute(1) + S],
    "row limit for SET": [parse("SET work_mem = '12MB'") + bind() + execute(1) + S, "SHOW work_mem"],
    "row limit for BEGIN": [parse("BEGIN") + bind() + execute(1) + S, "ROLLBACK"],
    "row limit for a change": [
        "BEGIN",
        parse("UPDATE ref SET b = 'x' WHERE a < 6 RETURNING 1") + bind(portal="c") + execute(2, "c") + S,
        "SELECT count(1) FROM ref WHERE b = 'x'",
        execute(0, "c") + S,
        "ROLLBACK",
    ],
    "a portal name used again": [
        "BEGIN",
        parse("SELECT g FROM generate_series(1, 5) g", "p") + bind(name="p", portal="c") + execute(2, "c") + S,
        close("P", "c") + bind(name="p", portal="c") + execute(2, "c") + S,
        "COMMIT",
    ],
    "binary results": [
        parse("SELECT a FROM t WHERE a = $1") + encode.bind(b"", b"", (), [b"7"], (1,)) + describe("P") + execute() + S,
    ],
    "binary parameter of the key": [
        parse("SELECT a FROM t WHERE a = $1") + encode.bind(b"", b"", (1,), [struct.pack("!i", 7)], ()) + execute() + S,
    ],
    "too few parameters for a named statement": [
        parse("SELECT a FROM t WHERE a = $1", "p") + S,
        bind(name="p") + execute() + S,
        bind("7", "8", name="p") + execute() + S,
        bind("7", name="p") + execute() + S,
    ],
    "an error in a named portal": [
        "SET log_parameter_max_length_on_error = -1",
        "BEGIN",
        parse("SELECT a / 0 FROM t WHERE a < $1", "p") + bind("70", name="p", portal="c") + S,
        execute(2, "c") + S,
        "ROLLBACK",
        "RESET log_parameter_max_length_on_error",
    ],
    "DEALLOCATE by SQL": [parse("SELECT 1", "p") + S, "DEALLOCATE p", bind(name="p") + S],
    "DEALLOCATE ALL": [parse("SELECT 1", "p") + S, "DEALLOCATE ALL", bind(name="p") + S, parse("SELECT 1", "p") + S],
    "DISCARD ALL": [parse("SELECT 1", "p") + S, "DISCARD ALL", bind(name="p") + S, parse("SELECT 1", "p") + S],
    "DISCARD ALL in a batch": [parse("SELECT 1", "p") + run("DISCARD ALL") + S, parse("SELECT 1", "p") + S],
    "malformed Parse": [encode.message(F.PARSE, b"p") + run("SELECT 1") + S, run("SELECT 2") + S],
    "malformed Bind": [parse("SELECT 1") + encode.message(F.BIND, b"\0\0\0\1") + execute() + S, run("SELECT 2") + S],
    "malformed Describe": [encode.message(F.DESCRIBE, b"X\0") + S, run("SELECT 2") + S],
    "malformed Execute": [encode.message(F.EXECUTE, b"\0") + S, run("SELECT 2") + S],
    "malformed Close": [encode.message(F.CLOSE, b"") + S, run("SELECT 2") + S],
    "bytes behind a Sync's payload": [run("SELECT 1") + encode.message(F.SYNC, b"x") + S],
    "CopyData nobody asked for": [encode.copy_data(b"1") + encode.COPY_DONE + run("SELECT 1") + S],
}  # fmt: skip


@pytest.mark.newest
@pytest.mark.parametrize("steps", EXTENDED.values(), ids=EXTENDED.keys())
def test_extended_queries(twin: Twin, steps: list[Step]) -> None:
    try:
        twin.compare(*steps)
    finally:
        for dsn in (twin.dsn, twin.databases.oracle):
            twin.run(dsn, ["DELETE FROM ref WHERE a > 1000"])


BROKEN: dict[str, bytes] = {
    "unknown type": encode.message(ord("~"), b""),
    "length below its own": b"Q" + struct.pack("!i", 3),
    "negative length": b"Q" + struct.pack("!i", -1),
    "length of 2 GiB": b"Q" + struct.pack("!i", 2**31 - 1),
    "a Sync of 1 MB": b"S" + struct.pack("!i", 1 << 20),
    "a password behind the login": encode.password_message(b"secret"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_a_framing_error_ends_the_connection(twin: Twin, data: bytes) -> None:
    twin.compare(data)


@pytest.mark.parametrize("start", ["simple", "extended"])
def test_a_message_inside_copy_that_has_no_place_there(twin: Twin, start: str) -> None:
    copy = "COPY t FROM STDIN"
    begin = encode.query(copy.encode()) if start == "simple" else parse(copy) + bind() + execute() + FLUSH
    for message in (encode.query(b"SELECT 1"), parse("SELECT 1"), bind()):
        [reply] = twin.compare(begin + encode.copy_data(b"1001\tx\n") + message)
        assert [error["C"] for error in reply.errors] == ["08P01", "08P01"]


TIMEOUTS: dict[str, tuple[str, list[Step]]] = {
    "in a transaction": ("idle_in_transaction_session_timeout", ["BEGIN", "SELECT b FROM t WHERE a = 1"]),
    "of a transaction": ("transaction_timeout", ["BEGIN", "SELECT 1"]),
    "of a session": ("idle_session_timeout", ["SELECT b FROM t WHERE a = 1", "SELECT b FROM t WHERE a = 2"]),
    "by the lane": ("idle_in_transaction_session_timeout", ["BEGIN", run("SELECT 1") + S, run("SELECT 1") + S]),
}


@pytest.mark.parametrize(("name", "steps"), TIMEOUTS.values(), ids=TIMEOUTS.keys())
def test_a_time_out_ends_the_session_in_the_words_of_the_shard(twin: Twin, name: str, steps: list[Step]) -> None:
    if name == "transaction_timeout" and twin.version < 17:
        pytest.skip("there is no such setting")

    def end(dsn: str) -> tuple[bool, list[dict[str, str]]]:
        with RawClient(dsn) as client:
            for step in (f"SET {name} = '300ms'", *steps):
                assert not (client.query(step) if isinstance(step, str) else client.exchange(step)).errors
            reply = client.read_to_end()
            return reply.closed, [{code: error[code] for code in "SVCM"} for error in reply.errors]

    assert end(twin.dsn) == end(twin.databases.oracle)


@pytest.mark.parametrize("block", [False, True], ids=["by itself", "in a transaction"])
@pytest.mark.parametrize("name", ["idle_in_transaction_session_timeout", "statement_timeout"])
def test_a_time_out_beside_a_copy_that_stalls(twin: Twin, name: str, block: bool) -> None:
    """A client that sends no rows is not idle in its transaction; its statement has taken too long when it goes on."""
    twin.fill()
    row = encode.copy_data(b"5001\tx\n")
    # In one query, or the time between two statements would count.
    sql = b"BEGIN; COPY t FROM STDIN; ROLLBACK" if block else b"COPY t FROM STDIN"

    def copied(dsn: str) -> tuple[str, list[str], list[str], str]:
        with RawClient(dsn) as client, RawClient(dsn) as idle:
            client.query(f"SET {name} = '100ms'")
            client.send(encode.query(sql) + row)
            while (began := client.read()) is not None and began.type != B.COPY_IN_RESPONSE:
                assert began.type == B.COMMAND_COMPLETE
            # A transaction that begins later, and may be idle for longer, is over: so the time is up.
            for step in ("SET idle_in_transaction_session_timeout = '400ms'", "BEGIN", "SELECT 1"):
                assert not idle.query(step).errors
            assert [error["C"] for error in idle.read_to_end().errors] == ["25P03"]
            reply = client.exchange(encode.copy_data(b"5002\tx\n") + encode.COPY_DONE)
            found = client.query("ROLLBACK; SELECT a FROM t WHERE a = 5001").order
            return reply.order, reply.tags, [error["M"] for error in reply.errors], found

    ours, theirs = copied(twin.dsn), copied(twin.databases.oracle)
    assert ours == theirs
    assert ("COPY 2" in theirs[1]) == (name != "statement_timeout")


def test_transaction_timeout_while_a_statement_runs(twin: Twin) -> None:
    if twin.version < 17:
        pytest.skip("there is no such setting")
    for sleep in ("SELECT pg_sleep(30)", run("SELECT pg_sleep(30)") + S):
        replies = twin.compare("SET transaction_timeout = '300ms'", "BEGIN", sleep)
        assert replies[-1].closed


@pytest.mark.parametrize(
    "sql",
    ["UPDATE ref SET b = 'x' WHERE a = $1", "SELECT set_config('app.a', $1, false)"],
    ids=["reference", "setting"],
)
def test_execute_of_what_needs_more_than_its_text(twin: Twin, sql: str) -> None:
    for make in (parse(sql, "s") + S, f"PREPARE s AS {sql}"):
        made, executed = twin.proxied(make, "EXECUTE s('3')")
        assert not made.errors
        assert [error["C"] for error in executed.errors] == ["0A000"]


def test_cursor_statements_about_a_portal_of_several_shards(twin: Twin) -> None:
    *_, fetched = twin.proxied("BEGIN", parse("SELECT a FROM t") + bind(portal="c") + S, "FETCH 2 FROM c")
    assert [error["C"] for error in fetched.errors] == ["0A000"]


def test_the_proxy_s_own_statements_and_portals_are_not_seen(twin: Twin) -> None:
    """They are there: BEGIN in the lane, the fingerprint before COPY, a portal that is read in pieces."""
    copy = encode.query(b"COPY t FROM STDIN") + encode.copy_data(b"1001\tx\n") + encode.COPY_DONE
    twin.compare(
        parse("SELECT b FROM t WHERE a = $1", "mine") + S,
        *(bind(str(key), name="mine") + execute() + S for key in range(1, 9)),
        "BEGIN",
        *(bind(str(key), name="mine") + execute() + S for key in range(1, 9)),
        copy,
        parse("SELECT a FROM ref ORDER BY a") + bind(portal="p") + execute(1, portal="p") + S,
        "SELECT name, statement FROM pg_prepared_statements WHERE name = 'mine'",
        "SELECT count(*) FROM pg_prepared_statements WHERE name <> 'mine' AND statement <> ''",
        "SELECT name FROM pg_cursors",
        "ROLLBACK",
    )


def test_debug_messages_about_the_proxy_s_own_statements_are_not_seen(twin: Twin) -> None:
    """PostgreSQL tells at that level what it parses."""
    copy = encode.query(b"COPY t FROM STDIN") + encode.copy_data(b"1001\tx\n") + encode.COPY_DONE
    mine = run("SELECT b FROM t") + S
    replies = twin.proxied("SET client_min_messages = debug2", "BEGIN", copy, mine, "ROLLBACK")
    told = [notice["M"] for reply in replies for notice in reply.notices]
    assert [words for words in told if "shardproxy" in words] == []
    assert any("SELECT b FROM t" in words for words in told)


@pytest.fixture(scope="module")
def one_shard(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    databases = Databases.create(servers18, shards=1, one_server=True)
    databases.execute("CREATE TABLE t (a int PRIMARY KEY, b text)")
    table = {"name": "t", "placement": "hash", "key": ["a"]}
    yield Twin(databases, run_proxy_for_module(databases.config([table])))
    databases.drop()


PREPARE = "PREPARE TRANSACTION 'one'"

PREPARED: dict[str, list[Step]] = {
    "committed": ["BEGIN", "INSERT INTO t VALUES (1, 'x')", PREPARE, "TABLE t", "COMMIT PREPARED 'one'", "TABLE t"],
    "rolled back": ["BEGIN", "DELETE FROM t", PREPARE, "ROLLBACK PREPARED 'one'", "TABLE t"],
    "extended": [run("BEGIN") + run("DELETE FROM t") + run(PREPARE) + S, run("ROLLBACK PREPARED 'one'") + S],
    "of nothing": ["BEGIN", PREPARE, "COMMIT PREPARED 'one'"],
    "in no transaction": [PREPARE, run(PREPARE) + S, "COMMIT PREPARED 'one'", "ROLLBACK PREPARED 'one'"],
    "in a failed one": ["BEGIN", "SELECT 1 / 0", PREPARE, "BEGIN", "SELECT 1 / 0", run(PREPARE) + S, "SELECT 1"],
    "refused": ["BEGIN", "CREATE TEMPORARY TABLE mine (a int)", PREPARE, "SELECT 1"],
    "twice": ["BEGIN", PREPARE, "BEGIN", PREPARE, "COMMIT", "ROLLBACK PREPARED 'one'"],
    "ended in a block": ["BEGIN", "COMMIT PREPARED 'one'", "ROLLBACK", "BEGIN", run("ROLLBACK PREPARED 'one'") + S],
}


@pytest.mark.parametrize("steps", PREPARED.values(), ids=PREPARED)
def test_prepare_transaction_of_one_shard(one_shard: Twin, steps: list[Step]) -> None:
    one_shard.compare(*steps)


def test_do_and_call_of_one_shard(one_shard: Twin) -> None:
    one_shard.compare(
        "DO $$ BEGIN INSERT INTO t VALUES (7, 'x'); END $$",
        "CREATE PROCEDURE p(n int) LANGUAGE sql AS 'DELETE FROM t WHERE a = n'",
        "CALL p(7)",
        "TABLE t",
        "DROP PROCEDURE p",
    )


def test_in_pieces_over_several_shards(twin: Twin) -> None:
    select = parse("SELECT a FROM t") + bind(portal="c") + describe("P", "c")
    begin, *pieces, end, _ = twin.proxied("BEGIN", select + execute(7, "c") + S, *[execute(7, "c") + S] * 9, "COMMIT")
    assert begin.tags == ["BEGIN"]
    assert pieces[0].order == "12TDsZ"
    rows = [row for piece in [*pieces, end] for row in piece.rows]
    assert sorted(int(row[0] or 0) for row in rows) == list(range(1, 61))
    assert {len(piece.rows) for piece in pieces[:8]} == {7}
    assert end.tags == ["SELECT 0"] or pieces[-1].tags


def test_a_change_on_several_shards_runs_to_its_end_whatever_the_limit(twin: Twin) -> None:
    """As asyncpg's fetchrow does it: one row is wanted, outside a transaction, and all are changed."""
    update = parse("UPDATE ref SET b = $1 RETURNING a")
    try:
        [alone] = twin.compare(update + bind("changed") + execute(1) + S)
        assert (alone.order, len(alone.rows)) == ("12DsZ", 1)
        assert twin.databases.rows("SELECT DISTINCT b FROM ref") == [[("changed",)]] * 3
        *_, count = twin.proxied(
            "BEGIN",
            update + bind("again", portal="c") + execute(1, "c") + S,
            execute(3, "c") + S,
            execute(0, "c") + S,
        )
        assert (len(count.rows), count.tags) == (56, ["UPDATE 56"])
        assert twin.databases.rows("SELECT DISTINCT b FROM ref") == [[("changed",)]] * 3
    finally:
        for dsn in (twin.dsn, twin.databases.oracle):
            twin.run(dsn, ["UPDATE ref SET b = 'row ' || a"])


def test_what_wants_a_block_or_none_in_a_pipeline(twin: Twin) -> None:
    twin.compare(run("LOCK ref") + run("SELECT 1") + S)
    twin.compare(run("DECLARE c CURSOR FOR SELECT 1") + run("SELECT 1") + S)
    if twin.version >= 17:
        # Before, what comes later in a pipeline was in no transaction block to it.
        twin.compare(run("SELECT 1") + run("LOCK ref") + S)
        twin.compare(run("VACUUM ref") + run("VACUUM ref") + S)
        twin.compare(run("SELECT 1") + run("VACUUM ref") + S)


def test_a_simple_query_in_a_batch(twin: Twin) -> None:
    """From 17 on PostgreSQL says T there, though a batch is no transaction block of the client."""
    query, sync = twin.proxied(run("SELECT 1") + encode.query(b"SELECT 2"), S)
    assert (query.order, query.rows, query.status) == ("12TDCTDCZ", [[b"1"], [b"2"]], "I")
    assert (sync.order, sync.status) == ("Z", "I")


def test_a_function_call_message_is_refused_in_words(twin: Twin) -> None:
    call = encode.message(F.FUNCTION_CALL, struct.pack("!IHHH", 1, 0, 0, 0))
    [reply] = twin.proxied(call)
    assert reply.order == "EZ"
    assert reply.errors[0]["C"] == "0A000"


def test_set_config_with_parameters_reaches_shards_that_connect_later(twin: Twin) -> None:
    query = "SELECT set_config($1, $2, false)"
    both = run(query, "app.one", "it's\\") + S, run(query, "app.two", "2") + S
    replies = twin.proxied(
        *both, "SELECT b FROM t", "BEGIN", run(query, "app.two", "3") + S, "SELECT b FROM t", "ROLLBACK"
    )
    assert [reply.errors for reply in replies] == [[]] * len(replies)
    shown = "SELECT current_setting('app.one') || current_setting('app.two') FROM t WHERE a = {}"
    answers = twin.proxied(*both, *(shown.format(key) for key in range(1, 10)))[2:]
    assert {answer.rows[0][0] for answer in answers} == {b"it's\\2"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"application_name": "plain"},
        {"application_name": ""},
        {"application_name": "h\u00e9\x01"},
        {"application_name": "long " * 20},
        {"options": "-c application_name=from_options"},
        {"options": "-c application_name=from_options", "application_name": "said"},
        {"options": "-c application_name=from_options -c TimeZone=Asia/Tokyo", "client_encoding": "latin1"},
        {"options": "-c server_version=9"},
        {"options": "-c autovacuum=off"},
        {"options": "-c work_mem=many"},
        {"options": "-c nobody_knows=1"},
        {"options": "-z"},
    ],
    ids=str,
)
def test_start_up_parameters_are_reported_as_by_one_server(twin: Twin, settings: dict[str, str]) -> None:
    """Twice, as what a shard has reported once is kept for the next session that asks for the same."""

    def greeting(dsn: str) -> list[dict[str, str | None]] | str:
        names = ("application_name", "TimeZone", "client_encoding", "DateStyle", "server_version")
        conninfo = make_conninfo(dsn, **settings)
        try:
            with psycopg.connect(conninfo) as first, psycopg.connect(conninfo) as second:
                return [{name: one.info.parameter_status(name) for name in names} for one in (first, second)]
        except psycopg.OperationalError as error:
            return str(error).partition("FATAL:")[2]

    assert greeting(twin.dsn) == greeting(twin.databases.oracle)


def test_explain_execute_goes_where_the_statement_is_prepared(twin: Twin) -> None:
    for table in ("t", "one", "ref"):
        twin.compare(
            "SET enable_seqscan = off",
            f"PREPARE p (text) AS SELECT b FROM {table} WHERE a = 7 AND b <> $1",
            "EXPLAIN (COSTS OFF) EXECUTE p ('x')",
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF) EXECUTE p ('x')",
            "EXPLAIN EXECUTE q",
        )


def test_a_cursor_that_a_function_has_opened_with_one_shard(servers18: Servers, run_proxy: RunProxy) -> None:
    """34000, and a failed block, where the proxy knew no other cursors than those that it had seen declared."""
    databases = Databases.create(servers18, shards=1, one_server=True)
    try:
        databases.execute(f"CREATE TABLE ref AS SELECT generate_series(1, 9) AS a; {OPENED}")
        twin = Twin(databases, run_proxy(databases.config(unlisted_tables="s0")))
        twin.compare(*EXTENDED["a cursor that a function has opened"])
        twin.compare(
            "BEGIN", "SELECT opened('mine')", "MOVE 2 FROM mine", "FETCH ALL FROM mine", "CLOSE mine", "COMMIT"
        )
    finally:
        databases.drop()

"""LIMIT over several shards beside one PostgreSQL: as many rows, each one that there is, and the same tag.

Which rows come PostgreSQL does not promise either.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from struct import pack
from threading import Timer

import psycopg
import pytest

from shardproxy.wire import encode
from tests.conftest import RunProxy
from tests.support.databases import Servers
from tests.support.rawclient import Reply
from tests.support.twin import ROWS, Step, Twin

pytestmark = pytest.mark.newest

INT4, INT8, NUMERIC = 23, 20, 1700
COUNTS = (1, 2, 7, ROWS - 1, ROWS, ROWS + 1, 2**63 - 1)
ALL = "SELECT a, b FROM t"


@pytest.fixture(scope="module")
def twin(servers18: Servers, run_proxy_for_module: RunProxy) -> Iterator[Twin]:
    with Twin.open(servers18, run_proxy_for_module, unlisted_tables="reference") as twin:
        twin.fill()
        yield twin


def compare(twin: Twin, *steps: Step) -> list[Reply]:
    """Run the steps on both sides: all is the same but which rows have come, none of them twice."""
    [everything] = twin.proxied(ALL)
    got, expected = twin.run(twin.dsn, steps), twin.run(twin.databases.oracle, steps)
    assert len(got) == len(expected) == len(steps)
    for step, ours, theirs in zip(steps, got, expected, strict=True):
        assert (ours.order, ours.tags, ours.status) == (theirs.order, theirs.tags, theirs.status), step
        assert [one["C"] + one["M"] for one in ours.errors] == [one["C"] + one["M"] for one in theirs.errors], step
        assert len(ours.rows) == len(theirs.rows), step
        if ours.rows and len(ours.rows[0]) == 2:
            assert all(row in everything.rows for row in ours.rows), step
            if len(ours.tags) == 1:
                assert all(one != other for one, other in pairwise(sorted(ours.rows))), step
    twin.proxied(f"{ALL} WHERE a = 5")
    return got


def batch(sql: str, *values: bytes | None, oids: Sequence[int] = (), formats: Sequence[int] = ()) -> bytes:
    """All that a driver sends for a statement."""
    return b"".join([
        encode.parse(b"", sql.encode(), oids), encode.bind(b"", b"", formats, values, ()), encode.describe(b"P", b""),
        encode.execute(b""), encode.SYNC,
    ])  # fmt: skip


def test_simple(twin: Twin) -> None:
    compare(
        twin,
        *(f"{ALL} LIMIT {count}" for count in COUNTS),
        *(f"{ALL} {clause}" for clause in ("LIMIT ALL", "LIMIT NULL", "OFFSET 0", "LIMIT 5 OFFSET 0", "LIMIT 2.5")),
        *(f"{ALL} FETCH {clause} ONLY" for clause in ("FIRST ROW", "NEXT 3 ROWS", "FIRST 3 ROW", "FIRST 0 ROWS")),
        f"{ALL} WHERE a < 20 LIMIT 10",
        f"{ALL} WHERE a IN (1, 2, 3, 4, 5, 6, 7, 8, 9) LIMIT 4",
        f"{ALL} WHERE b = 'nowhere' LIMIT 4",
        "SELECT t.a, ref.b FROM t JOIN ref USING (a) LIMIT 7",
        "SELECT t.a, ref.b FROM t LEFT JOIN ref ON t.a = ref.a LIMIT 7",
        "TABLE t LIMIT 7",
        "SELECT generate_series(1, a) FROM t LIMIT 7",
        "SELECT FROM t LIMIT 7",
        f"{ALL} LIMIT 3; {ALL} LIMIT 4",
    )


def test_what_postgresql_refuses(twin: Twin) -> None:
    compare(
        twin,
        f"{ALL} LIMIT -1",
        f"{ALL} OFFSET -1",
        f"{ALL} LIMIT 1 OFFSET -1",
        f"{ALL} LIMIT 'x'",
        f"{ALL} LIMIT 99999999999999999999",
        f"{ALL} LIMIT $1",
        f"{ALL} FETCH FIRST 3 ROWS WITH TIES",
        batch(f"{ALL} LIMIT $1", b"-1"),
        batch(f"{ALL} LIMIT $1", b"x"),
        batch(f"{ALL} LIMIT $1", pack("!q", -5), oids=(INT8,), formats=(1,)),
        batch(f"{ALL} LIMIT $1 OFFSET $2", b"5", b"-1"),
        "PREPARE p AS SELECT a, b FROM t LIMIT $1",
        "EXECUTE p(-1)",
        "BEGIN",
        f"{ALL} LIMIT 3",
        f"{ALL} LIMIT -1",
        "ROLLBACK",
    )


def test_parameters(twin: Twin) -> None:
    sql = f"{ALL} LIMIT $1"
    compare(
        twin,
        *(batch(sql, str(count).encode()) for count in COUNTS),
        *(batch(sql, pack("!q", count), oids=(INT8,), formats=(1,)) for count in COUNTS),
        batch(sql, pack("!i", 3), oids=(INT4,), formats=(1,)),
        batch(sql, pack("!q", 3), formats=(1,)),
        batch(sql, b"2.5", oids=(NUMERIC,)),
        batch(sql, None),
        batch(sql, None, oids=(INT4,)),
        batch(sql, b"0"),
        batch(f"{ALL} LIMIT $1::integer OFFSET $2::integer", b"3", b"0"),
        batch(f"{ALL} WHERE a > $2 LIMIT $1", b"3", b"10"),
        batch(f"{ALL} WHERE a > $1 FETCH FIRST $1 ROWS ONLY", b"3", oids=(INT4,)),
    )


def test_a_prepared_statement(twin: Twin) -> None:
    """Its limit is another each time; what the proxy has learnt of one is not taken for the next."""
    prepare = encode.parse(b"p", f"{ALL} LIMIT $1".encode()) + encode.describe(b"S", b"p") + encode.SYNC
    run = encode.execute(b"") + encode.SYNC
    counts = (0, 3, 100, 1, 0, -1, 7)
    compare(twin, prepare, *(encode.bind(b"", b"p", (), [b"%d" % count], ()) + run for count in counts))
    compare(
        twin,
        *(f"{ALL} LIMIT {count}" for count in counts),
        "PREPARE q AS SELECT a, b FROM t LIMIT $1",
        *(f"EXECUTE q({count})" for count in (*counts, "NULL", "'5'")),
        "DEALLOCATE q",
    )


def test_portals_in_portions(twin: Twin) -> None:
    begin = encode.parse(b"", f"{ALL} LIMIT 10".encode()) + encode.bind(b"p", b"", (), (), ())
    for portion in (1, 3, 5, 9, 10, 11, 100):
        pieces = [encode.execute(b"p", portion) + encode.SYNC] * (10 // portion + 2)
        compare(twin, "BEGIN", begin + encode.describe(b"P", b"p") + encode.SYNC, *pieces, "COMMIT")
    got = compare(
        twin,
        "BEGIN",
        begin + b"".join(encode.execute(b"p", count) for count in (4, 4, 4)) + encode.SYNC,
        "COMMIT",
        begin + encode.execute(b"p", 4) + encode.execute(b"p") + encode.SYNC,
        begin + encode.execute(b"p", 4) + encode.execute(b"p", 6) + encode.execute(b"p", 1) + encode.SYNC,
    )
    assert [len(reply.rows) for reply in got] == [0, 10, 0, 10, 10]


def test_a_portal_of_execute_in_portions(twin: Twin) -> None:
    begin = encode.parse(b"", b"EXECUTE p(5)") + encode.bind(b"", b"", (), (), ())
    pieces = b"".join(encode.execute(b"", count) for count in (2, 2, 2))
    compare(twin, "PREPARE p AS SELECT a, b FROM t LIMIT $1", begin + pieces + encode.SYNC)


def test_in_transactions(twin: Twin) -> None:
    compare(twin, "BEGIN", f"{ALL} LIMIT 3", "SAVEPOINT s", f"{ALL} LIMIT 61", "ROLLBACK TO s", "COMMIT")


def test_many_rows(twin: Twin) -> None:
    """More than are read at once: what is dropped comes in the middle of what is read."""
    many = f"SELECT a, b FROM t, generate_series(1, 2000) LIMIT {ROWS * 1000 + 7}"
    [reply, _] = twin.proxied(many, f"{ALL} LIMIT 3")
    assert (len(reply.rows), reply.tags) == (ROWS * 1000 + 7, [f"SELECT {ROWS * 1000 + 7}"])


@pytest.mark.parametrize("options", ["", "(FORMAT csv)", "(FORMAT csv, HEADER)", "(HEADER)"])
@pytest.mark.parametrize("count", [0, 1, 7, ROWS, ROWS + 1])
def test_copy(twin: Twin, options: str, count: int) -> None:
    sql = f"COPY (SELECT a, b FROM t LIMIT {count}) TO STDOUT {options}"
    [ours], [theirs] = twin.proxied(sql), twin.run(twin.databases.oracle, [sql])
    assert (ours.order, ours.tags, len(ours.data)) == (theirs.order, theirs.tags, len(theirs.data))
    [everything] = twin.run(twin.databases.oracle, [sql.replace(f"LIMIT {count}", "")])
    assert set(ours.data) <= set(everything.data)
    assert len({*ours.data}) == len(ours.data)
    assert not ours.data or "HEADER" not in options or ours.data[0] == theirs.data[0]


@pytest.mark.parametrize("count", [0, 1, 7, ROWS + 1])
def test_copy_in_binary(twin: Twin, count: int) -> None:
    sql = f"COPY (SELECT a, b FROM t LIMIT {count}) TO STDOUT (FORMAT binary)".encode()
    with psycopg.connect(twin.dsn) as connection, connection.cursor() as cursor:
        with cursor.copy(sql) as copy:
            copy.set_types(["int4", "text"])
            rows = list(copy.rows())
        assert cursor.rowcount == len(rows) == min(count, ROWS)
    assert set(rows) <= {(number, f"row {number}") for number in range(1, ROWS + 1)}
    assert len(set(rows)) == len(rows)


def test_an_error_of_one_shard(twin: Twin) -> None:
    """It is met or not, as on one server; the session goes on, and no row is left on the way."""
    steps = [f"SELECT 10 / (a - {key}), b FROM t LIMIT 30" for key in range(1, 20)]
    for reply in twin.proxied(*steps, f"{ALL} LIMIT 3"):
        assert reply.tags or reply.errors[0]["C"] == "22012"
    compare(twin, f"{ALL} LIMIT 7")


def test_cancel(twin: Twin) -> None:
    with psycopg.connect(twin.dsn, autocommit=True) as connection:
        begun = time.monotonic()
        timer = Timer(0.5, connection.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT a, pg_sleep(a) FROM t LIMIT 50")
        timer.join()
        assert time.monotonic() - begun < 10
        assert len(connection.execute("SELECT a FROM t LIMIT 50").fetchall()) == 50
    assert twin.working() == 0


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (f"{ALL} LIMIT 1 + 1", "a computed LIMIT"),
        (f"{ALL} LIMIT (SELECT 3)", "a computed LIMIT"),
        (f"{ALL} LIMIT 3 OFFSET 1", "OFFSET"),
        (f"{ALL} OFFSET 1", "OFFSET"),
        (f"{ALL} LIMIT 3 FOR UPDATE", "LIMIT with FOR UPDATE or FOR SHARE"),
        ("SELECT a, pg_advisory_xact_lock(a) FROM t LIMIT 3", "LIMIT with a function that may lock or write"),
        (f"{ALL} ORDER BY a LIMIT 3", "ORDER BY"),
        (f"{ALL} ORDER BY a FETCH FIRST 3 ROWS WITH TIES", "ORDER BY"),
    ],
)
def test_what_is_refused(twin: Twin, sql: str, words: str) -> None:
    [reply] = twin.proxied(sql)
    assert reply.errors[0]["C"] == "0A000"
    assert reply.errors[0]["M"] == f'{words} over several shards of "public.t" is not supported'
    assert reply.errors[0]["H"]

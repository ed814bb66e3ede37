"""TRAPS: COPY FROM STDIN as an exchange of messages, in transactions, with errors, notices and odd clients."""

import itertools
import struct
import time

import pytest

from shardproxy.wire import encode
from tests.support.differential import Arena, Copy
from tests.support.rawclient import PROTOCOLS, Protocol

PLAIN = "COPY t FROM STDIN"
NUMBERS = "CREATE TABLE t (k int, v text)"
ROWS = b"".join(b"%d\tvalue %d\n" % (n, n) for n in range(40))
BAD = ROWS + b"x\ty\n" + ROWS

pytestmark = pytest.mark.newest


@pytest.mark.parametrize("protocol", PROTOCOLS)
class TestEachProtocol:
    def test_load(self, arena: Arena, protocol: Protocol) -> None:
        arena.compare(NUMBERS, Copy(PLAIN, ROWS, protocol=protocol))

    def test_empty_copy(self, arena: Arena, protocol: Protocol) -> None:
        outcome = arena.compare(NUMBERS, Copy(PLAIN, b"", protocol=protocol))
        assert outcome.last.tags == ["COPY 0"]

    def test_empty_copy_data(self, arena: Arena, protocol: Protocol) -> None:
        arena.compare(NUMBERS, Copy(PLAIN, b"1\ta\n", frames=(0, 0, 2, 2, 4, 4), protocol=protocol))
        arena.compare(NUMBERS, Copy(PLAIN, b"", frames=(0, 0), protocol=protocol))

    def test_single_row(self, arena: Arena, protocol: Protocol) -> None:
        arena.compare(NUMBERS, Copy(PLAIN, b"1\ta\n", protocol=protocol))

    def test_a_row_is_refused(self, arena: Arena, protocol: Protocol) -> None:
        """What the client still sends is ignored, and there is one ReadyForQuery."""
        outcome = arena.compare(NUMBERS, Copy(PLAIN, BAD, frames=range(1, len(BAD), 7), protocol=protocol))
        assert outcome.last.line == 41

    def test_a_shard_refuses_a_row(self, arena: Arena, protocol: Protocol) -> None:
        ddl = "CREATE TABLE t (k int, v text CHECK (v <> 'value 17'))"
        outcome = arena.compare(ddl, Copy(PLAIN, ROWS, frames=range(1, len(ROWS), 7), protocol=protocol))
        assert outcome.last.line == 18

    def test_copy_fail(self, arena: Arena, protocol: Protocol) -> None:
        fail = encode.copy_fail("the client says no")
        for data, frames in ((ROWS, [100]), (b"", []), (ROWS[:-3], []), (ROWS[:100], [50, 99])):
            copy = Copy(PLAIN, data, frames=frames, protocol=protocol, end=fail)
            outcome = arena.compare(NUMBERS, copy)
            assert (outcome.last.error or {})["C"] == "57014"

    @pytest.mark.parametrize("payload", [b"", b"abc", b"abc\0def", b"\0"])
    def test_malformed_copy_fail(self, arena: Arena, protocol: Protocol, payload: bytes) -> None:
        """Its framing holds, so it ends the COPY and not the session."""
        fail = b"f" + struct.pack(">I", len(payload) + 4) + payload
        outcome = arena.compare(NUMBERS, Copy(PLAIN, ROWS, protocol=protocol, end=fail))
        assert (outcome.last.error or {})["C"] == ("57014" if b"\0" in payload else "08P01")

    def test_flush_and_sync_inside(self, arena: Arena, protocol: Protocol) -> None:
        inside = encode.FLUSH + encode.SYNC + encode.copy_data(b"50\tx\n") + encode.SYNC + encode.FLUSH + encode.FLUSH
        outcome = arena.compare(NUMBERS, Copy(PLAIN, ROWS, protocol=protocol, end=inside + encode.COPY_DONE))
        assert outcome.last.tags == ["COPY 41"]

    def test_in_a_transaction(self, arena: Arena, protocol: Protocol) -> None:
        first, second = Copy(PLAIN, ROWS, protocol=protocol), Copy(PLAIN, b"1\tx\n", protocol=protocol)
        arena.compare(NUMBERS, "BEGIN", first, second, "COMMIT", second)
        outcome = arena.compare(NUMBERS, "BEGIN", first, "ROLLBACK", second)
        assert len(outcome.rows) == 1

    def test_error_in_a_transaction(self, arena: Arena, protocol: Protocol) -> None:
        good, bad = Copy(PLAIN, ROWS, protocol=protocol), Copy(PLAIN, BAD, protocol=protocol)
        outcome = arena.compare(NUMBERS, "BEGIN", good, bad, good, "SELECT 1", "COMMIT", good)
        assert len(outcome.rows) == 40

    def test_savepoint(self, arena: Arena, protocol: Protocol) -> None:
        good, bad = Copy(PLAIN, ROWS, protocol=protocol), Copy(PLAIN, BAD, protocol=protocol)
        outcome = arena.compare(
            NUMBERS, "BEGIN", "SAVEPOINT a", good, "SAVEPOINT b", bad, "ROLLBACK TO b", good, "RELEASE a", "COMMIT"
        )
        assert len(outcome.rows) == 80


def test_after_insert_in_a_transaction(arena: Arena) -> None:
    insert = "INSERT INTO t VALUES (100, 'x')"
    arena.compare(NUMBERS, "BEGIN", insert, Copy(PLAIN, ROWS), insert, "COMMIT")
    arena.compare(NUMBERS, "BEGIN", insert, Copy(PLAIN, BAD), "COMMIT")
    arena.compare(NUMBERS, "BEGIN", insert, Copy(PLAIN, ROWS), "ROLLBACK")
    arena.compare(NUMBERS, "BEGIN", Copy(PLAIN, ROWS), "ALTER TABLE t ADD w int", Copy(PLAIN, b"1\ta\t2\n"), "COMMIT")


def test_ddl_between(arena: Arena) -> None:
    """No column list: the columns are those of now, also when the DDL came from elsewhere."""
    arena.compare(NUMBERS, Copy(PLAIN, ROWS), "ALTER TABLE t DROP v", Copy(PLAIN, b"1\n2\n"))
    arena.define(NUMBERS)
    with arena.client() as client:
        assert client.copy(PLAIN, ROWS).tags == ["COPY 40"]
        arena.databases.execute("ALTER TABLE t ADD w int; ALTER TABLE t DROP v")
        assert client.copy(PLAIN, b"1\t2\n").tags == ["COPY 1"]
        assert client.usable().order == "TDCZ"


@pytest.mark.parametrize(
    ("sql", "stream"),
    [
        (f"{PLAIN}; {PLAIN}", encode.copy_data(ROWS) + encode.COPY_DONE + encode.copy_data(ROWS) + encode.COPY_DONE),
        (f"{PLAIN}; SELECT 7", encode.copy_data(ROWS) + encode.COPY_DONE),
        (f"SELECT 7; {PLAIN}", encode.copy_data(ROWS) + encode.COPY_DONE),
        (f"{PLAIN}; {PLAIN}", encode.copy_data(ROWS) + encode.COPY_DONE + encode.copy_data(BAD) + encode.COPY_DONE),
        (f"{PLAIN}; {PLAIN}", encode.copy_data(BAD) + encode.COPY_DONE + encode.copy_data(ROWS) + encode.COPY_DONE),
        (f"{PLAIN}; {PLAIN}", encode.copy_data(ROWS) + encode.COPY_DONE + encode.copy_fail("no")),
        (f"BEGIN; {PLAIN}; COMMIT; {PLAIN}", (encode.copy_data(ROWS) + encode.COPY_DONE) * 2),
        (f"BEGIN; {PLAIN}; ROLLBACK; {PLAIN}", (encode.copy_data(ROWS) + encode.COPY_DONE) * 2),
        (f"{PLAIN}; SELECT 1/0", encode.copy_data(ROWS) + encode.COPY_DONE),
        (f"{PLAIN}; COPY t TO STDOUT", encode.copy_data(ROWS) + encode.COPY_DONE),
        (f"CREATE TEMP TABLE x (a int); {PLAIN}; DROP TABLE x", encode.copy_data(ROWS) + encode.COPY_DONE),
    ],
    ids=range(11),
)
def test_several_statements_in_one_query(arena: Arena, sql: str, stream: bytes) -> None:
    """One implicit transaction, a CopyInResponse for each COPY, one ReadyForQuery."""
    arena.compare(NUMBERS, Copy(sql, b"", protocol="pipelined", end=stream))


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("message", [encode.query(b"SELECT 1"), encode.execute(b""), encode.parse(b"", b"SELECT 1")])
def test_other_messages_inside_end_the_session(arena: Arena, protocol: Protocol, message: bytes) -> None:
    """08P01, and the connection is closed. The words of the last FATAL are PostgreSQL's own business."""
    arena.define(NUMBERS)
    replies = []
    for client in (arena.oracle_client(), arena.client()):
        with client:
            replies.append(client.copy(PLAIN, ROWS, protocol=protocol, end=message))
    assert [reply.closed for reply in replies] == [True, True]
    assert [reply.errors[0]["C"] for reply in replies] == ["08P01", "08P01"]
    assert replies[0].errors[0]["M"] == replies[1].errors[0]["M"]
    arena.compare_rows_soon("t")


def test_terminate_inside(arena: Arena) -> None:
    arena.define(NUMBERS)
    for client in (arena.oracle_client(), arena.client()):
        with client:
            reply = client.copy(PLAIN, ROWS, end=encode.TERMINATE)
            assert reply.closed
            assert reply.status is None
    assert arena.compare_rows_soon("t") == 0


def test_client_disappears(arena: Arena) -> None:
    """In front of any data, in the middle of a row, behind a refused row, and with everything but CopyDone sent."""
    arena.define(NUMBERS)
    for rest in (b"", encode.copy_data(b"1\t"), encode.copy_data(BAD), encode.copy_data(ROWS), b"d\0\0\1\0abc"):
        with arena.client() as client:
            client.send(encode.query(PLAIN.encode()) + rest)
            time.sleep(0.02)
    assert arena.compare_rows_soon("t") == 0


def test_copy_data_outside_a_copy_is_ignored(arena: Arena) -> None:
    arena.define(NUMBERS)
    for client in (arena.oracle_client(), arena.client()):
        with client:
            client.send(encode.copy_data(b"x") + encode.COPY_DONE + encode.copy_fail("x"))
            assert client.usable().order == "TDCZ"


def test_illegal_length_of_copy_data(arena: Arena) -> None:
    arena.define(NUMBERS)
    for client, data in itertools.product((arena.oracle_client, arena.client), (ROWS, BAD, b"")):
        with client() as one:
            reply = one.copy(PLAIN, data, end=b"d\0\0\0\3")
            if reply.status is not None:
                # The bad row is answered first; then the connection ends all the same.
                assert (data, reply.line) == (BAD, 41)
                assert one.read_to_end().closed
            assert reply.tags == []
    assert arena.compare_rows_soon("t") == 0


def test_notice_flood(arena: Arena) -> None:
    """The shards' notices are read while data are sent, or both sides would stop."""
    ddl = (
        "CREATE TABLE t (k int, v text); CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        "RAISE NOTICE 'row % %', NEW.k, repeat('x', 5000); RETURN NEW; END$$; "
        "CREATE TRIGGER say BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION say()"
    )
    data = b"".join(b"%d\t%b\n" % (n, b"y" * 2000) for n in range(1500))
    outcome = arena.compare(ddl, Copy(PLAIN, data))
    assert len(outcome.last.notices) == 1500


def test_equal_notices_are_said_once_by_all_shards(arena: Arena) -> None:
    ddl = (
        "CREATE TABLE t (k int, v text); CREATE FUNCTION say() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN "
        "RAISE WARNING 'loading' USING HINT = 'h'; RETURN NULL; END$$; "
        "CREATE TRIGGER say BEFORE INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION say()"
    )
    outcome = arena.compare(ddl, Copy(PLAIN, ROWS))
    assert len(outcome.last.notices) == 1


def test_prepared_copy_runs_again(arena: Arena) -> None:
    """A named statement, executed by two portals with other statements between."""
    arena.define(NUMBERS)
    replies = []
    for client in (arena.oracle_client(), arena.client()):
        with client:
            parse = encode.parse(b"load", PLAIN.encode()) + encode.describe(b"S", b"load") + encode.SYNC
            run = (
                encode.bind(b"", b"load", (), (), ()) + encode.execute(b"") + encode.copy_data(ROWS) + encode.COPY_DONE
            )
            first = client.exchange(parse)
            second = client.exchange(run + encode.SYNC)
            third = client.query("SELECT 1")
            fourth = client.exchange(run + encode.close(b"S", b"load") + encode.SYNC)
            replies.append([(one.order, one.tags, one.status) for one in (first, second, third, fourth)])
    assert replies[0] == replies[1]
    arena.compare_rows_soon("t")


def test_two_copies_in_one_batch(arena: Arena) -> None:
    """One implicit transaction up to the Sync: the second one's error takes the first one back."""
    arena.define(NUMBERS)
    load = encode.parse(b"", PLAIN.encode()) + encode.bind(b"", b"", (), (), ()) + encode.execute(b"")
    for data in (ROWS, BAD):
        replies = []
        for client in (arena.oracle_client(), arena.client()):
            with client:
                stream = b"".join(load + encode.copy_data(part) + encode.COPY_DONE for part in (ROWS, data))
                one = client.exchange(stream + encode.SYNC)
                replies.append((one.order, one.tags, one.line, client.usable().order))
        assert replies[0] == replies[1]
        arena.compare_rows_soon("t")


def test_cancel_during_copy(arena: Arena) -> None:
    arena.define(NUMBERS)
    with arena.client() as client:
        client.send(encode.query(PLAIN.encode()) + encode.copy_data(ROWS))
        message = client.read()
        assert message is not None
        time.sleep(0.1)
        arena.cancel(client)
        time.sleep(0.3)
        reply = client.exchange(encode.COPY_DONE)
        assert (reply.order, (reply.error or {})["C"], reply.status) == ("EZ", "57014", "I")
        assert client.usable().order == "TDCZ"
    assert arena.compare_rows_soon("t") == 0

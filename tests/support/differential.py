"""One PostgreSQL as the judge of the proxy: the same steps on both, and every answer and every row compared.

`Arena` has three shards and the oracle as databases of one server, and a proxy over the shards. `Arena.compare`
makes the same tables everywhere, runs the steps once directly on the oracle and once through the proxy, and
fails on any difference in
- what the client read: order of messages, tags, error and notice fields, rows, transaction status;
- the rows: those of all shards together are the oracle's;
- the place of each row: remainder r of a hash-partitioned twin of the table on the oracle is the r-th shard.

Allowed are only these differences, each with its reason at `_error`, `_notice` and `_data`: the sentence in DETAIL
that names the shard, F, L and R (source positions inside the server), and the order of COPY TO's rows.
"""

import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import psycopg
import psycopg.conninfo

from shardproxy.sqlstate import FEATURE_NOT_SUPPORTED
from shardproxy.wire import encode
from tests.conftest import VERSIONS
from tests.support.databases import SHARDS, Databases, Servers
from tests.support.proxy import Proxy
from tests.support.rawclient import Protocol, RawClient, Reply

if TYPE_CHECKING:
    from tests.support.differential_cases import Case

IDLE_PATIENCE = 5.0  # seconds for a shard to notice that nobody wants its rows

BYTEWISE = 300  # bytes of a stream that get a CopyData each

LOCK_PATIENCE = "10s"  # a session that leaves a transaction open makes the next case fail, not hang


@dataclass(frozen=True)
class Table:
    """A table of the proxy's configuration; a case's DDL creates those that it uses, with these key columns."""

    sql: str
    config: Mapping[str, object]
    partitions: tuple[str, ...]  # of its twin on the oracle: PARTITION BY, then one bound for each shard


def _hash(sql: str, name: str, *key: str) -> Table:
    bounds = (f"FOR VALUES WITH (MODULUS {SHARDS}, REMAINDER {r})" for r in range(SHARDS))
    config = {"name": name, "placement": "hash", "key": list(key)}
    return Table(sql, config, (f"PARTITION BY HASH ({', '.join(key)})", *bounds))


TABLES = {
    "t": _hash("public.t", "t", "k"),
    "two": _hash("public.two", "two", "k", "l"),
    "other.t": _hash("other.t", "other.t", "l"),
    "My Table": _hash('public."My Table"', 'public."My Table"', '"K k"'),
    "ref": Table("public.ref", {"name": "ref", "placement": "reference"}, ()),
    "one": Table("public.one", {"name": "one", "placement": "single", "shard": "s1"}, ()),
    "lst": Table(
        "public.lst",
        {
            "name": "lst",
            "placement": "list",
            "key": ["k"],
            "values": [
                {"shard": "s0", "in": ["a", "b"]},
                {"shard": "s1", "in": ["c", "", "NULL"]},
                {"shard": "s2", "in": ["ä"]},
            ],
        },
        (
            "PARTITION BY LIST (k)",
            "FOR VALUES IN ('a', 'b')",
            "FOR VALUES IN ('c', '', NULL)",
            "FOR VALUES IN ('ä')",
        ),
    ),
    "rng": Table(
        "public.rng",
        {
            "name": "rng",
            "placement": "range",
            "key": ["k"],
            "bounds": [
                {"shard": "s0", "from": ["-10"], "to": ["10"]},
                {"shard": "s1", "from": ["10"], "to": ["20"]},
                {"shard": "s2", "from": ["20"], "to": ["30"]},
            ],
        },
        (
            "PARTITION BY RANGE (k)",
            "FOR VALUES FROM (-10) TO (10)",
            "FOR VALUES FROM (10) TO (20)",
            "FOR VALUES FROM (20) TO (30)",
        ),
    ),
    "rest": Table(
        "public.rest",
        {
            "name": "rest",
            "placement": "list",
            "key": ["k"],
            "values": [{"shard": "s0", "in": ["1.0", "Infinity"]}, {"shard": "s1", "in": ["NaN", "NULL"]}],
            "default": "s2",
        },
        (
            "PARTITION BY LIST (k)",
            "FOR VALUES IN (1, 'Infinity')",
            "FOR VALUES IN ('NaN', NULL)",
            "DEFAULT",
        ),
    ),
    "edges": Table(
        "public.edges",
        {
            "name": "edges",
            "placement": "range",
            "key": ["k", "l"],
            "bounds": [
                {"shard": "s0", "from": ["1", "MINVALUE"], "to": ["1", "2024-01-01"]},
                {"shard": "s1", "from": ["1", "2024-01-01"], "to": ["2", "MAXVALUE"]},
            ],
            "default": "s2",
        },
        (
            "PARTITION BY RANGE (k, l)",
            "FOR VALUES FROM (1, MINVALUE) TO (1, '2024-01-01')",
            "FOR VALUES FROM (1, '2024-01-01') TO (2, MAXVALUE)",
            "DEFAULT",
        ),
    ),
}


@dataclass(frozen=True)
class Copy:
    """One COPY FROM STDIN; the arguments of `RawClient.copy`."""

    sql: str | bytes
    data: bytes
    frames: Sequence[int] = ()
    segments: Sequence[int] = ()
    protocol: Protocol = "simple"
    end: bytes | None = None


Step = str | bytes | Copy
"""A simple query, or a COPY FROM STDIN."""


@dataclass
class Outcome:
    """What came of a case, on the oracle."""

    replies: list[Reply]
    rows: list[str] = field(default_factory=list)

    @property
    def last(self) -> Reply:
        """The reply to the last step."""
        return self.replies[-1]


def ways(sql: str | bytes, data: bytes) -> Iterator[Copy]:
    """The same COPY in one piece, in a CopyData per byte, and with empty and odd pieces that end anywhere."""
    size = len(data)
    yield Copy(sql, data)
    yield Copy(sql, data, frames=range(1, min(size, BYTEWISE)), protocol="extended")
    odd = [cut for cut in range(3, size, max(7, size // 50)) for _ in range(1 + cut % 2)]
    yield Copy(sql, data, frames=odd, segments=range(2, size, max(5, size // 50)), protocol="extended, early Sync")


class Arena:
    """Where the proxy meets PostgreSQL."""

    def __init__(self, databases: Databases, proxy: Proxy, stack: ExitStack) -> None:
        self.databases = databases
        self.version = databases.version
        self.proxy = proxy
        self._oracle = stack.enter_context(_connect(databases.oracle))
        self._shards = [stack.enter_context(_connect(dsn)) for dsn in databases.shards]
        self._stack = stack
        self.declined = 0
        self.read_ahead = 0
        self._open: dict[str, RawClient] = {}

    @classmethod
    @contextmanager
    def open(cls, servers: Servers, run_proxy: Callable[[str], Proxy], options: str = "") -> Iterator["Arena"]:
        """Make the databases (`options` are CREATE DATABASE's) and start the proxy."""
        databases = Databases.create(servers, one_server=True, options=options)
        try:
            with ExitStack() as stack:
                proxy = run_proxy(databases.config([table.config for table in TABLES.values()]))
                yield cls(databases, proxy, stack)
        finally:
            databases.drop()

    # Tables.

    def define(self, ddl: str) -> None:
        """Drop what the last case made, and make the tables of this one."""
        clean = "DROP SCHEMA public CASCADE; DROP SCHEMA IF EXISTS other CASCADE; CREATE SCHEMA public; "
        for connection in (*self._shards, self._oracle):
            connection.execute((clean + ddl).encode())

    def on_shard(self, shard: int, ddl: str) -> None:
        """Run SQL on one shard only."""
        self._shards[shard].execute(ddl.encode())

    def rows(self, table: Table) -> tuple[list[str], list[list[str]]]:
        """Return the rows as text: the oracle's, and each shard's."""
        listing = f'SELECT "whole row"::text FROM {table.sql} "whole row"'.encode()
        oracle, *shards = (
            [text for (text,) in connection.execute(listing).fetchall()] for connection in (self._oracle, *self._shards)
        )
        return oracle, shards

    def places(self, table: Table) -> list[Counter[str]]:
        """Return which of the oracle's rows PostgreSQL's partitioning puts where."""
        method, *bounds = table.partitions
        make = f"CREATE TEMP TABLE twin (LIKE {table.sql}) {method};" + "".join(
            f"CREATE TEMP TABLE twin{shard} PARTITION OF twin {bound};" for shard, bound in enumerate(bounds)
        )
        with self._oracle.transaction(force_rollback=True):
            self._oracle.execute((make + f"INSERT INTO twin SELECT * FROM {table.sql}").encode())
            return [
                Counter(text for (text,) in self._oracle.execute(f"SELECT twin{shard}::text FROM twin{shard}".encode()))
                for shard in range(len(bounds))
            ]

    # Cases.

    def compare(
        self,
        ddl: str,
        *steps: Step,
        table: str = "t",
        settings: Mapping[str, str] | None = None,
        ignore: str = "",
        notices_once: bool = False,
        pause: float = 0.0,
        fresh: bool = True,
        may_decline: bool = False,
    ) -> Outcome:
        """Run the steps on both and compare; return what the oracle said.

        `settings` go into the StartupMessage. `ignore` are letters of error fields that the test explains, and
        `l` for the line.
        `notices_once`: of equal notices it is enough that one comes. `fresh`: over new connections.
        `may_decline`: the proxy may refuse a key's spelling whose meaning depends on settings (`_declined`).
        """
        self.define(ddl)
        expected, declined = self._compare_replies(
            steps, settings, ignore=ignore, notices_once=notices_once, pause=pause, fresh=fresh, may_decline=may_decline
        )
        if declined:
            assert not any(self.rows(TABLES[table])[1]), "declined, but loaded"
            return Outcome(expected[: len(steps)])
        self.compare_rows(TABLES[table])
        return Outcome(expected[: len(steps)], self.rows(TABLES[table])[0])

    def _compare_replies(
        self,
        steps: Sequence[Step],
        settings: Mapping[str, str] | None,
        *,
        ignore: str,
        notices_once: bool = False,
        pause: float = 0.0,
        fresh: bool = True,
        may_decline: bool,
        then_usable: bool = True,
    ) -> tuple[list[Reply], bool]:
        """Run the steps on both and compare the replies; return the oracle's, and whether the proxy declined."""
        expected = self._run("oracle", steps, settings, 0.0, fresh, then_usable)
        got = self._run("proxy", steps, settings, pause, fresh, then_usable)
        for step, theirs, ours in zip([*steps, "usable"], expected, got, strict=False):
            if may_decline and _declined(ours, theirs):
                self.declined += 1
                return expected, True
            there, here = (_normal(reply, ignore, notices_once) for reply in (theirs, ours))
            if theirs.error is not None:
                # The shards read on side by side: what they say of rows behind the refused one is not taken back.
                here["notices"] = [one for one in here["notices"] if one in there["notices"]]
            if _read_ahead(ours, theirs):
                self.read_ahead += 1
                here["errors"], here["line"] = there["errors"], there["line"]
            assert here == there, _difference(step, here, there)
        assert len(got) == len(expected)
        return expected, False

    # Many cases of one hash-placed table: its twin on the oracle is made once, and rows are taken out to be compared.

    def define_for_many(self, ddl: str, table: str) -> None:
        """Make a table for `compare_one_of_many`."""
        self.define(ddl)
        # A session that has just run the same COPY would tell the client of as many columns as there were then.
        if "proxy" in self._open:
            self._open.pop("proxy").close()
        spec = TABLES[table]
        self._oracle.execute(f"CREATE TABLE twin (LIKE {spec.sql}) {spec.partitions[0]}".encode())

    def compare_one_of_many(self, case: "Case") -> tuple[bool, int]:
        """`compare` of a table that is there and empty, and is empty again behind it.

        Return whether PostgreSQL has accepted all steps, and the number of rows.
        """
        # That the session is usable behind this case the next one shows, which has the same connection.
        replies, declined = self._compare_replies(
            case.steps,
            None,
            ignore=case.ignore,
            fresh=False,
            may_decline=case.may_decline,
            then_usable=False,
        )
        spec = TABLES[case.table]
        keys = ", ".join(map(str, cast("list[object]", spec.config["key"])))
        shard = " ".join(
            f"WHEN satisfies_hash_partition('twin'::regclass, {SHARDS}, {n}, {keys}) THEN {n}" for n in range(SHARDS)
        )
        take = f'DELETE FROM {spec.sql} "whole row" RETURNING "whole row"::text'
        shards = [[text for (text,) in connection.execute(take.encode()).fetchall()] for connection in self._shards]
        oracle = self._oracle.execute(f"{take}, CASE {shard} END".encode()).fetchall()
        if declined:
            assert not any(shards), "declined, but loaded"
            return False, 0
        for number, rows in enumerate(shards):
            here, there = sorted(rows), sorted(text for text, place in oracle if place == number)
            assert here == there, f"{case.steps}: s{number} has {here}, and should have {there}"
        return not any(reply.errors for reply in replies), len(oracle)

    def forget(self) -> None:
        """Leave the connections that cases share: the next ones begin over new ones."""
        for client in self._open.values():
            client.close()
        self._open.clear()

    def fill(self, table: str, query: str) -> None:
        """Put a query's rows into the oracle's table, and the same onto the shards, each where it belongs."""
        spec = TABLES[table]
        self._oracle.execute(f"INSERT INTO {spec.sql} {query}".encode())
        if spec.config["placement"] == "reference":
            for connection in self._shards:
                connection.execute(f"INSERT INTO {spec.sql} {query}".encode())
            return
        if spec.config["placement"] == "single":
            self.on_shard(int(str(spec.config["shard"])[1:]), f"INSERT INTO {spec.sql} {query}")
            return
        method, *bounds = spec.partitions
        make = f"CREATE TEMP TABLE twin (LIKE {spec.sql}) {method};"
        make += "".join(f"CREATE TEMP TABLE twin{n} PARTITION OF twin {bound};" for n, bound in enumerate(bounds))
        for shard in range(len(bounds)):
            take = f"INSERT INTO {spec.sql} SELECT * FROM twin{shard}; DROP TABLE twin"
            self.on_shard(shard, f"{make} INSERT INTO twin {query}; {take}")

    def compare_now(self, *steps: Step) -> Outcome:
        """Run the steps on the tables as they are, and compare the replies."""
        expected = self._run("oracle", steps, None, 0.0, True)
        got = self._run("proxy", steps, None, 0.0, True)
        for step, theirs, ours in zip([*steps, "usable"], expected, got, strict=True):
            there, here = (_normal(reply, "", False) for reply in (theirs, ours))
            assert here == there, _difference(step, here, there)
        return Outcome(expected[:-1])

    def compare_exchange(self, stream: bytes) -> None:
        """Send messages that end in one ReadyForQuery to both, and compare the replies."""
        with self.oracle_client() as oracle, self.client() as proxy:
            there, here = (_normal(client.exchange(stream), "", False) for client in (oracle, proxy))
            assert here == there, _difference(stream, here, there)
            assert proxy.usable().order == "TDCZ"

    def wait_until_idle(self) -> None:
        """Wait until the shards run nothing for the proxy; fails after a while."""
        deadline = time.monotonic() + IDLE_PATIENCE
        names = [psycopg.conninfo.conninfo_to_dict(dsn)["dbname"] for dsn in self.databases.shards]
        busy = "SELECT query FROM pg_stat_activity WHERE datname = ANY (%s) AND state <> 'idle'"
        while running := self._oracle.execute(busy, (names,)).fetchall():
            assert time.monotonic() < deadline, running
            time.sleep(0.02)

    def compare_ways(
        self, ddl: str, sql: str | bytes, data: bytes, *, table: str = "t", settings: Mapping[str, str] | None = None
    ) -> Outcome:
        """Run one COPY in all `ways`; return what the oracle said the last time.

        How the bytes come in pieces is the proxy's matter alone: before the newest version one way is enough.
        """
        for copy in islice(ways(sql, data), None if self.version == VERSIONS[-1] else 1):
            outcome = self.compare(ddl, copy, table=table, settings=settings)
        return outcome

    def compare_rows(self, table: Table) -> None:
        """Compare the rows and their places."""
        oracle, shards = self.rows(table)
        if table.config["placement"] == "reference":
            for rows in shards:
                assert sorted(rows) == sorted(oracle)
            return
        assert sorted(row for rows in shards for row in rows) == sorted(oracle)
        if table.config["placement"] == "single":
            assert not any(rows for shard, rows in enumerate(shards) if f"s{shard}" != table.config["shard"])
        else:
            assert [Counter(rows) for rows in shards] == self.places(table)

    def compare_rows_soon(self, table: str) -> int:
        """Wait until nobody else works on the table, then compare; return the number of rows."""
        name = TABLES[table].sql
        for connection in (self._oracle, *self._shards):
            with connection.transaction():
                connection.execute(f"LOCK TABLE {name}".encode())
        self.compare_rows(TABLES[table])
        return len(self.rows(TABLES[table])[0])

    def cancel(self, client: RawClient) -> None:
        """Send the proxy a CancelRequest for what this client runs."""
        pid, key = client.cancel_key
        with socket.create_connection((self.proxy.host, self.proxy.port)) as connection:
            connection.sendall(encode.cancel_request(pid, key))
            assert connection.recv(1) == b""

    def through_proxy(self, *steps: Step) -> list[Reply]:
        """Run steps through the proxy alone, and see that the session is usable after them."""
        replies = self._run("proxy", steps, None, 0.0, True)
        assert replies[-1].order in {"TDCZ", "EZ"}, replies[-1]
        return replies[:-1]

    def partitioned_oracle(self, table: str, copy: Copy) -> dict[str, str]:
        """Return the error when the table is a partitioned one on the oracle, with the shards as partitions."""
        name, (method, *bounds) = TABLES[table].sql, TABLES[table].partitions
        make = f"ALTER TABLE {name} RENAME TO plain; CREATE TABLE {name} (LIKE plain) {method};"
        make += "".join(f"CREATE TABLE part{n} PARTITION OF {name} {bound};" for n, bound in enumerate(bounds))
        self._oracle.execute(make.encode())
        [reply, _] = self._run("oracle", [copy], None, 0.0, True)
        return reply.errors[0]

    def client(self) -> RawClient:
        """Return a new connection to the proxy, to be closed by the caller."""
        return RawClient(self.proxy.dsn())

    def oracle_client(self) -> RawClient:
        """Return a new connection to the oracle, to be closed by the caller."""
        return RawClient(self.databases.oracle)

    def _run(
        self,
        whom: str,
        steps: Sequence[Step],
        settings: Mapping[str, str] | None,
        pause: float,
        fresh: bool,
        then_usable: bool = True,
    ) -> list[Reply]:
        """Run the steps and a query behind them; an ended connection ends the list."""
        client = None if fresh else self._open.pop(whom, None)
        if client is None:
            client = RawClient(self.proxy.dsn() if whom == "proxy" else self.databases.oracle, dict(settings or {}))
        replies: list[Reply] = []
        keep = False
        try:
            for step in steps:
                if isinstance(step, Copy):
                    replies.append(
                        client.copy(
                            step.sql,
                            step.data,
                            frames=step.frames,
                            segments=step.segments,
                            protocol=step.protocol,
                            end=step.end,
                            pause=pause,
                        )
                    )
                else:
                    replies.append(client.query(step))
                if replies[-1].closed:
                    return replies
            if then_usable:
                replies.append(client.usable())
            keep = not fresh and replies[-1].status == "I"
        finally:
            if keep:
                self._open[whom] = client
                self._stack.callback(client.close)
            else:
                client.close()
        return replies


def _connect(dsn: str) -> psycopg.Connection[Any]:
    options = f"-c lock_timeout={LOCK_PATIENCE} -c client_min_messages=warning"
    return psycopg.connect(dsn, autocommit=True, options=options, client_encoding="UTF8")


def _normal(reply: Reply, ignore: str, notices_once: bool) -> dict[str, Any]:
    """Return what has to be equal."""
    notices = sorted(_notice(fields) for fields in reply.notices)
    return {
        "errors": [_error(fields, ignore) for fields in reply.errors],
        "line": None if "l" in ignore else reply.line,
        "order": reply.order,
        "tags": reply.tags,
        "rows": reply.rows,
        "data": _data(reply),
        "copies": reply.copies,
        "status": reply.status,
        "closed": reply.closed,
        "notices": sorted(set(notices)) if notices_once else notices,
    }


def _declined(ours: Reply, theirs: Reply) -> bool:
    """Whether the proxy says that it cannot know a key's value, at a line that PostgreSQL reads without an error.

    Bytes that are not valid in the encoding PostgreSQL refuses at once, on an earlier line of the same row.
    """
    declined = ours.error is not None and ours.error["C"] == FEATURE_NOT_SUPPORTED
    if not declined or ours.line is None:
        return False
    return theirs.line is None or theirs.line >= ours.line or (theirs.error or {})["C"] == "22021"


def _read_ahead(ours: Reply, theirs: Reply) -> bool:
    """Whether the errors differ as they may when bytes are not valid in the encoding.

    PostgreSQL checks bytes when it reads them, and it reads one further where a carriage return or a backslash may
    go on: what is wrong with the next row is then said first, and with this row's line. Here and there another
    row may be the next one. And while it has not seen the first line's end, it counts no newline inside quotes: a
    shard whose first row has many lines names none of them, so that the client reads the last one.
    """
    if ours.error is None or theirs.error is None or ours.line is None or theirs.line is None:
        return False
    if ours.error["M"] == theirs.error["M"] and ours.line > theirs.line:
        return ours.error["C"] == "22021"
    return "22021" in {ours.error["C"], theirs.error["C"]} and abs(ours.line - theirs.line) <= 1


def _difference(step: Step, here: Mapping[str, object], there: Mapping[str, object]) -> str:
    """Say in short what differs."""
    lines = [f"{str(step)[:500]}"]
    for what, found in here.items():
        if found != there[what]:
            lines += [f"{what}, proxy:  {str(found)[:1000]}", f"{what}, oracle: {str(there[what])[:1000]}"]
    return "\n".join(lines)


def _error(fields: Mapping[str, str], ignore: str) -> dict[str, str]:
    """An error without what may differ: the shard's name in DETAIL, and the server's source positions."""
    same = {code: text for code, text in fields.items() if code not in "FLR" + ignore}
    if "D" in same:
        same["D"] = re.sub(r'\n?Reported by shard "s\d"\.$', "", same["D"])
        if not same["D"]:
            del same["D"]
    return same


def _notice(fields: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(fields.get(code, "") for code in "SCMDHW")


def _data(reply: Reply) -> list[bytes]:
    """COPY TO's messages; PostgreSQL promises no order of rows, and the shards' rows come as they come.

    A binary signature is in one message with the first row, which is another row here and there.
    """
    if not reply.data:
        return []
    data = list(reply.data)
    if data[0].startswith(SIGNATURE):
        data[0] = data[0][len(SIGNATURE) :]
        return [SIGNATURE, *sorted(data[:-1]), data[-1]]
    return sorted(data)


SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
"""What COPY TO puts in front of binary rows: signature, flags, length of the extension."""

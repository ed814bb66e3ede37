"""The two sides: one PostgreSQL with all data, and the proxy over three shards. Runs a case on both and compares.

The proxy goes first. Where it refuses a statement as documented, PostgreSQL gets one that fails in its place, so that
both sides are in the same state after it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace

import psycopg
from pglast import split

from shardproxy.wire import encode
from tests.oracle.case import Case, Step
from tests.oracle.documented import first, known, refusal, without
from tests.oracle.generate.placed import PLACED, SHARDS, Placed
from tests.oracle.transcript import CLOSED, FIRST_USER_OID, Item, Names, converse, error, in_one_piece, status
from tests.support.databases import Databases, Servers
from tests.support.proxy import Proxy
from tests.support.rawclient import RawClient

CRASHING = 0.5  # seconds after which a server has ended all connections
RESTART = 30.0  # seconds that a server may take after a crash
FAILS = encode.query(b"SELECT 1/0")
CLEAN = (
    "DO $$ DECLARE s text; BEGIN FOR s IN SELECT quote_ident(nspname) FROM pg_namespace"
    " WHERE nspname !~ '^pg_|^information_schema$|^shardproxy$'"
    " LOOP EXECUTE 'DROP SCHEMA ' || s || ' CASCADE'; END LOOP; END $$; CREATE SCHEMA public"
)


class DifferenceError(AssertionError):
    """The proxy has answered, or left, something else than PostgreSQL."""

    def __init__(self, number: int, kind: str, what: str) -> None:
        super().__init__(what)
        self.number = number  # of the step; that of the last for what the tables hold
        self.kind = kind  # what alike differences have in common


class Arena:
    """Where the proxy meets PostgreSQL."""

    def __init__(self, databases: Databases, proxy: Proxy, stack: ExitStack, placed: Mapping[str, Placed]) -> None:
        self.databases = databases
        self._placed = placed
        self.proxied = proxy.dsn()
        self._stack = stack
        self.oracle, *self.shards = self._connected()
        self.statements = 0
        self.accepted = 0  # by PostgreSQL
        self.refused: Counter[str] = Counter()
        self.known: Counter[str] = Counter()
        self.other_rows = 0  # a LIMIT without ORDER BY has given others of the rows than PostgreSQL's

    def _connected(self) -> list[psycopg.Connection]:
        dsns = (self.databases.oracle, *self.databases.shards)
        return [self._stack.enter_context(psycopg.connect(dsn, autocommit=True)) for dsn in dsns]

    def has_crashed(self) -> bool:
        """Whether the server has crashed, of which the end of a connection is the first sign; then it has restarted."""
        until = time.monotonic() + CRASHING
        while not self.oracle.broken:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
            with suppress(psycopg.OperationalError):
                self.oracle.execute("SELECT 1")
        until = time.monotonic() + RESTART
        while True:
            try:
                self.oracle, *self.shards = self._connected()
            except psycopg.OperationalError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
            else:
                return True

    @classmethod
    @contextmanager
    def open(
        cls, servers: Servers, run_proxy: Callable[[str], Proxy], unlisted_tables: str = "error"
    ) -> Iterator["Arena"]:
        """Make the databases in one server, and start the proxy; no table is listed unless that is an "error"."""
        databases = Databases.create(servers, one_server=True)
        try:
            with ExitStack() as stack:
                placed = PLACED if unlisted_tables == "error" else _unlisted(unlisted_tables)
                tables = [one.listing for one in placed.values()] if placed is PLACED else []
                config = databases.config(tables, commit="two-phase", unlisted_tables=unlisted_tables)
                yield cls(databases, run_proxy(config), stack, placed)
        finally:
            databases.drop()

    def clean(self) -> None:
        """Drop all that the last case has left."""
        for connection in (*self.shards, self.oracle):
            connection.execute(CLEAN.encode())

    def run(self, case: Case) -> None:
        """Run a case on both sides; DifferenceError at the first thing that differs."""
        self.clean()
        with RawClient(self.proxied) as ours, RawClient(self.databases.oracle) as theirs:
            session = _Session(self, ours, theirs)
            session.run(case)
        if not session.ended:
            self.compare_tables(len(case) - 1)

    # Names of types.

    def names(self) -> tuple[Names, Names]:
        """The names of the types that have no fixed OID: as the proxy shows them, and the oracle's."""
        listing = f"SELECT oid, typname::text FROM pg_type WHERE oid >= {FIRST_USER_OID}".encode()
        return dict(self.shards[0].execute(listing).fetchall()), dict(self.oracle.execute(listing).fetchall())

    # Tables.

    def compare_tables(self, number: int) -> None:
        """Compare which tables there are, what they hold, and where each row lies."""
        there = self._tables(self.oracle)
        here = [self._tables(connection) for connection in self.shards]
        for name in sorted(there.union(*here)):
            placed = self._placed.get(name.partition("__")[0])
            expected = [_belongs(placed, shard) and name in there for shard in range(SHARDS)]
            found = [name in one for one in here]
            if placed is not None and found != expected:
                raise DifferenceError(
                    number, "tables", f"table {name} is on the shards {found}, and should be on {expected}"
                )
            if placed is not None and name in there:
                self._compare_rows(replace(placed, name=name), number)

    @staticmethod
    def _tables(connection: psycopg.Connection) -> set[str]:
        listing = (
            "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
        )
        return {name for (name,) in connection.execute(listing.encode()).fetchall()}

    def _compare_rows(self, placed: Placed, number: int) -> None:
        listing = f'SELECT "whole row"::text FROM {placed.name} "whole row"'.encode()
        theirs = Counter(text for (text,) in self.oracle.execute(listing).fetchall())
        ours = [
            Counter(text for (text,) in connection.execute(listing).fetchall())
            for shard, connection in enumerate(self.shards)
            if _belongs(placed, shard)
        ]
        if placed.sharded and theirs and not self._has_key(placed):
            # They stay where they are, and no statement reaches them before the key has its name again.
            ours, expected = [Counter(one for rows in ours for one in rows.elements())], [theirs]
        else:
            expected = self._places(placed) if placed.sharded and theirs else [theirs] * len(ours)
        for shard, (got, wanted) in enumerate(zip(ours, expected, strict=True)):
            if got != wanted:
                more, fewer = list((got - wanted).elements()), list((wanted - got).elements())
                what = f"{placed.name}, copy or shard {shard}: too many {more}, missing {fewer}"
                raise DifferenceError(number, f"rows of {placed.placement}", what)

    def _has_key(self, placed: Placed) -> bool:
        """Whether a case has left the table the columns by which its rows are placed."""
        columns = "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND NOT attisdropped"
        return {*placed.key} <= {name for (name,) in self.oracle.execute(columns.encode(), [placed.name]).fetchall()}

    def _places(self, placed: Placed) -> list[Counter[str]]:
        """Which of the oracle's rows PostgreSQL's partitioning puts where."""
        method, *bounds = placed.partitions
        make = f"CREATE TEMP TABLE twin (LIKE {placed.name}) {method};" + "".join(
            f"CREATE TEMP TABLE twin{shard} PARTITION OF twin {bound};" for shard, bound in enumerate(bounds)
        )
        with self.oracle.transaction(force_rollback=True):
            self.oracle.execute((make + f"INSERT INTO twin SELECT * FROM {placed.name}").encode())
            return [
                Counter(text for (text,) in self.oracle.execute(f"SELECT twin{shard}::text FROM twin{shard}".encode()))
                for shard in range(len(bounds))
            ]


def _unlisted(where: str) -> dict[str, Placed]:
    """The same tables, where the configuration lists none."""
    if where == "reference":
        return {name: Placed(name, "reference") for name in PLACED}
    return {name: Placed(name, "single", config={"shard": where}) for name in PLACED}


def _belongs(placed: Placed | None, shard: int) -> bool:
    only = None if placed is None else placed.config.get("shard")
    return only is None or only == f"s{shard}"


class _Session:
    """One session on both sides."""

    def __init__(self, arena: Arena, ours: RawClient, theirs: RawClient) -> None:
        self._arena = arena
        self._ours, self._theirs = ours, theirs
        self._names: tuple[Names, Names] | None = None
        self._prepared: dict[str, str] = {}  # by name what both know
        self._used: set[str] = set()
        self._state = "I"
        self.ended = False  # by a known fault, after which the sides may differ

    def run(self, case: Case) -> None:
        for number, step in enumerate(case):
            if self._names is None or "TYPE" in step.sql:
                self._names = self._arena.names()
            self._step(number, step)
            if self.ended:
                break
            if step.sql.startswith(("CREATE TYPE", "CREATE DOMAIN", "CREATE TABLE", "CREATE VIEW")):  # each is a type
                self._names = None

    def _step(self, number: int, step: Step) -> None:
        arena = self._arena
        assert self._names is not None
        parse = self._prepared.get(step.name) != step.sql
        data = step.messages(parse=parse, close=step.name in self._used)
        self._used.add(step.name)
        arena.statements += 1
        got = converse(self._ours, data, self._names[0], ordered=step.ordered)
        reason = refusal(got) if self._state != "E" or ";" in step.sql or step.more else None
        if reason is not None:
            arena.refused[reason] += 1
            self._prepared.pop(step.name, None)
            expected = converse(self._theirs, _failing(step, got), self._names[1], ordered=step.ordered)
            if _before_refusal(got) != _before_refusal(expected):
                told = f"{step!r}\nafter a refusal {shown(got)}, PostgreSQL {shown(expected)}"
                raise DifferenceError(number, "state", told)
        else:
            expected = converse(self._theirs, data, self._names[1], ordered=step.ordered)
            self._compare(number, step, got, expected)
        self._state = status(expected)

    def _compare(self, number: int, step: Step, got: list[Item], expected: list[Item]) -> None:
        arena = self._arena
        if step.pieces and not step.ordered:
            got, expected = in_one_piece(got), in_one_piece(expected)
        whole = step.unlimited()
        if got != expected and whole is not None and self._others_will_do(whole, got, expected):
            arena.other_rows += 1
            if status(got) != status(expected):
                self.ended = True  # an error of a row that only one side has met
            got = expected
        if got != expected:
            reason = known(step, got, expected)
            if reason is None:
                what = f"{step!r}\nproxy:      {shown(got)}\nPostgreSQL: {shown(expected)}"
                raise DifferenceError(number, kind_of(got, expected), what)
            arena.known[reason.reason] += 1
            self.ended = reason.ends
        if error(expected) is None and expected[-1] != CLOSED:
            arena.accepted += 1
            if step.name:
                self._prepared[step.name] = step.sql
        else:
            self._prepared.pop(step.name, None)

    def _others_will_do(self, whole: Step, got: list[Item], expected: list[Item]) -> bool:
        """Whether both have as many of the rows that there are without the LIMIT, or have met an error among them."""
        there = error(expected)
        if there is not None and error(got) is None:
            return there["C"].startswith("22")
        inside = status(expected) == "T"
        if inside:
            converse(self._theirs, encode.query(b"SAVEPOINT before_the_whole"), {})
        everything = converse(
            self._theirs, whole.messages(parse=True, close=False), self._names[1] if self._names else {}
        )
        if inside:
            converse(self._theirs, encode.query(b"ROLLBACK TO before_the_whole; RELEASE before_the_whole"), {})
        failed = error(everything)
        if error(got) != error(expected):
            return failed is not None and failed["C"].startswith("22")
        ours, theirs = (Counter(item for item in items if item[0] == "D") for items in (got, expected))
        if without(got, "D") != without(expected, "D") or ours.total() != theirs.total():
            return False
        return failed is not None or ours <= Counter(item for item in everything if item[0] == "D")


def _before_refusal(items: list[Item]) -> list[Item]:
    """What came of statements before, and the state after it."""
    done = max((number for number, item in enumerate(items, 1) if item[0] == "C"), default=0)
    return [*items[:done], ("Z", status(items))]


def _failing(step: Step, got: list[Item]) -> bytes:
    """What fails where the proxy has refused a statement, after the same statements of the Query."""
    done = sum(item[0] == "C" for item in got)
    if step.more:
        steps = [*[replace(step, more=()), *step.more][:done], Step("SELECT 1/0", params=())]
        return replace(steps[0], more=tuple(steps[1:])).messages(parse=True, close=False)
    parts = list(split(step.sql)) if step.params is None else []
    if len(parts) < 2:
        return FAILS
    parts[done] = "SELECT 1/0"
    return encode.query("; ".join(parts).encode())


def kind_of(got: list[Item], expected: list[Item]) -> str:
    """What alike differences have in common: the first pair of items that differs, without their contents."""
    return " for ".join(first(got, expected))


def shown(items: list[Item]) -> str:
    """For people."""
    return " ".join(str(item) for item in items)[:2000]

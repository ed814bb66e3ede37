"""Fuzzing a live proxy: damaged client sessions, cut anywhere, several at once.

    python -m tests.faults.fuzz_clients --count 20000

Invariant: what comes back is a sequence of whole, valid messages, at most one of them FATAL and that one last; then
the connection is closed. The proxy neither hangs, nor grows, nor logs a traceback, and serves a good client after.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from shardproxy.errors import ProtocolError
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B
from shardproxy.wire.framing import FrameReader
from tests.faults.cell import config
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.fuzz.mutation import damage, pieces
from tests.support.databases import Databases, Servers, execute
from tests.support.proxy import Proxy

AT_ONCE = 4
QUIET = 0.05  # seconds without an answer: it waits for more
PATIENCE = 20.0
ROUND = 2000  # sessions of one proxy, in a long run
TOLD = 3000  # characters of an error
GROWTH = 48 << 20  # bytes: the plan cache and a few buffers may fill
OWN_DEFECT = b"internal error in shardproxy"
STARTUP = encode.startup_message({"user": "postgres", "database": "shop", "application_name": "fuzz"})
ROWS = [encode.copy_data(b"7\t%d\tx\n" % number) for number in range(5)]

SESSIONS: tuple[list[bytes], ...] = (
    [encode.query(b"SELECT 1"), encode.TERMINATE],
    [encode.query(b"SELECT count(*) FROM loads; SELECT 2"), encode.query(b"")],
    [encode.query(b"BEGIN"), encode.query(b"INSERT INTO loads VALUES (7, 1, 'x')"), encode.query(b"ROLLBACK")],
    [encode.query(b"COPY loads FROM STDIN"), *ROWS, encode.COPY_DONE, encode.query(b"SELECT 1")],
    [encode.query(b"COPY loads FROM STDIN CSV"), *ROWS, encode.copy_fail("no"), encode.query(b"SELECT 1")],
    [encode.query(b"COPY loads TO STDOUT"), encode.query(b"SELECT 'a''b', $$c$$")],
    [
        encode.parse(b"s", b"SELECT * FROM loads WHERE id = $1", [20]),
        encode.bind(b"", b"s", [0], [b"5"], [0]),
        encode.describe(b"P", b""),
        encode.execute(b"", 2),
        encode.SYNC,
        encode.close(b"S", b"s"),
        encode.FLUSH,
        encode.SYNC,
    ],
    [
        encode.parse(b"", b"INSERT INTO loads VALUES (7, $1, 'y')", []),
        encode.bind(b"p", b"", [1], [bytes(8)], []),
        encode.execute(b"p", 0),
        encode.SYNC,
    ],
    [
        encode.parse(b"", b"COPY loads FROM STDIN", []),
        encode.bind(b"", b"", [], [], []),
        encode.execute(b"", 0),
        encode.SYNC,
        *ROWS,
        encode.COPY_DONE,
        encode.SYNC,
    ],
)


class DefectError(AssertionError):
    """The invariant does not hold; the text has what reproduces it."""


@dataclass
class Report:
    """What came of a run."""

    sessions: int = 0
    seconds: float = 0.0
    grown: int = 0
    states: Counter[str] = field(default_factory=Counter)  # SQLSTATEs that were answered


def check(data: bytes) -> list[str]:
    """Return the SQLSTATEs of an answer; raise DefectError for one that no client could read."""
    whole = data
    # The one-byte answer to SSLRequest or GSSENCRequest.
    while data[:1] == b"N" and (len(data) < 5 or int.from_bytes(data[1:5], "big") > 1 << 24):
        data = data[1:]
    reader = FrameReader()
    reader.feed(data)
    states: list[str] = []
    over = False
    try:
        while (message := reader.next()) is not None:
            if over:
                raise DefectError(f"message {chr(message.type)!r} after a FATAL error")
            if message.type in {B.ERROR_RESPONSE, B.NOTICE_RESPONSE}:
                fields = decode.fields(message.payload)
                if message.type == B.ERROR_RESPONSE:
                    states.append(fields["C"])
                    over = fields["V"] == "FATAL"
            elif message.type == B.READY_FOR_QUERY:
                decode.ready_for_query(message.payload)
            elif message.type == B.COMMAND_COMPLETE:
                decode.command_complete(message.payload)
    except (ProtocolError, KeyError) as error:
        raise DefectError(f"an answer that is no message: {error!r}") from error
    if reader.buffered:
        raise DefectError("an answer that ends within a message")
    # PostgreSQL has XX000 of its own, such as for a parameter of a type that does not exist.
    if OWN_DEFECT in whole:
        raise DefectError("an internal error")
    return states


async def session(port: int, chosen: random.Random) -> list[str]:
    """Play one damaged session; return the SQLSTATEs that came back."""
    messages = chosen.choice(SESSIONS)
    if chosen.random() < 0.8:
        data = STARTUP + damage(chosen, messages)
    else:
        first = [encode.ssl_request()] if chosen.random() < 0.3 else []
        data = damage(chosen, [*first, STARTUP, *messages])
    script = pieces(chosen, data)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for piece in script:
            writer.write(piece)
            await asyncio.sleep(0)
        while True:
            try:
                chunk = await asyncio.wait_for(reader.read(1 << 16), QUIET)
            except TimeoutError:
                break
            if not chunk:
                break
            answer += chunk
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()
        answer += await asyncio.wait_for(reader.read(), PATIENCE)
    except TimeoutError as error:
        raise DefectError(f"the connection stays open for {script!r}") from error
    except OSError:
        pass  # closed with data of ours unread
    finally:
        writer.close()
    try:
        return check(answer)
    except DefectError as error:
        raise DefectError(f"{error}: {script!r} was answered {answer!r}") from error


async def fuzz(proxy: Proxy, count: int, seed: int, over: Callable[[], bool] = lambda: False) -> Report:
    """Play that many sessions against a proxy, or fewer when it is `over`."""
    report = Report()
    chosen = random.Random(seed)
    begun = time.monotonic()
    warm = min(count, 200)
    base = 0

    async def player(own: random.Random) -> None:
        while report.sessions < count and not over():
            report.sessions += 1
            report.states.update(await session(proxy.port, own))

    total, count = count, warm
    for limit in (warm, total):
        count = limit
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(player(random.Random(chosen.random())))
        base = base or proxy.rss()
    report.grown = proxy.rss() - base
    report.seconds = time.monotonic() - begun
    if report.grown > GROWTH:
        raise DefectError(f"the proxy has grown by {report.grown >> 20} MiB")
    async with await psycopg.AsyncConnection.connect(proxy.dsn(), autocommit=True) as good:
        await good.execute("SELECT 1")
    return report


TABLE = "CREATE TABLE loads (load int8, id int8, note text)"


def run(count: int, seed: int, *, version: int = 18, over: Callable[[], bool] = lambda: False) -> Report:
    """Start servers and a proxy, and fuzz it."""
    servers = Servers(version)
    try:
        databases = Databases.create(servers)
        for dsn in databases.shards:
            execute(dsn, TABLE)
        with tempfile.TemporaryDirectory() as directory:
            proxy = Proxy(Path(directory), config(databases.shards, seconds=10.0))
            try:
                return asyncio.run(fuzz(proxy, count, seed, over))
            finally:
                proxy.close()
    finally:
        servers.close()


def run_many(count: int, seed: int, recorder: Recorder) -> Record:
    """Fuzz proxies, a new one for each round, until there are enough sessions or one shows a defect."""
    record = Record()
    sessions = 0
    states: Counter[str] = Counter()
    grown = 0
    while sessions < count and not recorder.over and not record.violations:
        seed += 1
        try:
            report = run(min(ROUND, count - sessions), seed, over=lambda: recorder.over)
        except (Exception, ExceptionGroup) as error:
            record.violations.append(f"seed {seed}: {_told(error)}")
        else:
            sessions += report.sessions
            states += report.states
            grown = max(grown, report.grown)
        record.figures = [Figure("damaged sessions against a live proxy", sessions)]
        record.lines = [
            f"errors answered: {', '.join(f'{number} {state}' for state, number in states.most_common())}",
            f"most memory that {ROUND} sessions added: {grown / 2**20:.1f} MiB",
        ]
        recorder.keep(record)
    return record


def _told(error: BaseException) -> str:
    """The defect itself: it comes in the group's wrapping, and a proxy whose log has a traceback hides it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    below = error.__context__
    told = f"{error!r}"[:TOLD]
    return told if below is None or below is error.__cause__ else f"{_told(below)}; then {told}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.fuzz_clients", description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    return recorder.finish(run_many(arguments.count, arguments.seed, recorder))


if __name__ == "__main__":
    sys.exit(main())

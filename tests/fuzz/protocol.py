"""Fuzzing both sides of the protocol: damaged messages, cut anywhere.

    python -m tests.fuzz.protocol --count 1000000        decoders, and answers of a shard, in this process
    (the live proxy: tests/faults/fuzz_clients.py)

Invariant: a valid message sequence, or one protocol error and an end. No other exception, and no hang.
"""

import argparse
import asyncio
import random
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from shardproxy.copy.options import CopyOptions
from shardproxy.errors import ConnectionLost, PgError, ProtocolError
from shardproxy.net.stream import Stream
from shardproxy.session.copy_out import copy_out
from shardproxy.session.relay import Relay
from shardproxy.shard.address import Address
from shardproxy.shard.connect import start
from shardproxy.shard.connection import Connection
from shardproxy.wire import encode
from shardproxy.wire.constants import authentication_limit, frontend_limit
from shardproxy.wire.framing import FrameReader
from shardproxy.wire.replies import Expect, Owed
from shardproxy.wire.startup import StartupReader
from tests.faults.record import Figure, Record, Recorder, add_options
from tests.fuzz.mutation import damage, pieces
from tests.unit.wire.samples import BACKEND, FRONTEND

PATIENCE = 10.0  # seconds for what takes a millisecond
ROUND = 10_000  # inputs of one seed, in a long run
GROWTH = 64 << 10  # KiB that the process may grow by behind its first round

READY = encode.ready_for_query(b"I")
ROWS = [encode.row_description([("a", 23)]), *(encode.data_row([b"%d" % n, None]) for n in range(5))]
ERROR = encode.error_response({"S": "ERROR", "V": "ERROR", "C": "22P02", "M": "no", "W": "COPY t, line 3"})
NOTICE = encode.notice_response({"S": "NOTICE", "C": "00000", "M": "hm"})
STATUS = encode.parameter_status("TimeZone", "UTC")
LOGIN = [encode.authentication_ok(), STATUS, encode.backend_key_data(7, b"abcd"), READY]
SELECT = [*ROWS, encode.command_complete("SELECT 5"), READY]
COPIED = [
    encode.copy_out_response(0, [0, 0]),
    *(encode.copy_data(b"%d\tx\n" % n) for n in range(4)),
    encode.COPY_DONE,
    encode.command_complete("COPY 4"),
    READY,
]
BINARY = [
    encode.copy_out_response(1, [1]),
    encode.copy_data(b"PGCOPY\n\xff\r\n\0" + bytes(8) + b"\0\1\0\0\0\4\0\0\0\1"),
    encode.copy_data(b"\0\1\0\0\0\4\0\0\0\2"),
    encode.copy_data(b"\xff\xff"),
    encode.COPY_DONE,
    encode.command_complete("COPY 2"),
    READY,
]


class DefectError(AssertionError):
    """The invariant does not hold; the text has what reproduces it."""


VERSIONS = ((3, 0), (3, 2), (3, 9))

# Decoders and readers.


def decoders(chosen: random.Random) -> None:
    """One damaged stream through a reader, and every message through its decoder."""
    samples = chosen.choice((BACKEND, FRONTEND))
    picked = [chosen.choice(samples) for _ in range(chosen.randint(1, 4))]
    data = damage(chosen, [sample.message for sample in picked])
    limit = None if samples is BACKEND else chosen.choice((frontend_limit, authentication_limit))
    reader = FrameReader(limit)
    by_type = {sample.message[0]: sample.decoder for sample in samples}
    given = 0
    try:
        for piece in pieces(chosen, data):
            reader.feed(piece)
            while (message := reader.next()) is not None:
                given += 5 + len(message.payload)
                if message.type in by_type:
                    by_type[message.type](message.payload)
        if given + reader.buffered != len(data):
            raise DefectError(f"bytes got lost of {data!r}")
    except ProtocolError:
        return


def startups(chosen: random.Random) -> None:
    """One damaged startup packet."""
    packets = [
        encode.startup_message({"user": "me", "database": "shop", "_pq_.x": "1"}, chosen.choice(VERSIONS)),
        encode.ssl_request(),
        encode.gssenc_request(),
        encode.cancel_request(7, b"abcd"),
    ]
    reader = StartupReader()
    try:
        for piece in pieces(chosen, damage(chosen, [chosen.choice(packets)])):
            reader.feed(piece)
            while reader.next() is not None:
                continue
    except ProtocolError:
        return


# Answers of a shard.


class _Transport(asyncio.Transport):
    """Takes what is written and forgets it."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream
        self._closed = False

    def write(self, data: Any) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self._closed:
            self._closed = True
            asyncio.get_running_loop().call_soon(self._stream.connection_lost, None)

    @property
    def closed(self) -> bool:
        return self._closed


async def _alive() -> bool:
    return True


class _Shard(Connection):
    """A connection whose other side is the fuzzer."""

    def __init__(self, number: int) -> None:
        stream = Stream(FrameReader())
        self.transport = _Transport(stream)
        stream.connection_made(self.transport)
        super().__init__(Address(f"s{number}", "127.0.0.1", 1, "u", "d"), stream, _alive)

    def cancel(self) -> "asyncio.Task[None]":
        """There is no server to ask."""
        return asyncio.ensure_future(asyncio.sleep(0))

    def deliver(self, data: bytes) -> None:
        """Let bytes arrive."""
        view = memoryview(data)
        while view and not self.transport.closed:
            buffer = self.stream.get_buffer(-1)
            size = min(len(buffer), len(view))
            buffer[:size] = view[:size]
            self.stream.buffer_updated(size)
            view = view[size:]


@dataclass
class _Client:
    """What the client would read: whole messages, whatever the shard says."""

    writable: bool = True
    on_writable: Callable[[bool], None] | None = None
    frames: FrameReader = field(default_factory=FrameReader)

    def write(self, data: bytes) -> None:
        self.frames.feed(data)
        while self.frames.next() is not None:
            continue
        if self.frames.buffered:
            raise DefectError(f"the client was given a part of a message: {data[:80]!r}")

    async def drain(self) -> None:
        """It is never slow."""


Job = Callable[[list[_Shard], _Client], Awaitable[object]]


async def _start(shards: list[_Shard], client: _Client) -> None:
    await start(shards[0], {})


async def _execute(shards: list[_Shard], client: _Client) -> None:
    await shards[0].execute("SELECT 1")


async def _fetch(shards: list[_Shard], client: _Client) -> None:
    await shards[0].fetch("SELECT 1")


async def _relay(shards: list[_Shard], client: _Client) -> None:
    for shard in shards:
        shard.query(b"SELECT", (Owed(Expect.QUERY),))
    await Relay(shards, client).run()


async def _copy_text(shards: list[_Shard], client: _Client) -> None:
    await copy_out(b"COPY", CopyOptions.read("to", ()), shards, client)


SCENARIOS: tuple[tuple[Job, int, list[list[bytes]]], ...] = (
    (_start, 1, [LOGIN]),
    (_execute, 1, [SELECT, [NOTICE, encode.command_complete("BEGIN"), encode.ready_for_query(b"T")], [ERROR, READY]]),
    (_fetch, 1, [SELECT]),
    (_relay, 2, [SELECT, [ERROR, READY], [NOTICE, STATUS, *SELECT]]),
    (_copy_text, 2, [COPIED, [ERROR, READY], [NOTICE, *COPIED], BINARY]),
)


async def answers(chosen: random.Random) -> None:
    """One damaged conversation of one or two shards."""
    job, count, conversations = chosen.choice(SCENARIOS)
    shards = [_Shard(number) for number in range(count)]
    client = _Client()
    task = asyncio.ensure_future(job(shards, client))
    await asyncio.sleep(0)
    script = []
    for shard in shards:
        messages = chosen.choice(conversations)
        data = damage(chosen, messages) if chosen.random() < 0.9 else b"".join(messages)
        script += [(shard, piece) for piece in pieces(chosen, data)]
    for shard, piece in script:
        shard.deliver(piece)
        if chosen.random() < 0.5:
            await asyncio.sleep(0)
    for shard in shards:
        shard.transport.abort()
    try:
        await asyncio.wait_for(task, PATIENCE)
    except (PgError, ConnectionLost):
        return
    except Exception as error:
        raise DefectError(f"{job.__name__} raised {error!r} for {[(s.name, p) for s, p in script]!r}") from error


async def run(count: int, seed: int) -> dict[str, int]:
    """Run inputs of all kinds; return how many of each. Raises DefectError."""
    chosen = random.Random(seed)
    done = {"decoders": 0, "start-ups": 0, "answers": 0}
    for number in range(count):
        if number % 4 == 0:
            await answers(chosen)
            done["answers"] += 1
        elif number % 4 == 1:
            startups(chosen)
            done["start-ups"] += 1
        else:
            decoders(chosen)
            done["decoders"] += 1
    return done


def run_many(count: int, seed: int, recorder: Recorder) -> Record:
    """Run rounds, each with a seed of its own, until there are enough inputs or one shows a defect."""
    done: Counter[str] = Counter()
    record = Record()
    at_first = 0
    while done.total() < count and not recorder.over and not record.violations:
        seed += 1
        try:
            done.update(asyncio.run(run(min(ROUND, count - done.total()), seed)))
        except Exception as error:
            record.violations.append(f"seed {seed}: {error!r}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        at_first = at_first or peak
        if peak - at_first > GROWTH:
            record.violations.append(f"seed {seed}: memory has grown from {at_first} to {peak} KiB")
        record.figures = [Figure("fuzz inputs", done.total())]
        record.lines = [
            ", ".join(f"{number} {name}" for name, number in done.items()),
            f"memory: {at_first >> 10} MiB after {ROUND} inputs, {peak >> 10} MiB at its highest",
        ]
        recorder.keep(record)
    return record


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.protocol", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    add_options(parser)
    arguments = parser.parse_args()
    recorder = Recorder.of(arguments)
    return recorder.finish(run_many(arguments.count, arguments.seed, recorder))


if __name__ == "__main__":
    sys.exit(main())

"""Message sequences: pipelines of all frontend messages to one PostgreSQL and to the proxy, and the same answers.

A pipeline is sent whole; after it come a Sync and a Query that is a syntax error in every state, by which its end is
known, and a ROLLBACK.
"""

import re
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Any

from shardproxy.wire import encode
from tests.oracle.arena import Arena, DifferenceError, kind_of, shown
from tests.oracle.documented import SEQUENCES
from tests.oracle.generate.placed import SHARDS
from tests.oracle.transcript import CLOSED, Item, error, read
from tests.support.rawclient import RawClient

ROWS = 60
TABLES = ("h", "ref", "one")
TWIN = "CREATE TABLE twin (k int) PARTITION BY HASH (k)"
FILL = f"DELETE FROM {{0}}; INSERT INTO {{0}} SELECT k, 'row ' || k FROM generate_series(1, {ROWS}) k"
HERE = f" WHERE satisfies_hash_partition('twin'::regclass, {SHARDS}, {{1}}, k)"
# The portal of a Query that has failed in a transaction block points to memory that the next message frees: an Execute
# or Describe of the unnamed portal then may end the process by SIGSEGV, in 16 and 18.
CRASH = "PostgreSQL itself has crashed: the portal of a Query that failed"
SLEEPING = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = ANY (%s)"
AWAKE = 1.0  # seconds after which a pipeline has failed before its pg_sleep()


@dataclass(frozen=True)
class Sent:
    """A message by its name and its parts; its `repr` is the Python that makes it."""

    kind: str
    parts: tuple[Any, ...]

    def __init__(self, kind: str, *parts: Any) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "parts", parts)

    def __repr__(self) -> str:
        return f"Sent({', '.join(map(repr, (self.kind, *self.parts)))})"

    @property
    def data(self) -> bytes:
        """The message."""
        match self.kind, self.parts:
            case "parse", (name, sql, oids):
                return encode.parse(name.encode(), sql, oids)
            case "bind", (portal, name, values):
                return encode.bind(portal.encode(), name.encode(), (), values, ())
            case "describe", (kind, name):
                return encode.describe(kind.encode(), name.encode())
            case "close", (kind, name):
                return encode.close(kind.encode(), name.encode())
            case "execute", (portal, limit):
                return encode.execute(portal.encode(), limit)
            case "query", (sql,):
                return encode.query(sql)
            case "copy data", (data,):
                return encode.copy_data(data)
            case "copy fail", (reason,):
                return encode.copy_fail(reason)
        return {"sync": encode.SYNC, "flush": encode.FLUSH, "copy done": encode.COPY_DONE}[self.kind]


class Cancel(Enum):
    """When a pipeline is cancelled."""

    NEVER = 0
    WHEN_IT_SLEEPS = 1


@dataclass(frozen=True)
class Pipeline:
    """Messages that are sent without waiting for an answer."""

    messages: list[Sent]
    cancel: Cancel = Cancel.NEVER


_numbers = count(1)


class Sequences:
    """Runs pipelines in an arena with the tables `h` (hash), `ref` and `one`."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.pipelines = 0
        arena.clean()
        for shard, connection in enumerate((*arena.shards, arena.oracle)):
            names = [name for name in TABLES if name != "one" or shard in {1, SHARDS}]
            tables = [f"CREATE TABLE {name} (k int PRIMARY KEY, b text)" for name in names]
            connection.execute(";".join([*tables, TWIN]).encode())

    def _fill(self) -> None:
        """Give the tables their rows again; no DDL, which the proxy would notice a second later."""
        arena = self._arena
        arena.oracle.execute(";".join(FILL.format(name) for name in TABLES).encode())
        for shard, connection in enumerate(arena.shards):
            parts = [
                FILL.format("h") + HERE.format("h", shard),
                FILL.format("ref"),
                *[FILL.format("one")] * (shard == 1),
            ]
            connection.execute(";".join(parts).encode())

    def run(self, pipelines: Sequence[Pipeline]) -> None:
        """Run the pipelines of one session on both sides; DifferenceError at the first that differs."""
        arena = self._arena
        self._fill()
        with RawClient(arena.proxied) as ours, RawClient(arena.databases.oracle) as theirs:
            for number, pipeline in enumerate(pipelines):
                self.pipelines += 1
                expected = self._converse(theirs, pipeline)
                if expected[-1] == CLOSED and arena.has_crashed():
                    arena.known[CRASH] += 1
                    return
                got = self._converse(ours, pipeline)
                if got != expected:
                    known = next((one for one in SEQUENCES if one.holds(pipeline.messages, got, expected)), None)
                    if known is None:
                        what = f"{pipeline!r}\nproxy:      {shown(got)}\nPostgreSQL: {shown(expected)}"
                        raise DifferenceError(number, kind_of(got, expected), what)
                    arena.known[known.reason] += 1
                    if known.ends:
                        return
                if expected[-1] == CLOSED:
                    break
        arena.compare_tables(len(pipelines) - 1)

    def _converse(self, client: RawClient, pipeline: Pipeline) -> list[Item]:
        marker = f"marker{next(_numbers)}"
        end = encode.SYNC + encode.query(marker.encode()) + encode.query(b"ROLLBACK")
        sent = b"".join(one.data for one in pipeline.messages)
        if pipeline.cancel is Cancel.WHEN_IT_SLEEPS:
            client.send(sent)
            self._await_sleep()
            _cancel(client)
            client.send(end)
        else:
            client.send(sent + end)

        def over(items: list[Item]) -> bool:
            at = next((at for at, item in enumerate(items) if item[0] == "E" and marker in str(item)), None)
            return at is not None and sum(item[0] == "Z" for item in items[at:]) == 2

        items = read(client, {}, over)
        return [_unmarked(item) for item in items]

    def _await_sleep(self) -> None:
        until = time.monotonic() + AWAKE
        names = [dsn.rpartition("/")[2] for dsn in (self._arena.databases.oracle, *self._arena.databases.shards)]
        while time.monotonic() < until:
            if self._arena.oracle.execute(SLEEPING.encode(), (names,)).fetchall()[0][0]:
                return
            time.sleep(0.002)


def _cancel(client: RawClient) -> None:
    """Send a CancelRequest, and wait until it is read."""
    with socket.create_connection(client.address) as connection:
        connection.sendall(encode.cancel_request(*client.cancel_key))
        while connection.recv(1):
            pass


def _unmarked(item: Item) -> Item:
    return ("the end",) if item[0] == "E" and re.search(r'"marker\d+"', error([item])["M"]) else item  # type: ignore[index]

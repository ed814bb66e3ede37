"""The hands of the SQL storm: what is done to proxies, to shards, and to the network between them."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Callable

import psycopg

from shardproxy.embedded import Server, supervisor
from shardproxy.wire.constants import F
from tests.faults.sql_session import Line, Told
from tests.support.databases import query
from tests.support.faultproxy import Fault, FaultProxy, Rule, When

QUIET = (0.5, 4.0)  # seconds between a healing and the next fault of a hand
BACKENDS = """SELECT pid FROM pg_stat_activity
  WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = current_database()"""
AT = (
    (F.QUERY, b"COMMIT"), (F.QUERY, b"PREPARE TRANSACTION"), (F.QUERY, b"COMMIT PREPARED"), (F.QUERY, b"BEGIN"),
    (F.QUERY, b"decisions"), (F.QUERY, b"ROLLBACK"), (F.QUERY, b"LOCK"), (F.QUERY, b"advisory"), (F.QUERY, b"INSERT"),
    (F.QUERY, b"COPY"), (F.PARSE, b"INSERT"), (F.PARSE, b"UPDATE"), (F.PARSE, b"DELETE"), (F.PARSE, b"ops"),
    (F.BIND, b""), (F.SYNC, b""), (F.COPY_DONE, b""), (F.QUERY, b"TABLE"), (F.QUERY, b"SELECT"),
)  # fmt: skip
"""Messages to shards at which a connection is broken."""


class Hands:
    """They take turns of their own until `take` refuses."""

    def __init__(
        self,
        lines: list[Line],
        servers: list[Server],
        networks: list[list[FaultProxy]],
        chosen: random.Random,
        take: Callable[[str], bool],
        told: Told,
    ) -> None:
        self._lines = lines
        self._servers = servers
        self._networks = networks  # by proxy, then by shard
        self._random = chosen
        self._take = take
        self._told = told

    async def proxies(self, line: Line) -> None:
        """Kill, drain or suspend a proxy."""
        while True:
            await asyncio.sleep(self._random.uniform(*QUIET))
            what = self._random.choice(("SIGKILL", "SIGTERM", "SIGSTOP"))
            if not self._take({"SIGKILL": "SIGKILLs of a proxy", "SIGTERM": "drains", "SIGSTOP": "stops"}[what]):
                return
            line.disturbed += 1
            if what == "SIGSTOP":
                line.proxy.signal(signal.SIGSTOP)
                await asyncio.sleep(self._random.uniform(0.2, 5))
                line.proxy.signal(signal.SIGCONT)
                continue
            line.up = False
            await asyncio.to_thread(line.proxy.kill if what == "SIGKILL" else line.proxy.stop)
            await asyncio.sleep(self._random.uniform(0, 0.3))
            await self._start(line)
            line.disturbed += 1
            line.up = True

    async def _start(self, line: Line) -> None:
        begun = time.monotonic()
        await asyncio.to_thread(line.proxy.start)
        self._told.longest_start = max(self._told.longest_start, time.monotonic() - begun)

    async def shards(self) -> None:
        """Crash a shard, restart it in order, or end backends."""
        while True:
            await asyncio.sleep(self._random.uniform(*QUIET))
            server = self._random.choice(self._servers)
            match self._random.randrange(4):
                case 0:
                    if not self._take("crashes of a shard"):
                        return
                    await asyncio.to_thread(server.kill)
                    await asyncio.sleep(self._random.uniform(0, 1))
                    await asyncio.to_thread(server.restart)
                case 1:
                    if not self._take("restarts of a shard"):
                        return
                    await asyncio.to_thread(server.restart)
                case 2:
                    if not self._take("SIGKILLs of a backend"):
                        return
                    await asyncio.to_thread(self._end_backends, server, 1, signal.SIGKILL)
                case _:
                    if not self._take("terminations of backends"):
                        return
                    await asyncio.to_thread(self._end_backends, server, self._random.choice((1, 5, 50)), signal.SIGTERM)

    def _end_backends(self, server: Server, count: int, signum: int) -> None:
        with contextlib.suppress(psycopg.OperationalError):
            found = [pid for (pid,) in query(f"{server.dsn()}?connect_timeout=2", BACKENDS)]
            for pid in self._random.sample(found, min(count, len(found))):
                with contextlib.suppress(ProcessLookupError):
                    supervisor.send(pid, signum)

    async def network(self, at: int) -> None:
        """Break what is between a proxy and its shards."""
        while True:
            await asyncio.sleep(self._random.uniform(*QUIET))
            network = self._random.choice(self._networks[at])
            if self._random.random() < 0.25:
                fault = self._random.choice((Fault.STALL, Fault.STALL, Fault.RESET, Fault.CLOSE))
                if not self._take(f"networks away ({fault.value})"):
                    return
                network.away(fault)
                await asyncio.sleep(self._random.choice((0.1, 1.0, 4.0, 8.0)) * self._random.random())
            else:
                kind, text = self._random.choice(AT)
                fault = self._random.choice((Fault.CLOSE, Fault.RESET, Fault.STALL, Fault.CUT, Fault.DELAY))
                rule = Rule(
                    fault,
                    kind,
                    text,
                    when=self._random.choice(list(When)),
                    nth=self._random.randint(1, 3),
                    spread=self._random.random() < 0.3 and fault not in {Fault.CUT, Fault.DELAY},
                )
                if not self._take(f"connections broken at a message ({fault.value})"):
                    return
                network.add(rule)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(2):
                        await rule.fired.wait()
                if rule.fired.is_set():
                    await asyncio.sleep(self._random.uniform(0, 3))
            await network.heal()

"""`shardproxy serve`: the process. Reads the configuration, listens, and ends cleanly.

SIGTERM and SIGINT drain: no new clients, and those connected may finish their transactions. SIGHUP reads the
configuration again; a file with errors is refused as a whole and the old one stays in force.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from shardproxy.config import Config, ConfigErrors, Problem, Server, is_loopback, parse, read
from shardproxy.errors import PgError
from shardproxy.server.descriptors import allow_descriptors
from shardproxy.server.instructions import Instructions
from shardproxy.server.listener import BACKLOG, Listener
from shardproxy.server.startup import examine_shards
from shardproxy.server.workers import Parent, Worker
from shardproxy.session.database import Database

log = logging.getLogger(__name__)

LEAVE_LOOK = 1.0
"""Seconds until it is seen that a client that was logging in does not use a former configuration."""


async def serve(path: Path) -> int:
    """Serve until a signal ends it; return the exit code. ConfigErrors if it cannot start."""
    hangup = asyncio.Event()
    # First of all, as SIGHUP would end a process that is still examining its shards.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
    worker = Worker.from_environment()
    if worker is not None:
        return await _work(path, worker)
    text = read(path)
    config = parse(text, source=str(path))
    await examine_shards(config)
    count = config.server.workers or os.cpu_count() or 1
    if count > 1:
        return await _watch_workers(path, text, config, count, hangup)
    serving = _Serving(config)

    async def reload() -> None:
        _, config = await examined(path, serving.config.server)
        await serving.use(config)
        log.info("configuration reloaded")

    return await serving.run(hangup, reload)


async def _work(path: Path, worker: Worker) -> int:
    """Run as a worker, with configurations that the parent sends and has examined."""
    instructions = Instructions()
    server = parse(instructions.wait(), source=str(path)).server
    text = instructions.wait()
    serving = _Serving(_staying(parse(text, source=str(path)), server), worker)
    told = asyncio.Event()

    def tell(latest: str) -> None:
        nonlocal text
        text = latest
        told.set()

    async def reload() -> None:
        await serving.use(_staying(parse(text, source=str(path)), server))

    instructions.watch(tell, serving.stop.set)
    return await serving.run(told, reload)


async def _watch_workers(path: Path, text: str, config: Config, count: int, hangup: asyncio.Event) -> int:
    await _try_to_start(config)
    parent = Parent(path, text, count, config.server.host, config.server.port, BACKLOG)
    _on_stop(parent.stop)

    async def reload() -> None:
        text, found = await examined(path, config.server)
        await _try_to_start(found)
        parent.configure(text)
        log.info("configuration reloaded")

    reloading = asyncio.ensure_future(_at(hangup, reload))
    try:
        return await parent.run(partial(_print_ready, *parent.address))
    finally:
        reloading.cancel()


class _Serving:
    """One process that serves clients."""

    def __init__(self, config: Config, worker: Worker | None = None) -> None:
        databases = {entry.name: Database(entry) for entry in config.databases}
        self.stop = asyncio.Event()
        self._started = list(databases.values())
        self._leaving: dict[Database, asyncio.Task[None]] = {}
        self._listener = Listener(config, databases, worker)

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._listener.config

    async def run(self, asked: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> int:
        """Accept clients until `stop`, and `reload` whenever `asked` is set; then drain."""
        allow_descriptors(self.config)
        for database in self._started:
            await database.start()
        _on_stop(self.stop.set)
        _print_ready(*await self._listener.start())
        reloading = asyncio.ensure_future(_at(asked, reload))
        await self.stop.wait()
        reloading.cancel()
        log.info("draining %d clients", len(self._listener.sessions))
        await self._listener.drain(self.config.server.drain_timeout)
        await asyncio.gather(*self._leaving.values())
        for database in self._started:
            await database.close()
        return 0

    async def use(self, config: Config) -> None:
        """Use it for clients that log in from now on; a database whose entry has not changed is kept."""
        kept = {database.config: database for database in self._started}
        databases = {entry.name: kept.get(entry) or Database(entry) for entry in config.databases}
        for database in databases.values():
            if (leaving := self._leaving.pop(database, None)) is not None:
                leaving.cancel()
            if database not in self._started:
                await database.start()
                self._started.append(database)
        self._listener.reload(config, databases)
        for database in self._started:
            if database not in databases.values() and database not in self._leaving:
                self._leaving[database] = asyncio.ensure_future(self._leave(database))

    async def _leave(self, database: Database) -> None:
        """Close a database that the configuration has no more, once no client uses it."""
        while users := self._listener.users_of(database):
            await asyncio.wait(users, timeout=LEAVE_LOOK)
        # From here on a reload makes it anew.
        self._started.remove(database)
        await database.close()
        del self._leaving[database]
        log.info("the former configuration of database %s is no longer used", database.config.name)


async def examined(path: Path, server: Server) -> tuple[str, Config]:
    """Read the file as it is now and examine its shards; ConfigErrors if it cannot be used with this [server]."""
    text = read(path)
    config = parse(text, source=str(path))
    if not config.users and not is_loopback(server.host):
        remedy = "Keep a [[users]], or restart with the new [server]."
        message = f"without it all clients are trusted, and the proxy listens on {server.listen} until the next start"
        raise ConfigErrors(str(path), [Problem(None, "users", message, remedy)])
    if config.server != server:
        log.warning("[server] takes effect at the next start")
    await examine_shards(config)
    return text, _staying(config, server)


def _staying(config: Config, server: Server) -> Config:
    return config.model_copy(update={"server": server})


async def _try_to_start(config: Config) -> None:
    """Raise the PgError that would keep each worker from starting, or from using the configuration."""
    for entry in config.databases:
        database = Database(entry)
        try:
            await database.start()
        finally:
            await database.close()


async def _at(asked: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            await reload()
        except (ConfigErrors, PgError) as error:
            log.error("the configuration was not reloaded: %s", error)


def _on_stop(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


def _print_ready(host: str, port: int) -> None:
    # Scripts wait for this line.
    shown = f"[{host}]" if ":" in host else host
    print(f"ready: {shown}:{port}", flush=True)


def run(path: Path) -> int:
    """Run `serve`, on uvloop if it is installed."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        import uvloop
    except ImportError:
        return asyncio.run(serve(path))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(path))

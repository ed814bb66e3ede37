"""`shardproxy serve`: the process. Reads the configuration, listens, and ends cleanly.

SIGTERM and SIGINT drain: no new client, and each one there may finish its transaction. SIGHUP reads the
configuration again; a file with errors is refused as a whole and the old one stays.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from shardproxy.config import Config, ConfigErrors, load
from shardproxy.engine.database import Database
from shardproxy.errors import PgError
from shardproxy.server.listener import BACKLOG, Listener
from shardproxy.server.startup import look_at_shards
from shardproxy.server.workers import Parent, Workplace

log = logging.getLogger(__name__)


async def serve(path: Path) -> int:
    """Serve until a signal ends it; return the exit code. ConfigErrors where it cannot start."""
    config = load(path)
    workplace = Workplace.given()
    if workplace is None:
        await look_at_shards(config)
        count = config.server.workers or os.cpu_count() or 1
        if count > 1:
            return await _serve_with_workers(path, config, count)
    databases = {entry.name: Database(entry) for entry in config.databases}
    started = list(databases.values())
    for database in started:
        await database.start()
    listener = Listener(config, databases, workplace)
    stop, hangup = asyncio.Event(), asyncio.Event()
    _on_signals(stop.set, hangup.set)
    if workplace is not None:
        workplace.when_orphaned(stop.set)
    reloading = asyncio.ensure_future(_reload_at(hangup, listener, path, started))
    _say_ready(*await listener.start())
    await stop.wait()
    reloading.cancel()
    log.info("draining %d clients", len(listener.sessions))
    await listener.drain(listener.config.server.drain_timeout)
    for database in started:
        await database.close()
    return 0


async def _serve_with_workers(path: Path, config: Config, count: int) -> int:
    parent = Parent(path, count, config.server.host, config.server.port, BACKLOG)
    _on_signals(parent.stop, partial(parent.signal, signal.SIGHUP))
    return await parent.run(partial(_say_ready, *parent.address))


def _on_signals(stop: Callable[[], None], reload: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)


def _say_ready(host: str, port: int) -> None:
    # The one line that scripts wait for.
    shown = f"[{host}]" if ":" in host else host
    print(f"ready: {shown}:{port}", flush=True)


async def _reload_at(hangup: asyncio.Event, listener: Listener, path: Path, started: list[Database]) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        try:
            await _reload(listener, path, started)
        except (ConfigErrors, PgError) as error:
            log.error("the configuration stays as it was: %s", error)


async def _reload(listener: Listener, path: Path, started: list[Database]) -> None:
    """Use the file as it is now for new clients; a database whose entry is the same is kept with all it knows."""
    config = load(path)
    await look_at_shards(config)
    kept = {database.config: database for database in started}
    databases = {entry.name: kept.get(entry) or Database(entry) for entry in config.databases}
    for database in databases.values():
        if database not in started:
            await database.start()
            started.append(database)
    if config.server != listener.config.server:
        log.warning("[server] takes effect at the next start")
    listener.reload(config, databases)
    log.info("configuration reloaded")


def run(path: Path) -> int:
    """Run `serve` on uvloop where it is installed."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        import uvloop
    except ImportError:
        return asyncio.run(serve(path))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(serve(path))

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
from shardproxy.server.listener import BACKLOG, Listener
from shardproxy.server.startup import look_at_shards
from shardproxy.server.workers import Parent, Workplace

log = logging.getLogger(__name__)


def databases_of(config: Config) -> dict[str, Database]:
    """Return what the sessions of each configured database share."""
    return {database.name: Database(database) for database in config.databases}


async def serve(path: Path) -> int:
    """Serve until a signal ends it; return the exit code. ConfigErrors where it cannot start."""
    config = load(path)
    workplace = Workplace.given()
    if workplace is None:
        await look_at_shards(config)
        count = config.server.workers or os.cpu_count() or 1
        if count > 1:
            return await _serve_with_workers(path, config, count)
    listener = Listener(config, databases_of(config), workplace)
    stop = asyncio.Event()
    _on_signals(stop.set, partial(_reload, listener, path))
    if workplace is not None:
        workplace.when_orphaned(stop.set)
    _say_ready(*await listener.start())
    await stop.wait()
    log.info("draining %d clients", len(listener.sessions))
    await listener.drain(listener.config.server.drain_timeout)
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


def _reload(listener: Listener, path: Path) -> None:
    try:
        config = load(path)
    except ConfigErrors as errors:
        log.error("the configuration stays as it was: %s", errors)
        return
    if config.server != listener.config.server:
        log.warning("[server] takes effect at the next start")
    listener.reload(config, databases_of(config))
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

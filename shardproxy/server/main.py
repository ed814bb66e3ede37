"""`shardproxy serve`: the process. Reads the configuration, listens, and ends cleanly.

SIGTERM and SIGINT drain: no new client, and each one there may finish its transaction. SIGHUP reads the
configuration again; a file with errors is refused as a whole and the old one stays.
"""

import asyncio
import logging
import signal
import sys
from pathlib import Path

from shardproxy.config import Config, ConfigErrors, load
from shardproxy.engine.database import Database
from shardproxy.server.listener import Listener

log = logging.getLogger(__name__)


def databases_of(config: Config) -> dict[str, Database]:
    """Return what the sessions of each configured database share."""
    return {database.name: Database(database) for database in config.databases}


async def serve(path: Path) -> int:
    """Serve until a signal ends it; return the exit code."""
    config = load(path)
    listener = Listener(config, databases_of(config))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _reload, listener, path)
    host, port = await listener.start()
    # The one line that scripts wait for.
    print(f"ready: {host}:{port}", flush=True)
    await stop.wait()
    log.info("draining %d clients", len(listener.sessions))
    await listener.drain(listener.config.server.drain_timeout)
    return 0


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

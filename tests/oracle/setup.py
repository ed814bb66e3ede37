"""An arena outside of pytest."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.oracle.arena import Arena
from tests.support.databases import Servers
from tests.support.proxy import Proxy


@contextmanager
def arena(version: int, unlisted_tables: str = "error") -> Iterator[Arena]:
    """Servers, databases and a proxy, for as long as it lasts."""
    servers = Servers(version)
    try:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))

            def start(config: str) -> Proxy:
                proxy = Proxy(directory, config)
                stack.callback(proxy.close)
                return proxy

            yield stack.enter_context(Arena.open(servers, start, unlisted_tables))
    finally:
        servers.close()

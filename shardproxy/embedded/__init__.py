"""PostgreSQL servers from a pip package, for the demo and the tests.

`Server.start()` returns a running server on loopback; nothing of it outlives this process, even if this process is
killed. It never listens beyond loopback, and it is not for valuable data: fsync is off by default.
"""

from shardproxy.embedded.installation import EmbeddedError, Installation, installations
from shardproxy.embedded.server import Server

__all__ = ["EmbeddedError", "Installation", "Server", "installations"]

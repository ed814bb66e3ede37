"""PostgreSQL servers from a pip package, for the demo and the tests.

`Server.start()` gives a running server on loopback; nothing of it outlives this process, also when this
process is killed. It never listens beyond loopback, and it is no way to keep data: fsync is off by default.
"""

from shardproxy.embedded.installation import EmbeddedError, Installation, installations
from shardproxy.embedded.server import Server

__all__ = ["EmbeddedError", "Installation", "Server", "installations"]

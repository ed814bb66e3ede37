"""`shardproxy serve` in a process of its own that ends with this one, for the demo and the tests."""

import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from shardproxy.embedded.supervised import Supervised
from shardproxy.errors import ShardproxyError

READY = re.compile(r"^ready: (?P<host>\S+):(?P<port>\d+)$", re.MULTILINE)
START_TIMEOUT = 30.0  # seconds; interpreter, imports and examining the shards take 0.5


class ProxyError(ShardproxyError):
    """The proxy did not start, or exited; the message contains its output."""


def serve(
    process: Supervised,
    config: Path,
    log: Path,
    *,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> tuple[str, int]:
    """Start `shardproxy serve -c config` as `process`, wait until it is ready, return its host and port.

    Both of its outputs are appended to `log`.
    """
    begin = log.stat().st_size if log.exists() else 0

    def written() -> str:
        with log.open("rb") as file:
            file.seek(begin)
            return file.read().decode(errors="replace")

    argv = [sys.executable, "-m", "shardproxy", "serve", "-c", str(config), *arguments]
    process.start(argv, log, env=env, end_signal=signal.SIGTERM)
    deadline = time.monotonic() + START_TIMEOUT
    while not (ready := READY.search(written())):
        if not process.running:
            raise ProxyError(f"the proxy did not start (exit status {process.status}):\n{written().strip()}")
        if time.monotonic() > deadline:
            raise ProxyError(f"the proxy is not ready after {START_TIMEOUT:.0f} s:\n{written().strip()}")
        time.sleep(0.01)
    return ready["host"], int(ready["port"])

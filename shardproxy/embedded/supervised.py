"""The owner's end of a supervisor: a process that cannot outlive this one.

`start` runs a program under the supervisor, `running`, `pid` and `wait` follow it, `close` ends it and removes the
directory. Without `close`, the end of this process does the same.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from shardproxy.embedded import supervisor
from shardproxy.errors import ShardproxyError

START_TIMEOUT = 30.0  # seconds until a supervisor answers; it needs 0.05 on an idle machine

_live: set["Supervised"] = set()


class SupervisedError(ShardproxyError):
    """A program could not be started, or its supervisor has exited."""


class Supervised:
    """A program, one run after another, that ends with this process; safe to use from several threads."""

    def __init__(self, directory: Path | None = None) -> None:
        """Start the supervisor, which removes `directory` when it ends."""
        self.pid: int | None = None
        self.status: int | None = None  # exit status of the last run, negative for a signal
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._replies = b""
        self._commands, self._answers, self._supervisor = self._launch(directory)
        _live.add(self)

    def _launch(self, directory: Path | None) -> tuple[BinaryIO, BinaryIO, Any]:
        """Start the supervisor; return where it takes commands, where it answers, and what `wait`s for its end."""
        arguments = [str(os.getpid())] + ([str(directory)] if directory is not None else [])
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", supervisor.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            cwd="/",
        )
        assert process.stdin is not None
        assert process.stdout is not None
        return cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout), process

    def start(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        gid: int | None = None,
        end_signal: int = signal.SIGQUIT,
    ) -> int:
        """Run a program in `/` with its output appended to `log`, as a user if one is given; return its pid.

        `end_signal` is sent to it when this process has ended, before SIGKILL.
        """
        command = {
            "argv": list(argv),
            "env": dict(env) if env is not None else None,
            "uid": uid,
            "gid": gid,
            "log": str(log),
            "end_signal": int(end_signal),
        }
        with self._lock:
            if self.running:
                raise SupervisedError(f"it is already running, as process {self.pid}")
            try:
                self._commands.write(json.dumps(command).encode() + b"\n")
            except (BrokenPipeError, ValueError) as error:
                raise SupervisedError("the supervisor has exited") from error
            reply = self._reply(START_TIMEOUT)
            if reply is None or "pid" not in reply:
                raise SupervisedError(reply["error"] if reply else "the supervisor does not answer")
            self.status = None
            self.pid = int(reply["pid"])
            return self.pid

    @property
    def running(self) -> bool:
        """Whether the program, or a child of it, still runs."""
        with self._lock:
            return self.pid is not None and not self.wait(0)

    def wait(self, timeout: float) -> bool:
        """Wait until the program and all its children have exited; False after the timeout."""
        with self._lock:
            if self.pid is None:
                return True
            reply = self._reply(timeout)
            if reply is None:
                return False
            self.status = int(reply["exit"])
            self.pid = None
            return True

    def close(self) -> None:
        """End the program and the supervisor, and wait for both. May be called twice."""
        with self._lock:
            _live.discard(self)
            self._commands.close()
            self._supervisor.wait()
            self._answers.close()
            self.pid = None

    def _reply(self, timeout: float) -> dict[str, Any] | None:
        """Read one message of the supervisor; None after the timeout."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._replies:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._answers], [], [], left)[0]:
                return None
            data = self._answers.read(65536)
            if not data:
                self.pid = None  # the kernel has signalled the program
                raise SupervisedError("the supervisor has died")
            self._replies += data
        line, _, self._replies = self._replies.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


@atexit.register
def close_all() -> None:
    """End all at once at exit; a forked child leaves its parent's alone."""
    mine = [process for process in _live if process._owner == os.getpid()]
    for process in mine:
        process._commands.close()
    for process in mine:
        process.close()

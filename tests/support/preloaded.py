"""Commands that are forked from a process that has imported them: 20 ms each instead of half a second of imports.

`Preloaded` is `Supervised` with such a supervisor. A nursery, one for each process of tests, imports the proxy once and
forks a supervisor for each request; a supervisor forks the command, which then runs as `python -m shardproxy` would,
with signals, output and environment of its own. Only an environment that the interpreter itself reads cannot be had so.
"""

import atexit
import gc
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

from shardproxy.embedded.supervised import Supervised, close_all
from shardproxy.embedded.supervisor import PR_SET_PDEATHSIG, Supervisor

MODULES = "shardproxy.server.main", "shardproxy.cli", "shardproxy.loader.command", "asyncpg", "uvloop"
ROOT = Path(__file__).parents[2]


class _Supervisor:
    """The owner's end of a socket to a supervisor: what takes commands, and what waits for its end."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def write(self, data: bytes) -> int:
        self._socket.sendall(data)
        return len(data)

    def close(self) -> None:
        """Tell it that no more commands come; its answers still do."""
        with suppress(OSError):  # it may have died
            self._socket.shutdown(socket.SHUT_WR)

    def wait(self) -> None:
        """Wait for its end; nothing if that has been done."""
        if self._socket.fileno() < 0:
            return
        with suppress(ConnectionResetError):
            while self._socket.recv(4096):
                pass
        self._socket.close()


class Preloaded(Supervised):
    """A command, one run after another, without the imports."""

    def _launch(self, directory: Path | None) -> tuple[BinaryIO, BinaryIO, Any]:
        assert directory is None
        ours, its = socket.socketpair()
        with its:
            socket.send_fds(_nursery(), [b"x"], [its.fileno()])
        supervisor = _Supervisor(ours)
        return cast(BinaryIO, supervisor), cast(BinaryIO, ours.makefile("rb", buffering=0)), supervisor


@cache
def _nursery() -> socket.socket:
    """Start the nursery; it ends with this process."""
    ours, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.preloaded", str(its.fileno())],
            pass_fds=[its.fileno()],
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    @atexit.register
    def end() -> None:
        close_all()
        ours.close()
        process.wait()

    return ours


def interpreter_reads(env: Mapping[str, str] | None) -> bool:
    """Whether variables must be there when the interpreter starts, or libraries are loaded."""
    return any(name.startswith(("PYTHON", "LD_")) for name in env or ())


# In the nursery.


class _Become(BaseException):
    """Raised in a new process, up to where nothing of the nursery is left on the stack."""


class _Forking(Supervisor):
    """A supervisor that forks the command."""

    def _start(self, command: dict[str, Any]) -> None:
        assert command["argv"][:2] == [sys.executable, "-m"]
        assert command["uid"] is None
        self._end_signal = command["end_signal"]
        supervisor = os.getpid()
        log = os.open(command["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        pid = os.fork()
        if pid:
            os.close(log)
            self._server = SimpleNamespace(pid=pid, returncode=None)  # type: ignore[assignment]
            self._status = None
            self._reply({"pid": pid})
            return
        os.setsid()
        os.umask(0o077)
        if self._prctl is not None:
            self._prctl(PR_SET_PDEATHSIG, command["end_signal"])
            if os.getppid() != supervisor:
                os._exit(1)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(command["env"])
        sys.argv = command["argv"][2:]
        raise _Become


def _run(nursery: socket.socket) -> None:
    """Fork supervisors until the tests have ended. Raises _Become in a process that is to be a command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        _, descriptors, _, _ = socket.recv_fds(nursery, 1, 1)
        if not descriptors:
            return
        [end] = descriptors
        owner = os.getpid()
        if os.fork() == 0:
            nursery.close()
            os.setsid()
            for target in (0, 1):
                os.dup2(end, target)
            os.close(end)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _Forking(owner, None).run()
            os._exit(0)
        os.close(end)


def _become() -> None:
    """Undo what the supervisor has set for itself, as a new interpreter would begin."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through=True)  # type: ignore[union-attr]


if __name__ == "__main__":
    for module in MODULES:
        __import__(module)
    gc.collect()
    gc.freeze()  # a collection in a child would copy all that the nursery has imported
    with suppress(_Become):
        _run(socket.socket(fileno=int(sys.argv[1])))
        sys.exit()
    _become()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

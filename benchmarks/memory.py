"""Resident memory of the proxy above idle: the peak that the kernel saw, each case in a fresh proxy.

Idle is a proxy that listens and has had no client yet, so imports, connections and catalog reads count as well. The
baseline beside each figure is that, and what passed through.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks import feed, stage
from benchmarks.copy_in import sql
from benchmarks.figures import Figure, Scale, main
from benchmarks.processes import MeasurementError, PeakMemory, Program, cpu_seconds, memory
from benchmarks.rows import BLOCK_ROWS, Stream, stream, tiny
from shardproxy.embedded import supervisor

TARGET = 64.0
MIB = 1 << 20
TINY_ROWS = 1_000_000
BLOCKS_BEFORE = 8  # 128 MB pass before the stall
UNTIL_STALLED = 0.5  # seconds without CPU of the proxy's after which it has paused its client

Case = tuple[str, Callable[[Program, stage.Discarding], int]]


def stall_seconds(scale: Scale) -> float:
    return 2.0 if scale.quick else 10.0


def copy_in(proxy: Program, data: Stream, times: int, statement: str) -> int:
    """One COPY; returns the bytes."""
    with feed.Client(proxy.port, stage.DATABASE) as client:
        client.begin_copy_in(statement)
        client.copy_in(data, times)
    return len(data.block) * times


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that answers nothing while the block runs, its sockets open."""
    supervisor.stop([pid])
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def wait_for_standstill(proxy: Program, patience: float) -> None:
    """Wait until the proxy does nothing any more: it has paused whom it had to pause."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = proxy.cpu()
        time.sleep(UNTIL_STALLED)
        if proxy.cpu() - before < UNTIL_STALLED / 100:
            return
    raise MeasurementError("the proxy goes on though a peer stands still")


def with_stall(proxy: Program, shards: stage.Discarding, times: int, seconds: float) -> int:
    """A large COPY during which one shard stands still for a while."""
    data = stream("csv", 131072)
    victim = shards.programs[1].pid
    with feed.Client(proxy.port, stage.DATABASE) as client:
        client.begin_copy_in(sql("csv"))
        reached = cpu_seconds(victim)
        sending = feed.Background(lambda: client.copy_in(data, times))
        while cpu_seconds(victim) - reached < 0.01:  # data have arrived there
            time.sleep(0.001)
        with stopped(victim):
            wait_for_standstill(proxy, 30.0)
            time.sleep(seconds)
            if not sending.running:
                raise MeasurementError("the COPY ended while a shard stood still")
        sending.wait()
    return len(data.block) * times


def with_idle_reader(proxy: Program, blocks: int, seconds: float) -> int:
    """A COPY TO whose client reads nothing for a while, then all."""

    def idle() -> None:
        wait_for_standstill(proxy, 30.0)
        time.sleep(seconds)

    with feed.Client(proxy.port, stage.DATABASE) as client:
        return client.copy_out("COPY bench TO STDOUT", BLOCK_ROWS * blocks * stage.SHARDS, idle)


def run(scale: Scale) -> list[Figure]:
    stall = stall_seconds(scale)
    large = stream("csv", 131072)
    times = large.times(scale.gigabytes * 1.25e9)
    out_blocks = max(1, times // stage.SHARDS)
    million, one_by_one = tiny(131072, TINY_ROWS), tiny(None, TINY_ROWS)
    repeated = 5 if scale.quick else 100
    cases: list[Case] = [
        ("a large COPY FROM", lambda proxy, _: copy_in(proxy, large, times, sql("csv"))),
        ("one shard stalled", lambda proxy, shards: with_stall(proxy, shards, times, stall)),
        (
            "a million rows of one byte",
            lambda proxy, _: copy_in(proxy, million, 1, "COPY tiny FROM STDIN"),
        ),
        (
            "the same, one row a frame",
            lambda proxy, _: copy_in(proxy, one_by_one, 1, "COPY tiny FROM STDIN"),
        ),
        (
            f"{repeated} million rows of one byte",
            lambda proxy, _: copy_in(proxy, million, repeated, "COPY tiny FROM STDIN"),
        ),
        ("COPY TO, a client that does not read", lambda proxy, _: with_idle_reader(proxy, out_blocks, stall)),
    ]
    figures = []
    with (
        stage.directory() as path,
        stage.one_server() as server,
        stage.discarding(path, server, out_blocks) as shards,
    ):
        for name, work in cases:
            with stage.proxy(path, shards.dsns, scale.commit) as proxy:
                idle = memory(proxy.pid, "VmRSS")
                with PeakMemory(proxy.pid) as watched:
                    size = work(proxy, shards)
                above = (watched.peak - idle) / MIB
                baseline = f"idle {idle / MIB:.0f} MiB; {size / 1e6:.0f} MB passed"
                figures.append(Figure("memory", name, above, "MiB above idle", baseline, TARGET))
    return figures


if __name__ == "__main__":
    main(run)

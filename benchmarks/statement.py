"""A statement by key: the proxy's CPU per transaction of `pgbench -S` beside that of a relay that does nothing.

Two PostgreSQL servers, eight clients. Both servers hold every row of pgbench's tables, so that the relay, which
gives each client one of the two servers in turn, meets the same servers and the same rows as the proxy, which sends
each key to its shard. Proxy and relay run in turns, in the same run.

Measured is the process in the middle. What connecting, preparing and leaving cost is measured by a short run and
subtracted.
"""

import re
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks import real, stage
from benchmarks.figures import SHORTEST, Figure, Scale, main, median
from benchmarks.processes import MeasurementError, Program
from shardproxy.embedded import Server

TARGETS = {"prepared": 2.5, "extended": 3.0, "simple": 3.0}
SHARDS = 2
CLIENTS = 8
SCALE = 5
SHORT = 50
"""Transactions a client of the run that is subtracted: each client has then used each shard."""

KEYS = {"pgbench_accounts": "aid", "pgbench_branches": None, "pgbench_tellers": None, "pgbench_history": "aid"}
DONE = re.compile(r"actually processed: (\d+)/\1\n.*?failed transactions: 0 .*?^tps = ([\d.]+)", re.DOTALL | re.M)
SETTLED = 0.1  # seconds until the middle has seen that all clients have left


@dataclass(frozen=True)
class Run:
    """One run of pgbench: CPU seconds of the middle, transactions, transactions a second."""

    cpu: float
    transactions: int
    tps: float


def pgbench(server: Server, *arguments: str) -> str:
    """Run pgbench and return what it reports."""
    if not server.pgbench.exists():
        raise MeasurementError(f"there is no {server.pgbench}")
    done = subprocess.run([server.pgbench, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"pgbench ended with {done.returncode}: {done.stderr}")
    return done.stdout


def measure(server: Server, middle: Program, mode: str, transactions: int) -> Run:
    """Run `transactions` for each client."""
    before = middle.cpu()
    counts = ["-c", str(CLIENTS), "-t", str(transactions)]
    printed = pgbench(server, "-n", "-S", "-M", mode, *counts, "-d", stage.url(middle))
    time.sleep(SETTLED)
    found = DONE.search(printed)
    if found is None or int(found[1]) != CLIENTS * transactions:
        raise MeasurementError(f"pgbench did not do {CLIENTS * transactions} transactions: {printed}")
    return Run(middle.cpu() - before, CLIENTS * transactions, float(found[2]))


def microseconds(server: Server, middle: Program, mode: str, transactions: int) -> tuple[float, float]:
    """CPU microseconds of the middle per transaction, and transactions a second."""
    short = measure(server, middle, mode, SHORT)
    long = measure(server, middle, mode, transactions)
    cpu = long.cpu - short.cpu
    if cpu < SHORTEST:
        raise MeasurementError(f"{cpu * 1000:.1f} ms of CPU are too few to measure")
    return cpu / (long.transactions - short.transactions) * 1e6, long.tps


def run(scale: Scale) -> list[Figure]:
    real.scratch()
    transactions = 250 if scale.quick else 2500
    figures = []
    with stage.directory() as path, ExitStack() as stack:
        servers = [stack.enter_context(Server.start(settings=real.SETTINGS)) for _ in range(SHARDS)]
        for server in servers:
            stage.execute(server.dsn(), f"CREATE DATABASE {stage.DATABASE}")
            pgbench(server, "-i", "-I", "dtGp", "-q", "-s", str(SCALE), "-d", server.dsn(stage.DATABASE))
        dsns = [server.dsn(stage.DATABASE) for server in servers]
        relay = stack.enter_context(stage.relay(path, [server.port for server in servers], "--one"))
        proxy = stack.enter_context(stage.proxy(path, dsns, scale.commit, KEYS))
        for mode, target in TARGETS.items():
            floor, ours = [], []
            for _ in range(scale.repeats):
                floor.append(microseconds(servers[0], relay, mode, transactions))
                ours.append(microseconds(servers[0], proxy, mode, transactions))
            ratios = [mine / its for (mine, _), (its, _) in zip(ours, floor, strict=True)]
            (its, its_tps), (mine, tps) = (
                [median(column) for column in zip(*runs, strict=True)] for runs in (floor, ours)
            )
            baseline = f"relay {its:.1f} µs of CPU a transaction, {its_tps:.0f} tps; proxy {mine:.1f} µs, {tps:.0f} tps"
            name = f"pgbench -S, {mode}"
            figures.append(Figure("statement", name, median(ratios), "× relay", baseline, target, samples=ratios))
    return figures


if __name__ == "__main__":
    main(run)

"""Concurrent sessions: random transactions over the same rows, on one PostgreSQL and through the proxy.

Which of them fail depends on who comes first. What must hold is that the rows are what the committed ones make of them,
on each copy of a reference table; that errors are those which clients know to repeat a transaction for; and that no
session stands still for longer than with one PostgreSQL, but for the time after which a deadlock is found.
"""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from tests.oracle.arena import Arena, DifferenceError
from tests.oracle.case import Step
from tests.oracle.generate.placed import SHARDS
from tests.oracle.generate.transactions import KEYS, TABLES, Added, Transaction, transactions
from tests.oracle.sequences import HERE, TWIN
from tests.oracle.transcript import CLOSED, NO_ANSWER, converse, error, status
from tests.support.rawclient import RawClient

SESSIONS = 5
TRANSACTIONS = 12  # of each
FOUND = 5.0
"""Seconds after which a deadlock over shards is found, with what a busy machine adds."""
REPEATED = {"40001", "40P01", "55P03", "57014"}
"""Serialization failure, deadlock, lock and statement time-out."""
FILL = "DELETE FROM {0}; INSERT INTO {0} SELECT k, 0 FROM generate_series(0, " + str(KEYS - 1) + ") k"


@dataclass
class Outcome:
    """What came of a run."""

    added: Added = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    longest: float = 0.0  # seconds of one statement
    slowest: str = ""
    wrong: list[str] = field(default_factory=list)


class Sessions:
    """Runs sessions side by side in an arena with the tables `h`, `ref` and `one`."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.transactions = 0
        self.errors: Counter[str] = Counter()
        self.longest = 0.0
        arena.clean()
        for shard, connection in enumerate((*arena.shards, arena.oracle)):
            names = [name for name in TABLES if name != "one" or shard in {1, SHARDS}]
            tables = [f"CREATE TABLE {name} (k int PRIMARY KEY, v int)" for name in names]
            connection.execute(";".join([*tables, TWIN]).encode())

    def _fill(self) -> None:
        arena = self._arena
        arena.oracle.execute(";".join(FILL.format(name) for name in TABLES).encode())
        for shard, connection in enumerate(arena.shards):
            parts = [FILL.format("h") + HERE.format("h", shard), FILL.format("ref")]
            parts += [FILL.format("one")] * (shard == 1)
            connection.execute(";".join(parts).encode())

    def run(self, seed: int) -> None:
        """Run the sessions of a seed on both sides."""
        self._fill()
        work = [transactions(seed, session, TRANSACTIONS) for session in range(SESSIONS)]
        theirs = self._side_by_side(self._arena.databases.oracle, work)
        ours = self._side_by_side(self._arena.proxied, work)
        self.transactions += SESSIONS * TRANSACTIONS
        self.errors += ours.errors
        self.longest = max(self.longest, ours.longest)
        for text in ours.wrong:
            raise DifferenceError(seed, text.partition(":")[0], text)
        if ours.longest > theirs.longest + FOUND:
            text = f"{ours.slowest!r} took {ours.longest:.1f} s, with one PostgreSQL {theirs.longest:.1f}"
            raise DifferenceError(seed, "stands still", text)
        self._compare(seed, ours.added)

    def _side_by_side(self, dsn: str, work: list[list[Transaction]]) -> Outcome:
        outcome = Outcome()
        with ThreadPoolExecutor(len(work)) as pool:
            for one in pool.map(lambda mine: _session(dsn, mine), work):
                outcome.added.update(one.added)
                outcome.errors.update(one.errors)
                outcome.wrong += one.wrong
                if one.longest > outcome.longest:
                    outcome.longest, outcome.slowest = one.longest, one.slowest
        return outcome

    def _compare(self, seed: int, added: Added) -> None:
        """Compare the rows with what the committed transactions have added."""
        for name in TABLES:
            expected = {(k, added[name, k]) for k in range(KEYS)}
            expected |= {(k, by) for (table, k), by in added.items() if table == name}
            copies = [
                set(connection.execute(f"SELECT k, v FROM {name}".encode()).fetchall())
                for shard, connection in enumerate(self._arena.shards)
                if name != "one" or shard == 1
            ]
            for found in [set().union(*copies)] if name == "h" else copies:
                if found != expected:
                    text = f"{name} has {sorted(found - expected)}, and should have {sorted(expected - found)}"
                    raise DifferenceError(seed, f"rows of {name}", text)


class _Over(Exception):  # noqa: N818 - no error
    """The session has ended, or has to."""


def _session(dsn: str, work: list[Transaction]) -> Outcome:
    outcome = Outcome()
    with RawClient(dsn) as client:
        known: dict[str, str] = {}
        with suppress(_Over):
            for transaction in work:
                if _run(client, transaction, known, outcome):
                    outcome.added.update(transaction.added)
    return outcome


def _run(client: RawClient, transaction: Transaction, known: dict[str, str], outcome: Outcome) -> bool:
    """Run a transaction; tell whether it was committed."""
    for step in transaction.steps:
        begun = time.monotonic()
        items = converse(client, step.messages(parse=known.get(step.name) != step.sql, close=True), {})
        took = time.monotonic() - begun
        if took > outcome.longest:
            outcome.longest, outcome.slowest = took, step.sql
        told = error(items)
        if items[-1] in {CLOSED, NO_ANSWER}:
            outcome.wrong.append(f"{items[-1][0]}: {step!r}: {told}")
            raise _Over
        if told is not None:
            outcome.errors[told["C"]] += 1
            if told["C"] not in REPEATED:
                outcome.wrong.append(f"error {told['C']}: {step!r}: {told}")
            known.pop(step.name, None)
            if status(items) != "I":
                converse(client, Step("ROLLBACK").messages(parse=True, close=False), {})
            return False
        if step.name:
            known[step.name] = step.sql
    return True

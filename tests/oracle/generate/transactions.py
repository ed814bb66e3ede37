"""Random transactions of several sessions over the same few rows, which add to numbers, so that the end is known."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from tests.oracle.case import Param, Step

TABLES = ("h", "ref", "one")
KEYS = 4
FRESH = 1000  # keys that are inserted begin here

KINDS = {"update": 9, "insert": 2, "upsert": 2, "lock": 2, "read": 2, "copy": 1, "all": 1, "delete": 1}
LEVELS = ("", "", "", "", " ISOLATION LEVEL REPEATABLE READ", " ISOLATION LEVEL SERIALIZABLE")
TIMEOUTS = ("SET LOCAL lock_timeout = '200ms'", "SET LOCAL statement_timeout = '300ms'")

Added = Counter[tuple[str, int]]
"""By table and key what is added to the row's number."""


@dataclass
class Transaction:
    """Steps between BEGIN and COMMIT, or ROLLBACK, and what they add if they are committed."""

    steps: list[Step] = field(default_factory=list)
    added: Added = field(default_factory=Counter)


def transactions(seed: int, session: int, number: int) -> list[Transaction]:
    """The transactions of one session."""
    writer = _Writer(Random(f"{seed} {session}"), session)
    return [writer.transaction() for _ in range(number)]


class _Writer:
    def __init__(self, rng: Random, session: int) -> None:
        self._rng = rng
        self._fresh = FRESH * (session + 1)

    def transaction(self) -> Transaction:
        rng, made = self._rng, Transaction()
        if rng.random() < 0.2:
            self._statement(made)
            return made
        made.steps.append(Step(f"BEGIN{rng.choice(LEVELS)}"))
        if rng.random() < 0.15:
            made.steps.append(Step(rng.choice(TIMEOUTS)))
        for _ in range(rng.randint(1, 5)):
            if rng.random() < 0.12:
                undone = Transaction()
                self._statement(undone)
                made.steps += [Step("SAVEPOINT s"), *undone.steps, Step("ROLLBACK TO s")]
            else:
                self._statement(made)
        if rng.random() < 0.1:
            made.added.clear()
            made.steps.append(Step("ROLLBACK"))
        else:
            made.steps.append(Step("COMMIT"))
        return made

    def _statement(self, made: Transaction) -> None:
        rng = self._rng
        table, key, by = rng.choice(TABLES), rng.randrange(KEYS), rng.randint(1, 9)
        kind = rng.choices([*KINDS], [*KINDS.values()])[0]
        match kind:
            case "update":
                made.steps.append(self._step(f"UPDATE {table} SET v = v + $1 WHERE k = $2", by, key))
                made.added[table, key] += by
            case "insert":
                made.steps.append(self._step(f"INSERT INTO {table} VALUES ($1, $2)", self._next(), by))
                made.added[table, self._fresh] += by
            case "upsert":
                sql = f"INSERT INTO {table} VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = {table}.v + excluded.v"
                made.steps.append(self._step(sql, key, by))
                made.added[table, key] += by
            case "copy":
                first, second = self._next(), self._next()
                data = b"%d\t%d\n%d\t%d\n" % (first, by, second, by)
                made.steps.append(Step(f"COPY {table} FROM STDIN", data=data))
                made.added.update({(table, first): by, (table, second): by})
            case "delete":
                made.steps.append(self._step(f"INSERT INTO {table} VALUES ($1, $2)", self._next(), by))
                made.steps.append(self._step(f"DELETE FROM {table} WHERE k = $1", self._fresh))
            case "lock":
                how = rng.choice(("UPDATE", "SHARE", "NO KEY UPDATE"))
                made.steps.append(self._step(f"SELECT v FROM {table} WHERE k = $1 FOR {how}", key))
            case "read":
                made.steps.append(self._step(f"SELECT v FROM {table} WHERE k = $1", key))
            case "all":
                made.steps.append(Step(f"SELECT k, v FROM {table}"))

    def _next(self) -> int:
        self._fresh += 1
        return self._fresh

    def _step(self, sql: str, *values: int) -> Step:
        if self._rng.random() < 0.4:
            for number, value in enumerate(values):
                sql = sql.replace(f"${number + 1}", str(value))
            return Step(sql)
        name = "" if self._rng.random() < 0.5 else f"s{crc32(sql.encode())}"
        return Step(sql, params=tuple(Param(23, b"%d" % value) for value in values), name=name)

"""What the sessions of the SQL storm do: operations with marks, made by chance, one number each.

An operation is steps and the marks that it leaves if it is carried out. `explicit`: between BEGIN and COMMIT.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from tests.faults.sql_schema import KEYS, VICTIMS

GONE = "gone"
"""Before a table's name: the mark is that a row is not there any more."""


@dataclass(frozen=True)
class Step:
    """A statement with its parameters, or rows for COPY. `rows`: what its tag must count; None if it tells nothing."""

    sql: str
    params: tuple[object, ...] = ()
    data: bytes | None = None
    columns: tuple[str, ...] = ()
    rows: int | None = None


@dataclass
class Operation:
    """One in the ledger. `outcome`: None if acknowledged, else the SQLSTATE; "" while it is not known."""

    number: int
    kind: str
    steps: list[Step]
    marks: Counter[str]
    explicit: bool = False
    victims: dict[str, int] = field(default_factory=dict)
    outcome: str | None = ""
    certain: bool = True
    """Whether a failure means that nothing of it is there."""
    said: str = ""
    seconds: float = 0.0
    session: str = ""
    history: list[str] = field(default_factory=list)

    @property
    def acknowledged(self) -> bool:
        """Whether its client was told that it is carried out."""
        return self.outcome is None

    def __str__(self) -> str:
        told = "acknowledged" if self.acknowledged else f"{self.outcome} {self.said}"
        return f"{self.kind} {self.number} by {self.session}, told {told}"


class Work:
    """Makes operations. Ids and victims are given out once."""

    def __init__(self) -> None:
        self._ids = count(1_000)
        self._victims = {"victims_h": count(1), "victims_r": count(1)}

    def kinds(self) -> list[str]:
        """Return the names of all kinds."""
        return [name.removeprefix("_do_") for name in dir(self) if name.startswith("_do_")]

    def make(self, kind: str, number: int, chosen: random.Random) -> Operation:
        """Make one of a kind."""
        made: Callable[[int, random.Random], Operation] = getattr(self, f"_do_{kind}")
        return made(number, chosen)

    def _id(self) -> int:
        # Spread, so that one shard does not get runs of them.
        return next(self._ids)

    def _victim(self, table: str) -> int:
        found = next(self._victims[table])
        if found > VICTIMS:
            raise RuntimeError(f"{table} has no row left")
        return found

    # One statement of a sharded table.

    def _insert(self, number: int) -> Step:
        return Step("INSERT INTO h (id, op) VALUES ($1, $2)", (self._id(), number), rows=1)

    def _append(self, number: int, chosen: random.Random) -> Step:
        sql = "UPDATE acc SET ops = ops || $1::int8, at = clock_timestamp() WHERE id = $2"
        return Step(sql, (number, chosen.randint(1, KEYS)), rows=1)

    def _do_insert(self, number: int, chosen: random.Random) -> Operation:
        step = self._insert(number)
        if chosen.random() < 0.3:  # as a Query
            step = Step(f"INSERT INTO h (id, op) VALUES ({self._id()}, {number})", rows=1)
        return Operation(number, "insert", [step], Counter(h=1))

    def _do_returning(self, number: int, chosen: random.Random) -> Operation:
        made = self._id()
        step = Step("INSERT INTO h (id, op) VALUES ($1, $2) RETURNING id", (made, number), rows=made)
        return Operation(number, "returning", [step], Counter(h=1))

    def _do_append(self, number: int, chosen: random.Random) -> Operation:
        return Operation(number, "append", [self._append(number, chosen)], Counter(acc=1))

    def _do_upsert(self, number: int, chosen: random.Random) -> Operation:
        sql = """INSERT INTO acc (id, ops) VALUES ($1, ARRAY[$2::int8])
          ON CONFLICT (id) DO UPDATE SET ops = acc.ops || excluded.ops"""
        step = Step(sql, (chosen.randint(1, 2 * KEYS), number), rows=1)
        return Operation(number, "upsert", [step], Counter(acc=1))

    def _do_delete(self, number: int, chosen: random.Random) -> Operation:
        victim = self._victim("victims_h")
        step = Step("DELETE FROM victims_h WHERE id = $1", (victim,), rows=1)
        return Operation(number, "delete", [step], Counter(), victims={"victims_h": victim})

    # COPY.

    def _copy(self, number: int, rows: int, table: str = "h") -> Step:
        data = "".join(f"{self._id()}\t{number}\n" for _ in range(rows)).encode()
        return Step(table, data=data, columns=("id", "op"), rows=rows)

    def _do_copy_one(self, number: int, chosen: random.Random) -> Operation:
        return Operation(number, "copy_one", [self._copy(number, 1)], Counter(h=1))

    def _do_copy_some(self, number: int, chosen: random.Random) -> Operation:
        rows = chosen.choice((2, 5, 300))
        return Operation(number, "copy_some", [self._copy(number, rows)], Counter(h=rows))

    def _do_copy_reference(self, number: int, chosen: random.Random) -> Operation:
        rows = chosen.choice((1, 2, 20))
        return Operation(number, "copy_reference", [self._copy(number, rows, "ref_plain")], Counter(ref_plain=rows))

    def _do_copy_serial(self, number: int, chosen: random.Random) -> Operation:
        rows = chosen.choice((1, 2, 20))
        step = Step("ref_serial", data=f"{number}\n".encode() * rows, columns=("op",), rows=rows)
        return Operation(number, "copy_serial", [step], Counter(ref_serial=rows))

    # Reference tables.

    def _serial(self, number: int, rows: int) -> Step:
        return Step(
            "INSERT INTO ref_serial (op) SELECT $1::int8 FROM generate_series(1, $2::int)", (number, rows), rows=rows
        )

    def _do_serial(self, number: int, chosen: random.Random) -> Operation:
        rows = chosen.choice((1, 3, 10))
        return Operation(number, "serial", [self._serial(number, rows)], Counter(ref_serial=rows))

    def _do_trigger(self, number: int, chosen: random.Random) -> Operation:
        step = Step("INSERT INTO ref_trigger (op) VALUES ($1), ($1)", (number,), rows=2)
        return Operation(number, "trigger", [step], Counter(ref_trigger=2))

    def _do_keyless(self, number: int, chosen: random.Random) -> Operation:
        step = Step(f"INSERT INTO ref_nokey (op) VALUES ({number})", rows=1)
        return Operation(number, "keyless", [step], Counter(ref_nokey=1))

    def _do_reference_upsert(self, number: int, chosen: random.Random) -> Operation:
        sql = """INSERT INTO ref_keys (id, ops) VALUES ($1, ARRAY[$2::int8])
          ON CONFLICT (id) DO UPDATE SET ops = ref_keys.ops || excluded.ops, at = clock_timestamp()"""
        step = Step(sql, (chosen.randint(1, 2 * KEYS), number), rows=1)
        return Operation(number, "reference_upsert", [step], Counter(ref_keys=1))

    def _update_from(self, number: int) -> Step:
        sql = f"""UPDATE ref_keys r SET ops = r.ops || $1::int8, at = clock_timestamp()
          FROM (SELECT id FROM ref_keys WHERE id <= {KEYS} ORDER BY random() LIMIT 3) s WHERE s.id = r.id"""
        return Step(sql, (number,), rows=3)

    def _do_update_from(self, number: int, chosen: random.Random) -> Operation:
        return Operation(number, "update_from", [self._update_from(number)], Counter(ref_keys=3))

    def _do_reference_update(self, number: int, chosen: random.Random) -> Operation:
        sql = "UPDATE ref_keys SET ops = ops || $1::int8 WHERE id = $2"
        step = Step(sql, (number, chosen.randint(1, KEYS)), rows=1)
        return Operation(number, "reference_update", [step], Counter(ref_keys=1))

    def _do_reference_delete(self, number: int, chosen: random.Random) -> Operation:
        victim = self._victim("victims_r")
        step = Step("DELETE FROM victims_r WHERE id = $1", (victim,), rows=1)
        return Operation(number, "reference_delete", [step], Counter(), victims={"victims_r": victim})

    def _do_merge(self, number: int, chosen: random.Random) -> Operation:
        sql = """MERGE INTO ref_keys r USING (VALUES ($1::int8), ($2::int8)) s (id) ON r.id = s.id
          WHEN MATCHED THEN UPDATE SET ops = r.ops || $3::int8
          WHEN NOT MATCHED THEN INSERT (id, ops, at) VALUES (s.id, ARRAY[$3::int8], 'epoch')"""
        step = Step(sql, (chosen.randint(1, KEYS), self._id(), number), rows=2)
        return Operation(number, "merge", [step], Counter(ref_keys=2))

    # Tables of one shard, and statements that are watched.

    def _do_watched(self, number: int, chosen: random.Random) -> Operation:
        step = Step("INSERT INTO one (id, op) VALUES ($1, $2)", (self._id(), number), rows=1)
        return Operation(number, "watched", [step], Counter(one=1, one_log=1))

    def _do_watched_sharded(self, number: int, chosen: random.Random) -> Operation:
        """Its trigger finds its table on one shard only: elsewhere it is refused."""
        step = Step("INSERT INTO w (id, op) VALUES ($1, $2)", (self._id(), number), rows=1)
        return Operation(number, "watched_sharded", [step], Counter(w=1, one_log=1))

    # Transactions.

    def _do_transaction(self, number: int, chosen: random.Random) -> Operation:
        return self._together(number, chosen, "transaction", explicit=True)

    def _do_query_string(self, number: int, chosen: random.Random) -> Operation:
        rows = chosen.randint(2, 4)
        texts = [f"INSERT INTO h (id, op) VALUES ({self._id()}, {number})" for _ in range(rows)]
        return Operation(number, "query_string", [Step(";".join(texts))], Counter(h=rows))

    def _together(self, number: int, chosen: random.Random, kind: str, *, explicit: bool) -> Operation:
        steps: list[Step] = []
        marks: Counter[str] = Counter()
        for what in chosen.choices(("h", "acc", "serial", "copy", "savepoint", "one"), (5, 2, 2, 1, 1, 1), k=4):
            match what:
                case "h":
                    steps.append(self._insert(number))
                    marks["h"] += 1
                case "acc" if not marks["acc"]:  # two rows of it in any order would be a deadlock
                    steps.append(self._append(number, chosen))
                    marks["acc"] += 1
                case "serial":
                    steps.append(self._serial(number, 2))
                    marks["ref_serial"] += 2
                case "copy":
                    steps.append(self._copy(number, 3))
                    marks["h"] += 3
                case "one":
                    steps.append(Step("INSERT INTO one (id, op) VALUES ($1, $2)", (self._id(), number), rows=1))
                    marks.update(one=1, one_log=1)
                case "savepoint":
                    steps += [Step("SAVEPOINT a"), self._insert(-number), Step("ROLLBACK TO a")]
        return Operation(number, kind, steps, marks, explicit=explicit)


def numbers() -> Iterator[int]:
    """Return the numbers of operations."""
    return count(1)

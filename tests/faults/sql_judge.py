"""The judgement of the SQL storm: what the shards hold, against what the ledger lists."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from tests.faults.sql_ddl import Owned, State
from tests.faults.sql_schema import REFERENCE, SHARDED, SINGLE, VICTIMS
from tests.faults.sql_work import Operation
from tests.support.databases import query

MARKS = {
    "h": "SELECT op FROM h", "w": "SELECT op FROM w", "one": "SELECT op FROM one", "one_log": "SELECT op FROM one_log",
    "acc": "SELECT unnest(ops) FROM acc", "ref_serial": "SELECT op FROM ref_serial",
    "ref_keys": "SELECT unnest(ops) FROM ref_keys", "ref_plain": "SELECT op FROM ref_plain",
    "ref_nokey": "SELECT op FROM ref_nokey", "ref_trigger": "SELECT op FROM ref_trigger",
}  # fmt: skip
COLUMNS = """SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
    regexp_replace(coalesce(pg_get_expr(d.adbin, d.adrelid), ''), 'nextval.*', 'nextval')
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d
    ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY c.relname, a.attnum"""
INDEXES = """SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2"""
INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"
MISPLACED = (
    """SELECT count(*) FROM {table} WHERE NOT satisfies_hash_partition('placed'::regclass, {shards}, {at}, id)"""
)


class Judge:
    """Reads the shards once; `wrong` is what it has found."""

    def __init__(self, dsns: Sequence[str]) -> None:
        self._dsns = dsns
        self.wrong: list[str] = []
        self.marks = 0
        self.definitions = [query(dsn, COLUMNS) for dsn in dsns]

    def judge(self, ledger: Iterable[Operation], owned: Iterable[Owned]) -> list[str]:
        """Judge all of it."""
        self._definitions()
        self._copies()
        self._placement()
        self._operations(list(ledger))
        for table in owned:
            self._owned(table)
        return self.wrong

    def _everywhere(self, rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
        return [row for row in rows if row[0] not in SINGLE]

    def _definitions(self) -> None:
        for sql, found in ((COLUMNS, self.definitions), (INDEXES, [query(dsn, INDEXES) for dsn in self._dsns])):
            first = self._everywhere(found[0])
            for at, other in enumerate(found[1:], 1):
                here = self._everywhere(other)
                if here != first:
                    differing = sorted(set(map(str, first)) ^ set(map(str, here)))[:6]
                    what = "columns" if sql is COLUMNS else "indexes"
                    self.wrong.append(f"{what} differ between s0 and s{at}: {differing or 'in their order'}")
        for at, dsn in enumerate(self._dsns):
            self.wrong += [f"index {name} of s{at} is not valid" for (name,) in query(dsn, INVALID)]

    def _references(self) -> list[str]:
        names = {row[0] for row in self.definitions[0]}
        return [*REFERENCE, *sorted(str(name) for name in names if str(name).startswith("ddl_reference"))]

    def _copies(self) -> None:
        for table in self._references():
            first, *others = (
                Counter(row for (row,) in query(dsn, f"SELECT t::text FROM {table} t")) for dsn in self._dsns
            )
            for at, other in enumerate(others, 1):
                if other != first:
                    self.wrong.append(
                        f"{table}: copies differ, s0 alone has {list((first - other).items())[:4]},"
                        f" s{at} alone has {list((other - first).items())[:4]}"
                    )

    def _placement(self) -> None:
        for table in SHARDED:
            for at, dsn in enumerate(self._dsns):
                [(count,)] = query(dsn, MISPLACED.format(table=table, shards=len(self._dsns), at=at))
                if count:
                    self.wrong.append(f"{table}: {count} rows of s{at} belong elsewhere")

    def _held(self) -> dict[int, Counter[str]]:
        """Return the marks of each operation; of a reference table those of its first copy."""
        held: dict[int, Counter[str]] = defaultdict(Counter)
        for table, sql in MARKS.items():
            places = self._dsns if table in SHARDED else self._dsns[1:2] if table in SINGLE else self._dsns[:1]
            for dsn in places:
                for (number,) in query(dsn, sql):
                    held[number][table] += 1
                    self.marks += 1
        return held

    def _gone(self) -> dict[str, set[int]]:
        gone = {}
        for table, places in (("victims_h", self._dsns), ("victims_r", self._dsns[:1])):
            there = {one for dsn in places for (one,) in query(dsn, f"SELECT id FROM {table}")}
            gone[table] = set(range(1, VICTIMS + 1)) - there
        return gone

    def _operations(self, ledger: list[Operation]) -> None:
        held, gone = self._held(), self._gone()
        known = {operation.number for operation in ledger}
        self.wrong += [
            f"{number}: {dict(marks)} is in no ledger" for number, marks in held.items() if number not in known
        ]
        asked = {(table, victim) for one in ledger for table, victim in one.victims.items()}
        for table, found in gone.items():
            self.wrong += [f"{table}: {victim} is gone, which no session asked for" for victim in found
                           if (table, victim) not in asked]  # fmt: skip
        for one in ledger:
            self._operation(one, held.get(one.number, Counter()), gone)

    def _operation(self, one: Operation, marks: Counter[str], gone: dict[str, set[int]]) -> None:
        deleted = [victim in gone[table] for table, victim in one.victims.items()]
        there = marks == one.marks and all(deleted)
        nothing = not marks and not any(deleted)
        if not there and not nothing:
            self.wrong.append(f"{one}: a part of it, or more: {dict(marks)} of {dict(one.marks)}, deleted {deleted}")
        elif one.acknowledged and not there:
            self.wrong.append(f"{one}: nothing of it is there")
        elif not one.acknowledged and one.certain and there and (one.marks or one.victims):
            self.wrong.append(f"{one}: failed, and is there")

    def _owned(self, table: Owned) -> None:
        found: list[State | None] = []
        for definitions, dsn in zip(self.definitions, self._dsns, strict=True):
            columns = tuple(str(row[1]) for row in definitions if row[0] == table.name)
            if not columns:
                found.append(None)
                continue
            sql = f"SELECT indexname FROM pg_indexes WHERE tablename = '{table.name}' AND indexname LIKE 'i%'"
            indexes = frozenset(name for (name,) in query(dsn, sql))
            rows = frozenset(op for (op,) in query(dsn, f"SELECT op FROM {table.name}"))
            found.append(State(columns, indexes, rows))
        states = [one for one in found if one is not None]
        if states and len(states) == len(found) and table.placement == "hash":
            rows = frozenset().union(*(one.rows for one in states))
            found = [State(one.columns, one.indexes, rows) for one in states]
        for at, state in enumerate(found):
            if state not in table.states:
                possible = "\n    ".join(map(str, table.states))
                told = "\n    ".join(table.told)
                self.wrong.append(f"{table.name} of s{at} is {state}, and may be\n    {possible}\n  after\n    {told}")
                break

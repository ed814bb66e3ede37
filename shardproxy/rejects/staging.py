"""Rows of a batch that a COPY has failed with, in a table of their own: which are stored, and why others are not.

The suspects among them are found in one statement, as far as the catalogs tell what makes one. All others are stored
at once; then each suspect is tried by itself, so that PostgreSQL says what is wrong with it, or takes it after all.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from shardproxy.rejects.form import literal
from shardproxy.rejects.reject import FATAL_CLASSES, Reject
from shardproxy.rejects.target import Target
from shardproxy.rejects.upsert import Upsert
from shardproxy.routing.identifiers import ascii_identifier
from shardproxy.shard.catalog import read_json, text
from shardproxy.shard.connection import Connection

N: Final = '"shardproxy n"'
"""The column that numbers rows in the order in which they came."""
RESULT: Final = "shardproxy.rejects"

_ONE_BY_ONE: Final = """DO $shardproxy$
#variable_conflict use_column
DECLARE
  shardproxy_n pg_catalog.int8; shardproxy_count pg_catalog.int8; shardproxy_bad pg_catalog.text[] := '{{}}';
  e_state pg_catalog.text; e_message pg_catalog.text; e_detail pg_catalog.text; e_hint pg_catalog.text;
  e_column pg_catalog.text; e_constraint pg_catalog.text;
  shardproxy_updated pg_catalog.bool; shardproxy_updates pg_catalog.int8 := 0;
BEGIN
  FOR shardproxy_n IN SELECT {n} FROM {staging} WHERE {which} ORDER BY 1 LOOP
    BEGIN
      INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE
        SELECT {columns} FROM {staging} AS {alias} WHERE {n} OPERATOR(pg_catalog.=) shardproxy_n {where} {conflict};
      GET DIAGNOSTICS shardproxy_count = ROW_COUNT;
      SET CONSTRAINTS ALL IMMEDIATE;
      IF shardproxy_count OPERATOR(pg_catalog.=) 0 THEN
        shardproxy_bad := pg_catalog.array_append(shardproxy_bad,
          pg_catalog.json_build_array(shardproxy_n, '')::pg_catalog.text);
      ELSIF shardproxy_updated THEN
        shardproxy_updates := shardproxy_updates OPERATOR(pg_catalog.+) 1;
      END IF;
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS e_state = RETURNED_SQLSTATE, e_message = MESSAGE_TEXT, e_detail = PG_EXCEPTION_DETAIL,
        e_hint = PG_EXCEPTION_HINT, e_column = COLUMN_NAME, e_constraint = CONSTRAINT_NAME;
      IF pg_catalog.left(e_state, 2) OPERATOR(pg_catalog.=) ANY (ARRAY[{fatal}]) THEN
        RAISE;
      END IF;
      shardproxy_bad := pg_catalog.array_append(shardproxy_bad, pg_catalog.json_build_array(
        shardproxy_n, e_state, e_message, e_detail, e_hint, e_column, e_constraint)::pg_catalog.text);
    END;
  END LOOP;
  PERFORM pg_catalog.set_config('{result}', pg_catalog.concat('[', pg_catalog.array_to_string(
    pg_catalog.array_prepend(shardproxy_updates::pg_catalog.text, shardproxy_bad), ','), ']'), true);
END
$shardproxy$"""


class Refused(NamedTuple):
    """What PostgreSQL says of one row."""

    n: int
    sqlstate: str
    """Empty: nothing, and it has not stored it, as a trigger or WHERE has dropped it."""
    message: str = ""
    detail: str = ""
    hint: str = ""
    column: str = ""
    constraint: str = ""
    typed: bool = False

    def of(self, reject: Reject) -> Reject:
        """Return a row with this reason."""
        return replace(
            reject,
            sqlstate=self.sqlstate,
            message=self.message,
            detail=self.detail or None,
            hint=self.hint or None,
            column=self.column or None,
            constraint=self.constraint or None,
            typed=self.typed,
        )


class Staging:
    """A table beside the target, in its transaction."""

    def __init__(self, connection: Connection, target: Target, schema: str | None, upsert: Upsert | None) -> None:
        """`schema` is where it may be made; None for a temporary one, with which nothing can be prepared."""
        self._upsert = upsert
        self.updated = 0
        """Rows that were stored by updating one that was there."""
        self._connection = connection
        self._target = target
        self._schema = schema
        name = f"load_{connection.pid}"
        self.table = f"pg_temp.{name}" if schema is None else f"{ascii_identifier(schema)}.{name}"
        self._made: dict[bool, str] = {}
        self.last = {False: 0, True: 0}
        """The number of the last row: in the table of the target's types, in that of text."""

    async def make(self, *, text: bool = False, defaults: bool = False) -> str:
        """Make the table, with the target's types or with text, if there is none yet; return its name."""
        if text in self._made:
            return self._made[text]
        target = self._target
        table = f"{self.table}_text" if text else self.table
        kind, end = ("TEMP", "ON COMMIT DROP") if self._schema is None else ("UNLOGGED", "")
        names = [ascii_identifier(name) for name in target.columns]
        columns = ", ".join(f"{name}::pg_catalog.text AS {name}" if text else name for name in names)
        sql = f"""CREATE {kind} TABLE {table.removeprefix("pg_temp.")} {end} AS SELECT {columns}
            FROM {target.quoted} WITH NO DATA;
            ALTER TABLE {table} ADD COLUMN {N} pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY"""
        if defaults and not text:
            given = {column["name"]: column["default"] for column in target.facts["columns"]}
            sql += "".join(
                f"; ALTER TABLE {table} ALTER COLUMN {ascii_identifier(name)} SET DEFAULT {given[name]}"
                for name in target.columns
                if given[name] is not None
            )
        await self._connection.execute(encoded(sql))
        self._made[text] = table
        return table

    def made(self, *, text: bool = False) -> str | None:
        """Return the table's name, if it has been made."""
        return self._made.get(text)

    async def clear(self, *, text: bool = False) -> None:
        """Forget all rows."""
        await self._connection.execute(f"TRUNCATE {self._made[text]}")

    async def forget(self, which: str, *, text: bool = False) -> None:
        """Forget some rows; `which` is SQL."""
        await self._connection.execute(f"DELETE FROM {self._made[text]} WHERE {which}")

    async def drop(self) -> None:
        """Leave nothing of it."""
        for table in self._made.values():
            await self._connection.execute(f"DROP TABLE {table}")
        self._made.clear()

    async def invalid(self) -> dict[int, Refused]:
        """Return, of the rows in the table of text, the first value that its column's type does not take."""
        table = self._made[True]
        checks: list[str] = []
        columns = self._target.columns
        for name in columns:
            kind = literal(self._target.type_of(name))
            value = ascii_identifier(name)
            checks.append(f"WHEN NOT pg_catalog.pg_input_is_valid({value}, {kind}) THEN {len(checks) + 1}")
        kinds = ", ".join(literal(self._target.type_of(name)) for name in columns)
        values = ", ".join(map(ascii_identifier, columns))
        sql = f"""SELECT b."shardproxy number", b."shardproxy place", e.message, e.detail, e.hint, e.sql_error_code
            FROM (SELECT {N} AS "shardproxy number", CASE {" ".join(checks)} END AS "shardproxy place", *
              FROM {table}) AS b,
              pg_catalog.pg_input_error_info((ARRAY[{values}])[b."shardproxy place"],
                (ARRAY[{kinds}])[b."shardproxy place"]) AS e
            WHERE b."shardproxy place" IS NOT NULL ORDER BY 1"""
        found = {}
        for row in await self._connection.fetch(encoded(sql)):
            number, place, message, detail, hint, state = map(said, row)
            found[int(number)] = Refused(int(number), state, message, detail, hint, columns[int(place) - 1], typed=True)
        return found

    async def numbers(self, *, text: bool = False) -> Sequence[int]:
        """Return the numbers of the rows that have come last, ascending. One that ON_ERROR has skipped leaves a gap."""
        rows = f"FROM {self._made[text]} WHERE {after(self.last[text])}"
        sql = f"SELECT pg_catalog.min({N}), pg_catalog.max({N}), pg_catalog.count(*) {rows}"
        first, last, count = await self._connection.fetch_row(sql, 3)
        if first is None:
            return ()
        found: Sequence[int] = range(int(first), int(last or 0) + 1)
        if len(found) != int(count or 0):
            found = [int(n or 0) for (n,) in await self._connection.fetch(f"SELECT {N} {rows} ORDER BY 1")]
        self.last[text] = found[-1]
        return found

    async def suspects(self, before: int) -> list[int]:
        """Return the numbers of the rows after one that a constraint speaks against."""
        rows = await self._connection.fetch(
            encoded(f"SELECT {N} FROM {self._rows(before)} AND coalesce({self._suspect()}, false) ORDER BY 1")
        )
        return [int(row[0] or 0) for row in rows]

    def _rows(self, before: int, but: Sequence[int] = ()) -> str:
        """What stands after FROM for the rows after a number that COPY's WHERE lets pass, without some."""
        target = self._target
        passing = f"AND ({target.where[len('WHERE') :]})" if target.where else ""
        return f"{self._made[False]} AS {ascii_identifier(target.name)} WHERE {after(before, but)} {passing}"

    async def insert_sound(self, before: int, but: Sequence[int]) -> tuple[int, list[int]]:
        """Store the rows after a number, without some; return how many, and the numbers of those that have no place."""
        target = self._target
        rows = self._rows(before, but)
        insert = (
            f"INSERT INTO {target.quoted} ({target.column_list}) OVERRIDING SYSTEM VALUE SELECT {target.column_list}"
        )
        if not target.facts["unique"]:
            tag = await self._connection.execute(encoded(f"{insert} FROM {rows} ORDER BY {N}"))
            await self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            return int(tag.split()[-1]), []
        # Of rows that are the same in all columns the first ones are stored.
        record = f"ROW({target.column_list})::pg_catalog.text"
        sql = f"""WITH judged AS MATERIALIZED (SELECT {N}, {target.column_list} FROM {rows}),
            stored AS ({insert} FROM judged ORDER BY {N} ON CONFLICT DO NOTHING RETURNING {record} AS x),
            times AS (SELECT x, pg_catalog.count(*) AS times FROM stored GROUP BY x),
            numbered AS (SELECT {N} AS n, {record} AS x,
              pg_catalog.row_number() OVER (PARTITION BY {record} ORDER BY {N}) AS nth FROM judged)
            SELECT 0, pg_catalog.count(*) FROM stored UNION ALL
            SELECT n, 0 FROM numbered LEFT JOIN times ON times.x OPERATOR(pg_catalog.=) numbered.x
              WHERE nth OPERATOR(pg_catalog.>) coalesce(times, 0) ORDER BY 1;
            SET CONSTRAINTS ALL IMMEDIATE"""
        [(_, stored), *others] = await self._connection.fetch(encoded(sql))
        return int(stored or 0), [int(row[0] or 0) for row in others]

    async def insert_new(self, before: int, but: Sequence[int]) -> int:
        """Store the rows after a number, without some, whose keys are not there; return how many."""
        target = self._target
        assert not target.where
        sql = f"""INSERT INTO {target.quoted} ({target.column_list}) OVERRIDING SYSTEM VALUE
            SELECT {target.column_list} FROM {self._rows(before, but)} ORDER BY {N} ON CONFLICT DO NOTHING"""
        tag = await self._connection.execute(encoded(sql))
        await self._connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        return int(tag.split()[-1])

    async def upsert_sound(self, before: int, but: Sequence[int], *, repeated: bool) -> int:
        """Store the rows after a number, without some, the last one of each key, if a key is `repeated`.

        Return how many have a place now.
        """
        target, upsert = self._target, self._upsert
        assert upsert is not None
        names = target.column_list
        clause = upsert.clause(target.quoted, target.name, target.columns)
        insert = f"INSERT INTO {target.quoted} ({names}) OVERRIDING SYSTEM VALUE SELECT {names}"
        told = "pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE updated) FROM stored"
        if not repeated:
            sql = f"""WITH stored AS ({insert} FROM {self._rows(before, but)} ORDER BY {N} {clause} AS updated)
                SELECT {told}; SET CONSTRAINTS ALL IMMEDIATE"""
            [found] = await self._connection.fetch(encoded(sql))
            stored, updated = (int(one or 0) for one in found)
            self.updated += updated
            return stored
        nth = f"pg_catalog.row_number() OVER (PARTITION BY {upsert.key_list} ORDER BY {N} DESC)"
        sql = f"""WITH judged AS MATERIALIZED (
              SELECT {N}, {names}, {nth} AS "shardproxy nth" FROM {self._rows(before, but)}),
            chosen AS MATERIALIZED (SELECT * FROM judged
              WHERE "shardproxy nth" OPERATOR(pg_catalog.=) 1 OR {upsert.without_key}),
            stored AS ({insert} FROM chosen WHERE true ORDER BY {N} {clause} AS updated)
            SELECT (SELECT pg_catalog.count(*) FROM judged), (SELECT pg_catalog.count(*) FROM chosen), {told};
            SET CONSTRAINTS ALL IMMEDIATE"""
        [found] = await self._connection.fetch(encoded(sql))
        judged, chosen, stored, updated = (int(one or 0) for one in found)
        self.updated += updated + judged - chosen
        return judged - chosen + stored

    async def repeated(self, before: int, but: Sequence[int]) -> bool:
        """Whether two of the rows after a number, without some, have the same key."""
        assert self._upsert is not None
        rows = f"{self._rows(before, but)} GROUP BY {self._upsert.key_list}"
        rows += " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1"
        return bool(await self._connection.fetch(encoded(f"SELECT FROM {rows} LIMIT 1")))

    async def late(self, before: int, numbers: Sequence[int], refused: Sequence[int]) -> list[int]:
        """Return those of some rows that have a unique key of one before them, after a number, that is not refused."""
        target, found = self._target, []
        table = f"{self._made[False]} AS {ascii_identifier(target.name)}"
        for key in target.facts["keys"] or ():
            whole = any(".*" in sql for sql in (*key["terms"], key["where"] or ""))  # the row as a value
            if whole or not set(key["columns"] or ()) <= set(target.columns):
                continue
            names = [f'"shardproxy {number}"' for number in range(len(key["terms"]))]
            terms = ", ".join(f"{term} AS {name}" for term, name in zip(key["terms"], names, strict=True))
            where = f"AND ({key['where']})" if key["where"] else ""
            same = [
                f"(o.{name} {operator} s.{name} {collation or ''}"
                + (f" OR o.{name} IS NULL AND s.{name} IS NULL)" if key["nulls_too"] else ")")
                for name, operator, collation in zip(names, key["operators"], key["collations"], strict=True)
            ]
            found.append(
                f"""SELECT o.{N} FROM (SELECT {N}, {terms} FROM {table} WHERE {numbered(numbers)} {where}) AS o
                JOIN (SELECT {N}, {terms} FROM {table} WHERE {after(before, refused)} {where}) AS s
                ON s.{N} OPERATOR(pg_catalog.<) o.{N} AND {" AND ".join(same)}"""
            )
        rows = await self._connection.fetch(encoded(" UNION ".join(found))) if found else []
        return [int(row[0] or 0) for row in rows]

    def _own_keys(self) -> list[dict[str, Any]]:
        """The foreign keys of the table to itself that rows have all columns of."""
        listed = set(self._target.columns)
        return [
            one
            for one in self._target.facts["foreign"] or ()
            if one["itself"] and listed.issuperset(one["columns"]) and listed.issuperset(one["keys"])
        ]

    async def index_parents(self) -> None:
        """Have `children` find rows by their parents without reading all."""
        for key in self._own_keys():
            columns = ", ".join(map(ascii_identifier, key["columns"]))
            await self._connection.execute(encoded(f"CREATE INDEX ON {self._made[False]} ({columns})"))

    async def children(self, numbers: Sequence[int]) -> list[int]:
        """Return the rows whose parents, in the target itself, are rows with these numbers."""
        table, found = self._made[False], []
        for key in self._own_keys():
            pairs = zip(key["keys"], key["operators"], key["columns"], strict=True)
            same = [f"p.{ascii_identifier(one)} {is_} c.{ascii_identifier(other)}" for one, is_, other in pairs]
            found.append(f"SELECT c.{N} FROM {table} AS p JOIN {table} AS c ON {' AND '.join(same)}")
            found[-1] += f" WHERE p.{numbered(numbers)}"
        rows = await self._connection.fetch(encoded(" UNION ".join(found) + " ORDER BY 1")) if found else []
        return [int(row[0] or 0) for row in rows]

    def _suspect(self) -> str:
        """SQL that is true of a row which a constraint refuses."""
        target = self._target
        listed = set(target.columns)
        nulls = [
            column["name"] for column in target.facts["columns"] if column["not_null"] and column["name"] in listed
        ]
        found = [f"{ascii_identifier(name)} IS NULL" for name in nulls]
        found += [
            f"NOT ({check['expression']})"
            for check in target.facts["checks"] or ()
            if check["columns"] is not None and listed.issuperset(check["columns"])
        ]
        alias = ascii_identifier(target.name)
        for key in target.facts["foreign"] or ():
            if not listed.issuperset(key["columns"]):
                continue
            names = [f"{alias}.{ascii_identifier(name)}" for name in key["columns"]]
            pairs = zip(key["keys"], key["operators"], names, strict=True)
            same = [f"p.{ascii_identifier(one)} {is_} {name}" for one, is_, name in pairs]
            given = " AND ".join(f"{name} IS NOT NULL" for name in names)
            found.append(f"({given} AND NOT EXISTS (SELECT FROM {key['parent']} AS p WHERE {' AND '.join(same)}))")
        return " OR ".join(found) or "false"

    async def insert_each(self, which: str) -> list[Refused]:
        """Try rows one by one, in their order; return those that are not stored. `which` is SQL."""
        target = self._target
        sql = _ONE_BY_ONE.format(
            n=N,
            staging=self._made[False],
            which=which,
            target=target.quoted,
            columns=target.column_list,
            alias=ascii_identifier(target.name),
            where=f"AND ({target.where[len('WHERE') :]})" if target.where else "",
            conflict=f"{self._upsert.clause(target.quoted, target.name, target.columns)} INTO shardproxy_updated"
            if self._upsert
            else "",
            fatal=", ".join(f"'{one}'" for one in sorted(FATAL_CLASSES)),
            result=RESULT,
        )
        said = f"pg_catalog.convert_to(pg_catalog.current_setting('{RESULT}'), 'UTF8')"
        asked = f"{sql}; SELECT pg_catalog.encode({said}, 'hex'), pg_catalog.set_config('{RESULT}', '', true)"
        [found, _] = (await self._connection.fetch(encoded(asked)))[-1]
        updates, *rows = read_json(text(found))
        self.updated += updates
        refused = []
        for row in rows:
            given: dict[str, Any] = dict(zip(Refused._fields, row, strict=False))
            refused.append(Refused(**{name: value for name, value in given.items() if value is not None}))
        return refused


def numbered(numbers: Sequence[int]) -> str:
    """SQL that is true of the rows with these numbers."""
    return f"{N} OPERATOR(pg_catalog.=) ANY ('{{{_numbers(numbers)}}}')"


def after(number: int, but: Sequence[int] = ()) -> str:
    """SQL that is true of the rows after a number, but some."""
    others = f" AND {_not(but)}" if but else ""
    return f"{N} OPERATOR(pg_catalog.>) {number}{others}"


def between(first: int, last: int) -> str:
    """SQL that is true of the rows from one to another."""
    return f"{N} OPERATOR(pg_catalog.>=) {first} AND {N} OPERATOR(pg_catalog.<=) {last}"


def _not(numbers: Sequence[int]) -> str:
    return f"{N} OPERATOR(pg_catalog.<>) ALL ('{{{_numbers(numbers)}}}')"


def _numbers(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))


def said(value: bytes | None) -> str:
    """Return a value that a server gives as text; NULL is nothing."""
    return "" if value is None else value.decode("utf-8", "surrogateescape")


def encoded(sql: str) -> bytes:
    """Return SQL as it is sent."""
    return sql.encode("utf-8", "surrogateescape")

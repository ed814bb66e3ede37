"""The rows that came of a write on one shard: how they are asked for, read, and written to the other shards. No I/O.

A statement's RETURNING is extended by one column, the text of a row of all that is to be known: its output functions
and its quoting are PostgreSQL's own, and the client's columns stay as they are. The other shards get each value as a
parameter of a plain INSERT, UPDATE or DELETE, whose types follow from the table's columns there: types of the user's
have other OIDs on each shard. Values whose text depends on settings travel in binary.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from shardproxy.errors import ProtocolError
from shardproxy.routing.identifiers import ascii_identifier, ascii_name
from shardproxy.routing.plan import Rows
from shardproxy.routing.written import WrittenColumn
from shardproxy.wire import encode

# record_out in src/backend/utils/adt/rowtypes.c: a field is nothing for NULL, plain, or quoted as a whole.
_FIELD: Final = re.compile(rb'(?:"((?:[^"\\]|""|\\\\)*)"|([^,]*))(?:,|\Z)')
_DOUBLED: Final = re.compile(rb'""|\\\\')

_OLD: Final = "shardproxy_old"
"""What the row is called that was there before."""

_GROUPED: Final = 50
"""Rows that one statement writes: parsing and planning cost some 100 us each time."""

MOST_PARAMETERS: Final = 65535
"""Parameters of one Bind: a count of 16 bits."""

_int16: Final = struct.Struct("!h")
_int32: Final = struct.Struct("!i")

_EXACT: Final = {"extra_float_digits": "3", "DateStyle": "ISO", "IntervalStyle": "postgres"}
"""Settings by which texts give values exactly, and are read alike under all settings."""

Values = list[bytes | None]


class Row(NamedTuple):
    """What became of one row: INSERT, UPSERT, UPDATE or DELETE, its key before, and its values."""

    action: str
    key: Values
    values: Values


class Told(NamedTuple):
    """Whether a shard has stored what it was sent, and has kept what foreign keys refer to."""

    same: bool
    kept: bool


@dataclass(slots=True)
class Unit:
    """Rows that one statement writes in the same way."""

    action: str
    rows: list[Row]


def split_last(payload: bytes) -> tuple[bytes, bytes]:
    """Split the payload of a DataRow into one without its last column, and that column's value."""
    (count,) = _int16.unpack_from(payload)
    at = _int16.size
    for _ in range(count - 1):
        (length,) = _int32.unpack_from(payload, at)
        at += _int32.size + max(length, 0)
    return _int16.pack(count - 1) + payload[_int16.size : at], payload[at + _int32.size :]


def without_last(description: bytes) -> bytes:
    """Return the payload of a RowDescription without its last column."""
    (count,) = _int16.unpack_from(description)
    at = _int16.size
    for _ in range(count - 1):
        at = description.index(b"\0", at) + 1 + 18
    return _int16.pack(count - 1) + description[_int16.size : at]


def record(text: bytes) -> Values:
    """Read the text of a row."""
    if text[:1] != b"(" or text[-1:] != b")":
        raise ProtocolError("it gave a row in a form that is not PostgreSQL's")
    inner = text[1:-1]
    if b'"' not in inner:
        return [field or None for field in inner.split(b",")]
    values: Values = []
    at = 0
    while True:
        match = _FIELD.match(inner, at)
        if match is None:
            raise ProtocolError("it gave a row in a form that is not PostgreSQL's")
        quoted, plain = match.groups()
        values.append((plain or None) if quoted is None else _DOUBLED.sub(lambda two: two[0][:1], quoted))
        at = match.end()
        if inner[at - 1 : at] != b"," or at == match.start():
            return values
        if at == len(inner):  # a last field that is NULL
            return [*values, None]


def _exact(column: WrittenColumn, relation: str) -> str:
    name = f"{relation}.{ascii_identifier(column.name)}"
    return name if column.send is None else f"pg_catalog.encode(pg_catalog.{column.send}({name}), 'hex')"


@dataclass(slots=True)
class Writer:
    """How the rows of one statement are written."""

    rows: Rows

    @property
    def _keys(self) -> list[WrittenColumn]:
        return [column for name in self.rows.key for column in self.rows.columns if column.name == name]

    def returning(self) -> bytes:
        """Return what is put after the statement, for the first shard to give its rows."""
        # The statement may end in a comment.
        joint = "\n, " if self.rows.returning else "\nRETURNING "
        if self.rows.old_key and not self.rows.returning:
            joint += f"WITH (OLD AS {_OLD}) "
        return (joint + self._asked()).encode("utf-8", "surrogateescape")

    def select(self, source: str) -> bytes:
        """Return the query for rows that are there; `source` is what stands after FROM."""
        return f"SELECT {self._asked()} FROM {source}".encode("utf-8", "surrogateescape")

    def _asked(self) -> str:
        rows = self.rows
        asked = ["merge_action()"] if rows.verb == "MERGE" else []
        if rows.old_key:
            old = ascii_identifier(rows.old_row) if rows.returning else _OLD
            asked += [_exact(column, old) for column in self._keys]
        asked += [_exact(column, ascii_identifier(rows.alias)) for column in rows.columns]
        return self._text_of(f"ROW({', '.join(asked)})")

    def _text_of(self, row: str) -> str:
        """Return the expression for a row's text.

        What a user's type has inside may be floats, dates or intervals: settings that keep them whole stand around it.
        """
        if not any(column.settled for column in self.rows.columns):
            return f"{row}::pg_catalog.text"
        exact = [f"pg_catalog.set_config('{name}', '{value}', true)" for name, value in _EXACT.items()]
        back = [f"pg_catalog.set_config('{name}', was.s{number}, true)" for number, name in enumerate(_EXACT)]
        was = [f"pg_catalog.current_setting('{name}') AS s{number}" for number, name in enumerate(_EXACT)]
        parts = [*(f"pg_catalog.left({one}, 0)" for one in exact), f"{row}::pg_catalog.text"]
        parts += [f"pg_catalog.left({one}, 0)" for one in back]
        return f"(SELECT pg_catalog.concat({', '.join(parts)}) FROM (SELECT {', '.join(was)} OFFSET 0) AS was)"

    def row(self, text: bytes) -> Row:
        """Read what the first shard gives of one row."""
        rows = self.rows
        values = record(text)
        action = rows.verb
        if rows.verb == "MERGE":
            action = (values.pop(0) or b"").decode()
        width = len(rows.key)
        old: Values | None = None
        if rows.old_key:
            old, values = values[:width], values[width:]
        if not rows.columns and values == [None]:  # a row of no columns reads as one of a NULL
            values = []
        if len(values) != len(rows.columns):
            raise ProtocolError("it gave another number of columns than it was asked for")
        if rows.upserts:
            action = "UPSERT" if old is None else "INSERT" if None in old else "UPDATE"
        if old is None or None in old:
            names = [column.name for column in rows.columns]
            old = [values[names.index(name)] for name in rows.key]
        return Row(action, old, values)

    # What the other shards run.

    def units(self, batch: Sequence[Row]) -> list[Unit]:
        """Cut rows into those that one statement writes."""
        units: list[Unit] = []
        most = MOST_PARAMETERS // (len(self.rows.columns) + len(self.rows.key) + 1)
        most = most if self.rows.whole else min(_GROUPED, most)
        for row in batch:
            # What is compared comes in no order that is known, and unique values may have to change in the first one's.
            alone = (
                not self.rows.columns or self.compares(row.action) or (row.action == "UPDATE" and self.rows.one_by_one)
            )
            if alone or not units or units[-1].action != row.action or len(units[-1].rows) >= most:
                units.append(Unit(row.action, []))
            units[-1].rows.append(row)
        return units

    def sql(self, unit: Unit) -> bytes:
        """Return the statement that does this to so many rows."""
        sql = self._delete(len(unit.rows)) if unit.action == "DELETE" else ""
        sql = self._update(len(unit.rows)) if unit.action == "UPDATE" else sql
        sql = sql or self._insert(len(unit.rows), upserts=unit.action == "UPSERT")
        if self.compares(unit.action):
            rows = self.rows
            values = [_exact(column, ascii_identifier(rows.name)) for column in rows.columns]
            old = self._old_kept(unit.action)
            shown = f"WITH (OLD AS {_OLD}) " if old and rows.old_shown else ""
            sql += f" RETURNING {shown}" + self._text_of(f"ROW({', '.join([*values, *old])})")
        return sql.encode("utf-8", "surrogateescape")

    @property
    def _table(self) -> str:
        return ascii_name(self.rows.schema, self.rows.name)

    def _insert(self, count: int, *, upserts: bool) -> str:
        rows = self.rows
        if not rows.columns:
            return f"INSERT INTO {self._table} DEFAULT VALUES"
        names = ", ".join(ascii_identifier(column.name) for column in rows.columns)
        places = _places(count, len(rows.columns))
        sql = f"INSERT INTO {self._table} ({names}) OVERRIDING SYSTEM VALUE VALUES {places}"
        if upserts:
            key = ascii_identifier(rows.key[0])
            sets = [ascii_identifier(one.name) for one in self._set()] or [key]  # without a change there is no count
            sql += f" ON CONFLICT ({', '.join(map(ascii_identifier, rows.key))}) DO UPDATE SET "
            sql += ", ".join(f"{name} = EXCLUDED.{name}" for name in sets)
        return sql

    def _delete(self, count: int) -> str:
        key = ", ".join(map(ascii_identifier, self.rows.key))
        return f"DELETE FROM {self._table} WHERE ({key}) IN ({_places(count, len(self.rows.key))})"

    def _update(self, count: int) -> str:
        names = [ascii_identifier(one.name) for one in self._set()]
        keys = list(map(ascii_identifier, self.rows.key))
        if count == 1:
            sets = [f"{name} = ${number}" for number, name in enumerate(names, 1)] or [f"{keys[0]} = {keys[0]}"]
            where = [f"{name} = ${number}" for number, name in enumerate(keys, len(names) + 1)]
            return f"UPDATE {self._table} SET {', '.join(sets)} WHERE {' AND '.join(where)}"
        # The first branch, which gives no row, gives the others' parameters its columns' types.
        values = f"SELECT {', '.join([*names, *keys])} FROM {self._table} WHERE false"
        width = len(names) + len(keys)
        for row in range(count):
            values += f" UNION ALL SELECT {', '.join(f'${row * width + number}' for number in range(1, width + 1))}"
        new = [f"c{number}" for number in range(len(names))]
        old = [f"k{number}" for number in range(len(keys))]
        sets = [f"{name} = v.{value}" for name, value in zip(names, new, strict=True)] or [f"{keys[0]} = t.{keys[0]}"]
        where = [f"t.{name} = v.{value}" for name, value in zip(keys, old, strict=True)]
        given = ", ".join([*new, *old])
        return (
            f"UPDATE {self._table} AS t SET {', '.join(sets)} FROM ({values}) AS v({given}) WHERE {' AND '.join(where)}"
        )

    def compares(self, action: str) -> bool:
        """Whether the shard tells what it has stored, to be compared with what it was sent."""
        return bool(self.rows.triggers) and action != "DELETE"

    def _kept(self, action: str) -> list[WrittenColumn]:
        """The columns whose values before a write are compared with those after it."""
        return [one for one in self.rows.columns if one.name in self.rows.kept and action != "INSERT"]

    def _old_kept(self, action: str) -> list[str]:
        """What gives their values before it."""
        rows = self.rows
        if rows.old_shown:
            return [_exact(column, _OLD) for column in self._kept(action)]
        names = [one.name for one in (rows.columns if action == "UPSERT" else [*self._set(), *self._keys])]
        # The last one of a name: UPDATE's parameters are what it sets, then the key.
        numbers = {name: number for number, name in enumerate(names, 1)}
        where = " AND ".join(f"{_OLD}.{ascii_identifier(name)} = ${numbers[name]}" for name in rows.key)
        source = f"{self._table} AS {_OLD} WHERE {where}"
        return [f"(SELECT {_exact(column, _OLD)} FROM {source})" for column in self._kept(action)]

    def told(self, unit: Unit, stored: bytes | None) -> "Told":
        """Read what a shard tells of the only row that it has stored, if it `compares`."""
        if stored is None:
            return Told(same=False, kept=True)
        row, values = unit.rows[0], record(stored)
        width = len(self.rows.columns)
        places = [place for place, one in enumerate(self.rows.columns) if one in self._kept(unit.action)]
        # To NULL nothing refers.
        kept = all(old in (None, row.values[place]) for old, place in zip(values[width:], places, strict=True))
        return Told(same=values[:width] == row.values, kept=kept)

    def _set(self) -> list[WrittenColumn]:
        """The columns that UPDATE sets: a key that stays need not be among them."""
        rows = self.rows
        return [one for one in rows.columns if not one.always and (rows.old_key or one.name not in rows.key)]

    def bind(self, unit: Unit) -> bytes:
        """Return the Bind message, of the unnamed statement, for the rows of one."""
        columns = list(self.rows.columns)
        if unit.action in {"UPDATE", "DELETE"}:
            columns = [*(self._set() if unit.action == "UPDATE" else []), *self._keys]
        places = {column.name: place for place, column in enumerate(self.rows.columns)}
        given = len(columns) - len(self.rows.key) if unit.action in {"UPDATE", "DELETE"} else len(columns)
        picked = [places[column.name] for column in columns[:given]]
        binary = [place for place, column in enumerate(columns) if column.send is not None]
        params: Values = []
        for row in unit.rows:
            values = [row.values[place] for place in picked]
            if given < len(columns):
                values += row.key
            for place in binary:
                value = values[place]
                values[place] = None if value is None else bytes.fromhex(value.decode())
            params += values
        formats = [1 if column.send is not None else 0 for column in columns] * len(unit.rows) if binary else ()
        return encode.bind(b"", b"", formats, params, ())


def _places(count: int, width: int) -> str:
    """The parameters of so many rows."""
    numbers = [f"${number}" for number in range(1, count * width + 1)]
    return ", ".join(f"({', '.join(numbers[at : at + width])})" for at in range(0, count * width, width))

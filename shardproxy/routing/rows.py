"""The rows that came of a write on one shard: how they are asked for, read, and written to the other shards. No I/O.

A statement's RETURNING is extended by one column, the text of a row of all that is to be known: its output functions
and its quoting are PostgreSQL's own, and the client's columns stay as they are. The other shards get each value as a
parameter of a plain INSERT, UPDATE or DELETE, whose types follow from the table's columns there: types of the user's
have other OIDs on each shard. Values whose text depends on settings travel in binary.
"""

import re
import struct
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

_int16: Final = struct.Struct("!h")
_int32: Final = struct.Struct("!i")

Values = list[bytes | None]


class Row(NamedTuple):
    """What became of one row: INSERT, UPSERT, UPDATE or DELETE, its key before, and its values."""

    action: str
    key: Values
    values: Values


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
        rows = self.rows
        asked = ["merge_action()"] if rows.verb == "MERGE" else []
        if rows.old_key:
            asked += [_exact(column, "old") for column in self._keys]
        asked += [_exact(column, ascii_identifier(rows.alias)) for column in rows.columns]
        text = f"ROW({', '.join(asked)})::pg_catalog.text"
        # The statement may end in a comment.
        joint = "\n, " if rows.returning else "\nRETURNING "
        return (joint + text).encode("utf-8", "surrogateescape")

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
        if len(values) != len(rows.columns):
            raise ProtocolError("it gave another number of columns than it was asked for")
        if rows.upserts:
            action = "UPSERT" if old is None else "INSERT" if None in old else "UPDATE"
        if old is None or None in old:
            names = [column.name for column in rows.columns]
            old = [values[names.index(name)] for name in rows.key]
        return Row(action, old, values)

    # What the other shards run.

    def sql(self, action: str) -> bytes:
        """Return the statement that does this to one row."""
        rows = self.rows
        table = ascii_name(rows.schema, rows.name)
        names = [ascii_identifier(column.name) for column in rows.columns]
        if action in {"INSERT", "UPSERT"}:
            places = ", ".join(f"${number}" for number in range(1, len(names) + 1))
            sql = f"INSERT INTO {table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE VALUES ({places})"
            if action == "UPSERT":
                sets = [f"{ascii_identifier(one.name)} = EXCLUDED.{ascii_identifier(one.name)}" for one in self._set()]
                key = ", ".join(map(ascii_identifier, rows.key))
                # Without a change there would be no count.
                sets = sets or [f"{ascii_identifier(rows.key[0])} = EXCLUDED.{ascii_identifier(rows.key[0])}"]
                sql += f" ON CONFLICT ({key}) DO UPDATE SET {', '.join(sets)}"
        else:
            sets = [f"{ascii_identifier(one.name)} = ${number}" for number, one in enumerate(self._set(), 1)]
            first = 1 if action == "DELETE" else len(sets) + 1
            where = [f"{ascii_identifier(name)} = ${number}" for number, name in enumerate(rows.key, first)]
            key = ascii_identifier(rows.key[0])
            change = f"UPDATE {table} SET {', '.join(sets) or f'{key} = {key}'}"
            sql = f"{f'DELETE FROM {table}' if action == 'DELETE' else change} WHERE {' AND '.join(where)}"
        if self.compares(action):
            values = ", ".join(_exact(column, ascii_identifier(rows.name)) for column in rows.columns)
            sql += f" RETURNING ROW({values})::pg_catalog.text"
        return sql.encode("utf-8", "surrogateescape")

    def compares(self, action: str) -> bool:
        """Whether the shard tells what it has stored, to be compared with what it was sent."""
        return bool(self.rows.triggers) and action != "DELETE"

    def _set(self) -> list[WrittenColumn]:
        """The columns that UPDATE sets: a key that stays need not be among them."""
        rows = self.rows
        return [one for one in rows.columns if not one.always and (rows.old_key or one.name not in rows.key)]

    def bind(self, row: Row) -> bytes:
        """Return the Bind message, of the unnamed statement, for one row."""
        columns, values = list(self.rows.columns), row.values
        if row.action in {"UPDATE", "DELETE"}:
            pairs = {column.name: value for column, value in zip(columns, values, strict=True)}
            sets = self._set() if row.action == "UPDATE" else []
            columns = [*sets, *self._keys]
            values = [*(pairs[column.name] for column in sets), *row.key]
        formats, params = [], []
        for column, value in zip(columns, values, strict=True):
            binary = column.send is not None
            formats.append(1 if binary else 0)
            params.append(bytes.fromhex(value.decode()) if binary and value is not None else value)
        return encode.bind(b"", b"", formats if any(formats) else (), params, ())

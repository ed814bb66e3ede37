"""Rows in COPY's binary format, whose columns' types must be given: it says nothing of them, and is not converted."""

import struct
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

from shardproxy.copy.binary import HEADER, TRAILER
from shardproxy.rows.encoder import Encoder, Nul, Types
from shardproxy.rows.literals import replace_nul
from shardproxy.rows.packing import NULL
from shardproxy.rows.pgtypes import PgType, type_of


class BinaryEncoder(Encoder):
    """COPY's binary format."""

    def __init__(self, types: Types | None, nul: Nul = "error") -> None:
        super().__init__(types, nul)
        if types is None:
            raise ValueError("the binary format needs the columns' types: types=['bigint', 'text', ...]")
        # A name without a type is an error before anything is sent.
        for given in types.values() if hasattr(types, "values") else types:
            if given is not None:
                type_of(given)
        self._columns: list[PgType] = []
        self._checked: list[set[type]] = []

    def begin(self) -> bytes:
        """The signature and the header."""
        return HEADER

    def end(self) -> bytes:
        """The trailer: a field count of -1."""
        return TRAILER

    def prepare(self) -> None:
        """Find the columns' types."""
        given = self.types()
        if missing := [self.name(index) for index, one in enumerate(given) if one is None]:
            raise ValueError(f"the binary format needs the types of all columns; types lacks {', '.join(missing)}")
        self._columns = [type_of(one) for one in given if one is not None]
        self._checked = [{type(None)} for _ in given]

    def encode(self, rows: Sequence[Any]) -> bytes:
        """A batch of rows, each the number of its fields and the fields."""
        columns = self.columns(rows)
        fields = [self.converted(index, column, self._fields) for index, column in enumerate(columns)]
        self.rows += len(rows)
        count = struct.pack(">h", len(columns))
        if not columns:
            return count * len(rows)
        return b"".join(chain.from_iterable(zip(repeat(count), *fields, strict=False)))

    def _fields(self, index: int, column: Sequence[Any]) -> list[bytes]:
        pg_type = self._columns[index]
        for kind in set(map(type, column)) - self._checked[index]:
            pg_type.check(kind)
            self._checked[index].add(kind)
        if self.replacement is not None:
            column = [replace_nul(value, self.replacement) for value in column]
        pack = pg_type.pack
        try:
            return [NULL if value is None else pack(value) for value in column]
        except (struct.error, OverflowError) as error:
            raise ValueError(f"out of range for the type {pg_type.name}") from error

"""On which shards the rows lie that a statement's conditions leave of a sharded table."""

from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Final

from shardproxy import native
from shardproxy.routing.keytypes import TYPES, KeyColumn
from shardproxy.routing.keyvalues import Unbound, compared_texts
from shardproxy.routing.resolved import Context, Tables
from shardproxy.sql import ColumnRef, Modify, Query, TableRef, Value, has_others, tables_in

# A key of several columns with IN lists on each multiplies: beyond this it is cheaper to ask all shards.
COMBINATIONS: Final = 4096

_READ_ALIKE: Final = (frozenset({20, 21, 23}), frozenset({25, 1043}))
"""Types, by oid, that read a text as the same value and have one common type: integers, and text and varchar."""

_Place = tuple[TableRef, str]


class Bound:
    """The conditions of one statement's outermost query, read against the tables that stand in it."""

    def __init__(self, statement: Query, tables: Tables) -> None:
        self._uses = dict(statement.params)
        self._merges = statement.merges
        self._others = has_others(statement.source)
        standing = list(tables_in(statement.source))
        if isinstance(statement, Modify):
            standing.append(statement.target)
        self._standing = {ref: tables[ref] for ref in standing}
        self._values: dict[_Place, list[Sequence[Value]]] = {}
        for binding in statement.bindings:
            for place in self._places(binding.column, binding.only):
                self._values.setdefault(place, []).append(binding.values)
        self._equal: dict[_Place, set[_Place]] = {}
        for equality in statement.equal:
            for one, other in (equality.one, equality.other), (equality.other, equality.one):
                for source, place in product(self._places(one), self._places(other, equality.only)):
                    if source != place and self._alike(source, place):
                        self._equal.setdefault(place, set()).add(source)

    def lists(self, ref: TableRef) -> list[list[Sequence[Value]]] | None:
        """For each key column of a table the lists of values that conditions leave to it; None if it has no key."""
        resolved = self._standing.get(ref)
        if resolved is None or resolved.placement is None:
            return None
        return [self._lists(ref, column) for column in resolved.key]

    def shards(self, ref: TableRef, context: Context) -> frozenset[int] | None:
        """The shards with all rows of this table that can be in the result; None: any shard may have some.

        The empty set means that no row of any shard is in it (or that every shard raises the same error).
        """
        resolved = self._standing.get(ref)
        if resolved is None or resolved.placement is None:
            return None
        columns = [self._column(ref, column, context) for column in resolved.key]
        lists = [values for values in columns if values is not None]
        if len(lists) < len(columns) or prod(map(len, lists)) > COMBINATIONS:
            return None
        shards = set()
        for values in product(*lists):
            if None in values:  # nothing equals NULL
                continue
            shard = resolved.placement.place(values)
            if shard == native.PLACE_UNSUPPORTED:
                return None
            if shard >= 0:
                shards.add(shard)
        return frozenset(shards)

    def _column(self, ref: TableRef, column: KeyColumn, context: Context) -> list[bytes | None] | None:
        """The fewest values that a condition leaves to a key column."""
        best: list[bytes | None] | None = None
        for values in self._lists(ref, column):
            if len(values) > COMBINATIONS:
                continue
            texts = compared_texts(values, column.type, context, self._uses)
            if not isinstance(texts, Unbound) and (best is None or len(texts) < len(best)):
                best = texts
        return best

    def _lists(self, ref: TableRef, column: KeyColumn) -> list[Sequence[Value]]:
        """The values that each condition leaves to a key column, or to one that is equal to it."""
        found: list[Sequence[Value]] = []
        reached = {(ref, column.name)}
        pending = [(ref, column.name)]
        while pending:
            place = pending.pop()
            if self._reads_alike(place, column):
                found += self._values.get(place, ())
            new = self._equal.get(place, set()) - reached
            reached |= new
            pending += new
        return found

    def _places(self, column: ColumnRef, only: tuple[TableRef, ...] | None = None) -> list[_Place]:
        """The sharded tables' columns that a name means.

        An unqualified name that several tables have is either an error, on every shard the same, or merged by
        USING or NATURAL: then each of them has the value or is a missing row of an outer join. The type of the merged
        column is common to all: where it is another than the key's, values are read, and compared, in another way.
        """
        if column.table is None:
            found = [ref for ref, resolved in self._standing.items() if column.name in resolved.columns]
            if self._merges and not self._have_one_type(found, column.name):
                return []
        else:
            found = [ref for ref in self._standing if _is_called(ref, column)]
            if len(found) > 1:
                return []
        return [(ref, column.name) for ref in found if self._standing[ref].sharded and (only is None or ref in only)]

    def _alike(self, one: _Place, other: _Place) -> bool:
        """Tell whether two columns are keys of types in which equal values are placed alike."""
        families = {self._key_family(*one), self._key_family(*other)}
        return None not in families and len(families) == 1

    def _have_one_type(self, refs: list[TableRef], name: str) -> bool:
        """Whether a column merged of these tables', and of what else stands there, is certainly of the key's type."""
        types = {self._standing[ref].types.get(name) for ref in refs}
        return not self._others and (len(types) <= 1 or any(types <= alike for alike in _READ_ALIKE))

    def _reads_alike(self, place: _Place, column: KeyColumn) -> bool:
        """Tell whether a value that is compared with this column, equal to a key's, is read there as the key's is."""
        key = next((key for key in self._standing[place[0]].key if key.name == place[1]), column)
        oids = {TYPES[key.type].oid, TYPES[column.type].oid}
        return len(oids) == 1 or any(oids <= alike for alike in _READ_ALIKE)

    def _key_family(self, ref: TableRef, name: str) -> str | None:
        return next((TYPES[key.type].family for key in self._standing[ref].key if key.name == name), None)


def _is_called(ref: TableRef, column: ColumnRef) -> bool:
    if ref.alias is not None:
        return column.schema is None and ref.alias == column.table
    return ref.name == column.table and column.schema in {None, ref.schema}

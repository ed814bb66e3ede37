"""The shard of a statement by its key alone: all that routing does, done beforehand, but for the key's values.

`keyed` looks at a statement once; the `Keyed` that it makes is kept with the prepared statement, or with a text whose
constants were taken out. Where `shard` gives a number, `route` gives `OneShard` of it for the same parameters, and
nothing else of the statement concerns the session: no setting, name or definition to remember, nothing that is
replicated. Where it gives None, `route` decides.

A Keyed depends on the statement, the resolved tables and the codecs of the context, and goes with what is known of the
tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal

from shardproxy.errors import PgError
from shardproxy.native import SHAPE_INTEGER, Placement
from shardproxy.routing.bound import Bound
from shardproxy.routing.keytypes import TYPES, KeyColumn
from shardproxy.routing.keyvalues import (
    INTEGER_WIDTHS,
    TEXTS,
    UNBOUND,
    Unbound,
    constant_text,
    parameter_text,
    readings,
    takes_digits,
    takes_strings,
)
from shardproxy.routing.plan import Home, OneShard
from shardproxy.routing.resolved import Context, ParamValue, Resolved, Tables
from shardproxy.routing.route import route
from shardproxy.sql import Const, Default, Delete, Insert, Param, RowValue, Select, Statement, Update

NOT_KEYED: Final = ("set_config", "pg_notify", "nextval", "setval")
"""Functions with an effect of which the session must know, or that is meant once for all shards."""


@dataclass(frozen=True, slots=True)
class KeyValue:
    """Where the value of a key column comes from: a parameter, or the text of a constant or default.

    `once` tells that the parameter occurs in one place, `storing` that the value is stored, not compared.
    """

    type: int
    value: Param | bytes | None
    once: bool
    storing: bool

    def of_parameters(self, params: Mapping[int, ParamValue], context: Context) -> bytes | Unbound | None:
        """The text of the value; `params` are by number."""
        value = self.value
        if not isinstance(value, Param):
            return value
        given = params.get(value.number)
        return (
            UNBOUND
            if given is None
            else parameter_text(value.cast, given, self.type, context, once=self.once, storing=self.storing)
        )

    def of_constants(self, constants: Mapping[int, Const], context: Context) -> bytes | Unbound | None:
        """The text of the value where constants stand in the places of the parameters."""
        value = self.value
        if not isinstance(value, Param):
            return value
        const = constants.get(value.number)
        if const is None:
            return UNBOUND
        text = const.text
        if const.kind == "int":
            if not (text.isascii() and text.isdigit()) or (number := int(text)) >= 2**63:
                return UNBOUND  # 0x1F and 1_000 are integers, too; a larger number is a numeric
            text = str(number)
        return constant_text(Const(const.kind, text, value.cast), self.type, context, storing=self.storing)


@dataclass(frozen=True, slots=True)
class TableKey:
    """The key of one of the statement's tables."""

    placement: Placement
    values: tuple[KeyValue, ...]

    def shard(self, texts: Sequence[bytes | Unbound | None]) -> int | None:
        """The shard of a row with these values; None where they do not tell for certain."""
        known: list[bytes | None] = []
        for value, text in zip(self.values, texts, strict=True):
            if isinstance(text, Unbound) or (text is None and not value.storing):  # nothing equals NULL
                return None
            known.append(text)
        shard = self.placement.place(known)
        return shard if shard >= 0 else None


@dataclass(frozen=True, slots=True)
class Fixed:
    """The statement goes to this shard, whatever its parameters are."""

    kind: ClassVar[Literal["fixed"]] = "fixed"
    number: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """No parameter is looked at."""
        return ()

    def shard(self, params: Mapping[int, ParamValue]) -> int | None:
        """That shard."""
        return self.number

    def shard_of_constants(self, kinds: bytes, values: Sequence[bytes]) -> int | None:
        """That shard."""
        return self.number


@dataclass(frozen=True, slots=True)
class AtHome:
    """The statement reads what every shard has: the session's home shard answers."""

    kind: ClassVar[Literal["home"]] = "home"
    free: bool = field(default=False, compare=False)

    @property
    def numbers(self) -> tuple[int, ...]:
        """No parameter is looked at."""
        return ()

    def shard(self, params: Mapping[int, ParamValue]) -> int | None:
        """None: which shard is home the session knows."""
        return None

    def shard_of_constants(self, kinds: bytes, values: Sequence[bytes]) -> int | None:
        """None: which shard is home the session knows."""
        return None


@dataclass(frozen=True, slots=True)
class ByValues:
    """The statement goes to the shard of its key; where it has several tables, to one that all of them agree on.

    `numbers` are those of the parameters that tell it.
    """

    kind: ClassVar[Literal["key"]] = "key"
    context: Context
    keys: tuple[TableKey, ...]
    numbers: tuple[int, ...]

    def shard(self, params: Mapping[int, ParamValue]) -> int | None:
        """The shard for these parameters of Bind, by number; None where `route` has to decide."""
        return self._of_parameters(params)

    def shard_of_constants(self, kinds: bytes, values: Sequence[bytes]) -> int | None:
        """The shard of a text whose n-th constant was replaced by `$n`; None where `route` has to decide.

        `kinds` and `values` are as `native.shape` gives them: an integer's digits, a string's characters unescaped in
        the client's encoding. Each is read as if it stood in its place, under the cast around that.
        """
        return self._of_constants(kinds, values)

    def _of_parameters(self, params: Mapping[int, ParamValue]) -> int | None:
        context = self.context
        found = {key.shard([value.of_parameters(params, context) for value in key.values]) for key in self.keys}
        return found.pop() if len(found) == 1 else None

    def _of_constants(self, kinds: bytes, values: Sequence[bytes]) -> int | None:
        context, constants = self.context, {}
        for number in self.numbers:
            if number > len(values):
                return None
            try:
                text = values[number - 1].decode(context.client_codec or "ascii")
            except UnicodeDecodeError:
                return None
            constants[number] = Const("int" if kinds[number - 1] == SHAPE_INTEGER else "str", text)
        found = {key.shard([value.of_constants(constants, context) for value in key.values]) for key in self.keys}
        return found.pop() if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class ByParameter(ByValues):
    """One parameter is the whole key: the commonest statement, placed without a further call of Python's.

    `names` are what the parameter's types, by oid, are read as; `own` is the name of the key's type, whose
    binary format the native core reads; `digits` and `strings` tell which constants are the key's text as they are.
    """

    number: int
    names: Mapping[int, str]
    own: str
    digits: bool
    strings: bool

    def shard(self, params: Mapping[int, ParamValue]) -> int | None:
        """The shard for these parameters of Bind, by number; None where `route` has to decide."""
        given = params.get(self.number)
        if given is None:
            return None
        oid, form, value = given
        name = self.names.get(oid)
        if name is None or value is None:
            return self._of_parameters(params)
        placement = self.keys[0].placement
        if form == 0 or name in TEXTS:
            if not value.isascii():
                return self._of_parameters(params)
            shard = placement.place((value,))
        elif name == self.own:
            shard = placement.place((value,), True)
        elif INTEGER_WIDTHS.get(name) == len(value):
            shard = placement.place((b"%d" % int.from_bytes(value, "big", signed=True),))
        else:
            return self._of_parameters(params)
        return shard if shard >= 0 else None

    def shard_of_constants(self, kinds: bytes, values: Sequence[bytes]) -> int | None:
        """The shard of a text whose constants were taken out; see `ByValues`."""
        index = self.number - 1
        if index >= len(values):
            return None
        value = values[index]
        if value[:1] == b"0" and kinds[index] == SHAPE_INTEGER:
            value = value.lstrip(b"0") or b"0"
        if not (value.isascii() and (self.digits if kinds[index] == SHAPE_INTEGER else self.strings)):
            return self._of_constants(kinds, values)
        shard = self.keys[0].placement.place((value,))
        return shard if shard >= 0 else None


Keyed = Fixed | AtHome | ByValues
Keyable = Select | Insert | Update | Delete


def keyed(statement: Statement, tables: Tables, context: Context) -> Keyed | None:
    """Prepare a statement that one shard answers by its key alone, or any shard; None for every other."""
    if not isinstance(statement, Keyable) or any(map(statement.calls, NOT_KEYED)):
        return None
    kinds = {resolved.kind for resolved in tables.values()}
    if "missing" in kinds or any(ref.role == "write" and ref.nested for ref in tables):
        return None
    context = replace(context, params=())
    if context.nshards == 1 or not any(resolved.sharded for resolved in tables.values()):
        return _without_key(statement, tables, context)
    if kinds & {"single", "unlisted", "derived"}:
        return None
    keys = (
        _inserted(statement, tables, context) if isinstance(statement, Insert) else _bound(statement, tables, context)
    )
    if not keys:
        return None
    values = [value for key in keys for value in key.values]
    params = {value.value.number for value in values if isinstance(value.value, Param)}
    if not all(params):
        return None  # $0, which PostgreSQL refuses
    match values:
        case [KeyValue(type=code, value=Param(number=number, cast=cast), once=once)]:
            own = TYPES[code].name
            digits, strings = takes_digits(cast, code), takes_strings(cast, code)
            names = readings(cast, code, once=once)
            return ByParameter(context, keys, (number,), number, names, own, digits, strings)
    found = ByValues(context, keys, tuple(sorted(params)))
    if params:
        return found
    shard = found.shard({})
    return None if shard is None else Fixed(shard)


def _without_key(statement: Keyable, tables: Tables, context: Context) -> Fixed | AtHome | None:
    if not isinstance(statement, Select) and tables[statement.target].kind == "catalog":
        return None
    try:
        plan = route(statement, tables, context)
    except PgError:
        return None  # route raises it when the statement is run
    match plan:
        case OneShard(shard):
            return Fixed(shard)
        case Home(free=free):
            return AtHome(free)
    return None


def _bound(statement: Select | Update | Delete, tables: Tables, context: Context) -> tuple[TableKey, ...]:
    """The keys of all sharded tables, if conditions bind each column to one value; else nothing."""
    if not isinstance(statement, Select):
        target = tables[statement.target]
        if not target.sharded or any(column.name in statement.set_columns for column in target.key):
            return ()
    uses = dict(statement.params)
    bound = Bound(statement, tables)
    keys = []
    for ref, table in tables.items():
        if not table.sharded:
            continue
        lists = None if ref.nested else bound.lists(ref)
        values = []
        for column, conditions in zip(table.key, lists or (), strict=lists is not None):
            match conditions:
                case [(Const() | Param() as one,)]:
                    value = _value(one, column, context, uses, storing=False)
                    if value is not None:
                        values.append(value)
        if len(values) < len(table.key) or table.placement is None:
            return ()
        keys.append(TableKey(table.placement, tuple(values)))
    return tuple(keys)


def _inserted(insert: Insert, tables: Tables, context: Context) -> tuple[TableKey, ...]:
    """The key of the only row that an INSERT adds, if its values are known beforehand or parameters; else nothing."""
    table = tables[insert.target]
    changes = any(column.name in insert.set_columns for column in table.key)
    reads = any(resolved.sharded for ref, resolved in tables.items() if ref != insert.target)
    if not table.sharded or table.placement is None or changes or reads or insert.overriding or len(insert.rows) != 1:
        return ()
    [row] = insert.rows
    given = dict(zip(table.columns if insert.columns is None else insert.columns, row, strict=False))
    values = [
        _stored(given.get(column.name, Default()), column, table, context, dict(insert.params)) for column in table.key
    ]
    known = tuple(value for value in values if value is not None)
    return (TableKey(table.placement, known),) if len(known) == len(values) else ()


def _stored(
    value: RowValue, column: KeyColumn, table: Resolved, context: Context, uses: dict[int, int]
) -> KeyValue | None:
    if isinstance(value, Const | Param):
        return _value(value, column, context, uses, storing=True)
    return None  # a default may change before the statement has its lock


def _value(
    value: Const | Param, column: KeyColumn, context: Context, uses: dict[int, int], *, storing: bool
) -> KeyValue | None:
    if isinstance(value, Param):
        return KeyValue(column.type, value, uses.get(value.number) == 1, storing)
    text = constant_text(value, column.type, context, storing=storing)
    return None if isinstance(text, Unbound) else KeyValue(column.type, text, once=False, storing=storing)

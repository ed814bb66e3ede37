"""The client's prepared statements and portals. No I/O.

On a shard a statement is prepared when first needed there, under the client's name; each has a number, so that a name
which the client uses again never meets its old meaning. A portal is bound on a shard when it is executed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol

from shardproxy.copy.encoding import Text
from shardproxy.routing import ParamValue
from shardproxy.shard.connection import Connection
from shardproxy.shard.statements import UNNAMED, Statements
from shardproxy.shard.types import ShardTypes
from shardproxy.sql import ColumnList, Modify, Statement, Utility, run_as
from shardproxy.wire import decode, encode
from shardproxy.wire.replies import HOUSEKEEPING, SWALLOWED_SYNC, Expect, Owed
from shardproxy.wire.usertypes import FIRST_NORMAL, is_own

_numbers = count(1)

OWN: Final = b"shardproxy_"
"""What the proxy's own names begin with."""

READ_BY: Final = ("DateStyle", "IntervalStyle", "TimeZone", "client_encoding", "standard_conforming_strings")
"""Reported settings by which PostgreSQL reads a statement's text, once, at Parse."""

_ASIDE: Final = tuple(
    Owed(expect, forward=False, aside=True) for expect in (Expect.PARSE, Expect.BIND, Expect.EXECUTE, Expect.CLOSE)
)


UNASKED: Final = Owed(Expect.DESCRIBE_PORTAL, forward=False)
"""A description that tells what the rows have inside."""


def next_number() -> int:
    """Return a number that no other statement has."""
    return next(_numbers)


def shard_name(number: int) -> bytes:
    """Return a statement's name on the shards."""
    return b"%s%d" % (OWN, number)


@dataclass(slots=True, eq=False)
class Prepared:
    """A prepared statement of the client. `oids` are the parameters' types as far as known, 0 where not."""

    text: Text
    statement: Statement
    oids: tuple[int, ...]
    name: bytes = UNNAMED
    key: bytes = b""
    """The Parse message after the name: text and types as the client gave them; empty if SQL has prepared it."""
    read_by: tuple[str | None, ...] = ()
    """The values of READ_BY at the client's Parse."""
    described: bool = False
    types: tuple[int, ...] | None = None
    """The parameters' types as the client knows them, once a shard has told them."""
    columns: tuple[int, ...] | None = None
    """The columns' types as the client knows them, once a shard has told them."""
    plain: bool = False
    """Neither its columns nor the parameters that are known have types of the user's own."""
    accepted: bool = False
    """A shard has accepted it."""
    blank: bool = False
    """It is an EXECUTE or FETCH of what was not there at Parse: PostgreSQL describes it as without columns."""
    closed: bool = False
    """The client has closed it, and may have portals of it still."""
    listed: ColumnList | None = None
    """The column list with which the shards have it."""
    number: int = field(default_factory=next_number)
    shard_name: bytes = field(init=False)
    """The name on the shards: the client's, for SQL and errors to name it by, unless it looks like the proxy's own."""

    def __post_init__(self) -> None:
        self.shard_name = shard_name(self.number) if self.name.startswith(OWN) else self.name

    def close(self) -> None:
        """The client has closed it: a shard that needs it for a portal prepares it under a name of the proxy's."""
        self.closed = True
        self.shard_name = shard_name(self.number)

    @property
    def sql(self) -> bytes:
        """The statement as the client sent it, but for its column list, and what it is not to see of the catalogs."""
        characters, statement = self.text.characters, self.statement
        end = statement.location + len(statement.text)
        return self.text.encode(characters[: statement.location] + run_as(statement, self.listed) + characters[end:])

    def is_on(self, statements: Statements) -> bool:
        """Whether a shard has it prepared."""
        return statements.has(self.shard_name, self.number)

    def parse(self, types: ShardTypes | None) -> bytes:
        """Return the Parse message for a shard."""
        return encode.parse(self.shard_name, self.sql, self.oids_for(types))

    def oids_for(self, types: ShardTypes | None) -> Sequence[int]:
        """Return the parameters' types as a shard knows them."""
        return self.oids if types is None or types.map is None else types.map.parse_oids(self.oids)

    def read_otherwise(self, statements: Statements) -> dict[str, str]:
        """The settings by which this was meant, where the shard would read it by others now."""
        if isinstance(self.statement, Utility):  # it may have to be the first of its transaction
            return {}
        now = statements.read_by
        meant = zip(READ_BY, self.read_by, strict=False)
        return {name: value for name, value in meant if value is not None and now.get(name, value) != value}

    def take(self, oids: tuple[int, ...] | None, columns: tuple[int, ...] | None = None) -> None:
        """A shard has accepted it, and told its parameters' types if it was asked.

        Each shard gives others to the user's own: it finds them itself.
        """
        self.accepted = True
        if oids is not None:
            given = dict(enumerate(self.oids))
            self.oids = tuple(oid if oid < FIRST_NORMAL else given.get(at, 0) for at, oid in enumerate(oids))
            self.described = True
            self.types = oids
        self.returns(columns)

    def returns(self, columns: tuple[int, ...] | None) -> None:
        """A shard has told its columns' types, unless they are None."""
        if columns is not None:
            self.columns = columns
        known = None if self.columns is None else (*self.columns, *self.oids, *(self.types or ()))
        self.plain = known is not None and not any(map(is_own, known))

    def takes_binary(self, bind: decode.Bind) -> bool:
        """Whether a parameter comes in binary whose type is not known."""
        if self.described or not any(bind.param_formats):
            return False
        return len(self.oids) < len(bind.params) or 0 in self.oids

    @property
    def has_several_places(self) -> bool:
        """Whether a parameter whose type is not known stands at several places: the first one decides its type."""
        if self.described:
            return False
        known = {number for number, oid in enumerate(self.oids, 1) if oid}
        return any(count > 1 and number not in known for number, count in self.statement.params)


class Begun(Protocol):
    """What has been begun on shards for a portal that is read in pieces."""

    name: bytes
    """The portal's name there."""
    cursor: str
    """The name that SQL knows it by; empty if it knows none."""

    def close(self) -> None:
        """Have the shards close what is left of it."""


@dataclass(slots=True, eq=False)
class Portal:
    """A bound statement; `reading` is there when it is executed in pieces."""

    prepared: Prepared
    bind: decode.Bind
    done: bool = False
    reading: Begun | None = None
    signalled: bool = False
    """It is a call that signals a session, and has been carried out."""
    depth: int = 0
    """How many savepoints stood when it was bound: it ends with its subtransaction."""
    broken: bool = False
    """It has failed in a subtransaction of the one that it was bound in, where it stands."""
    displaced: dict[bytes, bool | None] = field(default_factory=dict)
    """The portal that had its name, as in `Namespace.failed`: that one stands if the statement is not accepted."""

    def bind_as(self, name: bytes, types: ShardTypes | None) -> bytes:
        """Return the Bind message for a shard, with the portal's name there."""
        bind = self.bind
        params = self.params_for(types)
        return encode.bind(name, self.prepared.shard_name, bind.param_formats, params, bind.result_formats)

    def params_for(self, types: ShardTypes | None) -> Sequence[bytes | None]:
        """Return the values for a shard; raises UnknownOidError."""
        bind = self.bind
        if types is None or types.map is None or not any(bind.param_formats):
            return bind.params
        carrying = types.map.carrying(self.own_parameters())
        return types.map.values(bind.params, carrying, to_client=False) if carrying else bind.params

    def own_parameters(self) -> list[tuple[int, int]]:
        """Return each parameter's type, as the client knows it, and format; 0 for a type that is not known."""
        bind, known = self.bind, self.prepared.types or self.prepared.oids
        formats = bind.param_formats
        return [
            (known[at] if at < len(known) else 0, formats[at] if len(formats) > 1 else formats[0] if formats else 0)
            for at in range(len(bind.params))
        ]

    def may_carry(self) -> bool:
        """Whether its rows may have OIDs inside, of types of the user's own."""
        columns = self.prepared.columns
        return any(self.bind.result_formats) and (columns is None or any(map(is_own, columns)))

    def parameters(self) -> tuple[ParamValue, ...]:
        """Return the parameters as routing reads them."""
        formats, oids = self.bind.param_formats, self.prepared.oids
        values = []
        for number, value in enumerate(self.bind.params):
            form = formats[number] if len(formats) > 1 else formats[0] if formats else 0
            values.append(ParamValue(oids[number] if number < len(oids) else 0, form, value))
        return tuple(values)


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A message of the client's that no shard has got yet; a portal belongs to it unless it is about a statement."""

    expect: Expect
    prepared: Prepared
    portal: Portal | None = None

    def about(self, portal: Portal) -> bool:
        """Whether it is about this portal or its statement."""
        return self.portal is portal or (self.portal is None and self.prepared is portal.prepared)


@dataclass(slots=True)
class Request:
    """Messages for one shard, and what it will answer."""

    data: list[bytes] = field(default_factory=list)
    owed: list[Owed] = field(default_factory=list)

    def add(self, message: bytes, owed: Owed) -> None:
        """Add a message."""
        self.data.append(message)
        self.owed.append(owed)

    def prepare(self, statements: Statements, prepared: Prepared, *, forward: bool) -> None:
        """Add the Parse that a shard lacks."""
        if prepared.is_on(statements):
            return
        statements.parsed(prepared.shard_name, prepared.number)
        self.parse(
            statements, prepared, prepared.parse(statements.types), Owed(Expect.PARSE, forward, prepared.shard_name)
        )

    def parse(self, statements: Statements, prepared: Prepared, message: bytes, owed: Owed) -> None:
        """Add a Parse that a shard reads by the settings that the client's was meant by."""
        meant = prepared.read_otherwise(statements)
        if meant:
            self._set(meant)
        self.add(message, owed)
        if meant:
            self._set({name: statements.read_by[name] for name in meant})

    def _set(self, settings: Mapping[str, str]) -> None:
        """Change settings up to the end of the transaction, without a row or a warning."""
        quoted = [(name, value.replace("'", "''")) for name, value in settings.items()]
        calls = " OR ".join(f"set_config('{name}', '{value}', true) IS NULL" for name, value in quoted)
        name = shard_name(next_number())
        sql = b"SELECT WHERE " + calls.encode()
        messages = (
            encode.parse(name, sql), encode.bind(name, name, (), (), ()), encode.execute(name), encode.close(b"S", name)
        )  # fmt: skip
        for message, owed in zip(messages, _ASIDE, strict=True):
            self.add(message, owed)


def request(
    statements: Statements, pending: list[Pending], portal: Portal | None, name: bytes = b"", *, forward: bool = True
) -> Request:
    """Return what brings the pending messages to a shard, and with a portal what binds it there under `name`.

    What the client has not been answered yet is forwarded (if `forward`), what the shard lacks besides is swallowed.
    """
    made = Request()
    for closing in statements.closing():
        made.add(closing, HOUSEKEEPING[0])
    bound = described = False
    types = statements.types
    for item in pending:
        prepared = item.prepared
        made.prepare(statements, prepared, forward=forward and item.expect is Expect.PARSE)
        if item.expect is Expect.DESCRIBE_STATEMENT:
            made.add(encode.describe(b"S", prepared.shard_name), Owed(item.expect, forward))
        elif item.portal is not None:
            if item.expect is Expect.BIND:
                bound = True
                made.add(item.portal.bind_as(name, types), Owed(Expect.BIND, forward))
            else:
                if not bound:
                    bound = True
                    made.add(item.portal.bind_as(name, types), Owed(Expect.BIND, forward=False))
                described = True
                made.add(encode.describe(b"P", name), Owed(item.expect, forward))
    if portal is not None and not bound:
        made.prepare(statements, portal.prepared, forward=False)
        made.add(portal.bind_as(name, types), Owed(Expect.BIND, forward=False))
    if portal is not None and types is not None and not described and portal.may_carry():
        made.add(encode.describe(b"P", name), UNASKED)
    return made


def send_with(connection: Connection, pending: list[Pending], portal: Portal, more: bytes) -> None:
    """Bring the pending messages to a shard, and have it execute the portal's statement with a text put after it."""
    statements, prepared, bind = connection.statements, portal.prepared, portal.bind
    made = request(statements, pending, None)
    statement = prepared.statement
    sql = prepared.text.encode(prepared.text.characters[: statement.location + len(statement.text)])
    statements.parsed(UNNAMED, next_number())
    parse = encode.parse(UNNAMED, sql + more, prepared.oids_for(statements.types))
    made.parse(statements, prepared, parse, Owed(Expect.PARSE, forward=False, name=UNNAMED))
    formats = bind.result_formats
    if len(formats) > 1:  # one for each column
        formats = (*formats, 0) if isinstance(statement, Modify) and statement.returning else ()
    params = portal.params_for(statements.types)
    made.add(encode.bind(b"", UNNAMED, bind.param_formats, params, formats), Owed(Expect.BIND, forward=False))
    if statements.types is not None and portal.may_carry():
        made.add(encode.describe(b"P", b""), UNASKED)
    made.add(encode.execute(b""), Owed(Expect.EXECUTE, forward=False))
    made.add(encode.SYNC, SWALLOWED_SYNC)
    connection.send(b"".join(made.data), made.owed)

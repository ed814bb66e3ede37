"""The client's prepared statements and portals, and what of them the shards have. No I/O.

On a shard a statement is prepared when first needed there, under a name of the proxy's own, so that a name which
the client uses again never meets its old meaning.
"""

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from shardproxy.backend.connection import Connection
from shardproxy.copy.encoding import Text
from shardproxy.routing import ParamValue
from shardproxy.sql import Statement
from shardproxy.wire import decode, encode

if TYPE_CHECKING:
    from shardproxy.session.limited import Reading

_numbers = count(1)


@dataclass(slots=True, eq=False)
class Prepared:
    """A prepared statement of the client. `oids` are the parameters' types as far as known, 0 where not."""

    text: Text
    statement: Statement
    oids: tuple[int, ...]
    unnamed: bool
    described: bool = False
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def sql(self) -> bytes:
        """The statement as the client sent it."""
        return self.text.encode(self.text.characters)

    @property
    def shard_name(self) -> bytes:
        """The name on the shards."""
        return b"" if self.unnamed else b"shardproxy_%d" % self.number

    def is_on(self, connection: Connection) -> bool:
        """Whether a shard has it prepared."""
        return connection.prepared.get(self.shard_name) == self.number

    def prepare_on(self, connection: Connection) -> bytes:
        """Return the Parse that the connection lacks, or nothing."""
        closing = b"".join(connection.closing)
        connection.closing.clear()
        if self.is_on(connection):
            return closing
        connection.prepared[self.shard_name] = self.number
        # A shard may have the statement although nothing is known of it: an error hid whether Parse was accepted.
        anew = b"" if self.unnamed else encode.close(b"S", self.shard_name)
        return closing + anew + encode.parse(self.shard_name, self.sql, self.oids)

    def close_on(self, connection: Connection) -> None:
        """Have a shard forget the statement, with whatever is sent to it next."""
        if not self.unnamed and connection.prepared.pop(self.shard_name, None) is not None:
            connection.closing.append(encode.close(b"S", self.shard_name))


@dataclass(slots=True, eq=False)
class Portal:
    """A bound statement. Shards bind it when it is executed; `reading` is there when that happens in pieces."""

    prepared: Prepared
    bind: decode.Bind
    describe: bool = False
    done: bool = False
    reading: "Reading | None" = None

    def bind_on(self, connection: Connection, portal: bytes) -> bytes:
        """Return Bind for a shard, with the Parse in front of it where that is needed."""
        bind = self.bind
        return self.prepared.prepare_on(connection) + encode.bind(
            portal, self.prepared.shard_name, bind.param_formats, bind.params, bind.result_formats
        )

    def parameters(self) -> tuple[ParamValue, ...]:
        """Return the parameters as routing reads them."""
        formats, oids = self.bind.param_formats, self.prepared.oids
        values = []
        for number, value in enumerate(self.bind.params):
            form = formats[number] if len(formats) > 1 else formats[0] if formats else 0
            values.append(ParamValue(oids[number] if number < len(oids) else 0, form, value))
        return tuple(values)

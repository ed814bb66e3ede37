"""Reading the payloads of protocol messages, both directions. Every function takes one whole payload.

Manual: "Message Formats"; functions have the names of the messages. A malformed payload raises ProtocolError with
the message of PostgreSQL's src/backend/libpq/pqformat.c, never anything else; a payload with bytes left over is
malformed. The framing is not affected: the next message can still be read. A forged count or length costs nothing:
elements are read one by one, or the length is compared with the bytes that are there first.

Text is decoded as UTF-8 with surrogate escapes, so that bytes of any encoding pass verbatim through `encode`.
SQL text and the names of a client's objects stay bytes.
"""

from struct import Struct
from typing import NamedTuple

from shardproxy.errors import ProtocolError
from shardproxy.wire.constants import MAX_CANCEL_KEY_LENGTH, MIN_CANCEL_KEY_LENGTH

_uint16 = Struct("!H").unpack_from
_int32 = Struct("!i").unpack_from
_column = Struct("!IhIhih")

_INSUFFICIENT = "insufficient data left in message"


class Parse(NamedTuple):
    """Parse (F)."""

    name: bytes
    sql: bytes
    oids: tuple[int, ...]


class Bind(NamedTuple):
    """Bind (F). The formats are as sent: none, one for all, or one each."""

    portal: bytes
    statement: bytes
    param_formats: tuple[int, ...]
    params: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


class Target(NamedTuple):
    """What Describe (F) or Close (F) names: kind `S` (statement) or `P` (portal)."""

    kind: bytes
    name: bytes


class Execute(NamedTuple):
    """Execute (F); PostgreSQL reads a row count of 0 or below as "all"."""

    portal: bytes
    max_rows: int


class CopyResponse(NamedTuple):
    """CopyInResponse, CopyOutResponse, CopyBothResponse (B); format 0 is text, 1 binary."""

    format: int
    column_formats: tuple[int, ...]


class FieldDescription(NamedTuple):
    """One field of a RowDescription (B)."""

    name: str
    table_oid: int
    attnum: int
    type_oid: int
    typlen: int
    typmod: int
    format: int


class _Cursor:
    """A position in one payload, like the StringInfo of pqformat.c."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def _step(self, size: int) -> int:
        at = self.at
        if size > len(self.data) - at:
            raise ProtocolError(_INSUFFICIENT)
        self.at = at + size
        return at

    def byte(self) -> int:
        if self.at == len(self.data):
            raise ProtocolError("no data left in message")
        return self.data[self._step(1)]

    def uint16(self) -> int:
        return int(_uint16(self.data, self._step(2))[0])

    def int32(self) -> int:
        return int(_int32(self.data, self._step(4))[0])

    def raw(self, size: int) -> bytes:
        at = self._step(size)
        return self.data[at : at + size]

    def bytestring(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise ProtocolError("invalid string in message")
        value = self.data[self.at : end]
        self.at = end + 1
        return value

    def string(self) -> str:
        return _text(self.bytestring())

    def uint32s(self) -> tuple[int, ...]:
        count = self.uint16()
        return Struct(f"!{count}I").unpack_from(self.data, self._step(4 * count))

    def int16s(self) -> tuple[int, ...]:
        count = self.uint16()
        return Struct(f"!{count}h").unpack_from(self.data, self._step(2 * count))

    def values(self) -> list[bytes | None]:
        values: list[bytes | None] = []
        for _ in range(self.uint16()):
            size = self.int32()
            if size < -1:
                raise ProtocolError(_INSUFFICIENT)
            values.append(None if size == -1 else self.raw(size))
        return values

    def rest(self) -> bytes:
        return self.raw(len(self.data) - self.at)

    def end(self) -> None:
        if self.at != len(self.data):
            raise ProtocolError("invalid message format")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# Frontend messages.


def _only_bytestring(payload: bytes) -> bytes:
    """Read a payload that is one string and nothing else."""
    end = payload.find(b"\0")
    if end != len(payload) - 1 or end < 0:
        raise ProtocolError("invalid string in message" if end < 0 else "invalid message format")
    return payload[:-1]


def query(payload: bytes) -> bytes:
    """Query (F)."""
    return _only_bytestring(payload)


def parse(payload: bytes) -> Parse:
    """Parse (F)."""
    cursor = _Cursor(payload)
    result = Parse(cursor.bytestring(), cursor.bytestring(), cursor.uint32s())
    cursor.end()
    return result


def bind(payload: bytes) -> Bind:
    """Bind (F). The number of parameter formats is checked as in exec_bind_message, not their values."""
    cursor = _Cursor(payload)
    portal, statement, formats = cursor.bytestring(), cursor.bytestring(), cursor.int16s()
    params = tuple(cursor.values())
    if len(formats) > 1 and len(formats) != len(params):
        raise ProtocolError(f"bind message has {len(formats)} parameter formats but {len(params)} parameters")
    result_formats = cursor.int16s()
    cursor.end()
    return Bind(portal, statement, formats, params, result_formats)


def describe(payload: bytes) -> Target:
    """Describe (F)."""
    return _target(payload, "DESCRIBE")


def close(payload: bytes) -> Target:
    """Close (F)."""
    return _target(payload, "CLOSE")


def _target(payload: bytes, what: str) -> Target:
    cursor = _Cursor(payload)
    target = Target(bytes((cursor.byte(),)), cursor.bytestring())
    cursor.end()
    if target.kind not in {b"S", b"P"}:
        raise ProtocolError(f"invalid {what} message subtype {target.kind[0]}")
    return target


def execute(payload: bytes) -> Execute:
    """Execute (F)."""
    cursor = _Cursor(payload)
    result = Execute(cursor.bytestring(), cursor.int32())
    cursor.end()
    return result


def copy_fail(payload: bytes) -> str:
    """CopyFail (F): the client's reason. Bytes after it are ignored, as by CopyGetData()."""
    return _Cursor(payload).string()


def password(payload: bytes) -> bytes:
    """PasswordMessage (F)."""
    if payload.find(b"\0") != len(payload) - 1 or not payload:
        raise ProtocolError("invalid password packet size")
    return payload[:-1]


def sasl_initial_response(payload: bytes) -> tuple[str, bytes | None]:
    """SASLInitialResponse (F): mechanism, and the client's first message if there is one."""
    cursor = _Cursor(payload)
    mechanism, size = cursor.string(), cursor.int32()
    if size < -1:
        raise ProtocolError(_INSUFFICIENT)
    data = None if size == -1 else cursor.raw(size)
    cursor.end()
    return mechanism, data


# Backend messages.


def authentication(payload: bytes) -> tuple[int, bytes]:
    """Authentication (B): code (`constants.Auth`), and what follows it."""
    cursor = _Cursor(payload)
    return cursor.int32(), cursor.rest()


def sasl_mechanisms(rest: bytes) -> list[str]:
    """Read the names after the code of an AuthenticationSASL (B)."""
    cursor = _Cursor(rest)
    names: list[str] = []
    while name := cursor.string():
        names.append(name)
    cursor.end()
    return names


def parameter_status(payload: bytes) -> tuple[str, str]:
    """ParameterStatus (B): name and value."""
    cursor = _Cursor(payload)
    result = cursor.string(), cursor.string()
    cursor.end()
    return result


def backend_key_data(payload: bytes) -> tuple[int, bytes]:
    """BackendKeyData (B): process id and cancel key of 4 to 256 bytes."""
    cursor = _Cursor(payload)
    pid, key = cursor.int32(), cursor.rest()
    if not MIN_CANCEL_KEY_LENGTH <= len(key) <= MAX_CANCEL_KEY_LENGTH:
        raise ProtocolError(f"invalid BackendKeyData message: cancel key of {len(key)} bytes")
    return pid, key


def ready_for_query(payload: bytes) -> int:
    """ReadyForQuery (B): the status byte, one of `ITE`."""
    if payload not in {b"I", b"T", b"E"}:
        raise ProtocolError("invalid ReadyForQuery message")
    return payload[0]


def fields(payload: bytes) -> dict[str, str]:
    """ErrorResponse, NoticeResponse (B): field code to text, unknown codes included."""
    cursor = _Cursor(payload)
    result: dict[str, str] = {}
    while (code := cursor.raw(1)) != b"\0":
        result[_text(code)] = cursor.string()
    cursor.end()
    return result


def command_complete(payload: bytes) -> str:
    """CommandComplete (B): the command tag."""
    return _text(_only_bytestring(payload))


def copy_response(payload: bytes) -> CopyResponse:
    """CopyInResponse, CopyOutResponse, CopyBothResponse (B)."""
    cursor = _Cursor(payload)
    result = CopyResponse(cursor.byte(), cursor.int16s())
    cursor.end()
    if result.format not in {0, 1}:
        raise ProtocolError(f"invalid COPY format {result.format}")
    return result


def parameter_description(payload: bytes) -> tuple[int, ...]:
    """ParameterDescription (B): the type oid of each parameter."""
    cursor = _Cursor(payload)
    oids = cursor.uint32s()
    cursor.end()
    return oids


def row_description(payload: bytes) -> list[FieldDescription]:
    """RowDescription (B)."""
    cursor = _Cursor(payload)
    columns = []
    for _ in range(cursor.uint16()):
        name = cursor.string()
        columns.append(FieldDescription(name, *_column.unpack(cursor.raw(_column.size))))
    cursor.end()
    return columns


def data_row(payload: bytes) -> list[bytes | None]:
    """DataRow (B): each column's bytes, None for NULL."""
    cursor = _Cursor(payload)
    values = cursor.values()
    cursor.end()
    return values


def negotiate_protocol_version(payload: bytes) -> tuple[int, list[str]]:
    """NegotiateProtocolVersion (B): newest minor version that the server supports, options it does not know.

    PostgreSQL sends the whole version; some other servers send only the minor number, as the manual has it.
    """
    cursor = _Cursor(payload)
    version, count = cursor.int32(), cursor.int32()
    if version >> 16 not in {0, 3}:
        raise ProtocolError("invalid NegotiateProtocolVersion message: not a version 3")
    if count < 0:
        raise ProtocolError("invalid NegotiateProtocolVersion message: wrong number of options")
    options = [cursor.string() for _ in range(count)]
    cursor.end()
    return version & 0xFFFF, options

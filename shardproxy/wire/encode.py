"""Building protocol messages, both directions. Every function returns one whole message as bytes.

Manual: "Message Formats"; functions have the names of the messages. Nothing here reads or keeps state.

Text is encoded as UTF-8 with surrogate escapes, the inverse of `decode`, so that bytes of any encoding pass verbatim.
What the protocol cannot express is our own bug and raises ValueError: a zero byte inside a string (a value could
inject fields), a count over 65,535, a message over 2 GiB.
"""

from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from typing import Final

from shardproxy.wire.constants import (
    CANCEL_REQUEST_CODE,
    MAX_CANCEL_KEY_LENGTH,
    MAX_INT16_COUNT,
    MAX_LENGTH,
    NEGOTIATE_GSS_CODE,
    NEGOTIATE_SSL_CODE,
    PROTOCOL_3_0,
    Auth,
    B,
    F,
    ProtocolVersion,
)

_header = Struct("!BI").pack
_int32 = Struct("!i").pack
_uint32 = Struct("!I").pack
_uint16 = Struct("!H").pack
_int16 = Struct("!h").pack

_NULL: Final = _int32(-1)

_TYPE_LENGTHS: Final = {16: 1, 18: 1, 20: 8, 21: 2, 23: 4, 26: 4, 700: 4, 701: 8, 1114: 8, 1184: 8, 2950: 16}
"""pg_type.typlen of the fixed-length types in the proxy's own answers; all others are variable (-1)."""


def message(kind: int, payload: bytes | bytearray | memoryview = b"") -> bytes:
    """Build a message of a type byte, the length and `payload`."""
    length = len(payload) + 4
    if length > MAX_LENGTH:
        raise ValueError(f"a message of {length} bytes does not fit into the protocol")
    return b"".join((_header(kind, length), payload))


def _string(value: str | bytes) -> bytes:
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    if b"\0" in data:
        raise ValueError("a zero byte does not fit into a protocol string")
    return data + b"\0"


def _count(items: Sequence[object], what: str) -> bytes:
    if len(items) > MAX_INT16_COUNT:
        raise ValueError(f"{len(items)} {what} do not fit into one message")
    return _uint16(len(items))


def _int16s(values: Sequence[int], what: str) -> bytes:
    return _count(values, what) + b"".join(map(_int16, values))


def _values(values: Sequence[bytes | None], what: str) -> bytes:
    parts = [_count(values, what)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += (_int32(len(value)), value)
    return b"".join(parts)


# Backend messages.


def _authentication(code: int, rest: bytes = b"") -> bytes:
    return message(B.AUTHENTICATION, _int32(code) + rest)


def authentication_ok() -> bytes:
    """AuthenticationOk (B)."""
    return _authentication(Auth.OK)


def authentication_cleartext() -> bytes:
    """AuthenticationCleartextPassword (B)."""
    return _authentication(Auth.CLEARTEXT_PASSWORD)


def authentication_md5(salt: bytes) -> bytes:
    """AuthenticationMD5Password (B); the salt has four bytes."""
    if len(salt) != 4:
        raise ValueError("the salt of AuthenticationMD5Password has four bytes")
    return _authentication(Auth.MD5_PASSWORD, salt)


def authentication_sasl(mechanisms: Sequence[str]) -> bytes:
    """AuthenticationSASL (B): the mechanisms, in the order of preference."""
    return _authentication(Auth.SASL, b"".join(map(_string, mechanisms)) + b"\0")


def authentication_sasl_continue(data: bytes) -> bytes:
    """AuthenticationSASLContinue (B)."""
    return _authentication(Auth.SASL_CONTINUE, data)


def authentication_sasl_final(data: bytes) -> bytes:
    """AuthenticationSASLFinal (B)."""
    return _authentication(Auth.SASL_FINAL, data)


def parameter_status(name: str, value: str) -> bytes:
    """ParameterStatus (B)."""
    return message(B.PARAMETER_STATUS, _string(name) + _string(value))


def backend_key_data(pid: int, key: bytes) -> bytes:
    """BackendKeyData (B): `pid` is an int32, `key` four bytes in protocol 3.0, up to 256 in 3.2."""
    return message(B.BACKEND_KEY_DATA, _int32(pid) + _cancel_key(key))


def _cancel_key(key: bytes) -> bytes:
    if not 0 < len(key) <= MAX_CANCEL_KEY_LENGTH:
        raise ValueError(f"a cancel key of {len(key)} bytes does not fit into the protocol")
    return key


def ready_for_query(status: int | bytes) -> bytes:
    """ReadyForQuery (B): `I` idle, `T` in a transaction, `E` in a failed one."""
    if isinstance(status, int):
        status = bytes((status,))
    if status not in {b"I", b"T", b"E"}:
        raise ValueError(f"{status!r} is not a transaction status")
    return message(B.READY_FOR_QUERY, status)


def _fields(fields: Mapping[str, str]) -> bytes:
    parts: list[bytes] = []
    for code, text in fields.items():
        data = code.encode("utf-8", "surrogateescape")
        if len(data) != 1 or data == b"\0":
            raise ValueError(f"{code!r} is not an error field code")
        # A text that quotes a peer's input may hold a zero byte. It ends there, as it would in PostgreSQL.
        parts += (data, text.encode("utf-8", "surrogateescape").partition(b"\0")[0], b"\0")
    return b"".join(parts) + b"\0"


def error_response(fields: Mapping[str, str]) -> bytes:
    """ErrorResponse (B); manual: "Error and Notice Message Fields". A text ends at its first zero byte."""
    return message(B.ERROR_RESPONSE, _fields(fields))


def notice_response(fields: Mapping[str, str]) -> bytes:
    """NoticeResponse (B), with the fields of an ErrorResponse."""
    return message(B.NOTICE_RESPONSE, _fields(fields))


def command_complete(tag: str) -> bytes:
    """CommandComplete (B)."""
    return message(B.COMMAND_COMPLETE, _string(tag))


def _copy_response(kind: int, copy_format: int, column_formats: Sequence[int]) -> bytes:
    return message(kind, bytes((copy_format,)) + _int16s(column_formats, "columns"))


def copy_in_response(copy_format: int, column_formats: Sequence[int]) -> bytes:
    """CopyInResponse (B): overall format (0 text, 1 binary) and that of each column."""
    return _copy_response(B.COPY_IN_RESPONSE, copy_format, column_formats)


def copy_out_response(copy_format: int, column_formats: Sequence[int]) -> bytes:
    """CopyOutResponse (B), with the fields of a CopyInResponse."""
    return _copy_response(B.COPY_OUT_RESPONSE, copy_format, column_formats)


def negotiate_protocol_version(minor: int, options: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion (B): the newest 3.x that we support, and the `_pq_.` options that we do not know.

    The manual has "minor version"; PostgreSQL sends the whole version, and libpq expects that.
    """
    payload = _int32((3 << 16) | minor) + _int32(len(options)) + b"".join(map(_string, options))
    return message(B.NEGOTIATE_PROTOCOL_VERSION, payload)


def row_description(columns: Sequence[tuple[str, int]]) -> bytes:
    """RowDescription (B) of result columns that belong to no table: (name, type oid), text format."""
    parts = [_count(columns, "columns")]
    tail = Struct("!IhIhih").pack
    for name, oid in columns:
        parts += (_string(name), tail(0, 0, oid, _TYPE_LENGTHS.get(oid, -1), -1, 0))
    return message(B.ROW_DESCRIPTION, b"".join(parts))


def data_row(values: Sequence[bytes | None]) -> bytes:
    """DataRow (B); None is NULL."""
    return message(B.DATA_ROW, _values(values, "columns"))


def parameter_description(oids: Sequence[int]) -> bytes:
    """ParameterDescription (B)."""
    return message(B.PARAMETER_DESCRIPTION, _count(oids, "parameters") + b"".join(map(_uint32, oids)))


PARSE_COMPLETE: Final = message(B.PARSE_COMPLETE)
BIND_COMPLETE: Final = message(B.BIND_COMPLETE)
CLOSE_COMPLETE: Final = message(B.CLOSE_COMPLETE)
NO_DATA: Final = message(B.NO_DATA)
EMPTY_QUERY_RESPONSE: Final = message(B.EMPTY_QUERY_RESPONSE)
PORTAL_SUSPENDED: Final = message(B.PORTAL_SUSPENDED)


# Messages of both directions.

COPY_DONE: Final = message(F.COPY_DONE)


def copy_data(payload: bytes | bytearray | memoryview) -> bytes:
    """CopyData (F & B)."""
    return message(F.COPY_DATA, payload)


# Frontend messages.

SYNC: Final = message(F.SYNC)
FLUSH: Final = message(F.FLUSH)
TERMINATE: Final = message(F.TERMINATE)


def query(sql: bytes) -> bytes:
    """Query (F)."""
    return message(F.QUERY, _string(sql))


def parse(name: bytes, sql: bytes, oids: Sequence[int] = ()) -> bytes:
    """Parse (F): `oids` are the parameter types, 0 where the server is to infer it."""
    parts = (_string(name), _string(sql), _count(oids, "parameters"), *map(_uint32, oids))
    return message(F.PARSE, b"".join(parts))


def bind(
    portal: bytes,
    statement: bytes,
    param_formats: Sequence[int],
    params: Sequence[bytes | None],
    result_formats: Sequence[int],
) -> bytes:
    """Bind (F). Format codes: none (all text), one for all, or one each."""
    parts = (
        _string(portal),
        _string(statement),
        _int16s(param_formats, "format codes"),
        _values(params, "parameters"),
        _int16s(result_formats, "format codes"),
    )
    return message(F.BIND, b"".join(parts))


def describe(kind: bytes, name: bytes) -> bytes:
    """Describe (F) of a statement (`S`) or a portal (`P`)."""
    return message(F.DESCRIBE, _target(kind, name))


def close(kind: bytes, name: bytes) -> bytes:
    """Close (F) of a statement (`S`) or a portal (`P`)."""
    return message(F.CLOSE, _target(kind, name))


def _target(kind: bytes, name: bytes) -> bytes:
    if kind not in {b"S", b"P"}:
        raise ValueError(f"{kind!r} is neither a statement (S) nor a portal (P)")
    return kind + _string(name)


def execute(portal: bytes, max_rows: int = 0) -> bytes:
    """Execute (F); 0 rows means all."""
    return message(F.EXECUTE, _string(portal) + _int32(max_rows))


def copy_fail(reason: str) -> bytes:
    """CopyFail (F)."""
    return message(F.COPY_FAIL, _string(reason))


def password_message(password: bytes) -> bytes:
    """PasswordMessage (F): clear text, or the result of `scram.md5_password`."""
    return message(F.PASSWORD, _string(password))


def sasl_initial_response(mechanism: str, data: bytes | None) -> bytes:
    """SASLInitialResponse (F)."""
    rest = _NULL if data is None else _int32(len(data)) + data
    return message(F.PASSWORD, _string(mechanism) + rest)


def sasl_response(data: bytes) -> bytes:
    """SASLResponse (F)."""
    return message(F.PASSWORD, data)


# Messages without a type byte, which open a connection.


def _untyped(code: int, parts: Iterable[bytes] = ()) -> bytes:
    payload = _uint32(code) + b"".join(parts)
    return _uint32(len(payload) + 4) + payload


def startup_message(params: Mapping[str, str], version: ProtocolVersion = PROTOCOL_3_0) -> bytes:
    """StartupMessage (F)."""
    pairs = [part for name, value in params.items() for part in (_string(name), _string(value))]
    if b"\0" in pairs[::2]:
        raise ValueError("an empty parameter name would end the startup packet")
    return _untyped((version[0] << 16) | version[1], (*pairs, b"\0"))


def cancel_request(pid: int, key: bytes) -> bytes:
    """CancelRequest (F), for a connection of its own."""
    return _untyped(CANCEL_REQUEST_CODE, (_int32(pid), _cancel_key(key)))


def ssl_request() -> bytes:
    """SSLRequest (F)."""
    return _untyped(NEGOTIATE_SSL_CODE)


def gssenc_request() -> bytes:
    """GSSENCRequest (F)."""
    return _untyped(NEGOTIATE_GSS_CODE)

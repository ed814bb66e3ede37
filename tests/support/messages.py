"""Protocol messages as transcripts write them: made by functions with PostgreSQL's names, shown decoded.

A message is its bytes, so two are equal only if nothing at all was rewritten. `error` and `notice` are the exception:
what they do not name may be anything.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B, F
from shardproxy.wire.framing import Message


class Said:
    """One whole message."""

    def __init__(self, data: bytes, *, frontend: bool) -> None:
        self.data = data
        self._frontend = frontend

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Report):
            return other == self
        return isinstance(other, Said) and self.data == other.data

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        kind, payload = self.data[0], self.data[5:]
        name, decoder = (_FRONTEND if self._frontend else _BACKEND).get(kind, (f"<{chr(kind)}>", bytes))
        return name if decoder is None else f"{name} {decoder(payload)!r}".lstrip()


class Report(Said):
    """ErrorResponse or NoticeResponse; as what is expected it is equal to one that has the fields named."""

    def __init__(self, make: Callable[[Mapping[str, str]], bytes], fields: Mapping[str, str]) -> None:
        whole = {"S": "ERROR", "V": "ERROR", "C": "XX000", "M": "refused"} | dict(fields)
        super().__init__(make(whole), frontend=False)
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Said) or other.data[:1] != self.data[:1]:
            return False
        return self.fields.items() <= decode.fields(other.data[5:]).items()

    __hash__ = None

    def __repr__(self) -> str:
        return f"{'ErrorResponse' if self.data[0] == B.ERROR_RESPONSE else 'NoticeResponse'}{dict(self.fields)}"


def _f(data: bytes) -> Said:
    return Said(data, frontend=True)


def _b(data: bytes) -> Said:
    return Said(data, frontend=False)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


# (F)


def query(sql: str | bytes) -> Said:
    return _f(encode.query(_bytes(sql)))


def parse(name: str, sql: str, *oids: int) -> Said:
    return _f(encode.parse(name.encode(), sql.encode(), oids))


def bind(portal: str, statement: str, *params: str | bytes | None, binary: bool = False) -> Said:
    values = [None if param is None else _bytes(param) for param in params]
    return _f(encode.bind(portal.encode(), statement.encode(), [1] if binary else [], values, []))


def describe(kind: str, name: str = "") -> Said:
    return _f(encode.describe(kind.encode(), name.encode()))


def execute(portal: str = "", limit: int = 0) -> Said:
    return _f(encode.execute(portal.encode(), limit))


def close(kind: str, name: str = "") -> Said:
    return _f(encode.close(kind.encode(), name.encode()))


def copy_fail(reason: str) -> Said:
    return _f(encode.copy_fail(reason))


SYNC = _f(encode.SYNC)
FLUSH = _f(encode.FLUSH)
TERMINATE = _f(encode.TERMINATE)

# (F & B)


def data(rows: str | bytes) -> Said:
    """CopyData."""
    return _f(encode.copy_data(_bytes(rows)))


COPY_DONE = _f(encode.COPY_DONE)

# (B)


def columns(*names: str) -> Said:
    """RowDescription of columns of type text."""
    return _b(encode.row_description([(name, 25) for name in names]))


def row(*values: str | None) -> Said:
    """DataRow."""
    return _b(encode.data_row([None if value is None else value.encode() for value in values]))


def complete(tag: str) -> Said:
    """CommandComplete."""
    return _b(encode.command_complete(tag))


def ready(status: str) -> Said:
    """ReadyForQuery."""
    return _b(encode.ready_for_query(status.encode()))


def parameters(*oids: int) -> Said:
    """ParameterDescription."""
    return _b(encode.parameter_description(oids))


def setting(name: str, value: str) -> Said:
    """ParameterStatus."""
    return _b(encode.parameter_status(name, value))


def copy_in(*formats: int) -> Said:
    """CopyInResponse in text."""
    return _b(encode.copy_in_response(0, formats))


def copy_out(*formats: int) -> Said:
    """CopyOutResponse in text."""
    return _b(encode.copy_out_response(0, formats))


def notification(payload: bytes) -> Said:
    return _b(encode.message(B.NOTIFICATION_RESPONSE, payload))


PARSED = _b(encode.PARSE_COMPLETE)
BOUND = _b(encode.BIND_COMPLETE)
CLOSED = _b(encode.CLOSE_COMPLETE)
NO_DATA = _b(encode.NO_DATA)
EMPTY = _b(encode.EMPTY_QUERY_RESPONSE)
SUSPENDED = _b(encode.PORTAL_SUSPENDED)


def error(sqlstate: str, message: str | None = None, **fields: str) -> Said:
    """ErrorResponse; `fields` by their codes, as `D` for DETAIL."""
    return Report(encode.error_response, _named(sqlstate, message, fields))


def fatal(sqlstate: str) -> Said:
    """ErrorResponse by which a server ends the connection."""
    return error(sqlstate, S="FATAL", V="FATAL")


def notice(message: str, sqlstate: str = "00000", **fields: str) -> Said:
    """NoticeResponse."""
    return Report(encode.notice_response, _named(sqlstate, message, {"S": "NOTICE", "V": "NOTICE"} | fields))


def warning(sqlstate: str) -> Said:
    """NoticeResponse with a WARNING."""
    return Report(encode.notice_response, _named(sqlstate, None, {"S": "WARNING"}))


def _named(sqlstate: str, message: str | None, fields: Mapping[str, str]) -> dict[str, str]:
    return {"C": sqlstate} | ({} if message is None else {"M": message}) | dict(fields)


# What arrives.


def said(message: Message, *, frontend: bool) -> Said:
    """A message that a reader has found, as it came."""
    return Said(encode.message(message.type, message.payload), frontend=frontend)


def joined(messages: Sequence[Said]) -> bytes:
    return b"".join(message.data for message in messages)


Decoder = Callable[[bytes], Any] | None

_FRONTEND: dict[int, tuple[str, Decoder]] = {
    F.QUERY: ("Query", decode.query),
    F.PARSE: ("", decode.parse),
    F.BIND: ("", decode.bind),
    F.DESCRIBE: ("Describe", decode.describe),
    F.EXECUTE: ("", decode.execute),
    F.CLOSE: ("Close", decode.close),
    F.COPY_DATA: ("CopyData", bytes),
    F.COPY_DONE: ("CopyDone", None),
    F.COPY_FAIL: ("CopyFail", decode.copy_fail),
    F.SYNC: ("Sync", None),
    F.FLUSH: ("Flush", None),
    F.TERMINATE: ("Terminate", None),
}

_BACKEND: dict[int, tuple[str, Decoder]] = {
    B.ROW_DESCRIPTION: ("RowDescription", lambda payload: [one.name for one in decode.row_description(payload)]),
    B.DATA_ROW: ("DataRow", decode.data_row),
    B.COMMAND_COMPLETE: ("CommandComplete", decode.command_complete),
    B.READY_FOR_QUERY: ("ReadyForQuery", bytes),
    B.ERROR_RESPONSE: ("ErrorResponse", decode.fields),
    B.NOTICE_RESPONSE: ("NoticeResponse", decode.fields),
    B.PARAMETER_STATUS: ("ParameterStatus", decode.parameter_status),
    B.PARAMETER_DESCRIPTION: ("ParameterDescription", decode.parameter_description),
    B.PARSE_COMPLETE: ("ParseComplete", None),
    B.BIND_COMPLETE: ("BindComplete", None),
    B.CLOSE_COMPLETE: ("CloseComplete", None),
    B.NO_DATA: ("NoData", None),
    B.EMPTY_QUERY_RESPONSE: ("EmptyQueryResponse", None),
    B.PORTAL_SUSPENDED: ("PortalSuspended", None),
    B.COPY_IN_RESPONSE: ("CopyInResponse", decode.copy_response),
    B.COPY_OUT_RESPONSE: ("CopyOutResponse", decode.copy_response),
    B.COPY_DATA: ("CopyData", bytes),
    B.COPY_DONE: ("CopyDone", None),
}

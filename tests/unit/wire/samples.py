"""One message of every kind with what its payload decodes to: the material of the table-driven tests here."""

from collections.abc import Callable
from typing import Any, NamedTuple

from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B, F


class Sample(NamedTuple):
    name: str
    message: bytes
    decoder: Callable[[bytes], Any]
    value: Any

    @property
    def payload(self) -> bytes:
        return self.message[5:]


FRONTEND = [
    Sample("Query", encode.query(b"SELECT 1"), decode.query, b"SELECT 1"),
    Sample("Query empty", encode.query(b""), decode.query, b""),
    Sample("Parse", encode.parse(b"s", b"SELECT $1", [23, 0]), decode.parse, (b"s", b"SELECT $1", (23, 0))),
    Sample(
        "Bind",
        encode.bind(b"p", b"s", [0, 1], [b"a\0b", None], [1]),
        decode.bind,
        (b"p", b"s", (0, 1), (b"a\0b", None), (1,)),
    ),
    Sample("Bind bare", encode.bind(b"", b"", [], [], []), decode.bind, (b"", b"", (), (), ())),
    Sample("Describe", encode.describe(b"S", b"x"), decode.describe, (b"S", b"x")),
    Sample("Close", encode.close(b"P", b""), decode.close, (b"P", b"")),
    Sample("Execute", encode.execute(b"p", 50), decode.execute, (b"p", 50)),
    Sample("CopyFail", encode.copy_fail("caf\udce9"), decode.copy_fail, "caf\udce9"),
    Sample("PasswordMessage", encode.password_message(b"s3cret"), decode.password, b"s3cret"),
    Sample(
        "SASLInitialResponse",
        encode.sasl_initial_response("SCRAM-SHA-256", b"n,,n=,r=x"),
        decode.sasl_initial_response,
        ("SCRAM-SHA-256", b"n,,n=,r=x"),
    ),
    Sample(
        "SASLInitialResponse bare",
        encode.sasl_initial_response("SCRAM-SHA-256", None),
        decode.sasl_initial_response,
        ("SCRAM-SHA-256", None),
    ),
]

BACKEND = [
    Sample("ParameterStatus", encode.parameter_status("a", "ü"), decode.parameter_status, ("a", "ü")),
    Sample("ReadyForQuery", encode.ready_for_query(b"T"), decode.ready_for_query, ord("T")),
    Sample(
        "ErrorResponse",
        encode.error_response({"S": "FEHLER", "C": "22P02", "M": "ung\udcfcltig"}),
        decode.fields,
        {"S": "FEHLER", "C": "22P02", "M": "ung\udcfcltig"},
    ),
    Sample("NoticeResponse without fields", encode.notice_response({}), decode.fields, {}),
    Sample("CommandComplete", encode.command_complete("COPY 5"), decode.command_complete, "COPY 5"),
    Sample("CopyInResponse", encode.copy_in_response(1, [1, 1]), decode.copy_response, (1, (1, 1))),
    Sample("CopyOutResponse", encode.copy_out_response(0, []), decode.copy_response, (0, ())),
    Sample(
        "ParameterDescription",
        encode.parameter_description([23, 4294967295]),
        decode.parameter_description,
        (23, 4294967295),
    ),
    Sample(
        "RowDescription",
        encode.row_description([("a", 23), ("b", 25)]),
        decode.row_description,
        [("a", 0, 0, 23, 4, -1, 0), ("b", 0, 0, 25, -1, -1, 0)],
    ),
    Sample("DataRow", encode.data_row([b"", None, b"x\0"]), decode.data_row, [b"", None, b"x\0"]),
    Sample("DataRow without columns", encode.data_row([]), decode.data_row, []),
    Sample(
        "NegotiateProtocolVersion",
        encode.negotiate_protocol_version(2, ["_pq_.x"]),
        decode.negotiate_protocol_version,
        (2, ["_pq_.x"]),
    ),
]

# Their tail is "the rest of the message", so neither a cut nor trailing bytes can be told from another value.
OPEN_ENDED = [
    Sample("BackendKeyData", encode.backend_key_data(7, b"k" * 32), decode.backend_key_data, (7, b"k" * 32)),
    Sample(
        "AuthenticationSASLContinue",
        encode.authentication_sasl_continue(b"r=x"),
        decode.authentication,
        (11, b"r=x"),
    ),
]

CLOSED = FRONTEND + BACKEND
ALL = CLOSED + OPEN_ENDED

BARE_FRONTEND = [(F.SYNC, encode.SYNC), (F.FLUSH, encode.FLUSH), (F.TERMINATE, encode.TERMINATE)]
BARE_BACKEND = [
    (B.PARSE_COMPLETE, encode.PARSE_COMPLETE),
    (B.BIND_COMPLETE, encode.BIND_COMPLETE),
    (B.CLOSE_COMPLETE, encode.CLOSE_COMPLETE),
    (B.NO_DATA, encode.NO_DATA),
    (B.EMPTY_QUERY_RESPONSE, encode.EMPTY_QUERY_RESPONSE),
    (B.PORTAL_SUSPENDED, encode.PORTAL_SUSPENDED),
    (B.COPY_DONE, encode.COPY_DONE),
]

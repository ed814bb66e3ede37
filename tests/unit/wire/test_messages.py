"""Every message: whole, truncated at each byte, with trailing bytes, and as random values there and back."""

import contextlib
import random
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy import sqlstate
from shardproxy.errors import ProtocolError
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import B, F
from tests.unit.wire.samples import (
    ALL,
    BACKEND,
    BARE_BACKEND,
    BARE_FRONTEND,
    CLOSED,
    FRONTEND,
    OPEN_ENDED,
    Sample,
)


def named(samples: list[Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", samples, ids=lambda sample: sample.name)


@named(ALL)
def test_whole(sample: Sample) -> None:
    assert sample.decoder(sample.payload) == sample.value


@pytest.mark.parametrize(("kind", "message"), BARE_FRONTEND + BARE_BACKEND)
def test_message_without_payload_is_type_and_length(kind: int, message: bytes) -> None:
    assert message == bytes([kind, 0, 0, 0, 4])


@named(CLOSED)
def test_truncated_anywhere_is_a_violation(sample: Sample) -> None:
    for cut in range(len(sample.payload)):
        with pytest.raises(ProtocolError) as caught:
            sample.decoder(sample.payload[:cut])
        assert caught.value.sqlstate == sqlstate.PROTOCOL_VIOLATION


@named([sample for sample in CLOSED if sample.name != "CopyFail"])  # PostgreSQL does not look behind its string
@pytest.mark.parametrize("trailer", [b"\0", b"x", b"x\0", b"\0\0\0\0"])
def test_trailing_bytes_are_a_violation(sample: Sample, trailer: bytes) -> None:
    with pytest.raises(ProtocolError):
        sample.decoder(sample.payload + trailer)


def decodes_or_violates(decoder: Any, payload: bytes) -> None:
    """The fuzz invariant: a value or a ProtocolError; any other exception fails the test."""
    with contextlib.suppress(ProtocolError):
        decoder(payload)


DECODERS = sorted({sample.decoder for sample in ALL}, key=lambda decoder: decoder.__name__)


@pytest.mark.parametrize("decoder", DECODERS)
def test_random_bytes_decode_or_are_a_violation(decoder: Any) -> None:
    rng = random.Random(decoder.__name__)
    for _ in range(1000):
        decodes_or_violates(decoder, rng.randbytes(rng.randrange(65)))


@pytest.mark.parametrize("sample", CLOSED + OPEN_ENDED, ids=lambda sample: sample.name)
def test_one_changed_byte_decodes_or_is_a_violation(sample: Sample) -> None:
    rng = random.Random(sample.name)
    for at, byte in enumerate(sample.payload):
        for other in {0, 1, 127, 128, 255, byte ^ 1, rng.randrange(256)} - {byte}:
            decodes_or_violates(sample.decoder, sample.payload[:at] + bytes([other]) + sample.payload[at + 1 :])


def test_every_message_has_a_sample() -> None:
    covered = {sample.message[0] for sample in FRONTEND} | {kind for kind, _ in BARE_FRONTEND}
    raw = {F.COPY_DATA, F.COPY_DONE, F.FUNCTION_CALL}
    assert covered | raw == {value for name, value in vars(F).items() if name.isupper()}
    covered = {sample.message[0] for sample in BACKEND + OPEN_ENDED} | {kind for kind, _ in BARE_BACKEND}
    raw = {B.COPY_DATA, B.COPY_BOTH_RESPONSE, B.FUNCTION_CALL_RESPONSE, B.NOTIFICATION_RESPONSE}
    assert covered | raw == {value for name, value in vars(B).items() if name.isupper()}


# Values there and back.

cstrings = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b""))
texts = cstrings.map(lambda data: data.decode("utf-8", "surrogateescape"))
int16s = st.lists(st.integers(-32768, 32767), max_size=5)
oids = st.lists(st.integers(0, 2**32 - 1), max_size=5)
values = st.lists(st.none() | st.binary(max_size=20), max_size=5)
int32 = st.integers(-(2**31), 2**31 - 1)


@given(name=cstrings, sql=cstrings, types=oids)
def test_parse_there_and_back(name: bytes, sql: bytes, types: list[int]) -> None:
    assert decode.parse(encode.parse(name, sql, types)[5:]) == (name, sql, tuple(types))


@given(portal=cstrings, name=cstrings, params=values, one=st.integers(-32768, 32767), results=int16s)
def test_bind_there_and_back(
    portal: bytes, name: bytes, params: list[bytes | None], one: int, results: list[int]
) -> None:
    """Codes that mean nothing too: it is the server that refuses them."""
    for formats in ([], [one], [0] * len(params)):
        message = encode.bind(portal, name, formats, params, results)
        assert decode.bind(message[5:]) == (portal, name, tuple(formats), tuple(params), tuple(results))


@given(portal=cstrings, rows=int32)
def test_execute_there_and_back(portal: bytes, rows: int) -> None:
    assert decode.execute(encode.execute(portal, rows)[5:]) == (portal, rows)


@given(fields=st.dictionaries(st.sampled_from("SVCMDHPpqWstcdnFLR"), texts))
def test_fields_there_and_back(fields: dict[str, str]) -> None:
    message = encode.error_response(fields)
    assert decode.fields(message[5:]) == fields
    assert encode.notice_response(fields)[1:] == message[1:]


@given(name=texts, value=texts)
def test_parameter_status_there_and_back(name: str, value: str) -> None:
    assert decode.parameter_status(encode.parameter_status(name, value)[5:]) == (name, value)


@given(pid=int32, key=st.binary(min_size=4, max_size=256))
def test_backend_key_data_there_and_back(pid: int, key: bytes) -> None:
    assert decode.backend_key_data(encode.backend_key_data(pid, key)[5:]) == (pid, key)


@given(row=values)
def test_data_row_there_and_back(row: list[bytes | None]) -> None:
    assert decode.data_row(encode.data_row(row)[5:]) == row


@given(columns=st.lists(st.tuples(texts, st.integers(0, 2**32 - 1)), max_size=5))
def test_row_description_there_and_back(columns: list[tuple[str, int]]) -> None:
    decoded = decode.row_description(encode.row_description(columns)[5:])
    assert [(column.name, column.type_oid) for column in decoded] == columns


@given(mechanisms=st.lists(texts.filter(bool), max_size=3))
def test_authentication_sasl_there_and_back(mechanisms: list[str]) -> None:
    code, rest = decode.authentication(encode.authentication_sasl(mechanisms)[5:])
    assert (code, decode.sasl_mechanisms(rest)) == (10, mechanisms)


# Bounds.


def test_unknown_error_field_codes_pass_verbatim() -> None:
    payload = b"Zfuture\0\xe9odd\0\0"
    assert encode.error_response(decode.fields(payload))[5:] == payload


def test_the_manual_s_minor_version_alone_is_understood() -> None:
    assert decode.negotiate_protocol_version(struct.pack("!ii", 2, 0)) == (2, [])
    assert decode.negotiate_protocol_version(struct.pack("!ii", 0x30002, 0)) == (2, [])


@pytest.mark.parametrize(
    ("decoder", "payload"),
    [
        (decode.parse, b"\0\0\xff\xff"),
        (decode.bind, b"\0\0\xff\xff"),
        (decode.bind, b"\0\0\0\0\xff\xff"),
        (decode.bind, b"\0\0\0\0\0\1\x7f\xff\xff\xff"),
        (decode.bind, b"\0\0\0\0\0\1\xff\xff\xff\xfe\0\0"),
        (decode.bind, b"\0\0\0\0\0\1\x80\0\0\0\0\0"),
        (decode.data_row, b"\xff\xff"),
        (decode.data_row, b"\0\1\x7f\xff\xff\xffabc"),
        (decode.row_description, b"\xff\xff\0"),
        (decode.parameter_description, b"\xff\xff\0"),
        (decode.copy_response, b"\0\xff\xff\0"),
        (decode.sasl_initial_response, b"SCRAM-SHA-256\0\x7f\xff\xff\xff"),
        (decode.sasl_initial_response, b"SCRAM-SHA-256\0\xff\xff\xff\xfe"),
        (decode.negotiate_protocol_version, b"\0\3\0\2\x7f\xff\xff\xff\0"),
        (decode.negotiate_protocol_version, b"\0\3\0\2\xff\xff\xff\xff"),
        (decode.negotiate_protocol_version, b"\0\4\0\0\0\0\0\0"),
    ],
)
def test_forged_counts_and_lengths_are_refused_without_memory(decoder: Any, payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decoder(payload)
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("decoder", "payload", "message"),
    [
        (decode.query, b"SELECT 1", "invalid string in message"),
        (decode.query, b"SELECT 1\0x", "invalid message format"),
        (decode.describe, b"Xname\0", "invalid DESCRIBE message subtype 88"),
        (decode.close, b"\0\0", "invalid CLOSE message subtype 0"),
        (decode.bind, b"\0\0\0\2\0\0\0\0\0\0\0\0", "bind message has 2 parameter formats but 0 parameters"),
        (decode.password, b"no terminator", "invalid password packet size"),
        (decode.password, b"zero\0inside\0", "invalid password packet size"),
    ],
)
def test_words_are_postgresql_s(decoder: Any, payload: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decoder(payload)
    assert caught.value.message == message


@pytest.mark.parametrize("length", [0, 3, 257])
def test_cancel_key_of_impossible_length(length: int) -> None:
    with pytest.raises(ProtocolError, match="cancel key"):
        decode.backend_key_data(struct.pack("!i", 1) + b"k" * length)


@pytest.mark.parametrize("payload", [b"", b"X", b"II"])
def test_transaction_status_is_one_of_three(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode.ready_for_query(payload)
    with pytest.raises(ValueError, match="transaction status"):
        encode.ready_for_query(payload)


def test_a_zero_byte_cannot_smuggle_a_field_in() -> None:
    calls: tuple[Callable[[], bytes], ...] = (
        lambda: encode.query(b"SELECT 1\0; DROP TABLE t"),
        lambda: encode.parse(b"a\0b", b""),
        lambda: encode.parameter_status("a", "b\0c"),
        lambda: encode.command_complete("COPY 1\0"),
        lambda: encode.password_message(b"a\0b"),
        lambda: encode.copy_fail("a\0"),
        lambda: encode.startup_message({"user": "a\0superuser"}),
        lambda: encode.startup_message({"": "a"}),
        lambda: encode.row_description([("a\0", 23)]),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"zero byte|parameter name"):
            call()


def test_an_error_text_with_a_zero_byte_is_still_sent() -> None:
    message = encode.error_response({"M": "invalid byte \0 here", "C": "22021"})
    assert decode.fields(message[5:]) == {"M": "invalid byte ", "C": "22021"}


def test_what_does_not_fit_is_our_mistake() -> None:
    calls: tuple[Callable[[], bytes], ...] = (
        lambda: encode.data_row([None] * 65_536),
        lambda: encode.copy_in_response(0, [0] * 65_536),
        lambda: encode.parse(b"", b"", [0] * 65_536),
        lambda: encode.backend_key_data(1, b"k" * 257),
        lambda: encode.cancel_request(1, b""),
        lambda: encode.describe(b"T", b""),
        lambda: encode.error_response({"MM": "x"}),
        lambda: encode.authentication_md5(b"123"),
    )
    for call in calls:
        with pytest.raises(ValueError):
            call()


def test_the_most_columns_fit() -> None:
    row: list[bytes | None] = [None] * 65_535
    assert decode.data_row(encode.data_row(row)[5:]) == row

"""StartupReader: every packet at every cut, and every malformed one with PostgreSQL's own words."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardproxy.errors import ProtocolError
from shardproxy.wire import encode
from shardproxy.wire.errors import SilentProtocolError
from shardproxy.wire.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    StartupPacket,
    StartupReader,
    unencrypted_data,
)

PARAMS = {"user": "app", "database": "shop", "application_name": "caf\udce9", "options": ""}

PACKETS = [
    (encode.ssl_request(), SSLRequest()),
    (encode.gssenc_request(), GSSENCRequest()),
    (encode.cancel_request(77, b"1234"), CancelRequest(77, b"1234")),
    (encode.cancel_request(-1, b"k" * 256), CancelRequest(-1, b"k" * 256)),
    (encode.startup_message(PARAMS, (3, 0)), StartupMessage((3, 0), PARAMS)),
    (encode.startup_message({"user": "u"}, (3, 2)), StartupMessage((3, 2), {"user": "u"})),
]


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!iI", len(body) + 8, code) + body


def read(data: bytes) -> StartupPacket | None:
    reader = StartupReader()
    reader.feed(data)
    return reader.next()


@pytest.mark.parametrize(("data", "expected"), PACKETS)
def test_every_cut(data: bytes, expected: StartupPacket) -> None:
    for cut in range(len(data)):
        reader = StartupReader()
        reader.feed(data[:cut])
        assert reader.next() is None
        reader.feed(data[cut:])
        assert reader.next() == expected
        assert reader.rest() == b""
        assert reader.next() is None


@pytest.mark.parametrize(("data", "expected"), PACKETS)
def test_what_comes_behind_stays_in_the_rest(data: bytes, expected: StartupPacket) -> None:
    reader = StartupReader()
    reader.feed(data + b"stuffed")
    assert reader.next() == expected
    assert reader.rest() == b"stuffed"


def test_each_encryption_may_be_asked_for_once_then_a_session_begins() -> None:
    reader = StartupReader()
    reader.feed(encode.gssenc_request())
    assert reader.next() == GSSENCRequest()
    reader.feed(encode.ssl_request())
    assert reader.next() == SSLRequest()
    reader.feed(encode.startup_message({"user": "u"}))
    assert reader.next() == StartupMessage((3, 0), {"user": "u"})


@pytest.mark.parametrize(("request_", "minor"), [(encode.ssl_request(), 5679), (encode.gssenc_request(), 5680)])
@pytest.mark.parametrize("encrypted", [False, True])
def test_a_second_encryption_request_is_an_unknown_version(request_: bytes, minor: int, encrypted: bool) -> None:
    reader = StartupReader(encrypted=encrypted)
    reader.feed(request_)
    if not encrypted:
        assert isinstance(reader.next(), SSLRequest | GSSENCRequest)
        reader.feed(request_)
    with pytest.raises(ProtocolError) as caught:
        reader.next()
    assert caught.value.sqlstate == "0A000"
    assert caught.value.message == f"unsupported frontend protocol 1234.{minor}: server supports 3.0 to 3.2"


@pytest.mark.parametrize("length", [-1, 0, 3, 4, 7, -(2**31), 2**31 - 1, 10_005])
def test_impossible_lengths_close_without_an_answer(length: int) -> None:
    with pytest.raises(SilentProtocolError, match="invalid length of startup packet"):
        read(struct.pack("!i", length))


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-x\r\n"])
def test_other_protocols_close_without_an_answer(data: bytes) -> None:
    with pytest.raises(SilentProtocolError):
        read(data)


def test_the_longest_packet() -> None:
    empty = len(encode.startup_message({"user": "u", "x": ""})) - 4
    data = encode.startup_message({"user": "u", "x": "y" * (10_000 - empty)})
    assert len(data) == 10_004
    assert isinstance(read(data), StartupMessage)
    with pytest.raises(SilentProtocolError):
        read(encode.startup_message({"user": "u", "x": "y" * (10_001 - empty)}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "invalid length of query cancel packet"),
        (b"\0\0\0", "invalid length of query cancel packet"),
        (b"\0\0\0\1", "invalid length of query cancel key"),
        (b"\0\0\0\1" + b"k" * 257, "invalid length of query cancel key"),
    ],
)
def test_malformed_cancel_requests_close_without_an_answer(body: bytes, message: str) -> None:
    with pytest.raises(SilentProtocolError, match=message):
        read(packet(1234 << 16 | 5678, body))


@pytest.mark.parametrize(("major", "minor"), [(0, 0), (2, 0), (4, 0), (65535, 65535)])
def test_other_major_versions(major: int, minor: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(packet(major << 16 | minor, b"user\0u\0\0"))
    assert caught.value.sqlstate == "0A000"
    assert caught.value.message == f"unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2"


BAD_LAYOUTS = [
    b"",
    b"user",
    b"user\0",
    b"user\0u",
    b"user\0u\0",
    b"user\0u\0\0x",
    b"user\0u\0\0\0",
    b"user\0u\0database\0",
    b"user\0u\0database\0\0",
    b"user\0u\0\0database\0d\0\0",
    b"\0user\0u\0\0",
    b"\0\0",
]


@pytest.mark.parametrize("body", BAD_LAYOUTS)
def test_missing_or_misplaced_terminators(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(packet(3 << 16, body))
    assert caught.value.sqlstate == "08P01"
    assert caught.value.message == "invalid startup packet layout: expected terminator as last byte"


@pytest.mark.parametrize("body", [b"\0", b"user\0\0\0", b"database\0d\0\0"])
def test_no_user(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(packet(3 << 16, body))
    assert caught.value.sqlstate == "28000"
    assert caught.value.message == "no PostgreSQL user name specified in startup packet"


def test_an_error_is_final() -> None:
    reader = StartupReader()
    reader.feed(packet(3 << 16, b"\0"))
    for _ in range(2):
        with pytest.raises(ProtocolError, match="no PostgreSQL user name"):
            reader.next()
        reader.feed(encode.startup_message({"user": "u"}))
    assert reader.rest() == b""
    assert "failed" in repr(reader)


@pytest.mark.parametrize(
    ("asked", "options", "spoken", "negotiate"),
    [
        ((3, 0), (), (3, 0), False),
        ((3, 1), (), (3, 0), True),
        ((3, 2), (), (3, 2), False),
        ((3, 3), (), (3, 2), True),
        ((3, 9999), (), (3, 2), True),
        ((3, 0), ("_pq_.x",), (3, 0), True),
        ((3, 2), ("_pq_.x", "_pq_."), (3, 2), True),
    ],
)
def test_negotiation(
    asked: tuple[int, int], options: tuple[str, ...], spoken: tuple[int, int], negotiate: bool
) -> None:
    message = read(encode.startup_message({"user": "u"} | dict.fromkeys(options, "1"), asked))
    assert isinstance(message, StartupMessage)
    assert message.version == asked
    assert message.params == {"user": "u"}
    assert message.protocol_options == options
    assert message.spoken == spoken
    assert message.must_negotiate is negotiate


def test_the_database_defaults_to_the_user() -> None:
    for params in ({"user": "u"}, {"user": "u", "database": ""}):
        message = read(encode.startup_message(params))
        assert isinstance(message, StartupMessage)
        assert message.database == "u"


def test_the_last_of_two_equal_names_counts_and_replication_is_passed_on() -> None:
    message = read(packet(3 << 16, b"user\0a\0replication\0true\0user\0b\0\0"))
    assert isinstance(message, StartupMessage)
    assert message.params == {"user": "b", "replication": "true"}


@pytest.mark.parametrize(("request_", "what"), [(SSLRequest(), "SSL"), (GSSENCRequest(), "GSSAPI encryption")])
def test_the_refusal_of_stuffed_bytes(request_: SSLRequest | GSSENCRequest, what: str) -> None:
    error = unencrypted_data(request_)
    assert error.sqlstate == "08P01"
    assert error.message == f"received unencrypted data after {what} request"
    assert "man-in-the-middle" in (error.detail or "")


names = st.text("abcé\udce9 ='", min_size=1, max_size=8).filter(lambda name: name != "user")


@given(params=st.dictionaries(names, st.text("xyz€\udcff", max_size=8), max_size=5), minor=st.integers(0, 65535))
def test_there_and_back(params: dict[str, str], minor: int) -> None:
    message = read(encode.startup_message({**params, "user": "u"}, (3, minor)))
    assert isinstance(message, StartupMessage)
    assert message.params == {**params, "user": "u"}
    assert message.version == (3, minor)


codes = st.sampled_from([3 << 16, 3 << 16 | 2, 1234 << 16 | 5678, 1234 << 16 | 5679]) | st.integers(0, 2**32 - 1)


@given(code=codes, body=st.binary(max_size=40) | st.text("user\0", max_size=20).map(str.encode), raw=st.binary())
def test_random_bytes_give_a_packet_or_a_violation(code: int, body: bytes, raw: bytes) -> None:
    for data in (packet(code, body), raw, packet(code, body)[:-1] + raw):
        with contextlib.suppress(ProtocolError):
            read(data)

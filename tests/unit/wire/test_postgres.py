"""PostgreSQL and libpq as the oracle of the wire layer: same answers to malformed bytes, and logins that work."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import psycopg
import pytest

from shardproxy.embedded import Server
from shardproxy.errors import PgError, ProtocolError
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import SCRAM_SHA_256, Auth, B, F, authentication_limit, frontend_limit
from shardproxy.wire.errors import SilentProtocolError
from shardproxy.wire.framing import FrameReader, Message
from shardproxy.wire.scram import ScramClient, ScramServer, Verifier, md5_password
from shardproxy.wire.startup import SSLRequest, StartupMessage, StartupReader

HBA = """
host all scram 127.0.0.1/32 scram-sha-256
host all md5   127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
host all all   127.0.0.1/32 trust
"""

PASSWORD = "p,=ü\u2168w"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(18, hba=HBA) as running:
        with psycopg.connect(running.dsn(), autocommit=True) as connection:
            for sql in (
                f"CREATE ROLE scram LOGIN PASSWORD '{PASSWORD}'",
                f"CREATE ROLE clear LOGIN PASSWORD '{PASSWORD}'",
                "SET password_encryption = md5",
                f"CREATE ROLE md5 LOGIN PASSWORD '{PASSWORD}'",
            ):
                connection.execute(sql.encode())
        yield running


class Wire:
    """A blocking connection that speaks through the wire layer."""

    def __init__(self, sock: socket.socket, frames: FrameReader) -> None:
        self.socket = sock
        self.frames = frames

    def send(self, *messages: bytes) -> None:
        self.socket.sendall(b"".join(messages))

    def read(self) -> Message | None:
        """The next message; None at the end of the stream."""
        while (message := self.frames.next()) is None:
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                return None
            if not data:
                assert not self.frames.buffered
                return None
            self.frames.feed(data)
        return message

    def until_ready(self) -> list[Message]:
        messages = []
        while (message := self.read()) is not None:
            messages.append(message)
            if message.type == B.READY_FOR_QUERY:
                break
        return messages


@contextlib.contextmanager
def connected(server: Server) -> Iterator[Wire]:
    with socket.create_connection((server.host, server.port), timeout=20) as sock:
        yield Wire(sock, FrameReader())


@contextlib.contextmanager
def session(server: Server) -> Iterator[Wire]:
    with connected(server) as wire:
        wire.send(encode.startup_message({"user": server.superuser, "database": "postgres"}))
        assert wire.until_ready()[-1].type == B.READY_FOR_QUERY
        yield wire


def packet(code: int, body: bytes = b"") -> bytes:
    return struct.pack("!iI", len(body) + 8, code) + body


V3 = 3 << 16
CANCEL = 1234 << 16 | 5678

STARTUPS = {
    "length -1": struct.pack("!ii", -1, V3),
    "length 0": struct.pack("!ii", 0, V3),
    "length 3": struct.pack("!ii", 3, V3),
    "length 7": struct.pack("!ii", 7, V3),
    "length 2^31-1": struct.pack("!ii", 2**31 - 1, V3),
    "over 10,000 bytes": packet(V3, b"user\0u\0x\0" + b"y" * 10_000 + b"\0\0"),
    "version 4": packet(4 << 16, b"user\0u\0\0"),
    "no body": packet(V3),
    "no terminator": packet(V3, b"user\0u\0"),
    "no zero byte": packet(V3, b"user\0u"),
    "no value": packet(V3, b"user\0"),
    "bytes behind the terminator": packet(V3, b"user\0u\0\0x"),
    "two terminators": packet(V3, b"user\0u\0\0\0"),
    "second name without value": packet(V3, b"user\0u\0database\0\0"),
    "no user": packet(V3, b"database\0postgres\0\0"),
    "empty user": packet(V3, b"user\0\0\0"),
    "nothing": packet(V3, b"\0"),
    "cancel without key": packet(CANCEL, b"\0\0\0\1"),
    "cancel without pid": packet(CANCEL),
    "cancel with a long key": packet(CANCEL, b"\0\0\0\1" + b"k" * 257),
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("data", STARTUPS.values(), ids=STARTUPS.keys())
def test_malformed_startups_are_answered_as_postgresql_does(server: Server, data: bytes) -> None:
    reader = StartupReader()
    reader.feed(data)
    with pytest.raises(ProtocolError) as ours:
        reader.next()
    with connected(server) as wire:
        wire.send(data)
        answer = wire.read()
    if answer is None:
        assert isinstance(ours.value, SilentProtocolError)
    else:
        assert answer.type == B.ERROR_RESPONSE
        theirs = decode.fields(answer.payload)
        assert not isinstance(ours.value, SilentProtocolError)
        assert {code: theirs[code] for code in "SVCM"} == {code: ours.value.fields[code] for code in "SVCM"}


def test_version_2_is_refused_in_the_same_words(server: Server) -> None:
    """PostgreSQL answers in the format of version 2, which has text behind the type byte; we do not."""
    data = packet(2 << 16, b"\0")
    reader = StartupReader()
    reader.feed(data)
    with pytest.raises(ProtocolError) as ours:
        reader.next()
    with socket.create_connection((server.host, server.port), timeout=20) as sock:
        sock.sendall(data)
        assert ours.value.message.encode() in sock.recv(4096)


@pytest.mark.parametrize("minor", [0, 2, 3, 9999])
@pytest.mark.parametrize("options", [(), ("_pq_.x",), ("_pq_.x", "_pq_.y")])
def test_versions_are_negotiated_as_postgresql_18_does(server: Server, minor: int, options: tuple[str, ...]) -> None:
    data = encode.startup_message({"user": server.superuser} | dict.fromkeys(options, "1"), (3, minor))
    reader = StartupReader()
    reader.feed(data)
    startup = reader.next()
    assert isinstance(startup, StartupMessage)
    with connected(server) as wire:
        wire.send(data)
        messages = {message.type: message.payload for message in wire.until_ready()}
    negotiated = messages.get(B.NEGOTIATE_PROTOCOL_VERSION)
    assert (negotiated is not None) is startup.must_negotiate
    if negotiated is not None:
        ours = encode.negotiate_protocol_version(startup.spoken[1], startup.protocol_options)
        assert ours[5:] == negotiated
        assert decode.negotiate_protocol_version(negotiated) == (startup.spoken[1], list(options))
    _, key = decode.backend_key_data(messages[B.BACKEND_KEY_DATA])
    assert len(key) == (32 if startup.spoken == (3, 2) else 4)


MALFORMED = {
    "query without terminator": (decode.query, encode.message(F.QUERY, b"SELECT 1")),
    "query with trailing bytes": (decode.query, encode.message(F.QUERY, b"SELECT 1\0x\0")),
    "parse cut in its count": (decode.parse, encode.message(F.PARSE, b"\0SELECT 1\0\0")),
    "parse with too few types": (decode.parse, encode.message(F.PARSE, b"\0SELECT 1\0\0\2\0\0\0\x17")),
    "parse with trailing bytes": (decode.parse, encode.message(F.PARSE, b"\0SELECT 1\0\0\0x")),
    "parse without terminator": (decode.parse, encode.message(F.PARSE, b"\0SELECT 1")),
    "describe of nothing": (decode.describe, encode.message(F.DESCRIBE, b"")),
    "describe of X": (decode.describe, encode.message(F.DESCRIBE, b"X\0")),
    "close of X": (decode.close, encode.message(F.CLOSE, b"X\0")),
    "execute cut": (decode.execute, encode.message(F.EXECUTE, b"\0\0\0\0")),
    "bind of two formats for no parameter": (
        decode.bind,
        encode.message(F.BIND, b"\0s\0\0\2\0\0\0\0\0\0\0\0"),
    ),
    "bind cut in a value": (decode.bind, encode.message(F.BIND, b"\0s1\0\0\0\0\1\0\0\0\7abc")),
    "bind with a length of -2": (decode.bind, encode.message(F.BIND, b"\0s1\0\0\0\0\1\xff\xff\xff\xfe\0\0")),
    "bind with trailing bytes": (decode.bind, encode.message(F.BIND, b"\0s\0\0\0\0\0\0\0x")),
}


@pytest.mark.parametrize(("decoder", "message"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_answered_as_postgresql_does(server: Server, decoder: object, message: bytes) -> None:
    assert callable(decoder)
    with pytest.raises(ProtocolError) as ours:
        decoder(message[5:])
    with session(server) as wire:
        wire.send(encode.parse(b"s", b"SELECT 1"), encode.parse(b"s1", b"SELECT $1::text"), encode.SYNC)
        wire.until_ready()
        wire.send(message, encode.SYNC)
        errors = [decode.fields(m.payload) for m in wire.until_ready() if m.type == B.ERROR_RESPONSE]
    assert (errors[0]["C"], errors[0]["M"]) == (ours.value.sqlstate, ours.value.message)


def test_an_unknown_type_is_answered_as_postgresql_does(server: Server) -> None:
    reader = FrameReader(frontend_limit)
    reader.feed(encode.message(ord("z")))
    with pytest.raises(ProtocolError) as ours:
        reader.next()
    with session(server) as wire:
        wire.send(encode.message(ord("z")))
        answer = wire.read()
    assert answer is not None
    theirs = decode.fields(answer.payload)
    assert {code: theirs[code] for code in "SVCM"} == {code: ours.value.fields[code] for code in "SVCM"}


@pytest.mark.parametrize("length", [-1, 0, 3, 2**31 - 1, 10_001])
def test_an_impossible_length_closes_without_an_answer(server: Server, length: int) -> None:
    reader = FrameReader(frontend_limit)
    reader.feed(struct.pack("!ci", b"S", length))
    with pytest.raises(SilentProtocolError):
        reader.next()
    with session(server) as wire:
        wire.send(struct.pack("!ci", b"S", length))
        assert wire.read() is None


# Our client against PostgreSQL.


def log_in(wire: Wire, user: str, password: str) -> None:
    """Raise the server's PgError for a login that fails."""
    wire.send(encode.startup_message({"user": user, "database": "postgres"}))
    scram = ScramClient(password)
    while (message := wire.read()) is not None:
        if message.type == B.ERROR_RESPONSE:
            raise PgError.from_fields(decode.fields(message.payload))
        assert message.type == B.AUTHENTICATION
        match decode.authentication(message.payload):
            case Auth.OK, _:
                assert user != "scram" or scram.verified
                return
            case Auth.CLEARTEXT_PASSWORD, _:
                wire.send(encode.password_message(password.encode()))
            case Auth.MD5_PASSWORD, salt:
                wire.send(encode.password_message(md5_password(user, password, salt)))
            case Auth.SASL, mechanisms:
                assert SCRAM_SHA_256 in decode.sasl_mechanisms(mechanisms)
                wire.send(encode.sasl_initial_response(SCRAM_SHA_256, scram.first()))
            case Auth.SASL_CONTINUE, data:
                wire.send(encode.sasl_response(scram.final(data)))
            case Auth.SASL_FINAL, data:
                scram.verify(data)
            case code, _:
                pytest.fail(f"authentication request {code}")
    pytest.fail("the server closed the connection")


@pytest.mark.parametrize("user", ["scram", "md5", "clear"])
def test_our_client_logs_in_at_postgresql(server: Server, user: str) -> None:
    with connected(server) as wire:
        log_in(wire, user, PASSWORD)
        wire.until_ready()
        wire.send(encode.query(b"SELECT 'caf\xc3\xa9', NULL"))
        columns, row, tag, ready = wire.until_ready()
    assert [column.type_oid for column in decode.row_description(columns.payload)] == [25, 25]
    assert decode.data_row(row.payload) == ["café".encode(), None]
    assert decode.command_complete(tag.payload) == "SELECT 1"
    assert decode.ready_for_query(ready.payload) == ord("I")


@pytest.mark.parametrize("user", ["scram", "md5", "clear"])
def test_a_wrong_password_is_refused(server: Server, user: str) -> None:
    with connected(server) as wire, pytest.raises(PgError) as caught:
        log_in(wire, user, "wrong")
    assert caught.value.sqlstate == "28P01"


def test_postgresql_s_stored_verifier_is_ours(server: Server) -> None:
    with psycopg.connect(server.dsn()) as connection:
        row = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram'").fetchone()
    assert row is not None
    verifier = Verifier.parse(row[0])
    assert str(verifier) == row[0]
    assert Verifier.from_password(PASSWORD, verifier.salt, verifier.iterations) == verifier


def test_our_verifier_is_good_for_postgresql(server: Server) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        verifier = Verifier.from_password(PASSWORD, b"a salt of another length", iterations=5)
        connection.execute(f"ALTER ROLE clear PASSWORD '{verifier}'".encode())
    with psycopg.connect(server.dsn(user="clear"), password=PASSWORD) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("clear",)


# libpq against our server side.


class OneLogin(threading.Thread):
    """A listener that takes one client through start-up and SCRAM, then answers one simple Query."""

    def __init__(self, verifier: Verifier) -> None:
        super().__init__(daemon=True)
        self.verifier = verifier
        self.key = b"k" * 32
        self.startup: StartupMessage | None = None
        self.query = b""
        self.error: PgError | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(20)
        self.port = self.listener.getsockname()[1]

    def run(self) -> None:
        with self.listener, self.listener.accept()[0] as sock:
            sock.settimeout(20)
            try:
                self.serve(sock)
            except PgError as error:
                self.error = error
                sock.sendall(encode.error_response(error.fields))

    def serve(self, sock: socket.socket) -> None:
        reader = StartupReader()
        while not isinstance(packet := reader.next(), StartupMessage):
            if isinstance(packet, SSLRequest):
                assert not reader.rest()
                sock.sendall(b"N")
            reader.feed(sock.recv(1))
        self.startup = packet
        wire = Wire(sock, FrameReader(authentication_limit))
        wire.frames.feed(reader.rest())
        if packet.must_negotiate:
            wire.send(encode.negotiate_protocol_version(packet.spoken[1], packet.protocol_options))
        scram = ScramServer(self.verifier, user=packet.user)
        wire.send(encode.authentication_sasl([SCRAM_SHA_256]))
        mechanism, first = decode.sasl_initial_response(self.password(wire))
        assert mechanism == SCRAM_SHA_256
        assert first is not None
        wire.send(encode.authentication_sasl_continue(scram.first(first)))
        wire.send(
            encode.authentication_sasl_final(scram.final(self.password(wire))),
            encode.authentication_ok(),
            encode.parameter_status("server_version", "18.0 (shardproxy)"),
            encode.backend_key_data(4711, self.key if packet.spoken == (3, 2) else self.key[:4]),
            encode.ready_for_query(b"I"),
        )
        wire.frames.limit_of = frontend_limit
        query = wire.read()
        assert query is not None
        assert query.type == F.QUERY
        self.query = decode.query(query.payload)
        wire.send(
            encode.notice_response({"S": "NOTICE", "C": "00000", "M": "hear"}),
            encode.row_description([("a", 23), ("b", 25)]),
            encode.data_row([b"1", None]),
            encode.command_complete("SELECT 1"),
            encode.ready_for_query(ord("I")),
        )
        end = wire.read()
        assert end is not None
        assert end.type == F.TERMINATE

    @staticmethod
    def password(wire: Wire) -> bytes:
        message = wire.read()
        assert message is not None
        assert message.type == F.PASSWORD
        return message.payload


@pytest.mark.parametrize(
    ("asked", "minor", "sslmode"), [("3.0", 0, "disable"), ("3.2", 2, "disable"), ("latest", 2, "prefer")]
)
def test_libpq_logs_in_at_our_server_side(asked: str, minor: int, sslmode: str) -> None:
    login = OneLogin(Verifier.from_password(PASSWORD))
    login.start()
    # Not pq.PGconn.connect: it holds the interpreter's lock, which the other side needs.
    with psycopg.connect(
        f"host=127.0.0.1 port={login.port} user=u dbname=d password='{PASSWORD}' sslmode={sslmode} "
        "gssencmode=disable channel_binding=disable require_auth=scram-sha-256 connect_timeout=20 "
        f"max_protocol_version={asked}",
        autocommit=True,
    ) as connection:
        notices: list[str | None] = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        assert connection.pgconn.backend_pid == 4711
        cursor = connection.execute(b"SELECT $$\xff$$")
        assert cursor.fetchall() == [(1, None)]
        assert cursor.statusmessage == "SELECT 1"
        assert [(column.name, column.type_code, column.internal_size) for column in cursor.description or ()] == [
            ("a", 23, 4),
            ("b", 25, None),
        ]
        assert notices == ["hear"]
    login.join(20)
    assert not login.is_alive()
    assert login.error is None
    assert login.query == b"SELECT $$\xff$$"
    assert login.startup is not None
    assert login.startup.version == (3, minor)
    assert login.startup.database == "d"


@pytest.mark.parametrize("verifier", [Verifier.from_password("other"), Verifier.mock("u", b"secret")])
def test_libpq_with_a_wrong_password_is_refused(verifier: Verifier) -> None:
    login = OneLogin(verifier)
    login.start()
    with pytest.raises(psycopg.OperationalError, match='password authentication failed for user "u"'):
        psycopg.connect(
            f"host=127.0.0.1 port={login.port} user=u password=x sslmode=disable gssencmode=disable connect_timeout=20"
        )
    login.join(20)
    assert login.error is not None
    assert login.error.sqlstate == "28P01"

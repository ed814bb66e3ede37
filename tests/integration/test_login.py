"""The start-up of a connection, as libpq and as strangers do it."""

import contextlib
import re
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from shardproxy.wire import decode, encode
from shardproxy.wire.constants import PROTOCOL_3_0, PROTOCOL_3_2, Auth, B
from shardproxy.wire.framing import FrameReader, Message
from shardproxy.wire.scram import ScramClient, Verifier
from tests.conftest import RunProxy
from tests.support.databases import Databases, Servers, execute, toml
from tests.support.proxy import Proxy

PATIENCE = 20.0  # seconds
ITERATIONS = 5000  # not PostgreSQL's default: a stranger must not be told from a user by it
VERIFIER = str(Verifier.from_password("other secret", iterations=ITERATIONS))
USERS = [
    {"name": "app", "password": "s3cret ü", "databases": ["shop"]},
    {"name": "nobase", "password": "s3cret", "databases": ["other"]},
    {"name": "stored", "password": VERIFIER, "databases": ["shop"]},
]

SSL_REQUEST = encode.ssl_request()
GSSENC_REQUEST = struct.pack("!ii", 8, (1234 << 16) | 5680)


@pytest.fixture(scope="module")
def databases(servers18: Servers) -> Iterator[Databases]:
    databases = Databases.create(servers18, one_server=True)
    databases.execute("CREATE TABLE t (a int, b text)")
    yield databases
    databases.drop()


@pytest.fixture(scope="module")
def trusting(databases: Databases, run_proxy_for_module: RunProxy) -> Proxy:
    """A proxy without users, few places, and little patience with strangers."""
    limits = {"login_timeout": 1.0, "max_clients": 4}
    return run_proxy_for_module(databases.config([{"name": "t", "placement": "hash", "key": ["a"]}], server=limits))


@pytest.fixture(scope="module")
def guarded(databases: Databases, run_proxy_for_module: RunProxy) -> Proxy:
    """A proxy with users."""
    shard = toml({"name": "s0", "dsn": databases.oracle})
    other = f'[[databases]]\nname = "other"\ncommit = "one-phase"\nshards = [{shard}]\n'
    return run_proxy_for_module(databases.config(users=USERS) + other)


class Stranger:
    """A socket that has said nothing yet."""

    def __init__(self, proxy: Proxy) -> None:
        self.socket = socket.create_connection((proxy.host, proxy.port), PATIENCE)
        self.frames = FrameReader()

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def rest(self) -> bytes:
        """All that comes until the proxy closes."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.socket.recv(65536):
                data += chunk
        return data

    def message(self) -> Message:
        while (message := self.frames.next()) is None:
            data = self.socket.recv(65536)
            assert data, "the proxy closed the connection"
            self.frames.feed(data)
        return message

    def error(self) -> dict[str, str]:
        """The ErrorResponse that the proxy closes behind."""
        message = self.message()
        assert message.type == B.ERROR_RESPONSE, message
        assert self.rest() == b""
        return decode.fields(message.payload)

    def prove(self, password: str) -> None:
        """Go through SCRAM, behind the request for it."""
        scram = ScramClient(password)
        self.send(encode.sasl_initial_response("SCRAM-SHA-256", scram.first()))
        self.send(encode.sasl_response(scram.final(decode.authentication(self.message().payload)[1])))
        assert decode.authentication(self.message().payload)[0] == Auth.SASL_FINAL

    def challenge(self, user: str) -> str:
        """What SCRAM tells a user before it has proven anything."""
        self.send(encode.startup_message({"user": user, "database": "shop"}))
        assert decode.authentication(self.message().payload)[0] == Auth.SASL
        self.send(encode.sasl_initial_response("SCRAM-SHA-256", ScramClient("x", nonce="fixed").first()))
        code, data = decode.authentication(self.message().payload)
        assert code == Auth.SASL_CONTINUE
        return data.decode().partition(",")[2]


def test_scram_with_the_right_password(guarded: Proxy) -> None:
    for user, password in (("app", "s3cret ü"), ("stored", "other secret")):
        with psycopg.connect(guarded.dsn(), user=user, password=password) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("user", "password"),
    [("app", "wrong"), ("stored", "s3cret"), ("unknown", "s3cret"), ("nobase", "wrong"), ("app", VERIFIER)],
)
def test_scram_with_a_wrong_password(guarded: Proxy, user: str, password: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=f'password authentication failed for user "{user}"'):
        psycopg.connect(guarded.dsn(), user=user, password=password)


def test_a_wrong_password_is_refused_while_others_are_in(guarded: Proxy) -> None:
    with psycopg.connect(guarded.dsn(), user="app", password="s3cret ü") as connection:
        connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(guarded.dsn(), user="app", password="s3cret")


def test_databases_that_are_not_allowed_or_not_there(guarded: Proxy) -> None:
    with Stranger(guarded) as stranger:
        stranger.send(encode.startup_message({"user": "nobase", "database": "shop"}))
        assert decode.authentication(stranger.message().payload)[0] == Auth.SASL
        stranger.prove("s3cret")
        fields = stranger.error()
        # As CheckMyDatabase (utils/init/postinit.c) says it.
        assert (fields["S"], fields["C"]) == ("FATAL", "42501")
        assert fields["M"] == 'permission denied for database "shop"'
        assert fields["D"] == "User does not have CONNECT privilege."
    with pytest.raises(psycopg.OperationalError, match='database "nix" does not exist'):
        psycopg.connect(guarded.dsn("nix"), user="app", password="s3cret ü")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(guarded.dsn("nix"), user="app", password="wrong")


def test_no_stranger_learns_who_is_a_user(guarded: Proxy) -> None:
    """A salt that changes, or a number of iterations of its own, would tell."""
    challenges: dict[str, set[str]] = {}
    for user in ("app", "stored", "unknown", "other", "third", "fourth"):
        for _ in range(3):
            with Stranger(guarded) as stranger:
                challenges.setdefault(user, set()).add(stranger.challenge(user))
    assert all(len(seen) == 1 for seen in challenges.values()), challenges
    assert len({next(iter(seen)) for seen in challenges.values()}) == len(challenges)
    for user, (seen,) in challenges.items():
        salt, count = seen.split(",")
        assert len(salt) == 2 + 24
        assert int(count[2:]) in {4096, ITERATIONS}, user
    guarded.signal(1)  # SIGHUP
    deadline = time.monotonic() + PATIENCE
    while "configuration reloaded" not in guarded.log():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for user, (seen,) in challenges.items():
        with Stranger(guarded) as stranger:
            assert stranger.challenge(user) == seen


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256-PLUS", "PLAIN", ""])
def test_other_mechanisms_are_refused(guarded: Proxy, mechanism: str) -> None:
    with Stranger(guarded) as stranger:
        stranger.send(encode.startup_message({"user": "app", "database": "shop"}))
        stranger.message()
        stranger.send(encode.sasl_initial_response(mechanism, b"n,,n=,r=x"))
        assert stranger.error()["C"] == "08P01"


def test_nothing_else_is_taken_before_the_password(guarded: Proxy) -> None:
    with Stranger(guarded) as stranger:
        stranger.send(encode.startup_message({"user": "app", "database": "shop"}) + encode.query(b"SELECT 1"))
        assert stranger.message().type == B.AUTHENTICATION
        assert stranger.error()["C"] == "08P01"
    with Stranger(guarded) as stranger:
        stranger.send(encode.startup_message({"user": "app", "database": "shop"}) + b"p" + struct.pack("!i", 2**31 - 1))
        assert stranger.message().type == B.AUTHENTICATION
        assert stranger.rest() == b""


def test_a_user_name_cannot_write_a_log_line(guarded: Proxy) -> None:
    name = "x\n2026-01-01 INFO ready: all is well\r\n\x1b[2J\udcff"
    with Stranger(guarded) as stranger:
        stranger.challenge(name)
        stranger.send(encode.sasl_response(b"c=biws,r=nothing,p=eA=="))
        stranger.rest()
    log = guarded.log()
    assert not re.search(r"^2026-01-01 INFO ready", log, re.MULTILINE)
    assert "\x1b" not in log
    assert "s3cret" not in log


def test_sslmodes(trusting: Proxy) -> None:
    for mode in ("disable", "allow", "prefer"):
        with psycopg.connect(trusting.dsn(), sslmode=mode, gssencmode="disable") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="server does not support SSL, but SSL was required"):
        psycopg.connect(trusting.dsn(), sslmode="require")


def test_encryption_is_declined_and_the_login_goes_on(trusting: Proxy) -> None:
    for requests in ([SSL_REQUEST], [GSSENC_REQUEST], [GSSENC_REQUEST, SSL_REQUEST], [SSL_REQUEST, GSSENC_REQUEST]):
        with Stranger(trusting) as stranger:
            for request in requests:
                stranger.send(request)
                assert stranger.socket.recv(10) == b"N"
            stranger.send(encode.startup_message({"user": "postgres", "database": "shop"}))
            assert decode.authentication(stranger.message().payload)[0] == Auth.OK


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["SSL", "GSSENC"])
def test_bytes_behind_an_encryption_request_are_refused(trusting: Proxy, request_: bytes) -> None:
    """The race of CVE-2021-23214: what a man in the middle has put there would pass as said by the client."""
    with Stranger(trusting) as stranger:
        stranger.send(request_ + encode.startup_message({"user": "postgres", "database": "shop"}))
        assert "received unencrypted data after" in stranger.error()["M"]


def test_a_second_ssl_request_is_refused(trusting: Proxy) -> None:
    with Stranger(trusting) as stranger:
        stranger.send(SSL_REQUEST)
        assert stranger.socket.recv(10) == b"N"
        stranger.send(SSL_REQUEST)
        assert stranger.error()["C"] == "0A000"


@pytest.mark.parametrize("length", [-1, 0, 3, 4, 7, 10_005, 2**31 - 1])
def test_start_up_lengths(trusting: Proxy, length: int) -> None:
    before = trusting.rss()
    with Stranger(trusting) as stranger:
        stranger.send(struct.pack("!i", length) + b"\0" * 100)
        rest = stranger.rest()
        assert rest == b"" or rest.startswith(b"E")
    assert trusting.rss() - before < 16 << 20


def test_other_protocols(trusting: Proxy) -> None:
    for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 64):
        with Stranger(trusting) as stranger:
            stranger.send(said)
            assert stranger.rest() == b""
    for version in (2 << 16, 4 << 16):
        with Stranger(trusting) as stranger:
            stranger.send(struct.pack("!ii", 8, version))
            assert stranger.error()["C"] == "0A000"


def test_replication_is_refused_in_words(trusting: Proxy) -> None:
    for value in ("true", "database", "on", "1"):
        with Stranger(trusting) as stranger:
            stranger.send(encode.startup_message({"user": "postgres", "database": "shop", "replication": value}))
            error = stranger.error()
            assert (error["S"], error["C"]) == ("FATAL", "0A000")
            assert "replication" in error["M"]


def test_versions_and_options_are_negotiated(trusting: Proxy) -> None:
    parameters = {"user": "postgres", "database": "shop"}
    for version, options, answer in (
        ((3, 0), {}, None),
        ((3, 2), {}, None),
        ((3, 1), {}, (PROTOCOL_3_0, [])),
        ((3, 9999), {}, (PROTOCOL_3_2, [])),
        ((3, 0), {"_pq_.nix": "1", "_pq_.else": ""}, (PROTOCOL_3_0, ["_pq_.nix", "_pq_.else"])),
        ((3, 2), {"_pq_.nix": "1"}, (PROTOCOL_3_2, ["_pq_.nix"])),
    ):
        with Stranger(trusting) as stranger:
            stranger.send(encode.startup_message(parameters | options, version))
            message = stranger.message()
            if answer is not None:
                spoken, listed = answer
                assert message.type == B.NEGOTIATE_PROTOCOL_VERSION
                minor, unknown = decode.negotiate_protocol_version(message.payload)
                assert (minor & 0xFFFF, unknown) == (spoken[1], listed)
                message = stranger.message()
            assert decode.authentication(message.payload)[0] == Auth.OK
            while message.type != B.BACKEND_KEY_DATA:
                message = stranger.message()
            spoken_version = PROTOCOL_3_2 if version >= (3, 2) else PROTOCOL_3_0
            assert len(message.payload) - 4 == (32 if spoken_version == PROTOCOL_3_2 else 4)


def test_libpq_speaks_3_2(trusting: Proxy) -> None:
    with psycopg.connect(trusting.dsn(), max_protocol_version="latest") as connection:
        assert connection.pgconn.protocol_version == 3
        assert connection.pgconn.full_protocol_version == 30002
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_who_does_not_log_in_is_closed(trusting: Proxy) -> None:
    for said in (b"", b"\0\0", SSL_REQUEST):
        with Stranger(trusting) as stranger:
            begun = time.monotonic()
            stranger.send(said)
            assert stranger.rest() in {b"", b"N"}
            assert time.monotonic() - begun < 5


def test_too_many_clients(trusting: Proxy) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(psycopg.connect(trusting.dsn())) for _ in range(4)]
        with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
            psycopg.connect(trusting.dsn())
        # A cancel request passes.
        with connections[0].cursor() as cursor:
            connections[0].execute("SELECT 1")
            connections[0].cancel_safe(timeout=5)
            assert cursor.execute("SELECT 2").fetchone() == (2,)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(trusting.dsn()).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            break


def test_many_connections_leave_nothing_open(trusting: Proxy, databases: Databases) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{trusting.pid}/fd").iterdir()))

    def settled(expected: int) -> bool:
        deadline = time.monotonic() + PATIENCE
        while descriptors() > expected and time.monotonic() < deadline:
            time.sleep(0.02)
        return descriptors() <= expected

    assert settled(20)
    before = descriptors()
    for number in range(300):
        if number % 3 == 0:
            with psycopg.connect(trusting.dsn(), autocommit=True) as connection:
                connection.execute("SELECT a FROM t").fetchall()
        elif number % 3 == 1:
            with Stranger(trusting) as stranger:
                stranger.send(encode.startup_message({"user": "postgres", "database": "shop"})[: number % 40])
        else:
            with Stranger(trusting) as stranger:
                stranger.send(encode.cancel_request(number, b"1234"))
                assert stranger.rest() == b""
    assert settled(before)
    deadline = time.monotonic() + PATIENCE
    while databases.oracle_rows(
        f"SELECT 1 FROM pg_stat_activity WHERE datname LIKE '{databases.name}\\_s%' AND application_name = ''"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_trust_is_for_loopback_only(databases: Databases, run_proxy: RunProxy) -> None:
    with pytest.raises(Exception, match="exit status 2"):
        run_proxy(databases.config(server={"listen": "0.0.0.0:0"}))


def test_a_reload_between_start_up_and_password(databases: Databases, run_proxy: RunProxy) -> None:
    """The database that a client has asked for leaves the configuration before the client proves its password."""
    users = [{"name": "app", "password": "secret", "databases": ["shop"]}]
    proxy = run_proxy(databases.config(users=users))
    with Stranger(proxy) as stranger:
        stranger.send(encode.startup_message({"user": "app", "database": "shop"}))
        assert decode.authentication(stranger.message().payload)[0] == Auth.SASL
        users[0]["databases"] = ["renamed"]
        # Shards know the database that they belong to.
        databases.execute("UPDATE shardproxy.place SET database = 'renamed'", oracle=False)
        proxy.config_path.write_text(databases.config(users=users, database="renamed"))
        proxy.signal(signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while "configuration reloaded" not in proxy.log():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        stranger.prove("secret")
        while (message := stranger.message()).type != B.READY_FOR_QUERY:
            assert message.type != B.ERROR_RESPONSE, decode.fields(message.payload)
    with pytest.raises(psycopg.OperationalError, match='database "shop" does not exist'):
        psycopg.connect(proxy.dsn("shop", "app", "secret"))


LOGIN_TOLD = """CREATE FUNCTION told() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
  RAISE LOG 'login to %: [%] % % % % %', current_database(), current_setting('application_name'),
    current_setting('search_path'), current_setting('statement_timeout'), current_setting('datestyle'),
    current_setting('default_transaction_isolation'), current_setting('their.own', true);
END $$;
CREATE EVENT TRIGGER told ON login EXECUTE FUNCTION told(); ALTER EVENT TRIGGER told ENABLE ALWAYS"""
"""The server's log tells with which settings each session began."""

STRANGE = {
    "options": "-c search_path=strange -c statement_timeout=54321 -c default_transaction_isolation=serializable "
    "-c their.own=given -c DateStyle=German",
    "application_name": "theirs",
}


@pytest.mark.newest
def test_start_up_parameters_do_not_reach_the_proxy_s_own_sessions(one_server: Databases, run_proxy: RunProxy) -> None:
    """Those that look for a deadlock and ask who has committed what, while such a client is there and waits."""
    one_server.execute("CREATE SCHEMA strange; CREATE TABLE strange.t (a int PRIMARY KEY, b text)")
    for dsn in one_server.shards:
        execute(dsn, LOGIN_TOLD)
    tables = [{"name": "strange.t", "placement": "hash", "key": ["a"]}]
    proxy = run_proxy(one_server.config(tables, commit="two-phase"))
    dsn = make_conninfo(proxy.dsn(), **STRANGE)
    with psycopg.connect(dsn) as one, psycopg.connect(dsn) as other:
        with one.cursor().copy("COPY t FROM STDIN") as copy:
            copy.write("".join(f"{a}\tx\n" for a in range(30)))
        one.commit()
        here, there = (rows[0][0] for rows in one_server.rows("SELECT min(a) FROM strange.t")[:2])
        for connection, key in ((one, here), (other, there)):
            connection.execute("UPDATE t SET b = 'y' WHERE a = %s", (key,))
        waiting = threading.Thread(target=_update, args=(one, there))
        waiting.start()
        _update(other, here)
        waiting.join()
    logins = re.findall(rf"login to {one_server.name}_s\d: \[(.*?)\] (.*)", one_server.oracle_server.log())
    theirs = [settings for name, settings in logins if name == "theirs"]
    assert set(theirs) == {"strange 54321ms German, DMY serializable given"}
    behind = logins[logins.index(("theirs", theirs[0])) :]
    own = {name for name, _ in behind if name.startswith("shardproxy")}
    assert "shardproxy deadlocks" in own
    for name, settings in logins:
        if name.startswith("shardproxy"):
            assert settings == "pg_catalog 0 ISO, MDY read committed <NULL>", name


def _update(connection: psycopg.Connection, key: int) -> None:
    """Wait for the other's row; one of the two is told of the deadlock."""
    try:
        connection.execute("UPDATE t SET b = 'z' WHERE a = %s", (key,))
        connection.commit()
    except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
        connection.rollback()

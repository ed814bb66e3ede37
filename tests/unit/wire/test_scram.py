"""SCRAM-SHA-256: the RFC's vector, both sides together, libpq's verifiers, every malformed message."""

import base64
import contextlib
import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import pq

from shardproxy.errors import PgError, ProtocolError
from shardproxy.wire.saslprep import prepare
from shardproxy.wire.scram import MAX_CLIENT_ITERATIONS, ScramClient, ScramServer, Verifier, md5_password

SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
PENCIL = Verifier.from_password("pencil", SALT)

# RFC 7677, section 3.
CLIENT_NONCE = "rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def vector_client() -> ScramClient:
    return ScramClient("pencil", nonce=CLIENT_NONCE, user="user")


def vector_server() -> ScramServer:
    return ScramServer(PENCIL, nonce=SERVER_NONCE, user="user")


def exchange(client: ScramClient, server: ScramServer) -> None:
    client.verify(server.final(client.final(server.first(client.first()))))


def test_rfc_7677_client() -> None:
    client = vector_client()
    assert client.first() == CLIENT_FIRST
    assert client.final(SERVER_FIRST) == CLIENT_FINAL
    assert not client.verified
    client.verify(SERVER_FINAL)
    assert client.verified


def test_rfc_7677_server() -> None:
    server = vector_server()
    assert server.first(CLIENT_FIRST) == SERVER_FIRST
    assert server.final(CLIENT_FINAL) == SERVER_FINAL


PASSWORDS = ["pencil", "", "p,=w", "ü€𝄞", "\u2168", "I\u00adX", "\u0627\u0031", "caf\udce9", "a" * 1000]


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("salt", [b"", b"s", b"s" * 16, b"s" * 100])
def test_both_sides_agree_with_any_salt_length(password: str, salt: bytes) -> None:
    client = ScramClient(password)
    exchange(client, ScramServer(Verifier.from_password(password, salt, iterations=7)))
    assert client.verified


@given(password=st.text(max_size=20), other=st.text(max_size=20))
@settings(max_examples=50, deadline=None)
def test_only_the_same_password_fits(password: str, other: str) -> None:
    server = ScramServer(Verifier.from_password(password.encode(errors="replace").decode(), iterations=1), user="u")
    client = ScramClient(other.encode(errors="replace").decode())
    final = client.final(server.first(client.first()))
    if prepare(other.encode(errors="replace")) == prepare(password.encode(errors="replace")):
        client.verify(server.final(final))
    else:
        with pytest.raises(PgError) as caught:
            server.final(final)
        assert caught.value.sqlstate == "28P01"
        assert caught.value.message == 'password authentication failed for user "u"'


def test_y_is_accepted_with_its_own_binding() -> None:
    server = vector_server()
    server.first(b"y" + CLIENT_FIRST[1:])
    with pytest.raises(ProtocolError, match="unexpected SCRAM channel-binding attribute"):
        server.final(CLIENT_FINAL)
    server = vector_server()
    server.first(b"y" + CLIENT_FIRST[1:])
    with pytest.raises(PgError, match="password authentication failed"):
        # Well-formed; the proof is over another auth message.
        server.final(CLIENT_FINAL.replace(b"biws", b"eSws"))


# libpq.


@pytest.mark.parametrize("password", [p for p in PASSWORDS if p and "\udce9" not in p])
def test_libpq_makes_verifiers_that_fit(password: str) -> None:
    connection = pq.PGconn.connect_start(b"host=127.0.0.1 port=1 user=u")
    text = connection.encrypt_password(password.encode(), b"u", b"scram-sha-256").decode()
    verifier = Verifier.parse(text)
    assert str(verifier) == text
    assert Verifier.from_password(password, verifier.salt, verifier.iterations) == verifier
    exchange(ScramClient(password), ScramServer(verifier))


def test_libpq_makes_the_md5_hash_that_we_answer_from() -> None:
    connection = pq.PGconn.connect_start(b"host=127.0.0.1 port=1 user=u")
    stored = connection.encrypt_password(b"pencil", b"app", b"md5")
    answer = b"md5" + hashlib.md5(stored[3:] + b"salt").hexdigest().encode()
    assert md5_password("app", "pencil", b"salt") == answer


# Verifiers.


def test_a_verifier_reads_what_it_writes_and_hides_its_keys() -> None:
    assert Verifier.parse(str(PENCIL)) == PENCIL
    assert "W22Z" not in repr(PENCIL)
    assert repr(PENCIL) == "Verifier(iterations=4096, doomed=False)"


def test_a_configured_password_is_a_verifier_or_clear_text() -> None:
    assert Verifier.of(str(PENCIL)) == PENCIL
    exchange(ScramClient("SCRAM-SHA-256$x"), ScramServer(Verifier.of("SCRAM-SHA-256$x")))


KEY = base64.b64encode(b"k" * 32).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pencil",
        f"SCRAM-SHA-1$4096:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$0:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$-1:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$2147483648:c2FsdA==${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:{KEY}:",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY[:-4]}:{KEY}",
        f"SCRAM-SHA-256$4096:?${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:\udce9${KEY}:{KEY}",
        f"SCRAM-SHA-256$4096:c2FsdA==${KEY}:{KEY}\n",
    ],
)
def test_what_is_no_verifier_is_refused_without_being_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="SCRAM-SHA-256 verifier") as caught:
        Verifier.parse(text)
    assert KEY not in str(caught.value)


def test_a_mock_is_stable_per_user_and_secret_and_fits_no_password() -> None:
    mock = Verifier.mock("nobody", b"secret", iterations=1)
    assert mock == Verifier.mock("nobody", b"secret", iterations=1)
    others = [Verifier.mock("somebody", b"secret", 1), Verifier.mock("nobody", b"other", 1)]
    assert len({mock.salt, *(other.salt for other in others)}) == 3
    assert len(mock.salt) == len(Verifier.from_password("x", iterations=1).salt)
    client, server = ScramClient("x"), ScramServer(mock)
    with pytest.raises(PgError) as caught:
        server.final(client.final(server.first(client.first())))
    assert caught.value.sqlstate == "28P01"


def test_a_doomed_verifier_refuses_even_the_right_proof() -> None:
    doomed = Verifier(PENCIL.iterations, PENCIL.salt, PENCIL.stored_key, PENCIL.server_key, doomed=True)
    server = ScramServer(doomed, nonce=SERVER_NONCE)
    server.first(CLIENT_FIRST)
    with pytest.raises(PgError, match="password authentication failed"):
        server.final(CLIENT_FINAL)


# Malformed messages: words and SQLSTATEs of auth-scram.c.


@pytest.mark.parametrize(
    ("message", "state", "words"),
    [
        (b"", "08P01", "The message is empty."),
        (b"n,,n=,r=abc\0", "08P01", "Message length does not match input length."),
        (b"p=tls-server-end-point,,n=,r=a", "08P01", "includes channel binding data"),
        (b"x,,n=,r=a", "08P01", 'Unexpected channel-binding flag "x".'),
        (b"\xff,,n=,r=a", "08P01", 'Unexpected channel-binding flag "0xff".'),
        (b"n", "08P01", 'Comma expected, but found character "".'),
        (b"nn,n=,r=a", "08P01", 'Comma expected, but found character "n".'),
        (b"n,a=user,n=,r=a", "0A000", "authorization identity"),
        (b"n,b=user,n=,r=a", "08P01", 'Unexpected attribute "b" in client-first-message.'),
        (b"n,", "08P01", 'Unexpected attribute "" in client-first-message.'),
        (b"n,,m=ext,n=,r=a", "0A000", "unsupported SCRAM extension"),
        (b"n,,", "08P01", 'Expected attribute "n" but found "".'),
        (b"n,,r=a", "08P01", 'Expected attribute "n" but found "r".'),
        (b"n,,n", "08P01", 'Expected character "=" for attribute "n".'),
        (b"n,,n=user", "08P01", 'Expected attribute "r" but found "".'),
        (b"n,,n=,r=a b", "08P01", "non-printable characters in SCRAM nonce"),
        (b"n,,n=,r=\xc3\xa9", "08P01", "non-printable characters in SCRAM nonce"),
        (b"n,,n=,r=a,1=x", "08P01", 'Attribute expected, but found invalid character "1".'),
        (b"n,,n=,r=a,x", "08P01", 'Expected character "=" for attribute "x".'),
    ],
)
def test_malformed_client_first(message: bytes, state: str, words: str) -> None:
    with pytest.raises(PgError) as caught:
        vector_server().first(message)
    assert caught.value.sqlstate == state
    assert words in f"{caught.value.message} {caught.value.detail}"


def test_extensions_behind_the_nonce_are_ignored() -> None:
    assert vector_server().first(CLIENT_FIRST + b",x=y,z=") == SERVER_FIRST


NONCE = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"", "The message is empty."),
        (CLIENT_FINAL + b"\0", "Message length does not match input length."),
        (CLIENT_FINAL + b",x=y", "Garbage found at the end of client-final-message."),
        (CLIENT_FINAL.replace(b"biws", b"eSws"), "unexpected SCRAM channel-binding attribute"),
        (CLIENT_FINAL.replace(b"k0,", b"k1,"), "Nonce does not match."),
        (CLIENT_FINAL.replace(b"k0,", b","), "Nonce does not match."),
        (b"c=biws," + NONCE, "Attribute expected, but found end of string."),
        (b"c=biws," + NONCE + b",p=", "Malformed proof in client-final-message."),
        (b"c=biws," + NONCE + b",p=AAAA", "Malformed proof in client-final-message."),
        (b"c=biws," + NONCE + b",p=\xff!", "Malformed proof in client-final-message."),
        (b"r=x,c=biws", 'Expected attribute "c" but found "r".'),
    ],
)
def test_malformed_client_final(message: bytes, words: str) -> None:
    server = vector_server()
    server.first(CLIENT_FIRST)
    with pytest.raises(ProtocolError) as caught:
        server.final(message)
    assert caught.value.sqlstate == "08P01"
    assert words in f"{caught.value.message} {caught.value.detail}"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"s=c2FsdA==,i=4096",
        b"r=other,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkq,s=c2FsdA==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=?,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=0",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=-1",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=1x",
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=%d" % (MAX_CLIENT_ITERATIONS + 1),
        b"r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=1,x=y",
        b"m=ext,r=rOprNGfwEbeRWgbNEkqOx,s=c2FsdA==,i=1",
    ],
)
def test_malformed_server_first(message: bytes) -> None:
    with pytest.raises(ProtocolError):
        vector_client().final(message)


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (b"", "08P01"),
        (b"v=?", "08P01"),
        (SERVER_FINAL + b",x=y", "08P01"),
        (b"v=" + base64.b64encode(b"x" * 32), "28000"),
        (b"v=", "28000"),
        (b"e=other-error", "28000"),
    ],
)
def test_a_server_that_does_not_know_the_password(message: bytes, state: str) -> None:
    client = vector_client()
    client.final(SERVER_FIRST)
    with pytest.raises(PgError) as caught:
        client.verify(message)
    assert caught.value.sqlstate == state
    assert not client.verified


def test_an_empty_signature_before_the_exchange_proves_nothing() -> None:
    client = vector_client()
    with pytest.raises(PgError):
        client.verify(b"v=")
    assert not client.verified


pieces = st.lists(
    st.sampled_from([b"n", b"y", b"p", b",", b"=", b"r=", b"c=biws", b"s=", b"i=1", b"v=", b"e=", b"AAAA", b"\xff"])
)


@given(message=st.binary(max_size=60) | pieces.map(b"".join))
def test_random_bytes_are_an_answer_or_an_error_of_ours(message: bytes) -> None:
    client = ScramClient("x", nonce="r")
    calls: list[Any] = [vector_server().first, client.final, client.verify]
    server = vector_server()
    server.first(CLIENT_FIRST)
    calls.append(server.final)
    for call in calls:
        with contextlib.suppress(PgError):
            call(message)


# SASLprep.


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("plain \x7f\x01", "plain \x7f\x01"),  # ASCII is never touched, controls included.
        ("I\u00adX", "IX"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b\u3000c\u200b", "a b c "),
        ("\u00ad", "\u00ad"),  # Nothing would be left: raw.
        ("é\u0007", "é\u0007"),  # A prohibited control: raw.
        ("e\u0301", "é"),
        ("\u0627\u0031", "\u0627\u0031"),  # Right-to-left at one end only: raw.
        ("\u0627\u0031\u0628", "\u0627\u0031\u0628"),
        ("\u0627a\u0628\u2168", "\u0627a\u0628\u2168"),  # Both directions: raw, so no normalization.
        ("\u0221\u2168", "\u0221\u2168"),  # Unassigned in Unicode 3.2: raw.
    ],
)
def test_saslprep(password: str, prepared: str) -> None:
    assert prepare(password.encode()) == prepared.encode()


def test_saslprep_leaves_what_is_not_utf_8() -> None:
    assert prepare(b"caf\xe9 \xc2\xa0") == b"caf\xe9 \xc2\xa0"

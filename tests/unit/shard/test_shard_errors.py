"""The errors that name a shard, whoever has raised them."""

import asyncpg
import pytest

from shardproxy.errors import PgError
from shardproxy.shard.address import Address
from shardproxy.shard.control import translated
from shardproxy.shard.errors import NO_ANSWER, from_asyncpg, lost, reported_by, unreachable

FIELDS = {
    "S": "FEHLER",
    "V": "ERROR",
    "C": "23505",
    "M": "doppelter Schlüsselwert",
    "D": "Schlüssel »(id)=(1)« existiert bereits.",
    "s": "public",
    "t": "t",
    "n": "t_pkey",
    "F": "nbtinsert.c",
    "L": "666",
    "R": "_bt_check_unique",
}


def test_every_field_that_asyncpg_has_read_is_kept() -> None:
    assert from_asyncpg(asyncpg.PostgresError.new(FIELDS)).fields == FIELDS


def test_a_server_s_error_names_the_shard_once() -> None:
    error = PgError.from_fields(FIELDS)
    assert reported_by(error, "s1") is error
    assert error.detail == FIELDS["D"] + '\nReported by shard "s1".'
    reported_by(error, "s1")
    assert error.fields == FIELDS | {"D": FIELDS["D"] + '\nReported by shard "s1".'}
    assert reported_by(PgError("22012", "division by zero"), "s1").detail == 'Reported by shard "s1".'


@pytest.mark.parametrize(
    ("cause", "detail"),
    [
        (OSError(111, "Connection refused"), "[Errno 111] Connection refused"),
        (TimeoutError(), NO_ANSWER),
        (ConnectionResetError(), "ConnectionResetError"),
        ("the server closed it", "the server closed it"),
    ],
)
def test_what_never_answered_and_what_broke(cause: BaseException | str, detail: str) -> None:
    refused = unreachable("s1", cause)
    assert (refused.sqlstate, refused.message, refused.detail) == ("08001", 'could not connect to shard "s1"', detail)
    broken = lost("s1", cause)
    assert (broken.sqlstate, broken.message, broken.detail) == ("08006", 'connection to shard "s1" was lost', detail)
    assert lost("s1", None).detail is None


def test_an_address_keeps_its_password() -> None:
    assert "secret" not in repr(Address("s0", "h", 1, "u", "d", "secret"))


def test_what_asyncpg_says_by_itself_is_no_word_of_a_server() -> None:
    """It gives a connection that is lost in the middle of a request a SQLSTATE of the server's, 08003."""
    address = Address("s1", "127.0.0.1", 1, "me", "shop")
    with pytest.raises(PgError) as failed, translated(address):
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    assert failed.value.sqlstate == "08006"
    assert failed.value.message == 'connection to shard "s1" was lost'

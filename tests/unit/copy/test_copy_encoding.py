"""An option's text as the data of its COPY spell it."""

import pytest

from shardproxy.copy.encoding import NEVER, Encodings, Text


@pytest.mark.parametrize(
    ("sql", "client", "data", "server", "spelled"),
    [
        (b"x", "EUC_JP", "LATIN1", "UTF8", b"x"),
        (b"\xc3\xa4", "UTF8", "UTF8", "UTF8", b"\xc3\xa4"),
        (b"\xc3\xa4", "UTF8", "latin1", "UTF8", b"\xe4"),
        (b"\xc3\xa4", "UTF8", "ISO-8859-1", "LATIN1", b"\xe4"),
        (b"\xe4", "LATIN1", "utf-8", "UTF8", b"\xc3\xa4"),
        (b"\xe4", "LATIN1", "LATIN1", "UTF8", b"\xe4"),
        (b"\xc3\xa4", "LATIN1", "utf8", "UTF8", b"\xc3\x83\xc2\xa4"),
        (b"\xa4", "LATIN1", "LATIN9", "UTF8", NEVER),
        (b"\xa4", "LATIN9", "UTF8", "UTF8", "€".encode()),
        (b"\xe4", "LATIN1", "UTF8", "SQL_ASCII", b"\xe4"),
        (b"\xc3\xa4", "SQL_ASCII", "LATIN1", "UTF8", b"\xe4"),
        (b"\xc3\xa4", "UTF8", "SQL_ASCII", "LATIN1", b"\xe4"),
        (b"\xa4\xa2", "EUC_JP", "EUC_JP", "UTF8", b"\xa4\xa2"),
        (b"\xa4\xa2", "EUC_JP", "UTF8", "UTF8", None),
        (b"\xe8\xa1\xa8", "UTF8", "EUC_JP", "UTF8", None),
        (b"\x95\x5c", "SJIS", "UTF8", "UTF8", None),
        (b"\xff", "UTF8", "LATIN1", "UTF8", b"\xff"),
    ],
)
def test_options_in_the_data_s_encoding(sql: bytes, client: str, data: str, server: str, spelled: bytes | None) -> None:
    assert Encodings(client, data, server).in_data(Text(sql, client).characters) == spelled

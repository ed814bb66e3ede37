"""The client's SQL as characters, and back to the same bytes.

In most client encodings an ASCII byte always is that ASCII character, so the parser may see all others as opaque.
In the encodings below it may be the tail of another character (0x5C in SJIS): they are decoded properly.
"""

from dataclasses import dataclass

from shardproxy.errors import PgError
from shardproxy.sqlstate import CHARACTER_NOT_IN_REPERTOIRE

_CODECS = {
    "SJIS": "cp932",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "BIG5": "big5",
    "GBK": "gbk",
    "UHC": "cp949",
    "GB18030": "gb18030",
    "JOHAB": "johab",
}
"""Client encodings of PostgreSQL that are not supersets of ASCII byte by byte, and Python's names for them."""


def codec_of(client_encoding: str) -> str | None:
    """Return Python's codec for an encoding that must be decoded; None where bytes may stay opaque."""
    return _CODECS.get(client_encoding.upper())


def is_ascii_safe(client_encoding: str) -> bool:
    """Whether a byte below 0x80 always stands for its ASCII character."""
    return client_encoding.upper() not in _CODECS


@dataclass(frozen=True, slots=True, init=False)
class Text:
    """A query string: its characters, and how to get the bytes of a part."""

    characters: str
    _codec: str | None

    def __init__(self, sql: bytes, codec: str | None) -> None:
        try:
            characters = sql.decode(codec) if codec else sql.decode("utf-8", "surrogateescape")
        except UnicodeDecodeError as error:
            raise PgError(
                CHARACTER_NOT_IN_REPERTOIRE,
                f'invalid byte sequence for encoding "{codec}"',
                detail=f"Byte {error.start + 1} of the query.",
            ) from error
        if codec and characters.encode(codec) != sql:
            raise PgError(
                CHARACTER_NOT_IN_REPERTOIRE,
                f"the query has characters that do not survive encoding {codec}",
                hint="SET client_encoding TO 'UTF8'.",
            )
        object.__setattr__(self, "characters", characters)
        object.__setattr__(self, "_codec", codec)

    def encode(self, part: str) -> bytes:
        """Return the client's bytes for a part of the characters."""
        return part.encode(self._codec) if self._codec else part.encode("utf-8", "surrogateescape")

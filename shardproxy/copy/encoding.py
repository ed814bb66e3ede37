"""Client encodings: which may be split byte by byte, and how text becomes characters and server text. Sans-IO.

PostgreSQL manual: "Character Set Support". In most client encodings a byte below 0x80 always is that ASCII
character. In the client-only ones of East Asia it may be the tail of another (0x5C in SJIS): there, SQL is decoded
properly, and COPY data, which are split as bytes, are refused.
"""

import re
from dataclasses import dataclass

from shardproxy.errors import PgError
from shardproxy.sqlstate import CHARACTER_NOT_IN_REPERTOIRE

_UNSAFE = {
    "sjis": "cp932",
    "mskanji": "cp932",
    "shiftjis": "cp932",
    "win932": "cp932",
    "windows932": "cp932",
    "shiftjis2004": "shift_jis_2004",
    "big5": "big5",
    "win950": "big5",
    "windows950": "big5",
    "gbk": "gbk",
    "win936": "gbk",
    "windows936": "gbk",
    "uhc": "cp949",
    "win949": "cp949",
    "windows949": "cp949",
    "gb18030": "gb18030",
    "johab": "johab",
}
"""Names as pg_encname_tbl spells them (lower case, letters and digits only) to Python's codecs."""

_SINGLE = {
    **{f"latin{number}": f"iso8859-{part}" for number, part in enumerate((1, 2, 3, 4, 9, 10, 13, 14, 15, 16), 1)},
    **{f"iso8859{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    **{f"win{page}": f"cp{page}" for page in (866, 874, *range(1250, 1259))},
    **{f"windows{page}": f"cp{page}" for page in (866, 874, *range(1250, 1259))},
    "koi8": "koi8-r",
    "koi8r": "koi8-r",
    "koi8u": "koi8-u",
    "abc": "cp1258",
    "tcvn": "cp1258",
    "tcvn5712": "cp1258",
    "vscii": "cp1258",
    "win": "cp1251",
    "alt": "cp866",
}

_EXTENDED = {
    "eucjp": "euc_jp",
    "eucjis2004": "euc_jis_2004",
    "euckr": "euc_kr",
    "euccn": "gb2312",
}
"""Read for their names alone: Python's tables and PostgreSQL's differ in places, which matters to a key."""

_UTF8 = frozenset({"utf8", "unicode"})


def _normal(name: str) -> str:
    """Return an encoding's name as PostgreSQL compares it (clean_encoding_name)."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def splits_bytewise(encoding: str) -> bool:
    """Whether rows and fields can be found by their bytes."""
    return _normal(encoding) not in _UNSAFE


def same_encoding(client: str, server: str) -> bool:
    """Whether the server takes the client's bytes as they are."""
    names = _normal(client), _normal(server)
    return (
        names[0] == names[1]
        or "sqlascii" in names
        or (names[0] in _UTF8 and names[1] in _UTF8)
        or (names[0] in _SINGLE and _SINGLE[names[0]] == _SINGLE.get(names[1]))
    )


def utf8_table(client: str) -> list[bytes] | None:
    """Return what each byte of a single-byte encoding is in UTF-8, empty where it is nothing; None for others."""
    codec = _SINGLE.get(_normal(client))
    if codec is None:
        return None
    return [bytes((code,)).decode(codec, "ignore").encode() for code in range(256)]


NEVER = b"\0"
"""Stands for text that data in their encoding cannot hold: rows with a NUL byte are refused by PostgreSQL (22021)."""


@dataclass(frozen=True, slots=True)
class Encodings:
    """Of one COPY: its statement's, its data's, and the server's, in which PostgreSQL compares the two."""

    client: str
    data: str
    server: str

    def in_data(self, text: str) -> bytes | None:
        """Return how the data spell an option's text (as `Text` reads it); None where that is not known for sure."""
        if text.isascii():
            return text.encode()
        client, data = (self._taken_as(encoding) for encoding in (self.client, self.data))
        if _normal(client) in _UNSAFE:
            return None
        spelled = Text(b"", self.client).encode(text)
        if same_encoding(client, data):
            return spelled
        read_as, written_as = (
            "utf-8" if _normal(one) in _UTF8 else _SINGLE.get(_normal(one)) for one in (client, data)
        )
        if read_as is None or written_as is None:
            return None
        try:
            return spelled.decode(read_as).encode(written_as)
        except UnicodeDecodeError:
            return spelled  # PostgreSQL refuses the statement
        except UnicodeEncodeError:
            return NEVER

    def _taken_as(self, encoding: str) -> str:
        """Bytes in SQL_ASCII are not converted, nor are any for a server in it."""
        return self.server if "sqlascii" in {_normal(encoding), _normal(self.server)} else encoding


def python_codec(encoding: str, server: str = "") -> str | None:
    """Return Python's name of an encoding; None where there is none.

    With `server` it is a client's: in SQL_ASCII that sends the server's bytes.
    """
    name = _normal(encoding)
    if name == "sqlascii":
        name = _normal(server)
    return "utf-8" if name in _UTF8 else _SINGLE.get(name) or _UNSAFE.get(name)


@dataclass(frozen=True, slots=True, init=False)
class Text:
    """A query string: its characters, and how to get the client's bytes of a part back."""

    characters: str
    _codec: str | None

    def __init__(self, sql: bytes, client_encoding: str) -> None:
        name = _normal(client_encoding)
        codec = _UNSAFE.get(name) or _SINGLE.get(name) or _EXTENDED.get(name)
        try:
            characters = sql.decode(codec) if codec else sql.decode("utf-8", "surrogateescape")
            unchanged = codec is None or characters.encode(codec) == sql
        except UnicodeError:
            unchanged = False
        if not unchanged and name not in _UNSAFE:
            # A shard refuses it, or knows characters that Python does not.
            characters, codec, unchanged = sql.decode("ascii", "surrogateescape"), None, True
        if not unchanged:
            raise PgError(
                CHARACTER_NOT_IN_REPERTOIRE,
                f'invalid byte sequence for encoding "{client_encoding}"',
                hint="The proxy must read the query's characters; SET client_encoding TO 'UTF8' reads them all.",
            )
        object.__setattr__(self, "characters", characters)
        object.__setattr__(self, "_codec", codec)

    def encode(self, part: str) -> bytes:
        """Return the client's bytes for a part of the characters."""
        if self._codec is not None:
            try:
                return part.encode(self._codec)
            except UnicodeEncodeError:
                # Of a text that the codec could not read, whose bytes stand for themselves.
                return part.encode("utf-8", "surrogateescape")
        return part.encode("utf-8", "surrogateescape")

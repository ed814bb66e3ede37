"""PostgreSQL's encodings by name, and the Python codecs that agree with its conversions byte for byte.

Only UTF8 and the single-byte encodings are listed: for the others PostgreSQL's conversion tables and Python's
differ in places, and a key converted differently would be looked for on the wrong shard.
"""

from typing import Final

CODECS: Final = {
    "UTF8": "utf-8",
    "SQL_ASCII": "ascii",
    "ISO_8859_5": "iso8859-5",
    "ISO_8859_6": "iso8859-6",
    "ISO_8859_7": "iso8859-7",
    "ISO_8859_8": "iso8859-8",
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "LATIN1": "iso8859-1",
    "LATIN2": "iso8859-2",
    "LATIN3": "iso8859-3",
    "LATIN4": "iso8859-4",
    "LATIN5": "iso8859-9",
    "LATIN6": "iso8859-10",
    "LATIN7": "iso8859-13",
    "LATIN8": "iso8859-14",
    "LATIN9": "iso8859-15",
    "LATIN10": "iso8859-16",
    "WIN866": "cp866",
    "WIN874": "cp874",
    "WIN1250": "cp1250",
    "WIN1251": "cp1251",
    "WIN1252": "cp1252",
    "WIN1253": "cp1253",
    "WIN1254": "cp1254",
    "WIN1255": "cp1255",
    "WIN1256": "cp1256",
    "WIN1257": "cp1257",
    "WIN1258": "cp1258",
}


def codec_of(encoding: str) -> str | None:
    """Return the Python codec of an encoding as `server_encoding` names it, None where none agrees."""
    return CODECS.get(encoding)

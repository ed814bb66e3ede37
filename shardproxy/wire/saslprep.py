"""SASLprep (RFC 4013) as PostgreSQL applies it to passwords, over the stdlib's stringprep tables.

Follows src/common/saslprep.c. The tables are those of Unicode 3.2, as RFC 3454 requires; the normalization is
that of the current Unicode version, as in PostgreSQL.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def prepare(password: bytes) -> bytes:
    """Return the bytes to derive keys from: prepared, or unchanged if SASLprep refuses them.

    The fallback is PostgreSQL's: a password need not be UTF-8 to be a password.
    """
    if password.isascii():
        return password
    try:
        text = password.decode("utf-8")
    except UnicodeDecodeError:
        return password
    # 2.1 Mapping.
    mapped = "".join(" " if stringprep.in_table_c12(char) else char for char in text if not _maps_to_nothing(char))
    # 2.3 Prohibited output, 2.4 bidirectional characters: saslprep.c checks before normalization, so do we.
    if not mapped or any(refuses(char) for char in mapped for refuses in _PROHIBITED):
        return password
    if not _bidi_allowed(mapped):
        return password
    # 2.2 Normalization.
    return unicodedata.normalize("NFKC", mapped).encode("utf-8")


def _maps_to_nothing(char: str) -> bool:
    # U+200B is in both tables; saslprep.c checks for the space first.
    return stringprep.in_table_b1(char) and not stringprep.in_table_c12(char)


def _bidi_allowed(text: str) -> bool:
    """2.4: text with right-to-left characters has no left-to-right ones, and begins and ends with its own."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    return (
        stringprep.in_table_d1(text[0])
        and stringprep.in_table_d1(text[-1])
        and not any(map(stringprep.in_table_d2, text))
    )

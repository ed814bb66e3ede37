"""What the options make of a value: numbers and booleans of other spellings, other spellings of NULL.

Each gets a value that is not NULL and returns what COPY is to read. What has not the form told is left as it is, for
PostgreSQL to judge; only what PostgreSQL would read as another number is refused here.
"""

import re
from collections.abc import Callable

from shardproxy.errors import PgError
from shardproxy.loader.input.reading import NUMBERS, Reading
from shardproxy.sqlstate import INVALID_TEXT_REPRESENTATION

Convert = Callable[[bytes], bytes]


def number(reading: Reading, type_name: str) -> Convert | None:
    """Return what reads numbers with the options' marks; None where they are PostgreSQL's own.

    Thousands are groups of three digits, each after a mark. `1.5` with a decimal comma is refused (22P02), and so is
    `1.2345` with a dot for the thousands: without its rule PostgreSQL would store it.
    """
    if type_name not in NUMBERS or (reading.decimal == "." and not reading.thousands):
        return None
    decimal, thousands = reading.encode(reading.decimal), reading.encode(reading.thousands)
    d, t = re.escape(decimal), re.escape(thousands)
    groups = rb"[0-9]{1,3}(?:%b[0-9]{3})++|[0-9]++" % t if thousands else rb"[0-9]++"
    shape = re.compile(rb"[ \t]*+([+-]?(?:%b)?)(?:%b([0-9]*+))?((?:[eE][+-]?[0-9]++)?)[ \t]*+" % (groups, d))

    def convert(value: bytes) -> bytes:
        found = shape.fullmatch(value)
        if found is None:
            if decimal != b"." and b"." in value:
                text = value.decode("utf-8", "replace")
                raise PgError(INVALID_TEXT_REPRESENTATION, f'invalid input syntax for type {type_name}: "{text}"')
            return value
        whole, fraction, exponent = found.groups()
        if thousands:
            whole = whole.replace(thousands, b"")
        made: bytes = whole + (b"" if fraction is None else b"." + fraction) + exponent
        return value if made == value.strip(b" \t") else made

    return convert


def boolean(reading: Reading, type_name: str) -> Convert | None:
    """Return what reads the options' spellings, in any case and with blanks around; None without any."""
    if type_name != "bool" or not (reading.true or reading.false):
        return None
    spellings = {reading.encode(text.casefold()): b"t" for text in reading.true}
    spellings |= {reading.encode(text.casefold()): b"f" for text in reading.false}
    codec = reading.codec or "ascii"

    def convert(value: bytes) -> bytes:
        folded = value.strip(b" \t").decode(codec, "replace").casefold().encode(codec, "replace")
        return spellings.get(folded, value)

    return convert

"""Random spellings of key values: usual ones, odd ones that PostgreSQL reads, and ones that it refuses.

Each function takes a random.Random and gives one spelling as text, free of NUL, which no client can send.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

from shardproxy import native

SPACE = [" ", "\t", "\n", "\v", "\f", "\r"]


def _space(rng: random.Random) -> str:
    return "".join(rng.choices(SPACE, k=rng.randint(1, 2))) if rng.random() < 0.1 else ""


def _mutate(rng: random.Random, text: str, alphabet: str) -> str:
    """Sometimes damage a spelling by one character."""
    roll = rng.random()
    at = rng.randint(0, len(text))
    if roll < 0.04:
        return text[:at] + rng.choice(alphabet) + text[at:]
    if roll < 0.07:
        return text[:at] + text[at + 1 :]
    return text


def _number(rng: random.Random, bits: int) -> int:
    size = rng.randint(0, bits)
    value: int = rng.choice([rng.getrandbits(size) if size else 0, 2**size, 2**size - 1, 10 ** rng.randint(0, 20)])
    return value if rng.random() < 0.6 else -value


def integer(bits: int) -> Callable[[random.Random], str]:
    """Integers around and beyond this width, in all bases and with underscores."""

    def make(rng: random.Random) -> str:
        value = _number(rng, bits)
        base = rng.choice("dddddddxXoObB")
        digits = {"d": "d", "o": "o", "b": "b", "x": "x"}[base.lower()]
        body = format(abs(value), digits)
        if rng.random() < 0.1:
            body = "0" * rng.randint(1, 25) + body
        if rng.random() < 0.1 and len(body) > 1:
            at = rng.randint(1, len(body) - 1)
            body = body[:at] + "_" + body[at:]
        if base != "d":
            body = "0" + base + body
        sign = "-" if value < 0 else rng.choice(["", "", "", "+"])
        text = _space(rng) + sign + body + _space(rng)
        return _mutate(rng, text, "0123456789-+_ xXaAfFgoObB.e\xe9/:@`")

    return make


def numeric(rng: random.Random) -> str:
    """Decimals of all sizes, exponents, the special values, other bases."""
    roll = rng.random()
    if roll < 0.06:
        word = rng.choice(["NaN", "nan", "Infinity", "-infinity", "+inf", "INF", "-Inf", "-NaN", "infi", "in"])
        return _space(rng) + word + _space(rng)
    if roll < 0.14:
        return integer(rng.choice([16, 64, 200]))(rng)
    whole = str(rng.getrandbits(rng.choice([0, 3, 10, 20, 40, 64, 300])))
    part = "".join(
        rng.choices("0123456789", weights=[4, 1, 1, 1, 1, 3, 1, 1, 1, 4], k=rng.choice([0, 1, 2, 3, 5, 9, 30]))
    )
    if rng.random() < 0.2:
        part = rng.choice(["5", "50", "4999", "49", "9999999", "995", "0005", "00499999"])
    if rng.random() < 0.2:
        whole = rng.choice(["", "0", "000", "9", "99", "999", "9999", "99999", "99999999", "10000", "100000000"])
    text = whole + rng.choice(["", ".", "."]) * bool(not part) + ("." + part if part else "")
    if rng.random() < 0.25:
        text += (
            rng.choice("eE")
            + rng.choice(["", "+", "-"])
            + str(rng.choice([0, 1, 2, 3, 4, 5, 8, 20, 300, 16383, 131071]))
        )
    if rng.random() < 0.05 and len(text) > 1:
        at = rng.randint(1, len(text) - 1)
        text = text[:at] + "_" + text[at:]
    return _mutate(rng, _space(rng) + rng.choice(["", "", "-", "+"]) + text + _space(rng), "0123456789.-+eE_ xN")


def small_numeric(rng: random.Random) -> str:
    """Decimals around the seventh place, as numeric(3,7) takes them."""
    value = rng.getrandbits(rng.choice([1, 4, 10, 14]))
    return rng.choice([f"-.0000{value:06}", f"{value}e-9", f"0.{value:010}", numeric(rng)])


def boolean(rng: random.Random) -> str:
    """Prefixes of PostgreSQL's words for true and false."""
    word = rng.choice(["true", "false", "yes", "no", "on", "off", "1", "0", "10", "", "truer", "o", "offf", "t\xe9"])
    word = word[: rng.randint(0, len(word))] if rng.random() < 0.5 else word
    word = "".join(rng.choice([c.lower(), c.upper()]) for c in word)
    return _space(rng) + word + _space(rng)


def uuid(rng: random.Random) -> str:
    """UUIDs with hyphens in any of the places allowed, braces, both cases."""
    digits = f"{rng.getrandbits(128):032x}"
    usual = rng.random() < 0.4
    text = ""
    for at in range(0, 32, 4):
        text += digits[at : at + 4]
        if at < 28 and ((usual and at in {4, 8, 12, 16}) or (not usual and rng.random() < 0.4)):
            text += "-"
    if rng.random() < 0.2:
        text = text.upper()
    if rng.random() < 0.2:
        text = "{" + text + "}"
    return _mutate(rng, text, "0-{} gG\xe9")


def string(rng: random.Random) -> str:
    """Short strings, some with trailing blanks, of one to four bytes a character."""
    alphabet = "abc XYZ\t\n\\\"',0189\xe4\xf6\u20ac\U0001f600"
    return "".join(rng.choices(alphabet, k=rng.choice([0, 1, 2, 3, 4, 5, 6, 11, 12, 13, 24, 60]))) + " " * rng.choice(
        [0, 0, 0, 1, 2, 7]
    )


def bytea(rng: random.Random) -> str:
    """Hexadecimal with white space and the escape format."""
    data = rng.randbytes(rng.choice([0, 1, 2, 11, 12, 13, 24, 50]))
    if rng.random() < 0.5:
        text = "\\x"
        for byte in data:
            text += rng.choice(["", "", "", "", " ", "\n", "\t\r"]) + rng.choice([f"{byte:02x}", f"{byte:02X}"])
        return _mutate(rng, text, "0aF \n\v\\g")
    text = ""
    for byte in data:
        if byte == 0x5C:
            text += rng.choice(["\\\\", "\\134"])
        elif 32 <= byte < 127 and rng.random() < 0.7:
            text += chr(byte)
        else:
            text += f"\\{byte:03o}"
    return _mutate(rng, text, "\\0123456789x\xe4")


def _date(rng: random.Random) -> str:
    year = rng.choice(
        [
            rng.randint(1900, 2100),
            rng.randint(1900, 2100),
            rng.randint(1, 9999),
            rng.randint(1, 6000000),
            2000,
            1900,
            4713,
        ]
    )
    month = rng.choice([rng.randint(1, 12), 2, rng.randint(0, 14)]) if rng.random() < 0.3 else rng.randint(1, 12)
    day = rng.choice([28, 29, 30, 31, 32, 0]) if rng.random() < 0.15 else rng.randint(1, 28)
    width = rng.choice(["04", "04", "04", "03", "01", "05"])
    return f"{year:{width}}-" + rng.choice([f"{month:02}-{day:02}", f"{month:02}-{day:02}", f"{month}-{day}"])


def _time(rng: random.Random) -> str:
    hour = rng.choice([rng.randint(0, 23)] * 9 + [24, 25])
    minute = rng.choice([rng.randint(0, 59)] * 19 + [60])
    second = rng.choice([rng.randint(0, 59)] * 9 + [60, 61, 59])
    if rng.random() < 0.05:
        hour, minute, second = rng.choice([(24, 0, 0), (23, 59, 60), (0, 0, 0), (23, 59, 59)])
    if rng.random() < 0.1:
        return f"{hour:02}:{minute:02}"
    text = rng.choice([f"{hour:02}:{minute:02}:{second:02}"] * 4 + [f"{hour}:{minute}:{second}"])
    if rng.random() < 0.6:
        text += "." + rng.choice(
            [
                "".join(rng.choices("0123456789", k=rng.randint(1, 9))),
                "".join(rng.choices("0123456789", k=rng.randint(10, 20))),
                rng.choice(
                    [
                        "5",
                        "0000005",
                        "0000015",
                        "999999",
                        "9999995",
                        "9999994999",
                        "4999995",
                        "500000",
                        "25",
                        "125",
                    ]
                ),
                "".join(rng.choices("0123456789", k=6)) + rng.choice(["5", "50", "500000", "49", "51", "49999999"]),
                "",
            ]
        )
    return text


def _offset(rng: random.Random) -> str:
    hour, minute, second = rng.randint(0, 16), rng.choice([0, 0, 30, 45, 60]), rng.choice([0, 30, 61])
    return rng.choice(["", " "]) + rng.choice(
        [
            "Z",
            "z",
            "+00",
            rng.choice("+-") + f"{hour:02}",
            rng.choice("+-") + f"{hour}",
            rng.choice("+-") + f"{hour:02}:{minute:02}",
            rng.choice("+-") + f"{hour:02}{minute:02}",
            rng.choice("+-") + f"{hour:02}:{minute:02}:{second:02}",
            rng.choice([" UTC", " GMT", " EST", "+", "-1:2", "+00:00 foo", "+12345"]),
        ]
    )


def _moment(rng: random.Random, time: float, offset: float) -> str:
    roll = rng.random()
    if roll < 0.05:
        words = [
            "infinity",
            "-infinity",
            "Infinity",
            "epoch",
            "EPOCH",
            "+infinity",
            "now",
            "today",
            "-epoch",
            "inf",
            "",
        ]
        return _space(rng) + rng.choice(words) + _space(rng)
    text = _date(rng)
    if rng.random() < time:
        text += rng.choice([" ", " ", "T", "t", "  ", "T ", "\t", ""]) + _time(rng)
        if rng.random() < offset:
            text += _offset(rng)
    if rng.random() < 0.08:
        text += rng.choice([" BC", " bc", " AD", "BC", " B.C.", " ad", " Mon"])
    return _mutate(rng, _space(rng) + text + _space(rng), "0123456789-: .TZ+BC/\xe9")


def date(rng: random.Random) -> str:
    """Dates, some with a time that does not count."""
    return _moment(rng, 0.3, 0.3)


def timestamp(rng: random.Random) -> str:
    """Timestamps, some with an offset that does not count."""
    return _moment(rng, 0.85, 0.2)


def timestamptz(rng: random.Random) -> str:
    """Timestamps, most with an offset."""
    return _moment(rng, 0.95, 0.85)


@dataclass(frozen=True)
class KeyType:
    """A column type as SQL spells it, as native code knows it, and a source of spellings."""

    sql: str
    native: tuple[int, int]
    spell: Callable[[random.Random], str]
    send: str  # the type's binary output function
    collate: str = ""

    def __str__(self) -> str:
        return self.sql


def _numeric_typmod(precision: int, scale: int) -> int:
    return ((precision << 16) | (scale & 0x7FF)) + 4


CODES = {row.name: row.code for row in native.key_types()}

KEY_TYPES = [
    KeyType("smallint", (native.KEY_INT2, -1), integer(17), "int2send"),
    KeyType("integer", (native.KEY_INT4, -1), integer(33), "int4send"),
    KeyType("bigint", (native.KEY_INT8, -1), integer(65), "int8send"),
    KeyType("text", (native.KEY_TEXT, -1), string, "textsend"),
    KeyType("varchar(5)", (CODES["varchar"], 9), string, "varcharsend"),
    KeyType("char(6)", (native.KEY_BPCHAR, 10), string, "bpcharsend"),
    KeyType("uuid", (native.KEY_UUID, -1), uuid, "uuid_send"),
    KeyType("boolean", (native.KEY_BOOL, -1), boolean, "boolsend"),
    KeyType("date", (native.KEY_DATE, -1), date, "date_send"),
    KeyType("timestamp", (native.KEY_TIMESTAMP, -1), timestamp, "timestamp_send"),
    KeyType("timestamp(0)", (native.KEY_TIMESTAMP, 0), timestamp, "timestamp_send"),
    KeyType("timestamp(3)", (native.KEY_TIMESTAMP, 3), timestamp, "timestamp_send"),
    KeyType("timestamptz", (native.KEY_TIMESTAMPTZ, -1), timestamptz, "timestamptz_send"),
    KeyType("timestamptz(2)", (native.KEY_TIMESTAMPTZ, 2), timestamptz, "timestamptz_send"),
    KeyType("numeric", (native.KEY_NUMERIC, -1), numeric, "numeric_send"),
    KeyType("numeric(8,2)", (native.KEY_NUMERIC, _numeric_typmod(8, 2)), numeric, "numeric_send"),
    KeyType("numeric(6,-3)", (native.KEY_NUMERIC, _numeric_typmod(6, -3)), numeric, "numeric_send"),
    KeyType("numeric(3,7)", (native.KEY_NUMERIC, _numeric_typmod(3, 7)), small_numeric, "numeric_send"),
    KeyType("numeric(100,5)", (native.KEY_NUMERIC, _numeric_typmod(100, 5)), numeric, "numeric_send"),
    KeyType("bytea", (native.KEY_BYTEA, -1), bytea, "byteasend"),
]

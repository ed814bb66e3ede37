"""Random spellings of key values: usual ones, odd ones that PostgreSQL reads, and ones that it refuses.

Each function takes a random.Random and gives one spelling as text, free of NUL, which no client can send.
"""

import contextlib
import decimal
import ipaddress
import random
import struct
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


def floating(rng: random.Random) -> str:
    """Decimals from the smallest to beyond the largest, halves between neighbours, special values, other bases."""
    roll = rng.random()
    if roll < 0.08:
        words = [
            "NaN",
            "nan",
            "Infinity",
            "-infinity",
            "+inf",
            "INF",
            "-Inf",
            "-NaN",
            "+nan",
            "infi",
            "nan(1)",
            "0x1p3",
        ]
        return _space(rng) + rng.choice(words) + _space(rng)
    if roll < 0.5:
        single = struct.unpack("<f", rng.randbytes(4))[0]
        double = struct.unpack("<d", rng.randbytes(8))[0]
        value = rng.choice([single, double, rng.uniform(-1e6, 1e6), float(rng.randint(-(10**6), 10**6)), rng.random()])
        text = rng.choice([repr(value), f"{value:.7g}", f"{value:.25g}", format(decimal.Decimal(value), "f")[:1000]])
    else:
        text = rng.choice(["", "0", "1", "7", "00", "16777217", "9007199254740993", str(rng.getrandbits(70))])
        text += rng.choice(["", ".", ".0", ".5", ".125", ".1", ".30000000000000004", "." + str(rng.getrandbits(90))])
        if rng.random() < 0.4:
            text += rng.choice("eE") + rng.choice(["", "+", "-"])
            text += str(rng.choice([0, 1, 7, 20, 37, 38, 39, 44, 45, 46, 300, 308, 309, 323, 324, 400]))
        text = rng.choice(["", "", "-", "+"]) + text
    return _mutate(rng, _space(rng) + text + _space(rng), "0123456789.-+eE_ xNd,")


def oid(rng: random.Random) -> str:
    """Integers of 32 bits with and without a sign."""
    if rng.random() < 0.1:
        return rng.choice(["010", "08", "00", "0x1F", "18446744073709551615", "-2147483649", "4294967296", "- 1", ""])
    value = rng.getrandbits(rng.choice([1, 8, 16, 31, 32, 33]))
    text = rng.choice(["", "", "", "+", "-"]) + str(value)
    return _mutate(rng, _space(rng) + text + _space(rng), "0123456789-+_ xO")


def name(rng: random.Random) -> str:
    """Strings around the length at which a name is cut off."""
    if rng.random() < 0.5:
        return string(rng)
    return "".join(rng.choices("abc_ XYZ0\xe4\u20ac\U0001f600", k=rng.randint(10, 70)))


def _ipv4(rng: random.Random) -> str:
    text = ".".join(str(rng.choice([rng.randint(0, 255), 0, 10, 255])) for _ in range(4))
    roll = rng.random()
    if roll < 0.05:
        text = rng.choice(
            ["10", "10.1", "192.168.1", "0x0a", "1.2.3.256", "01.2.3.4", "1.2.3.4.5", "10.0.0.0/", "1..2.3"]
        )
    if rng.random() < 0.6:
        text += f"/{rng.choice([rng.randint(0, 32), 8, 16, 24, 32, 33])}"
    return text


def _ipv6(rng: random.Random) -> str:
    address = ipaddress.IPv6Address(
        rng.getrandbits(128) & rng.choice([-1, 0xFFFF << 112, 0xFFFF << 16 | 1, 0]) % 2**128
    )
    text = rng.choice([address.compressed, address.exploded, address.compressed.upper()])
    if rng.random() < 0.15:
        text = rng.choice(["::ffff:1.2.3.4", "::1.2.3.4", "1:2:3:4:5:6:7::", "::2:3:4:5:6:7:8", "1:2:3:4:5:6:1.2.3.4"])
    if rng.random() < 0.06:
        text = rng.choice(
            ["1:2:3:4:5:6:7:8::", "1::2::3", ":1::2", "1:2:3", "12345::", "::1.2.3", "1:2:3:4:5:6:7:1.2.3.4"]
        )
    if rng.random() < 0.5:
        text += f"/{rng.choice([rng.randint(0, 128), 0, 64, 128, 129])}"
    return text


def inet(rng: random.Random) -> str:
    """Addresses of both families with masks."""
    return _mutate(rng, _ipv4(rng) if rng.random() < 0.6 else _ipv6(rng), "0123456789af:./xg ")


def cidr(rng: random.Random) -> str:
    """Networks of both families, some with bits to the right of the mask."""
    text = inet(rng)
    if rng.random() < 0.7:
        with contextlib.suppress(ValueError):
            text = str(ipaddress.ip_network(text, strict=False))
    return text


def macaddr(rng: random.Random) -> str:
    """All seven formats, one-digit groups, separators where they do not belong."""
    data = f"{rng.getrandbits(48):012x}"
    pairs = [data[at : at + 2] for at in range(0, 12, 2)]
    if rng.random() < 0.3:
        pairs = [pair.lstrip("0") or "0" for pair in pairs]
    separator = rng.choice(":-")
    text = rng.choice(
        [
            separator.join(pairs),
            separator.join(pairs),
            "".join(pairs[:3]) + separator + "".join(pairs[3:]),
            rng.choice(".-:").join("".join(pairs[at : at + 2]) for at in (0, 2, 4)),
            "".join(pairs),
        ]
    )
    if rng.random() < 0.3:
        text = text.upper()
    return _mutate(rng, _space(rng) + text + _space(rng), "0af:-. gx")


def macaddr8(rng: random.Random) -> str:
    """Six or eight bytes, a separator after some of them or after each, another one in between."""
    size = rng.choice([6, 6, 8, 8, 8, 7, 9])
    separator = rng.choice(":-.")
    every = rng.choice([1, 1, 2, 3, 4, 9])
    text = "".join(
        f"{rng.getrandbits(8):02x}" + (separator if at % every == 0 and at != size else "") for at in range(1, size + 1)
    )
    if rng.random() < 0.3:
        text = text.upper()
    return _mutate(rng, _space(rng) + text + _space(rng), "0af:-. gx\xe9")


def time(rng: random.Random) -> str:
    """Times of day, some with an offset that does not count."""
    if rng.random() < 0.05:
        return rng.choice(["04:05 PM", "040506", "allballs", "now", "T04:05", "", "04:05:06 America/New_York", "x"])
    text = _time(rng) + (_offset(rng) if rng.random() < 0.3 else "")
    return _mutate(rng, _space(rng) + text + _space(rng), "0123456789:.+- Z/")


_UNITS = ["year", "mon", "month", "week", "day", "hour", "min", "minute", "sec", "second"]


_ODD_INTERVALS = [
    *("infinity", "-infinity", "+Infinity", "inf", "1-2", "1 2:03:04", "-1 2:03:04", "5", "1.5 days", "1 fortnight"),
    *("1 decade", "1 d", "P0001-02-03T04:05:06", "P", "PT", "", "ago", "1 day 2 days", "@", "-1 day 2 hours", "1h"),
]


def _quantity(rng: random.Random) -> str:
    value = rng.choice([rng.randint(0, 40), rng.randint(0, 40), 1, rng.randint(0, 10**6), rng.getrandbits(31)])
    return rng.choice(["", "", "", "-", "+"]) + str(value)


def _interval_words(rng: random.Random) -> str:
    units = rng.sample(_UNITS, rng.choice([0, 1, 1, 2, 3]))
    parts = []
    for unit in sorted(units, key=_UNITS.index):
        text = _quantity(rng)
        if unit.startswith("sec") and rng.random() < 0.5:
            text += "." + "".join(rng.choices("0123456789", k=rng.randint(1, 7)))
        spelled = unit + rng.choice(["", "s"])
        parts.append(text + rng.choice([" ", " ", "  ", "\t"]) + rng.choice([spelled, spelled, spelled.upper()]))
    if not parts or rng.random() < 0.5:
        parts.append(
            rng.choice(["", "", "+", "-"])
            + rng.choice([_time(rng), f"{rng.randint(0, 10**6)}:{rng.randint(0, 59):02}"])
        )
    text = " ".join(parts)
    return rng.choice(["", "", "", "@ "]) + text + rng.choice(["", "", "", " ago"])


def _interval_iso(rng: random.Random) -> str:
    text = "P" + "".join(_quantity(rng) + unit for unit in "YMWD" if rng.random() < 0.4)
    if rng.random() < 0.7:
        text += "T" + "".join(_quantity(rng) + unit for unit in "HM" if rng.random() < 0.4)
        if rng.random() < 0.6:
            text += _quantity(rng) + rng.choice(["", f".{rng.getrandbits(19)}"]) + "S"
    return text


def interval(rng: random.Random) -> str:
    """Intervals as PostgreSQL writes them, in words and in ISO 8601, and others that styles decide."""
    if rng.random() < 0.08:
        return rng.choice(_ODD_INTERVALS)
    text = _interval_words(rng) if rng.random() < 0.75 else _interval_iso(rng)
    return _mutate(rng, _space(rng) + text + _space(rng), "0123456789:.+- PTDHMSyd@")


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
    KeyType("real", (CODES["float4"], -1), floating, "float4send"),
    KeyType("double precision", (CODES["float8"], -1), floating, "float8send"),
    KeyType("oid", (CODES["oid"], -1), oid, "oidsend"),
    KeyType("name", (CODES["name"], -1), name, "namesend"),
    KeyType("inet", (CODES["inet"], -1), inet, "inet_send"),
    KeyType("cidr", (CODES["cidr"], -1), cidr, "cidr_send"),
    KeyType("macaddr", (CODES["macaddr"], -1), macaddr, "macaddr_send"),
    KeyType("macaddr8", (CODES["macaddr8"], -1), macaddr8, "macaddr8_send"),
    KeyType("time", (CODES["time"], -1), time, "time_send"),
    KeyType("time(2)", (CODES["time"], 2), time, "time_send"),
    KeyType("interval", (CODES["interval"], -1), interval, "interval_send"),
    KeyType("interval(3)", (CODES["interval"], 0x7FFF << 16 | 3), interval, "interval_send"),
]


def examples(name: str, count: int = 5) -> list[str]:
    """Return a few spellings that this type, by its name in the catalog, reads."""
    [key] = [key for key in KEY_TYPES if key.native == (CODES[name], -1)]
    rng = random.Random(name)
    found: list[str] = []
    while len(found) < count:
        text = key.spell(rng)
        if text.isprintable() and isinstance(native.canonical(key.native, text.encode()), bytes):
            found.append(text)
    return found

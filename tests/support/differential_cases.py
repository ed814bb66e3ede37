"""Random COPYs for the differential test: a table, a statement, bytes, cuts and a protocol, as a hypothesis strategy.

The structure (columns, options, rows, damage, cuts) is drawn piece by piece, so that a failing case shrinks; values
are spelled from a drawn number by `spellings`, which knows what PostgreSQL reads and what it nearly reads.
"""

import random
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.support.differential import SIGNATURE, Copy, Step
from tests.support.rawclient import PROTOCOLS
from tests.unit.native import spellings

Spell = Callable[[random.Random], str]
Draw = st.DrawFn

DATES = ("date", "timestamp", "timestamptz")
DECLINED = (*DATES, "real", "double precision", "oid", "inet", "cidr", "macaddr", "time", "interval")
"""Types of which the proxy does not read every spelling."""


@dataclass(frozen=True)
class Column:
    """A column: its definition behind the name, and where its values come from."""

    name: str
    sql: str
    spell: Spell

    @property
    def may_be_declined(self) -> bool:
        """Whether the proxy may decline to read a spelling."""
        return re.match(rf"({'|'.join(DECLINED)})\b", self.sql) is not None


@dataclass(frozen=True)
class Case:
    """One comparison."""

    table: str
    ddl: str
    steps: tuple[Step, ...]
    may_decline: bool  # a key of a type whose spellings may depend on settings
    ignore: str  # error fields that may differ

    @property
    def first(self) -> int:
        """The first version that knows its options; the proxy accepts them on older ones, too."""
        return 17 if self.ignore else 13


def _iso(kind: str) -> Spell:
    """Mostly spellings that depend on no setting, sometimes any."""
    wild: Spell = {"date": spellings.date, "timestamp": spellings.timestamp}.get(kind, spellings.timestamptz)

    def spell(rng: random.Random) -> str:
        if rng.random() < 0.1:
            return wild(rng)
        text = f"{rng.randint(1, 9999):04}-{rng.randint(1, 12):02}-{rng.randint(1, 29):02}"
        if kind != "date":
            text += f" {rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}"
            text += rng.choice(["", f".{rng.randint(0, 999999):06}", ".5"])
        return text + (rng.choice(["+00", "-08", "+05:30", "Z"]) if kind == "timestamptz" else "")

    return spell


def _key_types() -> list[tuple[str, Spell]]:
    types = []
    for kind in spellings.KEY_TYPES:
        base = kind.sql.partition("(")[0]
        types.append((kind.sql, _iso(base) if base in DATES else kind.spell))
    return types


KEY_TYPES = _key_types()

OTHER_TYPES: list[tuple[str, Spell]] = [
    ("text", spellings.string),
    ("text NOT NULL", spellings.string),
    ("varchar(20)", spellings.string),
    ("int", spellings.integer(20)),
    ("int CHECK ({} < 1000)", spellings.integer(10)),
    ("numeric(9,2)", spellings.numeric),
    ("text DEFAULT 'dflt'", spellings.string),
]

DAMAGE = [
    b"\n", b"\r", b"\r\n", b"\t", b",", b";", b'"', b"'", b"\\", b"\\.", b"\n\\.\n", b"\\N", b"\0", b"\xff", b"\xc3",
    b"1", b"x", b" ", b"\\x41", b'""', b"\n\n", b"\\D", b"\xe4\xbd", b"\\\n",
]  # fmt: skip

SEEDS = st.integers(0, 2**32)


@st.composite
def _columns(draw: Draw, keys: tuple[str, ...]) -> list[Column]:
    columns = []
    for name in keys:
        kind, spell = draw(st.sampled_from(KEY_TYPES))
        default = draw(st.sampled_from(["", "", "", " NOT NULL", " DEFAULT NULL"]))
        columns.append(Column(name, kind + default, spell))
    for name in "abc"[: draw(st.integers(0, 3))]:
        kind, spell = draw(st.sampled_from(OTHER_TYPES))
        columns.append(Column(name, kind.format(name), spell))
    return draw(st.permutations(columns))


@dataclass(frozen=True)
class Layout:
    """How values become bytes."""

    format: str
    delimiter: str
    null: str
    quote: str
    escape: str
    newline: bytes
    encoding: str

    def field(self, rng: random.Random, value: str | None) -> str:
        """Write one field, in one of the ways that mean it."""
        if value is None:
            return self.null
        if self.format == "csv":
            special = {self.delimiter, self.quote, "\n", "\r"} & set(value) or value in {self.null, "\\."}
            if special or rng.random() < 0.2:
                quoted = ""
                for character in value:
                    quoted += self.escape + character if character in {self.quote, self.escape} else character
                return self.quote + quoted + self.quote
            return value
        written = ""
        for character in value:
            if character in {"\\", "\n", "\r", "\t", self.delimiter}:
                names = {"\n": "n", "\r": "r", "\t": "t"}
                written += "\\" + rng.choice([names.get(character, character), f"x{ord(character):02x}"])
            elif rng.random() < 0.03 and character.isascii():
                written += rng.choice([f"\\x{ord(character):x}", f"\\{ord(character):03o}"])
            else:
                written += character
        return written if written != self.null else "\\" + written


def _options(draw: Draw, form: str, fields: list[Column]) -> tuple[Layout, list[str], str]:
    """Return the layout, the options that say it, and the kind of header."""
    csv = form == "csv"
    delimiter = draw(st.sampled_from(["", "", "|", ";", ",", "\t"]))
    null = draw(st.sampled_from(["", "", "nil", "NULL", "1", "\\N"]))
    quote = draw(st.sampled_from(["", "", "'", "$"])) if csv else ""
    escape = draw(st.sampled_from(["", "", "\\", "!"])) if csv else ""
    encoding = draw(st.sampled_from(["", "", "", "", "latin1", "utf8", "win1252"]))
    header = draw(st.sampled_from(["", "", "", "true", "false", "match"]))
    given = {
        "DELIMITER": f"E'{delimiter}'" if delimiter else "",
        "NULL": f"'{null}'" if null else "",
        "QUOTE": f"E'\\{quote}'" if quote else "",
        "ESCAPE": f"E'\\{escape}'" if escape else "",
        "ENCODING": f"'{encoding}'" if encoding else "",
        "HEADER": header,
        "DEFAULT": draw(st.sampled_from(["", "", "", "'\\D'"])),
    }
    names = [field.name for field in fields]
    if csv:
        for option in ("FORCE_NULL", "FORCE_NOT_NULL"):
            forced = draw(st.lists(st.sampled_from(names), unique=True, max_size=2))
            given[option] = f"({', '.join(forced)})" if forced else ""
    given["ON_ERROR"] = draw(st.sampled_from(["", "", "", "", "", "ignore"]))
    if given["ON_ERROR"]:
        given["LOG_VERBOSITY"] = draw(st.sampled_from(["", "verbose"]))
    layout = Layout(
        form,
        delimiter or ("," if csv else "\t"),
        null or ("" if csv else "\\N"),
        quote or '"',
        escape or quote or '"',
        draw(st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])),
        {"latin1": "latin-1", "win1252": "cp1252"}.get(encoding, "utf-8"),
    )
    return layout, [f"FORMAT {form}", *(f"{name} {value}" for name, value in given.items() if value)], header


def _text(draw: Draw, form: str, fields: list[Column]) -> tuple[bytes, list[str]]:
    layout, options, header = _options(draw, form, fields)
    delimiter = layout.delimiter.encode()
    lines = []
    if header in {"true", "match"}:
        names = [field.name for field in fields]
        lines.append(delimiter.join(name.encode() for name in names))
    for seed in draw(st.lists(SEEDS, max_size=25)):
        rng = random.Random(seed)
        values = [None if rng.random() < 0.05 else field.spell(rng) for field in fields]
        line = layout.delimiter.join(layout.field(rng, value) for value in values)
        if "DEFAULT '\\D'" in options and rng.random() < 0.1:
            line = layout.delimiter.join(["\\D", *line.split(layout.delimiter)[1:]])
        lines.append(line.encode(layout.encoding, "replace"))
    ended = draw(st.booleans())
    data = layout.newline.join(lines) + (layout.newline if lines and ended else b"")
    damages: st.SearchStrategy[tuple[int, bytes, int]] = st.tuples(SEEDS, st.sampled_from(DAMAGE), st.integers(0, 3))
    for at, what, removed in draw(st.lists(damages, max_size=2)):
        place = at % (len(data) + 1)
        data = data[:place] + what + data[place + removed :]
    return data, options


def _binary(draw: Draw, fields: list[Column]) -> tuple[bytes, list[str]]:
    """Rows of integers and text, whose binary form is easily made; now and then a wrong length or count."""
    data = SIGNATURE
    for seed in draw(st.lists(SEEDS, max_size=25)):
        rng = random.Random(seed)
        row: list[bytes | None] = []
        for field in fields:
            sizes = {"smallint": 2, "integer": 4, "int": 4, "bigint": 8, "boolean": 1, "uuid": 16, "date": 4}
            size = sizes.get(field.sql.split()[0])
            if size is None and field.sql.startswith("timestamp"):
                size = 8
            if rng.random() < 0.05 and "NOT NULL" not in field.sql:
                row.append(None)
            elif size == 1:
                row.append(rng.choice([b"\0", b"\1"]))
            elif field.sql.startswith("numeric"):
                row.append(struct.pack("!hhHhh", 1, 0, rng.choice([0, 0x4000]), 0, rng.randint(1, 99)))
            elif size is not None:
                row.append((rng.getrandbits(12)).to_bytes(size, "big"))
            else:
                row.append(rng.choice([b"", b"a", b"ab ", "ä".encode()]))
        broken = rng.random()
        count = len(row) + (1 if broken < 0.005 else 0)
        data += struct.pack("!h", count)
        for value in row:
            extra = 1 if 0.005 < broken < 0.01 else 0
            data += b"\xff\xff\xff\xff" if value is None else struct.pack("!i", len(value) + extra) + value
    data += draw(st.sampled_from([b"\xff\xff", b"\xff\xff", b"", b"\xff\xff\0", b"\0"]))
    if draw(st.integers(0, 9)) == 9:
        data = data[: draw(SEEDS) % (len(data) + 1)]
    return data, ["FORMAT binary"]


@st.composite
def _cuts(draw: Draw, size: int) -> list[int]:
    kind = draw(st.integers(0, 3))
    if kind == 0 or not size:
        return []
    if kind == 1 and size < 400:
        return list(range(1, size))
    return [cut % size for cut in draw(st.lists(SEEDS, max_size=12))]


@dataclass(frozen=True)
class Target:
    """A table to copy into."""

    table: str
    ddl: str
    keys: tuple[str, ...]
    columns: list[Column]

    @property
    def may_decline(self) -> bool:
        """Whether the proxy may decline to read a key."""
        return any(column.may_be_declined for column in self.columns if column.name in self.keys)


def _target(draw: Draw) -> Target:
    table, keys = draw(st.sampled_from([("t", ("k",)), ("t", ("k",)), ("two", ("k", "l"))]))
    columns = draw(_columns(keys))
    definitions = [f"{column.name} {column.sql}" for column in columns]
    ddl = f"CREATE TABLE {table} ({', '.join(definitions)})"
    extra = draw(st.integers(0, 5))
    if extra == 0:
        ddl = f"CREATE TABLE {table} (gone int, {', '.join(definitions)}); ALTER TABLE {table} DROP gone"
    elif extra == 1:
        ddl = f"CREATE TABLE {table} (g int GENERATED ALWAYS AS (1 + 1) STORED, {', '.join(definitions)})"
    return Target(table, ddl, keys, columns)


def _copy(draw: Draw, target: Target) -> Case:
    table, keys, columns = target.table, target.keys, target.columns
    fields = columns
    listed = ""
    if draw(st.booleans()):
        fields = [column for column in draw(st.permutations(columns)) if column.name in keys or draw(st.booleans())]
        listed = f" ({', '.join(field.name for field in fields)})"
    form = draw(st.sampled_from(["text", "text", "csv", "csv", "binary"]))
    data, options = _binary(draw, fields) if form == "binary" else _text(draw, form, fields)
    where = draw(st.sampled_from(["", "", "", "", f" WHERE {keys[0]} IS NOT NULL"]))
    sql = f"COPY {table}{listed} FROM STDIN ({', '.join(options)}){where}"
    copy = Copy(
        sql,
        data,
        frames=draw(_cuts(len(data))),
        segments=draw(_cuts(len(data))),
        protocol=draw(st.sampled_from(PROTOCOLS)),
    )
    steps: tuple[Step, ...] = (copy,)
    around = draw(st.integers(0, 9))
    if around == 0:
        steps = ("BEGIN", copy, "COMMIT")
    elif around == 1:
        steps = ("BEGIN", copy, copy, "ROLLBACK")
    # Behind a row that ON_ERROR has skipped, CONTEXT still names that row's column; on another shard it does not.
    ignore = "W" if "ON_ERROR ignore" in sql else ""
    return Case(table, target.ddl, steps, target.may_decline, ignore)


@st.composite
def cases(draw: Draw) -> Case:
    """Draw a case."""
    return _copy(draw, _target(draw))


@st.composite
def batches(draw: Draw, size: int) -> list[Case]:
    """Draw that many cases of one table: a long run need not make a table for each."""
    target = _target(draw)
    return [_copy(draw, target) for _ in range(size)]

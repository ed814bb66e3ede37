"""TRAPS: splitting COPY's text format. Each case on one PostgreSQL and through the proxy over three shards."""

import os

import pytest

from shardproxy.wire import encode
from tests.support.differential import Arena, Copy

GIBIBYTES = "SHARDPROXY_GIBIBYTES"

TEXTS = "CREATE TABLE t (k text, v text)"
NUMBERS = "CREATE TABLE t (k int, v text)"
PLAIN = "COPY t FROM STDIN"


def rows(count: int, newline: bytes = b"\n") -> bytes:
    return b"".join(b"%d\tvalue %d%b" % (number, number, newline) for number in range(count))


LOADS = {
    "last row without newline": (TEXTS, PLAIN, b"a\tb\nc\td"),
    "last row without newline, of three shards": (NUMBERS, PLAIN, rows(100)[:-1]),
    "backslash-newline is data": (TEXTS, PLAIN, b"a\\\nb\tx\nc\ty\\\nz\n\\\n\t\n"),
    "escapes in the key": (TEXTS, PLAIN, b"\\x31\ta\n\\061\tb\n\\N\tc\n\\t\td\n1\te\n\\\\N\tf\n"),
    "more escapes in the key": (TEXTS, PLAIN, b"\\b\\f\\n\\r\\v\tg\n\\q\th\n"),
    "hexadecimal and octal in an integer key": (NUMBERS, PLAIN, b"\\x31\\x32\ta\n\\061\tb\n1\\x32\tc\n"),
    "escaped delimiter": (TEXTS, PLAIN, b"a\\\tb\tc\n"),
    "an empty line is a row": ("CREATE TABLE t (k text)", PLAIN, b"\n\na\n\n"),
    "carriage returns": (NUMBERS, PLAIN, rows(20, b"\r")),
    "carriage return and newline": (NUMBERS, PLAIN, rows(20, b"\r\n")),
    "carriage return and newline, last row without": (NUMBERS, PLAIN, rows(20, b"\r\n")[:-2]),
    "marker ends the data": (NUMBERS, PLAIN, rows(5) + b"\\.\n" + b"nonsense\n" * 3),
    "marker first": (NUMBERS, PLAIN, b"\\.\n" + rows(3)),
    "marker, carriage return and newline": (NUMBERS, PLAIN, rows(5, b"\r\n") + b"\\.\r\nrest"),
    "marker inside a value behind a backslash": (TEXTS, PLAIN, b"a\\\\.\tb\nc\t\\\\.\n"),
    "header": (NUMBERS, "COPY t FROM STDIN (HEADER)", b"no such\tcolumns\tat all\n" + rows(5)),
    "header alone": (NUMBERS, "COPY t FROM STDIN (HEADER true)", b"k\tv"),
    "header false": (NUMBERS, "COPY t FROM STDIN (HEADER false)", rows(5)),
    "header match": (NUMBERS, "COPY t FROM STDIN (HEADER match)", b"k\tv\n" + rows(5)),
    "header match, with column list": (NUMBERS, "COPY t (v, k) FROM STDIN (HEADER match)", b"v\tk\nx\t1\n"),
    "null marker": (NUMBERS, "COPY t FROM STDIN (NULL 'nil')", b"nil\tnil\n1\tnil\n2\t\\N\n3\t\\nil\n"),
    "null marker, empty": (NUMBERS, "COPY t FROM STDIN WITH NULL AS ''", b"\t\n1\t\n2\t\\N\n"),
    "null marker that is a number": (NUMBERS, "COPY t FROM STDIN (NULL '7')", b"7\t7\n1\t7\n\\x37\ta\n"),
    "delimiter": (NUMBERS, "COPY t FROM STDIN (DELIMITER '|')", b"1|a\\|b\n2|a\tb\n"),
    "delimiter as escape string": (NUMBERS, "COPY t FROM STDIN DELIMITERS E'\\t'", rows(3)),
    "default marker": (
        "CREATE TABLE t (k int DEFAULT 42, v text DEFAULT 'd')",
        "COPY t FROM STDIN (DEFAULT '\\D')",
        b"\\D\ta\n1\t\\D\n\\D\t\\D\n3\tc\n",
    ),
    "default marker in a text key": (
        "CREATE TABLE t (k text DEFAULT 'x y', v text)",
        "COPY t FROM STDIN (DEFAULT '\\D')",
        b"\\D\ta\n1\t\\N\n\\\\D\tb\n",
    ),
    "byte order mark is data": (TEXTS, PLAIN, b"\xef\xbb\xbfa\tb\n"),
    "empty": (NUMBERS, PLAIN, b""),
    "one row": (NUMBERS, PLAIN, b"1\ta\n"),
    "many rows": (NUMBERS, PLAIN, rows(3000)),
    "long rows": (TEXTS, PLAIN, b"".join(b"%d\t%b\n" % (n, b"x" * 70_000) for n in range(9))),
    "key behind a long column": ("CREATE TABLE t (v text, k int)", PLAIN, b"y" * 9000 + b"\t12\nz\t13\n"),
}


@pytest.mark.parametrize("name", LOADS)
def test_text_loads(arena: Arena, name: str) -> None:
    outcome = arena.compare_ways(*LOADS[name])
    assert outcome.last.error is None
    assert outcome.last.tags == [f"COPY {len(outcome.rows)}"]


REFUSALS = {
    "newline behind carriage returns": (NUMBERS, PLAIN, rows(3, b"\r") + rows(2), 4),
    "carriage return behind newlines": (NUMBERS, PLAIN, rows(3) + rows(2, b"\r"), 4),
    "carriage return and newline behind newlines": (NUMBERS, PLAIN, rows(3) + rows(2, b"\r\n"), 4),
    "newlines behind carriage return and newline": (NUMBERS, PLAIN, rows(3, b"\r\n") + rows(2), 4),
    "mixed newlines, one shard would see one style": (NUMBERS, PLAIN, b"1\ta\r\n2\tb\n", 2),
    "marker of another style": (NUMBERS, PLAIN, rows(3) + b"\\.\r\n", 4),
    "header that does not match": (NUMBERS, "COPY t FROM STDIN (HEADER match)", b"k\tw\n" + rows(5), 1),
    "header with too few columns": (NUMBERS, "COPY t FROM STDIN (HEADER match)", b"k\n" + rows(5), 1),
    "bad key": (NUMBERS, PLAIN, rows(50) + b"x\ty\n" + rows(50), 51),
    "bad value": ("CREATE TABLE t (k int, v int)", PLAIN, b"1\t1\n" * 20 + b"2\tx\n" + b"3\t3\n" * 20, 21),
    "bad values on two lines": ("CREATE TABLE t (k int, v int)", PLAIN, b"1\t1\n" * 20 + b"3\ta\n2\tb\n" * 2, 21),
    "too few columns, key there": (NUMBERS, PLAIN, rows(9) + b"1\n" + rows(5), 10),
    "too few columns, key missing": ("CREATE TABLE t (v text, k int)", PLAIN, b"a\t1\nb\nc\t2\n", 2),
    "too many columns": (NUMBERS, PLAIN, rows(9) + b"1\ta\tb\n", 10),
    "empty line in a table of two": (NUMBERS, PLAIN, rows(2) + b"\n" + rows(2), 3),
    "key out of range": (NUMBERS, PLAIN, rows(3) + b"3000000000\ta\n", 4),
    "not null": ("CREATE TABLE t (k int, v text NOT NULL)", PLAIN, rows(7) + b"1\t\\N\n" + rows(7), 8),
    "not null key": ("CREATE TABLE t (k int NOT NULL, v text)", PLAIN, rows(7) + b"\\N\ta\n" + rows(7), 8),
    "check": ("CREATE TABLE t (k int CHECK (k < 30), v text)", PLAIN, rows(50), 31),
    "varchar too long": ("CREATE TABLE t (k varchar(3), v text)", PLAIN, b"abc\ta\nabcd\tb\n", 2),
    "domain": ("CREATE DOMAIN small AS int CHECK (VALUE < 10); CREATE TABLE t (k small, v text)", PLAIN, rows(20), 11),
    "unique": ("CREATE TABLE t (k int PRIMARY KEY, v text)", PLAIN, rows(40) + b"7\tagain\n", 41),
    "backslash-newline counts no line": (TEXTS, PLAIN, b"a\\\nb\tx\nc\td\te\n", 2),
    "not UTF-8": (TEXTS, PLAIN, b"a\tb\nc\t\xff\xfe\n", 2),
    "not UTF-8 in the key": (TEXTS, PLAIN, b"a\tb\n\xff\xfe\tc\n", 2),
    "escapes that are not UTF-8": (TEXTS, PLAIN, b"a\tb\n\\xff\tc\n", 2),
    "NUL byte": (TEXTS, PLAIN, b"a\tb\nc\td\0e\n", 2),
    "NUL byte in the key": (TEXTS, PLAIN, b"a\tb\n\0\te\n", 2),
    "NUL by an escape": (TEXTS, PLAIN, b"a\tb\nc\\0\te\n", 2),
    "value shown short": (NUMBERS, PLAIN, rows(2) + b"x" * 300 + b"\ta\n", 3),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_text_refusals(arena: Arena, name: str) -> None:
    ddl, sql, data, line = REFUSALS[name]
    outcome = arena.compare_ways(ddl, sql, data)
    assert (outcome.last.line, outcome.rows) == (line, [])


def test_marker_behind_data(arena: Arena) -> None:
    """Up to 17 it ends COPY and drops what follows; 18 refuses it."""
    outcome = arena.compare_ways(NUMBERS, PLAIN, rows(5) + b"6\ta\\.\n" + rows(3))
    assert (outcome.last.error is None) == (arena.version < 18)


def test_marker_with_more_on_its_line(arena: Arena) -> None:
    for data in (
        rows(3) + b"\\.x\n" + rows(3),
        rows(3) + b"\\..\n",
        b"\\.\r" + rows(3),
        rows(3) + b"\\. \n",
        rows(3) + b"\\.",
    ):
        arena.compare_ways(NUMBERS, PLAIN, data)


def test_marker_in_the_middle_of_a_field(arena: Arena) -> None:
    arena.compare_ways(TEXTS, PLAIN, b"a\tb\nc\tx\\.y\nd\te\n")


@pytest.mark.parametrize("rest", [b"2\ta\n", b"2\ta\tb\r", b"2\ta\r\\.x\r", b"2"])
def test_bad_first_row_that_ends_in_a_carriage_return(arena: Arena, rest: bytes) -> None:
    """PostgreSQL looks at the byte behind it before it takes the row; another shard's row may be refused first."""
    for start in (b"x\ta\r", b"1\ta\rx\ta\r", b"\r", b"1\ta\r2\tb\r3\tc\r4\td\rx\te\r"):
        arena.compare_ways(NUMBERS, PLAIN, start + rest)
    for start in (b"x\ta\r", b"1\ta\rx\ta\r", b"1\ta\r"):
        arena.compare(NUMBERS, Copy(PLAIN, start, end=encode.copy_fail("no")))


@pytest.mark.parametrize(
    ("encoding", "bad"), [("latin1", b"a\0b"), ("utf8", b"a\0b"), ("utf8", b"a\xc3"), ("utf8", b"\xf0\x9f\x98")]
)
def test_bytes_that_are_not_valid_in_the_last_row_of_a_shard(arena: Arena, encoding: str, bad: bytes) -> None:
    """PostgreSQL waits for more bytes before it calls them wrong; another row ends the COPY meanwhile."""
    data = b"1\ta\n2\t" + bad + b"\n3\ta\tb\tc and more behind it\n4\r\n"
    outcome = arena.compare_ways(NUMBERS, f"COPY t FROM STDIN (ENCODING '{encoding}')", data)
    assert (outcome.last.line, (outcome.last.error or {})["C"]) == (2, "22021")


@pytest.mark.timeout(0)
@pytest.mark.skipif(GIBIBYTES not in os.environ, reason=f"takes minutes and 5 GiB of memory: set {GIBIBYTES}")
@pytest.mark.parametrize(
    ("ddl", "begin", "end"),
    [(NUMBERS, b"1\ta\n2\t", b"\n3\tb\n"), ("CREATE TABLE t (v text, k int)", b"a\t1\n", b"\t2\n")],
)
def test_row_over_a_gibibyte(arena: Arena, ddl: str, begin: bytes, end: bytes) -> None:
    """With the key first its shard refuses the row, with the key last the proxy. DETAIL has each one's buffer size."""
    data = begin + b"x" * (1025 << 20) + end
    outcome = arena.compare(ddl, Copy(PLAIN, data, frames=range(4 << 20, len(data), 4 << 20)), ignore="D")
    assert ((outcome.last.error or {})["C"], outcome.last.line) == ("54000", 2)


def test_lines_of_bad_rows_far_apart(arena: Arena) -> None:
    """The smallest line is reported, though its shard has read later than others."""
    data = rows(20_000)
    cut = data.index(b"9001\t")
    broken = data[:cut] + b"x" + data[cut:]
    outcome = arena.compare(NUMBERS, Copy(PLAIN, broken + b"y\tz\n" * 100, frames=range(8192, len(data), 8192)))
    assert outcome.last.line == 9002


@pytest.mark.parametrize(
    ("kind", "spellings"),
    [
        ("smallint", b" 1|+1|01|1\\x20|-0|-1|32767|-32768|0x1F|1_0|0b11|0o17|  7  "),
        ("int", b" 1|+1|01|1 |-0|00000000000012|0x7fffffff|1_000_000|-2147483648"),
        ("bigint", b" 1|+1|01|-0|9223372036854775807|-9223372036854775808|0xFFFFFFFF|1_0"),
        ("uuid", b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11|{A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a12}"
         b"|a0eebc999c0b4ef8bb6d6bb9bd380a13|A0EE-BC99-9C0B-4EF8-BB6D-6BB9-BD38-0A14"),
        ("char(5)", b"a|a |a    |abc|abcde|  b||abcde  "),
        ("varchar(5)", b"a|a |a    |abc|abcde|  b||abcde  "),
        ("text", b"a|a |A|\xc3\xa4|a\xcc\x88|\xf0\x9f\x98\x80|"),
        ("boolean", b"t|f|true|FALSE|yes|n|1|0|on|of| t |tr"),
        ("numeric", b"1|1.0|1.00|01|1e3|1000|-0|0.0|NaN|Infinity|-inf|1_000|0x10|.5|5e-1|12345678901234567890.123"),
        ("numeric(6,2)", b"1|1.0|1.004|1.005|-0.001|9999.99|1e2|NaN"),
        ("date", b"2024-02-29|infinity|-infinity|0001-01-01|9999-12-31"),
        ("timestamp", b"2024-02-29 12:34:56|2024-02-29 12:34:56.789|2024-02-29T12:34|infinity|2024-02-29"),
        ("timestamptz", b"2024-02-29 12:34:56+00|2024-02-29 13:34:56+01|2024-02-29 04:04:56.5-08:30|infinity"),
        ("bytea", b"\\\\x00ff|\\\\x00FF|\\\\x 00 ff|abc|\\\\\\\\|\\\\000\\\\377|"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_key_spellings(arena: Arena, kind: str, spellings: bytes) -> None:
    """What is equal to PostgreSQL lies on one shard, however it is spelled; 16 and later read 0x1 and 1_0."""
    data = b"".join(b"%b\t%d\n" % (spelling, n) for n, spelling in enumerate(spellings.split(b"|")))
    outcome = arena.compare_ways(f"CREATE TABLE t (k {kind}, v text)", PLAIN, data)
    assert outcome.last.error is None


@pytest.mark.parametrize(
    ("kind", "spelling"),
    [
        ("int", b"0x"), ("int", b"1__0"), ("int", b"_1"), ("int", b"1 0"), ("int", b""), ("int", b"- 1"),
        ("int", b"1.0"), ("smallint", b"32768"), ("bigint", b"9223372036854775808"), ("uuid", b"a0eebc99-9c0b"),
        ("char(2)", b"abc"),
        ("boolean", b"o"), ("boolean", b"maybe"), ("numeric", b"1e"), ("numeric(3,1)", b"100"), ("date", b"2024-02-30"),
        ("timestamp", b"2024-01-01 25:00:00"), ("bytea", b"\\\\x0"), ("bytea", b"\\\\xzz"), ("bytea", b"\\\\9"),
    ],
)  # fmt: skip
def test_key_spellings_refused(arena: Arena, kind: str, spelling: bytes) -> None:
    outcome = arena.compare_ways(f"CREATE TABLE t (k {kind}, v text)", PLAIN, b"\\N\ta\n" + spelling + b"\tb\n")
    assert (outcome.last.line, outcome.rows) == (2, [])


@pytest.mark.parametrize("spelling", [b"01/02/2024", b"20240229", b"yesterday", b"2 Jan 2024"])
def test_key_spellings_that_depend_on_settings_are_refused(arena: Arena, spelling: bytes) -> None:
    """0A000 and nothing loaded, never a guess at DateStyle or the clock."""
    arena.define("CREATE TABLE t (k date, v text)")
    [reply] = arena.through_proxy(Copy(PLAIN, b"2024-01-01\ta\n" + spelling + b"\tb\n"))
    assert reply.error is not None
    assert (reply.error["C"], reply.line) == ("0A000", 2)
    assert "H" in reply.error
    assert reply.order == "GEZ"
    assert arena.databases.rows("SELECT * FROM t") == [[], [], []]

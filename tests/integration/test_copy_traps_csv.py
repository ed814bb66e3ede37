"""TRAPS: splitting COPY's CSV format. Each case on one PostgreSQL and through the proxy over three shards."""

import pytest

from tests.support.differential import Arena, Copy

TEXTS = "CREATE TABLE t (k text, v text)"
NUMBERS = "CREATE TABLE t (k int, v text)"
DEFAULTS = "CREATE TABLE t (k int DEFAULT 42, v text DEFAULT 'd')"
PLAIN = "COPY t FROM STDIN (FORMAT csv)"


def rows(count: int, newline: bytes = b"\n") -> bytes:
    return b"".join(b"%d,value %d%b" % (number, number, newline) for number in range(count))


def csv(options: str) -> str:
    return f"COPY t FROM STDIN (FORMAT csv, {options})"


LOADS = {
    "last row without newline": (NUMBERS, PLAIN, rows(30)[:-1]),
    "last row ends in a quote": (TEXTS, PLAIN, b'a,b\nc,"d"'),
    "quotes toggle anywhere": (TEXTS, PLAIN, b'1"x,y"z,2\n"a""b","c"\n"a"b"c",d\n'),
    "quoted key": (NUMBERS, PLAIN, b'"1",a\n"2","b"\n1"2",c\n" 3 ",d\n'),
    "newline inside quotes": (TEXTS, PLAIN, b'a,"x\ny\nz"\n"k\n1",b\nc,d\n'),
    "other newlines inside quotes": (TEXTS, PLAIN, b'a,"x\ry"\nb,"\r\n"\nc,"\n"\n"\r",d\n'),
    "newlines inside quotes, carriage return style": (TEXTS, PLAIN, b'a,"x\ry\n"\r"\r\n",b\r'),
    "newlines inside quotes, both style": (TEXTS, PLAIN, b'a,"x\r\ny\n"\r\n"\r",b\r\n'),
    "an empty line is a row": ("CREATE TABLE t (k text)", PLAIN, b"\n\na\n\n"),
    "null and empty": (TEXTS, PLAIN, b'a,\na,""\n,\n"",x\n,""\n'),
    "carriage returns": (NUMBERS, PLAIN, rows(20, b"\r")),
    "carriage return and newline": (NUMBERS, PLAIN, rows(20, b"\r\n")),
    "header": (NUMBERS, csv("HEADER"), b'"a ""header""\nof two lines",x\n' + rows(20)),
    "header match": (NUMBERS, csv("HEADER match"), b'"k",v\n' + rows(20)),
    "header alone": (NUMBERS, csv("HEADER"), b"k,v\n"),
    "header alone, no newline": (NUMBERS, csv("HEADER true"), b"k,v"),
    "header, nothing": (NUMBERS, csv("HEADER true"), b""),
    "backslash is data": (TEXTS, PLAIN, b"a\\,b\\n\n\\N,\\t\n\\\\.,x\n"),
    "marker quoted is data": (TEXTS, PLAIN, b'"\\.",a\nb,"\\."\n'),
    "marker in a field is data": (TEXTS, PLAIN, b"a\\.b,c\nd,x\\.\n"),
    "escape": (TEXTS, csv("ESCAPE '\\'"), b'a,"x\\"y"\n"k\\\\",b\nc\\d,e\n"\\n",f\n'),
    "escape outside quotes is data": (TEXTS, csv("ESCAPE '!'"), b'a!,b\n!"c!"d",e\n'),
    "quote": (TEXTS, csv("QUOTE ''''"), b"'a,b','it''s'\n\"c,d\"\n"),
    "quote and escape alike": (TEXTS, csv("QUOTE '$', ESCAPE '$'"), b"$a,b$,$$\n$$$$,c\n"),
    "quote that SQL escapes": (TEXTS, csv("QUOTE E'\\x01'"), b"\x01a,b\x01,c\n"),
    "delimiter": (NUMBERS, csv("DELIMITER ';'"), b'1;"a;b"\n2;c,d\n'),
    "delimiter tab": (NUMBERS, csv("DELIMITER E'\\t'"), b'1\t"a\tb"\n2\tc,d\n'),
    "null marker": (NUMBERS, csv("NULL 'nil'"), b'nil,a\n1,nil\n2,"nil"\n3,\n'),
    "null marker NULL in the key": (TEXTS, csv("NULL 'NULL'"), b'NULL,a\n"NULL",b\n,c\n"",d\n'),
    "default marker": (DEFAULTS, csv("DEFAULT '\\D'"), b'\\D,a\n1,\\D\n\\D,\\D\n3,"\\D"\n'),
    "force_null": (TEXTS, csv("FORCE_NULL (k)"), b'"",a\n,b\n"","" \n'),
    "force_null and a marker": (TEXTS, csv("NULL 'x', FORCE_NULL (k, v)"), b'"x","x"\nx,x\n,\n'),
    "force_not_null": (TEXTS, csv("FORCE_NOT_NULL (k)"), b'"",a\n,b\n'),
    "force_not_null and a marker": (TEXTS, csv("NULL 'x', FORCE_NOT_NULL (k)"), b'"x",x\nx,x\n,\n'),
    "force_null and force_not_null": (TEXTS, csv("FORCE_NULL (k), FORCE_NOT_NULL (k)"), b'"",a\n,b\n'),
    "force both ways": (TEXTS, csv("FORCE_NOT_NULL (v), FORCE_NULL (k), NULL 'n'"), b'n,n\n"n","n"\n'),
    "byte order mark is data": (TEXTS, PLAIN, b"\xef\xbb\xbfa,b\n"),
    "byte order mark in the header": (TEXTS, csv("HEADER"), b"\xef\xbb\xbfk,v\na,b\n"),
    "empty": (NUMBERS, PLAIN, b""),
    "one row": (NUMBERS, PLAIN, b"1,a\n"),
    "many rows": (NUMBERS, PLAIN, rows(3000)),
    "long quoted values": (TEXTS, PLAIN, b"".join(b'%d,"%b"\n' % (n, b'x,""\n' * 9000) for n in range(5))),
    "old syntax": (NUMBERS, "COPY t FROM STDIN CSV HEADER DELIMITER ';'", b"k;v\n1;a\n2;b\n"),
    "old syntax, all of it": (
        TEXTS,
        "COPY t (k, v) FROM STDIN WITH DELIMITER AS '|' NULL AS 'n' CSV QUOTE AS '$' ESCAPE AS '%' FORCE NOT NULL k",
        b"n|n\n$a%$b$|$$\n",
    ),
    "old syntax, force null": (TEXTS, "COPY t FROM STDIN CSV FORCE NULL k NULL ''", b'"",""\n,\n'),
    "format in capitals": (NUMBERS, "COPY t FROM STDIN WITH (FORMAT CSV)", b'1,"a"\n'),
    "format quoted": (NUMBERS, "COPY t FROM STDIN WITH (FORMAT 'csv')", b'1,"a"\n'),
}  # fmt: skip


@pytest.mark.parametrize("name", LOADS)
def test_csv_loads(arena: Arena, name: str) -> None:
    outcome = arena.compare_ways(*LOADS[name])
    assert outcome.last.error is None
    assert outcome.last.tags == [f"COPY {len(outcome.rows)}"]


REFUSALS = {
    "newline behind carriage returns": (NUMBERS, PLAIN, rows(3, b"\r") + rows(2), 4),
    "carriage return behind newlines": (NUMBERS, PLAIN, rows(3) + rows(2, b"\r"), 4),
    "carriage return and newline behind newlines": (NUMBERS, PLAIN, rows(3) + rows(2, b"\r\n"), 4),
    "newlines behind carriage return and newline": (NUMBERS, PLAIN, rows(3, b"\r\n") + rows(2), 4),
    "header has another style": (NUMBERS, csv("HEADER"), b"k,v\r\n" + rows(2), 2),
    "unterminated quote": (NUMBERS, PLAIN, rows(5) + b'6,"x\ny\n', 8),
    "unterminated quote in the key": (TEXTS, PLAIN, b'a,b\n"c', 2),
    "unterminated quote, escaped": (TEXTS, PLAIN, b'a,b\nc,"d""', 2),
    "header that does not match": (NUMBERS, csv("HEADER match"), b"k,w\n" + rows(5), 1),
    "header that is too long": (NUMBERS, csv("HEADER match"), b"k,v,w\n" + rows(5), 1),
    "header with a null": (NUMBERS, csv("HEADER match"), b"k,\n" + rows(5), 1),
    "bad key": (NUMBERS, PLAIN, rows(50) + b'"x",y\n' + rows(50), 51),
    "bad quoted empty key": (NUMBERS, PLAIN, rows(50) + b'"",y\n' + rows(50), 51),
    "bad key with force_not_null": (NUMBERS, csv("FORCE_NOT_NULL (k)"), rows(50) + b",y\n" + rows(50), 51),
    "bad value": ("CREATE TABLE t (k int, v int)", PLAIN, b"1,1\n" * 20 + b"2,x\n" + b"3,3\n" * 20, 21),
    "header counts": ("CREATE TABLE t (k int, v int)", csv("HEADER"), b"k,v\n" + b"1,1\n" * 20 + b"2,x\n", 22),
    "newlines inside quotes count": (TEXTS, PLAIN, b'a,"1\n2\n3"\n' * 5 + b"b\n" + rows(9), 14),
    "newline in quotes in front of the first line end does not count": (
        TEXTS,
        csv("HEADER"),
        b'"a\nb",c\n' + b"d\n",
        2,
    ),
    "other newlines inside quotes do not count": (TEXTS, PLAIN, b'a,b\nc,"1\r2\r\n3"\n' * 5 + b"b\n" + rows(9), 16),
    "carriage return in quotes in front of the first line end counts": (TEXTS, PLAIN, b'a,"1\r2\n3"\r\nb\r\n', 3),
    "too few columns, key there": (NUMBERS, PLAIN, rows(9) + b"1\n" + rows(5), 10),
    "too few columns, key missing": ("CREATE TABLE t (v text, k int)", PLAIN, b"a,1\nb\nc,2\n", 2),
    "too many columns": (NUMBERS, PLAIN, rows(9) + b"1,a,b\n", 10),
    "empty line in a table of two": (NUMBERS, PLAIN, rows(2) + b"\n" + rows(2), 3),
    "not null": ("CREATE TABLE t (k int, v text NOT NULL)", PLAIN, rows(7) + b"1,\n" + rows(7), 8),
    "not UTF-8": (TEXTS, PLAIN, b"a,b\nc,\xff\xfe\n", 2),
    "not UTF-8 in a quoted key": (TEXTS, PLAIN, b'a,b\n"c\xc3",d\n', 2),
    "NUL byte": (TEXTS, PLAIN, b'a,b\nc,"d\0e"\n', 2),
    "NUL byte, CR": (TEXTS, PLAIN, b"a,b\rc,d\0e\rf,g\r", 2),
    "NUL byte at the end, CR": (TEXTS, PLAIN, b"a,b\rc,\0\r", 2),
    "semicolons": (NUMBERS, csv("DELIMITER ';'"), b"1;2\n3,4\n", 2),
    "default marker refused": (NUMBERS, csv("DEFAULT '\\D'"), b"1,a\n\\D,x,y\n", 2),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_csv_refusals(arena: Arena, name: str) -> None:
    ddl, sql, data, line = REFUSALS[name]
    outcome = arena.compare_ways(ddl, sql, data)
    assert (outcome.last.line, outcome.rows) == (line, [])


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_marker_alone_on_a_line(arena: Arena, newline: bytes) -> None:
    """Up to 17 it ends COPY; to 18 it is data."""
    one = "CREATE TABLE t (k text)"
    outcome = arena.compare_ways(one, PLAIN, newline.join([b"a", b"b", b"\\.", b"c", b""]))
    assert outcome.last.tags == ["COPY 2" if arena.version < 18 else "COPY 4"]
    arena.compare_ways(one, PLAIN, b"\\." + newline + b"a" + newline)
    arena.compare_ways(one, PLAIN, b"a" + newline + b"\\.")


@pytest.mark.parametrize(
    "data", [b"a,b\n\\.\r\n", b"a,b\r\n\\.\n", b"a,b\n\\.x\nc,d\n", b"\\.,\n\\.,\\.\n", b'\\."",a\n', b"a,b\n\\"]
)
def test_marker_look_alikes(arena: Arena, data: bytes) -> None:
    arena.compare_ways(TEXTS, PLAIN, data)


def test_lines_of_bad_rows_far_apart(arena: Arena) -> None:
    """The smallest line is reported, though its shard has read later than others."""
    data = rows(20_000)
    cut = data.index(b"9001,")
    broken = data[:cut] + b'"\n\n' + data[cut:]
    outcome = arena.compare(NUMBERS, Copy(PLAIN, broken + b"y,z\n" * 100, frames=range(8192, len(data), 8192)))
    assert outcome.last.line is not None


def test_force_star(arena: Arena) -> None:
    """FORCE_NULL * came with 17."""
    arena.compare_ways(TEXTS, csv("FORCE_NULL *"), b'"",""\n,\n')
    arena.compare_ways(TEXTS, csv("FORCE_NOT_NULL *"), b'"",""\n,\n')

"""What was converted, as a PostgreSQL 18 reads it, is what the option promises."""

from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardproxy.loader.input import Column, Reading
from tests.support.reference_splitter import Options, csv_fields
from tests.unit.loader.conftest import ReadBytes, Target, options, read_files

FEW = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

VALUES = st.text(st.sampled_from("ab N\\\"',;\n\r\t\b\x1aé€0."), max_size=6)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@FEW
@given(rows=st.lists(st.tuples(st.none() | VALUES, st.none() | VALUES), min_size=1, max_size=8), data=st.data())
def test_mysql(rows: list[tuple[str | None, str | None]], data: st.DataObject, tmp_path: Path, target: Target) -> None:
    """As SELECT … INTO OUTFILE … OPTIONALLY ENCLOSED BY '"' writes it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\\n", "\0": "\\0"}

    def spell(value: str | None) -> str:
        if value is None:
            return data.draw(st.sampled_from(["\\N", "NULL"]))
        inside = "".join(
            data.draw(st.sampled_from([escapes[c], c + c])) if c == '"' else escapes.get(c, c) for c in value
        )
        plain = "".join({",": "\\,", "\r": "\\r", '"': '\\"'}.get(c) or escapes.get(c, c) for c in value)
        return data.draw(st.sampled_from([f'"{inside}"', plain])) if value not in {"", "NULL"} else f'"{inside}"'

    text = "".join(",".join(map(spell, row)) + "\n" for row in rows)
    target.create("CREATE TABLE t (a text, b text)")
    reading = Reading(options(escape="\\"), layout="mysql")
    made = read_files([written(tmp_path / "file", text.encode())], reading, target.columns)
    assert target.load(made) == rows


RAW = st.sampled_from(
    ["", "NULL", '"NULL"', "n/a", "x", " x", "x ", '" x "', ' "q,""\n" ', "\t", '""', "N", '"n/a"', '" "', "é"]
)


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("quoted_nulls", [False, True])
@pytest.mark.parametrize("nulls", [(), ("", "NULL", "n/a"), ("NULL", "n/a"), ("NULL",)])
@settings(FEW, max_examples=5)
@given(rows=st.lists(st.tuples(RAW, RAW), min_size=1, max_size=30))
def test_nulls_and_trim(
    trim: bool, quoted_nulls: bool, nulls: tuple[str, ...], rows: list[tuple[str, str]], tmp_path: Path, target: Target
) -> None:
    def promised(raw: str) -> str | None:
        if trim:
            raw = raw.strip(" \t")
        [(_, value, plain)] = csv_fields(raw.encode(), Options(format="csv", delimiter=b"\x01"))
        spelled = value.decode()
        return None if spelled in (nulls or ("",)) and (plain or quoted_nulls) else spelled

    text = "".join(f"{a},{b}\n" for a, b in rows)
    target.create("CREATE TABLE t (a text, b text)")
    reading = Reading(options(), nulls=nulls, quoted_nulls=quoted_nulls, trim=trim)
    made = read_files([written(tmp_path / "file", text.encode())], reading, target.columns)
    assert target.load(made) == [(promised(a), promised(b)) for a, b in rows]
    assert made.originals == [f"{a},{b}\n".encode() for a, b in rows]


@FEW
@given(
    numbers=st.lists(
        st.tuples(st.decimals(-(10**9), 10**9, places=3), st.booleans(), st.booleans()), min_size=1, max_size=20
    ),
    marks=st.sampled_from([(",", "."), (",", " "), (".", ","), (",", ""), ("/", "'")]),
)
def test_numbers(
    numbers: list[tuple[Decimal, bool, bool]], marks: tuple[str, str], tmp_path: Path, target: Target
) -> None:
    decimal, thousands = marks
    lines = []
    for value, grouped, blank in numbers:
        text = f"{value:,}" if grouped else str(value)
        text = text.replace(",", "\x01").replace(".", decimal).replace("\x01", thousands)
        lines.append(f'"{" " * blank}{text}{" " * blank}",{text.replace(",", ";")}\n')
    target.create("CREATE TABLE t (n numeric, c text)")
    reading = Reading(options(), decimal=decimal, thousands=thousands)
    made = read_files([written(tmp_path / "file", "".join(lines).encode())], reading, target.columns)
    assert [row[0] for row in target.load(made)] == [value for value, _, _ in numbers]


@pytest.mark.parametrize("value", ["1.5", "1.2345", ".5", "1.234.5", "1.2e3"])
def test_a_number_that_postgresql_would_read_as_another_is_refused(value: str, read_bytes: ReadBytes) -> None:
    made = read_bytes(f"1\n{value}\n2\n".encode(), [Column("n", "numeric")], decimal=",", thousands=" ")
    assert made.rows == [b"1\n", b"2\n"]
    [fault] = made.faults
    assert (fault.before, fault.error.sqlstate, fault.error.line) == (1, "22P02", 2)
    assert fault.error.message == f'invalid input syntax for type numeric: "{value}"'


@FEW
@given(rows=st.lists(st.tuples(st.text("aé €", max_size=4), st.text("xyü", max_size=3)), min_size=1, max_size=10))
def test_fixed_widths_are_characters(rows: list[tuple[str, str]], tmp_path: Path, target: Target) -> None:
    text = "".join(f"{a:4}{b:3}\r\n" for a, b in rows)
    target.create("CREATE TABLE t (a text, b text)")
    reading = Reading(options(), layout="fixed", widths=(4, 3))
    made = read_files([written(tmp_path / "file", text.encode())], reading, target.columns)
    assert target.load(made) == [(a.rstrip(" ") or None, b or None) for a, b in rows]


def test_fixed_width_rows_that_do_not_fit(read_bytes: ReadBytes, target: Target) -> None:
    target.create("CREATE TABLE t (a text, b text)")
    made = read_bytes(b"abcdef\nab\nabcdefg\n", target.columns, layout="fixed", widths=(2, 4), skip=0)
    assert target.load_by_row(made) == {3: "22P04"}
    assert target.stored() == [("ab", "cdef"), ("ab", None)]


def test_dates_are_read_in_the_order_told(read_bytes: ReadBytes, target: Target) -> None:
    target.create("CREATE TABLE t (d date)")
    made = read_bytes(b"03/04/2020\n", target.columns, date_order="DMY")
    assert made.data == b"03/04/2020\n"
    target.set(Reading(options(), date_order="DMY").settings)
    try:
        [(found,)] = target.load(made)
        assert (found.day, found.month) == (3, 4)
    finally:
        target.set({"DateStyle": "ISO, MDY"})


@FEW
@given(
    order=st.permutations(["a", "b", "gen", "extra", "c"]),
    rows=st.lists(st.tuples(*[st.sampled_from(["1", '"x,y"', "", '"\n"'])] * 5), min_size=1, max_size=5),
)
def test_a_header_names_the_columns(
    order: list[str], rows: list[tuple[str, ...]], tmp_path: Path, target: Target
) -> None:
    text = ",".join(order) + "\n" + "".join(",".join(row) + "\n" for row in rows)
    target.create("CREATE TABLE t (c2 text, a text, b text, k text, gen text GENERATED ALWAYS AS (a) STORED)")
    reading = Reading(options(), by_name=True, map={"c": "c2"}, constants={"k": 'fi"x,ed'}, extra_columns="ignore")
    made = read_files([written(tmp_path / "file", text.encode())], reading, target.columns)
    meaning = {"1": "1", '"x,y"': "x,y", "": None, '"\n"': "\n"}

    def promised(row: tuple[str, ...]) -> tuple[str | None, ...]:
        named = {name: meaning[raw] for name, raw in zip(order, row, strict=True)}
        return (named["c"], named["a"], named["b"], 'fi"x,ed', named["a"])

    assert target.load(made) == [promised(row) for row in rows]
    expected = {"EXTRA_COLUMN": len(rows), "GENERATED_COLUMN": len(rows), "CONSTANT": len(rows)}
    assert made.counts == expected


def test_text_keeps_its_escapes(read_bytes: ReadBytes, target: Target) -> None:
    target.create("CREATE TABLE t (a text, b numeric, k text)")
    data = b"x\\ty\t1,5\n-\t\\N\nq\\\n\t\\N\n"
    made = read_bytes(
        data, target.columns, copy={"format": "text"}, decimal=",", nulls=("\\N", "-"), constants={"k": "a\tb\\"}
    )
    assert target.load(made) == [("x\ty", Decimal("1.5"), "a\tb\\"), (None, None, "a\tb\\"), ("q\n", None, "a\tb\\")]
    assert made.counts == {"NUMBER": 1, "NULL": 1, "CONSTANT": 3}


def test_tabs_between_quoted_values(read_bytes: ReadBytes, target: Target) -> None:
    target.create("CREATE TABLE t (a text, b text)")
    made = read_bytes(b'1\t"x\ty"\n2\t\n', target.columns, copy={"delimiter": "\t"})
    assert target.load(made) == [("1", "x\ty"), ("2", None)]


@pytest.mark.parametrize("first", ["plain", '"two\nlines"', '"three\r\nlines\r\n"'])
@pytest.mark.parametrize("style", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("bad", range(3))
def test_the_row_of_a_server_s_line(first: str, style: str, bad: int, read_bytes: ReadBytes, target: Target) -> None:
    target.create("CREATE TABLE t (a text, n integer)")
    rows = [f"{text},{'x' if number == bad else number}{style}" for number, text in enumerate([first, '"a\nb"', "c"])]
    made = read_bytes("".join(rows).encode())
    [(_, [chunk])] = made.files
    with pytest.raises(psycopg.Error) as caught:
        target.load(made)
    line = int((caught.value.diag.context or "").partition("line ")[2].partition(",")[0])
    assert chunk.row_at(line) == bad


@pytest.mark.parametrize("encoding", ["utf-16le", "utf-32", "SJIS", "WIN1252", "GB18030"])
def test_encodings(encoding: str, read_bytes: ReadBytes, target: Target) -> None:
    codec = {"SJIS": "cp932", "WIN1252": "cp1252"}.get(encoding, encoding)
    word = "ソース" if encoding in {"SJIS", "GB18030"} else "Müller"
    target.create("CREATE TABLE t (a int, b text)")
    lines = [f"1,{word}\n", f'2,"{word}, {word}"\n']
    made = read_bytes("".join(lines).encode(codec), copy={"encoding": encoding})
    assert target.load(made) == [(1, word), (2, f"{word}, {word}")]
    mark = 4 if encoding == "utf-32" else 0
    first = len(lines[0].encode(codec)) - mark
    assert [place.offset for place in made.places] == [mark, mark + first]

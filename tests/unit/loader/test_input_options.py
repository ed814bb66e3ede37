"""Options of reading that need no server: what they refuse, what they leave to COPY, and what they count."""

from typing import Any

import pytest

from shardproxy.copy.options import STAR
from shardproxy.errors import PgError
from shardproxy.loader.input import Column, InputError, Reading
from tests.unit.loader.conftest import ReadBytes, options

TABLE = [Column("id", "int4"), Column("Name"), Column("total", "numeric", generated=True)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"copy": {"format": "binary"}, "trim": True}, "binary rows"),
        ({"copy": {"quote": ","}}, "contradict each other"),
        ({"layout": "fixed"}, "need widths"),
        ({"map": {"a": "b"}}, "a map needs a header"),
        ({"copy": {"header": True}, "by_name": True}, "either skipped or names"),
        ({"decimal": ",", "thousands": ","}, "cannot be the thousands mark"),
        ({"true": ("x",), "false": ("X",)}, "either true or false"),
        ({"max_row_bytes": 0}, "max_row_bytes is between"),
        ({"limit": -1}, "not negative"),
        ({"comment": ""}, "a comment begins"),
        ({"nulls": ("a\nb",)}, "within one line"),
        ({"copy": {"default": "D"}, "trim": True}, "DEFAULT cannot be combined"),
    ],
)
def test_options_that_exclude_each_other(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PgError, match=message) as caught:
        Reading(options(**given.pop("copy", {})), **given)
    assert caught.value.sqlstate == "22023"


def test_what_copy_can_do_is_left_to_it() -> None:
    one = Reading(options(encoding="LATIN1"), nulls=("n/a",), quoted_nulls=True)
    assert (one.output.null, one.output.force_null, one.output.encoding) == ("n/a", STAR, "LATIN1")
    assert not one.reads_values
    assert Reading(options(encoding="utf-16")).output.encoding == "UTF8"
    assert Reading(options(header="match")).output.header == "none"


@pytest.mark.parametrize(
    ("header", "given", "sqlstate", "message"),
    [
        ("id,nam", {}, "42703", 'the table has no column "nam"'),
        ("id,Name,id", {}, "42701", 'column "id" is given more than once'),
        ("id,Name", {"constants": {"id": "1"}}, "42701", 'column "id" is given more than once'),
        ("id,Name", {"map": {"nome": "Name"}}, "42703", 'the header has no column "nome"'),
        ("id,Name", {"map": {"id": "it"}, "extra_columns": "ignore"}, "42703", 'the table has no column "it"'),
        ("id,Name", {"constants": {"x": "1"}}, "42703", 'the table has no column "x"'),
    ],
)
def test_headers_that_do_not_fit(
    header: str, given: dict[str, Any], sqlstate: str, message: str, read_bytes: ReadBytes
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_bytes(f"#\n{header}\n1,2\n".encode(), TABLE, by_name=True, comment="#", **given)
    assert (caught.value.sqlstate, caught.value.line) == (sqlstate, 2)


def test_a_header_that_ends_with_a_delimiter(read_bytes: ReadBytes) -> None:
    with pytest.raises(InputError, match='the table has no column ""') as caught:
        read_bytes(b"id,Name,\n1,2,\n", TABLE, by_name=True)
    assert caught.value.hint == "The header ends with a delimiter. If the rows do, too, set trailing_delimiter."
    assert read_bytes(b"id,Name,\n1,2,\n", TABLE, by_name=True, trailing_delimiter=True).data == b"1,2\n"


def test_a_header_differs_from_the_columns_in_case_alone(read_bytes: ReadBytes) -> None:
    made = read_bytes(b"NAME, ID \nx,1\n", TABLE, by_name=True)
    assert made.files[0][0].columns == ("Name", "id")
    assert made.data == b"x,1\n"


def test_header_match_compares_without_the_generated_column(read_bytes: ReadBytes) -> None:
    assert read_bytes(b"id,Name\n1,x\n", TABLE, copy={"header": "match"}).data == b"1,x\n"
    with pytest.raises(InputError, match="wrong number of fields in header line: got 1, expected 2"):
        read_bytes(b"id\n1\n", TABLE, copy={"header": "match"})


def test_rows_that_lack_a_field_or_have_one_more_are_faults_where_columns_are_left_out(read_bytes: ReadBytes) -> None:
    made = read_bytes(b"id,x\n1,2\n3\n4,5,6\n7,8\n", TABLE, by_name=True, extra_columns="ignore")
    assert made.rows == [b"1\n", b"7\n"]
    assert [(fault.before, fault.place.line, fault.error.sqlstate) for fault in made.faults] == [
        (1, 3, "22P04"),
        (1, 4, "22P04"),
    ]
    assert made.originals == [b"1,2\n", b"7,8\n"]


@pytest.mark.parametrize("first", ["", "sep=;\n", "title\nof it\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_stands_in_front_of_the_rows(first: str, end: str, read_bytes: ReadBytes) -> None:
    data = (first + '# exported\n\n"id\n";b\n# by it\n1;2\n').replace("\n", end).encode()
    made = read_bytes(
        data,
        copy={"delimiter": ";", "header": True},
        comment="#",
        blank_lines="skip",
        skip=2 if first.startswith("title") else 0,
    )
    assert made.rows == [f"1;2{end}".encode()]
    assert made.places[0].offset == len(data) - len(made.rows[0])
    assert made.places[0].line == data.count(end.encode())
    assert made.counts["COMMENT_LINE"] == 2


def test_a_sep_line_that_contradicts_the_option(read_bytes: ReadBytes) -> None:
    with pytest.raises(InputError, match=r'sets the delimiter ";", and the option sets "\|"'):
        read_bytes(b"sep=;\n1;2\n", copy={"delimiter": "|"})
    assert read_bytes(b"sep=;\n", sep_line="data").data == b"sep=;\n"


@pytest.mark.parametrize("rows", [1, 3, 50_000])
def test_a_footer_is_dropped_however_the_data_are_cut(rows: int, read_bytes: ReadBytes) -> None:
    body = b"".join(b"%d,%b\n" % (number, b"x" * 50) for number in range(100_000))
    made = read_bytes(body, skip_footer=rows)
    assert made.data == b"".join(body.splitlines(keepends=True)[:-rows])
    assert made.counts == {"FOOTER_ROW": rows}
    assert read_bytes(b"1\n2\n", skip_footer=3).data == b""


def test_a_limit_counts_rows(read_bytes: ReadBytes) -> None:
    made = read_bytes(b'h\n1,"\n"\n2,x\n3,y\n', copy={"header": True}, limit=2)
    assert made.data == b'1,"\n"\n2,x\n'
    assert read_bytes(b"1\n2\n", limit=0).data == b""
    assert not read_bytes(b"1\n2\n", limit=3).counts


def test_encodings_that_are_not_what_was_told(read_bytes: ReadBytes) -> None:
    for data, told, message in (
        ("\ufeffa".encode("utf-16-be"), None, "the input is UTF-16, not UTF8"),
        ("\ufeffa".encode("utf-32-le"), None, "the input is UTF-32, not UTF8"),
        (b"\xef\xbb\xbfa", "LATIN1", "byte order mark of UTF-8, and its encoding is LATIN1"),
        (b"a\0", "utf-16", "no byte order mark"),
        ("\ufeffa".encode("utf-16-be"), "utf-16le", "begins as UTF-16-BE"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            read_bytes(data, copy={"encoding": told or "UTF8"})
        assert caught.value.sqlstate == "22021"


def test_what_is_no_character_is_an_error_with_its_line(read_bytes: ReadBytes) -> None:
    with pytest.raises(InputError, match="invalid byte sequence") as caught:
        read_bytes(b"1,x\n2,\x83\x5c\n3,\x81,\n", copy={"encoding": "SJIS"})
    assert (caught.value.sqlstate, caught.value.line, caught.value.offset) == ("22021", 3, 11)
    with pytest.raises(InputError, match="UTF-16") as caught:
        read_bytes("a\n".encode("utf-16-le") + b"\x00\xd8", copy={"encoding": "utf-16le"})
    assert (caught.value.line, caught.value.offset) == (2, 4)


def test_columnar_files_are_told(read_bytes: ReadBytes) -> None:
    with pytest.raises(InputError, match="is a Parquet file") as caught:
        read_bytes(b"PAR1\x15\x04")
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize("converted", [False, True])
def test_a_chunk_cut_in_two(converted: bool, read_bytes: ReadBytes) -> None:
    data = b'1,"a\nb"\n2,c \n3,"d"\n4,e\n'
    made = read_bytes(data, trim=converted)
    [(_, [chunk])] = made.files
    for at in range(chunk.rows + 1):
        head, tail = chunk.cut(at)
        assert (head.rows, tail.rows, tail.row) == (at, 4 - at, at)
        assert head.data + tail.data == chunk.data
        places = [part.place(row) for part in (head, tail) for row in range(part.rows)]
        assert places == [chunk.place(row) for row in range(4)]
        originals = [part.original(row) for part in (head, tail) for row in range(part.rows)]
        assert b"".join(originals) == data

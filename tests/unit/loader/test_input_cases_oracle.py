"""The awkward inputs of tests/support/loads that are about reading, each loaded into a PostgreSQL 18."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from shardproxy.loader.input import InputError
from tests.support.loads import CASES, Case
from tests.unit.loader.conftest import Read, ReadBytes, Target


@pytest.fixture
def read_case(read_bytes: ReadBytes, target: Target) -> Callable[..., Read]:
    """Make the case's table, and read its file."""

    def run(name: str, **given: Any) -> Read:
        case = CASES[name]
        target.create(case.ddl)
        return read_bytes(case.data, target.columns, **given)

    return run


ReadCase = Callable[..., Read]


def lines(case: Case) -> dict[int, str]:
    """The SQLSTATEs that the case expects, by the last physical line of the row."""
    found, line = {}, 0
    for number, row in enumerate(case.rows, 1 - case.header):
        line += max(1, row.count(b"\n"))
        if number in case.expect:
            found[line] = case.expect[number]
    return found


@pytest.mark.parametrize("name", ["c01", "c02", "c03", "c06", "c07", "c09", "c10", "c13", "c14", "c15", "c23", "c24"])
def test_without_options_each_row_is_what_postgres_says(name: str, read_case: ReadCase, target: Target) -> None:
    made = read_case(name)
    assert made.data == CASES[name].data
    assert target.load_by_row(made) == lines(CASES[name])
    assert not made.counts


@pytest.mark.parametrize("name", ["c12", "c32"])
def test_with_a_header(name: str, read_case: ReadCase, target: Target) -> None:
    made = read_case(name, copy={"header": True})
    assert target.load_by_row(made) == lines(CASES[name])
    assert made.files[0][0].header == CASES[name].rows[0]


def test_c01_an_empty_line_may_be_dropped(read_case: ReadCase, target: Target) -> None:
    made = read_case("c01", blank_lines="skip")
    expected = {line: code for line, code in lines(CASES["c01"]).items() if line != 5}
    assert target.load_by_row(made) == expected
    assert made.counts == {"BLANK_LINE": 1}


def test_c04_utf_16_is_one_error_or_read(read_case: ReadCase, target: Target) -> None:
    with pytest.raises(InputError, match="the input is UTF-16, not UTF8") as caught:
        read_case("c04")
    assert caught.value.sqlstate == "22021"
    made = read_case("c04", copy={"encoding": "utf-16", "header": True})
    assert target.load(made) == [(1, "é"), (2, "ß")]
    assert [place.line for place in made.places] == [2, 3]
    assert [place.offset for place in made.places] == [20, 30]


def test_c05_a_byte_order_mark_is_dropped_and_counted(read_case: ReadCase, target: Target) -> None:
    made = read_case("c05", copy={"header": "match"})
    assert target.load(made) == [(1, "x"), (2, "y")]
    assert made.counts == {"BYTE_ORDER_MARK": 1}
    with pytest.raises(InputError, match='column name mismatch in header line field 1: got "\ufeffa", expected "a"'):
        read_case("c05", copy={"header": "match"}, byte_order_mark="keep")


@pytest.mark.parametrize(
    ("nul", "rows"),
    [
        ("strip", [(1, "x"), (2, "ab"), (3, "y"), (4, "z")]),
        ("replace", [(1, "x"), (2, "a\ufffdb"), (4, "z")]),
    ],
)
def test_c06_nul_bytes(nul: str, rows: list[Any], read_case: ReadCase, target: Target) -> None:
    made = read_case("c06", nul=nul)
    bad = target.load_by_row(made)
    assert target.stored() == rows
    assert bad == ({} if nul == "strip" else {3: "22P02"})
    assert sum(made.counts.values()) == 2
    assert made.originals == list(CASES["c06"].rows)


def test_c07_thousands(read_case: ReadCase, target: Target) -> None:
    made = read_case("c07", thousands=",")
    assert target.load_by_row(made) == {3: "22P02", 4: "22P02"}
    assert (2, Decimal(1213)) in target.stored()
    assert made.counts == {"NUMBER": 1}


def test_c10_booleans(read_case: ReadCase, target: Target) -> None:
    made = read_case("c10", true=("ja",), false=("nein",))
    assert target.load_by_row(made) == {8: "22P02", 10: "22P02"}
    assert (5, True) in target.stored()
    assert made.counts == {"BOOLEAN": 1}


def test_c13_trailing_delimiters(read_case: ReadCase, target: Target) -> None:
    made = read_case("c13", trailing_delimiter=True)
    assert target.load(made) == [(number, f"x{number}") for number in range(1, 21)]
    assert made.counts == {"TRAILING_DELIMITER": 20}


def test_c14_comments(read_case: ReadCase, target: Target) -> None:
    made = read_case("c14", comment="#")
    assert target.load_by_row(made) == {5: "22P02"}
    assert [place.line for place in made.places] == [2, 4, 5]
    assert made.counts == {"COMMENT_LINE": 2}


def test_c15_a_footer(read_case: ReadCase, target: Target) -> None:
    made = read_case("c15", skip_footer=3)
    assert target.load(made) == [(1, "x", 5), (2, "y", 7)]
    assert made.counts == {"FOOTER_ROW": 3}


def test_c17_what_mysql_writes(read_case: ReadCase, target: Target) -> None:
    made = read_case("c17", layout="mysql", copy={"escape": "\\", "null": "\\N"})
    assert target.load(made) == [
        (1, 'say "hi"', None),
        (2, "line\nbreak", "tab\there"),
        (3, "back\\slash", ""),
        (4, None, "N"),
    ]
    assert [place.line for place in made.places] == [1, 2, 4, 5]
    as_copy = read_case("c17", copy={"escape": "\\", "null": "\\N"})
    assert target.load(as_copy)[1] == (2, "line\\\nbreak", "tab\\\there")


def test_c18_a_quote_that_is_not_closed(read_case: ReadCase, target: Target) -> None:
    made = read_case("c18")
    assert target.load(made) == [(1, "x"), (2, "y")]
    [fault] = made.faults
    assert (fault.error.sqlstate, fault.error.detail) == ("22P04", "The quote was opened on line 3.")
    assert (fault.place.line, fault.place.last_line) == (3, 5)
    assert fault.original == b"".join(CASES["c18"].rows[2:])


def test_c18_ends_early_with_a_limit(read_bytes: ReadBytes) -> None:
    data = CASES["c18"].data + b"a,b\n" * 100_000
    with pytest.raises(InputError, match="longer than max_row_bytes") as caught:
        read_bytes(data, max_row_bytes=1000)
    assert (caught.value.sqlstate, caught.value.line, caught.value.offset) == ("54000", 3, 8)
    assert caught.value.detail is not None
    assert "opened on line 3" in caught.value.detail


def test_c29_excel(read_case: ReadCase, target: Target) -> None:
    excel = {"copy": {"delimiter": ";", "encoding": "WIN1252", "header": True}, "decimal": ",", "thousands": "."}
    for given, kind in (({"skip": 1}, "SKIPPED_LINE"), ({}, "SEPARATOR_LINE")):
        made = read_case("c29", **excel, **given)
        assert target.load_by_row(made) == {5: "22P02"}
        assert target.stored() == [(1, Decimal("1.5"), "Müller"), (2, Decimal("1234.50"), "a;b")]
        assert made.counts == {kind: 1, "NUMBER": 2}
    made = read_case("c29", copy={"encoding": "WIN1252", "header": True})
    assert made.files[0][0].options.delimiter == ";"


@pytest.mark.parametrize("version", [17, 18])
def test_c31_an_end_marker_in_csv_loses_no_row(version: int, read_case: ReadCase, target: Target) -> None:
    made = read_case("c31", server_version=version)
    assert target.load(made) == [("x",), ("\\.",), ("\\.",), ("last",)]
    assert made.counts == ({"END_MARKER": 1} if version == 17 else {})
    assert made.originals == list(CASES["c31"].rows)


def test_c31_on_a_server_that_would_lose_rows(read_bytes: ReadBytes, old_target: Target) -> None:
    old_target.create(CASES["c31"].ddl)
    assert old_target.load(read_bytes(CASES["c31"].data)) == [("x",)]
    old_target.create(CASES["c31"].ddl)
    assert len(old_target.load(read_bytes(CASES["c31"].data, server_version=16))) == 4


def test_c32_nothing_to_read(read_case: ReadCase, read_bytes: ReadBytes) -> None:
    assert read_case("c32", copy={"header": True}).rows == []
    assert read_bytes(b"").rows == []
    assert read_bytes(b"", copy={"header": True}).rows == []

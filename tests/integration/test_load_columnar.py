"""Parquet and Arrow files: each value is what it was, and rows that are bad are set aside as CSV."""

import datetime as dt
import decimal
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from shardproxy.errors import PgError
from shardproxy.loader.input.columnar import ROWS
from tests.support.databases import Databases, execute
from tests.support.loading import Loader

pytestmark = pytest.mark.newest

DDL = """
    CREATE TABLE typed (
        id bigint PRIMARY KEY, f float8, r real, s text, b bool, d date, ts timestamp, tz timestamptz, t time,
        dec numeric, raw bytea, words text[], facts jsonb, shape jsonb, i interval, word text, extra text DEFAULT 'none'
    )"""

WHEN = dt.datetime(2020, 1, 2, 3, 4, 5, 6)
ROWS_IN: list[dict[str, Any]] = [
    {
        "id": 2**62,
        "f": 0.1 + 0.2,
        "r": 0.5,
        "s": 'quo"te,\nand ünï\\N',
        "b": True,
        "d": dt.date(1900, 2, 28),
        "ts": WHEN,
        "tz": WHEN.replace(tzinfo=dt.UTC),
        "t": dt.time(23, 59, 59, 999999),
        "dec": decimal.Decimal("-12345678901234567890.10"),
        "raw": b"\x00\xff\\",
        "words": ["a", 'b"', None, ""],
        "facts": {"k": [1, None]},
        "shape": [{"x": 1}],
        "i": dt.timedelta(days=2, seconds=3, microseconds=4),
        "word": "again",
    },
    {"id": 2, "f": float("inf"), "s": "", "words": [], "raw": b"", "word": "again"},
    {"id": 3},
]
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("f", pa.float64()),
        ("r", pa.float32()),
        ("s", pa.large_string()),
        ("b", pa.bool_()),
        ("d", pa.date32()),
        ("ts", pa.timestamp("us")),
        ("tz", pa.timestamp("us", "Europe/Berlin")),
        ("t", pa.time64("us")),
        ("dec", pa.decimal128(30, 2)),
        ("raw", pa.binary()),
        ("words", pa.list_(pa.string())),
        ("facts", pa.struct([("k", pa.list_(pa.int32()))])),
        ("shape", pa.list_(pa.struct([("x", pa.int32())]))),
        ("i", pa.duration("us")),
        ("word", pa.dictionary(pa.int8(), pa.string())),
    ]
)


@pytest.fixture
def loader(one_server: Databases, tmp_path: Path) -> Loader:
    execute(one_server.oracle, f"{DDL}; CREATE TABLE t (id int PRIMARY KEY, a text)")
    return Loader({"to": one_server.oracle}, tmp_path / "rejects")


def write(path: Path, table: pa.Table) -> Path:
    """Write a file of the kind that its name has."""
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    else:
        make = pa.ipc.new_file if path.suffix == ".arrow" else pa.ipc.new_stream
        with make(path, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.arrows"])
def test_types(loader: Loader, one_server: Databases, tmp_path: Path, name: str) -> None:
    file = write(tmp_path / name, pa.Table.from_pylist(ROWS_IN, SCHEMA))
    kind = "parquet" if name == "a.parquet" else "arrow"
    loaded = loader.run(file, table="typed", format=kind, on_error="stop", constant={"extra": "from the file"})
    assert loaded.counts == (3, 3, 0), loaded.summary.error
    names = [field.name for field in SCHEMA]
    found = one_server.oracle_rows(f"SELECT {', '.join(names)}, extra FROM typed ORDER BY id DESC")
    first = dict(zip([*names, "extra"], found[0], strict=True))
    assert first == ROWS_IN[0] | {"extra": "from the file"}
    assert found[1] == (3, *[None] * 15, "from the file")
    second = dict(zip(names, found[2], strict=False))
    assert {name: second[name] for name in ROWS_IN[1]} == ROWS_IN[1]


def test_columns_go_by_name_and_bad_rows_are_csv(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    count = ROWS * 2 + 10
    ids = [7 if n == ROWS + 5 else n for n in range(count)]
    table = pa.table({"more": ids, "A": [f"row\n{n}" for n in range(count)], "id": ids})
    file = write(tmp_path / "a.parquet", table)
    refused = loader.run(file, table="t", format="parquet")
    assert 'the table has no column "more"' in refused.error["message"]
    loaded = loader.run(file, table="t", format="parquet", extra_columns="ignore")
    assert loaded.counts == (count, count - 1, 1)
    assert loaded.facts[0]["line"] == ROWS + 6
    assert loaded.dats == [f'"a","id"\n"row\n{ROWS + 5}","7"\n'.encode()]
    assert loaded.summary.altered == {"values of columns that the table does not have ignored": count}
    corrected = tmp_path / "corrected.csv"
    corrected.write_bytes(loaded.dats[0].replace(b'"7"', b'"1000000"'))
    assert loader.run(corrected, table="t", header="names").counts == (1, 1, 0)


def test_nanoseconds_are_noted(loader: Loader, one_server: Databases, tmp_path: Path) -> None:
    table = pa.table({"id": [1], "ts": pa.array([1577934245000001999], pa.timestamp("ns"))})
    loaded = loader.run(write(tmp_path / "a.parquet", table), table="typed", format="parquet")
    assert loaded.summary.notes == [f"{tmp_path / 'a.parquet'}: PostgreSQL rounds ts to microseconds"]
    assert one_server.oracle_rows("SELECT ts FROM typed") == [(dt.datetime(2020, 1, 2, 3, 4, 5, 2),)]


def test_what_is_no_such_file_is_told(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("id,a\n1,x\n")
    for kind in ("parquet", "arrow"):
        loaded = loader.run(tmp_path / "a.parquet", table="t", format=kind)
        assert (loaded.summary.exit_code, loaded.error["sqlstate"]) == (1, "22P04")
    whole = io.BytesIO()
    pa.parquet.write_table(pa.table({"id": list(range(1000))}), whole)
    (tmp_path / "cut.parquet").write_bytes(whole.getvalue()[:-100])
    assert loader.run(tmp_path / "cut.parquet", table="t", format="parquet").error["sqlstate"] == "22P04"
    with pytest.raises(PgError, match="options for text do not apply"):
        loader.run(tmp_path / "a.parquet", table="t", format="parquet", decimal=",")

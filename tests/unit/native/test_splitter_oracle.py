"""The splitter against PostgreSQL: a stream into one table, against its parts into the table one after the other.

Rows, SQLSTATE, message, hint and the line of the client's input must be the same.
"""

import dataclasses
import random
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.pq import DiagnosticField

from shardproxy.native import KEY_TEXT, Placement, SplitError, Splitter
from shardproxy.session.copy_refusals import UNENDING
from tests.support.databases import Databases, Servers
from tests.support.reference_splitter import Options
from tests.unit.native.test_splitter import (
    BINARY,
    CSV,
    CSV_CASES,
    NSHARDS,
    TEXT,
    TEXT_CASES,
    binary,
    message,
    payloads,
)

STREAMS = 400
KEY = Placement.hash(NSHARDS, [KEY_TEXT])

Failure = tuple[int | None, str, str | None]  # line, SQLSTATE, message
Rows = list[tuple[str | None, str | None]]


@pytest.fixture(scope="module")
def connection(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    databases = Databases.create(servers, shards=0)
    with psycopg.connect(databases.oracle, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (a text, b text)")
        yield connection
    databases.drop()


def statement(options: Options) -> sql.Composed:
    if options.format == "binary":
        return sql.SQL("COPY t FROM STDIN (FORMAT {})").format(sql.SQL("binary"))
    given = [sql.SQL("FORMAT {}").format(sql.SQL(options.format)), sql.SQL("HEADER " + str(options.header))]
    given += [
        sql.SQL(name.upper() + " {}").format(sql.Literal(getattr(options, name).decode()))
        for name in ("delimiter", "null", *(("quote", "escape") if options.format == "csv" else ()))
    ]
    return sql.SQL("COPY t FROM STDIN ({})").format(sql.SQL(", ").join(given))


def copy(connection: psycopg.Connection[Any], payload: bytes, command: sql.Composed) -> tuple[Rows, Failure | None]:
    connection.execute("BEGIN")
    try:
        with connection.cursor() as cursor, cursor.copy(command) as stream:
            stream.write(payload)
        return connection.execute("SELECT a, b FROM t").fetchall(), None
    except psycopg.Error as error:
        return [], _failure(error.sqlstate, error.diag.message_primary, error.diag.context)
    finally:
        connection.execute("ROLLBACK")


def end(connection: psycopg.Connection[Any], payload: bytes, command: sql.Composed) -> Failure | None:
    """Load as the proxy ends a COPY that it has refused itself: with a row that never ends, and CopyFail."""
    wire = connection.pgconn
    wire.exec_(command.as_bytes(connection))
    wire.put_copy_data(payload + UNENDING)
    wire.put_copy_end(b"refused")
    result = wire.get_result()
    while wire.get_result() is not None:
        continue
    assert result is not None
    fields = [
        (result.error_field(field) or b"").decode()
        for field in (DiagnosticField.SQLSTATE, DiagnosticField.MESSAGE_PRIMARY, DiagnosticField.CONTEXT)
    ]
    return None if fields[0] == "57014" else _failure(*fields)


def _failure(sqlstate: str | None, message: str | None, context: str | None) -> Failure:
    line = re.search(r"COPY t, line (\d+)", context or "")
    return int(line[1]) if line else None, sqlstate or "", message


def split(
    connection: psycopg.Connection[Any], payload: bytes, frame: int, options: Options
) -> tuple[Rows, Failure | None]:
    splitter = Splitter(KEY, **dataclasses.asdict(options))
    failures: list[Failure] = []
    sealed: list[tuple[int, bytes]] = []
    try:
        for at in range(0, len(payload), frame):
            splitter.feed(message(payload[at : at + frame]))
        sealed += splitter.finish()
    except SplitError as refused:
        failures.append((refused.line, refused.sqlstate, refused.message))
        sealed += splitter.flush()
    rows: Rows = []
    given_up = bool(failures) and options.format != "binary"
    for shard, part in enumerate(payloads(sealed)):
        if given_up:
            failure = end(connection, part, statement(options))
        else:
            found, failure = copy(connection, part, statement(options))
            rows += found
        if failure is not None:
            line = None if failure[0] is None else splitter.client_line(shard, failure[0])
            failures.append((line, *failure[1:]))
    return rows, min(failures, key=lambda failure: failure[0] or 0, default=None)


def check(connection: psycopg.Connection[Any], payload: bytes, frame: int, options: Options) -> None:
    expected_rows, expected = copy(connection, payload, statement(options))
    rows, failure = split(connection, payload, frame, options)
    assert failure == expected
    if expected is None:
        assert sorted(rows, key=repr) == sorted(expected_rows, key=repr)


def both_columns(payload: bytes, delimiter: bytes) -> bytes:
    """The handwritten cases have rows of any width; more of them load with a second column."""
    return re.sub(rb"(?m)^([^\t,\r\n\\\"]+)$", rb"\1" + delimiter + rb"2", payload)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("name", TEXT_CASES)
def test_text_cases(connection: psycopg.Connection[Any], pg_version: int, name: str, header: bool) -> None:
    if b"\0" in TEXT_CASES[name]:
        pytest.skip("the line of an encoding error depends on the server's buffers")
    options = dataclasses.replace(TEXT, server_version=pg_version, header=header)
    for payload in (TEXT_CASES[name], both_columns(TEXT_CASES[name], b"\t")):
        for frame in (1, 7, 1000):
            check(connection, payload, frame, options)


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("name", CSV_CASES)
def test_csv_cases(connection: psycopg.Connection[Any], pg_version: int, name: str, header: bool) -> None:
    if b"\0" in CSV_CASES[name]:
        pytest.skip("the line of an encoding error depends on the server's buffers")
    options = dataclasses.replace(CSV, server_version=pg_version, header=header)
    for payload in (CSV_CASES[name], both_columns(CSV_CASES[name], b",")):
        for frame in (1, 7, 1000):
            check(connection, payload, frame, options)


def random_stream(rng: random.Random, tokens: list[bytes], delimiter: bytes) -> bytes:
    """Mostly rows of two fields in one newline style, and sometimes not."""
    newline = rng.choice([b"\n", b"\n", b"\r\n", b"\r"])
    out = b""
    for _ in range(rng.randrange(9)):
        fields = [b"".join(rng.choices(tokens, k=rng.randrange(4))) for _ in range(2 if rng.random() < 0.97 else 3)]
        out += delimiter.join(fields) + (newline if rng.random() < 0.97 else rng.choice([b"\n", b"\r", b"\r\n"]))
    return out[: len(out) - rng.choice([0, 0, 1, 2])]


@pytest.mark.newest
def test_random_text(connection: psycopg.Connection[Any], pg_version: int) -> None:
    rng = random.Random(1)
    tokens = [b"a", b"bc", b"\\N", b"\\\\", b"\\t", b"\\x41", b"\\101", b"\\\n", b"\\\t", b"x" * 70, b"1", b"\xc3\xa9"]
    for _ in range(STREAMS):
        options = dataclasses.replace(TEXT, server_version=pg_version, header=rng.random() < 0.2)
        marker = [b"\\."] if rng.random() < 0.1 else []
        check(connection, random_stream(rng, tokens + marker, b"\t"), rng.choice([1, 5, 64, 1000]), options)


@pytest.mark.newest
def test_random_csv(connection: psycopg.Connection[Any], pg_version: int) -> None:
    rng = random.Random(2)
    for _ in range(STREAMS):
        escape = rng.choice([b'"', b'"', b"\\", b"'"])
        options = dataclasses.replace(
            CSV, server_version=pg_version, header=rng.random() < 0.2, escape=escape, null=rng.choice([b"", b"1"])
        )
        quoted = [b'"a,b"', b'"x\ny"', b'"\r\n"', b'"\r"', b'"p' + escape + b'"q"', b'""', b'"' + b"z\n" * 40 + b'"']
        tokens = [b"a", b"bc", b"1", b"\\", b"\xc3\xa9", b"x" * 70, *quoted, *quoted]
        odd = [b'"', b"\\."] if rng.random() < 0.1 else []
        check(connection, random_stream(rng, tokens + odd, b","), rng.choice([1, 5, 64, 1000]), options)


def test_binary(connection: psycopg.Connection[Any]) -> None:
    rows: list[list[bytes | None]] = [[b"a", b"b"], [None, b""], [b"c", None], [b"d" * 100, b"e"]]
    for payload in (binary(*rows), binary(*rows, trailer=False), binary(*rows)[:-9], binary(*rows, [b"x"])):
        check(connection, payload, 1000, BINARY)

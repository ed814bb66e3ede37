"""What the loader's reading tests share: files to read, and a PostgreSQL that takes what was read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from shardproxy.copy.options import STAR, CopyOptions
from shardproxy.loader.input import Alterations, Chunk, Column, Fault, File, Place, Reading, read
from tests.support.databases import Databases, Servers

Row = tuple[Any, ...]


def options(**given: Any) -> CopyOptions:
    """COPY's options, CSV unless told."""
    return CopyOptions.read("from", ({"format": "csv"} | given).items())


@dataclass
class Read:
    """What came out of a reading."""

    altered: Alterations = field(default_factory=Alterations)
    files: list[tuple[File, list[Chunk]]] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return b"".join(chunk.data for _, chunks in self.files for chunk in chunks)

    @property
    def rows(self) -> list[bytes]:
        return [chunk.text(row) for _, chunks in self.files for chunk in chunks for row in range(chunk.rows)]

    @property
    def places(self) -> list[Place]:
        return [chunk.place(row) for _, chunks in self.files for chunk in chunks for row in range(chunk.rows)]

    @property
    def originals(self) -> list[bytes]:
        return [chunk.original(row) for _, chunks in self.files for chunk in chunks for row in range(chunk.rows)]

    @property
    def faults(self) -> list[Fault]:
        return [fault for _, chunks in self.files for chunk in chunks for fault in chunk.faults]

    @property
    def counts(self) -> dict[str, int]:
        return {kind.name: count for kind, count in self.altered.counts.items()}


def read_files(names: Sequence[str | Path], reading: Reading, target: Sequence[Column] | None = None) -> Read:
    """Read to the end."""
    made = Read()
    for file in read([str(name) for name in names], reading, target, made.altered):
        made.files.append((file, list(file.chunks)))
    return made


ReadBytes = Callable[..., Read]


@pytest.fixture
def read_bytes(tmp_path: Path) -> ReadBytes:
    """Read one file of these bytes, with these options of Reading; `copy` has COPY's."""

    def run(data: bytes, target: Sequence[Column] | None = None, **given: Any) -> Read:
        path = tmp_path / "input"
        path.write_bytes(data)
        copy = given.pop("copy", {})
        return read_files([path], Reading(options(**copy), **given), target)

    return run


def copy_statement(table: str, file: File, columns: Sequence[str]) -> sql.Composed:
    """The COPY of a file into a table with these columns."""
    given = file.options
    parts = [sql.SQL("FORMAT {}").format(sql.SQL(given.format))]
    if given.format != "binary":
        names = ("delimiter", "null", *(("quote", "escape") if given.format == "csv" else ()))
        parts += [sql.SQL("{} {}").format(sql.SQL(name.upper()), sql.Literal(getattr(given, name))) for name in names]
    if given.encoding is not None:
        parts.append(sql.SQL("ENCODING {}").format(sql.Literal(given.encoding)))
    if given.force_null == STAR:
        listed = sql.SQL(", ").join(map(sql.Identifier, file.columns or columns))
        parts.append(sql.SQL("FORCE_NULL ({})").format(listed))
    into = sql.Identifier(table)
    if file.columns is not None:
        into = sql.SQL("{} ({})").format(into, sql.SQL(", ").join(map(sql.Identifier, file.columns)))  # type: ignore[assignment]
    return sql.SQL("COPY {} FROM STDIN ({})").format(into, sql.SQL(", ").join(parts))


@dataclass
class Target:
    """A server, and one table `t` of it."""

    connection: psycopg.Connection[Any]

    def create(self, ddl: str) -> None:
        self.connection.execute("DROP TABLE IF EXISTS t")
        self.connection.execute(ddl)

    def set(self, settings: Mapping[str, str]) -> None:
        for name, value in settings.items():
            self.connection.execute("SELECT set_config(%s, %s, false)", (name, value))

    @property
    def columns(self) -> list[Column]:
        """The columns of `t`."""
        rows = self.connection.execute(
            "SELECT attname, typname, attgenerated <> '' FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid "
            "WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum"
        )
        return [Column(*row) for row in rows]

    def copy(self, file: File, data: bytes) -> None:
        statement = copy_statement("t", file, [column.name for column in self.columns])
        with self.connection.cursor() as cursor, cursor.copy(statement) as stream:
            stream.write(file.head + data + file.tail)

    def load(self, made: Read) -> list[Row]:
        """Load each file by one COPY; return the table's rows in their order."""
        for file, chunks in made.files:
            self.copy(file, b"".join(chunk.data for chunk in chunks))
        return self.connection.execute("SELECT * FROM t ORDER BY ctid").fetchall()

    def load_by_row(self, made: Read) -> dict[int, str]:
        """Load each row by a COPY of its own; return the SQLSTATE of bad ones and faults, by their last line."""
        bad = {fault.place.last_line: fault.error.sqlstate for fault in made.faults}
        for file, chunks in made.files:
            for chunk in chunks:
                for row in range(chunk.rows):
                    try:
                        self.copy(file, chunk.text(row))
                    except psycopg.Error as error:
                        bad[chunk.place(row).last_line] = error.sqlstate or ""
        return bad

    def stored(self) -> list[Row]:
        return self.connection.execute("SELECT * FROM t ORDER BY ctid").fetchall()


@contextmanager
def _target(servers: Servers) -> Iterator[Target]:
    databases = Databases.create(servers, shards=0)
    with psycopg.connect(databases.oracle, autocommit=True, prepare_threshold=None) as connection:
        yield Target(connection)
    databases.drop()


@pytest.fixture(scope="module")
def target(servers18: Servers) -> Iterator[Target]:
    """A server of version 18."""
    with _target(servers18) as made:
        yield made


@pytest.fixture(scope="module")
def old_target(servers16: Servers) -> Iterator[Target]:
    """A server of version 16."""
    with _target(servers16) as made:
        yield made

"""From the address of a source to the rows of one query, as a file of the loader."""

from collections.abc import Iterator, Sequence
from typing import Final

from shardproxy.loader.input.alterations import Alterations
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.files import File
from shardproxy.loader.input.reading import Column, Reading
from shardproxy.loader.source import function, postgres, sqlite
from shardproxy.loader.source.rows import rows_file
from shardproxy.sqlstate import INVALID_PARAMETER_VALUE

SCHEMES: Final = ("postgresql", "postgres", "sqlite", "python")


def read_source(
    address: str,
    query: str | None,
    table: str,
    reading: Reading,
    target: Sequence[Column] | None,
    altered: Alterations,
) -> Iterator[File]:
    """Read the rows of a query; without one, of a table of this name. Raises InputError."""
    scheme = address.partition(":")[0]
    match scheme:
        case "postgresql" | "postgres":
            yield postgres.read_file(address, query or postgres.table_sql(table), reading, target, altered)
        case "sqlite":
            result = sqlite.read(address, query or sqlite.table_sql(table))
            yield rows_file(address, result, sqlite.convert, reading, target, altered)
        case "python":
            result = function.read(address, query)
            yield rows_file(address, result, function.convert, reading, target, altered)
        case _:
            hint = "A source is postgresql://…, sqlite:FILE or python:MODULE:FUNCTION."
            raise InputError(
                INVALID_PARAMETER_VALUE, "the source is of no kind that is known", file="source", hint=hint
            )

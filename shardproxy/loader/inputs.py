"""Where the rows of a load come from: its files, or a source."""

from collections.abc import Iterator, Sequence

from shardproxy.loader.input import Alterations, File, Reading, read
from shardproxy.loader.input.files import Limit
from shardproxy.loader.options import LoadOptions
from shardproxy.loader.target.table import Table


def inputs(
    options: LoadOptions, names: Sequence[str], reading: Reading, table: Table, altered: Alterations
) -> Iterator[File]:
    """Return the files of these names, or what the source gives. Raises InputError."""
    if options.source is None:
        return read(names, reading, table.columns, altered)
    from shardproxy.loader.source.open import read_source

    named = options.source_table or table.name
    limit = Limit(reading.limit)
    files = read_source(options.source, options.query, named, reading, table.columns, altered)
    return (limit.of(file, altered) for file in files)

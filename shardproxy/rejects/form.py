"""The COPY statements of a load: the client's options, without those that are the load's own business. Sans-IO."""

import re
from collections.abc import Sequence
from typing import Final

from shardproxy.copy.options import STAR, CopyOptions
from shardproxy.routing.identifiers import ascii_identifier


def copy_sql(
    table: str, columns: Sequence[str], options: CopyOptions, *, where: str = "", skip: bool = False, text: bool = False
) -> str:
    """Return a COPY of whole rows without a header into a table.

    `table` and `where` are SQL. With `skip` PostgreSQL passes over values that a type refuses and tells each, from 17
    on. With `text` the columns are text, and a DEFAULT marker is a value.
    """
    given = [f"FORMAT {options.format}"]
    if options.format != "binary":
        given += [f"DELIMITER {literal(options.delimiter)}", f"NULL {literal(options.null)}"]
        if options.default is not None and not text:
            given.append(f"DEFAULT {literal(options.default)}")
    if options.format == "csv":
        given += [f"QUOTE {literal(options.quote)}", f"ESCAPE {literal(options.escape)}"]
        given += [
            f"{name} {_columns(those)}"
            for name, those in (("FORCE_NULL", options.force_null), ("FORCE_NOT_NULL", options.force_not_null))
            if those
        ]
    if options.encoding is not None:
        given.append(f"ENCODING {literal(options.encoding)}")
    if skip:
        given.append("ON_ERROR ignore, LOG_VERBOSITY verbose")
    names = ", ".join(map(ascii_identifier, columns))
    return f"COPY {table} ({names}) FROM STDIN WITH ({', '.join(given)}) {where}"


_OPERATORS: Final = re.compile(r"(?<=\s)(=|<>|<=|>=|<|>|\+|-|/|&|~~|->>)(?=\s)")


def pinned(sql: str) -> str:
    """Return SQL of the proxy's own with PostgreSQL's own operators, whatever stands first in the search_path.

    Operators have blanks around them, and stand in no constant. IN and LIKE are operators, too: `= ANY` and `~~` are to
    be written for them.
    """
    return _OPERATORS.sub(r"OPERATOR(pg_catalog.\1)", sql)


def literal(text: str) -> str:
    """Return a string constant, which reads the same whatever standard_conforming_strings is."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _columns(names: tuple[str, ...]) -> str:
    return "*" if names == STAR else f"({', '.join(map(ascii_identifier, names))})"

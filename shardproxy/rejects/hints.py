"""What bad rows look like: hints for whoever reads why they were set aside, which nothing acts upon. Sans-IO."""

import re
from typing import Final

from shardproxy.copy.options import CopyOptions

LF: Final = 1
"""Splitter.newline of rows that end in a newline alone."""


def open_quote(row: bytes, line: int, newline: int, options: CopyOptions) -> int | None:
    """Return the line where the quote opens that is not closed in a CSV row, which begins in `line`.

    `newline` is the splitter's.
    """
    if options.format != "csv":
        return None
    quote, escape = (one.encode("utf-8", "surrogateescape") for one in (options.quote, options.escape))
    q, e = re.escape(quote), re.escape(escape)
    # CopyReadLineText(): a quote opens wherever it is, and an escape counts in quotes only.
    escaped = q + q if quote == escape else e + b"."
    inside = re.compile(b"[^%b%b]*+(?:%b[^%b%b]*+)*+" % (q, e, escaped, q, e), re.DOTALL)
    at = row.find(quote)
    while at >= 0:
        found = inside.match(row, at + 1)
        assert found is not None
        closed = found.end()
        if not row.startswith(quote, closed):
            return line + row.count(b"\n" if newline == LF else b"\r", 0, at)
        at = row.find(quote, closed + 1)
    return None

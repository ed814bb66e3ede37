"""The documentation's table of key types, made from the native core's.

`python -m tests.unit.native.key_types` writes it into docs/copy.md; test_key_types.py compares.
"""

import itertools
from pathlib import Path

from shardproxy.native import KeyType, key_types

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "copy.md"
HEAD = "| type | understood | refused by the proxy, 0A000 |\n|---|---|---|\n"


def table() -> str:
    """Return the Markdown table; neighbours of which the same holds share a line."""

    def text(row: KeyType) -> tuple[str, str]:
        return row.understood, row.refused

    groups = itertools.groupby(key_types(), text)
    lines = ((", ".join(row.sql for row in rows), *of_type) for of_type, rows in groups)
    return HEAD + "".join("|" + "".join(f" {cell}".rstrip() + " |" for cell in line) + "\n" for line in lines)


def in_document(text: str) -> str:
    """Return the table as it stands in the document's text."""
    start = text.index(HEAD)
    return text[start : text.index("\n\n", start) + 1]


if __name__ == "__main__":
    written = DOCUMENT.read_text()
    DOCUMENT.write_text(written.replace(in_document(written), table()))

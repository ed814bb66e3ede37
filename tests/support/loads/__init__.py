"""Awkward inputs as they occur, each with its outcome on one PostgreSQL, asked row by row on 16 and 18 (cases.json)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """`rows` are those of the file, the first `header` of them no data; `expect` has the SQLSTATE of the bad ones.

    Its numbers count from 1, after the header.
    """

    id: str
    title: str
    ddl: str
    options: str
    header: int
    expect: Mapping[int, str]
    rows: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        """The whole file."""
        return b"".join(self.rows)


def _read() -> dict[str, Case]:
    found = {}
    for one in json.loads(Path(__file__).with_name("cases.json").read_text()):
        name = one["id"].partition("-")[0]
        found[name] = Case(
            name,
            one["title"],
            one["ddl"],
            one["opts"],
            one["header"],
            {int(row): sqlstate for row, sqlstate in one["expect"].items()},
            tuple(bytes.fromhex(row) for row in one["rows"]),
        )
    return found


CASES = _read()

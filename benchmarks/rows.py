"""The data: rows of exactly 80 bytes (text and CSV), five columns, and CopyData streams made of them.

A stream is one block of whole rows, sent again and again, so that its making costs nothing while it is measured.
"""

import datetime
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from benchmarks.splitter import BINARY_HEADER, field

Format = Literal["csv", "text", "binary"]

ROW = 80
BLOCK_ROWS = 204_800  # 125 frames of 128 KiB: 16 MB, more than a core's cache
COLUMNS = "id bigint, name text, city text, amount integer, created timestamp"
CITIES = ("Birmingham", "Bratislava", "Copenhagen", "Luxembourg", "Manchester", "Strasbourg")
FIRST_ID = 10**9
EPOCH = datetime.datetime(2000, 1, 1)  # of PostgreSQL's binary timestamps
BINARY_ROW = 75


def columns(count: int) -> Iterator[tuple[int, str, str, int, datetime.datetime]]:
    """Rows whose every column has one width in each format."""
    rng = random.Random(1)
    start = datetime.datetime(2025, 3, 1, microsecond=789012)
    for i in range(count):
        created = start + datetime.timedelta(seconds=i)
        name = f"customer-{rng.randrange(10**6):06d}-account"
        yield FIRST_ID + i * 7919 % 10**9, name, rng.choice(CITIES), rng.randrange(10**5, 10**6), created


def lines(count: int, delimiter: str) -> bytes:
    """Rows in text or CSV format, which look the same for these values."""
    text = "".join(f"{delimiter.join(map(str, row))}\n" for row in columns(count)).encode()
    assert len(text) == count * ROW
    return text


def binary(count: int) -> bytes:
    """Rows in binary format, without header and trailer."""
    parts = []
    for key, name, city, amount, created in columns(count):
        microseconds = (created - EPOCH) // datetime.timedelta(microseconds=1)
        values = (struct.pack(">q", key), name.encode(), city.encode(), struct.pack(">i", amount))
        parts.append(struct.pack(">h", 5) + b"".join(map(field, (*values, struct.pack(">q", microseconds)))))
    data = b"".join(parts)
    assert len(data) == count * BINARY_ROW
    return data


def frames(payload: bytes, size: int) -> bytes:
    """Cut a payload into CopyData messages of `size` payload bytes, wherever that cuts the rows."""
    parts = (payload[at : at + size] for at in range(0, len(payload), size))
    return b"".join(b"d" + struct.pack(">I", len(part) + 4) + part for part in parts)


@dataclass(frozen=True)
class Stream:
    """What a client sends: head, `block` as often as wanted, tail; all of it CopyData messages."""

    block: bytes
    rows: int
    head: bytes = b""
    tail: bytes = b""

    def times(self, size: float) -> int:
        """How often the block has to be sent for at least `size` bytes."""
        return max(1, round(size / len(self.block)))


def stream(name: Format, frame: int | None, count: int = BLOCK_ROWS) -> Stream:
    """CopyData messages of `frame` bytes, or of one row each."""
    if name == "binary":
        body = frames(binary(count), frame or BINARY_ROW)
        return Stream(body, count, frames(BINARY_HEADER, 64), frames(b"\xff\xff", 64))
    return Stream(frames(lines(count, "," if name == "csv" else "\t"), frame or ROW), count)


def tiny(frame: int | None, count: int) -> Stream:
    """`count` rows of one byte, a digit."""
    digits = random.Random(1).choices(range(48, 58), k=count)
    payload = bytearray(b"\n") * (2 * count)
    payload[::2] = bytes(digits)
    return Stream(frames(bytes(payload), frame or 2), count)

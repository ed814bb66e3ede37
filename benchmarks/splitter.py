"""The native splitter in memory: gigabytes per second on one core, beside a plain memcpy of the same bytes.

Rows of about 80 bytes in five columns (bigint, text, text, numeric, timestamp), four shards, hash placement.
`python benchmarks/splitter.py [MEGABYTES]`; `run()` gives the same figures as dictionaries.
"""

import random
import struct
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from shardproxy.native import KEY_INT8, Placement, Splitter, force_simd, simd

SHARDS = 4
READ = 262144  # what one socket read brings
BINARY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)


def columns(count: int) -> Iterator[tuple[int, str, str, str, str]]:
    """Rows whose text and CSV forms are about 80 bytes long."""
    rng = random.Random(1)
    for i in range(count):
        name = f"customer-{rng.randrange(10**6):06d}"
        city = rng.choice(("Amsterdam", "Berlin", "Copenhagen", "Dublin"))
        yield i * 7919 % 10**9, name, city, f"{rng.randrange(10**6) / 100:.2f}", "2025-03-01 12:34:56.789012"


def field(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def binary_row(row: tuple[int, str, str, str, str]) -> bytes:
    rest = [field(text.encode()) for text in row[1:]]
    return struct.pack(">h", 5) + field(struct.pack(">q", row[0])) + b"".join(rest)


def stream(payload: bytes, frame: int) -> bytes:
    """CopyData messages of `frame` payload bytes, cutting rows wherever that falls."""
    parts = [payload[i : i + frame] for i in range(0, len(payload), frame)]
    return b"".join(b"d" + struct.pack(">I", len(part) + 4) + part for part in parts)


def row_stream(rows: list[bytes]) -> bytes:
    """One CopyData message for each row."""
    return b"".join(b"d" + struct.pack(">I", len(row) + 4) + row for row in rows)


def best_of(times: int, work: Callable[[], object]) -> float:
    """The shortest of several runs, in seconds."""
    best = float("inf")
    for _ in range(times):
        started = time.process_time()
        work()
        best = min(best, time.process_time() - started)
    return best


def split(data: bytes, options: dict[str, Any]) -> int:
    splitter = Splitter(Placement.hash(SHARDS, [KEY_INT8]), **options)
    view = memoryview(data)
    for at in range(0, len(data), READ):
        splitter.feed(view[at : at + READ])
        splitter.ready()  # dropped, as after a write
    splitter.finish()
    return splitter.rows


def copy(data: bytes) -> None:
    view = memoryview(data)
    for at in range(0, len(data), READ):
        bytes(view[at : at + READ])


def cases(megabytes: int) -> Iterator[tuple[str, bytes, dict[str, Any], str | None, float | None]]:
    """Name, stream, options, forced path, target in GB/s."""
    rows = list(columns(megabytes * 12500))
    for name, delimiter in (("csv", b","), ("text", b"\t")):
        lines = [delimiter.join(str(value).encode() for value in row) + b"\n" for row in rows]
        fourth = [delimiter.join(str(value).encode() for value in (*row[1:4], row[0], row[4])) + b"\n" for row in rows]
        first: dict[str, Any] = {"format": name, "key_fields": [0]}
        data = stream(b"".join(lines), 131072)
        yield f"{name}, key first", data, first, None, 2.0
        yield f"{name}, key first, no vectors", data, first, "plain", 0.6
        yield f"{name}, key first, 8 KiB frames", stream(b"".join(lines), 8192), first, None, None
        yield f"{name}, key first, a row per frame", row_stream(lines), first, None, None
        data = stream(b"".join(fourth), 131072)
        yield f"{name}, key fourth", data, {"format": name, "key_fields": [3]}, None, 1.2
        yield f"{name}, key fourth, no vectors", data, {"format": name, "key_fields": [3]}, "plain", None
    quoted = [f'{row[0]},"{row[1]}","{row[2]}, NL",{row[3]},"{row[4]}"\n'.encode() for row in rows]
    yield (
        "csv with quotes, key first",
        stream(b"".join(quoted), 131072),
        {
            "format": "csv",
            "key_fields": [0],
        },
        None,
        None,
    )
    data = stream(BINARY_HEADER + b"".join(binary_row(row) for row in rows) + b"\xff\xff", 131072)
    yield "binary, key first", data, {"format": "binary", "key_fields": [0]}, None, 1.0


def run(megabytes: int = 64, repeat: int = 3) -> list[dict[str, Any]]:
    """Each case's figures: name, path, gb_s, memcpy_gb_s, target_gb_s, ns_per_row."""
    results: list[dict[str, Any]] = []
    for name, data, options, path, target in cases(megabytes):
        force_simd(path)
        rows = split(data, options)
        seconds = best_of(repeat, partial(split, data, options))
        results.append(
            {
                "name": name,
                "path": "scalar" if options["format"] == "binary" else simd(),
                "gb_s": len(data) / seconds / 1e9,
                "memcpy_gb_s": len(data) / best_of(repeat, partial(copy, data)) / 1e9,
                "target_gb_s": target,
                "ns_per_row": seconds / rows * 1e9,
            }
        )
    force_simd(None)
    return results


def main() -> None:
    print(f"{'':36} {'path':8} {'GB/s':>6} {'target':>7} {'memcpy':>7} {'ns/row':>7}")
    for result in run(int(sys.argv[1]) if len(sys.argv) > 1 else 64):
        target = f"{result['target_gb_s']:.1f}" if result["target_gb_s"] else "-"
        print(
            f"{result['name']:36} {result['path']:8} {result['gb_s']:6.2f} {target:>7} "
            f"{result['memcpy_gb_s']:7.2f} {result['ns_per_row']:7.1f}"
        )


if __name__ == "__main__":
    main()

"""The process that parses long texts for `long_text`: `python -m shardproxy.session.parse_process MEMORY`.

It reads texts from stdin and writes the facts of each to stdout, with whether it stays for another; each after its
length in bytes. A text that needs more than MEMORY, in bytes, ends it.
"""

import gc
import os
import resource
import struct
import sys
from pathlib import Path
from typing import Final

from shardproxy.errors import PgError
from shardproxy.sql import analyze
from shardproxy.sql.packed import pack

LENGTH: Final = struct.Struct("!Q")
"""What stands before a text and before an answer."""

KEEP: Final = 256 << 20
"""Bytes of resident memory beyond which the process has done its work: what it has freed would stay with it."""

GIVES_WAY: Final = 5
"""What is added to its nice value: where there are fewer cores than work, other clients come first."""


def main(memory: int) -> None:
    """Serve until stdin ends."""
    gc.disable()  # trees have no cycles, and to look for them takes as long as to parse
    os.nice(GIVES_WAY)
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    stays = True
    while stays and (header := sys.stdin.buffer.read(LENGTH.size)):
        [size] = LENGTH.unpack(header)
        try:
            found = _facts(sys.stdin.buffer.read(size).decode("utf-8", "surrogatepass"))
            stays = _resident() < KEEP
            answer = pack((found, stays))
        except MemoryError:
            os._exit(1)
        sys.stdout.buffer.write(LENGTH.pack(len(answer)))
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()


def _resident() -> int:
    """Bytes of resident memory. ru_maxrss begins with that of the process that has started this one: getrusage(2)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def _facts(text: str) -> object:
    try:
        return analyze(text)
    except PgError as error:
        return error.fields


if __name__ == "__main__":
    main(int(sys.argv[1]))

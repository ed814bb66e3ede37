"""What the native splitter must do, written slowly and plainly after PostgreSQL's copyfromparse.c.

It sees the whole payload at once, one byte at a time; the native one sees it cut anywhere. `split` is the reference
of a COPY's rows, `lines_of` that of how a server counts the lines of what it gets.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from shardproxy.native import PLACE_EVERYWHERE, PLACE_INVALID, PLACE_NO_PARTITION, PLACE_UNSUPPORTED

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
Values = list[bytes | None]


@dataclass(frozen=True)
class Options:
    """As `Splitter` takes them."""

    format: str = "text"
    key_fields: Sequence[int] = (0,)
    delimiter: bytes = b"\t"
    quote: bytes = b'"'
    escape: bytes = b'"'
    null: bytes = b"\\N"
    default: bytes | None = None
    default_values: Sequence[bytes | None] | None = None
    header: bool = False
    force_null: Sequence[bool] | None = None
    force_not_null: Sequence[bool] | None = None
    server_version: int = 18


class RefusedError(Exception):
    """`begun` is what is in front of the place in the row: a shard gets it, to look at its bytes."""

    def __init__(self, sqlstate: str, message: str, line: int | None, begun: bytes = b"") -> None:
        super().__init__(sqlstate, message, line)
        self.sqlstate, self.message, self.line, self.begun = sqlstate, message, line, begun


@dataclass
class Result:
    """Each shard's payload and the client lines of its rows, and how it ended."""

    shards: list[bytes]
    client_lines: list[list[int]]
    rows: int = 0
    lines: int = 0
    poison: list[tuple[int, int]] = field(default_factory=list)
    error: tuple[str, str, int | None] | None = None


@dataclass
class Line:
    data: bytes
    newline: bytes  # empty for the last row of a stream that does not end in one
    number: int  # of its last physical line
    broken: bool = False  # a quote is not closed: the server that gets it refuses it


class LineReader:
    """CopyReadLineText(): lines of text or CSV, up to the end of the data."""

    def __init__(self, payload: bytes, options: Options) -> None:
        self.payload, self.options = payload, options
        self.at = self.start = 0
        self.style: bytes | None = None
        self.number = 0
        self.ended = False

    def __iter__(self) -> Iterator[Line]:
        while not self.ended and self.at < len(self.payload):
            line = self.read()
            if line is not None:
                yield line

    def peek(self, at: int) -> bytes:
        return self.payload[at : at + 1]

    def refuse(self, message: str) -> RefusedError:
        return RefusedError("22P04", message, self.number, self.payload[self.start : self.at])

    def newline_at(self, at: int) -> bytes:
        """The newline that begins at `at`, or an error if it is not the stream's style."""
        csv = self.options.format == "csv"
        if self.peek(at) == b"\r":
            found = b"\r\n" if self.style != b"\r" and self.peek(at + 1) == b"\n" else b"\r"
            if self.style in (b"\n", b"\r\n") and found != self.style:
                what = "unquoted" if csv else "literal"
                raise self.refuse(f"{what} carriage return found in data")
            if self.style == b"\n":
                raise self.refuse(f"{'unquoted' if csv else 'literal'} carriage return found in data")
        else:
            found = b"\n"
            if self.style in (b"\r", b"\r\n"):
                raise self.refuse(f"{'unquoted' if csv else 'literal'} newline found in data")
        self.style = found
        return found

    def read(self) -> Line | None:
        self.number += 1
        self.start = self.at
        return self.read_csv() if self.options.format == "csv" else self.read_text()

    def complete(self, start: int) -> Line:
        newline = self.newline_at(self.at)
        data = self.payload[start : self.at]
        self.at += len(newline)
        return Line(data, newline, self.number)

    def end(self, start: int, stop: int) -> Line | None:
        self.ended = True
        return Line(self.payload[start:stop], b"", self.number) if stop > start else None

    def read_text(self) -> Line | None:
        start = self.at
        while self.at < len(self.payload):
            c = self.peek(self.at)
            if c in (b"\r", b"\n"):
                return self.complete(start)
            if c == b"\\":
                if self.peek(self.at + 1) == b".":
                    return self.text_marker(start)
                self.at += 1
            self.at += 1
        return self.end(start, len(self.payload))

    def text_marker(self, start: int) -> Line | None:
        old = self.options.server_version < 18
        corrupt = f"end-of-copy marker {'corrupt' if old else 'is not alone on its line'}"
        mismatch = "end-of-copy marker does not match previous newline style"
        at = self.at + 2
        if self.style == b"\r\n":
            if self.peek(at) == b"\n":
                raise self.refuse(mismatch)
            if self.peek(at) != b"\r":
                raise self.refuse(corrupt)
            at += 1
        if self.peek(at) not in (b"\r", b"\n"):
            raise self.refuse(corrupt)
        if self.style is not None and self.peek(at) != self.style[-1:]:
            raise self.refuse(mismatch)
        if not old and self.at > start:
            raise self.refuse(corrupt)
        return self.end(start, self.at)

    def is_csv_marker(self) -> bool:
        if self.options.server_version >= 18 or self.payload[self.at : self.at + 2] != b"\\.":
            return False
        at = self.at + 2
        if self.style == b"\r\n":
            if self.peek(at) != b"\r":
                return False
            at += 1
        if self.peek(at) not in (b"\r", b"\n"):
            return False
        if self.style is not None and self.peek(at) != self.style[-1:]:
            raise self.refuse("end-of-copy marker does not match previous newline style")
        return True

    def read_csv(self) -> Line | None:
        start = self.at
        quote, escape = self.options.quote, self.options.escape
        in_quote = last_was_escape = False
        if self.is_csv_marker():
            return self.end(start, start)
        while self.at < len(self.payload):
            c = self.peek(self.at)
            if in_quote and c == escape and escape != quote:
                last_was_escape = not last_was_escape
            if c == quote and not last_was_escape:
                in_quote = not in_quote
            if c != escape or escape == quote:
                last_was_escape = False
            if in_quote and c == (b"\n" if self.style == b"\n" else b"\r"):
                self.number += 1
            if not in_quote and c in (b"\r", b"\n"):
                return self.complete(start)
            self.at += 1
        if in_quote:
            self.ended = True
            return Line(self.payload[start:], b"", self.number, broken=True)
        return self.end(start, len(self.payload))


ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def text_fields(row: bytes, options: Options) -> Iterator[tuple[bytes, bytes, bool]]:
    """Each field: as written, de-escaped, and whether NULL may be told from the written form."""
    at, raw, value = 0, b"", b""
    while at < len(row):
        c = row[at : at + 1]
        at += 1
        if c == options.delimiter:
            yield raw, value, True
            raw = value = b""
            continue
        if c != b"\\":
            raw, value = raw + c, value + c
            continue
        if at == len(row):
            break
        start = at - 1
        c = row[at : at + 1]
        at += 1
        if c in b"01234567":
            while at < len(row) and at - start < 4 and row[at : at + 1] in b"01234567":
                at += 1
            value += bytes([int(row[start + 1 : at], 8) & 255])
        elif c == b"x" and row[at : at + 1] and row[at : at + 1] in b"0123456789abcdefABCDEF":
            at += 1
            if row[at : at + 1] and row[at : at + 1] in b"0123456789abcdefABCDEF":
                at += 1
            value += bytes([int(row[start + 2 : at], 16)])
        else:
            value += ESCAPES.get(c, c)
        raw += row[start:at]
    yield raw, value, True


def csv_fields(row: bytes, options: Options) -> Iterator[tuple[bytes, bytes, bool]]:
    raw, value, in_quote, quoted = b"", b"", False, False
    at = 0
    while at < len(row):
        c, following = row[at : at + 1], row[at + 1 : at + 2]
        at += 1
        if not in_quote and c == options.delimiter:
            yield raw, value, not quoted
            raw, value, quoted = b"", b"", False
            continue
        raw += c
        if in_quote and c == options.escape and following in (options.escape, options.quote) and following:
            raw, value = raw + following, value + following
            at += 1
        elif c == options.quote:
            in_quote, quoted = not in_quote, True
        else:
            value += c
    yield raw, value, not quoted


def key_values(row: bytes, options: Options) -> Values | None:
    """The key columns' values, or None for a row with too few fields."""
    fields = list((csv_fields if options.format == "csv" else text_fields)(row, options))
    values: Values = []
    for i, number in enumerate(options.key_fields):
        if number >= len(fields):
            return None
        raw, found, may_be_null = fields[number]
        value: bytes | None = found
        if may_be_null and raw == options.null:
            value = None
        elif options.default is not None and raw == options.default:
            assert options.default_values is not None
            values.append(options.default_values[i])
            continue
        if options.format == "csv":
            if value is None and options.force_not_null and options.force_not_null[i]:
                value = options.null
            elif value == options.null and options.force_null and options.force_null[i]:
                value = None
        values.append(value)
    return values


def lines_of(payload: bytes, options: Options) -> list[int]:
    """The line number a server reports for each row (the header among them) of what it got."""
    return [line.number for line in LineReader(payload, options)]


class _Scatter:
    def __init__(self, nshards: int, place: Callable[[Values], int]) -> None:
        self.result = Result([b""] * nshards, [[] for _ in range(nshards)])
        self.place = place

    def to_all(self, data: bytes) -> None:
        self.result.shards = [shard + data for shard in self.result.shards]

    def row(self, data: bytes, values: Values | None, line: int) -> None:
        shard = PLACE_INVALID if values is None else self.place(values)
        if shard == PLACE_UNSUPPORTED:
            raise RefusedError("0A000", "", line)
        if shard == PLACE_NO_PARTITION:
            raise RefusedError("23514", "", line)
        if shard == PLACE_INVALID:
            shard = 0
            self.result.poison.append((0, line))
        self.result.rows += 1
        self.result.lines = line
        for target in range(len(self.result.shards)) if shard == PLACE_EVERYWHERE else (shard,):
            self.result.shards[target] += data
            self.result.client_lines[target].append(line)


def _split_lines(payload: bytes, options: Options, scatter: _Scatter) -> None:
    reader = LineReader(payload, options)
    header = options.header
    for line in reader:
        if header:
            header = False
            scatter.to_all(line.data + line.newline)
            scatter.result.lines = line.number
            for lines in scatter.result.client_lines:
                lines.append(line.number)
            continue
        # A last row without a newline stays so: nothing follows it, and one could change what it means.
        values = None if line.broken else key_values(line.data, options)
        scatter.row(line.data + line.newline, values, line.number)


def _split_binary(payload: bytes, options: Options, scatter: _Scatter) -> None:
    if payload[:11] != SIGNATURE:
        raise RefusedError("22P04", "COPY file signature not recognized", None)
    if len(payload) < 15:
        raise RefusedError("22P04", "invalid COPY file header (missing flags)", None)
    (flags,) = struct.unpack_from(">I", payload, 11)
    if flags & 1 << 16:
        raise RefusedError("22P04", "invalid COPY file header (WITH OIDS)", None)
    if flags >> 16:
        raise RefusedError("22P04", "unrecognized critical flags in COPY file header", None)
    if len(payload) < 19 or struct.unpack_from(">i", payload, 15)[0] < 0:
        raise RefusedError("22P04", "invalid COPY file header (missing length)", None)
    at = 19 + struct.unpack_from(">i", payload, 15)[0]
    scatter.to_all(payload[:at])  # a long extension is not collected first
    if len(payload) < at:
        raise RefusedError("22P04", "invalid COPY file header (wrong length)", None)
    while at + 2 <= len(payload):
        start, values, refused = at, [], False
        line = scatter.result.lines + 1
        (count,) = struct.unpack_from(">h", payload, at)
        at += 2
        if count == -1:
            scatter.to_all(payload[start:at])
            if at < len(payload):
                raise RefusedError("22P04", "received copy data after EOF marker", line)
            return
        refused = count < -1
        for _ in range(count):
            size = struct.unpack_from(">i", payload, at)[0] if at + 4 <= len(payload) else None
            at += 4
            if size is not None and (size < -1 or size > 0x3FFFFFFE):
                refused = True
                break
            if size is None or at + max(size, 0) > len(payload):
                at, refused = len(payload), True
                break
            values.append(None if size == -1 else payload[at : at + size])
            at += max(size, 0)
        known = not refused and max(options.key_fields) < len(values)
        scatter.row(payload[start:at], [values[i] for i in options.key_fields] if known else None, line)
        if refused:
            return


def split(payload: bytes, options: Options, nshards: int, place: Callable[[Values], int]) -> Result:
    """The whole COPY: `payload` is what all CopyData messages hold together."""
    scatter = _Scatter(nshards, place)
    try:
        (_split_binary if options.format == "binary" else _split_lines)(payload, options, scatter)
    except RefusedError as refused:
        scatter.result.shards[0] += refused.begun
        scatter.result.error = (refused.sqlstate, refused.message, refused.line)
    return scatter.result

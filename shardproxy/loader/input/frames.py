"""Rows found by the native splitter: a file at the speed of reading it.

The splitter's own output, CopyData messages for the one shard of its placement, is dropped; how much of it there is
tells where a row ends. That is certain after a feed in which a row was completed: the splitter gives a row out before
its end only where more than 64 KiB of it have come, and a feed is no longer.
"""

from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Final

from shardproxy.copy.binary import HEADER, SIGNATURE, TRAILER
from shardproxy.copy.options import CopyOptions
from shardproxy.loader.input.chunk import binary_end
from shardproxy.loader.input.errors import InputError
from shardproxy.loader.input.scan import Frame, Scanner
from shardproxy.native import Placement, SplitError, Splitter
from shardproxy.sqlstate import BAD_COPY_FILE_FORMAT, PROGRAM_LIMIT_EXCEEDED

FEED: Final = 1 << 16
"""Bytes of one feed: SP_STREAM_FROM of native/core/copy/split.h."""

_MESSAGE: Final = 5
"""Bytes of a CopyData message before its data."""


class Border:
    """Where the last row ends that the splitter has seen whole. `at` and `fed` count bytes, its header included."""

    def __init__(self, splitter: Splitter) -> None:
        self._splitter = splitter
        self._given = self._completed = 0
        self._long = False
        self.at = self.fed = self.rows = 0

    def feed(self, data: bytes) -> None:
        """Read on. Raises SplitError once; `at` is then a border before what is refused."""
        splitter = self._splitter
        view = memoryview(data)
        long = False
        for start in range(0, len(data), FEED):
            part = view[start : start + FEED]
            splitter.feed(b"d" + (len(part) + 4).to_bytes(4, "big"))
            splitter.feed(part)
            self.fed += len(part)
            completed = splitter.rows > self._completed
            self._completed = splitter.rows
            long = long or not completed
            # A buffer that leaves before it is full costs more than this feed. The end of a piece is border enough,
            # unless rows are long: then each one has to do.
            certain = completed and (self._long or long or start + FEED >= len(data))
            sealed = splitter.flush() if certain else splitter.ready()
            self._given += sum(map(len, (data for _, data in sealed))) - _MESSAGE * len(sealed)
            if certain:
                self.rows, self.at = self._completed, self._given
        self._long = long


class _Comments:
    """Whether a line of a piece may be a comment; one inside quotes looks like one."""

    def __init__(self, comment: bytes | None) -> None:
        self._starts = () if comment is None else (b"\n" + comment, b"\r" + comment)
        self._before = b"\n"

    def begin_in(self, piece: bytes) -> bool:
        if not self._starts:
            return False
        size = len(self._starts[0]) - 1
        seam = self._before + piece[:size]
        self._before = (self._before + piece)[-size:] if len(piece) < size else piece[-size:]
        return any(start in piece or start in seam for start in self._starts)


def line_frames(pieces: Iterator[bytes], scanner: Scanner, options: CopyOptions, header: bytes) -> Iterator[Frame]:
    """Cut the CSV or text after the header, whose line end sets the style, into frames of whole rows.

    What the splitter refuses is left to the scanner, which tells what is wrong
    and where, and so are the last row of a file, a text's end-of-data marker, and all from a line on that may be a
    comment.
    """
    one_byte = (options.delimiter, options.quote or '"', options.escape or '"')
    delimiter, quote, escape = (text.encode("utf-8", "surrogateescape") for text in one_byte)
    splitter = Splitter(
        Placement.single(1, 0),
        format=options.format,
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        null=b"",
        buffer_size=FEED,
    )
    border = Border(splitter)
    border.feed(header)
    used, rows = len(header), 1 if header else 0  # of what was fed: what the frames have had
    held: deque[bytes] = deque()
    comments = _Comments(scanner.comment)
    for piece in pieces:
        held.append(piece)
        if comments.begin_in(piece):
            break
        try:
            border.feed(piece)
        except SplitError:
            break
        if border.at > used:
            joined = held[0] if len(held) == 1 else b"".join(held)
            size = border.at - used
            data = joined[:size]
            held = deque([joined[size:]] if size < len(joined) else [])  # an empty piece would be the end
            if not scanner.style:
                first = scanner.dialect.row.match(data)
                scanner.style = b"" if first is None else first[1]
            if size > scanner.limit:
                yield from scanner.frames(iter((data,)))
            else:
                yield scanner.passed(data, border.rows - rows)
            used, rows = border.at, border.rows
        elif border.fed - used > scanner.limit:
            break  # it may be about a row before the long one, too
        if scanner.marked and held and held[0].startswith(b"\\."):
            break
    yield from scanner.frames(chain(_given_up(held), pieces))


def _given_up(held: deque[bytes]) -> Iterator[bytes]:
    """Give pieces away: where a row is long, they are as long, and whoever gets them puts them together."""
    while held:
        yield held.popleft()


def binary_header(begin: bytes, name: str) -> int | None:
    """Return how many bytes the header has that a binary file begins with; None where more are needed to tell."""
    if not begin.startswith(SIGNATURE[: len(begin)]):
        raise InputError(BAD_COPY_FILE_FORMAT, "COPY file signature not recognized", file=name, offset=0)
    if len(begin) < len(HEADER):
        return None
    if begin[11:13] != b"\0\0":  # the upper half of the flags: critical ones, of which none is known
        raise InputError(BAD_COPY_FILE_FORMAT, "unrecognized critical flags in COPY file header", file=name, offset=11)
    size = len(HEADER) + int.from_bytes(begin[15 : len(HEADER)], "big")
    return size if size <= len(begin) else None


def binary_frames(pieces: Iterator[bytes], name: str, limit: int, offset: int) -> Iterator[Frame]:
    """Cut COPY's binary rows, between the header and the trailer, into frames. PostgreSQL counts them as lines.

    A last row that is cut short, or cannot be understood, is a row all the same: PostgreSQL refuses it.
    """
    border = Border(Splitter(Placement.single(1, 0), format="binary"))
    border.feed(HEADER)
    held, used, rows = b"", len(HEADER), 0
    moved = offset - used
    last: Frame | None = None
    for piece in pieces:
        try:
            border.feed(piece)
        except SplitError as error:  # data after the trailer
            raise InputError(error.sqlstate, error.message, file=name, line=border.rows + 1) from error
        held += piece
        if border.at > used:
            if last is not None:
                yield last
            size = border.at - used
            last = Frame(held[:size], border.rows - rows, rows + 1, used + moved)
            held, used, rows = held[size:], border.at, border.rows
        elif len(held) > limit:
            message = f"the row is longer than max_row_bytes ({limit})"
            raise InputError(PROGRAM_LIMIT_EXCEEDED, message, file=name, line=rows + 1, offset=used + moved)
    if last is not None:
        if not held and last.data.endswith(TRAILER) and _rows_end(last) < len(last.data):
            last.data = last.data[: -len(TRAILER)]
        yield last
    if held not in {b"", TRAILER}:
        yield Frame(held, 1, rows + 1, used + moved)


def _rows_end(frame: Frame) -> int:
    at = 0
    for _ in range(frame.rows):
        at = binary_end(frame.data, at)
    return at

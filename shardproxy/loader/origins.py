"""Where the rows of one COPY come from: which file, which line, and the bytes that stood there."""

from bisect import bisect_right
from collections import deque
from dataclasses import replace

from shardproxy.loader.input.chunk import Chunk
from shardproxy.rejects.reject import Reject


class Origins:
    """The chunks that have been sent and whose rows have not all been judged."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[int, Chunk]] = deque()  # with the byte of the COPY's data where each begins
        self._end = 0

    def sent(self, chunk: Chunk) -> None:
        """Its rows come next in the COPY's data."""
        self._chunks.append((self._end, chunk))
        self._end += len(chunk.data)

    def skip(self, size: int) -> None:
        """Bytes that are no rows come next: the header of a binary COPY."""
        self._end += size

    def passed(self, offset: int) -> None:
        """Forget what lies before a byte of the COPY's data."""
        while self._chunks and self._chunks[0][0] + len(self._chunks[0][1].data) <= offset:
            self._chunks.popleft()

    def of(self, reject: Reject) -> Reject:
        """Return a row of the COPY as it was in its file, and where."""
        chunks = self._chunks
        at = bisect_right(chunks, reject.offset, key=lambda one: one[0]) - 1
        begin, chunk = chunks[at]
        row = bisect_right(chunk.bounds.starts, reject.offset - begin) - 1
        place = chunk.place(row)
        return replace(reject, file=place.file, line=place.last_line, offset=place.offset, row=chunk.original(row))

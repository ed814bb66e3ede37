"""The rows of a COPY that no shard is to have (`Splitter`, set_aside): each is judged here, and kept as a reject."""

from array import array
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from shardproxy.native import ROW_ENCODING, ROW_REFUSED, ROW_UNTERMINATED, SplitError, Splitter
from shardproxy.rejects.faults import Look, fault_words
from shardproxy.rejects.hints import Hints, open_quote
from shardproxy.rejects.long_row import LongRow, too_long
from shardproxy.rejects.reject import Reject, Rows
from shardproxy.rejects.sink import RejectSink
from shardproxy.rejects.target import Asked
from shardproxy.session.copy_setup import CopySetup
from shardproxy.sqlstate import INTERNAL_ERROR
from shardproxy.wire import encode

MESSAGE_HEADER: Final = 5
"""Bytes before the data of a CopyData message."""


class Aside:
    """What the splitter has set aside."""

    def __init__(
        self,
        setup: CopySetup,
        asked: Asked,
        shard: int,
        sink: RejectSink,
        look: Look,
        new_splitter: Callable[..., Splitter],
        max_row: int,
        directory: Path | None,
    ) -> None:
        """`shard` is the number that stands for no shard; `new_splitter` makes one that refuses such rows.

        A row longer than `max_row` may have a file in `directory`.
        """
        self.shard = shard
        self.size = 0
        """Bytes that wait to be judged."""
        self.judged_to = 0
        """The bytes of the client's data before them, at least."""
        self._setup = setup
        self._asked = asked
        self._sink = sink
        self._look = look
        self._new_splitter = new_splitter
        self._messages: list[bytes] = []
        self._hints = Hints(setup.options, asked.columns)
        self._max_row = max_row
        self._directory = directory
        self._long: LongRow | None = None
        """The row that is coming, of which there is too much."""
        self._header_due = setup.options.header != "none"

    def take(self, message: bytes) -> None:
        """Take a message of rows."""
        self._messages.append(message)
        self.size += len(message)

    def judge(self, splitter: Splitter) -> None:
        """Say what is wrong with the rows that have come; PgError if they are too many."""
        marks = splitter.marks(self.shard)
        if marks:
            self.judged_to = marks[-1]
        data = b"".join(message[MESSAGE_HEADER:] for message in self._messages)
        self._messages.clear()
        self.size = 0
        newline = splitter.newline
        if self._header_due:
            self._header_due = False
            ends, _, _ = self._look(data, newline)
            end = ends[0] if ends else len(data)
            self._sink.set_header(data[:end])
            data = data[end:]
        if self._long is not None:
            data, marks = self._end_long(self._long, data, marks, newline)
        ends, spans, faults = self._look(data, newline)
        if splitter.streaming == self.shard and self._long is None:
            ends = ends[: len(marks) // 2]
            begun = data[ends[-1] if ends else 0 :]
            self._long = LongRow(splitter.offset, splitter.lines + 1, self._directory)
            self._long.take(begun)
        found = {number: (fault, at, message) for number, fault, at, message, _ in faults}
        rows = Rows(data, ends, marks[::2], marks[1::2], range(len(ends)))
        rejects = []
        for number in range(len(ends)):
            fault, at, message = found.get(number, (0, 0, None))
            line = rows.lines[number] - (spans[number] - (spans[number - 1] if number else 0)) + 1
            if len(rows.row(number)) > self._max_row:
                reject = too_long(rows.reject(number, "", ""), line, self._max_row)
            elif fault in {ROW_ENCODING, ROW_REFUSED, ROW_UNTERMINATED}:
                words = fault_words(fault, at, message, rows, number, self._asked.columns, self._setup.options)
                reject = rows.reject(number, *words)
                if fault == ROW_UNTERMINATED:
                    opened = open_quote(reject.row, line, newline, self._setup.options)
                    reject = replace(reject, hint=f"The quote that opens on line {opened} is not closed.")
            else:
                reject = self._refused_key(rows, number)
            rejects.append(self._sink.original(self._hints.of(reject)))
        self._sink.judged(len(rejects), rejects)

    def _end_long(self, row: LongRow, data: bytes, marks: "array[int]", newline: int) -> tuple[bytes, "array[int]"]:
        """Give a long row what has come of it; return the data and the marks of the rows after it."""
        size = row.missing(marks[1]) if marks else len(data)
        row.take(data[:size])
        if marks:
            self._long = None
            opened = open_quote(row.row, row.line, newline, self._setup.options)
            hint = f"The quote that opens on line {opened} is not closed in its first {len(row.row)} bytes."
            reject = row.reject(marks[0], self._max_row, None if opened is None else hint)
            self._sink.judged(1, [self._sink.original(reject)])
        return data[size:], marks[2:]

    def discard(self) -> None:
        """Nothing was loaded."""
        if self._long is not None:
            self._long.discard()

    def _refused_key(self, rows: Rows, number: int) -> Reject:
        splitter = self._new_splitter(header=False)
        reject = rows.reject(number, INTERNAL_ERROR, "the row has no shard")
        try:
            splitter.feed(encode.copy_data(rows.row(number)))
            splitter.finish()
        except SplitError as error:
            return reject.because(self._setup.refusal(error, None))
        return reject

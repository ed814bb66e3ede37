"""The rows of a COPY that no shard is to have (`Splitter`, set_aside): each is judged here, and kept as a reject."""

from collections.abc import Callable
from typing import Final

from shardproxy.native import ROW_ENCODING, ROW_REFUSED, ROW_UNTERMINATED, SplitError, Splitter
from shardproxy.rejects.faults import Look, fault_words
from shardproxy.rejects.keeper import Keeper
from shardproxy.rejects.reject import Reject, Rows
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
        keeper: Keeper,
        look: Look,
        new_splitter: Callable[..., Splitter],
    ) -> None:
        """`shard` is the number that stands for no shard; `new_splitter` makes one that refuses such rows."""
        self.shard = shard
        self.size = 0
        """Bytes that wait to be judged."""
        self.judged_to = 0
        """The bytes of the client's data before them, at least."""
        self._setup = setup
        self._asked = asked
        self._keeper = keeper
        self._look = look
        self._new_splitter = new_splitter
        self._messages: list[bytes] = []
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
            self._keeper.set_header(data[:end])
            data = data[end:]
        ends, _, faults = self._look(data, newline)
        found = {number: (fault, at, message) for number, fault, at, message, _ in faults}
        rows = Rows(data, ends, marks[::2], marks[1::2], range(len(ends)))
        rejects = []
        for number in range(len(ends)):
            fault, at, message = found.get(number, (0, 0, None))
            if fault in {ROW_ENCODING, ROW_REFUSED, ROW_UNTERMINATED}:
                words = fault_words(fault, at, message, rows, number, self._asked.columns, self._setup.options)
                reject = rows.reject(number, *words)
            else:
                reject = self._refused_key(rows, number)
            rejects.append(self._keeper.original(reject))
        self._keeper.judged(len(rejects), rejects)

    def _refused_key(self, rows: Rows, number: int) -> Reject:
        splitter = self._new_splitter(header=False)
        reject = rows.reject(number, INTERNAL_ERROR, "the row has no shard")
        try:
            splitter.feed(encode.copy_data(rows.row(number)))
            splitter.finish()
        except SplitError as error:
            return reject.because(self._setup.refusal(error, None))
        return reject

"""What a client reads: its stream, and the messages that the proxy itself writes to it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from shardproxy.combine.notices import Fields, NoticeMerger
from shardproxy.copy.encoding import Text
from shardproxy.errors import PgError, let_go
from shardproxy.net.stream import Stream
from shardproxy.session.long_text import LongTexts, is_long
from shardproxy.sql import Select, Statement, analyze, analyzed, keep, require_conforming_strings
from shardproxy.sql.packed import Packed
from shardproxy.sqlstate import PROGRAM_LIMIT_EXCEEDED
from shardproxy.wire import encode
from shardproxy.wire.constants import B


class Client:
    """One client's side of its session."""

    def __init__(self, stream: Stream, long_texts: LongTexts, max_statement_size: int) -> None:
        self.stream = stream
        self._long_texts = long_texts
        self._max_statement_size = max_statement_size
        self.parameters: dict[str, str] = {}
        """The settings that ParameterStatus tells, as they are now."""
        self._told: dict[str, str] = {}
        self.pid = 0
        """The process ID that the client knows the session by."""
        self.offset = 0
        """Characters of the query in front of the statement that runs."""
        self.on_notice: Callable[[int, Fields], None] = NoticeMerger(self.notice).notice
        """Takes a shard's NoticeResponse during the statement that runs."""

    def write(self, data: bytes) -> None:
        """Queue whole messages."""
        self.stream.write(data)

    def statement_begins(self) -> None:
        """Notices are merged within one statement."""
        self.on_notice = NoticeMerger(self.notice).notice

    def error(self, error: PgError, offset: int = 0) -> None:
        """Send ErrorResponse; `offset` characters of the query stand in front of the statement."""
        if offset and "P" in error.fields:
            error.fields["P"] = str(int(error.fields["P"]) + offset)
        self.write(encode.error_response(error.fields))
        let_go(error)

    def notice(self, fields: Fields) -> None:
        """Send NoticeResponse."""
        if self.offset and "P" in fields:
            fields = {**fields, "P": str(int(fields["P"]) + self.offset)}
        self.write(encode.notice_response(fields))

    def warn(self, state: str, message: str, *, hint: str | None = None) -> None:
        """Send a WARNING of the proxy's own."""
        self.notice(PgError(state, message, severity="WARNING", hint=hint).fields)

    def notification(self, payload: bytes, speakers: Mapping[int, int]) -> None:
        """Pass a NotificationResponse on, with the process ID that `speakers` has for the notifying backend's."""
        speaker = speakers.get(int.from_bytes(payload[:4]))
        if speaker is not None:
            payload = speaker.to_bytes(4) + payload[4:]
        self.write(encode.message(B.NOTIFICATION_RESPONSE, payload))

    def parameter(self, name: str, value: str, *, later: bool = False) -> None:
        """Send ParameterStatus, if the client does not know it yet; `later`: with the next ReadyForQuery.

        As PostgreSQL from 14 on: what an error takes back is never told.
        """
        self.parameters[name] = value
        if not later:
            self._tell(name, value)

    def ready(self, status: bytes) -> None:
        """Send ReadyForQuery, after what has changed of the settings."""
        if self.parameters != self._told:
            for name, value in self.parameters.items():
                self._tell(name, value)
        self.write(encode.ready_for_query(status))

    def _tell(self, name: str, value: str) -> None:
        if self._told.get(name) != value:
            self._told[name] = value
            self.write(encode.parameter_status(name, value))

    def complete(self, tag: str | None) -> None:
        """Send CommandComplete; None stands for an empty query."""
        self.write(encode.EMPTY_QUERY_RESPONSE if tag is None else encode.command_complete(tag))

    # What a client sends.

    def text(self, sql: bytes) -> Text:
        """Return the client's bytes as characters, in a way that gives the same bytes back."""
        if len(sql) > self._max_statement_size:
            raise PgError(
                PROGRAM_LIMIT_EXCEEDED,
                f"statement of {len(sql)} bytes is too large",
                detail=f"max_statement_size is {self._max_statement_size} bytes.",
                hint="Use COPY, send large values as parameters, or raise max_statement_size of the database in the "
                "proxy's configuration.",
            )
        return Text(sql, self.parameters.get("client_encoding", "UTF8"))

    async def analyze(self, text: Text) -> Sequence[Statement]:
        """Parse; ParseFailed in PostgreSQL's words."""
        sql = text.characters
        if not self.conforming:
            require_conforming_strings(sql)
        statements = analyzed(sql)
        if statements is None and not is_long(sql):
            statements = analyze(sql)
        elif statements is None:
            await asyncio.sleep(0)  # each step with so large a text takes a while
            statements = await self._long_texts.analyze(sql)
            keep(sql, statements)
        if isinstance(statements, Packed):
            return statements.mapped(self._own)
        return tuple(map(self._own, statements))

    def _own(self, statement: Statement) -> Statement:
        """Put the session's process ID where a statement asks for it."""
        if not isinstance(statement, Select) or statement.processes is None or not statement.processes.calls:
            return statement
        return replace(statement, visible=statement.processes.seen_as(self.pid))

    @property
    def conforming(self) -> bool:
        """Whether a backslash in a string constant stands for itself."""
        return self.parameters.get("standard_conforming_strings", "on") == "on"

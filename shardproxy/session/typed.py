"""What the shards' answers show of the user's own types, as the client knows them: see `wire.usertypes`."""

from collections.abc import Mapping
from typing import NamedTuple

from shardproxy.copy.binary import HEADER, SIGNATURE
from shardproxy.errors import PgError, ProtocolError
from shardproxy.session.portals import Portal
from shardproxy.shard.connection import Reply
from shardproxy.shard.types import ShardTypes, Types
from shardproxy.sqlstate import UNDEFINED_OBJECT
from shardproxy.wire import decode, encode
from shardproxy.wire.constants import HEADER_SIZE, B
from shardproxy.wire.replies import Expect
from shardproxy.wire.usertypes import TypeMap, UnknownOidError, is_own, type_oids

DESCRIPTIONS = frozenset({B.ROW_DESCRIPTION, B.PARAMETER_DESCRIPTION})

_END = b"\xff\xff"


class Carrying(NamedTuple):
    """The columns of rows under way, by number, whose binary values have OIDs inside: their types as the client's."""

    types: TypeMap
    columns: Mapping[int, int]

    def rows(self, view: memoryview) -> tuple[int, bytes]:
        """Return the whole rows at the front for the client, and the bytes that they take; raises UnknownOidError."""
        at, made = 0, []
        while at + HEADER_SIZE <= len(view) and view[at] in {B.DATA_ROW, B.COPY_DATA}:
            end = at + 1 + int.from_bytes(view[at + 1 : at + HEADER_SIZE])
            if end > len(view):
                break
            payload = bytes(view[at + HEADER_SIZE : end])
            if view[at] == B.DATA_ROW:
                made.append(self.types.row(payload, self.columns))
            else:
                made.append(encode.copy_data(self._copied(payload)))
            at = end
        return at, b"".join(made)

    def _copied(self, payload: bytes) -> bytes:
        """Return a CopyData's payload in binary: PostgreSQL puts one row into each, and the header before the first."""
        header = b""
        if payload.startswith(SIGNATURE):
            size = len(HEADER)
            if len(payload) < size:
                raise ProtocolError("a COPY header is cut")
            size += int.from_bytes(payload[size - 4 : size])
            header, payload = payload[:size], payload[size:]
        if payload in {b"", _END}:
            return header + payload
        return header + self.types.row(payload, self.columns)[HEADER_SIZE:]


async def described(types: ShardTypes, reply: Reply) -> tuple[Reply, Carrying | None]:
    """Return a description as the client's, and what of the rows that it describes has to be rewritten."""
    if reply.type == B.PARAMETER_DESCRIPTION:
        oids = decode.parameter_description(reply.payload)
        if not any(map(is_own, oids)):
            return reply, None
        made = await types.know(oids)
        shown = encode.parameter_description([made.canonical(oid) for oid in oids])
        return reply._replace(payload=shown[HEADER_SIZE:]), None
    columns = type_oids(reply.payload)
    if not any(is_own(oid) for _, oid, _ in columns):
        return reply, None
    try:
        made = await types.know(oid for _, oid, _ in columns)
    except PgError as error:
        as_text = reply.owed.expect is not Expect.DESCRIBE_STATEMENT and not any(form for _, _, form in columns)
        if error.sqlstate != UNDEFINED_OBJECT or not as_text or types.map is None:
            raise
        # One that is made in this transaction, or temporary. Its text says what it is to whoever reads it.
        return reply._replace(payload=types.map.description_now(reply.payload)), None
    reply = reply._replace(payload=made.description(reply.payload))
    if reply.owed.expect is Expect.DESCRIBE_STATEMENT:
        return reply, None
    carrying = made.carrying((made.canonical(oid), form) for _, oid, form in columns)
    return reply, Carrying(made, carrying) if carrying else None


async def know_values(types: Types, portal: Portal) -> None:
    """See to it that each shard can get a portal's binary values; PgError 42704 for a type that is not everywhere."""
    if not any(portal.bind.param_formats):
        return
    own = [oid for oid, form in portal.own_parameters() if form == 1 and is_own(oid)]
    if not own:
        return
    await types.know(own)
    for one in types.others():
        assert one.map is not None
        try:
            portal.params_for(one)
        except UnknownOidError as error:
            raise one.missing(one.map, error.oid, canonical=True) from error

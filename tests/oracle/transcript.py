"""What a server has sent, as values that can be compared between one PostgreSQL and the proxy.

Left out are only facts that are no part of the answer: F, L and R of errors (places in the server's source), the
OIDs of tables (each database has its own), and the sentence in DETAIL that names the shard. Types of the user's own are
compared by name, since each database gives them OIDs of its own.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

from shardproxy.wire import decode
from shardproxy.wire.constants import B
from shardproxy.wire.framing import Message
from tests.support.rawclient import RawClient

Item = tuple[object, ...]
Names = Mapping[int, str]

FIRST_USER_OID = 16384
CLOSED: Item = ("the connection is closed",)
NO_ANSWER: Item = ("no answer",)


def converse(client: RawClient, data: bytes, names: Names, *, ordered: bool = False) -> list[Item]:
    """Send messages that lead to one ReadyForQuery, and return what comes up to it."""
    client.send(data)
    return read(client, names, lambda items: items[-1][0] == "Z", ordered=ordered)


def read(client: RawClient, names: Names, over: Callable[[list[Item]], bool], *, ordered: bool = False) -> list[Item]:
    """Return what comes until it is `over`, or the connection ends; rows sorted unless they are `ordered`."""
    items: list[Item] = []
    statuses: list[Item] = []
    rows: list[Item] = []
    while not items or not over(items):
        try:
            message = client.read()
        except TimeoutError:
            return [*items, NO_ANSWER]
        if message is not None and message.type == B.DATA_ROW:
            rows.append(("D", *decode.data_row(message.payload)))
            continue
        if message is not None and message.type == B.COPY_DATA:
            rows.append(("d", message.payload))
            continue
        items += rows if ordered else sorted(rows, key=repr)
        rows = []
        if message is None:
            return [*items, CLOSED]
        if message.type == B.PARAMETER_STATUS:
            statuses.append(("S", *decode.parameter_status(message.payload)))
            continue
        if message.type == B.READY_FOR_QUERY:
            # PostgreSQL reports settings before ReadyForQuery, in the order of its table of settings.
            items += sorted(statuses, key=repr)
            statuses = []
        items.append(_item(message, names))
    return items


def in_one_piece(items: Sequence[Item]) -> list[Item]:
    """The same with all rows before the first end of a piece: which of them a piece has is no one's promise."""
    rows = sorted((item for item in items if item[0] == "D"), key=repr)
    others = [item for item in items if item[0] != "D"]
    at = next((at for at, item in enumerate(others) if item[0] in {"s", "C", "E"}), len(others))
    return [*others[:at], *rows, *others[at:]]


def status(items: Sequence[Item]) -> str:
    """The state of the last ReadyForQuery."""
    return next((str(item[1]) for item in reversed(items) if item[0] == "Z"), "")


def error(items: Sequence[Item]) -> dict[str, str] | None:
    """The fields of the first error."""
    return next((fields(item) for item in items if item[0] == "E"), None)


def fields(item: Item) -> dict[str, str]:
    """The fields of an error or notice."""
    return dict(cast("Iterable[tuple[str, str]]", item[1:]))


def tags(items: Sequence[Item]) -> list[str]:
    """The command tags."""
    return [str(item[1]) for item in items if item[0] == "C"]


def _item(message: Message, names: Names) -> Item:
    letter, payload = chr(message.type), message.payload
    match message.type:
        case B.ROW_DESCRIPTION:
            columns = decode.row_description(payload)
            return (letter, *((c.name, _type(c.type_oid, names), c.typmod, c.format) for c in columns))
        case B.PARAMETER_DESCRIPTION:
            return (letter, *(_type(oid, names) for oid in decode.parameter_description(payload)))
        case B.COMMAND_COMPLETE:
            return (letter, decode.command_complete(payload))
        case B.ERROR_RESPONSE | B.NOTICE_RESPONSE:
            return (letter, *sorted(_same(decode.fields(payload)).items()))
        case B.READY_FOR_QUERY:
            return (letter, chr(decode.ready_for_query(payload)))
        case B.NOTIFICATION_RESPONSE:
            return (letter,)
        case B.COPY_IN_RESPONSE | B.COPY_OUT_RESPONSE:
            return (letter, repr(decode.copy_response(payload)))
    return (letter, payload) if payload else (letter,)


def _type(oid: int, names: Names) -> str | int:
    return oid if oid < FIRST_USER_OID else names.get(oid, f"no type: {oid}")


def _same(told: Mapping[str, str]) -> dict[str, str]:
    same = {code: text for code, text in told.items() if code not in "FLR"}
    if "D" in same:
        same["D"] = re.sub(r'\n?Reported by shard "s\d"\.$', "", same["D"])
        if not same["D"]:
            del same["D"]
    return same

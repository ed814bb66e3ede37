"""A COPY's splitter: how its options, its encodings and the sharding key decide where a row ends and belongs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from shardproxy.copy.encoding import Encodings, same_encoding, utf8_table
from shardproxy.copy.options import STAR, CopyOptions
from shardproxy.errors import PgError
from shardproxy.native import ABSENT, ASCII_ONLY, Marker, Placement, SplitError, Splitter
from shardproxy.routing.keytypes import TYPES
from shardproxy.session.defaults import constant_defaults
from shardproxy.shard.connection import Connection
from shardproxy.sql import CopyFrom
from shardproxy.sqlstate import CHECK_VIOLATION, FEATURE_NOT_SUPPORTED

if TYPE_CHECKING:
    from shardproxy.routing.table import ShardedTable

Constant = bytes | None | Literal[Marker.ABSENT]

NewSplitter = Callable[[], Splitter]
"""Makes the splitter of one COPY; the same for each COPY of one statement."""


@dataclass(frozen=True, slots=True)
class Key:
    """Where the key columns' values come from; one entry for each in `Splitter`'s terms."""

    fields: Sequence[int]
    constants: Sequence[Constant]
    defaults: Sequence[Constant]
    force_null: Sequence[bool]
    force_not_null: Sequence[bool]
    transcode: Sequence[bytes] | Literal[Marker.ASCII_ONLY] | None


async def keyed_splitter(
    connection: Connection | None,
    copy: CopyFrom,
    table: "ShardedTable",
    placement: Placement,
    encodings: Encodings,
) -> NewSplitter:
    """Return what makes splitters of a sharded table; `connection` is asked for defaults, where the key is left out."""
    relation = table.relation
    fields = copy.columns or tuple(column.name for column in relation.columns if not column.generated)
    names = [column.name for column in table.key]
    defaults: dict[str, bytes | None] = {}
    if copy.options.default is not None or not set(names) <= set(fields):
        assert connection is not None
        defaults = await constant_defaults(connection, relation, names)
    for name in names:
        if name not in fields and (defaults.get(name) is None or copy.options.format == "binary"):
            raise PgError(
                FEATURE_NOT_SUPPORTED,
                f'the sharding key column "{name}" is not in COPY\'s column list and has no constant default',
                hint="Add it to the column list: its value decides the shard.",
            )
    textual = any(TYPES[column.type].collatable for column in table.key)
    key = Key(
        fields=[fields.index(name) if name in fields else -1 for name in names],
        constants=[defaults.get(name) if name not in fields else ABSENT for name in names],
        # A column without a default: the shard refuses the marker, or takes what it reads as NULL.
        defaults=[defaults.get(name, ABSENT) for name in names],
        force_null=[_forced(name, copy.options.force_null) for name in names],
        force_not_null=[_forced(name, copy.options.force_not_null) for name in names],
        transcode=_transcode(encodings.data, encodings.server) if textual else None,
    )
    return splitter_for(placement, copy.options, encodings, relation.server_version, key)


def refusal_of(table: "ShardedTable | None", format: str, error: SplitError, context: str | None) -> PgError:  # noqa: A002
    """Say what PostgreSQL's partitioning says of a key without a shard, and the splitter's words of all else."""
    values = error.key_values
    if table is not None and values is not None:
        if error.sqlstate == CHECK_VIOLATION:
            return table.no_partition(values, binary=format == "binary", context=context)
        if error.sqlstate == FEATURE_NOT_SUPPORTED and format != "binary":
            return table.unsupported(values, context=context)
    return PgError(error.sqlstate, error.message, detail=error.detail, hint=error.hint, context=context)


def _forced(name: str, columns: tuple[str, ...]) -> bool:
    return columns == STAR or name in columns


def _transcode(client: str, server: str) -> Sequence[bytes] | Literal[Marker.ASCII_ONLY] | None:
    """How the bytes of a text key become the server's, whose bytes are hashed."""
    if same_encoding(client, server):
        return None
    table = utf8_table(client) if same_encoding(server, "UTF8") else None
    return ASCII_ONLY if table is None else table


def splitter_for(
    placement: Placement, options: CopyOptions, encodings: Encodings, server_version: int, key: "Key | None" = None
) -> NewSplitter:
    """Return what makes splitters for a placement; PgError for an option that the data's encoding cannot spell."""
    # Only a key's value is compared with the markers.
    markers = (options.null, options.default) if key is not None else ("", None)
    null, default = (None if text is None else _in_data(text, encodings) for text in markers)
    key = key or Key((), (), (), (), (), None)
    return partial(
        Splitter,
        placement,
        format=options.format,
        key_fields=key.fields,
        constants=key.constants,
        default_values=key.defaults,
        force_null=key.force_null,
        force_not_null=key.force_not_null,
        transcode=key.transcode,
        delimiter=_byte_in_data(options.delimiter, encodings),
        quote=_byte_in_data(options.quote, encodings) or b'"',
        escape=_byte_in_data(options.escape, encodings),
        null=null,
        default=default,
        header=options.header != "none",
        server_version=server_version,
    )


def _in_data(text: str, encodings: Encodings) -> bytes:
    """Spell an option's text as the data do, which may be in another encoding than the statement."""
    spelled = encodings.in_data(text)
    if spelled is None:
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            f"a COPY option beyond ASCII cannot be converted from encoding {encodings.client} to {encodings.data}",
            hint="Write the option in ASCII, or set client_encoding to the encoding of the data.",
        )
    return spelled


def _byte_in_data(text: str, encodings: Encodings) -> bytes | None:
    """The same for DELIMITER, QUOTE and ESCAPE, one byte each; None for the format's own."""
    spelled = _in_data(text, encodings)
    if len(spelled) > 1:
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            f"COPY's delimiter, quote and escape must be one byte in encoding {encodings.data}",
            hint="Choose an ASCII character.",
        )
    return spelled or None

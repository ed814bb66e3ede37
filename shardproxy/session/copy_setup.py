"""What a COPY FROM STDIN needs before it starts: its shards, and a splitter that knows the sharding key.

Everything is read afresh on the shards that will take part, inside the transaction, so that DDL from anywhere
counts, and a shard whose columns differ from the others' is found before a row could land in the wrong one. It is
asked together with BEGIN, in one round trip: a table whose name is listed as one of all shards is looked for there
at once, and if the name means another one to the session, the answer of its home shard says so. When the shards have
taken all rows, each is asked once more what its columns are, as COPY may have waited for DDL behind the first look.
What PostgreSQL itself refuses is left to PostgreSQL: the statement goes to one shard for its error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from shardproxy.copy.encoding import Encodings, same_encoding, splits_bytewise, utf8_table
from shardproxy.copy.options import STAR, CopyOptions
from shardproxy.copy.skipped import SkippedRows
from shardproxy.errors import PgError
from shardproxy.native import ABSENT, ASCII_ONLY, Marker, Placement, SplitError, Splitter
from shardproxy.routing import CopyFromClient, Replicate, route
from shardproxy.routing.identifiers import ascii_name
from shardproxy.routing.keytypes import TYPES
from shardproxy.routing.relation import Relation
from shardproxy.session.copy_start import first_replies
from shardproxy.session.database import Database
from shardproxy.session.execute import Executor
from shardproxy.session.names import Resolver
from shardproxy.session.shards import Shards
from shardproxy.shard import catalog
from shardproxy.shard.connection import Connection
from shardproxy.sql import CopyFrom
from shardproxy.sqlstate import (
    CHECK_VIOLATION,
    FEATURE_NOT_SUPPORTED,
    OBJECT_NOT_IN_PREREQUISITE_STATE,
    SERIALIZATION_FAILURE,
    UNDEFINED_TABLE,
)
from shardproxy.wire import encode
from shardproxy.wire.constants import B

if TYPE_CHECKING:
    from shardproxy.routing.table import ShardedTable

Constant = bytes | None | Literal[Marker.ABSENT]


@dataclass(frozen=True, slots=True)
class CopySetup:
    """A COPY ready to start."""

    plan: CopyFromClient
    shards: tuple[int, ...]
    relation: str
    splitter: Splitter
    skipped: SkippedRows
    everywhere: bool
    refusal: Callable[[SplitError, str | None], PgError]
    """What to say of what the splitter refuses, given CONTEXT."""
    placed_by: Mapping[int, Relation]
    """The columns by which each shard's rows were placed; empty where they do not matter."""

    async def confirm(self, shard: int, connection: Connection) -> None:
        """Raise 40001 if a shard's COPY, which is over and has its lock, had other columns than it was placed by.

        The look in front of it has no lock, and COPY may have waited for DDL; nor does the look see more than its
        transaction's snapshot, while COPY sees the table as it is.
        """
        if shard not in self.placed_by:
            return
        relation = self.placed_by[shard]
        sql = f"SELECT * FROM {ascii_name(relation.schema, relation.name)}"
        described = await connection.describe(sql.encode("utf-8", "surrogateescape"))
        found = [(one.table_oid, one.attnum, one.type_oid, one.typmod, _comparable(one.name)) for one in described]
        if found != [
            (relation.oid, one.attnum, one.type_oid, one.typmod, _comparable(one.name)) for one in relation.columns
        ]:
            raise PgError(
                SERIALIZATION_FAILURE,
                f'could not serialize access: the definition of table "{relation.name}" has changed',
                detail=f'It changed on shard "{connection.name}" while COPY placed rows by the columns of before.',
                hint="Nothing was loaded. Run the COPY again.",
            )


def _comparable(name: str) -> str | None:
    """A column's name as far as every encoding spells it alike; a description is in the client's."""
    return name if name.isascii() else None


@dataclass(frozen=True, slots=True)
class Key:
    """Where the key columns' values come from; one entry for each in `Splitter`'s terms."""

    fields: Sequence[int]
    constants: Sequence[Constant]
    defaults: Sequence[Constant]
    force_null: Sequence[bool]
    force_not_null: Sequence[bool]
    transcode: Sequence[bytes] | Literal[Marker.ASCII_ONLY] | None


@dataclass(frozen=True, slots=True)
class Look:
    """What a shard has said of a COPY's table, and of how it could commit (`Database.check_readiness`)."""

    connection: Connection
    relation: Relation | None
    readiness: Sequence[bytes | None]


async def prepare_copy(
    database: Database, shards: Shards, names: Resolver, executor: Executor, copy: CopyFrom, sql: bytes
) -> CopySetup:
    """Resolve a COPY FROM STDIN's table on its shards and build its splitter."""
    names.look_anew()
    name = (copy.table.schema, copy.table.name)
    looks: dict[int, Look] = {}
    if database.listed_everywhere(*name):
        looks = await _look(database, shards, shards.everyone, name)
    found = looks[shards.home].relation if looks else None
    if found is None:
        tables = await names.resolve(copy)
    else:
        tables = {copy.table: await names.resolved(looks[shards.home].connection, found)}
    if tables[copy.table].kind == "missing":
        [connection] = await shards.join([shards.home])
        raise await _refused_by(connection, sql)
    plan = route(copy, tables, await names.context(copy, tables, ()), executor.memory)
    assert isinstance(plan, CopyFromClient)
    numbers = executor.shards_of(plan)
    if not set(numbers) <= looks.keys():
        looks = await _look(database, shards, numbers, name)
    connections = [looks[shard].connection for shard in numbers]
    relation = _relation_on_all([looks[shard] for shard in numbers], copy)
    table = names.sharded_table(relation)
    if copy.options.opaque or not _columns_known(copy, relation):
        raise await _refused_by(connections[0], sql)
    encoding = copy.options.encoding or shards.client_encoding
    if copy.options.format != "binary" and not splits_bytewise(encoding):
        raise PgError(
            FEATURE_NOT_SUPPORTED,
            f"COPY FROM STDIN in encoding {encoding} is not supported through shardproxy",
            detail="In this encoding an ASCII byte may be part of another character, so rows cannot be told apart.",
            hint="Convert the data to UTF8, or load them in COPY's binary format.",
        )
    everywhere = isinstance(plan.rows, Replicate)
    nshards = len(shards.addresses)
    encodings = Encodings(shards.client_encoding, encoding, relation.server_encoding)
    placed_by: dict[int, Relation] = {}
    if table is not None and tables[copy.table].sharded:
        placed_by = {shard: one for shard in numbers if (one := looks[shard].relation) is not None}
        splitter = await _keyed_splitter(connections[0], copy, table, table.placement_in(shards.timezone), encodings)
    elif everywhere:
        splitter = _splitter(Placement.reference(nshards), copy.options, encodings, relation.server_version)
    else:
        splitter = _splitter(Placement.single(nshards, numbers[0]), copy.options, encodings, relation.server_version)
    skipped = SkippedRows(
        on_error_ignore=copy.options.on_error == "ignore",
        reject_limit=copy.options.reject_limit,
        everywhere=everywhere,
    )
    database.check_readiness({shard: looks[shard].readiness for shard in numbers})
    refusal = partial(_refusal, table, copy.options.format)
    return CopySetup(plan, numbers, relation.name, splitter, skipped, everywhere, refusal, placed_by)


async def _look(database: Database, shards: Shards, numbers: Sequence[int], name: catalog.Name) -> dict[int, Look]:
    """Look a table up on several shards inside the transaction, and ask whether they can commit together."""
    readiness = database.readiness_sql
    question = catalog.relations_sql([name])
    if readiness is not None:
        question = f"{question}; {readiness}"
    # Or else a new session's home would be the shard that is connected first.
    await shards.open_home()
    answers = await shards.ask(numbers, question, [1, *([] if readiness is None else [3])])
    looks = {}
    for shard, (connection, [[found], *ready]) in zip(numbers, answers, strict=True):
        [relation] = catalog.parse_relations(catalog.text(found))
        looks[shard] = Look(connection, relation, ready[0] if ready else ())
    return looks


def _relation_on_all(looks: Sequence[Look], copy: CopyFrom) -> Relation:
    """Return the table as every shard has it; they must agree on its columns."""
    connections = [look.connection for look in looks]
    first = looks[0].relation
    for connection, relation in ((look.connection, look.relation) for look in looks):
        if relation is None:
            raise PgError(
                UNDEFINED_TABLE,
                f'relation "{copy.table}" does not exist',
                detail=f'It does not exist on shard "{connection.name}".' if len(connections) > 1 else None,
            )
        assert first is not None
        if _shape(relation) != _shape(first):
            raise PgError(
                OBJECT_NOT_IN_PREREQUISITE_STATE,
                f'table "{copy.table}" differs between shards "{connections[0].name}" and "{connection.name}"',
                detail="Their columns are not the same in name, type and order.",
                hint="`shardproxy check` shows the difference.",
            )
    assert first is not None
    return first


def _shape(relation: Relation) -> tuple[object, ...]:
    columns = [(one.name, one.type_name, one.typmod, one.generated) for one in relation.columns]
    return relation.schema, relation.name, columns


def _columns_known(copy: CopyFrom, relation: Relation) -> bool:
    """Whether COPY's column list is one that PostgreSQL takes."""
    if copy.columns is None:
        return True
    columns = [relation.column(name) for name in copy.columns]
    return len(set(copy.columns)) == len(columns) and all(one is not None and not one.generated for one in columns)


async def _refused_by(connection: Connection, sql: bytes) -> PgError:
    """Have a shard say what is wrong with a COPY; it gets no data if it takes it."""
    connection.query(sql)
    [reply] = await first_replies([connection], B.COPY_IN_RESPONSE)
    if isinstance(reply, PgError):
        return reply
    connection.stream.write(encode.copy_fail("shardproxy cannot split this COPY's rows"))
    while connection.replies:
        await connection.read()
    return PgError(
        FEATURE_NOT_SUPPORTED,
        "COPY has options that shardproxy does not know, so it cannot tell the rows apart",
        hint="docs/copy.md lists the options that are known: those of PostgreSQL 18.",
    )


async def _keyed_splitter(
    connection: Connection,
    copy: CopyFrom,
    table: "ShardedTable",
    placement: Placement,
    encodings: Encodings,
) -> Splitter:
    relation = table.relation
    fields = copy.columns or tuple(column.name for column in relation.columns if not column.generated)
    names = [column.name for column in table.key]
    defaults: dict[str, bytes | None] = {}
    if copy.options.default is not None or not set(names) <= set(fields):
        defaults = await Resolver.defaults(connection, relation, names)
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
    return _splitter(placement, copy.options, encodings, relation.server_version, key)


def _refusal(table: "ShardedTable | None", format: str, error: SplitError, context: str | None) -> PgError:  # noqa: A002
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


def _splitter(
    placement: Placement, options: CopyOptions, encodings: Encodings, server_version: int, key: "Key | None" = None
) -> Splitter:
    # Only a key's value is compared with the markers.
    markers = (options.null, options.default) if key is not None else ("", None)
    null, default = (None if text is None else _in_data(text, encodings) for text in markers)
    key = key or Key((), (), (), (), (), None)
    return Splitter(
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

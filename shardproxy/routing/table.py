"""A listed table with its placement: the configuration's words and the catalog's facts made into one.

Never reads a catalog and never does I/O. `ShardedTable.examine` lists everything that is wrong, for `check`;
`ShardedTable.build` raises the first of it. What is built does not change: new facts make a new table.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shardproxy import native
from shardproxy import sqlstate as states
from shardproxy.errors import PgError
from shardproxy.native import Infinite, Placement
from shardproxy.routing.describe import describe_key, describe_value, text_of_binary
from shardproxy.routing.encodings import codec_of
from shardproxy.routing.keytypes import TYPES, KeyColumn, PlacementKind, Refusal, key_column
from shardproxy.routing.relation import Relation

UTC_NAMES: Final = frozenset(
    {"UTC", "UCT", "GMT", "Zulu", "Universal", "Greenwich", "Etc/UTC", "Etc/UCT", "Etc/GMT", "Etc/Zulu"}
)
"""Values of TimeZone under which a timestamptz without an offset is known here: always at offset 0."""


_DATES: Final = frozenset({"date", "timestamp", "timestamptz"})
_DATES_HINT: Final = (
    "Write dates as YYYY-MM-DD, and timestamptz with its UTC offset or in a session whose "
    "TimeZone is UTC; the binary format is always understood."
)


class Edge(Protocol):
    """MINVALUE or MAXVALUE of the configuration, told apart by name."""

    @property
    def name(self) -> str:
        """The word."""


class ListValues(Protocol):
    """The key values of one shard; None is NULL."""

    @property
    def shard(self) -> str:
        """The shard's name."""

    @property
    def values(self) -> Sequence[str | None]:
        """Spellings."""


class RangeBounds(Protocol):
    """One range of keys, `lower` inclusive, `upper` exclusive."""

    @property
    def shard(self) -> str:
        """The shard's name."""

    @property
    def lower(self) -> Sequence[str | Edge]:
        """A spelling or an edge for each key column."""

    @property
    def upper(self) -> Sequence[str | Edge]:
        """The same for the end of the range."""


class TableConfig(Protocol):
    """A table in the configuration."""

    @property
    def placement(self) -> PlacementKind:
        """How rows are placed."""

    @property
    def key(self) -> Sequence[str]:
        """Names of the key columns; empty for reference and single."""

    @property
    def shard(self) -> str | None:
        """The shard of a `single` table."""

    @property
    def values(self) -> Sequence[ListValues]:
        """Of a `list` table."""

    @property
    def bounds(self) -> Sequence[RangeBounds]:
        """Of a `range` table."""

    @property
    def default(self) -> str | None:
        """The shard of all other keys."""


_NOT_TABLES: Final = {"v": "a view", "m": "a materialized view", "S": "a sequence", "i": "an index"}


@dataclass(frozen=True, slots=True)
class ShardedTable:
    """A table whose rows have a place."""

    relation: Relation
    kind: PlacementKind
    key: tuple[KeyColumn, ...]
    """In the order of the configuration; empty for reference and single."""
    placement: Placement
    placement_utc: Placement
    """The same where the session's TimeZone is UTC; see `placement_in`."""
    shard: int | None = None
    """Of a `single` table."""

    @classmethod
    def examine(cls, config: TableConfig, relation: Relation, shard_numbers: Mapping[str, int]) -> tuple[Refusal, ...]:
        """Return all that keeps this relation from being placed as configured."""
        refusals, _ = _key_of(config, relation)
        if not refusals:
            try:
                cls.build(config, relation, shard_numbers)
            except PgError as error:
                refusals.append(Refusal(error.message, error.hint or "", error.sqlstate))
        return tuple(refusals)

    @classmethod
    def build(cls, config: TableConfig, relation: Relation, shard_numbers: Mapping[str, int]) -> "ShardedTable":
        """Make the table, or raise PgError with the first reason why it cannot be placed as configured."""
        refusals, key = _key_of(config, relation)
        if refusals:
            raise _error(refusals[0], relation)
        try:
            placement = _placement(config, key, relation, shard_numbers, utc=False)
            placement_utc = placement
            if any(column.type == native.KEY_TIMESTAMPTZ for column in key):
                placement_utc = _placement(config, key, relation, shard_numbers, utc=True)
        except ValueError as error:
            refusal = Refusal(
                f"its {config.placement} placement is not valid: {error}",
                "Correct the table's values and bounds in the configuration.",
            )
            raise _error(refusal, relation) from None
        shard = shard_numbers[config.shard] if config.shard is not None else None
        return cls(relation, config.placement, key, placement, placement_utc, shard)

    def placement_in(self, timezone: str) -> Placement:
        """Return the placement for a session with this TimeZone, as its ParameterStatus names it."""
        return self.placement_utc if timezone in UTC_NAMES else self.placement

    def place_text(self, values: Sequence[bytes | None], *, timezone: str = "") -> int:
        """Return the shard of a row by its key's spellings, unescaped and in the server's encoding.

        PLACE_EVERYWHERE for a reference table, PLACE_INVALID where PostgreSQL certainly refuses the row.
        Raises PgError where no shard is mapped (23514) or what a value means is not known here (0A000).
        """
        shard = self.placement_in(timezone).place(values)
        if shard == native.PLACE_NO_PARTITION:
            raise self.no_partition(values)
        if shard == native.PLACE_UNSUPPORTED:
            raise self.unsupported(values)
        return shard

    def no_partition(
        self, values: Sequence[bytes | None], *, binary: bool = False, context: str | None = None
    ) -> PgError:
        """Return the error that PostgreSQL's own partitioning raises (ExecFindPartition, execPartition.c).

        Values are spellings or, if `binary`, fields of COPY BINARY.
        """
        if binary:
            pairs = zip(self.key, values, strict=True)
            values = [None if value is None else text_of_binary(column, value) for column, value in pairs]
        described = describe_key(self.key, values, self._codec, server_version=self.relation.server_version)
        error = PgError(
            states.CHECK_VIOLATION,
            f'no partition of relation "{self.relation.name}" found for row',
            detail=f"Partition key of the failing row contains {described}.",
            context=context,
        )
        error.fields["s"] = self.relation.schema
        error.fields["t"] = self.relation.name
        return error

    def unsupported(self, values: Sequence[bytes | None], *, context: str | None = None) -> PgError:
        """Return the refusal of a row whose key the proxy cannot read as surely as PostgreSQL would."""
        version = self.relation.server_version
        message, hint = "the sharding key's value depends on settings that the proxy does not evaluate", _DATES_HINT
        for column, value in zip(self.key, values, strict=True):
            if value is None:
                continue
            form = native.canonical((column.type, column.typmod), value, server_version=version)
            if form == native.PLACE_UNSUPPORTED:
                shown = describe_value(column, value, self._codec, server_version=version)
                message = f'value "{shown}" of sharding key column "{column.name}" '
                if TYPES[column.type].varying:
                    message += "may depend on settings that the proxy does not evaluate"
                else:
                    message += "is spelled in a way that the proxy does not read"
                if TYPES[column.type].name not in _DATES:
                    hint = "Write it as PostgreSQL does, or use the binary format, which is always understood."
                break
        return PgError(states.FEATURE_NOT_SUPPORTED, message, hint=hint, context=context)

    @property
    def _codec(self) -> str:
        return codec_of(self.relation.server_encoding) or "ascii"


def _error(refusal: Refusal, relation: Relation) -> PgError:
    return PgError(
        refusal.sqlstate,
        f'table "{relation.schema}.{relation.name}" cannot be sharded: {refusal.message}',
        hint=refusal.remedy or None,
    )


def _key_of(config: TableConfig, relation: Relation) -> tuple[list[Refusal], tuple[KeyColumn, ...]]:
    refusals: list[Refusal] = []
    if relation.kind in _NOT_TABLES:
        refusals.append(Refusal(f"it is {_NOT_TABLES[relation.kind]}", "List only tables in the configuration."))
    key: list[KeyColumn] = []
    for name in config.key:
        column = relation.column(name)
        if column is None:
            there = ", ".join(f'"{column.name}"' for column in relation.columns)
            refusals.append(
                Refusal(
                    f'key column "{name}" does not exist',
                    f"Its columns are {there}.",
                    states.UNDEFINED_COLUMN,
                )
            )
            continue
        found = key_column(column, config.placement)
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            key.append(found)
    return refusals, tuple(key)


def _placement(
    config: TableConfig,
    key: Sequence[KeyColumn],
    relation: Relation,
    shard_numbers: Mapping[str, int],
    *,
    utc: bool,
) -> Placement:
    """Build the native placement; ValueError for values that do not fit. Shard names are checked before."""
    nshards = len(shard_numbers)
    types = [(column.type, column.typmod) for column in key]
    default = shard_numbers[config.default] if config.default is not None else None
    version, encoding = relation.server_version, relation.server_encoding
    match config.placement:
        case "reference":
            return Placement.reference(nshards)
        case "single":
            if config.shard is None:
                raise ValueError("a single table names its shard")
            return Placement.single(nshards, shard_numbers[config.shard])
        case "hash":
            return Placement.hash(nshards, types, server_version=version, encoding=encoding, utc=utc)
        case "list":
            if len(types) != 1:
                raise ValueError("list placement has exactly one key column")
            values = [
                (None if value is None else _encoded(value, encoding), shard_numbers[entry.shard])
                for entry in config.values
                for value in entry.values
            ]
            return Placement.list(
                nshards, types[0], values, default, server_version=version, encoding=encoding, utc=utc
            )
        case "range":
            bounds = [
                (_bound(entry.lower, encoding), _bound(entry.upper, encoding), shard_numbers[entry.shard])
                for entry in config.bounds
            ]
            return Placement.range(nshards, types, bounds, default, server_version=version, encoding=encoding, utc=utc)


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(codec_of(encoding) or "ascii")
    except UnicodeEncodeError:
        raise ValueError(f"{text!r} cannot be written in the server's encoding {encoding}") from None


def _bound(values: Sequence[str | Edge], encoding: str) -> list[bytes | Infinite]:
    return [_encoded(value, encoding) if isinstance(value, str) else Infinite[value.name] for value in values]

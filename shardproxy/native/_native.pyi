"""The native core: rows are split, placed by their key, and merged back."""

import enum
from array import array
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from typing_extensions import Buffer

class KeyType(NamedTuple):
    code: int  # of this build, for Placement
    name: str  # pg_type.typname
    sql: str  # as format_type() spells it
    oid: int
    family: str  # of hash operators: across its types equal values are placed alike
    integer_bits: int  # not 0: an integer of so many bits, whose plain digits are the value
    collatable: bool
    varying: bool  # its text depends on the session's settings
    same: frozenset[str]  # names of types whose text this one reads as their value, compared and assigned alike
    literals: frozenset[str]  # names of types of a column's default whose text this one reads as the value stored
    understood: str
    refused: str

def key_types() -> tuple[KeyType, ...]: ...

KEY_INT2: Final[int]
KEY_INT4: Final[int]
KEY_INT8: Final[int]
KEY_TEXT: Final[int]
KEY_BPCHAR: Final[int]
KEY_UUID: Final[int]
KEY_BOOL: Final[int]
KEY_DATE: Final[int]
KEY_TIMESTAMP: Final[int]
KEY_TIMESTAMPTZ: Final[int]
KEY_NUMERIC: Final[int]
KEY_BYTEA: Final[int]

PLACE_EVERYWHERE: Final[int]
PLACE_INVALID: Final[int]
PLACE_UNSUPPORTED: Final[int]
PLACE_NO_PARTITION: Final[int]

class Infinite(enum.Enum):
    MINVALUE = -1
    MAXVALUE = 1

MINVALUE: Final = Infinite.MINVALUE
MAXVALUE: Final = Infinite.MAXVALUE

class Placement:
    @staticmethod
    def hash(
        nshards: int,
        types: Sequence[int | tuple[int, int]],
        *,
        server_version: int = 18,
        encoding: str = "UTF8",
        utc: bool = False,
    ) -> Placement: ...
    @staticmethod
    def list(
        nshards: int,
        key_type: int | tuple[int, int],
        values: Sequence[tuple[bytes | None, int]],
        default: int | None = None,
        *,
        server_version: int = 18,
        encoding: str = "UTF8",
        utc: bool = False,
    ) -> Placement: ...
    @staticmethod
    def range(
        nshards: int,
        types: Sequence[int | tuple[int, int]],
        bounds: Sequence[tuple[Sequence[bytes | Infinite], Sequence[bytes | Infinite], int]],
        default: int | None = None,
        *,
        server_version: int = 18,
        encoding: str = "UTF8",
        utc: bool = False,
    ) -> Placement: ...
    @staticmethod
    def reference(nshards: int) -> Placement: ...
    @staticmethod
    def single(nshards: int, shard: int) -> Placement: ...
    @property
    def nshards(self) -> int: ...
    @property
    def nkeys(self) -> int: ...
    def place(self, values: Sequence[bytes | None], binary: bool = False) -> int: ...

def copy_text(rows: Sequence[tuple[object, ...]]) -> bytes: ...
def canonical(
    key_type: int | tuple[int, int],
    value: bytes,
    binary: bool = False,
    *,
    server_version: int = 18,
    encoding: str = "UTF8",
    utc: bool = False,
) -> bytes | int: ...
def output(
    key_type: int | tuple[int, int],
    value: bytes,
    binary: bool = False,
    *,
    server_version: int = 18,
    encoding: str = "UTF8",
    utc: bool = False,
) -> bytes | int: ...

class Marker(enum.Enum):
    ABSENT = 0
    ASCII_ONLY = 1

ABSENT: Final = Marker.ABSENT
ASCII_ONLY: Final = Marker.ASCII_ONLY

# The shard number of sealed buffers that go to every shard (reference placement).
ALL_SHARDS: Final[int]

def simd() -> str: ...
def simd_paths() -> list[str]: ...
def force_simd(name: str | None) -> None: ...

class Splitter:
    placement: Final[Placement]

    def __init__(
        self,
        placement: Placement,
        *,
        format: Literal["text", "csv", "binary"] = "text",  # noqa: A002
        key_fields: Sequence[int] = (),
        constants: Sequence[bytes | Literal[Marker.ABSENT] | None] | None = None,
        delimiter: bytes | None = None,
        quote: bytes = b'"',
        escape: bytes | None = None,
        null: bytes | None = None,
        default: bytes | None = None,
        default_values: Sequence[bytes | Literal[Marker.ABSENT] | None] | None = None,
        header: bool = False,
        force_null: Sequence[bool] | None = None,
        force_not_null: Sequence[bool] | None = None,
        server_version: int = 18,
        transcode: Sequence[bytes] | Literal[Marker.ASCII_ONLY] | None = None,
        # Rows for which a COPY would end, and a header, go to a shard of their own, number placement.nshards.
        set_aside: bool = False,
        # And rows of more bytes, as they come; 0 for the most that a server takes.
        max_row: int = 0,
        buffer_size: int = 262144,
    ) -> None: ...
    # Raises SplitError once; from then on CopyData is read and dropped.
    def feed(self, data: Buffer) -> int: ...
    def ready(self) -> list[tuple[int, bytes]]: ...
    def flush(self) -> list[tuple[int, bytes]]: ...
    def flush_shard(self, shard: int) -> None: ...
    # With set_aside; of the client's input: line, offset after the row, line, offset ...
    def marks(self, shard: int) -> array[int]: ...
    # If it raises SplitError, what was placed before is what ready() gives.
    def finish(self) -> list[tuple[int, bytes]]: ...
    @property
    def pending(self) -> bool: ...
    @property
    def trailed(self) -> bool: ...
    @property
    def newline(self) -> int: ...
    # With a row's beginning flushed and its end to come, what a shard has got does not end where a row does. With
    # set_aside it is a row longer than max_row, on the shard of rows set aside.
    @property
    def streaming(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def lines(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def poison(self) -> list[tuple[int, int]]: ...
    def rows_of(self, shard: int) -> int: ...
    def poison_count(self, shard: int) -> int: ...
    def client_line(self, shard: int, shard_line: int) -> int | None: ...

ROW_ENCODING: Final[int]  # at: offset of the byte
ROW_UNTERMINATED: Final[int]
ROW_REFUSED: Final[int]  # by the way it ends: with message and hint
ROW_MISSING: Final[int]  # at: the fields that there are
ROW_EXTRA: Final[int]

# Of whole rows: the offset after each, the number of lines up to its end, and what is certainly wrong:
# (number of the row from 0, ROW_..., at, message, hint). Encodings other than UTF8 are only looked at for zero bytes.
def check_rows(
    data: Buffer,
    fields: int,
    *,
    format: Literal["text", "csv", "binary"] = "text",  # noqa: A002
    delimiter: bytes | None = None,
    quote: bytes = b'"',
    escape: bytes | None = None,
    server_version: int = 18,
    utf8: bool = False,
    newline: int = 0,  # Splitter.newline of the whole input
) -> tuple[array[int], array[int], list[tuple[int, int, int, str | None, str | None]]]: ...

class FrameMerge:
    nsources: Final[int]

    def __init__(
        self,
        nsources: int,
        type_byte: bytes,
        format: Literal["text", "csv", "binary"] | None = None,  # noqa: A002
        header: bool = False,
        limit: int | None = None,
    ) -> None: ...
    def feed(self, source: int, data: Buffer) -> tuple[int, bytes]: ...
    def tail(self) -> bytes: ...
    @property
    def rows(self) -> int: ...

SHAPE_INTEGER: Final[int]
SHAPE_STRING: Final[int]

class MessageWalk:
    def __init__(self, limits: Sequence[int]) -> None: ...
    def __call__(self, data: Buffer, position: int = 0) -> tuple[bytes, list[int]]: ...

def run_end(data: Buffer, position: int, type_byte: int, limit: int) -> int: ...
def read_bind(data: Buffer, start: int, end: int) -> tuple[bytes, bytes, int] | None: ...
def bind_parameter(data: Buffer, start: int, end: int, n: int) -> tuple[int, bytes | None] | None: ...
def rebind(data: Buffer, start: int, end: int, portal: bytes, statement: bytes) -> bytes | None: ...
def shape(data: Buffer, start: int, end: int) -> tuple[bytes, bytes, tuple[bytes, ...]] | None: ...

"""The native core: placement of rows by their key."""

import enum
from collections.abc import Sequence
from typing import Final

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

def canonical(
    key_type: int | tuple[int, int],
    value: bytes,
    binary: bool = False,
    *,
    server_version: int = 18,
    encoding: str = "UTF8",
    utc: bool = False,
) -> bytes | int: ...

"""Types of the user's own have another OID on each shard. What carries OIDs is translated by the types' names.

Clients know a type by its OID on one shard, the canonical one, whose pg_type they read. `TypeMap` is for one other
shard. It translates OIDs both ways, and the binary values that have OIDs inside: arrays have their element's, composite
values and records those of their fields (array_send, record_send); domains, ranges and multiranges have whatever their
base or bounds have. OIDs below 16384 are PostgreSQL's own, and the same everywhere.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct, error
from typing import Final, NamedTuple

from shardproxy.errors import ProtocolError
from shardproxy.wire.decode import data_row as read_row
from shardproxy.wire.encode import data_row

FIRST_NORMAL: Final = 16384
"""FirstNormalObjectId (access/transam.h): what the user makes has this OID or a greater one."""

UNKNOWN: Final = 705
"""The pseudo-type unknown."""

RECORD, RECORD_ARRAY = 2249, 2287

_EMPTY, _NO_LOWER, _NO_UPPER = 0x01, 0x08 | 0x20, 0x10 | 0x40  # rangetypes.h: infinite, or null
_word = Struct("!i")
_oid = Struct("!I")
_field = Struct("!IhIhih")  # what follows a column's name


class UserType(NamedTuple):
    """A type of a shard's: `kind` is a(rray), c(omposite), d(omain), r(ange), m(ultirange) or o(ther).

    `of` is the OID of the element, of the base type, of the bounds, or of the multirange's range.
    """

    name: tuple[str, str]
    kind: str
    of: int


_RECORDS: Final = {
    RECORD: UserType(("pg_catalog", "record"), "c", 0),
    RECORD_ARRAY: UserType(("pg_catalog", "record[]"), "a", RECORD),
}


class UnknownOidError(Exception):
    """The other side has no type of this one's name, or this one none of this OID."""

    def __init__(self, oid: int) -> None:
        super().__init__(oid)
        self.oid = oid


def is_own(oid: int) -> bool:
    """Whether a type may have another OID on another shard, or have such OIDs in its values."""
    return oid >= FIRST_NORMAL or oid in _RECORDS


def type_oids(description: bytes) -> list[tuple[int, int, int]]:
    """Return of each column of a RowDescription where its type stands, the type, and the format."""
    found = []
    at = 2
    try:
        for _ in range(int.from_bytes(description[:2])):
            at = description.index(0, at) + 1
            _, _, oid, _, _, form = _field.unpack_from(description, at)
            found.append((at + 6, oid, form))
            at += _field.size
    except (ValueError, error) as broken:
        raise ProtocolError("invalid RowDescription message") from broken
    return found


class TypeMap:
    """Types of the canonical shard, and what another shard's are to it."""

    def __init__(self, canonical: Mapping[int, UserType], others: Mapping[int, UserType]) -> None:
        by_name = {one.name: oid for oid, one in canonical.items()}
        self._types = {**canonical, **_RECORDS}
        self._canonical = {oid: by_name[one.name] for oid, one in others.items() if one.name in by_name}
        self._theirs = {oid: other for other, oid in self._canonical.items()}
        self._others = others
        self._descriptions: dict[bytes, bytes] = {}
        self.same = all(oid == other for oid, other in self._theirs.items())
        """Whether the OIDs are."""

    def canonical(self, oid: int) -> int:
        """Return what the client knows a type of the shard's by; raises UnknownOidError."""
        return oid if oid < FIRST_NORMAL else _found(self._canonical, oid)

    def theirs(self, oid: int) -> int:
        """Return what the shard knows a type of the client's by; raises UnknownOidError."""
        return oid if oid < FIRST_NORMAL else _found(self._theirs, oid)

    def parse_oids(self, oids: Sequence[int]) -> list[int]:
        """Return a Parse message's types for the shard: one that it does not know is left to it to infer."""
        return [oid if oid < FIRST_NORMAL else self._theirs.get(oid, 0) for oid in oids]

    def name(self, oid: int, *, canonical: bool) -> str | None:
        """Return a type's name as SQL, None if it is not known; the OID is the canonical one, or the shard's."""
        one = (self._types if canonical else self._others).get(oid)
        return None if one is None else ".".join(one.name)

    def carries(self, oid: int) -> bool:
        """Whether binary values of a type, by its canonical OID, have OIDs inside."""
        one = self._types.get(oid)
        return one is not None and (one.kind in "ac" or (one.kind in "drm" and self.carries(one.of)))

    def description(self, payload: bytes) -> bytes:
        """Return a RowDescription with the canonical OIDs; raises UnknownOidError."""
        made = bytearray(payload)
        for at, oid, _ in type_oids(payload):
            if oid >= FIRST_NORMAL:
                _oid.pack_into(made, at, self.canonical(oid))
        return bytes(made)

    def description_now(self, payload: bytes) -> bytes:
        """As `description`, for one that is likely to come again; what is not known is "unknown"."""
        made = self._descriptions.get(payload)
        if made is None:
            shown = bytearray(payload)
            for at, oid, _ in type_oids(payload):
                if oid >= FIRST_NORMAL:
                    _oid.pack_into(shown, at, self._canonical.get(oid, UNKNOWN))
            if len(self._descriptions) >= 1000:
                self._descriptions.clear()
            made = self._descriptions[payload] = bytes(shown)
        return made

    # Binary values.

    def carrying(self, types: Iterable[tuple[int, int]]) -> dict[int, int]:
        """Of columns or parameters (canonical type, format), return the types by number of those to be rewritten."""
        return {number: oid for number, (oid, form) in enumerate(types) if form == 1 and self.carries(oid)}

    def row(self, payload: bytes, columns: Mapping[int, int]) -> bytes:
        """Return a DataRow message of the shard's for the client; raises UnknownOidError, ProtocolError."""
        values = read_row(payload)
        if columns and max(columns) >= len(values):
            raise ProtocolError("a row has fewer columns than were described")
        return data_row(self.values(values, columns, to_client=True))

    def values(
        self, values: Sequence[bytes | None], types: Mapping[int, int], *, to_client: bool
    ) -> list[bytes | None]:
        """Return values with the OIDs inside translated; `types` by number are canonical."""
        made = list(values)
        for number, oid in types.items():
            value = made[number]
            if value is not None:
                made[number] = _Rewrite(self._types, self.canonical if to_client else self.theirs, to_client).value(
                    value, oid
                )
        return made


def _found(oids: Mapping[int, int], oid: int) -> int:
    found = oids.get(oid)
    if found is None:
        raise UnknownOidError(oid)
    return found


class _Rewrite:
    """One value on its way. What PostgreSQL will refuse goes on as it came."""

    def __init__(self, types: Mapping[int, UserType], translate: Callable[[int], int], to_client: bool) -> None:
        self._types = types
        self._translate = translate
        self._to_client = to_client

    def value(self, data: bytes, oid: int) -> bytes:
        """Return a value of the canonical type `oid`."""
        one = self._types.get(oid)
        try:
            match one.kind if one is not None else "o":
                case "a":
                    return self._array(data)
                case "c":
                    return self._composite(data)
                case "d":
                    return self.value(data, one.of)  # type: ignore[union-attr]
                case "r":
                    return self._range(data, one.of)  # type: ignore[union-attr]
                case "m":
                    return self._multirange(data, one.of)  # type: ignore[union-attr]
        except (error, IndexError):
            return data
        return data

    def _inner(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Translate the OID at `at`; return it, and the canonical one."""
        [oid] = _oid.unpack_from(data, at)
        translated = self._translate(oid)
        return _oid.pack(translated), translated if self._to_client else oid

    def _item(self, data: bytes, at: int, oid: int) -> tuple[bytes, int]:
        """Return the value at `at`, after its length, and where it ends."""
        [size] = _word.unpack_from(data, at)
        if size < 0:
            return data[at : at + 4], at + 4
        end = at + 4 + size
        if end > len(data):
            raise IndexError
        value = self.value(data[at + 4 : end], oid)
        return _word.pack(len(value)) + value, end

    def _array(self, data: bytes) -> bytes:
        # Dimensions, flags, the element's type; of each dimension size and lower bound; the elements.
        dimensions, _ = _word.unpack_from(data, 0)[0], _word.unpack_from(data, 4)
        shown, oid = self._inner(data, 8)
        at = 12 + 8 * dimensions
        made = [data[:8], shown, data[12:at]]
        while at < len(data):
            item, at = self._item(data, at, oid)
            made.append(item)
        return b"".join(made)

    def _composite(self, data: bytes) -> bytes:
        # The number of fields; of each its type and its value.
        made, at = [data[:4]], 4
        while at < len(data):
            shown, oid = self._inner(data, at)
            item, at = self._item(data, at + 4, oid)
            made += shown, item
        return b"".join(made)

    def _range(self, data: bytes, oid: int) -> bytes:
        flags, at = data[0], 1
        made = [data[:1]]
        for absent in (_NO_LOWER, _NO_UPPER):
            if not flags & (_EMPTY | absent):
                item, at = self._item(data, at, oid)
                made.append(item)
        return b"".join([*made, data[at:]])

    def _multirange(self, data: bytes, oid: int) -> bytes:
        made, at = [data[:4]], 4
        while at < len(data):
            item, at = self._item(data, at, oid)
            made.append(item)
        return b"".join(made)

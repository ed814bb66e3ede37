# From key values to a shard: the Python face of core/placement/. Included by _native.pyx.

from libc.stdint cimport int32_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset


cdef extern from "placement/placement.h" nogil:
    enum:
        SP_EVERYWHERE, SP_NO_PARTITION
        SP_MAX_KEYS
        SP_BUILD_MEMORY, SP_BUILD_ARGUMENT, SP_BUILD_SPELLING, SP_BUILD_UNCERTAIN, SP_BUILD_TOO_LONG
        SP_BUILD_DUPLICATE, SP_BUILD_EMPTY, SP_BUILD_OVERLAP, SP_BUILD_NULL, SP_BUILD_MIN_MAX
        SP_BOUND_MINVALUE, SP_BOUND_VALUE, SP_BOUND_MAXVALUE
        SP_NO_DEFAULT

    ctypedef struct sp_placement:
        uint32_t nshards
        uint32_t nkeys

    ctypedef struct sp_build_error:
        int32_t code
        size_t index
        size_t other
        size_t column

    ctypedef struct sp_bound:
        int32_t kind
        sp_value value

    int32_t sp_place(const sp_placement *p, const sp_value *values, int binary)
    sp_placement *sp_placement_hash(uint32_t, const sp_keytype *, size_t, const sp_settings *, sp_build_error *)
    sp_placement *sp_placement_list(
        uint32_t, sp_keytype, const sp_value *, const int32_t *, size_t, int32_t, const sp_settings *,
        sp_build_error *)
    sp_placement *sp_placement_range(
        uint32_t, const sp_keytype *, size_t, const sp_bound *, const sp_bound *, const int32_t *, size_t, int32_t,
        const sp_settings *, sp_build_error *)
    sp_placement *sp_placement_reference(uint32_t, sp_build_error *)
    sp_placement *sp_placement_single(uint32_t, uint32_t, sp_build_error *)
    sp_placement *sp_placement_retain(sp_placement *)
    void sp_placement_release(sp_placement *)


PLACE_EVERYWHERE = SP_EVERYWHERE
PLACE_NO_PARTITION = SP_NO_PARTITION


class Infinite(enum.Enum):
    """The ends of a range that no value has, as CREATE TABLE ... FOR VALUES spells them."""

    MINVALUE = SP_BOUND_MINVALUE
    MAXVALUE = SP_BOUND_MAXVALUE


MINVALUE = Infinite.MINVALUE
MAXVALUE = Infinite.MAXVALUE

cdef class Placement:
    """Where a row lies by the values of its key columns. Immutable; built by one of the static methods.

    Types are KEY_ codes or (code, typmod). Values are spellings as COPY reads them, unescaped and in the server's
    encoding, or binary fields. `server_version` is the major one: 16 reads integers such as 0x1F and 1_000.
    `utc` means that the session's TimeZone is UTC, so a timestamptz without an offset is known.
    """

    cdef sp_placement *ptr

    def __cinit__(self):
        self.ptr = NULL

    def __init__(self):
        raise TypeError("use Placement.hash, list, range, reference or single")

    def __dealloc__(self):
        sp_placement_release(self.ptr)

    @staticmethod
    cdef Placement wrap(sp_placement *ptr):
        cdef Placement self = Placement.__new__(Placement)
        self.ptr = ptr
        return self

    @staticmethod
    def hash(int nshards, types, *, int server_version=18, str encoding="UTF8", bint utc=False):
        """Remainder r of PostgreSQL's partition hash, modulus `nshards`, is shard r."""
        cdef sp_keytype keytypes[SP_MAX_KEYS]
        cdef sp_settings settings = _settings(server_version, encoding, utc)
        cdef sp_build_error error
        cdef sp_placement *ptr
        count = _keytypes(types, keytypes)
        _shard_count(nshards)
        ptr = sp_placement_hash(nshards, keytypes, count, &settings, &error)
        if ptr == NULL:
            _raise_build_error(&error, None)
        return Placement.wrap(ptr)

    @staticmethod
    def list(int nshards, key_type, values, default=None, *, int server_version=18, str encoding="UTF8",
             bint utc=False):
        """Each (value, shard) of `values`, None for NULL; other values go to `default`, if there is one.

        ValueError for a value that the type does not read, or one on two shards.
        """
        cdef sp_settings settings = _settings(server_version, encoding, utc)
        cdef sp_build_error error
        cdef sp_placement *ptr
        cdef sp_value *borrowed
        cdef int32_t *shards
        cdef int32_t fallback = _default(default)
        cdef sp_keytype keytype = _keytype(key_type)
        cdef size_t i, count
        _shard_count(nshards)
        held = [(value, shard) for value, shard in values]
        count = len(held)
        borrowed = <sp_value *>malloc((count + 1) * sizeof(sp_value))
        shards = <int32_t *>malloc((count + 1) * sizeof(int32_t))
        try:
            if borrowed == NULL or shards == NULL:
                raise MemoryError
            for i in range(count):
                _value(held[i][0], &borrowed[i])
                shards[i] = held[i][1]
            ptr = sp_placement_list(nshards, keytype, borrowed, shards, count, fallback, &settings, &error)
        finally:
            free(borrowed)
            free(shards)
        if ptr == NULL:
            _raise_build_error(&error, lambda index, column: _spelled(held[index][0]))
        return Placement.wrap(ptr)

    @staticmethod
    def range(int nshards, types, bounds, default=None, *, int server_version=18, str encoding="UTF8",
              bint utc=False):
        """Each (lower, upper, shard) of `bounds`: tuples of spellings, MINVALUE or MAXVALUE, upper exclusive.

        Other keys, and those with a NULL, go to `default`, if there is one. ValueError for bounds that CREATE
        TABLE ... PARTITION OF would refuse.
        """
        cdef sp_keytype keytypes[SP_MAX_KEYS]
        cdef sp_settings settings = _settings(server_version, encoding, utc)
        cdef sp_build_error error
        cdef sp_placement *ptr
        cdef sp_bound *both
        cdef int32_t *shards
        cdef int32_t fallback = _default(default)
        cdef size_t i, count, nkeys
        nkeys = _keytypes(types, keytypes)
        _shard_count(nshards)
        held = [(tuple(lower), tuple(upper), shard) for lower, upper, shard in bounds]
        count = len(held)
        both = <sp_bound *>malloc((2 * count * nkeys + 1) * sizeof(sp_bound))
        shards = <int32_t *>malloc((count + 1) * sizeof(int32_t))
        try:
            if both == NULL or shards == NULL:
                raise MemoryError
            for i in range(count):
                lower, upper, shard = held[i]
                _bounds(lower, nkeys, both + i * nkeys)
                _bounds(upper, nkeys, both + (count + i) * nkeys)
                shards[i] = shard
            ptr = sp_placement_range(
                nshards, keytypes, nkeys, both, both + count * nkeys, shards, count, fallback, &settings, &error)
        finally:
            free(both)
            free(shards)
        if ptr == NULL:
            _raise_build_error(&error, lambda index, column: _spelled_range(held[index]))
        return Placement.wrap(ptr)

    @staticmethod
    def reference(int nshards):
        """Every row on every shard; `place` answers PLACE_EVERYWHERE."""
        cdef sp_build_error error
        _shard_count(nshards)
        cdef sp_placement *ptr = sp_placement_reference(nshards, &error)
        if ptr == NULL:
            _raise_build_error(&error, None)
        return Placement.wrap(ptr)

    @staticmethod
    def single(int nshards, int shard):
        """Every row on one shard."""
        cdef sp_build_error error
        _shard_count(nshards)
        if not 0 <= shard < nshards:
            raise ValueError(f"shard {shard} is not one of {nshards}")
        cdef sp_placement *ptr = sp_placement_single(nshards, shard, &error)
        if ptr == NULL:
            _raise_build_error(&error, None)
        return Placement.wrap(ptr)

    @property
    def nshards(self):
        """How many shards there are."""
        return self.ptr.nshards

    @property
    def nkeys(self):
        """How many values `place` takes: 0 for reference and single."""
        return self.ptr.nkeys

    def place(self, values, bint binary=False):
        """Return the shard of these key values, or a negative PLACE_ code."""
        cdef sp_value borrowed[SP_MAX_KEYS]
        cdef Py_ssize_t i
        held = tuple(values)
        if <size_t>len(held) != self.ptr.nkeys:
            raise ValueError(f"{len(held)} values for {self.ptr.nkeys} key columns")
        for i in range(len(held)):
            _value(held[i], &borrowed[i])
        return sp_place(self.ptr, borrowed, binary)


cdef int _shard_count(int nshards) except -1:
    if nshards < 1:
        raise ValueError("a placement needs at least one shard")
    return 0


cdef int32_t _default(object shard) except? -2:
    if shard is None:
        return SP_NO_DEFAULT
    if not 0 <= shard < 2**31:
        raise ValueError(f"no shard has the number {shard}")
    return shard


cdef int _bounds(tuple given, size_t nkeys, sp_bound *bounds) except -1:
    cdef size_t k
    if <size_t>len(given) != nkeys:
        raise ValueError(f"{len(given)} bounds for {nkeys} key columns")
    for k in range(nkeys):
        if isinstance(given[k], Infinite):
            memset(&bounds[k], 0, sizeof(sp_bound))
            bounds[k].kind = given[k].value
        else:
            bounds[k].kind = SP_BOUND_VALUE
            _value(given[k], &bounds[k].value)
    return 0


def _spelled(value):
    if value is None:
        return "NULL"
    if isinstance(value, Infinite):
        return value.name
    return repr(value.decode("utf-8", "backslashreplace"))


def _spelled_range(held):
    lower, upper, _ = held
    return f"from ({', '.join(map(_spelled, lower))}) to ({', '.join(map(_spelled, upper))})"


cdef size_t _keytypes(object types, sp_keytype *keytypes) except 0:
    held = tuple(types)
    if not 1 <= len(held) <= SP_MAX_KEYS:
        raise ValueError(f"a key has 1 to {SP_MAX_KEYS} columns")
    for i, given in enumerate(held):
        keytypes[i] = _keytype(given)
    return len(held)


cdef object _raise_build_error(sp_build_error *error, spell):
    """Raise ValueError or MemoryError; `spell(index, column)` quotes the value or range that the error is about."""
    if error.code == SP_BUILD_MEMORY:
        raise MemoryError
    if error.code == SP_BUILD_ARGUMENT:
        raise ValueError("number of shards, shard or key type out of range")
    where = spell(error.index, error.column)
    if error.code == SP_BUILD_SPELLING:
        raise ValueError(f"{where} is not a value of the key's type")
    if error.code == SP_BUILD_UNCERTAIN:
        raise ValueError(f"{where} depends on settings such as DateStyle or TimeZone: write it in ISO form")
    if error.code == SP_BUILD_TOO_LONG:
        raise ValueError(f"{where} is too long for a bound")
    if error.code == SP_BUILD_NULL:
        raise ValueError(f"{where}: a range bound cannot be NULL")
    if error.code == SP_BUILD_MIN_MAX:
        raise ValueError(f"{where}: every bound after MINVALUE or MAXVALUE must be the same")
    if error.code == SP_BUILD_EMPTY:
        raise ValueError(f"{where}: the range is empty, its lower bound is not below its upper bound")
    other = spell(error.other, error.column)
    if error.code == SP_BUILD_DUPLICATE:
        raise ValueError(f"{where} is on two shards")
    raise ValueError(f"{where} overlaps {other}")

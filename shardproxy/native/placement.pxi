# From key values to a shard: the Python face of core/types/ and core/placement/. Included by _native.pyx.

import collections

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset


cdef extern from "types/types.h" nogil:
    enum:
        SP_KEY_LAST
        SP_INVALID, SP_UNSUPPORTED
        SP_ENC_UTF8, SP_ENC_SINGLE, SP_ENC_OTHER

    ctypedef struct sp_value:
        const uint8_t *data
        size_t len
        int is_null

    ctypedef struct sp_keytype:
        int32_t code
        int32_t typmod

    ctypedef struct sp_settings:
        int32_t server_version
        int32_t encoding
        int32_t utc

    ctypedef struct sp_type:
        const char *name
        const char *sql
        uint32_t oid
        const char *family
        int collatable
        int varying
        const char *same
        const char *literals
        const char *understood
        const char *refused

    const sp_type sp_types[]
    int32_t sp_key_canonical(
        sp_keytype, const sp_settings *, const sp_value *, int, uint8_t *, size_t, const uint8_t **, size_t *)
    int32_t sp_key_text(
        sp_keytype, const sp_settings *, const sp_value *, int, uint8_t *, size_t, const uint8_t **, size_t *)
    int sp_keytype_ok(sp_keytype)


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


KeyType = collections.namedtuple(
    "KeyType", "code name sql oid family collatable varying same literals understood refused")


cdef str _words(const char *given):
    return "" if given == NULL else (<bytes>given).decode("ascii")


def key_types():
    """Return the rows of the table of key types (core/types/types.def), in its order."""
    return tuple(
        KeyType(
            code, _words(sp_types[code].name), _words(sp_types[code].sql), sp_types[code].oid,
            _words(sp_types[code].family), sp_types[code].collatable != 0, sp_types[code].varying != 0,
            frozenset(_words(sp_types[code].same).split()), frozenset(_words(sp_types[code].literals).split()),
            _words(sp_types[code].understood), _words(sp_types[code].refused))
        for code in range(1, SP_KEY_LAST + 1))


# The types that tests and benchmarks call by name; all others are found in key_types().
_codes = {row.name: row.code for row in key_types()}
KEY_INT2 = _codes["int2"]
KEY_INT4 = _codes["int4"]
KEY_INT8 = _codes["int8"]
KEY_TEXT = _codes["text"]
KEY_BPCHAR = _codes["bpchar"]
KEY_UUID = _codes["uuid"]
KEY_BOOL = _codes["bool"]
KEY_DATE = _codes["date"]
KEY_TIMESTAMP = _codes["timestamp"]
KEY_TIMESTAMPTZ = _codes["timestamptz"]
KEY_NUMERIC = _codes["numeric"]
KEY_BYTEA = _codes["bytea"]

PLACE_EVERYWHERE = SP_EVERYWHERE
PLACE_INVALID = SP_INVALID
PLACE_UNSUPPORTED = SP_UNSUPPORTED
PLACE_NO_PARTITION = SP_NO_PARTITION


class Infinite(enum.Enum):
    """The ends of a range that no value has, as CREATE TABLE ... FOR VALUES spells them."""

    MINVALUE = SP_BOUND_MINVALUE
    MAXVALUE = SP_BOUND_MAXVALUE


MINVALUE = Infinite.MINVALUE
MAXVALUE = Infinite.MAXVALUE

# Server encodings in which one byte is not always one character, apart from UTF8.
_MULTIBYTE = frozenset(("EUC_CN", "EUC_JIS_2004", "EUC_JP", "EUC_KR", "EUC_TW", "MULE_INTERNAL"))


cdef sp_keytype _keytype(object given) except *:
    cdef sp_keytype keytype
    if isinstance(given, tuple):
        keytype.code, keytype.typmod = given
    else:
        keytype.code = given
        keytype.typmod = -1
    if not sp_keytype_ok(keytype):
        raise ValueError(f"unknown key type {given!r}")
    return keytype


cdef sp_settings _settings(int server_version, str encoding, bint utc):
    cdef sp_settings settings
    settings.server_version = server_version
    settings.utc = utc
    if encoding == "UTF8":
        settings.encoding = SP_ENC_UTF8
    elif encoding in _MULTIBYTE:
        settings.encoding = SP_ENC_OTHER
    else:
        settings.encoding = SP_ENC_SINGLE
    return settings


cdef int _value(object given, sp_value *value) except -1:
    """Borrow a bytes object; it must outlive the value."""
    cdef bytes data
    if given is None:
        value.data = NULL
        value.len = 0
        value.is_null = 1
        return 0
    data = given
    value.data = <const uint8_t *>(<const char *>data)
    value.len = len(data)
    value.is_null = 0
    return 0


cdef class Placement:
    """Where a row lies by the values of its key columns. Immutable; built by one of the static methods.

    Types are KEY_ codes or (code, typmod). Values are spellings as COPY reads them, unescaped and in the server's
    encoding, or binary fields. `server_version` is the major one: 16 reads integers such as 0x1F and 1_000.
    `utc` says that the session's TimeZone is UTC, so a timestamptz without an offset is known.
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
    """`spell(index, column)` quotes the value or range that the error is about."""
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
        raise ValueError(f"{where}: every bound behind MINVALUE or MAXVALUE must be the same")
    if error.code == SP_BUILD_EMPTY:
        raise ValueError(f"{where}: the range is empty, its lower bound is not below its upper bound")
    other = spell(error.other, error.column)
    if error.code == SP_BUILD_DUPLICATE:
        raise ValueError(f"{where} is on two shards")
    raise ValueError(f"{where} overlaps {other}")


def canonical(key_type, bytes value not None, bint binary=False, *, int server_version=18, str encoding="UTF8",
              bint utc=False):
    """Return the bytes that compare as PostgreSQL's values do, or a negative PLACE_ code."""
    return _form(sp_key_canonical, key_type, value, binary, server_version, encoding, utc)


def output(key_type, bytes value not None, bint binary=False, *, int server_version=18, str encoding="UTF8",
           bint utc=False):
    """Return the text that the type's output function makes of a value, or a negative PLACE_ code.

    Under DateStyle ISO, TimeZone UTC and IntervalStyle postgres.
    """
    return _form(sp_key_text, key_type, value, binary, server_version, encoding, utc)


ctypedef int32_t (*form_fn)(
    sp_keytype, const sp_settings *, const sp_value *, int, uint8_t *, size_t, const uint8_t **, size_t *) noexcept nogil


cdef object _form(
        form_fn form, object key_type, bytes value, bint binary, int server_version, str encoding, bint utc):
    cdef sp_keytype keytype = _keytype(key_type)
    cdef sp_settings settings = _settings(server_version, encoding, utc)
    cdef sp_value borrowed
    cdef const uint8_t *out = NULL
    cdef size_t length = 0
    cdef size_t cap = 160000 + 2 * len(value)  # a numeric has up to 131,072 digits before the point and 16,383 after
    cdef uint8_t *buf = NULL
    _value(value, &borrowed)
    try:
        while True:
            buf = <uint8_t *>malloc(cap)
            if buf == NULL:
                raise MemoryError
            status = form(keytype, &settings, &borrowed, binary, buf, cap, &out, &length)
            if status != 0:
                return status
            if out != buf or length <= cap:
                return out[:length]
            free(buf)  # a char(n) is padded to any n
            buf = NULL
            cap = length
    finally:
        free(buf)

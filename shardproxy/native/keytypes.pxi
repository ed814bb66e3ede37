# The key types and their values: the Python face of core/types/. Included by _native.pyx.

import collections

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc


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
        uint32_t integer_bits
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


KeyType = collections.namedtuple(
    "KeyType", "code name sql oid family integer_bits collatable varying same literals understood refused")


cdef str _words(const char *given):
    return "" if given == NULL else (<bytes>given).decode("ascii")


def key_types():
    """Return the rows of the table of key types (core/types/types.def), in its order."""
    return tuple(
        KeyType(
            code, _words(sp_types[code].name), _words(sp_types[code].sql), sp_types[code].oid,
            _words(sp_types[code].family), sp_types[code].integer_bits, sp_types[code].collatable != 0,
            sp_types[code].varying != 0,
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

PLACE_INVALID = SP_INVALID
PLACE_UNSUPPORTED = SP_UNSUPPORTED

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

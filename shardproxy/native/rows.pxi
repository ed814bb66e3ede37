# Rows of any driver as COPY's text format. Included by _native.pyx.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.unicode cimport PyUnicode_Check


cdef extern from "bytebuf.h":
    ctypedef struct sp_buf:
        uint8_t *data
        size_t len
        size_t cap
    int sp_buf_reserve(sp_buf *b, size_t more)
    int sp_buf_append(sp_buf *b, const uint8_t *p, size_t n)
    void sp_buf_free(sp_buf *b)


cdef extern from "rows/copy_text.h":
    int sp_copy_text_put(sp_buf *out, const uint8_t *value, size_t size)


cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef int _put(sp_buf *out, object value) except -1:
    cdef Py_ssize_t size
    cdef const char *text
    if value is None:
        if sp_buf_append(out, <const uint8_t *>b"\\N", 2):
            raise MemoryError
        return 0
    if isinstance(value, bytes):
        if sp_copy_text_put(out, <const uint8_t *>PyBytes_AS_STRING(value), <size_t>PyBytes_GET_SIZE(value)):
            raise MemoryError
        return 0
    if PyLong_CheckExact(value) or PyFloat_CheckExact(value):
        value = str(value)
    elif not PyUnicode_Check(value):
        raise TypeError(f"copy_text() takes bytes, str, int, float and None, not {type(value).__qualname__}")
    try:
        text = PyUnicode_AsUTF8AndSize(value, &size)
    except UnicodeEncodeError:
        return _put(out, value.encode("utf-8", "surrogatepass"))  # no UTF-8: the server refuses its row
    if sp_copy_text_put(out, <const uint8_t *>text, <size_t>size):
        raise MemoryError
    return 0


def copy_text(rows):
    """Return rows, tuples all, in COPY's text format, each with its line end.

    None is \\N; bytes are as they are but for what COPY escapes. TypeError for other values than bytes, str, int, float.
    """
    cdef sp_buf out
    cdef bint first
    memset(&out, 0, sizeof(out))
    try:
        for row in rows:
            first = True
            for value in <tuple?>row:
                if not first and sp_buf_append(&out, <const uint8_t *>b"\t", 1):
                    raise MemoryError
                first = False
                _put(&out, value)
            if sp_buf_append(&out, <const uint8_t *>b"\n", 1):
                raise MemoryError
        return (<char *>out.data)[:out.len] if out.len else b""
    finally:
        sp_buf_free(&out)

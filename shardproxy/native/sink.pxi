# Where the splitter's buffers come from and go: bytes objects, filled again once released. Included by _native.pyx.

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, uint8_t


cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1
    PyObject *raw_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size)
    void raw_decref "Py_XDECREF"(PyObject *o)
    void raw_incref "Py_INCREF"(PyObject *o)
    Py_ssize_t references "Py_REFCNT"(PyObject *o)
    void clear_error "PyErr_Clear"()


cdef enum:
    LENT = 8  # full buffers remembered: two for each of a few shards, 2 MiB at the usual size
    SMALL = 16  # a buffer of which no more than this part is used is copied


cdef uint8_t *_sink_alloc(void *context, size_t size, void **handle) noexcept:
    # One without another reference is filled again: fresh memory of this size costs a page fault every 4 KiB.
    cdef PyObject **lent = (<Splitter>context).lent
    cdef PyObject *buffer = NULL
    cdef int i
    for i in range(LENT):
        if lent[i] != NULL and references(lent[i]) == 1:
            buffer = lent[i]
            lent[i] = NULL
            break
    if buffer == NULL:
        buffer = raw_bytes(NULL, <Py_ssize_t>size)
    if buffer == NULL:
        clear_error()
        return NULL
    handle[0] = buffer
    return <uint8_t *>PyBytes_AS_STRING(<object>buffer)


cdef int _sink_seal(void *context, int32_t shard, void *handle, size_t used, size_t size) noexcept:
    cdef PyObject *buffer = <PyObject *>handle
    cdef PyObject *whole
    try:
        if used <= size // SMALL:
            # To shrink it takes the system longer than this copy; and malloc learns to keep memory of this size only
            # where it is freed whole.
            whole = buffer
            buffer = raw_bytes(PyBytes_AS_STRING(<object>whole), <Py_ssize_t>used)
            raw_decref(whole)
            if buffer == NULL:
                clear_error()
                return -1
        elif used != size:
            _PyBytes_Resize(&buffer, <Py_ssize_t>used)
        else:
            _lend((<Splitter>context).lent, buffer)
        sealed = <object>buffer
        raw_decref(buffer)
        (<list>(<Splitter>context).sealed).append((shard, sealed))
    except MemoryError:
        return -1
    return 0


cdef void _lend(PyObject **lent, PyObject *buffer) noexcept:
    cdef int i
    for i in range(LENT):
        if lent[i] == NULL:
            raw_incref(buffer)
            lent[i] = buffer
            return


cdef void _sink_drop(void *context, void *handle) noexcept:
    raw_decref(<PyObject *>handle)

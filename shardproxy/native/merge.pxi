# Merging of several servers' messages: the Python face of core/merge.h. Included by _native.pyx.

from shardproxy.errors import ProtocolError


cdef extern from "merge/merge.h":
    enum:
        SP_MERGE_PLAIN, SP_MERGE_TEXT, SP_MERGE_BINARY
        SP_MERGE_OK, SP_MERGE_MEMORY, SP_MERGE_BAD_LENGTH, SP_MERGE_BAD_HEADER

    uint64_t SP_MERGE_ALL

    ctypedef struct sp_merge:
        pass

    sp_merge *sp_merge_new(uint32_t nsources, uint8_t type, int format, int header, uint64_t limit)
    void sp_merge_free(sp_merge *m)
    int sp_merge_feed(sp_merge *m, uint32_t source, const uint8_t *data, size_t len, size_t *taken, size_t *size)
    int sp_merge_take(sp_merge *m, uint8_t *out)
    size_t sp_merge_tail(const sp_merge *m, uint8_t *out, size_t room)
    uint64_t sp_merge_rows(const sp_merge *m)


_MERGE_FORMATS = {None: SP_MERGE_PLAIN, "text": SP_MERGE_TEXT, "csv": SP_MERGE_TEXT, "binary": SP_MERGE_BINARY}


cdef int _merge_result(int result) except -1:
    if result == SP_MERGE_MEMORY:
        raise MemoryError
    if result == SP_MERGE_BAD_LENGTH:
        raise ProtocolError("invalid message length")
    if result == SP_MERGE_BAD_HEADER:
        raise ProtocolError("binary COPY data from a server do not begin with the COPY signature")
    return 0


cdef class FrameMerge:
    """Several servers' messages of one type into one stream of whole messages, as they arrive.

    It never looks into rows and never waits for a source. One header line or binary signature gets through, no
    binary trailer; `tail` ends the stream. With `limit` the rows after so many are read and dropped.
    """

    cdef sp_merge *ptr
    cdef readonly uint32_t nsources

    def __cinit__(self, uint32_t nsources, bytes type_byte not None, format=None, bint header=False, limit=None):
        if len(type_byte) != 1:
            raise ValueError("type_byte must be a single byte")
        if format not in _MERGE_FORMATS:
            raise ValueError(f"unknown format {format!r}")
        self.nsources = nsources
        cdef uint64_t most = SP_MERGE_ALL if limit is None else limit
        self.ptr = sp_merge_new(nsources, type_byte[0], _MERGE_FORMATS[format], header, most)
        if self.ptr == NULL:
            raise MemoryError

    def __dealloc__(self):
        sp_merge_free(self.ptr)

    def feed(self, uint32_t source, data not None):
        """Read a source's bytes; return how many were taken, and whole messages to forward."""
        cdef Py_buffer view
        cdef size_t taken, size
        cdef bytes out
        if source >= self.nsources:
            raise IndexError(f"no source {source}")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            _merge_result(sp_merge_feed(self.ptr, source, <const uint8_t *>view.buf, <size_t>view.len, &taken, &size))
            out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
            _merge_result(sp_merge_take(self.ptr, <uint8_t *>PyBytes_AS_STRING(out)))
        finally:
            PyBuffer_Release(&view)
        return taken, out

    def tail(self):
        """Return what ends the merged stream, before CopyDone."""
        cdef size_t size = sp_merge_tail(self.ptr, NULL, 0)
        cdef bytes out = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        sp_merge_tail(self.ptr, <uint8_t *>PyBytes_AS_STRING(out), size)
        return out

    @property
    def rows(self):
        """How many rows have been forwarded."""
        return sp_merge_rows(self.ptr)

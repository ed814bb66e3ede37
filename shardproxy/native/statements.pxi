# What the fast lane of statements reads from a client's bytes: the Python face of core/sql. Included by _native.pyx.

from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint16_t
from libc.string cimport memcpy


cdef extern from "sql/messages.h" nogil:
    enum:
        SP_MESSAGE_HEADER

    ctypedef struct sp_limits:
        uint32_t of[256]

    ctypedef struct sp_bind:
        size_t statement
        size_t formats
        uint32_t nparams

    void sp_message_header(uint8_t *out, uint8_t type, uint32_t length)
    size_t sp_message_end(const uint8_t *data, size_t len, size_t at, const sp_limits *limits)
    size_t sp_messages_count(const uint8_t *data, size_t len, size_t at, const sp_limits *limits)
    size_t sp_messages_run(const uint8_t *data, size_t len, size_t at, uint8_t type, uint32_t limit)
    size_t sp_bind_names(const uint8_t *payload, size_t len, size_t *statement)
    int sp_bind_read(const uint8_t *payload, size_t len, sp_bind *out)
    int sp_bind_param(const uint8_t *payload, const sp_bind *bind, uint32_t n, const uint8_t **value, size_t *len)


cdef extern from "sql/shape.h" nogil:
    enum:
        SP_SHAPE_INTEGER, SP_SHAPE_STRING

    ctypedef struct sp_shape:
        size_t text_len
        size_t nconstants
        uint8_t *kinds
        uint16_t *starts
        uint8_t *text
        uint8_t *values

    int sp_shape_read(const uint8_t *sql, size_t len, sp_shape *out)


SHAPE_INTEGER = SP_SHAPE_INTEGER
SHAPE_STRING = SP_SHAPE_STRING


cdef int _view(object data, Py_ssize_t start, Py_ssize_t end, Py_buffer *view) except -1:
    """Fill a view whose bytes from start to end exist; it must be released."""
    PyObject_GetBuffer(data, view, PyBUF_SIMPLE)
    if 0 <= start <= end <= view.len:
        return 0
    PyBuffer_Release(view)
    raise IndexError(f"no bytes {start} to {end}")


cdef class MessageWalk:
    """Finds the whole messages of a chunk, under a limit of the length word for each type byte (0: may not come)."""

    cdef sp_limits limits

    def __cinit__(self, limits):
        values = list(limits)
        if len(values) != 256:
            raise ValueError("a limit is needed for each of the 256 type bytes")
        for kind in range(256):
            self.limits.of[kind] = values[kind]

    def __call__(self, data not None, Py_ssize_t position=0):
        """Return the type bytes of the whole messages from position on, and where each of them begins and the last ends.

        Message i is data[starts[i]:starts[i + 1]], its payload begins 5 bytes later, and starts[-1] is where reading
        has to go on: a message is not whole there, or its type or length is not legal.
        """
        cdef Py_buffer view
        cdef const uint8_t *p
        cdef size_t at = <size_t>position, count, i
        cdef bytes types
        cdef list starts
        cdef char *kinds
        cdef object start
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if not 0 <= position <= view.len:
                raise IndexError(f"no byte {position}")
            p = <const uint8_t *>view.buf
            count = sp_messages_count(p, <size_t>view.len, at, &self.limits)
            types = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>count)
            kinds = PyBytes_AS_STRING(types)
            starts = PyList_New(<Py_ssize_t>count + 1)
            for i in range(count + 1):
                start = at
                Py_INCREF(start)
                PyList_SET_ITEM(starts, <Py_ssize_t>i, start)
                if i < count:
                    kinds[i] = p[at]
                    at = sp_message_end(p, <size_t>view.len, at, &self.limits)
        finally:
            PyBuffer_Release(&view)
        return types, starts


def run_end(data not None, Py_ssize_t position, uint8_t type_byte, uint32_t limit):
    """Return where the run of whole messages of one type ends that begins at position, which may be position itself."""
    cdef Py_buffer view
    cdef size_t end
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if not 0 <= position <= view.len:
            raise IndexError(f"no byte {position}")
        end = sp_messages_run(<const uint8_t *>view.buf, <size_t>view.len, <size_t>position, type_byte, limit)
    finally:
        PyBuffer_Release(&view)
    return end


def read_bind(data not None, Py_ssize_t start, Py_ssize_t end):
    """Return the portal, the statement and the number of parameters of a Bind (F), whose payload is data[start:end].

    None: it is malformed, and what reads it next reports how.
    """
    cdef Py_buffer view
    cdef const char *payload
    cdef sp_bind bind
    _view(data, start, end, &view)
    try:
        payload = <const char *>view.buf + start
        if sp_bind_read(<const uint8_t *>payload, <size_t>(end - start), &bind) != 0:
            return None
        return payload[:bind.statement - 1], payload[bind.statement:bind.formats - 3], bind.nparams
    finally:
        PyBuffer_Release(&view)


def bind_parameter(data not None, Py_ssize_t start, Py_ssize_t end, uint32_t n):
    """Return the format and the value of parameter n, from 1, of a Bind (F), whose payload is data[start:end].

    The format is what the client gave, 0 (text) if it gave none; the value is None for NULL. None instead of both:
    the message is malformed or has no such parameter.
    """
    cdef Py_buffer view
    cdef const uint8_t *payload
    cdef const uint8_t *value
    cdef size_t length
    cdef int form
    cdef sp_bind bind
    _view(data, start, end, &view)
    try:
        payload = <const uint8_t *>view.buf + start
        if sp_bind_read(payload, <size_t>(end - start), &bind) != 0 or not 1 <= n <= bind.nparams:
            return None
        form = sp_bind_param(payload, &bind, n, &value, &length)
        return form, None if value == NULL else PyBytes_FromStringAndSize(<const char *>value, <Py_ssize_t>length)
    finally:
        PyBuffer_Release(&view)


def rebind(data not None, Py_ssize_t start, Py_ssize_t end, bytes portal not None, bytes statement not None):
    """Return a whole Bind (F) like the one whose payload is data[start:end], for another portal and statement.

    What follows the names is copied as it is, well-formed or not. None: the names do not end.
    """
    cdef Py_buffer view
    cdef const uint8_t *payload
    cdef size_t old, rest, named = <size_t>(len(portal) + len(statement) + 2), length
    cdef bytes message
    cdef uint8_t *out
    if b"\0" in portal or b"\0" in statement:
        raise ValueError("a name holds no zero byte")
    _view(data, start, end, &view)
    try:
        payload = <const uint8_t *>view.buf + start
        rest = sp_bind_names(payload, <size_t>(end - start), &old)
        if rest == 0:
            return None
        length = 4 + named + <size_t>(end - start) - rest
        if length > <size_t>INT32_MAX:
            raise ValueError("the message would be too long")
        message = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>length + 1)
        out = <uint8_t *>PyBytes_AS_STRING(message)
        sp_message_header(out, c"B", <uint32_t>length)
        out += SP_MESSAGE_HEADER
        memcpy(out, PyBytes_AS_STRING(portal), <size_t>len(portal) + 1)  # with the zero byte that bytes end in
        memcpy(out + len(portal) + 1, PyBytes_AS_STRING(statement), <size_t>len(statement) + 1)
        memcpy(out + named, payload + rest, <size_t>(end - start) - rest)
        return message
    finally:
        PyBuffer_Release(&view)


def shape(data not None, Py_ssize_t start, Py_ssize_t end):
    """Take the constants out of the SQL statement data[start:end]; return (text, kinds, values).

    The text is the statement with `$1`, `$2` ... in the place of its integers and strings, white space as it was.
    kinds has a byte for each, SHAPE_INTEGER (digits, with the minus sign if it has one) or SHAPE_STRING, and values
    their texts, quotes taken off. The same text with other kinds is another statement: types differ. With equal kinds
    they may, too: an integer may be int4 or int8.

    None for all that is not certainly an INSERT, UPDATE, DELETE, SELECT or WITH whose parse tree is the shape's with
    each ParamRef replaced by its A_Const (or that has a syntax error where the shape has one): anything but ASCII,
    backslashes, parameters, comments, other spellings of constants, typed constants, several statements, long ones.

    A shape is for finding a plan, not for being sent to a server, where a constant and a parameter differ in type.
    Who makes a plan from it may draw conclusions from parameters in key comparisons and VALUES, and from no other:
    LIMIT, OFFSET and conditions like 1 = 0 mean what their constants are, and constants that are equal in one
    statement (SELECT a + 1 ... GROUP BY a + 1) need not be in the next. Columns by number are never taken out.
    """
    cdef Py_buffer view
    cdef sp_shape out
    cdef tuple values
    cdef bytes value
    cdef size_t i
    cdef int result
    _view(data, start, end, &view)
    result = sp_shape_read(<const uint8_t *>view.buf + start, <size_t>(end - start), &out)
    PyBuffer_Release(&view)
    if result != 0:
        return None
    values = PyTuple_New(<Py_ssize_t>out.nconstants)
    for i in range(out.nconstants):
        value = PyBytes_FromStringAndSize(<const char *>out.values + out.starts[i], out.starts[i + 1] - out.starts[i])
        Py_INCREF(value)
        PyTuple_SET_ITEM(values, <Py_ssize_t>i, value)
    return (
        PyBytes_FromStringAndSize(<const char *>out.text, <Py_ssize_t>out.text_len),
        PyBytes_FromStringAndSize(<const char *>out.kinds, <Py_ssize_t>out.nconstants),
        values,
    )

# Rows looked at one by one: the Python face of core/copy/check.h. Included by _native.pyx.

cdef extern from "copy/check.h":
    enum:
        SP_ROW_WELL, SP_ROW_ENCODING, SP_ROW_UNTERMINATED, SP_ROW_REFUSED, SP_ROW_MISSING, SP_ROW_EXTRA

    ctypedef struct sp_checked:
        uint64_t end
        uint64_t lines
        uint64_t at
        uint32_t fault
        const char *message
        const char *hint

    ctypedef struct sp_checker:
        pass

    sp_checker *sp_checker_new(const sp_options *options, int32_t fields, int utf8, int newline)
    void sp_checker_free(sp_checker *c)
    void sp_check_row(sp_checker *c, const uint8_t *data, size_t n, size_t start, uint64_t previous,
                      sp_checked *out) noexcept


ROW_ENCODING = SP_ROW_ENCODING
ROW_UNTERMINATED = SP_ROW_UNTERMINATED
ROW_REFUSED = SP_ROW_REFUSED
ROW_MISSING = SP_ROW_MISSING
ROW_EXTRA = SP_ROW_EXTRA


def check_rows(data not None, int fields, *, str format="text", bytes delimiter=None, bytes quote=b'"',
               bytes escape=None, int server_version=18, bint utf8=False, int newline=0):
    """Look at whole rows of a COPY one by one. See the .pyi for what it gives."""
    cdef Placement placement = Placement.single(1, 0)
    cdef sp_options options
    cdef sp_checker *checker
    cdef sp_checked row
    cdef Py_buffer view
    cdef size_t start = 0, total
    cdef array.array ends = array.array("Q"), lines = array.array("Q")
    if format not in _FORMATS:
        raise ValueError(f"unknown format {format!r}")
    memset(&options, 0, sizeof(options))
    options.format = _FORMATS[format]
    delimiter = (b"," if format == "csv" else b"\t") if delimiter is None else delimiter
    options.delimiter = <uint8_t>_byte(delimiter, "delimiter")
    options.quote = <uint8_t>_byte(quote, "quote")
    options.escape = <uint8_t>_byte(quote if escape is None else escape, "escape")
    options.null_marker.data = <const uint8_t *>b""
    options.default_marker.data = <const uint8_t *>b""
    options.server_version = server_version
    options.buffer_size = 64
    options.placement = placement.ptr
    checker = sp_checker_new(&options, fields, utf8, newline)
    if checker == NULL:
        raise MemoryError
    faults = []
    row.lines = 0
    try:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            total = <size_t>view.len
            while start < total:
                sp_check_row(checker, <const uint8_t *>view.buf, total, start, row.lines, &row)
                if row.fault != SP_ROW_WELL:
                    message = None if row.message == NULL else row.message.decode("ascii")
                    hint = None if row.hint == NULL else row.hint.decode("ascii")
                    faults.append((len(ends), row.fault, row.at, message, hint))
                ends.append(row.end)
                lines.append(row.lines)
                start = row.end
        finally:
            PyBuffer_Release(&view)
    finally:
        sp_checker_free(checker)
    return ends, lines, faults

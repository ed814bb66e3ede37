# The row splitter: the Python face of core/splitter.h. Included by _native.pyx.

import array

from cpython cimport array
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.ref cimport PyObject
from libc.stdint cimport INT32_MAX, int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from shardproxy.native.errors import SplitError


cdef extern from "copy/splitter.h":
    enum:
        SP_TEXT, SP_CSV, SP_BINARY
        SP_ABSENT, SP_NULL, SP_VALUE
        SP_POISON_KEPT

    ctypedef struct sp_bytes:
        const uint8_t *data
        size_t len

    ctypedef struct sp_constant:
        int kind
        sp_bytes value

    ctypedef struct sp_key:
        int32_t field
        int force_null
        int force_not_null
        sp_constant constant
        sp_constant default_value

    ctypedef struct sp_transcode:
        uint8_t length[128]
        uint8_t bytes[128][4]

    ctypedef struct sp_options:
        int format
        uint8_t delimiter
        uint8_t quote
        uint8_t escape
        sp_bytes null_marker
        int has_default_marker
        sp_bytes default_marker
        int header
        int server_version
        int set_aside
        size_t max_row
        size_t buffer_size
        const sp_placement *placement
        const sp_key *keys
        size_t nkeys
        const sp_transcode *transcode

    ctypedef struct sp_sink:
        void *context
        uint8_t *(*alloc)(void *context, size_t size, void **handle) noexcept
        int (*seal)(void *context, int32_t shard, void *handle, size_t used, size_t size) noexcept
        void (*drop)(void *context, void *handle) noexcept

    ctypedef struct sp_error:
        char sqlstate[6]
        const char *message
        char detail[128]
        const char *hint
        uint64_t line
        int has_values

    ctypedef struct sp_splitter:
        pass

    sp_splitter *sp_splitter_new(const sp_options *options, const sp_sink *sink)
    void sp_splitter_free(sp_splitter *s)
    size_t sp_splitter_feed(sp_splitter *s, const uint8_t *data, size_t len)
    void sp_splitter_finish(sp_splitter *s)
    void sp_splitter_flush(sp_splitter *s)
    const sp_error *sp_splitter_error(const sp_splitter *s)
    const sp_value *sp_splitter_values(const sp_splitter *s)
    int sp_splitter_pending(const sp_splitter *s)
    int sp_splitter_trailed(const sp_splitter *s)
    int sp_splitter_newline(const sp_splitter *s)
    int32_t sp_splitter_streaming(const sp_splitter *s)
    ctypedef struct sp_mark:
        uint64_t line
        uint64_t end
    size_t sp_splitter_marks(sp_splitter *s, uint32_t shard, const sp_mark **marks)
    void sp_splitter_forget_marks(sp_splitter *s, uint32_t shard)
    void sp_splitter_flush_shard(sp_splitter *s, uint32_t shard)
    uint64_t sp_splitter_rows(const sp_splitter *s)
    uint64_t sp_splitter_lines(const sp_splitter *s)
    uint64_t sp_splitter_offset(const sp_splitter *s)
    uint64_t sp_splitter_rows_of(const sp_splitter *s, uint32_t shard)
    uint64_t sp_splitter_poison_of(const sp_splitter *s, uint32_t shard)
    size_t sp_splitter_poison(const sp_splitter *s, int32_t *shards, uint64_t *lines)
    int sp_splitter_client_line(const sp_splitter *s, uint32_t shard, uint64_t line, uint64_t *client)


class Marker(enum.Enum):
    """ABSENT: no constant is known. ASCII_ONLY: a key with another character cannot be placed."""

    ABSENT = 0
    ASCII_ONLY = 1


ABSENT = Marker.ABSENT
ASCII_ONLY = Marker.ASCII_ONLY

# Sealed buffers of this shard number are for every shard.
ALL_SHARDS = -1

_FORMATS = {"text": SP_TEXT, "csv": SP_CSV, "binary": SP_BINARY}


cdef int _constant(object given, sp_constant *constant, list held) except -1:
    cdef bytes spelled
    constant.value.data = NULL
    constant.value.len = 0
    if given is ABSENT:
        constant.kind = SP_ABSENT
    elif given is None:
        constant.kind = SP_NULL
    else:
        spelled = bytes(given)
        held.append(spelled)
        constant.kind = SP_VALUE
        constant.value.data = <const uint8_t *>PyBytes_AS_STRING(spelled)
        constant.value.len = len(spelled)
    return 0


cdef int _byte(object given, str what) except -1:
    if len(given) != 1:
        raise ValueError(f"{what} must be a single byte")
    return given[0]


cdef int _fill_transcode(object table, sp_transcode *out) except -1:
    cdef int i
    cdef bytes sequence
    memset(out, 0, sizeof(sp_transcode))
    if table is ASCII_ONLY:
        return 0
    if len(table) != 256:
        raise ValueError("a transcoding table has 256 entries")
    for i in range(128):
        sequence = table[128 + i]
        if len(sequence) > 4:
            raise ValueError("a character has at most four bytes")
        out.length[i] = <uint8_t>len(sequence)
        for j in range(len(sequence)):
            out.bytes[i][j] = sequence[j]
    return 0


cdef class Splitter:
    """A client's CopyData messages in, whole CopyData messages for each shard out.

    Rows are forwarded byte for byte. It never does I/O and never calls Python for a row. Driven by `feed` with
    whatever the socket gave, then `ready`; `flush` when partly filled buffers should leave; `finish` at CopyDone.
    See the .pyi for what each takes and gives.
    """

    cdef sp_splitter *ptr
    cdef list sealed
    cdef PyObject *lent[LENT]
    cdef bint reported
    cdef readonly Placement placement
    cdef bint aside

    def __cinit__(self):
        self.ptr = NULL
        memset(self.lent, 0, sizeof(self.lent))
        self.sealed = []
        self.reported = False

    def __init__(self, Placement placement not None, *, str format="text", key_fields=(), constants=None,
                 bytes delimiter=None, bytes quote=b'"', bytes escape=None, bytes null=None, bytes default=None,
                 default_values=None, bint header=False, force_null=None, force_not_null=None,
                 int server_version=18, transcode=None, bint set_aside=False, size_t max_row=0,
                 size_t buffer_size=262144):
        cdef sp_options options
        cdef sp_key keys[SP_MAX_KEYS]
        cdef sp_transcode table
        cdef sp_sink sink
        cdef list held = []
        cdef size_t i, nkeys = len(key_fields)
        if self.ptr != NULL:
            raise RuntimeError("a Splitter is for one COPY")
        if format not in _FORMATS:
            raise ValueError(f"unknown format {format!r}")
        if nkeys > SP_MAX_KEYS or (placement.ptr.nkeys and nkeys != placement.ptr.nkeys):
            raise ValueError(f"{nkeys} key fields for {placement.ptr.nkeys} key columns")
        if buffer_size < 64 or buffer_size > (1 << 29):
            raise ValueError("buffer_size is between 64 bytes and 512 MiB")
        for name, given in (("constants", constants), ("default_values", default_values),
                            ("force_null", force_null), ("force_not_null", force_not_null)):
            if given is not None and len(given) != <Py_ssize_t>nkeys:
                raise ValueError(f"{name} has {len(given)} entries for {nkeys} key columns")
        csv = format == "csv"
        memset(&options, 0, sizeof(options))
        memset(keys, 0, sizeof(keys))
        options.format = _FORMATS[format]
        delimiter = (b"," if csv else b"\t") if delimiter is None else delimiter
        null = (b"" if csv else b"\\N") if null is None else null
        options.delimiter = <uint8_t>_byte(delimiter, "delimiter")
        options.quote = <uint8_t>_byte(quote, "quote")
        options.escape = <uint8_t>_byte(quote if escape is None else escape, "escape")
        options.null_marker.data = <const uint8_t *>PyBytes_AS_STRING(null)
        options.null_marker.len = len(null)
        if default is not None:
            options.has_default_marker = 1
            options.default_marker.data = <const uint8_t *>PyBytes_AS_STRING(default)
            options.default_marker.len = len(default)
        options.header = header
        options.server_version = server_version
        options.set_aside = set_aside
        options.max_row = max_row
        options.buffer_size = buffer_size
        options.placement = placement.ptr
        for i in range(nkeys):
            field = key_fields[i]
            if not -1 <= field < INT32_MAX:
                raise ValueError(f"no such field: {field}")
            keys[i].field = field
            constant = ABSENT if constants is None else constants[i]
            if field == -1 and constant is ABSENT and placement.ptr.nkeys:
                raise ValueError(f"key column {i} has neither a field nor a constant")
            if field == -1 and format == "binary" and constant is not None and placement.ptr.nkeys:
                raise ValueError("a constant's text cannot be a key of binary rows")
            _constant(constant, &keys[i].constant, held)
            _constant(ABSENT if default_values is None else default_values[i], &keys[i].default_value, held)
            keys[i].force_null = force_null is not None and bool(force_null[i])
            keys[i].force_not_null = force_not_null is not None and bool(force_not_null[i])
        options.keys = keys
        options.nkeys = nkeys
        if transcode is not None:
            _fill_transcode(transcode, &table)
            options.transcode = &table
        sink.context = <void *>self
        sink.alloc = _sink_alloc
        sink.seal = _sink_seal
        sink.drop = _sink_drop
        self.placement = placement
        self.aside = set_aside
        self.ptr = sp_splitter_new(&options, &sink)
        if self.ptr == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int i
        sp_splitter_free(self.ptr)
        for i in range(LENT):
            raw_decref(self.lent[i])

    cdef int _report(self, size_t consumed) except -1:
        cdef const sp_error *error
        if self.ptr == NULL:
            raise RuntimeError("not initialised")
        error = sp_splitter_error(self.ptr)
        if error.sqlstate[0] == 0 or self.reported:
            return 0
        self.reported = True
        values = None
        if error.has_values:
            values = [
                None if sp_splitter_values(self.ptr)[i].is_null else
                PyBytes_FromStringAndSize(<const char *>sp_splitter_values(self.ptr)[i].data,
                                          <Py_ssize_t>sp_splitter_values(self.ptr)[i].len)
                for i in range(self.placement.ptr.nkeys)
            ]
        raise SplitError(
            (<const char *>error.sqlstate).decode("ascii"), error.message.decode("ascii"),
            detail=(<const char *>error.detail).decode("ascii") or None,
            hint=None if error.hint == NULL else error.hint.decode("ascii"),
            line=error.line or None, key_values=values, consumed=consumed)

    def feed(self, data not None):
        """Read messages cut anywhere; return how many bytes were taken."""
        cdef Py_buffer view
        cdef size_t taken
        if self.ptr == NULL:
            raise RuntimeError("not initialised")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            taken = sp_splitter_feed(self.ptr, <const uint8_t *>view.buf, <size_t>view.len)
            self._report(taken)
        finally:
            PyBuffer_Release(&view)
        return taken

    def ready(self):
        """Return and forget the sealed buffers, in the order they were sealed."""
        sealed = self.sealed
        if sealed:
            self.sealed = []
            return sealed
        return []

    def flush(self):
        """Seal partly filled buffers, and return all sealed ones."""
        sp_splitter_flush(self.ptr)
        self._report(0)
        return self.ready()

    def flush_shard(self, shard):
        """Seal the partly filled buffer of one shard; it is among those that are ready."""
        sp_splitter_flush_shard(self.ptr, self._shard(shard))
        self._report(0)

    def marks(self, shard):
        """Return and forget, of the rows that a shard has got, the line and the offset after it, one by one."""
        cdef const sp_mark *marks
        cdef uint32_t number = self._shard(shard)
        cdef size_t count = sp_splitter_marks(self.ptr, number, &marks)
        cdef array.array found = array.array("Q")
        if count:
            found.frombytes((<const char *>marks)[:count * sizeof(sp_mark)])
            sp_splitter_forget_marks(self.ptr, number)
        return found

    def finish(self):
        """CopyDone: complete the last row, seal everything, and return all sealed buffers."""
        sp_splitter_finish(self.ptr)
        self._report(0)
        return self.ready()

    @property
    def pending(self):
        """Whether rows have been placed in buffers that are not sealed."""
        return bool(sp_splitter_pending(self.ptr))

    @property
    def trailed(self):
        """Whether the binary format's trailer has come: it follows the last row of each shard."""
        return bool(sp_splitter_trailed(self.ptr))

    @property
    def newline(self):
        """What ends the rows: 0 as long as no row has ended, else a number for RowChecker."""
        return sp_splitter_newline(self.ptr)

    @property
    def streaming(self):
        """The shard that has got the beginning of a row, whose end is still to come; negative if none has."""
        return sp_splitter_streaming(self.ptr)

    @property
    def rows(self):
        """How many rows have been placed."""
        return sp_splitter_rows(self.ptr)

    @property
    def lines(self):
        """How many lines of the client's input the rows placed take up, as PostgreSQL counts."""
        return sp_splitter_lines(self.ptr)

    @property
    def offset(self):
        """How many bytes of the client's input the header and the rows placed take up."""
        return sp_splitter_offset(self.ptr)

    @property
    def poison(self):
        """The first rows that a shard will certainly refuse: (shard, line of the client's input)."""
        cdef int32_t shards[SP_POISON_KEPT]
        cdef uint64_t lines[SP_POISON_KEPT]
        count = sp_splitter_poison(self.ptr, shards, lines)
        return [(shards[i], lines[i]) for i in range(count)]

    cdef uint32_t _shard(self, object shard) except? 0:
        if not 0 <= shard < self.placement.ptr.nshards + self.aside:
            raise IndexError(f"no shard {shard}")
        return <uint32_t>shard

    def rows_of(self, shard):
        """How many rows this shard got."""
        return sp_splitter_rows_of(self.ptr, self._shard(shard))

    def poison_count(self, shard):
        """How many rows this shard got that it will refuse."""
        return sp_splitter_poison_of(self.ptr, self._shard(shard))

    def client_line(self, shard, shard_line):
        """Return the line of the client's input for a line that a shard reports, or None when it is forgotten."""
        cdef uint64_t client
        if shard_line < 1 or not sp_splitter_client_line(self.ptr, self._shard(shard), shard_line, &client):
            return None
        return client

    def __repr__(self):
        return f"<Splitter rows={self.rows} lines={self.lines} sealed={len(self.sealed)} pending={self.pending}>"

/*
 * The row splitter: a client's CopyData messages in, whole CopyData messages for each shard out.
 *
 * Rows are forwarded byte for byte; only the framing changes. The rules are those of PostgreSQL's
 * src/backend/commands/copyfromparse.c. Nothing here does I/O, knows Python or allocates for a row: memory comes
 * for output buffers (from the sink), for a row that a CopyData message cuts, and for the line log.
 *
 * Driven by: sp_splitter_new, sp_splitter_feed until it stops in front of another message, sp_splitter_finish on
 * CopyDone; sp_splitter_flush whenever what has been placed so far should leave.
 */
#ifndef SP_SPLITTER_H
#define SP_SPLITTER_H

#include "placement/placement.h"

enum { SP_TEXT = 0, SP_CSV = 1, SP_BINARY = 2 };

enum { SP_EOL_UNKNOWN = 0, SP_EOL_NL, SP_EOL_CR, SP_EOL_CRNL };

/* A constant: not given, NULL, or a value in the type's text spelling. */
enum { SP_ABSENT = 0, SP_NULL = 1, SP_VALUE = 2 };

#define SP_BROADCAST (-1)   /* the sink's shard when a buffer is for all shards */
#define SP_POISON_KEPT 16   /* how many rows that a shard will refuse are remembered one by one */

typedef struct {
    const uint8_t *data;
    size_t len;
} sp_bytes;

typedef struct {
    int kind; /* SP_ABSENT, SP_NULL, SP_VALUE */
    sp_bytes value;
} sp_constant;

typedef struct {
    int32_t field;             /* 0-based input field, or -1: `constant` is the value of every row */
    int force_null, force_not_null;
    sp_constant constant;
    sp_constant default_value; /* what the DEFAULT marker stands for; SP_ABSENT: such a row is refused */
} sp_key;

/* What a byte from 0x80 on is in the server's encoding; length 0: it has no equivalent there. */
typedef struct {
    uint8_t length[128];
    uint8_t bytes[128][4];
} sp_transcode;

typedef struct {
    int format;
    uint8_t delimiter, quote, escape;
    sp_bytes null_marker;
    int has_default_marker;
    sp_bytes default_marker;
    int header;
    int server_version;
    int set_aside; /* what would end the COPY for a row goes to shard number `nshards`, and the header as well */
    size_t max_row; /* set_aside: bytes of the longest row that a shard gets; 0 for the longest that a server takes */
    size_t buffer_size;
    const sp_placement *placement; /* kept alive by the caller */
    const sp_key *keys;
    size_t nkeys;
    const sp_transcode *transcode; /* NULL: the client's encoding is the server's */
} sp_options;

/* Where output goes. A buffer has `size` bytes; what is sealed is always whole CopyData messages. */
typedef struct {
    void *context;
    uint8_t *(*alloc)(void *context, size_t size, void **handle); /* NULL: out of memory */
    int (*seal)(void *context, int32_t shard, void *handle, size_t used, size_t size); /* nonzero: out of memory */
    void (*drop)(void *context, void *handle);
} sp_sink;

typedef struct {
    char sqlstate[6]; /* empty: no error */
    const char *message;
    char detail[128];
    const char *hint;
    uint64_t line;       /* 0: PostgreSQL gives no line here */
    int has_values;      /* sp_splitter_values are those of the refused row, until the next call */
} sp_error;

typedef struct sp_splitter sp_splitter;

sp_splitter *sp_splitter_new(const sp_options *options, const sp_sink *sink);
void sp_splitter_free(sp_splitter *s);

/*
 * Reads messages cut anywhere and returns how many bytes it took; it stops in front of the first message that is
 * not CopyData. After an error (see sp_splitter_error) further CopyData is read and dropped.
 */
size_t sp_splitter_feed(sp_splitter *s, const uint8_t *data, size_t len);
void sp_splitter_finish(sp_splitter *s); /* CopyDone: the last row, then everything is sealed */
void sp_splitter_flush(sp_splitter *s);  /* seals partly filled buffers */
void sp_splitter_flush_shard(sp_splitter *s, uint32_t shard);

const sp_error *sp_splitter_error(const sp_splitter *s);
const sp_value *sp_splitter_values(const sp_splitter *s);
int sp_splitter_pending(const sp_splitter *s);
int sp_splitter_trailed(const sp_splitter *s); /* a binary stream's trailer has been given to all shards */
int sp_splitter_newline(const sp_splitter *s); /* SP_EOL_UNKNOWN until the first row has ended */
/* set_aside: of the rows that a shard has got since it was asked last, where each stands in the client's input. */
typedef struct {
    uint64_t line; /* its last one */
    uint64_t end;  /* bytes up to its end, the messages' headers not counted */
} sp_mark;
size_t sp_splitter_marks(sp_splitter *s, uint32_t shard, const sp_mark **marks);
void sp_splitter_forget_marks(sp_splitter *s, uint32_t shard);
int32_t sp_splitter_streaming(const sp_splitter *s); /* the shard that has got a part of a row, or a negative number */
uint64_t sp_splitter_rows(const sp_splitter *s);
uint64_t sp_splitter_lines(const sp_splitter *s);
uint64_t sp_splitter_offset(const sp_splitter *s); /* bytes of the client's input up to the end of the last row */
uint64_t sp_splitter_rows_of(const sp_splitter *s, uint32_t shard);
uint64_t sp_splitter_poison_of(const sp_splitter *s, uint32_t shard);
size_t sp_splitter_poison(const sp_splitter *s, int32_t *shards, uint64_t *lines); /* SP_POISON_KEPT entries */
int sp_splitter_client_line(const sp_splitter *s, uint32_t shard, uint64_t line, uint64_t *client);

#endif

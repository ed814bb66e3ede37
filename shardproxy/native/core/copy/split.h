/* What the splitter's parts share; splitter.h is what callers see. */
#ifndef SP_SPLIT_H
#define SP_SPLIT_H

#include "bytebuf.h"
#include "simd/integers.h"
#include "linemap.h"
#include "simd/masks.h"
#include "splitter.h"

/* MaxAllocSize - 1 of PostgreSQL's utils/memutils.h: no row, field or CopyData message is longer. */
#define SP_MAX_ROW 0x3ffffffeu

/*
 * A row that is longer than this is sent on as soon as its key is known, instead of being collected. With set_aside
 * only a row longer than max_row is: only the shard of rows that are set aside gets it, whatever its key.
 */
#define SP_STREAM_FROM 65536u

#define SP_KEEP_CARRY (1u << 20) /* bytes of a row's memory that are kept for the next one */

#define SP_LINEMAP_TOTAL (32u << 20) /* bytes of line log of all shards together */
#define SP_LINEMAP_LEAST (1u << 20)  /* but never less than this for one */

typedef struct {
    uint8_t *base; /* the buffer being filled, or NULL */
    void *handle;
    size_t used;   /* of buffer_size; all of it where there is no buffer, so that nothing fits */
    uint64_t rows, poison;
    sp_linemap map;
    sp_buf marks; /* of sp_mark */
} sp_shard;

/* Where a scan stands within one row; the rest of the splitter's state changes only between rows. */
typedef struct {
    uint8_t in_quote, last_was_escape; /* CSV */
    uint8_t pending_escape;            /* text: the byte before was a backslash whose partner is still to come */
} sp_row_scan;

#define SP_SHORT_MESSAGE 1024u /* a CopyData's length up to which it is worth a copy to be read with the next ones */
#define SP_JOINED SP_MASK_BYTES

typedef struct {
    uint8_t header[5];
    uint32_t have; /* of header */
    uint32_t left; /* payload bytes of the current CopyData still to come */
} sp_frame_state;

typedef struct {
    int stage;       /* binary.c */
    uint32_t need;   /* bytes until the next decision */
    int32_t fields;  /* of the current row */
    int32_t field;
    uint32_t extension;
} sp_binary_state;

struct sp_splitter {
    sp_options opt;
    sp_key *keys;      /* in the order of their fields; constants are not among them */
    size_t nkeys;
    size_t *key_index; /* keys[i] is values[key_index[i]] */
    sp_value *values;
    sp_buf *scratch;   /* one for each value */
    size_t nvalues;
    uint8_t *owned;    /* copies of all option strings */
    sp_transcode transcode;
    sp_sink sink;

    uint32_t nshards;
    int32_t constant_shard; /* placement without a key: SP_EVERYWHERE or the shard; else INT32_MIN */
    sp_shard *shards;    /* and after them the one of rows that are set aside */
    sp_shard everywhere; /* the buffer of a reference placement */

    sp_frame_state frame;
    uint8_t joined[SP_JOINED]; /* the payloads of short messages */
    sp_binary_state bin;
    int failed, ended, finished;
    int header_pending;
    int eol;
    int integer_key; /* sp_integer_shards applies */
    int bad; /* set_aside: the current row is to be set aside, for its bytes */
    int odd; /* an option is a newline, backslash or such: only the byte by byte scan is right */

    sp_row_scan row;
    sp_buf carry;          /* the current row's bytes that are not placed yet */
    uint32_t hold;         /* how many bytes at carry's end need the next byte to be understood */
    uint64_t released;     /* bytes of the current row that have left already (streaming) */
    int32_t stream_shard;  /* where they went; INT32_MIN: not streaming; SP_EVERYWHERE: to all */
    size_t stream_from;    /* try to stream when carry is longer than this */
    uint64_t row_extra;    /* embedded newlines of the current row */
    sp_row_scan first_scan; /* recount of a row that is the first one on its shard */
    uint64_t first_extra;

    sp_mask_spec spec;
    sp_mask_state mask;

    uint64_t lines, rows;
    uint64_t offset; /* of the client's input, after the last row */
    size_t npoison;
    int32_t poison_shard[SP_POISON_KEPT];
    uint64_t poison_line[SP_POISON_KEPT];
    sp_error error;
};

#define SP_NOT_STREAMING INT32_MIN
#define SP_NO_CONSTANT INT32_MIN

/* errors.c: each sets the error once and returns -1; sp_set_aside returns 0 where the row can be set aside. */
int sp_set_aside(sp_splitter *s, const char *sqlstate, const char *message, const char *hint, uint64_t line);
int sp_fail(sp_splitter *s, const char *sqlstate, const char *message, const char *hint, uint64_t line);
int sp_fail_memory(sp_splitter *s);
int sp_fail_row_too_long(sp_splitter *s, size_t have, size_t more);

/* scatter.c */
int sp_put_slow(sp_splitter *s, sp_shard *shard, int32_t number, const uint8_t *p, size_t n);
int sp_put_all(sp_splitter *s, const uint8_t *p, size_t n);
int sp_seal(sp_splitter *s, sp_shard *shard, int32_t number);
int sp_note_poison(sp_splitter *s, int32_t target);

static inline int sp_put(sp_splitter *s, int32_t number, const uint8_t *p, size_t n)
{
    sp_shard *shard = &s->shards[number];
    if (n < s->opt.buffer_size - shard->used) {
        memcpy(shard->base + shard->used, p, n);
        shard->used += n;
        return 0;
    }
    return sp_put_slow(s, shard, number, p, n);
}

/* A row of `lines` lines on its shard has been put there completely; s->lines is already its last line. */
static inline int sp_account(sp_splitter *s, int32_t target, uint64_t lines)
{
    s->rows++;
    if (target == SP_EVERYWHERE) /* the same lines everywhere: sp_splitter_client_line needs no log */
        return 0;
    s->shards[target].rows++;
    if (s->opt.set_aside) {
        const sp_mark mark = {s->lines, s->offset};
        if (sp_buf_append(&s->shards[target].marks, (const uint8_t *)&mark, sizeof mark))
            return sp_fail_memory(s);
    }
    return sp_linemap_add(&s->shards[target].map, lines, s->lines) ? sp_fail_memory(s) : 0;
}

uint64_t sp_count_quoted_cr(const sp_splitter *s, sp_row_scan *scan, const uint8_t *p, size_t n);

/* A row with its newline goes to one shard. */
static inline int sp_put_row(sp_splitter *s, int32_t target, const uint8_t *row, size_t len)
{
    uint64_t lines = 1 + s->row_extra;
    s->lines += lines;
    s->offset += len;
    s->row_extra = 0;
    if (__builtin_expect(len > s->opt.max_row, 0))
        target = (int32_t)s->nshards;
    if (__builtin_expect(s->shards[target].map.shard_line == 0, 0) && s->opt.format == SP_CSV) {
        sp_row_scan scan = {0};
        if (s->eol == SP_EOL_NL)
            lines = 1 + sp_count_quoted_cr(s, &scan, row, len);
    }
    if (sp_put(s, target, row, len))
        return -1;
    return sp_account(s, target, lines);
}

/* fields.c: the values of the key columns; text and CSV. */
enum { SP_FIELDS_OK = 0, SP_FIELDS_MISSING = 1, SP_FIELDS_MORE = 2, SP_FIELDS_ERROR = -1 };
int sp_key_value(sp_splitter *s, size_t key, const uint8_t *field, size_t len, int marked);
int sp_extract(sp_splitter *s, const uint8_t *row, size_t len, int whole);
size_t sp_field_end(const sp_splitter *s, const uint8_t *row, size_t at, size_t len, int *marked);

/*
 * integers.c: the shards of n rows whose newlines end at the bits `ends` of the bitmaps; the first row begins at bit
 * `at`, and `readable` bytes follow base. n is at most SP_BATCH_MOST. SP_ONE_BY_ONE: not a plain integer, or not
 * certainly.
 */
#define SP_ONE_BY_ONE INT32_MIN
int sp_integer_key(const sp_splitter *s);
void sp_integer_shards(const sp_splitter *s, const sp_masks *m, const uint8_t *base, size_t readable, size_t at,
                       const uint32_t *ends, size_t n, int32_t *shards);

/* rows.c: the shard for the values just extracted (poison is noted), and complete rows. */
#define SP_TARGET_ERROR INT32_MIN
int32_t sp_target(sp_splitter *s, int extracted);
int sp_place_row(sp_splitter *s, const uint8_t *row, size_t len, size_t data_len);
int sp_place_keyed(sp_splitter *s, const uint8_t *row, size_t len, int extracted);

/* lines.c: rows of text and CSV over contiguous pieces of the stream. */
int sp_lines_span(sp_splitter *s, const uint8_t *p, size_t n);
int sp_lines_finish(sp_splitter *s);

/* partial.c: a row that comes in pieces. */
int sp_row_append(sp_splitter *s, const uint8_t *p, size_t n);
int sp_row_stream(sp_splitter *s);
int sp_row_too_long(sp_splitter *s);
int sp_row_complete(sp_splitter *s, const uint8_t *p, size_t n, size_t data_n);
int sp_row_finish_carry(sp_splitter *s, size_t newline);
int sp_row_refuse(sp_splitter *s);
int sp_row_refused(sp_splitter *s, const uint8_t *p, size_t n);
int sp_release(sp_splitter *s, size_t n);
void sp_row_reset(sp_splitter *s);

/* fast.c: as many rows as bitmaps can tell. What is not taken begins a row and is for the byte by byte scan. */
int sp_fast_span(sp_splitter *s, const uint8_t *p, size_t n, size_t *taken);

/* scan_text.c, scan_csv.c: CopyReadLineText over contiguous bytes of one row. */
enum { SP_SCAN_MORE, SP_SCAN_ROW, SP_SCAN_END, SP_SCAN_ERROR };
typedef struct {
    /* MORE: the first byte not understood yet; ROW: after the newline; END: irrelevant; ERROR: the byte refused */
    size_t end;
    size_t data; /* ROW, END: where the row's data ends */
} sp_scanned;
int sp_scan_text(sp_splitter *s, const uint8_t *p, size_t n, int eof, int started, sp_scanned *out);
int sp_scan_csv(sp_splitter *s, const uint8_t *p, size_t n, int eof, int started, sp_scanned *out);

static inline int sp_scan(sp_splitter *s, const uint8_t *p, size_t n, int eof, int started, sp_scanned *out)
{
    return s->opt.format == SP_CSV ? sp_scan_csv(s, p, n, eof, started, out)
                                   : sp_scan_text(s, p, n, eof, started, out);
}

/* binary.c */
int sp_binary_span(sp_splitter *s, const uint8_t *p, size_t n);
int sp_binary_finish(sp_splitter *s);

/* A row without its newline: up to version 17 a CSV row `\.` ends the data. */
static inline int sp_is_csv_marker(const sp_splitter *s, const uint8_t *row, size_t len)
{
    return len == 2 && row[0] == '\\' && row[1] == '.' && s->opt.format == SP_CSV && s->opt.server_version < 18 &&
           s->released == 0;
}

static inline int sp_row_begun(const sp_splitter *s)
{
    return s->carry.len > 0 || s->released > 0;
}

#endif

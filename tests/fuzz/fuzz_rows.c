/*
 * The splitter's fast paths under a fuzzer, against rows that are known beforehand: with an integer key in any
 * spelling at any place, each row must be whole on the shard of its key, and its lines those of the client's input,
 * with every instruction set and every cut.
 *
 * The input's bytes choose, and when they are used up their checksum goes on choosing: a short input makes many rows,
 * as damaged COPY data (fuzz_splitter.c) hardly ever does.
 */
#include "simd/masks.h"
#include "sink.h"

#define MAX_SHARDS 70 /* more than a row may be behind its shard's last one in the line log's short form */
#define MAX_ROWS 1500
#define MAX_BYTES 60000

enum { LF, CR, CRLF };

typedef struct {
    int32_t shard;
    uint64_t shard_line, client_line; /* of its end */
} row;

typedef struct {
    sp_buf stream, shards[MAX_SHARDS];
    row rows[MAX_ROWS];
    size_t nrows;
    uint64_t shard_lines[MAX_SHARDS], client_lines, poison;
} expected;

typedef struct {
    const uint8_t *p;
    size_t left;
    uint64_t state;
} choices;

static uint32_t below(choices *c, uint32_t n)
{
    uint32_t byte = 0;
    if (c->left) {
        c->left--;
        byte = *c->p++;
    }
    c->state = (c->state ^ byte) * UINT64_C(0x100000001b3) + 1;
    uint64_t mixed = c->state ^ c->state >> 29;
    return (c->left ? byte : (uint32_t)(mixed * UINT64_C(0x9e3779b97f4a7c15) >> 33)) % n;
}

static void put(sp_buf *b, const void *p, size_t n)
{
    REQUIRE(sp_buf_append(b, p, n) == 0);
}

static void fill(sp_buf *b, char with, size_t n)
{
    while (n--)
        put(b, &with, 1);
}

/* A field that is not the key; returns how many line ends are embedded in it. */
static uint64_t other_field(choices *c, sp_buf *b, int csv, int newline)
{
    uint64_t lines = 0;
    const size_t wide = below(c, 4) ? below(c, 24) : below(c, 200);
    fill(b, 'x', wide / 2);
    if (below(c, 24) == 0) {
        put(b, csv ? "\",\"\"" : "\\\t\\\\", 4);
        if (csv && below(c, 3) == 0) {
            put(b, newline == LF ? "\n" : "\r", 1);
            lines = 1;
        }
        put(b, csv ? "\"" : "\\n", csv ? 1 : 2);
    }
    fill(b, '1', wide - wide / 2);
    return lines;
}

static void key_field(choices *c, sp_buf *b)
{
    static const char odd[] = "/:+-_x0 \x80\xb9\xff\x10\v";
    const size_t begin = b->len;
    if (below(c, 3) == 0)
        put(b, &"-- +"[below(c, 4)], 1);
    for (uint32_t digits = below(c, 4) ? 1 + below(c, 10) : below(c, 21); digits; digits--)
        put(b, &"0123456789"[below(c, 10)], 1);
    if (below(c, 16) == 0 && b->len > begin)
        b->data[begin + below(c, (uint32_t)(b->len - begin))] = (uint8_t)odd[below(c, sizeof odd - 1)];
}

static void add_row(choices *c, expected *e, const sp_options *o, int newline)
{
    static const char *const ends[] = {"\n", "\r", "\r\n"};
    const int csv = o->format == SP_CSV;
    const int32_t field = o->keys[0].field, fields = field + (int32_t)below(c, 3) + 1;
    uint64_t embedded = 0;
    sp_buf b = {0};
    sp_value key = {0};
    size_t key_at = 0;
    for (int32_t i = 0; i < fields; i++) {
        if (i)
            put(&b, &o->delimiter, 1);
        if (i == field) {
            key_at = b.len;
            key_field(c, &b);
            key.len = b.len - key_at;
        } else {
            embedded += other_field(c, &b, csv, newline);
        }
    }
    key.is_null = csv && key.len == 0; /* the marker of text has a backslash, which no key here has */
    put(&b, ends[newline], newline == CRLF ? 2 : 1);
    key.data = b.data + key_at;
    int32_t shard = sp_place(o->placement, &key, 0);
    REQUIRE(shard >= 0 || shard == SP_INVALID);
    const int refused = shard < 0;
    shard = refused ? 0 : shard; /* which says why */
    for (uint32_t times = below(c, 60) ? 1 : 1 + below(c, 200); times && e->nrows < MAX_ROWS; times--) {
        put(&e->stream, b.data, b.len);
        put(&e->shards[shard], b.data, b.len);
        /* Line feeds within the first row are not yet known to be line ends, neither here nor there. */
        e->client_lines += e->client_lines == 0 && newline == LF ? 1 : 1 + embedded;
        e->shard_lines[shard] += e->shard_lines[shard] == 0 && newline == LF ? 1 : 1 + embedded;
        e->rows[e->nrows++] = (row){shard, e->shard_lines[shard], e->client_lines};
        e->poison += (uint64_t)refused;
        if (e->stream.len > MAX_BYTES)
            break;
    }
    sp_buf_free(&b);
}

static void check(const expected *e, const sp_options *o, size_t frame, size_t feed)
{
    sp_buf got[MAX_SHARDS] = {0};
    sp_sink sink = {got, sink_alloc, sink_seal, sink_drop};
    sp_splitter *s = sp_splitter_new(o, &sink);
    REQUIRE(s);
    feed_all(s, e->stream.data, e->stream.len, frame, feed);
    REQUIRE(sp_splitter_error(s)->sqlstate[0] == 0);
    REQUIRE(sp_splitter_rows(s) == e->nrows && sp_splitter_lines(s) == e->client_lines);
    uint64_t poison = 0, client;
    for (uint32_t i = 0; i < o->placement->nshards; i++) {
        poison += sp_splitter_poison_of(s, i);
        REQUIRE(got[i].len == e->shards[i].len);
        REQUIRE(got[i].len == 0 || memcmp(got[i].data, e->shards[i].data, got[i].len) == 0);
        sp_buf_free(&got[i]);
    }
    REQUIRE(poison == e->poison);
    for (size_t i = 0; i < e->nrows; i += 1 + i / 64) { /* each search reads the log from its block's begin on */
        const row *r = &e->rows[i];
        REQUIRE(sp_splitter_client_line(s, (uint32_t)r->shard, r->shard_line, &client) && client == r->client_line);
    }
    sp_splitter_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    static const uint32_t shards[] = {1, 2, 3, 4, 7, MAX_SHARDS};
    static const size_t buffers[] = {64, 300, 5000, 262144};
    static const size_t frames[] = {1, 7, 63, 100, 1019, 1020, 1021, 8192, MAX_BYTES * 2};
    static const size_t feeds[] = {1, 13, 64, 1000, 4096, 16384 + 7, 65536, MAX_BYTES * 20};
    static expected e;
    choices c = {input, n, UINT64_C(0xcbf29ce484222325)};
    const sp_settings settings = {.server_version = 13 + (int32_t)below(&c, 6), .encoding = SP_ENC_UTF8};
    const sp_keytype type = {SP_KEY_INT2 + (int32_t)below(&c, 3), -1};
    sp_build_error error;
    sp_placement *placement = sp_placement_hash(shards[below(&c, 6)], &type, 1, &settings, &error);
    REQUIRE(placement);
    const int csv = below(&c, 2) == 0, newline = (int)below(&c, 3);
    const sp_key key = {.field = (int32_t)below(&c, 4)};
    const sp_options options = {
        .format = csv ? SP_CSV : SP_TEXT,
        .delimiter = csv ? ',' : '\t',
        .quote = '"',
        .escape = '"',
        .null_marker = {(const uint8_t *)"\\N", csv ? 0 : 2},
        .header = below(&c, 4) == 0,
        .server_version = settings.server_version,
        .buffer_size = buffers[below(&c, 4)],
        .placement = placement,
        .keys = &key,
        .nkeys = 1,
    };
    memset(&e, 0, sizeof e);
    if (options.header) {
        const char *header = newline == LF ? "a,b\n" : newline == CR ? "a,b\r" : "a,b\r\n";
        put(&e.stream, header, strlen(header));
        e.client_lines = 1;
        for (uint32_t i = 0; i < placement->nshards; i++) {
            put(&e.shards[i], header, strlen(header));
            e.shard_lines[i] = 1;
        }
    }
    const size_t rows = below(&c, 4) ? below(&c, 60) : below(&c, MAX_ROWS);
    while (e.nrows < rows && e.stream.len <= MAX_BYTES)
        add_row(&c, &e, &options, newline);
    const uint32_t few = e.stream.len < 5000 ? 0 : 3; /* many pieces of a long stream would take the fuzzer's time */
    const size_t frame = frames[few + below(&c, 9 - few)], feed = feeds[few + below(&c, 8 - few)];
    for (const char *const *path = sp_simd_names(); *path; path++) {
        REQUIRE(sp_simd_force(*path) == 0);
        check(&e, &options, frame, feed);
    }
    REQUIRE(sp_simd_force(NULL) == 0);
    for (uint32_t i = 0; i < MAX_SHARDS; i++)
        sp_buf_free(&e.shards[i]);
    sp_buf_free(&e.stream);
    sp_placement_release(placement);
    return 0;
}

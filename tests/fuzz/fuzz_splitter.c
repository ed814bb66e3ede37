/*
 * The splitter under a fuzzer: whatever the bytes, whatever the cuts, whatever the instruction set, the shards get
 * the same bytes, the same rows are counted and the same error is found; and every output message is well formed.
 *
 * Built with clang's libFuzzer, or (main.c) as a program that makes its own inputs. The first bytes of an input
 * choose the options and the cuts, the rest is the client's COPY data.
 */
#include <stdio.h>

#include "bytebuf.h"
#include "masks.h"
#include "splitter.h"

#define CHOICES 8
#define MAX_SHARDS 5
#define REQUIRE(condition)                                                                                          \
    do {                                                                                                            \
        if (!(condition)) {                                                                                         \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                        \
            abort();                                                                                                \
        }                                                                                                           \
    } while (0)

typedef struct {
    sp_buf shards[MAX_SHARDS];
    uint64_t rows, lines;
    sp_error error;
    size_t poison;
} outcome;

static uint8_t *sink_alloc(void *context, size_t size, void **handle)
{
    (void)context;
    return *handle = malloc(size); /* of its own, so that the sanitizer sees one byte too many */
}

static int sink_seal(void *context, int32_t shard, void *handle, size_t used, size_t size)
{
    outcome *out = context;
    const uint8_t *p = handle;
    REQUIRE(used >= 5 && used <= size && shard < MAX_SHARDS);
    REQUIRE(p[0] == 'd');
    REQUIRE(((size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4]) == used - 1);
    REQUIRE(sp_buf_append(&out->shards[shard < 0 ? 0 : shard], p + 5, used - 5) == 0);
    free(handle);
    return 0;
}

static void sink_drop(void *context, void *handle)
{
    (void)context;
    free(handle);
}

static sp_placement *choose_placement(uint8_t choice)
{
    sp_settings settings = {.server_version = 18, .encoding = SP_ENC_UTF8, .utc = choice & 1};
    sp_build_error error;
    sp_keytype types[2] = {{1 + choice % SP_KEY_LAST, -1}, {SP_KEY_TEXT, -1}};
    if (choice < 16)
        return sp_placement_reference(3, &error);
    if (choice < 32)
        return sp_placement_single(3, 2, &error);
    if (choice < 64) {
        static const sp_value values[] = {{(const uint8_t *)"a", 1, 0}, {(const uint8_t *)"", 0, 0}, {NULL, 0, 1}};
        static const int32_t shards[] = {0, 1, 2};
        return sp_placement_list(3, types[1], values, shards, 3, choice & 1 ? -1 : 1, &settings, &error);
    }
    return sp_placement_hash(1 + choice % MAX_SHARDS, types, 1 + (choice >> 7), &settings, &error);
}

static void run(const sp_options *options, const uint8_t *data, size_t n, size_t frame, size_t feed, outcome *out)
{
    memset(out, 0, sizeof *out);
    sp_sink sink = {out, sink_alloc, sink_seal, sink_drop};
    sp_splitter *s = sp_splitter_new(options, &sink);
    sp_buf stream = {0};
    REQUIRE(s);
    for (size_t at = 0; at < n; at += frame) {
        size_t part = n - at < frame ? n - at : frame;
        uint32_t length = (uint32_t)part + 4;
        uint8_t header[5] = {'d', (uint8_t)(length >> 24), (uint8_t)(length >> 16), (uint8_t)(length >> 8),
                             (uint8_t)length};
        REQUIRE(sp_buf_append(&stream, header, 5) == 0 && sp_buf_append(&stream, data + at, part) == 0);
    }
    for (size_t at = 0; at < stream.len;) {
        size_t part = stream.len - at < feed ? stream.len - at : feed;
        uint8_t *exact = malloc(part); /* so that reading behind it is seen */
        memcpy(exact, stream.data + at, part);
        REQUIRE(sp_splitter_feed(s, exact, part) == part);
        free(exact);
        at += part;
    }
    sp_splitter_finish(s);
    REQUIRE(!sp_splitter_pending(s));
    out->rows = sp_splitter_rows(s);
    out->lines = sp_splitter_lines(s);
    out->error = *sp_splitter_error(s);
    int32_t shards[SP_POISON_KEPT];
    uint64_t lines[SP_POISON_KEPT], client;
    out->poison = sp_splitter_poison(s, shards, lines);
    for (uint64_t line = 0; line < 8; line++)
        sp_splitter_client_line(s, 0, line, &client);
    sp_splitter_free(s);
    sp_buf_free(&stream);
}

static void release(outcome *out)
{
    for (int i = 0; i < MAX_SHARDS; i++)
        sp_buf_free(&out->shards[i]);
}

static void same(const outcome *a, const outcome *b)
{
    REQUIRE(a->rows == b->rows && a->lines == b->lines && a->poison == b->poison);
    REQUIRE(strcmp(a->error.sqlstate, b->error.sqlstate) == 0 && a->error.line == b->error.line);
    REQUIRE(a->error.message == b->error.message);
    for (int i = 0; i < MAX_SHARDS; i++) {
        REQUIRE(a->shards[i].len == b->shards[i].len);
        REQUIRE(a->shards[i].len == 0 || memcmp(a->shards[i].data, b->shards[i].data, a->shards[i].len) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t n)
{
    static const uint8_t quotes[] = {'"', '\'', '\\', '\n'}, escapes[] = {'"', '\\', 'x', '\''};
    if (n < CHOICES)
        return 0;
    sp_placement *placement = choose_placement(input[0]);
    REQUIRE(placement);
    sp_transcode transcode = {0};
    sp_key keys[2] = {{.field = input[1] & 3, .force_null = input[1] >> 2 & 1, .force_not_null = input[1] >> 3 & 1},
                      {.field = input[1] >> 4 & 3, .default_value = {SP_VALUE, {(const uint8_t *)"7", 1}}}};
    sp_options options = {
        .format = input[2] % 3,
        .delimiter = input[2] % 3 == SP_CSV ? ',' : '\t',
        .quote = quotes[input[3] & 3],
        .escape = escapes[input[3] >> 2 & 3],
        .null_marker = {(const uint8_t *)"\\N", input[3] & 64 ? 2 : 0},
        .has_default_marker = input[3] >> 7,
        .default_marker = {(const uint8_t *)"\\D", 2},
        .header = input[2] >> 6 & 1,
        .server_version = input[2] & 128 ? 17 : 18,
        .buffer_size = 64 + input[4],
        .placement = placement,
        .keys = keys,
        .nkeys = placement->nkeys,
        .transcode = input[3] & 32 ? &transcode : NULL,
    };
    outcome first, second;
    run(&options, input + CHOICES, n - CHOICES, SIZE_MAX / 2, SIZE_MAX, &first);
    run(&options, input + CHOICES, n - CHOICES, 1 + input[5], 1 + input[6], &second);
    same(&first, &second);
    release(&second);
    size_t count = 0;
    while (sp_simd_names()[count])
        count++;
    REQUIRE(sp_simd_force(sp_simd_names()[input[7] % count]) == 0);
    run(&options, input + CHOICES, n - CHOICES, SIZE_MAX / 2, SIZE_MAX, &second);
    REQUIRE(sp_simd_force(NULL) == 0);
    same(&first, &second);
    release(&second);
    release(&first);
    sp_placement_release(placement);
    return 0;
}

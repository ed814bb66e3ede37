/*
 * The splitter under a fuzzer: whatever the bytes, whatever the cuts, whatever the instruction set, the shards get
 * the same bytes, the same rows are counted and the same error is found; and every output message is well formed.
 *
 * Built with clang's libFuzzer, or (main.c) as a program that makes its own inputs. The first bytes of an input
 * choose the options and the cuts, the rest is the client's COPY data.
 */
#include "simd/masks.h"
#include "sink.h"

#define CHOICES 8
#define MAX_SHARDS 5

typedef struct {
    sp_buf shards[MAX_SHARDS];
    uint64_t rows, lines;
    sp_error error;
    size_t poison;
} outcome;

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
    sp_sink sink = {out->shards, sink_alloc, sink_seal, sink_drop};
    sp_splitter *s = sp_splitter_new(options, &sink);
    REQUIRE(s);
    feed_all(s, data, n, frame, feed);
    out->rows = sp_splitter_rows(s);
    out->lines = sp_splitter_lines(s);
    out->error = *sp_splitter_error(s);
    int32_t shards[SP_POISON_KEPT];
    uint64_t lines[SP_POISON_KEPT], client;
    out->poison = sp_splitter_poison(s, shards, lines);
    for (uint64_t line = 0; line < 8; line++)
        sp_splitter_client_line(s, 0, line, &client);
    sp_splitter_free(s);
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

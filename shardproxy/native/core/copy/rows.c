/* A complete row, or one whose key is known, goes to its shard. */
#include "split.h"

int32_t sp_target(sp_splitter *s, int extracted)
{
    if (__builtin_expect(s->bad, 0)) {
        s->bad = 0;
        return (int32_t)s->nshards;
    }
    if (s->constant_shard != SP_NO_CONSTANT)
        return s->constant_shard;
    int32_t shard = SP_INVALID;
    if (extracted == SP_FIELDS_OK)
        shard = sp_place(s->opt.placement, s->values, s->opt.format == SP_BINARY);
    if (__builtin_expect(shard >= 0, 1))
        return shard;
    if (s->opt.set_aside && (shard == SP_UNSUPPORTED || shard == SP_NO_PARTITION))
        return (int32_t)s->nshards;
    uint64_t line = s->lines + 1 + s->row_extra;
    switch (shard) {
    case SP_UNSUPPORTED:
        s->error.has_values = !s->failed;
        sp_fail(s, "0A000", "the meaning of a key's value depends on settings that are not known here",
                "Write dates and times in ISO form, with a time zone where the type has one.", line);
        return SP_TARGET_ERROR;
    case SP_NO_PARTITION:
        s->error.has_values = !s->failed;
        sp_fail(s, "23514", "no shard found for row", NULL, line);
        return SP_TARGET_ERROR;
    default: /* the server that gets this row refuses it in its own words */
        sp_note_poison(s, 0);
        return 0;
    }
}

static int header_row(sp_splitter *s, const uint8_t *row, size_t len)
{
    uint64_t lines = 1 + s->row_extra;
    s->header_pending = 0;
    s->bad = 0;
    s->offset += len;
    s->lines += lines;
    s->row_extra = 0;
    if (s->opt.set_aside) {
        if (sp_put(s, (int32_t)s->nshards, row, len))
            return -1;
        return sp_linemap_add(&s->shards[s->nshards].map, lines, s->lines) ? sp_fail_memory(s) : 0;
    }
    if (sp_put_all(s, row, len))
        return -1;
    if (s->constant_shard != SP_EVERYWHERE)
        for (uint32_t i = 0; i < s->nshards; i++)
            if (sp_linemap_add(&s->shards[i].map, lines, s->lines))
                return sp_fail_memory(s);
    return 0;
}

/* A row with its newline, its values extracted. */
int sp_place_keyed(sp_splitter *s, const uint8_t *row, size_t len, int extracted)
{
    int32_t target = sp_target(s, extracted);
    if (target == SP_TARGET_ERROR)
        return -1;
    if (target != SP_EVERYWHERE)
        return sp_put_row(s, target, row, len);
    uint64_t lines = 1 + s->row_extra;
    s->lines += lines;
    s->offset += len;
    s->row_extra = 0;
    if (sp_put_all(s, row, len))
        return -1;
    return sp_account(s, target, lines);
}

int sp_place_row(sp_splitter *s, const uint8_t *row, size_t len, size_t data_len)
{
    if (s->header_pending)
        return header_row(s, row, len);
    int extracted = SP_FIELDS_OK;
    if (s->constant_shard == SP_NO_CONSTANT) {
        extracted = sp_extract(s, row, data_len, 1);
        if (extracted == SP_FIELDS_ERROR)
            return -1;
    }
    return sp_place_keyed(s, row, len, extracted);
}

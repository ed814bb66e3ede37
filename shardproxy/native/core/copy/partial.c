/*
 * A row that comes in pieces: collected until it is complete, or, when it is long, sent on as soon as its key is
 * known. What has been sent on is `released`; `hold` bytes at the end are not understood yet and never leave.
 */
#include "split.h"

void sp_row_reset(sp_splitter *s)
{
    if (s->carry.cap > SP_KEEP_CARRY)
        sp_buf_free(&s->carry);
    s->carry.len = 0;
    s->hold = 0;
    s->released = 0;
    s->stream_shard = SP_NOT_STREAMING;
    s->stream_from = SP_STREAM_FROM;
    s->bad = 0;
    memset(&s->row, 0, sizeof s->row);
    memset(&s->first_scan, 0, sizeof s->first_scan);
    s->first_extra = 0;
}

int sp_release(sp_splitter *s, size_t n)
{
    if (s->stream_shard == SP_EVERYWHERE) {
        if (sp_put_all(s, s->carry.data, n))
            return -1;
    } else {
        if (s->opt.format == SP_CSV && s->eol <= SP_EOL_NL && s->shards[s->stream_shard].map.shard_line == 0)
            s->first_extra += sp_count_quoted_cr(s, &s->first_scan, s->carry.data, n);
        if (sp_put(s, s->stream_shard, s->carry.data, n))
            return -1;
    }
    s->released += n;
    memmove(s->carry.data, s->carry.data + n, s->carry.len - n);
    s->carry.len -= n;
    return 0;
}

/* set_aside: the row in carry is longer than max_row. What is understood of it leaves, and what still comes will. */
int sp_row_too_long(sp_splitter *s)
{
    if (s->header_pending)
        return sp_fail(s, "54000", "the header is longer than max_row_bytes", NULL, s->lines + 1 + s->row_extra);
    s->stream_shard = (int32_t)s->nshards;
    return sp_release(s, s->carry.len - s->hold);
}

/* Text and CSV: begins to stream a long row if its key can be told already, and releases what may leave. */
int sp_row_stream(sp_splitter *s)
{
    if (s->stream_shard == SP_NOT_STREAMING && s->opt.set_aside)
        return s->carry.len - s->hold > s->opt.max_row ? sp_row_too_long(s) : 0;
    if (s->stream_shard == SP_NOT_STREAMING) {
        if (s->carry.len <= s->stream_from || s->header_pending)
            return 0;
        int extracted = SP_FIELDS_OK;
        if (s->constant_shard == SP_NO_CONSTANT)
            extracted = sp_extract(s, s->carry.data, s->carry.len - s->hold, 0);
        if (extracted == SP_FIELDS_MORE) {
            s->stream_from = s->carry.len * 2;
            return 0;
        }
        if (extracted == SP_FIELDS_ERROR)
            return -1;
        int32_t target = sp_target(s, extracted);
        if (target == SP_TARGET_ERROR)
            return -1;
        s->stream_shard = target;
    }
    return s->carry.len > s->hold ? sp_release(s, s->carry.len - s->hold) : 0;
}

int sp_row_append(sp_splitter *s, const uint8_t *p, size_t n)
{
    if (s->carry.len + n > SP_MAX_ROW && s->opt.set_aside && s->stream_shard == SP_NOT_STREAMING && sp_row_too_long(s))
        return -1;
    if (s->carry.len + n > SP_MAX_ROW)
        return sp_fail_row_too_long(s, s->carry.len, n);
    if (sp_buf_append(&s->carry, p, n))
        return sp_fail_memory(s);
    return 0;
}

/* The row is complete in carry; `newline` of its last bytes are the newline. */
int sp_row_finish_carry(sp_splitter *s, size_t newline)
{
    s->hold = 0;
    if (s->stream_shard != SP_NOT_STREAMING) {
        int32_t target = s->stream_shard;
        if (sp_release(s, s->carry.len))
            return -1;
        s->offset += s->released;
        uint64_t lines = 1 + s->row_extra;
        s->lines += lines;
        s->row_extra = 0;
        if (target >= 0 && s->opt.format == SP_CSV && s->eol == SP_EOL_NL && s->shards[target].map.shard_line == 0)
            lines = 1 + s->first_extra;
        if (sp_account(s, target, lines))
            return -1;
    } else if (sp_place_row(s, s->carry.data, s->carry.len, s->carry.len - newline)) {
        return -1;
    }
    sp_row_reset(s);
    return 0;
}

/* The rest of a row, with its newline; data_n of the bytes are before the newline. */
int sp_row_complete(sp_splitter *s, const uint8_t *p, size_t n, size_t data_n)
{
    if (!sp_row_begun(s)) {
        if (sp_place_row(s, p, n, data_n))
            return -1;
        memset(&s->row, 0, sizeof s->row);
        return 0;
    }
    if (sp_row_append(s, p, n))
        return -1;
    return sp_row_finish_carry(s, n - data_n);
}

/* The row in carry is one that PostgreSQL certainly refuses: a shard gets it, and reports it in its own words. */
int sp_row_refuse(sp_splitter *s)
{
    if (s->stream_shard == SP_NOT_STREAMING && s->opt.set_aside && s->opt.format != SP_BINARY)
        s->stream_shard = (int32_t)s->nshards;
    if (s->stream_shard == SP_NOT_STREAMING)
        s->stream_shard = s->constant_shard == SP_NO_CONSTANT ? 0 : s->constant_shard;
    if (s->stream_shard != (int32_t)s->nshards)
        sp_note_poison(s, s->stream_shard);
    return sp_row_finish_carry(s, 0);
}

/*
 * The row in carry and the n bytes at p is refused by its line end. One server has looked at these bytes before, and
 * may have found them not to be in their encoding: a shard gets them, for a look. Returns -1.
 */
int sp_row_refused(sp_splitter *s, const uint8_t *p, size_t n)
{
    if (n && sp_row_append(s, p, n))
        return -1;
    if (s->stream_shard == SP_NOT_STREAMING)
        s->stream_shard = s->constant_shard == SP_NO_CONSTANT ? 0 : s->constant_shard;
    if (s->carry.len)
        sp_release(s, s->carry.len);
    return -1;
}

/* The rows of a text or CSV stream, piece by piece as the CopyData messages bring it. */
#include "split.h"

/*
 * The data end here: data_len bytes of carry are a last row. It stays without a newline, because nothing follows it
 * on its shard, and one could change what it means (after a lone backslash, a cut character, a CSV `\.`).
 */
static int end_of_data(sp_splitter *s, size_t data_len)
{
    s->ended = 1;
    s->hold = 0;
    s->carry.len = data_len;
    return sp_row_begun(s) ? sp_row_finish_carry(s, 0) : 0;
}

/* One more byte for the bytes on hold; *given is 0 when it turned out to belong to the next row. */
static int resolve_hold(sp_splitter *s, uint8_t byte, size_t *given)
{
    sp_scanned found;
    *given = 1;
    if (sp_row_append(s, &byte, 1))
        return -1;
    const size_t at = s->carry.len - s->hold - 1;
    switch (sp_scan(s, s->carry.data + at, s->hold + 1, 0, at > 0 || s->released > 0, &found)) {
    case SP_SCAN_MORE:
        s->hold = (uint32_t)(s->carry.len - at - found.end);
        return 0;
    case SP_SCAN_ROW:
        if (at + found.end < s->carry.len) {
            *given = 0;
            s->carry.len--;
        }
        return sp_row_finish_carry(s, found.end - found.data);
    case SP_SCAN_END:
        return end_of_data(s, at + found.data);
    default:
        s->carry.len = at + found.end;
        return sp_row_refused(s, NULL, 0);
    }
}

/* One row, or the rest of the bytes, by the byte by byte scan. */
static int scan_one(sp_splitter *s, const uint8_t *p, size_t n, size_t *taken)
{
    sp_scanned found;
    *taken = n;
    switch (sp_scan(s, p, n, 0, sp_row_begun(s), &found)) {
    case SP_SCAN_MORE:
        s->hold = (uint32_t)(n - found.end);
        return sp_row_append(s, p, n);
    case SP_SCAN_ROW:
        *taken = found.end;
        return sp_row_complete(s, p, found.end, found.data);
    case SP_SCAN_END: {
        if (sp_row_append(s, p, found.data))
            return -1;
        return end_of_data(s, s->carry.len);
    }
    default:
        return sp_row_refused(s, p, found.end);
    }
}

int sp_lines_span(sp_splitter *s, const uint8_t *p, size_t n)
{
    while (n && !s->ended) {
        size_t taken = 0;
        if (s->hold) {
            if (resolve_hold(s, *p, &taken))
                return -1;
        } else {
            if (s->eol != SP_EOL_UNKNOWN && !s->odd && sp_fast_span(s, p, n, &taken))
                return -1;
            if (taken < n && !s->ended && !s->hold) {
                size_t scanned;
                if (scan_one(s, p + taken, n - taken, &scanned))
                    return -1;
                taken += scanned;
            }
        }
        p += taken;
        n -= taken;
    }
    return s->ended ? 0 : sp_row_stream(s);
}

int sp_lines_finish(sp_splitter *s)
{
    sp_scanned found;
    if (s->ended || !sp_row_begun(s))
        return 0;
    size_t at = s->carry.len - s->hold;
    if (s->hold) {
        switch (sp_scan(s, s->carry.data + at, s->hold, 1, at > 0 || s->released > 0, &found)) {
        case SP_SCAN_ROW:
            return sp_row_finish_carry(s, found.end - found.data);
        case SP_SCAN_END:
            return end_of_data(s, at + found.data);
        case SP_SCAN_ERROR:
            s->carry.len = at + found.end;
            return sp_row_refused(s, NULL, 0);
        default:
            break; /* the end settles it: data */
        }
    }
    /* An unterminated quote: a shard reports it. A header's quotes are only looked at by HEADER MATCH. */
    if (s->row.in_quote && !s->header_pending)
        return sp_row_refuse(s);
    return end_of_data(s, s->carry.len);
}

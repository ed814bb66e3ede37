/* Where a CSV row ends, byte by byte: CopyReadLineText() of PostgreSQL's copyfromparse.c in CSV mode. */
#include "split.h"

static int bad(sp_splitter *s, const char *message, const char *hint)
{
    return sp_set_aside(s, "22P04", message, hint, s->lines + 1 + s->row_extra);
}

static int bad_carriage_return(sp_splitter *s)
{
    return bad(s, "unquoted carriage return found in data", "Use quoted CSV field to represent carriage return.");
}

static int row(size_t data, size_t newline, sp_scanned *out)
{
    out->data = data;
    out->end = data + newline;
    return SP_SCAN_ROW;
}

/* A row that begins with a backslash, up to version 17: alone on its line `\.` ends the data. -1: it is data. */
static int marker(sp_splitter *s, const uint8_t *p, size_t n, int eof, sp_scanned *out)
{
    size_t k = 2;
    out->end = out->data = 0;
    if (n < 2)
        return eof ? -1 : SP_SCAN_MORE;
    if (p[1] != '.')
        return -1;
    if (s->eol == SP_EOL_CRNL) {
        if (k >= n)
            return eof ? -1 : SP_SCAN_MORE;
        if (p[k++] != '\r')
            return -1;
    }
    if (k >= n)
        return eof ? -1 : SP_SCAN_MORE;
    if (p[k] != '\r' && p[k] != '\n')
        return -1;
    if ((s->eol == SP_EOL_CR && p[k] != '\r') || ((s->eol == SP_EOL_NL || s->eol == SP_EOL_CRNL) && p[k] != '\n'))
        return bad(s, "end-of-copy marker does not match previous newline style", NULL) ? SP_SCAN_ERROR : -1;
    return SP_SCAN_END;
}

int sp_scan_csv(sp_splitter *s, const uint8_t *p, size_t n, int eof, int started, sp_scanned *out)
{
    const uint8_t quote = s->opt.quote, escape = s->opt.escape;
    const int has_escape = quote != escape;
    sp_row_scan *st = &s->row;
    if (n && !started && p[0] == '\\' && s->opt.server_version < 18) {
        int r = marker(s, p, n, eof, out);
        if (r >= 0)
            return r;
    }
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        /* Before the quote state changes, because this byte may be read again. */
        if (c == '\r' && i + 1 >= n && !eof && (s->eol == SP_EOL_UNKNOWN || s->eol == SP_EOL_CRNL)) {
            out->end = i;
            return SP_SCAN_MORE;
        }
        if (st->in_quote && has_escape && c == escape)
            st->last_was_escape = !st->last_was_escape;
        if (c == quote && !st->last_was_escape)
            st->in_quote = !st->in_quote;
        if (!has_escape || c != escape)
            st->last_was_escape = 0;
        if (st->in_quote) {
            if (c == (s->eol == SP_EOL_NL ? '\n' : '\r'))
                s->row_extra++;
            continue;
        }
        out->end = i; /* for an error */
        if (c == '\r') {
            if (s->eol == SP_EOL_NL) {
                if (bad_carriage_return(s))
                    return SP_SCAN_ERROR;
                continue; /* up to the newline it is one bad row */
            }
            if (s->eol != SP_EOL_CR) {
                if (i + 1 < n && p[i + 1] == '\n') {
                    s->eol = SP_EOL_CRNL;
                    return row(i, 2, out);
                }
                if (s->eol == SP_EOL_CRNL) {
                    if (bad_carriage_return(s))
                        return SP_SCAN_ERROR;
                    continue;
                }
                s->eol = SP_EOL_CR;
            }
            return row(i, 1, out);
        }
        if (c == '\n') {
            if (s->eol != SP_EOL_CR && s->eol != SP_EOL_CRNL)
                s->eol = SP_EOL_NL;
            else if (bad(s, "unquoted newline found in data", "Use quoted CSV field to represent newline."))
                return SP_SCAN_ERROR;
            return row(i, 1, out);
        }
    }
    out->end = n;
    return SP_SCAN_MORE;
}

/*
 * A shard does not know the newline style while it reads its first row, and counts carriage returns in it where
 * the client's stream, further on, counts newlines.
 */
uint64_t sp_count_quoted_cr(const sp_splitter *s, sp_row_scan *st, const uint8_t *p, size_t n)
{
    const uint8_t quote = s->opt.quote, escape = s->opt.escape;
    const int has_escape = quote != escape;
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        if (st->in_quote && has_escape && c == escape)
            st->last_was_escape = !st->last_was_escape;
        if (c == quote && !st->last_was_escape)
            st->in_quote = !st->in_quote;
        if (!has_escape || c != escape)
            st->last_was_escape = 0;
        count += st->in_quote && c == '\r';
    }
    return count;
}
